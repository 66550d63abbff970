"""The stages, one after another, each keeping what it made.

    load(Source("matmul.tdsl", text), "matmul")    Source → AST → Kernel

What a stage does is its own module's; goldens, the shell and bug reports take here what they need of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tdsl import ast, ir
from tdsl.check import check
from tdsl.diagnostics import Code, Diagnostic, TdslError, suggest
from tdsl.grammar import parse_partly
from tdsl.source import Source, Span

_HELPER = re.compile(r"^def\b", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Stages:
    """One file: what each stage made of it."""

    source: Source
    file: ast.File
    kernels: tuple[ir.Kernel, ...]

    def template(self, name: str) -> ast.Template:
        return next(template for template in self.file.templates if template.name.name == name)


@lru_cache(maxsize=64)
def run(source: Source) -> Stages:
    """Parse and check. Raises TdslError with every mistake, of syntax and of meaning, in file order."""
    file, syntax = parse_partly(source)
    if syntax:
        raise TdslError(_in_order([*syntax, *_meaning(source, file)]))
    return Stages(source=source, file=file, kernels=check(file))


def check_text(source: Source) -> tuple[ir.Kernel, ...]:
    """The kernels of a file, in its order. Raises TdslError with every mistake."""
    return run(source).kernels


def load(source: Source, name: str | None = None) -> ir.Kernel:
    """The kernel called `name`; without a name, the only one. Raises TdslError."""
    kernels = check_text(source)
    for kernel in kernels:
        if kernel.name == name or (name is None and len(kernels) == 1):
            return kernel
    known = [kernel.name for kernel in kernels]
    span = Span(source, 0, 0)
    if not kernels:
        message, help = f"{source.name} has no template", "a template begins with 'template NAME(...)'"
    elif name is None:
        message, help = f"{source.name} has {len(known)} templates: {', '.join(known)}", "say which one"
    else:
        near = suggest(name, known)
        message = f"{source.name} has no template '{name}'"
        help = f"did you mean '{near}'?" if near else f"it has {', '.join(known)}"
    raise TdslError([Diagnostic(code=Code.UNKNOWN_NAME, message=message, span=span, help=help)])


def _meaning(source: Source, file: ast.File) -> list[Diagnostic]:
    """The mistakes in the templates whose syntax is right; none where a helper that they may call is lost."""
    if len(_HELPER.findall(source.text)) != len(file.helpers):
        return []
    try:
        check(file)
    except TdslError as error:
        return list(error.diagnostics)
    return []


def _in_order(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    return sorted(diagnostics, key=lambda item: (item.span.start, item.span.end))

"""Small templates, what the checker makes of them, and what it says of wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from tdsl import ir
from tdsl.diagnostics import TdslError
from tdsl.ir_text import to_text
from tdsl.ir_verify import verify
from tdsl.pipeline import check_text
from tdsl.source import Source

Check = Callable[..., str]
Mistakes = Callable[..., list[str]]


def wrap(body: str, signature: str, before: str, declarations: str, grid: str) -> str:
    """A template around the lines of `body`."""
    head, loop = f"template t{signature}:\n", f"    for {grid}:\n"
    return f"{before}\n{head}{indent(declarations, '    ')}\n{loop}{indent(body, '        ')}\n"


def made(text: str) -> tuple[ir.Kernel, ...]:
    kernels = check_text(Source("<test>", text))
    for kernel in kernels:
        verify(kernel)
    return kernels


@pytest.fixture
def check() -> Check:
    """The lines of a body as IR text; the template copies x: T[M, N] to y unless `signature` says otherwise."""

    def checked(
        body: str,
        signature: str = "(x: T[M, N]) -> y: T[M, N]",
        *,
        before: str = "",
        declarations: str = "",
        grid: str = "m, n in grid(M by 64, N by 64)",
    ) -> str:
        (kernel,) = made(wrap(body, signature, before, declarations, grid))
        lines = to_text(kernel).splitlines()
        return "\n".join(line[4:] for line in lines if line.startswith("    "))

    return checked


@pytest.fixture
def mistakes() -> Mistakes:
    """Each mistake of such a body as `code: message`, with `(help)` after it."""

    def found(
        body: str,
        signature: str = "(x: T[M, N]) -> y: T[M, N]",
        *,
        before: str = "",
        declarations: str = "",
        grid: str = "m, n in grid(M by 64, N by 64)",
    ) -> list[str]:
        text = wrap(body, signature, before, declarations, grid)
        try:
            made(text)
        except TdslError as error:
            return [
                f"{each.code.value}: {each.message}" + (f" ({each.help})" if each.help else "")
                for each in error.diagnostics
            ]
        return []

    return found

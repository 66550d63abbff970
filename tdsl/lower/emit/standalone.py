"""One kernel as a Python file that needs torch and triton, and no tdsl: its functions, the kernel, and a launcher.

    matmul, T = f16, config 0    ->    imports, what the kernel calls of ours, @triton.jit def matmul_kernel(...), def matmul(A, B)

Nothing is fused. Strides are arguments, and each size that was not given, so that one file serves all of them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from textwrap import indent

from tdsl import ir
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.lower.emit import syntax
from tdsl.lower.emit.functions import FOR_HIP, INTRINSICS
from tdsl.lower.emit.launcher import CHECKS, Launcher
from tdsl.lower.emit.text import function_text
from tdsl.lower.emit.triton import Line, LoadSlot, StoreSlot, TritonSource
from tdsl.lower.facts.binding import Binding
from tdsl.lower.facts.bound import BoundKernel, bind
from tdsl.lower.facts.candidates import Config
from tdsl.lower.facts.specialization import has_tma, specialize
from tdsl.options import LAUNCH_OPTIONS
from tdsl.signature import Environment
from tdsl.types import NARROW_FLOATS
from tdsl.version import __version__

RUNTIME = Path(__file__).parent.parent / "runtime"
# What Triton's interpreter keeps as bits, and calculates with as if they were integers.
NOT_INTERPRETED = NARROW_FLOATS | {"bf16"}
SWITCH = 'INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"'
_REMARK = re.compile(r"  # type: ignore\[[\w, -]+\]")


def file_text(
    kernel: ir.Kernel,
    source: TritonSource,
    binding: Binding,
    environment: Environment,
    arguments: Sequence[str],
) -> str:
    """The text of the file. `source` is `kernel` lowered for `binding`, whose strides are all arguments; `arguments`
    are the kernel's, after its pointers; `environment` is what is known of a call.

    Raises TdslError for what only tdsl's own launch can do.
    """
    bound = bind(kernel, binding)
    used = set(_names(source))
    called = [name for name in INTRINSICS if name in used]
    plain = [name for name in called if name in FOR_HIP]
    functions = _closure("intrinsics.py", [*called, *(FOR_HIP[name] for name in plain)])
    libdevice = _libdevice(source, functions.values())
    launcher = Launcher(kernel, source, environment, arguments, functions, _not_interpreted(bound))
    launching = launcher.text()
    parts = [
        "\n\n".join([_documentation(kernel, launcher), _imports(kernel, bool(libdevice)), SWITCH]),
        libdevice,
        *(_REMARK.sub("", text) for text in functions.values()),
        _chosen(plain),
        _kernel(source, _arguments(bound, arguments), launcher.name),
        *(text for name, text in CHECKS.items() if name in launcher.checks),
        launching,
    ]
    return "\n\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def chosen(kernel: ir.Kernel, binding: Binding, config: int | None) -> ir.Kernel:
    """The kernel with the candidates that a file has: one of those whose conditions hold, or all of them but those
    with descriptors, which want strides that are known.

    Raises TdslError where none is left.
    """
    held = specialize(kernel, binding).candidates
    wanted = [each for each in (held if config is None else held[config : config + 1]) if not has_tma(each)]
    if not wanted:
        said = f"'{kernel.name}' loads through descriptors (tma=1), which a standalone file cannot"
        raise TdslError(
            [
                Diagnostic(
                    code=Code.BAD_CONFIG, message=said, span=kernel.span, help="choose a config without tma"
                )
            ]
        )
    kept: list[ir.Candidate] = []
    for candidate in kernel.candidates:
        free = replace(candidate, condition=None)
        (bound,) = specialize(replace(kernel, candidates=(free,)), binding).candidates
        if bound in wanted:
            wanted.remove(bound)
            kept.append(free)
    return replace(kernel, candidates=tuple(kept))


def _documentation(kernel: ir.Kernel, launcher: Launcher) -> str:
    doc = f"{kernel.doc}\n\n" if kernel.doc else ""
    text = (
        f"{kernel.name}: a Triton kernel and its launcher.\n\n{doc}    {launcher.signature()}\n\n"
        f"Written by tdsl {__version__} (`tdsl show --standalone`). It needs torch and triton."
    )
    return '"""' + text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') + '\n"""'


def _imports(kernel: ir.Kernel, libdevice: bool) -> str:
    rest = any(
        isinstance(dim, ir.RestDim)
        for item in kernel.params
        if isinstance(item, ir.Tensor)
        for dim in item.dims
    )
    lines = [*(["import math"] if rest else []), "import os", "", "import torch", "import triton"]
    lines += ["import triton.language as tl"]
    lines += ["from triton.language.extra import libdevice"] if libdevice else []
    return "\n".join(lines)


def _names(source: TritonSource) -> Iterator[str]:
    for tree in _trees(source):
        yield from syntax.reads(tree)


def _trees(source: TritonSource) -> Iterator[ast.AST]:
    for item in source.body:
        match item:
            case Line(code=code):
                if code is not None:
                    yield code
            case LoadSlot():
                yield item.plain
            case StoreSlot():
                yield item.plain


# Functions of ours


@cache
def _definitions(file: str) -> dict[str, str]:
    """The text of each top-level definition of a module in `runtime`, in its order."""
    text = (RUNTIME / file).read_text(encoding="utf-8")
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                first = node.lineno
            case _:
                continue
        found[name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def _closure(file: str, names: Iterable[str]) -> dict[str, str]:
    """The definitions called `names`, and those that they use, in the file's order."""
    known = _definitions(file)
    wanted: set[str] = set()
    left = [*names]
    while left:
        name = left.pop()
        if name not in wanted:
            wanted.add(name)
            left += [each for each in syntax.reads(ast.parse(known[name])) if each in known]
    return {name: text for name, text in known.items() if name in wanted}


def _chosen(plain: Sequence[str]) -> str:
    """NVIDIA's instructions are neither AMD's nor the interpreter's."""
    if not plain:
        return ""
    lines = ["if INTERPRETED or torch.version.hip:", *(f"    {name} = {FOR_HIP[name]}" for name in plain)]
    return "\n".join(lines)


def _libdevice(source: TritonSource, functions: Iterable[str]) -> str:
    """What stands for it in Triton's interpreter, which has none."""
    trees = [*_trees(source), *map(ast.parse, functions)]
    used = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "libdevice"
    }
    if not used:
        return ""
    known = _definitions("interpreter.py")
    (table,) = ast.parse(known["LIBDEVICE_FUNCTIONS"]).body
    assert isinstance(table, ast.AnnAssign) and isinstance(table.value, ast.Dict), "a table of functions"
    rows = [
        f"    {ast.unparse(key)}: {ast.unparse(value)},"
        for key, value in zip(table.value.keys, table.value.values, strict=True)
        if isinstance(key, ast.Constant) and key.value in used
    ]
    inside = [
        "import numpy\nfrom triton.runtime.interpreter import TensorHandle",
        *(text for name, text in _closure("interpreter.py", ["_apply"]).items() if name != "TensorHandle"),
        "\n".join(["LIBDEVICE_FUNCTIONS = {", *rows, "}"]),
        known["Libdevice"],
        "libdevice = Libdevice()",
    ]
    stand_in = "\n\n".join(_without_annotations(text) for text in inside)
    return f"if INTERPRETED:  # Triton's interpreter has no libdevice: these are PyTorch's\n{indent(stand_in, '    ')}"


def _without_annotations(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in (*node.args.args, *filter(None, (node.args.vararg, node.args.kwarg))):
                argument.annotation = None
    return ast.unparse(tree)


# The kernel


def _arguments(bound: BoundKernel, arguments: Sequence[str]) -> list[str]:
    """As the `def` line has them: a float is one of 32 bits unless it says otherwise."""
    floats = [f"{p.name}_" for p in bound.kernel.params if isinstance(p, ir.Scalar) and p.type == "float"]
    double = bound.real == "f64"
    return [f"{name}: tl.float64" if double and name in floats else name for name in arguments]


def _kernel(source: TritonSource, arguments: Sequence[str], name: str) -> str:
    text = function_text(source, arguments, name=name)
    if len(source.configs) == 1:
        return text
    reset = [pointer.name for pointer in source.pointers if pointer.accumulated]
    outputs = {pointer.name for pointer in source.pointers if pointer.written} - {*reset}
    read = {each.param for each in source.load_slots()}
    restored = [p.name for p in source.pointers if p.name in outputs and p.param in read]
    sizes = [argument for argument in arguments if argument.startswith("size_")]
    settings = [
        "CONFIGS[:1] if INTERPRETED else CONFIGS",
        f"key={sizes!r}",
        *([f"reset_to_zero={reset!r}"] if reset else []),
        *([f"restore_value={restored!r}"] if restored else []),
    ]
    lines = ["CONFIGS = [", *(f"    {_config(config)}," for config in source.configs), "]", "", ""]
    lines += [f"@triton.autotune({', '.join(settings)})"]
    return "\n".join(lines) + "\n" + text


def _config(config: Config) -> str:
    options = {name: getattr(config, name) for name in LAUNCH_OPTIONS}
    given = "".join(f", {name}={value}" for name, value in options.items() if value is not None)
    return f"triton.Config({dict(config.constants)!r}{given})"


def _not_interpreted(bound: BoundKernel) -> str | None:
    kernel = bound.kernel
    types = [node.dtype for node in (*kernel.params, *kernel.outputs) if isinstance(node, ir.Tensor)]
    types += [node.type.dtype for node in ir.walk(kernel) if isinstance(node, ir.Typed)]
    narrow = {bound.dtype(dtype) for dtype in types if "~str" not in dtype.names} & NOT_INTERPRETED
    said = f"Triton's interpreter does not calculate in {', '.join(sorted(narrow))}: run this on a GPU"
    return said if narrow else None

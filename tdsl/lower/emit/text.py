"""Triton source as the text of one Python function: for the shell, goldens, and launches without Inductor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tdsl.lower.emit import syntax
from tdsl.lower.emit.triton import Item, Line, LoadSlot, StoreSlot, TritonSource

IMPORTS = """\
import triton
import triton.language as tl
from triton.language.extra import libdevice

from tdsl.lower.runtime.intrinsics import absolute, nan_argmax, nan_argmin, nan_max, nan_min, opaque, tile_part
from tdsl.lower.runtime.intrinsics import above, at_least, below, floor_divided, floor_remainder
from tdsl.lower.runtime.intrinsics import as_i16, normal, product, uniform
"""


def constexpr(name: str) -> str:
    """An argument of the `def` line that is known when the kernel is compiled."""
    return f"{name}: tl.constexpr"


def function_text(
    source: TritonSource, size_arguments: Sequence[str] = (), *, slots: bool = False, name: str | None = None
) -> str:
    """The `@triton.jit` function, nothing fused. `slots`: spell each fusable point as its slot, with the
    unfused form in a comment beside it."""
    arguments = [pointer.name for pointer in source.pointers]
    arguments += size_arguments
    arguments += [constexpr(constant) for constant, _ in source.configs[0].constants]
    lines = ["@triton.jit", f"def {name or source.name}({', '.join(arguments)}):"]
    lines += body_lines(source.body, slots=slots) or ["    pass"]
    return "\n".join(lines) + "\n"


def body_lines(body: Iterable[Item], *, slots: bool = False) -> list[str]:
    return ["    " * (item.indent + 1) + _text(item, slots) for item in body]


def _text(item: Item, slots: bool) -> str:
    match item:
        case Line():
            return syntax.printed(item.code)
        case LoadSlot(point=point, fusable=fusable):
            text = syntax.printed(item.unfused(aligned=True))
            return f"{text}  # <LOAD_INPUT_{point}>" if slots and fusable else text
        case StoreSlot(plain=plain, param=param, fusable=fusable):
            text = syntax.printed(plain)
            return f"{text}  # <STORE_OUTPUT_{param}>" if slots and fusable else text

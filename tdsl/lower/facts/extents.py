"""Integers that are known now, or when a kernel is launched: data, and one printer for each place they go.

    cdiv(M - N, 16)    ->    -((0 - (ks0 - ks1)) // 16)              Python
                             c10::div_floor_integer<int64_t>(...)    C++
                             a quotient that is rounded by hand      Triton, which truncates towards zero (`emit.functions`)

They mean what Python's integers mean, wherever they are calculated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

_OPERATORS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "//": lambda left, right: left // right,
    "%": lambda left, right: left % right,
    "min": min,
    "max": max,
}


@dataclass(frozen=True)
class Signed:
    """An argument that may be negative: an integer that a caller passes, or one that is calculated."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Arithmetic:
    """`left op right`, where one of the two is known at a launch only. See `combine`, which makes them."""

    op: str  # + - * // % min max
    left: Extent
    right: Extent

    def __str__(self) -> str:
        return python(self)


# Text is the name of an argument that is a size, and so no less than 0.
Extent = int | str | Signed | Arithmetic


def combine(op: str, left: Extent, right: Extent) -> Extent:
    """`left op right`, calculated as far as it is known."""
    if isinstance(left, int) and isinstance(right, int) and not (op in ("//", "%") and right == 0):
        return _OPERATORS[op](left, right)
    match op, left, right:
        case ("*", 0, _) | ("*", _, 0) | ("%", _, 1):
            return 0
        case ("+" | "-" | "//", other, 0 | 1) if (right == 1) == (op == "//"):
            return other
        case ("+", 0, other) | ("*", 1, other) | ("*", other, 1):
            return other
        case ("max", other, 0) | ("max", 0, other) if is_nonnegative(other):
            return other
    return Arithmetic(op, left, right)


def multiply(left: Extent, right: Extent) -> Extent:
    return combine("*", left, right)


def product(extents: Iterable[Extent]) -> Extent:
    result: Extent = 1
    for extent in extents:
        result = multiply(result, extent)
    return result


def ceildiv(size: Extent, divisor: Extent) -> Extent:
    """`size / divisor`, rounded up: for any size, and a divisor of either sign."""
    if isinstance(divisor, int) and divisor > 0:
        return combine("//", combine("+", size, divisor - 1), divisor)
    return combine("-", 0, combine("//", combine("-", 0, size), divisor))


def is_nonnegative(extent: Extent) -> bool:
    """Whether it is surely not less than 0."""
    match extent:
        case int():
            return extent >= 0
        case str():
            return True
        case Arithmetic(op="+" | "*" | "//" | "min", left=left, right=right):
            return is_nonnegative(left) and is_nonnegative(right)
        case Arithmetic(op="%", right=right):
            return is_nonnegative(right)
        case Arithmetic(op="max", left=left, right=right):
            return is_nonnegative(left) or is_nonnegative(right)
    return False


def names(extent: Extent) -> Iterator[str]:
    """The arguments that it is made of."""
    match extent:
        case str():
            yield extent
        case Signed(name=name):
            yield name
        case Arithmetic(left=left, right=right):
            yield from names(left)
            yield from names(right)


def evaluate(extent: Extent, values: Mapping[str, int]) -> int:
    """What it comes to. Raises KeyError for an argument without a value and ZeroDivisionError."""
    match extent:
        case int():
            return extent
        case str() | Signed():
            return values[str(extent)]
        case Arithmetic(op=op, left=left, right=right):
            return _OPERATORS[op](evaluate(left, values), evaluate(right, values))


def python(extent: Extent) -> str:
    match extent:
        case Arithmetic(op="min" | "max" as op, left=left, right=right):
            return f"{op}({python(left)}, {python(right)})"
        case Arithmetic(op=op, left=left, right=right):
            return f"{_inside(op, left)} {op} {_inside(op, right, last=True)}"
    return str(extent)


def cpp(extent: Extent) -> str:
    """Of 64 bits, whatever an argument has."""
    match extent:
        case int():
            return f"INT64_C({extent})"
        case str() | Signed():
            return f"int64_t({extent})"
        case Arithmetic(op="min" | "max" as op, left=left, right=right):
            return f"std::{op}<int64_t>({cpp(left)}, {cpp(right)})"
        case Arithmetic(op="//", left=left, right=right):
            return f"c10::div_floor_integer<int64_t>({cpp(left)}, {cpp(right)})"
        case Arithmetic(op="%", left=left, right=right):
            by = cpp(right)
            return f"((({cpp(left)}) % ({by}) + ({by})) % ({by}))"
        case Arithmetic(op=op, left=left, right=right):
            return f"({cpp(left)} {op} {cpp(right)})"


def _inside(op: str, side: Extent, *, last: bool = False) -> str:
    """`side` as an operand: without parentheses in a sum of sums and in a product of products."""
    text = python(side)
    if isinstance(side, int):
        return text if side >= 0 else f"({text})"
    plain = isinstance(side, str | Signed) or side.op in ("min", "max")
    associates = not isinstance(side, str | Signed) and side.op == op and op in ("+", "*")
    return text if plain or (associates and not last) else f"({text})"

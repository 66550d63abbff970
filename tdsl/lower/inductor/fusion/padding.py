"""What a fused prologue makes of the lanes outside its tensor, where all that it loads reads 0.

    tmp0 = tl.load(in_ptr0 + ..., xmask, other=0.0)      outside: 0
    tmp1 = tl.sigmoid(tmp0)                              outside: 0.5, so what a dot sees is masked again
    tmp2 = tmp0 * tmp1                                   outside: 0, so nothing is

A value is known along an axis if it is one number in every lane outside that axis, whatever the lane's place along
the others. What is loaded in bounds may be infinite or NaN, so a product is 0 only where all its factors are known.
What is not in the tables here is not known. Whether a zero is negative is not told apart: no dot or sum sees it.
Which loads are masked, and who looks at what, is `kernel`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

# What these are, exactly, at 0.
_AT_ZERO = {
    **dict.fromkeys(
        [
            *("abs", "neg", "sign", "relu", "square", "sqrt", "floor", "ceil", "trunc", "round"),
            *("sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "erf", "expm1", "log1p"),
        ],
        0.0,
    ),
    **dict.fromkeys(["exp", "exp2", "cos", "cosh"], 1.0),
    "sigmoid": 0.5,
}
# Of the same kind in every float dtype: neither infinite, nor 0, nor rounded to one of them.
_SMALLEST, _LARGEST = 2.0**-10, 2.0**14


class PaddedLanes:
    """The values of one prologue, by name, and along which axes they are known."""

    def __init__(self, axes: Iterable[int]) -> None:
        self.axes = frozenset(axes)
        self._known: dict[str, dict[int, float]] = {}

    def note_load(self, name: str, masked: Iterable[int]) -> None:
        """A load that reads 0 outside the axes `masked`."""
        self._known[name] = dict.fromkeys(self.axes.intersection(masked), 0.0)

    def note(self, op: str, args: Sequence[object], name: str, dtype: torch.dtype | None) -> None:
        """The value `name`, of `dtype`, is `op` of values, numbers and whatever else the op takes."""
        found = {axis: _value(op, [self._number(arg, axis) for arg in args]) for axis in self.axes}
        # Integers overflow: a product of large ones may be 0.
        floating = dtype is not None and dtype.is_floating_point
        known = {axis: x for axis, x in found.items() if x is not None and (x == 0 or floating)}
        if known:
            self._known[name] = known

    def all_zero(self, name: str) -> bool:
        """Whether the value is 0 outside each of the axes."""
        known = self._known.get(name, {})
        return all(known.get(axis) == 0 for axis in self.axes)

    def _number(self, arg: object, axis: int) -> float | None:
        if isinstance(arg, (int, float)) and not isinstance(arg, bool):
            return _within(float(arg))
        known: Mapping[int, float] = self._known.get(str(arg), {})
        return known.get(axis)


def _value(op: str, args: Sequence[float | None]) -> float | None:
    match op, args:
        case (("constant" | "to_dtype" | "identity"), [x, *_]):
            return x
        case "where", [_, x, y]:
            return x if x == y else None
        case (
            ("add" | "sub" | "mul" | "mul_rn" | "truediv" | "div_rn" | "maximum" | "minimum"),
            [
                float(x),
                float(y),
            ],
        ):
            return _of_two(op, x, y)
        case "fma", [float(x), float(y), float(z)]:
            product = _of_two("mul", x, y)
            return None if product is None else _of_two("add", product, z)
        case "neg", [float(x)]:
            return -x
        case _, [float(x)] if x == 0:
            return _AT_ZERO.get(op)
    return None


def _of_two(op: str, x: float, y: float) -> float | None:
    match op:
        case "add" | "sub":
            value = x + y if op == "add" else x - y
            # The difference of two numbers that were rounded may be another.
            return _within(value) if value != 0 or x == y == 0 else None
        case "mul" | "mul_rn":
            return _within(x * y)
        case "truediv" | "div_rn":
            return None if y == 0 else _within(x / y)
        case "maximum":
            return max(x, y)
        case _:
            return min(x, y)


def _within(value: float) -> float | None:
    return value if value == 0 or _SMALLEST <= abs(value) <= _LARGEST else None

"""dtypes, neutral elements and functions of ours, as Triton code has them. What a built-in is has its row in `builtins`."""

from __future__ import annotations

import ast
import math

from tdsl.builtins import Reduction
from tdsl.lower.emit import syntax
from tdsl.lower.emit.syntax import quote
from tdsl.lower.facts.extents import Arithmetic, Extent, Signed, is_nonnegative
from tdsl.types import DTYPES, GREATEST, LEAST

# Functions of ours that a kernel's body calls (`runtime.intrinsics`).
INTRINSICS = (
    *("absolute", "as_i16", "as_stored", "nan_max", "nan_min", "nan_argmax", "nan_argmin", "opaque"),
    *("tile_part", "above", "at_least", "below", "floor_divided", "floor_remainder", "normal", "product"),
    "uniform",
)
# Where there are no instructions of NVIDIA's: what stands for the functions that are made of them.
FOR_HIP = {
    **{name: f"plain_{name}" for name in ("above", "absolute", "at_least", "below")},
    **dict.fromkeys(("as_i16", "opaque"), "plain"),
}


def triton_dtype(dtype: str) -> ast.expr:
    """A dtype as Triton names it: `tl.float16`."""
    return quote(f"tl.{DTYPES[dtype].triton}")


def integer(extent: Extent) -> ast.expr:
    """An integer that is known when a kernel is launched, calculated in the kernel."""
    match extent:
        case int():
            return syntax.number(extent)
        case str() | Signed():
            return syntax.name(str(extent))
        case Arithmetic(op="min" | "max" as op, left=left, right=right):
            return syntax.call(f"tl.{op}imum", integer(left), integer(right))
        case Arithmetic(op="//" | "%" as op, left=left, right=right) if not (
            is_nonnegative(left) and is_nonnegative(right)
        ):
            # Right whether `//` and `%` truncate, as those of the GPU, or round down, as those of a literal.
            top, below = integer(left), integer(right)
            rest = quote("({0} % {1} + {1}) % {1}", top, below)
            return rest if op == "%" else quote("({0} - {1}) // {2}", top, rest, below)
        case Arithmetic(op=op, left=left, right=right):
            return syntax.binary(op, integer(left), integer(right))


def neutral_of(reduction: Reduction, dtype: str) -> int | float:
    """What a lane outside holds for a reduction over `dtype` not to see it."""
    match reduction.neutral:
        case "least":
            return LEAST.get(dtype, -math.inf)
        case "greatest":
            return GREATEST.get(dtype, math.inf)
    return reduction.neutral

"""dtypes, neutral elements and functions of ours, as Triton code has them. What a built-in is has its row in `builtins`."""

from __future__ import annotations

import ast
import math

from tdsl.builtins import Reduction
from tdsl.lower.syntax import quote
from tdsl.types import DTYPES, GREATEST, LEAST

# Functions of ours that a kernel's body calls (`lower.inductor.intrinsics`).
INTRINSICS = (
    *(
        "absolute",
        "as_i16",
        "as_stored",
        "nan_max",
        "nan_min",
        "nan_argmax",
        "nan_argmin",
        "opaque",
        "tile_part",
    ),
    *("above", "at_least", "below", "floor_divided", "floor_remainder", "normal", "product", "uniform"),
)


def triton_dtype(dtype: str) -> ast.expr:
    """A dtype as Triton names it: `tl.float16`."""
    return quote(f"tl.{DTYPES[dtype].triton}")


def neutral_of(reduction: Reduction, dtype: str) -> int | float:
    """What a lane outside holds for a reduction over `dtype` not to see it."""
    match reduction.neutral:
        case "least":
            return LEAST.get(dtype, -math.inf)
        case "greatest":
            return GREATEST.get(dtype, math.inf)
    return reduction.neutral

"""What reductions are in Triton. What works lane by lane has its row in `builtins`."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping

from tdsl.lower.syntax import quote
from tdsl.types import DTYPES, GREATEST, LEAST

# On floats these answer NaN where there is one, as PyTorch's do; Triton's default does not.
NAN_AWARE_REDUCTIONS: Mapping[str, str] = {name: f"nan_{name}" for name in ("max", "min", "argmax", "argmin")}

# What Triton has under another name, or not at all; `any` and `all` count in i32.
REDUCTIONS: Mapping[str, str] = {"prod": "product", "any": "tl.max", "all": "tl.min"}

# Functions of ours that a kernel's body calls (`lower.inductor.intrinsics`).
INTRINSICS = (
    *("absolute", "as_i16", "as_stored", *NAN_AWARE_REDUCTIONS.values(), "opaque", "tile_part"),
    *("above", "at_least", "below", "floor_divided", "floor_remainder", "normal", "product", "uniform"),
)


def triton_dtype(dtype: str) -> ast.expr:
    """A dtype as Triton names it: `tl.float16`."""
    return quote(f"tl.{DTYPES[dtype].triton}")


def neutral_of(function: str, dtype: str) -> int | float:
    """The neutral element of `function` over `dtype`: what a lane outside holds for a reduction not to see it."""
    match function:
        case "sum" | "any":
            return 0
        case "prod" | "all":
            return 1
        case "max" | "argmax":
            return LEAST.get(dtype, -math.inf)
        case "min" | "argmin":
            return GREATEST.get(dtype, math.inf)
    raise AssertionError(f"{function} is not a reduction")

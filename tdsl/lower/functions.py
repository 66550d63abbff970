"""Built-in functions in Triton: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Function:
    """`text` spells a call; `wide`: Triton (or accuracy) wants f32 for f16 and bf16; `odd`: f(0) = 0."""

    text: str
    wide: bool = True
    odd: bool = False
    f32: str | None = None  # where float32 is spelled otherwise
    f64: str | None = None  # and float64


FUNCTIONS: Mapping[str, Function] = {
    "exp": Function("tl.exp({0})"),
    "exp2": Function("tl.exp2({0})"),
    "log": Function("tl.log({0})"),
    "log2": Function("tl.log2({0})"),
    "sqrt": Function("tl.sqrt_rn({0})", odd=True, f64="tl.sqrt({0})"),
    "rsqrt": Function("tl.rsqrt({0})"),
    "sin": Function("tl.sin({0})", odd=True),
    "cos": Function("tl.cos({0})"),
    "tanh": Function("libdevice.tanh({0})", odd=True),
    "erf": Function("tl.erf({0})", odd=True),
    "sigmoid": Function("tl.sigmoid({0})"),
    "abs": Function("tl.abs({0})", odd=True, f32="absolute({0})"),
    "floor": Function("tl.floor({0})", odd=True),
    "ceil": Function("tl.ceil({0})", odd=True),
    "fma": Function("tl.fma({0}, {1}, {2})"),
    "maximum": Function("tl.maximum({0}, {1})", wide=False, odd=True),
    "minimum": Function("tl.minimum({0}, {1})", wide=False, odd=True),
    "where": Function("tl.where({0}, {1}, {2})", wide=False),
    "cdiv": Function("tl.cdiv({0}, {1})", wide=False),
}

# On floats these answer NaN when an operand is NaN, as PyTorch's do; Triton's default does not.
NAN_AWARE: Mapping[str, str] = {
    name: f"tl.{name}({{0}}, {{1}}, propagate_nan=tl.PropagateNan.ALL)" for name in ("maximum", "minimum")
}

# Likewise along a tile; `argmax` and `argmin` pass over NaN.
NAN_AWARE_REDUCTIONS: Mapping[str, str] = {"max": "nan_max", "min": "nan_min"}

# Functions of ours that a kernel's body calls (`lower.inductor.intrinsics`).
INTRINSICS = ("absolute", "as_stored", *NAN_AWARE_REDUCTIONS.values(), "opaque", "tile_part")

# The value that a lane outside must hold for a reduction not to see it; by category.
LEAST = {"i8": -(2**7), "i16": -(2**15), "i32": -(2**31), "i64": -(2**63), "u8": 0, "bool": 0}
GREATEST = {"i8": 2**7 - 1, "i16": 2**15 - 1, "i32": 2**31 - 1, "i64": 2**63 - 1, "u8": 255, "bool": 1}


def neutral_text(function: str, dtype: str) -> str:
    """The neutral element of `function` over `dtype`, in Triton."""
    match function:
        case "sum":
            return "0"
        case "max" | "argmax":
            return str(LEAST[dtype]) if dtype in LEAST else 'float("-inf")'
        case "min" | "argmin":
            return str(GREATEST[dtype]) if dtype in GREATEST else 'float("inf")'
    raise AssertionError(f"{function} is not a reduction")

"""Names that an author cannot bind, and what each one is already."""

from __future__ import annotations

from tdsl.types import DTYPES

FUNCTIONS = (
    *("zeros", "full", "whole", "sum", "max", "min", "argmax", "argmin", "cumsum", "dot"),
    *("exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf", "sigmoid", "abs"),
    *("floor", "ceil", "maximum", "minimum", "fma", "cdiv", "next_pow2", "promote"),
)

TYPES = ("float", "int", "str", "dtype")

OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "epilogue_subtile")

RESERVED = {
    **dict.fromkeys(DTYPES, "a dtype"),
    **dict.fromkeys(FUNCTIONS, "a built-in function"),
    **dict.fromkeys(TYPES, "a type"),
    **dict.fromkeys(OPTIONS, "a launch option"),
    **dict.fromkeys(("inf", "nan"), "a constant"),
    "tl": "Triton's own module",
    "triton": "Triton's own module",
}

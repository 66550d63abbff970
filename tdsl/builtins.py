"""The names that the language has given a meaning, each written here and nowhere else.

Of the built-in functions that work lane by lane one row has all that any pass needs of one:

    round    one number; Python's value for a constant, Triton's for a block; round(0) = 0, so that lanes
             outside which hold 0 still do

`where`, `dot`, reductions, scans and what makes a block have functions of their own in `check` and `lower`; `ARGUMENTS`
has them all. Keywords are in the grammar, dtypes in `types`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Function:
    """`gives`: the dtype that the arguments promote to; a float of it; bool; or f32. `value`: of a constant, as
    Python calculates; None: there is none, it is of the device alone. It may raise ValueError for NaN and
    OverflowError for infinity. `triton` is a call in Triton, quoted: a hole for each argument, and one more for the dtype that it is computed in. `wide`: Triton (or accuracy) wants f32 for f16 and bf16. `odd`: f(0, 0, ...) = 0."""

    value: Callable[..., Value] | None
    triton: str
    arity: int = 1
    takes: frozenset[int] = frozenset({1, 2})  # categories: 0 bool, 1 integer, 2 float
    gives: Literal["same", "float", "bool", "f32"] = "same"
    wide: bool = True
    odd: bool = False
    floats: str | None = None  # where floats are spelled otherwise than integers
    f32: str | None = None  # where float32 is
    f64: str | None = None  # and float64
    i16: str | None = None
    integer: bool = True  # whether it does anything to an integer; where not, that is what it gives


def divide(left: float, right: float) -> float:
    """As IEEE divides."""
    if right != 0:
        return left / right
    return (
        math.nan if left == 0 or left != left else math.copysign(math.inf, left) * math.copysign(1.0, right)
    )


def floor_divide(left: float, right: float) -> float:
    """As PyTorch's: by zero as IEEE divides. A divisor of integers is not zero."""
    return divide(left, right) if right == 0 else left // right


def remainder(left: float, right: float) -> float:
    """What `floor_divide` leaves; of floats a zero has the sign of `left`, as PyTorch's has."""
    if not isinstance(left, float) and not isinstance(right, float):
        return left % right
    rest = math.nan if right == 0 or math.isinf(left) else math.fmod(left, right)
    return rest + right if rest != 0 and (rest < 0) != (right < 0) else rest


def _whole(rounded: Callable[[float], int]) -> Callable[[Any], Value]:
    """Of a float a float, whose sign stays where it comes to zero."""
    return lambda x: math.copysign(float(rounded(x)), x) if isinstance(x, float) and math.isfinite(x) else x


def _or_nan(x: float, y: float, value: Value) -> Value:
    """What two numbers come to, unless one is NaN."""
    return x if x != x else y if y != y else value


def _maximum(x: Any, y: Any) -> Any:
    return _or_nan(x, y, x if x >= y else y)


def _minimum(x: Any, y: Any) -> Any:
    return _or_nan(x, y, x if x <= y else y)


def _log(function: Callable[[float], float], at: float = 0.0) -> Callable[[float], float]:
    """A logarithm, which is -inf where Python's raises."""
    return lambda x: -math.inf if x == at else function(x)


def _or_inf(function: Callable[[float], float], x: float) -> float:
    try:
        return function(x)
    except OverflowError:
        return math.inf


def _sign(x: Any) -> Value:
    sign = (x > 0) - (x < 0)
    return float(sign) if isinstance(x, float) else sign


_INTEGERS = frozenset({1})
_NAN_AWARE = "propagate_nan=tl.PropagateNan.ALL"  # as PyTorch's; Triton's default gives the other operand

FUNCTIONS: Mapping[str, Function] = {
    "exp": Function(value=math.exp, gives="float", triton="tl.exp({0})"),
    "exp2": Function(value=lambda x: 2.0**x, gives="float", triton="tl.exp2({0})"),
    "expm1": Function(value=math.expm1, gives="float", triton="libdevice.expm1({0})", odd=True),
    "log": Function(value=_log(math.log), gives="float", triton="tl.log({0})"),
    "log2": Function(value=_log(math.log2), gives="float", triton="tl.log2({0})"),
    "log10": Function(value=_log(math.log10), gives="float", triton="libdevice.log10({0})"),
    "log1p": Function(value=_log(math.log1p, -1.0), gives="float", triton="libdevice.log1p({0})", odd=True),
    "sqrt": Function(value=math.sqrt, gives="float", triton="tl.sqrt_rn({0})", odd=True, f64="tl.sqrt({0})"),
    "rsqrt": Function(value=lambda x: divide(1.0, math.sqrt(x)), gives="float", triton="tl.rsqrt({0})"),
    "sin": Function(value=math.sin, gives="float", triton="tl.sin({0})", odd=True),
    "cos": Function(value=math.cos, gives="float", triton="tl.cos({0})"),
    "tan": Function(value=math.tan, gives="float", triton="libdevice.tan({0})", odd=True),
    "asin": Function(value=math.asin, gives="float", triton="libdevice.asin({0})", odd=True),
    "acos": Function(value=math.acos, gives="float", triton="libdevice.acos({0})"),
    "atan": Function(value=math.atan, gives="float", triton="libdevice.atan({0})", odd=True),
    "atan2": Function(value=math.atan2, arity=2, gives="float", triton="libdevice.atan2({0}, {1})", odd=True),
    "sinh": Function(
        value=lambda x: math.copysign(_or_inf(math.sinh, abs(x)), x),
        gives="float",
        triton="libdevice.sinh({0})",
        odd=True,
    ),
    "cosh": Function(value=math.cosh, gives="float", triton="libdevice.cosh({0})"),
    "tanh": Function(value=math.tanh, gives="float", triton="libdevice.tanh({0})", odd=True),
    "asinh": Function(value=math.asinh, gives="float", triton="libdevice.asinh({0})", odd=True),
    "acosh": Function(value=math.acosh, gives="float", triton="libdevice.acosh({0})"),
    "atanh": Function(
        value=lambda x: math.copysign(math.inf, x) if abs(x) == 1 else math.atanh(x),
        gives="float",
        triton="libdevice.atanh({0})",
        odd=True,
    ),
    "erf": Function(value=math.erf, gives="float", triton="tl.erf({0})", odd=True),
    "erfc": Function(value=math.erfc, gives="float", triton="libdevice.erfc({0})"),
    "sigmoid": Function(
        value=lambda x: 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x)),
        gives="float",
        triton="tl.sigmoid({0})",
    ),
    "softplus": Function(  # beyond 20 PyTorch's is x itself
        value=lambda x: float(x) if x > 20 else math.log1p(math.exp(x)),
        gives="float",
        triton="tl.where({0} > 20, {0}, libdevice.log1p(tl.exp({0})))",
    ),
    "fma": Function(value=lambda x, y, z: x * y + z, arity=3, gives="float", triton="tl.fma({0}, {1}, {2})"),
    "abs": Function(
        value=abs, triton="tl.abs({0})", odd=True, f32="absolute({0})", i16="as_i16(tl.abs({0}))"
    ),
    "sign": Function(
        value=_sign,
        triton="tl.where({0} > 0, 1, tl.where({0} < 0, -1, 0)).to({1})",
        f32="tl.where(above({0}, 0), 1, tl.where(below({0}, 0), -1, 0)).to(tl.float32)",
        odd=True,
    ),
    "floor": Function(value=_whole(math.floor), triton="tl.floor({0})", odd=True, integer=False),
    "ceil": Function(value=_whole(math.ceil), triton="tl.ceil({0})", odd=True, integer=False),
    # `rint` is one symbol for f32 and f64 in Triton's library for AMD: no kernel may have both.
    "round": Function(value=_whole(round), triton="libdevice.nearbyint({0})", odd=True, integer=False),
    "trunc": Function(value=_whole(math.trunc), triton="libdevice.trunc({0})", odd=True, integer=False),
    "isnan": Function(value=math.isnan, gives="bool", triton="{0} != {0}", odd=True),
    "isinf": Function(
        value=math.isinf,
        gives="bool",
        triton="{0} != {0}",
        floats='tl.abs({0}) == float("inf")',
        odd=True,
    ),
    "maximum": Function(
        value=_maximum,
        arity=2,
        triton="tl.maximum({0}, {1})",
        floats=f"tl.maximum({{0}}, {{1}}, {_NAN_AWARE})",
        wide=False,
        odd=True,
    ),
    "minimum": Function(
        value=_minimum,
        arity=2,
        triton="tl.minimum({0}, {1})",
        floats=f"tl.minimum({{0}}, {{1}}, {_NAN_AWARE})",
        wide=False,
        odd=True,
    ),
    "cdiv": Function(
        value=lambda x, y: -(-x // y), arity=2, takes=_INTEGERS, triton="tl.cdiv({0}, {1})", wide=False
    ),
    "next_pow2": Function(
        value=lambda x: 1 << max(int(x) - 1, 0).bit_length(), takes=_INTEGERS, triton="", wide=False
    ),
    "rand": Function(value=None, arity=2, takes=_INTEGERS, gives="f32", triton="uniform({0}, {1})"),
    "randn": Function(value=None, arity=2, takes=_INTEGERS, gives="f32", triton="normal({0}, {1})"),
}

# Those that see the lanes of a tile together, and how many positional arguments each takes.
LANES: Mapping[str, int] = {
    **dict.fromkeys(("sort", "argsort", "flip", "padded"), 2),
    **dict.fromkeys(("topk", "argtopk", "histogram", "take"), 3),
}

# All built-in functions: how many positional arguments each takes, least and most.
ARGUMENTS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("zeros", "full"), (0, 99)),
    **dict.fromkeys(("sum", "max", "min"), (2, 99)),
    **dict.fromkeys(("prod", "any", "all"), (2, 99)),
    **dict.fromkeys(("argmax", "argmin", "cumsum", "cumprod", "dot"), (2, 2)),
    **{name: (function.arity, function.arity) for name, function in FUNCTIONS.items()},
    "whole": (1, 1),
    **dict.fromkeys(("where", "clamp"), (3, 3)),
    **{name: (count, count) for name, count in LANES.items()},
    "promote": (1, 99),
}

CONSTANTS: Mapping[str, float] = {"inf": math.inf, "nan": math.nan}

SCALAR_TYPES = ("float", "int")  # of parameters
CONST_TYPES = ("bool", "int", "float", "dtype", "str")

LAUNCH_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")  # names in a `config` that go to Triton
OPTIONS = (*LAUNCH_OPTIONS, "epilogue_subtile", "persistent", "tma")  # and those that no expression can name

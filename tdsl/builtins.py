"""The names that the language has given a meaning, each written here and nowhere else.

Of a built-in function one row has all that the passes need of one, by its kind:

    round    Elementwise    Python's value of it, for a constant; Triton's; an integer is left as it is
    argmax   Reduction      Triton's, which answers NaN where there is one; the neutral element; an index comes of it
    topk     Lanes          over 32 bits or fewer, whose places are those of a third tile
    dot      Form           a rule of its own in `check` and in `lower`

Keywords are in the grammar, dtypes in `types`, launch options in `options`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

Value = bool | int | float | str

BOOLS, INTEGERS, NUMBERS, ANY = (frozenset(each) for each in ({0}, {1}, {1, 2}, {0, 1, 2}))  # categories
MANY = 99  # arguments, if there is no limit


@dataclass(frozen=True, kw_only=True)
class Builtin:
    """`arity`: positional arguments, least and most. `takes`: of which categories they are (0 bool, 1 integer, 2 float), the
    first one where others are tiles. `sizes`: whether it may stand in a dimension of a signature."""

    arity: tuple[int, int] = (1, 1)
    takes: frozenset[int] = NUMBERS
    keywords: tuple[str, ...] = ()
    sizes: bool = False


@dataclass(frozen=True, kw_only=True)
class Elementwise(Builtin):
    """What works lane by lane.

    `gives`: the dtype that the arguments promote to; a float of it; bool; or f32. `value`: of a constant, as
    Python calculates; None: there is none, it is of the device alone. It may raise ValueError for NaN and
    OverflowError for infinity. `triton` is a call in Triton, quoted: a hole for each argument, and one more for the
    dtype that it is computed in. `wide`: Triton (or accuracy) wants f32 for f16 and bf16. `nonnegative`: when an integer
    that comes of it is surely not negative: where no argument is; where any is not; unless it wraps; None: never.
    """

    value: Callable[..., Value] | None
    triton: str
    gives: Literal["same", "float", "bool", "f32"] = "same"
    wide: bool = True
    nonnegative: Literal["all", "any", "unwrapped"] | None = None
    floats: str | None = None  # where floats are spelled otherwise than integers
    f32: str | None = None  # where float32 is
    f64: str | None = None  # and float64
    i16: str | None = None
    integer: bool = True  # whether it does anything to an integer; where not, that is what it gives

    @cached_property
    def keeps_zero(self) -> bool:
        """Whether f(0, 0, ...) = 0, so that lanes of zeros stay zeros."""
        try:
            return self.value is not None and self.value(*[0.0] * self.arity[0]) == 0
        except (ArithmeticError, ValueError):
            return False


@dataclass(frozen=True, kw_only=True)
class Reduction(Builtin):
    """What makes one of all lanes along a tile. `gives`: the operand's dtype; that, or i32 of a bool; an index.
    `neutral`: what a lane outside holds for it not to be seen."""

    triton: str
    neutral: Literal[0, 1, "least", "greatest"]
    gives: Literal["same", "number", "index"] = "same"
    floats: str | None = None  # where floats are spelled otherwise: NaN where there is one, as PyTorch's


@dataclass(frozen=True, kw_only=True)
class Scan(Builtin):
    """What makes of each lane one of all lanes before it. Those outside come last: nobody inside sees them."""

    triton: str


@dataclass(frozen=True, kw_only=True)
class Lanes(Builtin):
    """What sees the lanes of a tile together: their order, their place, how many there are of each. `gives`: the operand's
    dtype; an index, or how many there are, in i32. `onto`: the third argument is a tile. `narrow`: of numbers of up to 32
    bits only."""

    gives: Literal["same", "index", "count"] = "same"
    onto: bool = False
    narrow: bool = False


@dataclass(frozen=True, kw_only=True)
class Form(Builtin):
    """What has a rule of its own in `check`, and another in `lower` unless the first makes something else of it."""


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


_NAN_AWARE = "propagate_nan=tl.PropagateNan.ALL"  # as PyTorch's; Triton's default gives the other operand

ELEMENTWISE: Mapping[str, Elementwise] = {
    "exp": Elementwise(value=math.exp, gives="float", triton="tl.exp({0})"),
    "exp2": Elementwise(value=lambda x: 2.0**x, gives="float", triton="tl.exp2({0})"),
    "expm1": Elementwise(value=math.expm1, gives="float", triton="libdevice.expm1({0})"),
    "log": Elementwise(value=_log(math.log), gives="float", triton="tl.log({0})"),
    "log2": Elementwise(value=_log(math.log2), gives="float", triton="tl.log2({0})"),
    "log10": Elementwise(value=_log(math.log10), gives="float", triton="libdevice.log10({0})"),
    "log1p": Elementwise(value=_log(math.log1p, -1.0), gives="float", triton="libdevice.log1p({0})"),
    "sqrt": Elementwise(value=math.sqrt, gives="float", triton="tl.sqrt_rn({0})", f64="tl.sqrt({0})"),
    "rsqrt": Elementwise(value=lambda x: divide(1.0, math.sqrt(x)), gives="float", triton="tl.rsqrt({0})"),
    "sin": Elementwise(value=math.sin, gives="float", triton="tl.sin({0})"),
    "cos": Elementwise(value=math.cos, gives="float", triton="tl.cos({0})"),
    "tan": Elementwise(value=math.tan, gives="float", triton="libdevice.tan({0})"),
    "asin": Elementwise(value=math.asin, gives="float", triton="libdevice.asin({0})"),
    "acos": Elementwise(value=math.acos, gives="float", triton="libdevice.acos({0})"),
    "atan": Elementwise(value=math.atan, gives="float", triton="libdevice.atan({0})"),
    "atan2": Elementwise(value=math.atan2, arity=(2, 2), gives="float", triton="libdevice.atan2({0}, {1})"),
    "sinh": Elementwise(
        value=lambda x: math.copysign(_or_inf(math.sinh, abs(x)), x),
        gives="float",
        triton="libdevice.sinh({0})",
    ),
    "cosh": Elementwise(value=math.cosh, gives="float", triton="libdevice.cosh({0})"),
    "tanh": Elementwise(value=math.tanh, gives="float", triton="libdevice.tanh({0})"),
    "asinh": Elementwise(value=math.asinh, gives="float", triton="libdevice.asinh({0})"),
    "acosh": Elementwise(value=math.acosh, gives="float", triton="libdevice.acosh({0})"),
    "atanh": Elementwise(
        value=lambda x: math.copysign(math.inf, x) if abs(x) == 1 else math.atanh(x),
        gives="float",
        triton="libdevice.atanh({0})",
    ),
    "erf": Elementwise(value=math.erf, gives="float", triton="tl.erf({0})"),
    "erfc": Elementwise(value=math.erfc, gives="float", triton="libdevice.erfc({0})"),
    "sigmoid": Elementwise(
        value=lambda x: 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x)),
        gives="float",
        triton="tl.sigmoid({0})",
    ),
    "softplus": Elementwise(  # beyond 20 PyTorch's is x itself
        value=lambda x: float(x) if x > 20 else math.log1p(math.exp(x)),
        gives="float",
        triton="tl.where({0} > 20, {0}, libdevice.log1p(tl.exp({0})))",
    ),
    "fma": Elementwise(
        value=lambda x, y, z: x * y + z, arity=(3, 3), gives="float", triton="tl.fma({0}, {1}, {2})"
    ),
    "abs": Elementwise(
        value=abs,
        triton="tl.abs({0})",
        nonnegative="unwrapped",
        f32="absolute({0})",
        i16="as_i16(tl.abs({0}))",
    ),
    "sign": Elementwise(
        value=_sign,
        nonnegative="all",
        triton="tl.where({0} > 0, 1, tl.where({0} < 0, -1, 0)).to({1})",
        f32="tl.where(above({0}, 0), 1, tl.where(below({0}, 0), -1, 0)).to(tl.float32)",
    ),
    "floor": Elementwise(value=_whole(math.floor), triton="tl.floor({0})", integer=False),
    "ceil": Elementwise(value=_whole(math.ceil), triton="tl.ceil({0})", integer=False),
    # `rint` is one symbol for f32 and f64 in Triton's library for AMD: no kernel may have both.
    "round": Elementwise(value=_whole(round), triton="libdevice.nearbyint({0})", integer=False),
    "trunc": Elementwise(value=_whole(math.trunc), triton="libdevice.trunc({0})", integer=False),
    "isnan": Elementwise(value=math.isnan, gives="bool", triton="{0} != {0}"),
    "isinf": Elementwise(
        value=math.isinf,
        gives="bool",
        triton="{0} != {0}",
        floats='tl.abs({0}) == float("inf")',
    ),
    "maximum": Elementwise(
        sizes=True,
        value=_maximum,
        nonnegative="any",
        arity=(2, 2),
        triton="tl.maximum({0}, {1})",
        floats=f"tl.maximum({{0}}, {{1}}, {_NAN_AWARE})",
        wide=False,
    ),
    "minimum": Elementwise(
        sizes=True,
        value=_minimum,
        nonnegative="all",
        arity=(2, 2),
        triton="tl.minimum({0}, {1})",
        floats=f"tl.minimum({{0}}, {{1}}, {_NAN_AWARE})",
        wide=False,
    ),
    "cdiv": Elementwise(
        sizes=True,
        value=lambda x, y: -(-x // y),
        nonnegative="all",
        arity=(2, 2),
        takes=INTEGERS,
        triton="tl.cdiv({0}, {1})",
        wide=False,
    ),
    "next_pow2": Elementwise(
        sizes=True,
        value=lambda x: 1 << max(int(x) - 1, 0).bit_length(),
        takes=INTEGERS,
        triton="",
        wide=False,
    ),
    "rand": Elementwise(value=None, arity=(2, 2), takes=INTEGERS, gives="f32", triton="uniform({0}, {1})"),
    "randn": Elementwise(value=None, arity=(2, 2), takes=INTEGERS, gives="f32", triton="normal({0}, {1})"),
}

REDUCTIONS: Mapping[str, Reduction] = {
    "sum": Reduction(arity=(2, MANY), takes=ANY, triton="tl.sum", neutral=0, gives="number"),
    "prod": Reduction(arity=(2, MANY), takes=ANY, triton="product", neutral=1, gives="number"),
    "max": Reduction(arity=(2, MANY), triton="tl.max", neutral="least", floats="nan_max"),
    "min": Reduction(arity=(2, MANY), triton="tl.min", neutral="greatest", floats="nan_min"),
    "any": Reduction(arity=(2, MANY), takes=BOOLS, triton="tl.max", neutral=0),  # of numbers, 0 and 1
    "all": Reduction(arity=(2, MANY), takes=BOOLS, triton="tl.min", neutral=1),
    "argmax": Reduction(
        arity=(2, 2), triton="tl.argmax", neutral="least", gives="index", floats="nan_argmax"
    ),
    "argmin": Reduction(
        arity=(2, 2), triton="tl.argmin", neutral="greatest", gives="index", floats="nan_argmin"
    ),
}

SCANS: Mapping[str, Scan] = {
    "cumsum": Scan(arity=(2, 2), takes=ANY, triton="tl.cumsum"),
    "cumprod": Scan(arity=(2, 2), takes=ANY, triton="tl.cumprod"),
}

LANES: Mapping[str, Lanes] = {
    "sort": Lanes(arity=(2, 2), keywords=("descending",)),
    "argsort": Lanes(arity=(2, 2), keywords=("descending",), gives="index", narrow=True),
    "topk": Lanes(arity=(3, 3), onto=True),
    "argtopk": Lanes(arity=(3, 3), onto=True, gives="index", narrow=True),
    "histogram": Lanes(arity=(3, 3), takes=INTEGERS, onto=True, gives="count"),
    "take": Lanes(arity=(3, 3), takes=ANY, keywords=("other",)),
    "flip": Lanes(arity=(2, 2), takes=ANY),
    "padded": Lanes(arity=(2, 2), takes=ANY, keywords=("value",)),
}

FORMS: Mapping[str, Form] = {
    "zeros": Form(arity=(0, MANY), keywords=("dtype",)),
    "full": Form(arity=(0, MANY), keywords=("value", "dtype")),
    "dot": Form(arity=(2, 2), keywords=("precision",)),
    "where": Form(arity=(3, 3), takes=ANY),
    "clamp": Form(arity=(3, 3)),
    "whole": Form(),
    "promote": Form(arity=(1, MANY)),
}

BUILTINS: Mapping[str, Builtin] = {**ELEMENTWISE, **REDUCTIONS, **SCANS, **LANES, **FORMS}

# Those that give indices of the tile that they go along.
INDICES = frozenset(
    name for rows in (REDUCTIONS, LANES) for name, row in rows.items() if row.gives == "index"
)

CONSTANTS: Mapping[str, float] = {"inf": math.inf, "nan": math.nan}

SCALAR_TYPES = ("float", "int")  # of parameters
CONST_TYPES = ("bool", "int", "float", "dtype", "str")

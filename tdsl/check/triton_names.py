"""What `triton.language` has, without importing it: the functions of Triton 3.6 to 3.9, and what they take.

    clamp      lane by lane
    trans      moves dimensions; a lane stays what it is
    sort       along a dimension: lanes that do not exist would be among those that do

A test holds the table against the Triton that is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["lane", "typed", "moves", "along", "across"]


@dataclass(frozen=True)
class Function:
    """`kind`: works lane by lane ('typed': in a dtype of its own); moves dimensions; looks along the dimension that `axis`
    or `dim` names, or across all. `takes`: names of parameters, those with '=' optional, '*' any number."""

    kind: Kind
    takes: tuple[str, ...]
    axis: int | None = None  # the dimension, where none is named


def _rows(kind: Kind, text: str) -> dict[str, Function]:
    """`name(a, b=)` a row."""
    found = {}
    for row in text.split("\n"):
        name, _, rest = row.strip().rstrip(")").partition("(")
        if name:
            found[name] = Function(kind, tuple(part.strip() for part in rest.split(",") if part.strip()))
    return found


TRITON_FUNCTIONS: Mapping[str, Function] = {
    **_rows(
        "lane", "\n".join(f"{name}(x)" for name in ("abs", "ceil", "cos", "erf", "exp", "exp2", "floor"))
    ),
    **_rows("lane", "\n".join(f"{name}(x)" for name in ("log", "log2", "rsqrt", "sigmoid", "sin", "sqrt"))),
    **_rows(
        "lane",
        """
        sqrt_rn(x)
        add(x, y, sanitize_overflow=)
        sub(x, y, sanitize_overflow=)
        mul(x, y, sanitize_overflow=)
        div_rn(x, y)
        fdiv(x, y, ieee_rounding=)
        cdiv(x, div)
        fma(x, y, z)
        umulhi(x, y)
        where(condition, x, y)
        clamp(x, min, max, propagate_nan=)
        maximum(x, y, propagate_nan=)
        minimum(x, y, propagate_nan=)
        multiple_of(input, values)
        max_contiguous(input, values)
        max_constancy(input, values)
        """,
    ),
    **_rows(
        "typed",
        """
        cast(input, dtype, fp_downcast_rounding=, bitcast=)
        to_tensor(x)
        uint_to_uniform_float(x)
        rand(seed, offset, n_rounds=)
        randn(seed, offset, n_rounds=)
        randint(seed, offset, n_rounds=)
        """,
    ),
    **_rows(
        "moves",
        """
        trans(input, *)
        permute(input, *)
        expand_dims(input, axis)
        squeeze(x, dim)
        unsqueeze(x, dim)
        broadcast_to(input, *)
        zeros_like(input)
        """,
    ),
    **_rows(
        "across",
        """
        dot(input, other, acc=, input_precision=, allow_tf32=, max_num_imprecise_acc=, out_dtype=)
        dot_scaled(lhs, lhs_scale, lhs_format, rhs, rhs_scale, rhs_format, acc=, fast_math=, lhs_k_pack=, rhs_k_pack=, out_dtype=)
        reshape(input, *, can_reorder=)
        view(input, *)
        ravel(x, can_reorder=)
        cat(input, other, can_reorder=, dim=)
        join(a, b)
        interleave(a, b)
        histogram(input, num_bins, mask=)
        """,
    ),
    "sort": Function("along", ("x", "dim=", "descending="), -1),
    "topk": Function("along", ("x", "k", "dim="), -1),
    "bitonic_merge": Function("along", ("x", "dim=", "descending="), -1),
    "flip": Function("along", ("x", "dim")),  # it has a default, None, which it refuses
    "gather": Function("along", ("src", "index", "axis")),
    "softmax": Function("along", ("x", "dim=", "keep_dims=", "ieee_rounding="), 0),
    "cumprod": Function("along", ("input", "axis=", "reverse="), 0),
    "xor_sum": Function("along", ("input", "axis=", "keep_dims=")),
    "reduce_or": Function("along", ("input", "axis", "keep_dims=")),
}
STRINGS = ("fp_downcast_rounding", "input_precision", "lhs_format", "rhs_format")  # parameters that take one

# Why others cannot be called.
MEMORY = (
    *("load", "store", "make_block_ptr", "advance", "make_tensor_descriptor", "load_tensor_descriptor"),
    *("store_tensor_descriptor", "descriptor_load", "descriptor_store"),
)
PROGRAM = (
    *("program_id", "num_programs", "debug_barrier", "inline_asm_elementwise", "range", "static_range"),
    *("constexpr", "tensor", "static_assert", "static_print", "device_print", "device_assert", "jit"),
    *(
        "condition",
        "core",
        "semantic",
        "pointer_type",
        "const",
        "map_elementwise",
        "assume",
        "arange",
        "zeros",
    ),
    *("full", "broadcast", "str_to_ty", "swizzle2d", "target_info", "slice", "tuple"),
)
REDUCTIONS = {
    "sum": "sum(x, n)",
    "max": "max(x, n)",
    "min": "min(x, n)",
    "argmax": "argmax(x, n)",
    "argmin": "argmin(x, n)",
    "cumsum": "cumsum(x, n)",
    "reduce": "sum(x, n) or max(x, n)",
    "associative_scan": "cumsum(x, n)",
}
SEVERAL = (  # return more than one block
    *("split", "rand4x", "randn4x", "randint4x", "philox", "philox_impl", "pair_uniform_to_normal"),
)

DTYPES = (
    *(
        "int1",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "bfloat16",
    ),
    *("float32", "float64", "float8e4nv", "float8e5", "float8e4b15", "float8e4b8", "float8e5b16"),
)
NAMES = (*DTYPES, "PropagateNan.ALL", "PropagateNan.NONE")  # that are arguments

# Functions of `tl.math`, and those of libdevice that every target and Triton's interpreter have, of f32 and f64.
MATH = (
    *("abs", "ceil", "cos", "div_rn", "erf", "exp", "exp2", "fdiv", "floor", "fma", "log", "log2", "rsqrt"),
    *("sin", "sqrt", "sqrt_rn", "umulhi"),
)
LIBDEVICE: Mapping[str, int] = {
    **dict.fromkeys(
        ("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "erfc", "exp"), 1
    ),
    **dict.fromkeys(
        ("exp2", "expm1", "log", "log10", "log1p", "log2", "nearbyint", "rint", "rsqrt", "sin"), 1
    ),
    **dict.fromkeys(("erfinv", "lgamma", "sinh", "sqrt", "tan", "tanh", "trunc", "ceil", "floor"), 1),
    **dict.fromkeys(("atan2", "copysign", "fmod", "hypot", "nextafter", "pow"), 2),
}
_WIDE = frozenset({"f32", "f64", "~float"})
_TAKES = {
    **dict.fromkeys(
        ("exp", "exp2", "log", "log2", "cos", "sin", "sqrt", "rsqrt", "erf", "floor", "ceil"), _WIDE
    ),
    **dict.fromkeys(("sigmoid", "softmax"), _WIDE),
    **dict.fromkeys(("sqrt_rn", "div_rn"), frozenset({"f32", "~float"})),
    "umulhi": frozenset({"i32", "i64"}),
}
LIBDEVICES = ("extra.cuda.libdevice.", "extra.libdevice.")


def find(name: str) -> Function | None:
    """The function that `tl.NAME` calls, if a template can call it."""
    for prefix in LIBDEVICES:
        if name.startswith(prefix):
            count = LIBDEVICE.get(name.removeprefix(prefix))
            return Function("lane", ("x", "y")[:count]) if count else None
    if name.startswith("math."):
        name = name.removeprefix("math.")
        return TRITON_FUNCTIONS.get(name) if name in MATH else None
    return TRITON_FUNCTIONS.get(name)


def dtypes(name: str) -> frozenset[str] | None:
    """The dtypes of the arguments that `tl.NAME` takes; None: any."""
    return _WIDE if name.startswith(LIBDEVICES) else _TAKES.get(name.removeprefix("math."))

"""How NumPy, PyTorch, Triton, Python and C spell what tdsl spells otherwise: each spelling, and the help that it gets.

    DTYPES["float16"]      ->   f16
    FOREIGN_FUNCTIONS["relu"]      ->   write 'maximum(x, 0)'

Data alone: the parser and the checker look a spelling up where they refuse it. In a help, x and y are values, n is a
tile of x along N, and A, B and C are tensors. What the language takes already has no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tdsl.builtins import BUILTINS, CONSTANTS

# What such names are looked up in: 'torch.float16' is 'float16', 'np.exp' is 'exp'.
MODULES = frozenset(
    ("np", "numpy", "jnp", "torch", "F", "nn", "math", "cmath", "scipy", "triton", "tl", "libdevice")
)

DTYPES: Mapping[str, str] = {
    **{f"float{bits}": f"f{bits}" for bits in (16, 32, 64)},
    **{f"fp{bits}": f"f{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
    **dict.fromkeys(("bfloat16", "bfloat"), "bf16"),
    "half": "f16",
    **dict.fromkeys(("float", "single"), "f32"),
    "double": "f64",
    **dict.fromkeys(("uint8", "byte"), "u8"),
    "int": "i32",
    "long": "i64",
    **dict.fromkeys(("int1", "boolean", "bool_"), "bool"),
    **dict.fromkeys(("float8_e4m3fn", "float8e4nv", "fp8e4m3", "fp8", "f8"), "f8e4m3"),
    **dict.fromkeys(("float8_e5m2", "float8e5", "fp8e5m2"), "f8e5m2"),
}

_RANGE = "a loop says its range itself: 'for k in K by BLOCK:', 'for k in 2 to K:'"
_INDICES = "a tile is its indices: 'n' in 'for n in N by BLOCK:', or after 'n = whole(N)'"
_PROGRAM = "the grid gives each program its block: 'for m, n in grid(M by BLOCK_M, N by BLOCK_N):'"
_SIZE = "a size has a name in the signature: 'x: f32[M, N]' gives 'M' and 'N'"
_BY_NAME = "values line up by the names of their tiles; nothing is transposed, reshaped or broadcast"
_CAST = "a cast is a call of the dtype: write 'f32(x)'"
_LOAD = "write 'load A[m, n]'"
_STORE = "write 'store C[m, n] = x'"
_ACCUMULATE = "write 'accumulate C[m, n] += x'"

# Functions: of a call 'NAME(...)', or 'torch.NAME(...)'.
FOREIGN_FUNCTIONS: Mapping[str, str] = {
    **dict.fromkeys(("range", "static_range", "xrange"), _RANGE),
    "arange": _INDICES,
    **dict.fromkeys(("program_id", "num_programs"), _PROGRAM),
    **dict.fromkeys(("len", "numel"), _SIZE),
    **dict.fromkeys(("transpose", "permute", "trans", "reshape", "view", "expand_dims"), _BY_NAME),
    **dict.fromkeys(("squeeze", "unsqueeze", "broadcast", "broadcast_to", "expand"), _BY_NAME),
    "atomic_add": _ACCUMULATE,
    **dict.fromkeys(("matmul", "mm", "bmm", "einsum"), "write 'dot(x, y)'"),
    "relu": "write 'maximum(x, 0)'",
    "silu": "write 'x * sigmoid(x)'",
    "gelu": "write '0.5 * x * (1 + erf(x * 0.7071067811865476))'",
    "softmax": "write 'exp(x - max(x, n)) / sum(exp(x - max(x, n)), n)'",
    "logsumexp": "write 'max(x, n) + log(sum(exp(x - max(x, n)), n))'",
    "mean": "write 'sum(x, n) / N'",
    **dict.fromkeys(("norm", "vector_norm"), "write 'sqrt(sum(x * x, n))'"),
    "amax": "write 'max(x, n)'",
    "amin": "write 'min(x, n)'",
    "pow": "write 'x ** 2'",
    "square": "write 'x * x'",
    "reciprocal": "write '1 / x'",
    **dict.fromkeys(("neg", "negative"), "write '-x'"),
    **dict.fromkeys(("fabs", "absolute"), "write 'abs(x)'"),
    "fmax": "write 'maximum(x, y)'",
    "fmin": "write 'minimum(x, y)'",
    "clip": "write 'clamp(x, 0, 1)'",
    "isfinite": "write 'abs(x) < inf'",
    "logical_and": "write '(x > 0) & (y > 0)'",
    "logical_or": "write '(x > 0) | (y > 0)'",
    "logical_not": "write '~(x > 0)'",
    **dict.fromkeys(("cast", "astype"), _CAST),
    **dict.fromkeys(("ones", "ones_like"), "write 'full(m, n, value=1)'"),
    **dict.fromkeys(("empty", "zeros_like", "empty_like"), "write 'zeros(m, n)'"),
    "float": "write 'f32(x)', and 'inf' for infinity",
    "int": "write 'i32(x)'",
}

# Of a value: 'x.NAME(...)' or 'x.NAME'. A method that is called as a function is needs no row.
METHODS: Mapping[str, str] = {
    **dict.fromkeys(("to", "type", "astype"), _CAST),
    **{name: f"write '{DTYPES[name]}(x)'" for name in ("half", "float", "double", "int", "long", "bfloat16")},
    **dict.fromkeys(("T", "mT", "t"), _BY_NAME),
    **dict.fromkeys(("shape", "size"), _SIZE),
    **dict.fromkeys(("stride", "data_ptr"), "a tensor is addressed by its dimensions: 'load A[m, n]'"),
    "dtype": "a dtype has a name in the signature: 'x: T[M, N]' gives 'T'",
    "item": "write 'load A[]'",
    "load": _LOAD,
    "store": _STORE,
}

# What stands for a value.
VALUES: Mapping[str, str] = {
    "True": "write 'true'",
    "False": "write 'false'",
    **dict.fromkeys(
        ("None", "null", "nil"), "an optional parameter, declared with '?', is asked for with 'if bias:'"
    ),
    **dict.fromkeys(("Inf", "infinity", "INFINITY"), "write 'inf'"),
    **dict.fromkeys(("NaN", "NAN"), "write 'nan'"),
    "pi": "write '3.141592653589793'",
    "lambda": "define a helper: 'def NAME(x): return ...'",
    "is": "write '==', and 'if bias:' for 'bias is not None'",
    "yield": "a template hands out values with 'store', a helper with 'return'",
    "await": "write the value itself",
    "as": _CAST,
}

_KINDS = "a file holds 'template NAME(...)' and 'def NAME(x): return ...'"
_ALWAYS = "a file stands alone: built-ins and 'tl.NAME(...)' are always there"
_GUARD = "write a guard into the header: 'where CONDITION'"
_BLOCK = "a block starts with 'for' or 'if'"
_COMMENT = "a comment starts with '#'"
_ASSIGN = "write 'NAME = VALUE'"

# The first word, or sign, of a line.
LINES: Mapping[str, str] = {
    "while": "loop over a range with 'for k in K by BLOCK:'",
    **dict.fromkeys(("import", "from", "include", "using"), _ALWAYS),
    **dict.fromkeys(("class", "async", "kernel", "func", "fn", "function", "void", "struct"), _KINDS),
    "break": "a loop runs over all of its range; shorten the range with 'for n in A to B by BLOCK:'",
    "continue": "put what some turns of the loop skip into an 'if'",
    **dict.fromkeys(("assert", "raise", "static_assert"), _GUARD),
    "del": "a value ends with its block",
    **dict.fromkeys(("with", "try"), _BLOCK),
    "yield": "a template hands out values with 'store', a helper with 'return'",
    **dict.fromkeys(("var", "auto", "const", "constexpr", "int", "float", "double", "bool"), _ASSIGN),
    "print": "look at what is compiled with 'tdsl show FILE'",
    **dict.fromkeys(("//", "/", "--", "/*"), _COMMENT),
}

LET = "a variable of a block needs no 'let': write 'NAME = VALUE'"

# Signs among values, and what stands in place of each.
SIGNS: Mapping[str, str] = {
    "&&": "write 'and'",
    "||": "write 'or'",
    "!": "write 'not'",
    "<>": "write '!='",
    "?": "write 'A if CONDITION else B'",
    "@": "write 'dot(x, y)' for a matrix product",
    ";": "write one statement per line",
    "{": "a block is indented and follows a ':'",
    "}": "a block ends where its indentation ends",
    "\\": "put what spans lines in parentheses",
    "//": f"{_COMMENT}; '//' divides",
    "..": "a range is 'A to B'",
    ":": "a subscript is a tile: 'n' in 'for n in N by BLOCK:', or after 'n = whole(N)'",
    "...": "leading dimensions have a name, too: 'x: f32[R..., N]' is read with 'load x[r, n]'",
}

# Calls of what is a statement: 'load(A[m, n])'.
STATEMENTS: Mapping[str, str] = {
    "load": _LOAD,
    "store": _STORE,
    **dict.fromkeys(("accumulate", "atomic_add"), _ACCUMULATE),
    "config": "write 'config BLOCK=64, num_warps=4'",
}

# In place of a word before a parameter, and of a type after it.
PARAMETERS: Mapping[str, str] = {
    **dict.fromkeys(("out", "mut", "ref", "var"), "what is written in place is 'inout NAME: DTYPE[M, N]'"),
    "constexpr": "write 'NAME: const int'",
}


def function(name: str) -> str | None:
    """The help for a call of `name`, or of `torch.name`, where that is no function."""
    if name in FOREIGN_FUNCTIONS:
        return FOREIGN_FUNCTIONS[name]
    return f"write '{DTYPES[name]}(x)'" if name in DTYPES else None


def dtype(name: str) -> str | None:
    """The help for a dtype that is spelled `name`, or `torch.name`."""
    return f"write '{DTYPES[name]}'" if name in DTYPES else None


def dotted(parts: Sequence[str], called: bool) -> str | None:
    """The help for 'torch.exp(...)', 'x.sum(...)', 'torch.float16', 'x.shape'."""
    first, last = parts[0], parts[-1]
    if first in MODULES and not called:
        return VALUES.get(last) or dtype(last) or (f"write '{last}'" if last in CONSTANTS else None)
    if first not in MODULES and last in METHODS:
        return METHODS[last]
    if last in BUILTINS:
        more = ", n" if first not in MODULES and BUILTINS[last].arity[0] > 1 else ""
        return f"write '{last}({'...' if first in MODULES else first}{more})'"
    return function(last)

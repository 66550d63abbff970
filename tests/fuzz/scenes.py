"""Templates in which something stands somewhere: in a branch that is taken or is not, in a loop, in both.

    scene(rng, "t0")    ->    Template; `STEPS` is what may stand there, and `Scene` where

A value is changed by one step after the other, and stays small. What a step does is written in the language and in
PyTorch; what surrounds it is Python's own `for` in the reference, and `chosen` where a condition is a program's own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tdsl import builtins
from tests.fuzz.templates import FAMILIES, LONGEST, Draft, Output, Param, Redraw, Template, is_float

LIMIT = 12  # no value is larger between two steps
MOST_SORTS = 8  # in one program, of dozens: the interpreter takes a tenth of a second for each
INTEGERS = ("i32", "i64")


@dataclass(frozen=True, kw_only=True)
class Step:
    """`{x}` is the value, `{D}` its dtype. `only`: 'int' or 'float'. `odd`: NaN and infinities mean what they do in
    PyTorch. `rows`: needs the tile n of a whole row. `whole`: needs numbers that a rounding on the way does not move.

    `{K}` is a dtype that has all of its values, `{J}` one of no more than 32 bits; `{w}` is a tile of 7 lanes and `{j}`
    one of 3."""

    dsl: str
    ref: str
    only: str = ""
    odd: bool = True
    rows: bool = False
    whole: bool = False
    nonempty: bool = False

    @property
    def lanes(self) -> str:
        """The first function in it that looks along a tile, of those in `LANES`."""
        found = re.search(rf"\b({'|'.join(builtins.LANES)})\(", self.dsl)
        assert found is not None, self.dsl
        return found[1]


def _step(dsl: str, ref: str, only: str = "", **more: bool) -> Step:
    return Step(dsl=dsl, ref=ref, only=only, **more)


STEPS = [
    _step("abs({x})", "{x}.abs()"),
    _step("-({x})", "(-{x})"),
    _step("(+{x} + 2)", "({x} + 2)"),
    _step("(1 - {x})", "(1 - {x})"),
    _step("({x} * 3)", "({x} * 3)"),
    _step("maximum({x}, 1)", "least_common(torch.maximum, {x}, 1)"),
    _step("minimum({x}, 2)", "least_common(torch.minimum, {x}, 2)"),
    _step("where({x} > 1, {x}, -1)", "torch.where({x} > 1, {x}, -1)"),
    _step("where({x} != 2, {x}, 5)", "torch.where({x} != 2, {x}, 5)"),
    _step("where({x} == 3, 0, {x})", "torch.where({x} == 3, 0, {x})"),
    _step("where({x} <= 3, {x}, 7)", "torch.where({x} <= 3, {x}, 7)"),
    _step("where(({x} >= -2) & ({x} < 4), {x}, 1)", "torch.where(({x} >= -2) & ({x} < 4), {x}, 1)"),
    _step("where(({x} >= 4) | ~({x} > 0), {x}, 2)", "torch.where(({x} >= 4) | ~({x} > 0), {x}, 2)"),
    _step("({x}) ** 2", "{x} * {x}"),
    _step("({x}) ** 3", "{x} * {x} * {x}"),
    _step("full(n, value=2, dtype={D}) + {x}", "({x} + 2)"),
    _step("zeros(n, dtype={D}) + {x}", "({x} + 0)"),
    *[_step("twice({x})", "({x} * 2 + 1)")] * 3,
    *[_step("(3 - twice({x}))", "(3 - {x} * 2 - 1)")] * 3,
    _step("({x} + 1 if FLAG else {x} - 2)", "({x} - 2)"),
    _step("({x} + 1 if NAME == 'up' else {x} - 2)", "({x} + 1)"),
    _step("({x} + 1 if {D} in (f16, {D}) else {x} - 2)", "({x} + 1)"),
    _step("({x} * 2 if KIND in (f32, f64) and not FLAG else {x})", "({x} * 2)"),
    _step("({x} + {D}(COUNT))", "({x} + 3)"),
    _step("({x} + {D}(HALF))", "({x} + 2)"),
    _step("({x} + {D}(n % 3))", "({x} + axis(N, 'n', W, a) % 3)"),
    _step("where(n >= n.start and_ n < n.stop, {x}, 9)", "{x}"),
    _step("({x} + {D}(f64({x} > 2)))", "({x} + ({x} > 2).long())"),
    _step("({x} + {D}(i8({x} < 2)))", "({x} + ({x} < 2).long())"),
    _step("({x} + {D}(u8({x} < 1)))", "({x} + ({x} < 1).long())"),
    _step("({x} + {D}(i16({x} == 2)))", "({x} + ({x} == 2).long())"),
    _step("{D}(i64({x}))", "{x}", odd=False),
    _step("{D}(i32({x}))", "{x}", odd=False),
    _step("{D}(f64({x}))", "{x}"),
    _step("{D}(f32({x}))", "{x}"),
    _step("{D}(f16({x}))", "{x}"),
    _step("{D}(bf16({x}))", "{x}"),
    _step("{D}(bool({x}))", "({x} != 0).long()", odd=False),
    _step("tl.abs({x})", "{x}.abs()"),
    _step("{D}(tl.where({x} > 0, 1, 2))", "torch.where({x} > 0, 1, 2)"),
    _step("floor({x} * 0.5)", "torch.floor({x} * 0.5)", "float"),
    _step("ceil({x} / 2)", "torch.ceil({x} / 2)", "float"),
    _step("fma({x}, 2.0, 1.0)", "({x} * 2 + 1)", "float"),
    _step("where({x} == inf, 1.0, {x})", "torch.where({x} == math.inf, 1, {x})", "float"),
    _step("maximum({x}, -inf)", "{x}", "float"),
    _step("~({x})", "(-{x} - 1)", "int"),
    _step("(({x}) & 6)", "({x} & 6)", "int"),
    _step("(({x}) | 5)", "({x} | 5)", "int"),
    _step("(({x}) ^ 3)", "({x} ^ 3)", "int"),
    _step("(({x}) << 1)", "({x} * 2)", "int"),
    _step("(({x}) >> 1)", "({x} >> 1)", "int"),
    _step("(({x}) // 3)", "torch.div({x}, 3, rounding_mode='floor')", "int"),
    _step("(({x}) // -3)", "torch.div({x}, -3, rounding_mode='floor')", "int"),
    _step("(({x}) % 3)", "torch.remainder({x}, 3)", "int"),
    _step("(({x}) % -4)", "torch.remainder({x}, -4)", "int"),
    _step("cdiv({x}, 3)", "-torch.div(-{x}, 3, rounding_mode='floor')", "int"),
    # What a dtype does not hold is what it is.
    _step("minimum({x}, 5000000000)", "{x}", "int"),
    _step("maximum({x}, -3000000000)", "{x}", "int"),
    _step("where({x} > -300, {x}, 7)", "torch.where({x} > -300, {x}, 7)", "int"),
    _step("({x} // 3000000000)", "torch.div({x}, 3000000000, rounding_mode='floor')", "int"),
    _step("where({x} == n * 300, 2, {x})", "torch.where({x} == axis(N, 'n', W, a) * 300, 2, {x})", "int"),
    _step("where({x} < n + 2147483648, {x}, 5)", "{x}", "int"),
    _step("({x} - {D}(max({x}, n)))", "({x} - over(torch.amax, {x}, W, 'n', N))", rows=True, nonempty=True),
    _step("({x} + {D}(min({x}, n)))", "({x} + over(torch.amin, {x}, W, 'n', N))", rows=True, nonempty=True),
    _step("({x} + {D}(sum({x}, n)))", "({x} + over(torch.sum, {x}, W, 'n', N))", rows=True),
    _step(
        "({x} + {D}(argmax({x}, n) % 5))",
        "({x} + over(torch.argmax, {x}, W, 'n', N) % 5)",
        rows=True,
        whole=True,
        nonempty=True,
    ),
    _step(
        "({x} - {D}(argmin({x}, n) % 5))",
        "({x} - over(torch.argmin, {x}, W, 'n', N) % 5)",
        rows=True,
        whole=True,
        nonempty=True,
    ),
    _step("{D}(cumsum({x}, n))", "over(torch.cumsum, {x}, W, 'n', N)", rows=True),
    _step("sign({x})", "torch.sign({x})"),
    _step("clamp({x}, -3, 4)", "{x}.clamp(-3, 4)"),
    _step("where(isnan({x}), 5, {x})", "torch.where({x}.isnan(), 5, {x})"),
    _step("where(isinf({x}), 4, {x})", "torch.where({x}.isinf(), 4, {x})"),
    _step("round({x} * 0.5)", "torch.round({x} * 0.5)", "float"),
    _step("trunc({x} / 2)", "torch.trunc({x} / 2)", "float"),
    _step("({x} + {D}((rand(3, n) >= 0.0) & (rand(3, n) < 1.0)))", "({x} + 1)"),
    _step("where(randn(5, n) == randn(5, n), {x}, 9)", "{x}"),
    _step(
        "({x} + prod(where({x} > 3, {D}(-1), {D}(1)), n))",
        "({x} + over(torch.prod, torch.where({x} > 3, -1, 1), W, 'n', N))",
        rows=True,
    ),
    _step(
        "({x} + cumprod(where({x} > 3, {D}(-1), {D}(1)), n))",
        "({x} + over(torch.cumprod, torch.where({x} > 3, -1, 1), W, 'n', N))",
        rows=True,
    ),
    _step(
        "where(any({x} > 3, n), {x}, 1)",
        "torch.where(over(torch.any, {x} > 3, W, 'n', N), {x}, 1)",
        rows=True,
    ),
    _step(
        "where(all({x} < 5, n), {x}, 2)",
        "torch.where(over(torch.all, {x} < 5, W, 'n', N), {x}, 2)",
        rows=True,
    ),
    _step("({x} + {D}(next_pow2(COUNT)))", "({x} + 4)"),
]

# What looks along a tile. Of a row that is there as a whole, it is compared with PyTorch's; of any other tile, with
# what does not depend on where its blocks begin.
_WEIGHED = "over(torch.sum, torch.where(({x} >= 0) & ({x} < 7), {x} + 1, 0), W, 'n', N)"
_SEVEN = "seven({x}, W, 'n', N)"
LANES = [
    _step("sort({x}, n)", "along(ascending, {x}, W, 'n', N)", rows=True),
    _step("{D}(sort({K}({x}), n))", "along(ascending, {x}, W, 'n', N)", rows=True, whole=True),
    _step("sort({x}, n, descending=true)", "along(descending, {x}, W, 'n', N)", rows=True),
    _step(
        "{D}(sort({K}({x}), n, descending=true))", "along(descending, {x}, W, 'n', N)", rows=True, whole=True
    ),
    _step(
        "({x} + {D}(sort(i8({x} > 1), n)))",
        "({x} + along(ascending, ({x} > 1).long(), W, 'n', N))",
        rows=True,
        whole=True,
    ),
    _step(
        "({x} + {D}(sort(u8(abs({x})), n) % 3))",
        "({x} + along(ascending, {x}.abs(), W, 'n', N) % 3)",
        odd=False,
        rows=True,
        whole=True,
    ),
    _step(
        "({x} + {D}(argsort({J}({x}), n) % 5))",
        "({x} + along(places, {x}, W, 'n', N) % 5)",
        rows=True,
        whole=True,
    ),
    _step(
        "({x} - {D}(argsort({J}({x}), n, descending=true) % 5))",
        "({x} - along(places_down, {x}, W, 'n', N) % 5)",
        rows=True,
        whole=True,
    ),
    _step(
        "({x} + {D}(argsort(u8({x} > 1), n) % 5))",
        "({x} + along(places, ({x} > 1).long(), W, 'n', N) % 5)",
        rows=True,
        whole=True,
    ),
    _step(
        "take({x}, n, argsort({J}({x}), n))",
        "along(ascending, {x}, W, 'n', N)",
        rows=True,
        whole=True,
    ),
    _step("flip({x}, n)", "along(torch.flip, {x}, W, 'n', N)", rows=True),
    _step("{D}(flip({K}({x}), n))", "along(torch.flip, {x}, W, 'n', N)", rows=True, whole=True),
    _step(
        "where(flip({x} > 1, n), {x}, 3)",
        "torch.where(along(torch.flip, {x} > 1, W, 'n', N), {x}, 3)",
        rows=True,
        whole=True,
    ),
    _step("take({x}, n, N - 1 - n)", "along(torch.flip, {x}, W, 'n', N)", rows=True),
    _step("take({x}, n, n)", "{x}", rows=True),
    *(
        _step(
            f"take({{x}}, n, {index}, other={other})",
            f"taken({{x}}, W, 'n', N, {index.replace('n', 'INDEX')}, {other})",
            rows=True,
        )
        for index, other in [
            ("n + 1", 1),
            ("n - 2", -1),
            ("2 * n", 2),
            ("n // 2 - 1", 3),
            ("n + 4294967296", 2),
            ("n * 2147483648", 2),
            ("0 - n", -3),
            ("5", 4),
            ("-1", 2),
        ]
    ),
    _step(
        "take({x}, n, {w}, other=5)".join(["({x} + sum(", ", {w}))"]),
        "({x} + " + _SEVEN.replace("N)", "N, 5)") + ".sum(W.index('n'), keepdim=True))",
        rows=True,
    ),
    *(
        _step(
            f"take({{x}}, n, {kind}({{x}}), other=3)",
            "taken({x}, W, 'n', N, {x}.long(), 3)",
            odd=False,
            rows=True,
            whole=True,
        )
        for kind in ("i32", "i64", "i8", "i16")
    ),
    _step(
        "({x} + take({x}, n, argmax({x}, n), other=1))",
        "({x} + over(torch.amax, {x}, W, 'n', N))",
        rows=True,
        whole=True,
        nonempty=True,
    ),
    _step(
        "take({K}({x}) > 1, n, n + 1, other=true)".join(["where(", ", {x}, 2)"]),
        "torch.where(taken({x} > 1, W, 'n', N, INDEX + 1, True), {x}, 2)",
        rows=True,
        whole=True,
    ),
    *(
        _step(
            f"({{x}} - {{D}}(sum(histogram({kind}({{x}}), n, {{w}}) * ({{w}} + 1), {{w}})))",
            f"({{x}} - {_WEIGHED})",
            odd=False,
            rows=True,
            whole=True,
        )
        for kind in ("i32", "i64", "i8", "i16")
    ),
    _step(
        "({x} + {D}(take(histogram(i32(isnan({x})), n, {w}), {w}, n % 3)))",
        "({x} + counted({x}.isnan(), W, 'n', N))",
        rows=True,
    ),
    _step(
        "({x} + sum(topk(take({x}, n, {w}, other=1), {w}, {j}) * {D}({j} + 1), {j}))",
        f"({{x}} + weighed(along(descending, {_SEVEN}, W, 'n', 7), W, 'n'))",
        rows=True,
    ),
    _step(
        "({x} + {D}(sum({D}(topk({K}(take({x}, n, {w}, other=1)), {w}, {j})) * {D}({j} + 1), {j})))",
        f"({{x}} + weighed(along(descending, {_SEVEN}, W, 'n', 7), W, 'n'))",
        rows=True,
        whole=True,
    ),
    _step(
        "({x} - {D}(sum(argtopk({J}(take({x}, n, {w}, other=1)), {w}, {j}) * ({j} + 1), {j})))",
        f"({{x}} - weighed(along(places_down, {_SEVEN}, W, 'n', 7), W, 'n'))",
        rows=True,
        whole=True,
    ),
    _step("flip(flip({x}, n), n)", "{x}"),
    *[_step("({x} + sum(flip({x}, n), n) - sum({x}, n))", "{x}", odd=False, whole=True)] * 2,
    _step("{D}(flip(flip({K}({x}), n), n))", "{x}", whole=True),
    _step("({x} + sum(sort({x}, n), n) - sum({x}, n))", "{x}", odd=False, whole=True),
    _step("where(max(sort({x}, n), n) == max({x}, n), {x}, 9)", "{x}", odd=False),
    _step("where(min(sort({x}, n, descending=true), n) == min({x}, n), {x}, 9)", "{x}", odd=False),
    _step("({x} + {D}(sum(argsort({J}({x}), n), n) - sum(n + 0, n)))", "{x}"),
    _step(
        "where(min(argtopk({J}(take({x}, n, {w}, other=1)), {w}, {j}), {j}) >= 0, {x}, 9)",
        "{x}",
        rows=True,
    ),
    _step(
        "({x} + {D}(sum(histogram(i32({x}), n, {w}) * ({w} + 1), {w}) - sum(where(({x} >= 0) & ({x} < 7), i32({x}) + 1, 0), n)))",
        "{x}",
        odd=False,
        whole=True,
    ),
    _step("padded({x}, n)", "{x}"),
    _step("padded({x}, n, value=-2)", "{x}"),
    _step("{D}(padded({K}({x}), n, value=1))", "{x}", whole=True),
]

SMOOTH = [
    _step("exp(-abs({x}))", "torch.exp(-{x}.abs())"),
    _step("exp2(-abs({x}))", "torch.exp2(-{x}.abs())"),
    _step("log(2.0 + abs({x}))", "torch.log(2 + {x}.abs())"),
    _step("log2(2.0 + abs({x}))", "torch.log2(2 + {x}.abs())"),
    _step("sqrt(1.0 + abs({x}))", "torch.sqrt(1 + {x}.abs())"),
    _step("rsqrt(1.0 + abs({x}))", "torch.rsqrt(1 + {x}.abs())"),
    _step("sin({x})", "torch.sin({x})"),
    _step("cos({x})", "torch.cos({x})"),
    _step("tanh({x})", "torch.tanh({x})"),
    _step("erf({x})", "torch.erf({x})"),
    _step("sigmoid({x})", "torch.sigmoid({x})"),
    _step("(1.0 + ({x}) ** 2) ** -0.5", "(1 + {x} * {x}) ** -0.5"),
    _step("({x} / (2.0 + ({x}) ** 2))", "({x} / (2 + {x} * {x}))"),
    _step("fma({x}, 0.5, 0.25)", "({x} * 0.5 + 0.25)"),
    _step("expm1(-abs({x}))", "torch.expm1(-{x}.abs())"),
    _step("log1p(abs({x}))", "torch.log1p({x}.abs())"),
    _step("log10(2.0 + abs({x}))", "torch.log10(2 + {x}.abs())"),
    _step("tan(0.5 * sin({x}))", "torch.tan(0.5 * torch.sin({x}))"),
    _step("asin(0.5 * sin({x}))", "torch.asin(0.5 * torch.sin({x}))"),
    _step("acos(0.5 * sin({x}))", "torch.acos(0.5 * torch.sin({x}))"),
    _step("atan({x})", "torch.atan({x})"),
    _step("atan2(sin({x}), 2.0 + cos({x}))", "torch.atan2(torch.sin({x}), 2 + torch.cos({x}))"),
    _step("sinh(sin({x}))", "torch.sinh(torch.sin({x}))"),
    _step("cosh(sin({x}))", "torch.cosh(torch.sin({x}))"),
    _step("asinh({x})", "torch.asinh({x})"),
    _step("acosh(2.0 + abs({x}))", "torch.acosh(2 + {x}.abs())"),
    _step("atanh(0.5 * sin({x}))", "torch.atanh(0.5 * torch.sin({x}))"),
    _step("erfc({x})", "torch.erfc({x})"),
    _step("softplus({x})", "torch.nn.functional.softplus({x}.double())"),
    _step("tl.exp(-abs({x}))", "torch.exp(-{x}.abs())"),
]

# The same, where whole numbers must stay whole: whether there is a number at all.
STEPS += [
    _step(f"where({step.dsl} > -1000.0, {{x}}, 1)", f"torch.where({step.ref} > -1000, {{x}}, 1)", step.only)
    for step in SMOOTH
    if not step.dsl.startswith("tl.")
]
# The dtypes that have each whole number, by what a value has: the last is the one of 64 bits.
KEEPING = {"float": ("f32", "f16", "bf16", "f64"), "int": ("i32", "i16", "i8", "i64")}
NARROW = ("f16(", "bf16(", "(f32(", "(i64({x}", "(i32({x}")

# Arithmetic of sizes, through zero and below; each in the language and in Python.
SIZES = [
    ("(M - N) // 2", "(M - N) // 2"),
    ("(N - M) // 3", "(N - M) // 3"),
    ("(M - N) % 3", "(M - N) % 3"),
    ("(M - N) % -4", "(M - N) % -4"),
    ("cdiv(N - M, 2)", "-((M - N) // 2)"),
    ("cdiv(M - N, 3)", "-((N - M) // 3)"),
    ("(M - N) >> 1", "(M - N) >> 1"),
    ("(N - M) << 1", "(N - M) << 1"),
    ("-M // 3", "-M // 3"),
    ("minimum(M - N, 1)", "min(M - N, 1)"),
    ("maximum(N - M, -2)", "max(N - M, -2)"),
    ("(M - N) // (0 - 3)", "(M - N) // -3"),
    ("(M - N) ^ 3", "(M - N) ^ 3"),
    ("(M - N) & 5", "(M - N) & 5"),
    ("(N - M) | 2", "(N - M) | 2"),
    ("~(M - N)", "N - M - 1"),  # PyTorch's symbolic sizes have no `~`
    ("-(N - M) * 3", "-(N - M) * 3"),
    ("+(N - M) + 1", "+(N - M) + 1"),
    ("(M - N) ** 2 - 5", "(M - N) ** 2 - 5"),
    ("1 << minimum(M, 3)", "1 << min(M, 3)"),
]

# Sizes of outputs: never negative, whatever is on the way.
OUTPUT_SIZES = [
    ("M + 1", "(M) + 1"),
    ("2 * M", "2 * (M)"),
    ("cdiv(M, 2)", "-(-(M) // 2)"),
    ("cdiv(M - 2, 2) + 1", "-((2 - (M)) // 2) + 1"),
    ("(M - N) // 2 + N", "((M) - (N)) // 2 + (N)"),
    ("(N - M) % 3 + 1", "((N) - (M)) % 3 + 1"),
    ("M // 2 + 1", "(M) // 2 + 1"),
    ("M - (M - N) // 2", "(M) - ((M) - (N)) // 2"),
    ("M - cdiv(M - N, 2)", "(M) + ((N) - (M)) // 2"),
]


class Scene:
    """One template while it is drawn. `v` is the value; the reference calls it so, too."""

    def __init__(self, rng: random.Random, name: str, *, exact: bool, odd: bool) -> None:
        self.rng = rng
        self.draft = Draft(rng, name, "scene")
        self.exact, self.odd = exact, odd
        layouts = ["points", "points", "tiles", *["rows"] * 4, "line", "loops"]
        self.layout = rng.choice([*layouts, *["rows"] * 6] if odd else layouts)
        self.cell = self.layout == "line" and rng.random() < 0.5  # a program for each element: no tile at all
        self.branches = 0
        draft = self.draft
        draft.concrete = True
        draft.letters = "n" if self.layout == "line" else "mn"
        draft.dim_of = {"m": "M", "n": "N"}
        floats = ["f32", "f32", "f64", "f16", "bf16"]
        narrow = [*INTEGERS, "i8", "i16", "u8", "bool", "f8e4m3", "f8e5m2"]
        self.loaded = rng.choice(floats if odd else [*floats, *narrow])
        if self.loaded in ("f32", "f64", *(INTEGERS if exact else ())):
            self.dtype = self.loaded
        elif is_float(self.loaded) or self.loaded.startswith("f8"):
            self.dtype = rng.choice(["f32", "f64"])
        else:
            self.dtype = rng.choice(["f32", *(INTEGERS if exact else ())])
        self.steps = [
            step
            for step in (
                STEPS + LANES
                if exact
                else SMOOTH
                + [s for s in STEPS + LANES if not s.whole and not any(w in s.dsl for w in NARROW)]
            )
            if (not step.only or (step.only == "float") == is_float(self.dtype))
            and (step.odd or not odd)
            and (not step.rows or self.layout == "rows")
            and not (self.cell and (step in LANES or any(w in step.dsl for w in ("(n,", "n.start"))))
        ]

    # Lines

    def line(self, dsl: str, *ref: str) -> None:
        self.draft.dsl(dsl)
        for each in ref:
            self.python(each)

    def python(self, line: str) -> None:
        self.draft.ref.append("    " * self.depth + line)

    depth = 0

    def nested(self, body: Callable[[], None], *, python: bool) -> None:
        self.draft.indent += 1
        self.depth += python
        body()
        self.draft.indent -= 1
        self.depth -= python

    # Parameters, each made when it is first needed

    def param(self, key: str, make: Callable[[], Param]) -> str:
        if key not in self.params:
            self.params[key] = make()
        return self.params[key].name

    @property
    def scalar_row(self) -> bool:
        return self.row_is_scalar

    def condition(self) -> tuple[str, str]:
        """A run-time condition of scalars, and what it is in PyTorch: of one element for each row, or Python's."""
        rng, draft = self.rng, self.draft
        options = ["int", "flag", "sizes", "never", "never"]
        if self.scalar_row:
            options += ["row", "row", "row", "loaded", "loaded"]
        if self.layout == "line":
            options = [option for option in options if option != "sizes"]
        # What contradicts a condition around it is never run, and the checker says so of what is proven there.
        options = [option for option in options if option not in self.given] or ["flag"]
        kind = rng.choice(options)
        self.given |= {"int", "never"} if kind in ("int", "never") else {kind} - {"flag", "loaded"}
        number = rng.choice([0, 1, 3])
        row = "axis(M, 'm', W, a)"
        match kind:
            case "int":
                name = self.param("int", lambda: draft.scalar("int", rng.choice([3, -2, 7]), free=True))
                test = rng.choice(
                    ["{} > 2", "{} % 3 == 1", "{} // 2 < 0", "not {} > 2", "{} % -4 < -1", "{} // -3 > 0"]
                )
                return test.format(name), test.format(name)
            case "flag":
                name = self.param("flag", lambda: draft.tensor([], "i32", 2))
                test = rng.choice(["> 0", "<= 0", "!= 1"])
                return f"load {name}[] {test}", f"({name} {test})"
            case "sizes":
                (dsl, python), (other, other_python) = rng.choice(SIZES), rng.choice(SIZES)
                self.known |= {"M", "N"}
                test = rng.choice([">", "<", ">=", "<=", "==", "!="])
                form = (
                    rng.choice(
                        [
                            "A {} B",
                            "A {} B",
                            "not (A {} B)",
                            "A {} B and C {} B",
                            "A {} B or C {} B",
                            "A {} C",
                        ]
                    )
                    .replace("{}", test)
                    .replace("B", str(-number))
                )
                return form.replace("A", f"({dsl})").replace("C", f"({other})"), form.replace(
                    "A", f"({python})"
                ).replace("C", f"({other_python})")
            case "never":
                name = self.param("int", lambda: draft.scalar("int", rng.choice([3, -2, 7]), free=True))
                return f"{name} > 1000", "False"
            case "row":
                test = rng.choice(
                    ["{} > NUMBER", "{} % 2 == 0", "{} == NUMBER", "({} < 1) | ({} > 4)", "{} >= M // 2"]
                ).replace("NUMBER", str(number))
                return test.replace("{}", "m").replace(" | ", " or "), test.replace("{}", row)
            case _:
                name = self.param("loaded", lambda: draft.tensor(["M"], rng.choice(["i32", "i64"]), 3))
                return f"load {name}[m] > {number - 1}", f"(at({name}, 'm', W) > {number - 1})"

    # What is done with the value

    def clamped(self, dsl: str, ref: str, *, calm: bool = False) -> None:
        """`v` becomes this; large values are cut, whatever they are, unless it is `calm`."""
        if not self.exact:
            self.line(f"v = {dsl if calm else f'sin({dsl})'}", f"v = {ref if calm else f'torch.sin({ref})'}")
            return
        zero = ".0" if is_float(self.dtype) else ""
        self.line(
            f"v = minimum(maximum({dsl}, -{LIMIT}{zero}), {LIMIT}{zero})",
            f"v = ({ref}).clamp(-{LIMIT}, {LIMIT}).to(v.dtype)",
        )

    def step(self) -> None:
        rng = self.rng
        kind = rng.choice(
            ["step"] * 8
            + ["load", "load", "size", "size", "wide", "augmented", "triton", "whole", "dot", "dot"]
        )
        match kind:
            case "load":
                self.clamped(*self.load())
            case "size" if self.layout != "line":
                dsl, python = rng.choice(SIZES)
                name = self.draft.fresh("size")
                if rng.random() < 0.5:
                    self.line(f"{name} = {dsl}", f"{name} = {python}")
                    dsl = python = name
                self.clamped(f"(v + {self.dtype}(({dsl}) % 7))", f"(v + ({python}) % 7)")
            case "wide" if self.dtype == "f64" and rng.random() < 0.5:
                # Numbers that float32 has not, of a parameter, an index and a variable.
                big = self.param("big", lambda: self.draft.scalar("float", 16777217.0))
                name = self.draft.fresh("much")
                self.draft.dsl(f"{name} = {big} * 3")
                text = rng.choice([f"(n + {big}) * 3 - {name}", f"n * {big} - (n * ({name} / 3 - 3.0))"])
                self.clamped(f"(v + ({text}))", "(v + axis(N, 'n', W, a) * 3)")
            case "wide":
                # Past 2^31 and back.
                by = self.param("wide", lambda: self.draft.scalar("int", rng.choice([2**31 + 5, 2**33])))
                text = rng.choice([f"(n * {by}) // {by}", f"(n + {by}) - {by}", f"(n * {by}) % {by} + n"])
                self.clamped(f"(v + {self.dtype}(({text}) % 5))", "(v + axis(N, 'n', W, a) % 5)")
            case "augmented":
                op, by = rng.choice([("+", 2), ("-", 1), ("*", 2), ("*", -1)])
                shown = f"{by}.0" if is_float(self.dtype) else f"{by}"
                self.line(f"v {op}= {shown}", f"v = v {op} {by}")
                self.clamped("v", "v")
            case "whole":
                kind = "f32" if is_float(self.dtype) else "i32"
                name = self.param("short", lambda: self.draft.tensor(["S"], kind, 2))
                self.draft.fixed.add("S")
                self.draft.blocks["S"] = 16
                tile = self.draft.fresh("w")
                self.line(f"{tile} = whole(S)")
                self.clamped(
                    f"(v + {self.dtype}(sum(load {name}[{tile}], {tile})))", f"(v + wide({name}).sum())"
                )
            case "dot" if self.layout == "tiles":
                left = self.param("left", lambda: self.draft.tensor(["M", "K"], "f32", 2))
                right = self.param("right", lambda: self.draft.tensor(["K", "N"], "f32", 2))
                self.draft.blocks["K"] = 16
                k, acc = self.draft.fresh("k"), self.draft.fresh("acc")
                self.line(f"{acc} = zeros(m, n)", f"{acc} = wide({left}) @ wide({right})")
                self.line(f"for {k} in K by 16:")
                loads = f"load {left}[m, {k}], load {right}[{k}, n]"
                self.nested(lambda: self.line(f'{acc} += dot({loads}, precision="ieee")'), python=False)
                self.clamped(f"(v + {self.dtype}({acc}))", f"(v + {acc})")
            case "triton":
                name = self.draft.fresh("called")
                tiles = self.tiles
                kind = "f32" if self.dtype == "f32" else "f64"
                calls = [(self.dtype, "tl.abs(v)", "v.abs()"), (kind, f"tl.cast(v, tl.float{kind[1:]})", "v")]
                if self.exact and not self.odd and self.layout == "rows":
                    axis = 0 if tiles == "n" else 1
                    sort = f"tl.sort(padded(v, n, value=99), {axis})"
                    calls += [(self.dtype, sort, "along(ascending, v, W, 'n', N)")] * 2
                kind, called, ref = rng.choice(calls)
                self.sorts += self.repeats * ("sort" in called)
                self.line(f"{name}: {kind}[{tiles}] = {called}", f"{name} = {ref}")
                self.clamped(f"(v - {self.dtype}({name}))", f"(v - {name})")
            case _:
                along = [step for step in self.steps if step.rows and step not in LANES]
                groups: dict[str, list[Step]] = {}
                if self.cell:
                    groups["none"] = self.steps
                for each in self.steps:
                    if each in LANES:
                        groups.setdefault(each.lanes, []).append(each)
                kind = rng.random()
                if kind < 0.3:
                    choices = groups[rng.choice(sorted(groups))]
                else:
                    choices = along if along and kind < 0.5 else self.steps
                step = rng.choice(choices)
                self.sorts += self.repeats * bool(re.search("sort|topk", step.dsl))
                if step.nonempty:
                    self.draft.nonempty.add("N")
                dsl = step.dsl.replace("{x}", "v").replace("{D}", self.dtype).replace("and_", "and")
                kinds = KEEPING["float" if is_float(self.dtype) else "int"]
                dsl = dsl.replace("{K}", rng.choice(kinds)).replace("{J}", rng.choice(kinds[:-1]))
                for letter, lanes in (("w", 7), ("j", 3)):
                    if f"{{{letter}}}" in dsl:
                        tile = self.draft.fresh(letter)
                        self.draft.dsl(f"{tile} = whole({lanes})")
                        dsl = dsl.replace(f"{{{letter}}}", tile)
                if " and n < n.stop" in dsl:
                    dsl = dsl.replace("n >= n.start and n < n.stop", "(n >= n.start) & (n < n.stop)")
                if dsl.startswith(("full(", "zeros(")):
                    dsl = dsl.replace("(n,", f"({self.tiles},")
                self.constants |= {word for word in ("FLAG", "NAME", "KIND", "COUNT") if word in dsl}
                self.helped |= "twice(" in dsl
                self.halved |= "HALF" in dsl
                ref = step.ref.replace("{x}", "v").replace("INDEX", "axis(N, 'n', W, a)")
                self.clamped(dsl, ref, calm=step in SMOOTH)

    @property
    def tiles(self) -> str:
        return "" if self.cell else "n" if self.layout == "line" or self.scalar_row else "m, n"

    def load(self) -> tuple[str, str]:
        """Another tensor, read where this stands."""
        rng, draft = self.rng, self.draft
        letters = draft.letters
        shape = [draft.dim_of[letter] for letter in letters]
        kind = (
            self.loaded
            if self.loaded in ("f32", "f64", *INTEGERS)
            else "f32"
            if is_float(self.dtype)
            else "i32"
        )
        options = ["plain", "row", "edge", "unchecked", "gather"]
        if "m" in letters:
            options += ["column"]
        if "sizes" in self.given:
            options.remove("edge")  # sizes that cannot be
        other = "0.0" if is_float(kind) else "0"
        match rng.choice(options):
            case "plain":
                name = self.param("plain", lambda: draft.tensor(shape, kind, 3))
                option = rng.choice(["", "", " fuse", " nofuse"])
                return (
                    f"(v + {self.dtype}(load {name}[{', '.join(letters)}]{option}))",
                    f"(v + at({name}, {letters!r}, W))",
                )
            case "row":
                name = self.param("row", lambda: draft.tensor(["N"], kind, 3))
                return f"(v - {self.dtype}(load {name}[n]))", f"(v - at({name}, 'n', W))"
            case "column":
                name = self.param("column", lambda: draft.tensor(["M"], kind, 3))
                return f"(v + {self.dtype}(load {name}[m]))", f"(v + at({name}, 'm', W))"
            case "edge":
                name = self.param("row", lambda: draft.tensor(["N"], kind, 3))
                by = rng.choice([1, 2, -1])
                sign = "+" if by > 0 else "-"
                return (
                    f"(v + {self.dtype}(load {name}[n {sign} {abs(by)}] else {other}))",
                    f"(v + shifted({name}, 'n', W, 'n', {by}, 0))",
                )
            case "unchecked":
                table = self.param("table", lambda: draft.tensor(["7"], kind, 3))
                index = self.param("inside", lambda: draft.tensor(["N"], "i32", 6, least=0))
                return (
                    f"(v + {self.dtype}(load {table}[load {index}[n]] unchecked))",
                    f"(v + wide({table})[{index}.long()]{'[None]' if 'm' in letters else ''})",
                )
            case _:
                table = self.param("table", lambda: draft.tensor(["7"], kind, 3))
                index = self.param("index", lambda: draft.tensor(["N"], rng.choice(["i32", "i64"]), 9))
                return (
                    f"(v + {self.dtype}(load {table}[load {index}[n]] else {other}))",
                    f"(v + gathered({table}[:, None], {index}, 0)[:, 0]{'[None]' if 'm' in letters else ''})",
                )

    # Where it is done

    def block(self, depth: int) -> None:
        for _ in range(self.rng.choice([1, 1, 2])):
            kind = self.rng.random()
            if depth and kind < 0.3:
                self.loop(depth)
            elif depth and kind < 0.7:
                self.branch(lambda: self.block(depth - 1))
            elif depth and kind < 0.8:
                self.static_branch(depth)
            else:
                self.step()

    def loop(self, depth: int) -> None:
        rng, draft = self.rng, self.draft
        self.loops += 1
        c = f"c{self.loops}"
        times = 3
        match rng.choice(["dim", "range", "from", "sum"]):
            case "dim":
                name = self.param(
                    "weights", lambda: draft.tensor(["C"], "f32" if is_float(self.dtype) else "i32", 2)
                )
                self.line(f"for {c} in C:", f"for {c} in range(C):")
                times = LONGEST // 2

                def body() -> None:
                    self.clamped(f"(v + {self.dtype}(load {name}[{c}]))", f"(v + wide({name})[{c}])")
                    self.block(depth - 1)
            case "sum" if self.exact and "m" in draft.letters and not self.odd:
                name = self.param(
                    "long", lambda: draft.tensor(["M", "K"], "f32" if is_float(self.dtype) else "i32", 2)
                )
                chunk = draft.blocks.setdefault("K", 16)
                total = draft.fresh("total")
                where = "" if self.scalar_row else "m, "
                kind = "f32" if is_float(self.dtype) else "i32"
                start = f"{kind}(0)" if self.scalar_row else f"zeros({where.strip(', ')}, dtype={kind})"
                self.line(f"{total} = {start}")
                self.line(f"for {c} in K by {chunk}:")
                self.nested(lambda: self.line(f"{total} += sum(load {name}[m, {c}], {c})"), python=False)
                self.python(f"{total} = over(torch.sum, wide({name}), W, 'n', K)")
                self.clamped(f"(v + {self.dtype}({total}))", f"(v + {total})")
                return
            case "from":
                self.line(f"for {c} in 1 to 4:", f"for {c} in range(1, 4):")

                def body() -> None:
                    if self.exact:
                        self.clamped(f"(v + {self.dtype}({c}))", f"(v + {c})")
                    self.block(depth - 1)
            case _:
                stop, python = ("2", "2")
                if self.exact and self.layout != "line":
                    stop, python = rng.choice(
                        [("2", "2"), ("(M - N) % 3", "(M - N) % 3"), ("(M - N) // 4", "(M - N) // 4")]
                    )
                self.line(f"for {c} in 0 to {stop}:", f"for {c} in range({python}):")

                def body() -> None:
                    self.block(depth - 1)

        self.repeats *= times
        self.nested(body, python=True)
        self.repeats //= times

    def branch(self, body: Callable[[], None]) -> None:
        """A run-time `if`, perhaps with more branches: in the reference each runs, and then one is chosen."""
        rng = self.rng
        self.branches += 1
        at, given = self.branches, set(self.given)
        conditions = [self.condition() for _ in range(rng.choice([1, 1, 2, 3]))]
        self.python(f"start{at}, when{at} = v, [{', '.join(ref for _, ref in conditions)}]")
        self.python(f"ends{at} = []")
        words = ["if", *["elif"] * (len(conditions) - 1)]
        for word, (dsl, _) in zip(words, conditions, strict=True):
            self.draft.dsl(f"{word} {dsl}:")
            self.python(f"v = start{at}")
            self.nested(body, python=False)
            self.python(f"ends{at}.append(v)")
        self.python(f"v = start{at}")
        if rng.random() < 0.7:
            self.draft.dsl("else:")
            self.nested((lambda: self.draft.dsl("pass")) if rng.random() < 0.1 else body, python=False)
        self.python(f"v = chosen(when{at}, [*ends{at}, v])")
        self.given = given

    def static_branch(self, depth: int) -> None:
        """A compile-time `if`: of a constant, an optional tensor, a dtype."""
        rng, draft = self.rng, self.draft
        kind = rng.choice(["const", "optional", "dtype"])
        if kind == "optional":
            dtype = "f32" if is_float(self.dtype) else "i32"
            name = self.param("bias", lambda: draft.tensor(["N"], dtype, 3, optional=True))
            self.draft.dsl(f"if {name}:")
            self.python(f"if {name} is not None:")
            self.nested(
                lambda: self.clamped(f"(v + {self.dtype}(load {name}[n]))", f"(v + at({name}, 'n', W))"),
                python=True,
            )
            return
        if kind == "const":
            self.constants.add("FLAG")
            dsl, ref = rng.choice([("FLAG", "False"), ("not FLAG", "True")])
        else:
            self.constants.add("KIND")
            dsl, ref = rng.choice([("KIND in (f32, f64)", "True"), ("KIND in (f16, f64)", "False")])
        self.draft.dsl(f"if {dsl}:")
        self.python(f"if {ref}:")
        self.nested(lambda: self.block(depth - 1), python=True)
        if rng.random() < 0.6:
            self.draft.dsl("else:")
            self.python("else:")
            self.nested(lambda: self.block(depth - 1), python=True)

    # The end

    def stored(self) -> None:
        """The stores of all outputs, where this stands; their values are kept for the reference."""
        letters = self.draft.letters
        for name, _, dtype, _ in self.stores:
            option = " nofuse" if self.rng.random() < 0.1 else ""
            value = self.rng.choice(["v", "v", "(v + 1)", "-v"])
            if dtype == "bool":
                value = "v > 1"
            self.draft.dsl(f"store {name}[{', '.join(letters)}] = {value}{option}")
            self.python(f"kept_{name} = {value}" if dtype != "bool" else f"kept_{name} = (v > 1)")

    def summed(self) -> None:
        """An atomic sum over the rows, perhaps of some of them, and more than once."""
        given = set(self.given)
        dsl, ref = self.condition() if self.rng.random() < 0.7 else ("", "True")
        times = self.rng.choice([1, 1, 2])
        value = "v" if self.row_is_scalar else "sum(v, m)"

        kind = self.rng.choice(["own", "skip", "unchecked"])
        target = "q[n]"
        self.added = "over(torch.sum, gained, W, 'm', M)"
        if kind != "own":
            if kind == "skip":
                make = lambda: self.draft.tensor(["N"], self.rng.choice(["i32", "i64"]), 9)  # noqa: E731
            else:
                make = lambda: self.draft.tensor(["N"], "i32", 6, least=0)  # noqa: E731
            name = self.param("index" if kind == "skip" else "inside", make)
            target = f"q[load {name}[n]] {'else skip' if kind == 'skip' else 'unchecked'}"
            self.added = f"scattered(gained.expand(M, N).sum(0), {name}, 7)"

        def body() -> None:
            self.draft.dsl(f"accumulate {target} += {value}")

        def guarded() -> None:
            if dsl:
                self.draft.dsl(f"if {dsl}:")
                self.nested(body, python=False)
            else:
                body()

        if times == 2:
            self.draft.dsl("for again in 0 to 2:")
            self.nested(guarded, python=False)
        else:
            guarded()
        self.given = given
        self.python(f"gained = {times} * chosen([{ref}], [v, torch.zeros_like(v)])")

    def finished(self, depth: int) -> None:
        """Stores of one `if`'s branches count as one."""
        rng = self.rng
        if not depth or rng.random() < 0.35:
            if rng.random() < 0.6:
                self.block(1)
            self.stored()
            return
        self.branches += 1
        at, given = self.branches, set(self.given)
        conditions = [self.condition() for _ in range(rng.choice([1, 1, 2]))]
        self.python(f"when{at} = [{', '.join(ref for _, ref in conditions)}]")
        names = [name for name, *_ in self.stores]
        kept = "[" + ", ".join(f"kept_{name}" for name in names) + "]"
        self.python(f"start{at}, ends{at} = v, []")
        for index in range(len(conditions) + 1):
            if index < len(conditions):
                self.draft.dsl(f"{'elif' if index else 'if'} {conditions[index][0]}:")
            else:
                self.draft.dsl("else:")
            self.python(f"v = start{at}")
            self.nested(lambda: self.finished(depth - 1), python=False)
            self.python(f"ends{at}.append({kept})")
        for index, name in enumerate(names):
            self.python(f"kept_{name} = chosen(when{at}, [each[{index}] for each in ends{at}])")
        self.given = given

    def drawn(self) -> Template:
        rng, draft = self.rng, self.draft
        self.params: dict[str, Param] = {}
        self.constants: set[str] = set()
        self.known: set[str] = set()
        self.given: set[str] = set()  # of what the conditions around are
        self.helped = self.halved = False
        self.added = ""  # what is added up, in PyTorch
        self.loops = self.sorts = 0
        self.repeats = 1  # how often a step runs, in the loops around it
        layout = self.layout
        self.row_is_scalar = layout in ("points", "loops") or (layout == "rows" and rng.random() < 0.5)
        dims = [draft.dim_of[letter] for letter in draft.letters]
        draft.indent = 1
        first = draft.tensor(
            dims, self.loaded, 1 if self.loaded == "bool" else 4 if self.exact else 1, inout=False
        )
        block_n = draft.block("N", [16, 32]) if layout != "rows" and not self.cell else ""
        if self.cell:
            draft.blocks["N"] = 1
        row = "M"
        if self.row_is_scalar and layout != "line":
            draft.blocks["M"] = 1
        elif layout != "line":
            row = f"M by {draft.block('M', [16] if layout == 'tiles' else [2, 4, 8])}"
        grid = {
            "line": "for n in grid(N):" if self.cell else f"for n in grid(N by {block_n}):",
            "points": f"for m, n in grid({row}, N by {block_n}):",
            "tiles": f"for m, n in grid({row}, N by {block_n}{rng.choice(['', ', group=2'])}):",
            "rows": f"for m in grid({row}):",
            "loops": f"for m in grid({row}):",
        }[layout]
        outputs = rng.choice([1, 1, 1, 2])
        self.stores = []
        for at in range(outputs):
            choices = [self.dtype, self.dtype]
            choices += ["f16", "bf16", "f64", "f32"] if is_float(self.dtype) else ["i64", "i32"]
            if not self.odd and self.exact:
                choices += ["bool"]
            dtype = rng.choice(choices)
            self.stores.append(("yz"[at], tuple(dims), dtype, LIMIT + 1))
        if layout == "rows":
            draft.dsl("n = whole(N)")
            draft.fixed.add("N")

        def body() -> None:
            loaded = f"load {first.name}[{', '.join(draft.letters)}]"
            option = rng.choice(["", "", "", " fuse", " nofuse"])
            self.line(f"v = {self.dtype}({loaded}{option})", f"v = at({first.name}, {draft.letters!r}, W)")
            if first.dtype == "bool":
                self.python("v = v.long()")
            if is_float(self.dtype):
                self.python("v = v.double()")
            if self.odd and layout == "rows" and rng.random() < 0.5:
                # Where a NaN is, before anything else is made of it.
                draft.nonempty.add("N")
                if rng.random() < 0.5:
                    function = rng.choice(["argmax", "argmin"])
                    place = f"over(torch.{function}, v, W, 'n', N) % 5"
                    self.clamped(f"(v + {self.dtype}({function}(v, n) % 5))", f"(v + {place})")
                else:
                    order, function = rng.choice([("", "ascending"), (", descending=true", "descending")])
                    self.clamped(f"sort(v, n{order})", f"along({function}, v, W, 'n', N)")
            if not self.exact and layout == "rows" and self.loaded in ("f32", "f64") and rng.random() < 0.15:
                # Of what was not calculated: a rounding could make another one the largest.
                draft.nonempty.add("N")
                function = rng.choice(["argmax", "argmin"])
                place = f"over(torch.{function}, v, W, 'n', N) % 5"
                self.line(f"v = v + {self.dtype}({function}(v, n) % 5)", f"v = v + {place}")
            self.block(2)
            if layout != "line" and rng.random() < 0.25:
                self.summed()
            self.finished(rng.choice([0, 1, 1, 2]))

        if layout == "loops":
            self.draft.dsl(f"for n in N by {block_n}:")
            self.nested(body, python=False)
        else:
            body()
        sizes = ", ".join(draft.size(letter) for letter in draft.letters)
        for name, out_dims, dtype, bound in self.stores:
            places = 0 if self.exact else 30
            draft.outputs.append(
                _output(
                    name, out_dims, dtype, 1 if dtype == "bool" else bound, places, rounded=not self.exact
                )
            )
            draft.output_dtypes.append(dtype)
            draft.ref.append(f"{name} = full(kept_{name}, [{sizes}], W, {draft.letters!r}, D.{dtype})")
        if self.added:
            own = self.added.startswith("over")
            bound = 2 * LONGEST * LIMIT * (1 if own else LONGEST)
            draft.outputs.append(
                _output(
                    "q",
                    ("N" if own else "7",),
                    self.dtype,
                    bound,
                    0 if self.exact else 30,
                    rounded=not self.exact,
                )
            )
            draft.output_dtypes.append(self.dtype)
            filled = f"full({self.added}, [{sizes}], W, 'n', D.{self.dtype})"
            draft.ref.append(f"q = {filled if own else f'({self.added}).to(D.{self.dtype})'}")
        if ("loaded" in self.params and not self.row_is_scalar) or self.sorts > MOST_SORTS:
            raise Redraw
        defaults = {
            "FLAG": ("bool", False),
            "NAME": ("str", "up"),
            "KIND": ("dtype", "f32"),
            "COUNT": ("int", 3),
        }
        for word in sorted(self.constants):
            kind, value = defaults[word]
            shown = {"bool": "false", "str": '"up"', "dtype": "f32", "int": "3"}[kind]
            draft.params.append(
                Param(name=word, kind="default", value=value, declared=f"{word}: const {kind} = {shown}")
            )
        made = draft.finish(grid)
        if self.halved:
            made.text = made.text.replace("\n    for ", "\n    let HALF = 9 // 4\n    for ", 1)
        if self.helped:
            made.text = "def twice(x):\n    y = x * 2\n    return y + 1\n\n" + made.text
        made.known = self.known
        made.exact = self.exact
        made.smooth = not self.exact
        made.special = self.odd
        return made


def _output(
    name: str, dims: Sequence[str], dtype: str, bound: float, places: int, *, rounded: bool
) -> Output:
    return Output(name=name, dims=tuple(dims), dtype=dtype, bound=bound, places=places, rounded=rounded)


def scene(rng: random.Random, name: str, *, exact: bool = True, odd: bool = False) -> Template:
    while True:
        try:
            return Scene(rng, name, exact=exact, odd=odd).drawn()
        except Redraw:
            continue


def resized(rng: random.Random, name: str) -> Template:
    """Outputs whose sizes are calculated, from sizes that may differ by less than nothing."""
    draft = Draft(rng, name, "resized")
    draft.concrete = True
    draft.letters = "pq"
    (rows, rows_ref), (columns, columns_ref) = rng.sample(OUTPUT_SIZES, 2)
    if rng.random() < 0.4:
        rows, rows_ref = rng.choice([size for size in OUTPUT_SIZES if "M - N" in size[0]])
    swapped = str.maketrans("MN", "NM")
    if rng.random() < 0.7:
        columns, columns_ref = columns.translate(swapped), columns_ref.translate(swapped)
    dtype = rng.choice(["f32", "f16", "i32", "f64"])
    a = draft.tensor(["M", "N"], dtype, 5)
    other = "0.0" if is_float(dtype) else "0"
    scalar = rng.random() < 0.6  # then a program too many, or too few, is seen whatever the block
    rows_by = "" if scalar else f" by {draft.block('P', [2, 4])}"
    grid = f"for p, q in grid({rows}{rows_by}, {columns} by {draft.block('Q', [16, 32])}):"
    draft.blocks = {"M": 2 if not scalar else 1, "N": 16}
    draft.indent = 1
    draft.dsl(f"v = load {a.name}[p, q - 1] else {other}")
    by = rng.choice(["(M - N) // 2", "cdiv(N - M, 2)", "(M - N) % 3"])
    by_ref = {
        "(M - N) // 2": "(M - N) // 2",
        "cdiv(N - M, 2)": "-((M - N) // 2)",
        "(M - N) % 3": "(M - N) % 3",
    }[by]
    draft.dsl(f"w = load {a.name}[p, q + {by}] else {other}")
    draft.ref += [
        f"P, Q = {rows_ref}, {columns_ref}",
        f"rows, columns = torch.arange(P, device={a.name}.device)[:, None], torch.arange(Q, device={a.name}.device)",
        f"y = (picked({a.name}, rows, columns - 1) + 2 * picked({a.name}, rows, columns + {by_ref})).to(D.{dtype})",
    ]
    draft.dsl("store y[p, q] = v + 2 * w")
    draft.outputs.append(_output("y", (rows, columns), dtype, 15, 0, rounded=False))
    draft.output_dtypes.append(dtype)
    made = draft.finish(grid)
    made.computed = {rows: rows_ref, columns: columns_ref}
    return made


def affine(rng: random.Random, name: str) -> Template:
    """A product whose reference is PyTorch's own, in the dtype that the template has: what autocast would change."""
    dtype = "f32"
    block_m, block_n, block_k = rng.choice([16, 32]), rng.choice([16, 32]), 32
    text = f"""template {name}(a: {dtype}[M, K], b: {dtype}[K, N]) -> y: {dtype}[M, N]:
    config BLOCK_M={block_m}, BLOCK_N={block_n}, BLOCK_K={block_k}

    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load a[m, k], load b[k, n], precision="ieee")
        store y[m, n] = tanh(acc)
"""
    return Template(
        name=name,
        family="affine",
        text=text,
        reference=f"def {name}(a, b):\n    return torch.tanh(a @ b)\n",
        params=[
            Param(name="a", dims=("M", "K"), dtype=dtype, bound=1),
            Param(name="b", dims=("K", "N"), dtype=dtype, bound=1),
        ],
        outputs=[Output(name="y", dims=("M", "N"), dtype=dtype, bound=1)],
        blocks={"M": block_m, "N": block_n, "K": block_k},
        exact=False,
        smooth=True,
        tolerance=4.0,
    )


FAMILIES["scene"] = (6, scene)
FAMILIES["resized"] = (3, resized)

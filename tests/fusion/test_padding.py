"""What a prologue is known to make of zeros, against calculating it."""

from __future__ import annotations

import random

import pytest
import torch

from tdsl.lower.inductor.fusion.padding import PaddedLanes

INF, NAN = float("inf"), float("nan")
UNKNOWN = [0.0, -0.0, 1.0, -3.0, 1e30, INF, -INF, NAN]
UNARY = {
    "abs": torch.abs,
    "neg": torch.neg,
    "sign": torch.sign,
    "relu": torch.relu,
    "square": torch.square,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "floor": torch.floor,
    "round": torch.round,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "acos": torch.acos,
    "sigmoid": torch.sigmoid,
    "lgamma": torch.lgamma,
    "cosh": torch.cosh,
}
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "truediv": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "pow": torch.pow,
    "fmod": torch.fmod,
}
NUMBERS = [0.0, 1.0, -0.3, 2.0, 0.5, 1e30, 1e-30, 1e4, INF, NAN, 0, 3]


def known(steps, masked=(0,), axes=(0,), dtype=torch.float32):
    """Whether the last of some steps is 0, where x is a load that is masked along some axes."""
    zeros = PaddedLanes(axes)
    zeros.note_load("x", masked)
    for name, op, *args in steps:
        zeros.note(op, args, name, dtype)
    return zeros.all_zero(steps[-1][0] if steps else "x")


@pytest.mark.parametrize("op", UNARY)
def test_of_one(op):
    """Each of these that is 0 at 0 is known to be, and no other."""
    assert known([("y", op, "x")]) == (UNARY[op](torch.tensor(0.0)).item() == 0)


@pytest.mark.parametrize(
    "op, args, expected",
    [
        ("add", ("x", "x"), True),
        ("sub", ("x", "x"), True),
        ("sub", (2.0, 2.0), False),
        ("add", ("x", 1.0), False),
        ("mul", ("x", 3.0), True),
        ("mul", (3.0, "x"), True),
        ("mul", ("x", INF), False),
        ("mul", ("x", NAN), False),
        ("mul", ("x", "other"), False),
        ("truediv", ("x", 3.0), True),
        ("truediv", (3.0, "x"), False),
        ("truediv", ("x", "x"), False),
        ("truediv", ("x", "other"), False),
        ("maximum", ("x", -1.0), True),
        ("maximum", ("x", 1.0), False),
        ("minimum", ("x", 1.0), True),
        ("minimum", ("x", "other"), False),
        ("fma", ("x", 2.0, "x"), True),
        ("fma", ("x", 2.0, 1.0), False),
        ("fma", ("x", "other", "x"), False),
        ("where", ("other", "x", "x"), True),
        ("where", ("other", "x", 0.0), True),
        ("where", ("other", "x", 1.0), False),
        ("where", ("x", "other", "other"), False),
        ("to_dtype", ("x", torch.float16), True),
        ("constant", (0.0, torch.float32), True),
        ("constant", (False, torch.bool), False),
        ("constant", (1.0, torch.float32), False),
        ("identity", ("x",), True),
        ("load", ("x",), False),
        ("of tomorrow", ("x",), False),
        ("of tomorrow", ("x", "x"), False),
    ],
)
def test_of_several(op, args, expected):
    assert known([("y", op, *args)]) == expected


@pytest.mark.parametrize("masked", [(), (0,), (1,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("axes", [(), (0,), (1,), (0, 1)])
def test_along_which_axes(axes, masked):
    """It is asked for all of the axes that somebody relies on; a load that is masked along others is no help."""
    assert known([], masked, axes) == set(axes).issubset(masked)
    assert known([("y", "mul", "x", 2.0)], masked, axes) == set(axes).issubset(masked)


def test_loads_that_are_masked_along_one_axis_each():
    zeros = PaddedLanes([0, 1])
    zeros.note_load("rows", [0])
    zeros.note_load("columns", [1])
    zeros.note_load("both", [0, 1])
    zeros.note("mul", ["rows", "columns"], "product", torch.float32)
    zeros.note("mul", ["both", "rows"], "more", torch.float32)
    assert zeros.all_zero("both")
    # A factor that may be infinite makes no zero of the other.
    assert not any(zeros.all_zero(name) for name in ("rows", "columns", "product", "more", "unheard of"))


@pytest.mark.parametrize(
    "factor, expected",
    [(1.0, True), (2.0**-9, True), (2.0**-10, False), (1e-30, False), (2.0**14, True), (2.0**15, False)],
)
def test_a_divisor_that_may_be_rounded_to_zero_or_to_infinity(factor, expected):
    """Of a half and a factor; there is a narrower dtype in which it is one of them."""
    assert known([("h", "sigmoid", "x"), ("d", "mul", "h", factor), ("y", "truediv", "x", "d")]) == expected


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, None], ids=str)
def test_of_integers_zeros_alone(dtype):
    """Their products wrap: a large one may be 0, and so may be no factor."""
    assert known([("y", "mul", "x", 3)], dtype=dtype)
    assert not known([("c", "exp", "x"), ("y", "sub", "c", 1)], dtype=dtype)
    assert not known([("c", "exp", "x"), ("y", "truediv", "x", "c")], dtype=dtype)
    assert known([("c", "exp", "x"), ("y", "truediv", "x", "c")], dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_against_calculating(dtype):
    """Whatever is called zero is zero, in any dtype, for any value of what is not known."""
    draw, found = random.Random(0), 0
    for _ in range(600):
        steps, names = [], ["x", "other"]
        for at in range(draw.randint(1, 5)):
            op = draw.choice([*UNARY, *BINARY, *BINARY, "where"])
            count = 1 if op in UNARY else 2
            args = [draw.choice([*names, *names, draw.choice(NUMBERS)]) for _ in range(count)]
            if op in UNARY and not isinstance(args[0], str):
                args = ["x"]
            steps.append((f"v{at}", op, *(["other"] if op == "where" else []), *args))
            names.append(f"v{at}")
        if not known(steps, dtype=dtype):
            continue
        found += 1
        for unknown in UNKNOWN:
            values = {"x": torch.tensor(0.0, dtype=dtype), "other": torch.tensor(unknown, dtype=dtype)}
            for name, op, *args in steps:
                given = [
                    values[arg] if isinstance(arg, str) else torch.tensor(arg, dtype=dtype) for arg in args
                ]
                if op == "where":
                    values[name] = torch.where(given[0] > 0, *given[1:])
                else:
                    values[name] = (UNARY | BINARY)[op](*given)
            assert values[steps[-1][0]].item() == 0, (steps, unknown)
    assert found > 50

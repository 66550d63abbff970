"""Operators, conditions, conditionals."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tdsl.diagnostics import TdslError
from tdsl.pipeline import load
from tdsl.source import Source

Check = Callable[..., str]
Mistakes = Callable[..., list[str]]
SIGNATURE = (
    "(x: T[M, N], i: i32[M], b: bool[M], e: f8e4m3[M], f: float, k: int, c: const int = 4) -> y: T[M, N]"
)
USES = "\nu = load i[m] + f + k + c\nw = load b[m]\nz = f32(load e[m])\nstore y[m, n] = load x[m, n]"


@pytest.mark.parametrize(
    ("value", "type"),
    [
        ("load x[m, n] + 1", "T[m, n]"),
        ("load x[m, n] + f", "T[m, n]"),
        ("load i[m] + f", "f32[m]"),
        ("load i[m] / 2", "f32[m]"),
        ("load i[m] // 2", "i32[m]"),
        ("load i[m] + load x[m, n]", "T[m, n]"),
        ("load i[m] ** 2", "i32[m]"),
        ("load i[m] ** -1", "f32[m]"),
        ("load x[m, n] ** 0.5", "T[m, n]"),
        ("load i[m] >> k", "i32[m]"),
        ("load b[m] & (m > 3)", "bool[m]"),
        ("~load b[m]", "bool[m]"),
        ("n < m", "bool[n, m]"),
        ("load b[m] + load i[m]", "i32[m]"),
        ("m - n", "int[m, n]"),
        ("1 if c > 2 else 0.5", "float"),
        ("load x[m, n] if c > 2 else f", "T[m, n]"),
        ("c in (2, 4)", "bool"),
        ("T in (f16, bf16)", "bool"),
        ("not (k > 2 and f < 1.0)", "bool"),
        ("m.start + n.stop", "int"),
        ("-load x[m, n]", "T[m, n]"),
        ("f32(load e[m])", "f32[m]"),
    ],
)
def test_types(check: Check, value: str, type: str) -> None:
    assert check(f"v = {value}{USES}", SIGNATURE).startswith(f"v: {type} = ")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("load x[m, n] & 1", "dtype-mismatch: '&' needs integers or bools"),
        ("load b[m] + load b[m]", "dtype-mismatch: '+' needs numbers"),
        ("-load b[m]", "dtype-mismatch: '-' needs numbers"),
        ("~load x[m, n]", "dtype-mismatch: '~' needs integers or bools"),
        ("load e[m] + 1", "dtype-mismatch: '+' does not work on f8e4m3 (cast it first: f32(load e[m]))"),
        ("load e[m] > 1", "dtype-mismatch: '>' does not work on f8e4m3"),
        ("load i[m] and k > 2", "dtype-mismatch: a condition is true or false; this is i32"),
        ("(load i[m] > 2) and k > 2", "axis-mismatch: a condition is a scalar; this varies over m"),
        (
            "1 if k > 2 else 0",
            "not-constant: the condition of '... if ... else ...' is known at compile time",
        ),
        ("load i[m] ** k", "bad-value: an exponent is a number written as such"),
        ("load i[m] ** 2.5", "bad-value: an exponent is a whole number from -64 to 64, 0.5 or -0.5"),
        ("k // 0", "bad-value: this divides by zero"),
        ("load i[m] << 99", "bad-value: a shift by 99; 0 to 63 is possible"),
        ("'a' + 'b'", "dtype-mismatch: '+' does not work on strings"),
        ("T in (f16, f15)", "unknown-dtype: 'f15' is no dtype (did you mean 'f16'?)"),
        ("load i[m] in (1, 2)", "not-constant: 'in' asks about what is known at compile time"),
        ("tl.float32", "bad-value: 'tl.float32' can only be an argument of a 'tl.' call"),
        ("f.stop", "bad-tile: only a tile has a 'stop'; 'f' is a parameter"),
    ],
)
def test_wrong(mistakes: Mistakes, value: str, said: str) -> None:
    (found,) = mistakes(f"v = {value}{USES}", SIGNATURE)
    assert found.startswith(said)


def test_strings_are_compared_at_compile_time(check: Check) -> None:
    body = "v = load x[m, n]\nif mode == 'double':\n    v = v * 2\nstore y[m, n] = v"
    assert "if at compile time mode == 'double'" in check(body, "(x: T[M, N], mode: const str) -> y: T[M, N]")


@pytest.mark.parametrize(
    ("value", "help"),
    [
        ("where(load x[m, n] > 2.0 | isnan(load x[m, n]), 1, 2)", "(a > b) | c"),
        ("where(isnan(load x[m, n]) & load x[m, n] > 2.0, 1, 2)", "(a > b) & c"),
        ("where(load i[m] > 2 & load i[m] < 9, 1, 2)", "write '(load i[m] > 2) & (load i[m] < ...)'"),
    ],
)
def test_bits_bind_tighter_than_comparisons(value: str, help: str) -> None:
    text = f"template f(x: f32[M, N], i: i32[M]) -> y: f32[M, N]:\n    for m, n in grid(M by 16, N by 16):\n        store y[m, n] = {value}\n"
    with pytest.raises(TdslError) as caught:
        load(Source("<test>", text))
    assert help in str(caught.value)

"""Built-in functions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., str]
Mistakes = Callable[..., list[str]]
SIGNATURE = "(x: T[M, N], w: T[N, N], i: i32[M], b: bool[M, N], e: f8e4m3[N, N]) -> y: T[M, N]"
HEAD = "v = load x[m, n]\nj = whole(N)\n"
USES = "\nu = load w[n, j] + sum(load b[m, n], m)\nz = load i[m]\ns = f32(load e[n, j])\nstore y[m, n] = v"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("zeros(m, n)", "f32[m, n] = full(0, f32[m, n])"),
        ("zeros()", "f32 = full(0, f32)"),
        ("zeros(m, dtype=T)", "T[m] = full(0, T[m])"),
        ("full(n, value=-inf, dtype=promote(T, f64))", "f64[n] = full(-inf, f64[n])"),
        ("sum(v, n)", "T[m] = sum(v, n)"),
        ("sum(v, m, n)", "T = sum(v, m, n)"),
        ("sum(load b[m, n], n)", "i32[m] = sum(load b[m, n], n)"),
        ("argmax(v, n)", "i32[m] = argmax(v, n)"),
        ("cumsum(v, n)", "T[m, n] = cumsum(v, n)"),
        ("exp(load i[m])", "f32[m] = exp(load i[m])"),
        ("exp(v)", "T[m, n] = exp(v)"),
        ("abs(load i[m])", "i32[m] = abs(load i[m])"),
        ("floor(load i[m])", "i32[m] = floor(load i[m])"),
        ("maximum(v, 0)", "T[m, n] = maximum(v, 0)"),
        ("where(m > 3, v, 0)", "T[m, n] = where(m > 3, v, 0)"),
        ("fma(v, 2, v)", "T[m, n] = fma(v, 2, v)"),
        ("cdiv(m, 4)", "int[m] = cdiv(m, 4)"),
        ("next_pow2(N)", "int = next_pow2(N)"),
        ("f32(v)", "f32[m, n] = f32(v)"),
        ("dot(v, load w[n, j])", "f32[m, j] = dot(v, load w[n, j], over n)"),
        ("dot(v, sum(load w[n, j], j))", "f32[m] = dot(v, sum(load w[n, j], j), over n)"),
        (
            "dot(load e[n, j], load e[n, m] else 0)",
            "f32[j, m] = dot(load e[n, j], load e@e_1[n, m?] else 0, over n)",
        ),
        (
            "dot(v, load w[n, j], precision='ieee')",
            "f32[m, j] = dot(v, load w[n, j], over n, precision='ieee')",
        ),
    ],
)
def test_types(check: Check, value: str, text: str) -> None:
    lines = check(f"{HEAD}r = {value}{USES}", SIGNATURE).splitlines()
    assert lines[2] == f"r: {text}"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "sum(v)",
            "bad-call: 'sum' takes at least 2 arguments; this has 1 (name the tile to go along: sum(v, n))",
        ),
        ("sum(v, j)", "axis-mismatch: 'sum' goes along j, over which 'v' does not vary (did you mean 'm'?)"),
        ("sum(v, n, n)", "bad-call: 'sum' names a tile twice"),
        (
            "max(v, 0)",
            "bad-call: 'max' wants the name of a tile; '0' is none (lane by lane, use 'maximum(a, b)'; along a tile, 'max(x, n)')",
        ),
        ("argmax(v, m, n)", "bad-call: 'argmax' takes 2 arguments; this has 3"),
        (
            "where(v, 1, 0)",
            "dtype-mismatch: 'where' asks true or false first; this is T (compare it: (v) != 0)",
        ),
        ("exp(v, n)", "bad-call: 'exp' takes 1 argument; this has 2"),
        ("exp(v, base=2)", "bad-call: 'exp' has no 'base='"),
        ("expp(v)", "unknown-name: there is no function 'expp' (did you mean 'exp'?)"),
        ("v(1)", "bad-call: 'v' is a variable, not a function"),
        ("full(m)", "bad-call: 'full' lacks its value (full(m, value=0))"),
        ("full(m, value=v)", "axis-mismatch: 'full' takes a scalar; this varies over m, n"),
        ("zeros(m, m)", "bad-call: 'zeros' names a tile twice"),
        ("max(load b[m, n], n)", "dtype-mismatch: 'max' needs numbers"),
        ("exp(load e[n, j])", "dtype-mismatch: 'exp' does not work on f8e4m3"),
        (
            "dot(v, v)",
            "axis-mismatch: 'dot' needs exactly one shared tile; 'v' and 'v' share m and n "
            "(sum(v * v, m, n) contracts both",
        ),
        (
            "dot(v, load i[m])",
            "dtype-mismatch: 'dot' multiplies floats with floats, or integers with integers",
        ),
        ("dot(v, load e[n, j])", "dtype-mismatch: 'dot' takes 8-bit floats on both sides or on none"),
        ("dot(v, n)", "dtype-mismatch: 'dot' multiplies floats with floats"),
        (
            "dot(v, load w[n, j], precision='fast')",
            "bad-value: 'precision' is one of 'ieee', 'tf32', 'tf32x3'",
        ),
        ("cdiv(m, 0)", "bad-value: this divides by zero"),
        ("whole(N)", "bad-tile: 'whole' makes a tile"),
    ],
)
def test_wrong(mistakes: Mistakes, value: str, said: str) -> None:
    value = f"(0 + {value})" if value == "whole(N)" else value
    (found,) = mistakes(f"{HEAD}r = {value}{USES}", SIGNATURE)
    assert found.startswith(said)


def test_the_contracted_block(mistakes: Mistakes) -> None:
    body = (
        "acc = zeros(m, n)\nfor k in M by 8:\n    acc += dot(load a[m, k], load b[k, n])\nstore y[m, n] = acc"
    )
    signature = "(a: {0}[M, M], b: {0}[M, N]) -> y: f32[M, N]"
    (found,) = mistakes(body, signature.format("f16"))
    assert found.startswith("bad-block: 'dot' contracts at least 16 lanes at a time; a block of k has 8")
    (found,) = mistakes(body.replace("by 8", "by 16"), signature.format("f8e5m2"))
    assert found.startswith("bad-block: 'dot' contracts at least 32 lanes at a time; a block of k has 16")

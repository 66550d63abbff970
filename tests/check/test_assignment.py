"""A variable keeps the dtype and the tiles of its first value."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., str]
Mistakes = Callable[..., list[str]]
STORE = "\nstore y[m, n] = load x[m, n]"


def test_what_fits(check: Check) -> None:
    body = "a = zeros(m, n)\na = load x[m, n]\na = 0\na += m\na = load x[m, 0] if M > 4 and N > 0 else 0"
    with_else = body.replace("load x[m, 0] if", "f32(m) if")
    assert "a: f32[m, n] = full(0, f32[m, n])\na = load x[m, n]\na = 0\na = a + m" in check(with_else + STORE)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "a = load x[m, n]\na = f32(a)",
            "dtype-mismatch: 'a' is T; f32 does not fit into it (cast it: T(f32(a)))",
        ),
        ("a = i32(0)\na /= 2", "dtype-mismatch: 'a' is i32; f32 does not fit into it (cast it: i32(2))"),
        (
            "a = 0\na = f32(1)",
            "dtype-mismatch: 'a' began as a number without a dtype; f32 does not fit into it "
            "(begin it with a dtype: f32(...))",
        ),
        (
            "a = 0\na = a + 0.5",
            "dtype-mismatch: 'a' began as a number without a dtype; float does not fit into it "
            "(begin it with a dtype: f32(...))",
        ),
        (
            "a = zeros(m)\na = zeros(m, n)",
            "axis-mismatch: 'a' does not vary over n, and this value does "
            "(reduce it, such as sum(zeros(m, n), n), or start 'a' with these tiles: zeros(m, n))",
        ),
        (
            "a = zeros(m)\nfor k in N by 16:\n    a += load x[m, k]",
            "escaped-value: 'a' outlives the loop of k, over which this value varies "
            "(reduce it, such as sum(load x[m, k], k))",
        ),
    ],
)
def test_what_does_not(mistakes: Mistakes, body: str, said: str) -> None:
    assert mistakes(body + STORE) == [said]


def test_the_dtype_of_a_dot_over_variables_is_checked_for_each(mistakes: Mistakes) -> None:
    body = "acc = zeros(m, n)\nfor k in M by 16:\n    acc += dot(load x[m, k], load w[k, n])\nstore y[m, n] = acc"
    signature = "(x: T[M, M], w: T[M, N]) -> y: T[M, N]\nwhere T in ({})"
    assert mistakes(body, signature.format("f16, f32")) == []
    (found,) = mistakes(body, signature.format("f32, f64"))
    assert found.startswith("dtype-mismatch: 'acc' is f32; T does not fit into it")

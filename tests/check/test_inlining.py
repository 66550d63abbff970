"""Helpers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., str]
Mistakes = Callable[..., list[str]]
STORE = "store y[m, n] = {}(load x[m, n])"


def test_an_argument_is_bound_once(check: Check) -> None:
    text = check(STORE.format("silu"), before="def silu(x): return x * sigmoid(x)\n")
    assert text == "store y[m, n] = silu{x_1: T[m, n] = load x[m, n]; x_1 * sigmoid(x_1)}"


def test_names_numbers_tiles_and_dtypes_are_put_in(check: Check) -> None:
    before = "def norm(v, n, T, p): return T(v / (sum(v ** p, n) + n.stop))\n"
    text = check("v = f32(load x[m, n])\nstore y[m, n] = norm(v, n, T, 2)", before=before)
    assert text.splitlines()[1] == "store y[m, n] = T(v / (sum(v ** 2, n) + n.stop))"


def test_statements_of_a_helper_make_variables(check: Check) -> None:
    before = "def f(v):\n    w = v + 1\n    w *= 2\n    v = w\n    return v - w\n"
    text = check(STORE.format("f"), before=before)
    assert text == (
        "store y[m, n] = f{v: T[m, n] = load x[m, n]; w: T[m, n] = v + 1; w_1: T[m, n] = w * 2; "
        "v_1: T[m, n] = w_1; v_1 - w_1}"
    )


def test_helpers_call_helpers(check: Check) -> None:
    before = "def f(v): return g(v) + 1\ndef g(v): return v * v\n"
    assert check(STORE.format("f"), before=before).endswith("v * v + 1}")


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("def f(v): return f(v)", "recursion: 'f' calls itself"),
        ("def f(v): return g(v)\ndef g(v): return f(v)", "recursion: 'f' calls 'g' calls 'f'"),
        ("def f(v): return v + M", "unknown-name: there is no 'M' here"),
        ("def f(v): return v + vv", "unknown-name: there is no 'vv' here"),
        ("def f(v, w): return v", "bad-call: 'f' takes 2 arguments without names; this has 1"),
        ("def f(v): return sum(v, v)", "bad-call: 'sum' wants the name of a tile"),
        ("def f(v): return load x[0, 0]", "bad-point: a helper has no load points"),
        ("def f(v): return silu(v)", "unknown-name: there is no function 'silu'"),
        ("def f(v): return v & 1", "dtype-mismatch: '&' needs integers or bools"),
        ("def f(v):\n    v = f32(v)\n    return v", "dtype-mismatch: 'v' is T; f32 does not fit into it"),
        ("def f(v):\n    w = v\n    w = 0\n    return w", "axis-mismatch: in a helper, a later value of 'w'"),
        ("def f(v): return v\ndef f(v): return v", "duplicate-name: there is a helper 'f' already"),
    ],
)
def test_wrong(mistakes: Mistakes, before: str, said: str) -> None:
    (found,) = mistakes(STORE.format("f"), before=before + "\n")
    assert found.startswith(said)


def test_a_mistake_is_told_once_however_often_a_helper_is_called(mistakes: Mistakes) -> None:
    body = "a = f(load x[m, n])\nb = f(load x[m, n])\nstore y[m, n] = f(a) + f(b)"
    assert len(mistakes(body, before="def f(v): return v & 1\n")) == 1


def test_helpers_that_nobody_calls_are_looked_at(mistakes: Mistakes) -> None:
    assert mistakes("store y[m, n] = load x[m, n]", before="def f(v): return w\n") == [
        "unknown-name: there is no 'w' here (a helper knows its parameters and nothing of the template)"
    ]


def test_expansion_has_an_end(mistakes: Mistakes) -> None:
    chain = "".join(f"def h{at}_(v): return h{at + 1}_(v + 1) * h{at + 1}_(v + 2)\n" for at in range(40))
    before = chain + "def h40_(v): return v + 1\n"
    found = mistakes(STORE.format("h0_"), before=before)
    assert found and {line.split(":")[0] for line in found} <= {"too-large", "too-deep"}


def test_a_long_chain_of_helpers_is_refused(mistakes: Mistakes) -> None:
    before = (
        "".join(f"def h{at}_(v): return h{at + 1}_(v + 1)\n" for at in range(400))
        + "def h400_(v): return v\n"
    )
    found = mistakes(STORE.format("h0_"), before=before)
    assert [line.split(":")[0] for line in found] == ["too-deep"]

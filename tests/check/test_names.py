"""Names: what each stands for, and what is said of one that stands for nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tdsl.diagnostics import TdslError
from tdsl.pipeline import check_text
from tdsl.source import Source

Check = Callable[..., str]
Mistakes = Callable[..., list[str]]


def test_values(check: Check) -> None:
    body = "v = load x[m, n]\nw = v * M + m - inf\nstore y[m, n] = w"
    assert check(body).splitlines()[1] == "w: T[m, n] = v * M + m - inf"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vlaue", "unknown-name: there is no 'vlaue' here (did you mean 'value'?)"),
        ("zzz", "unknown-name: there is no 'zzz' here"),
        ("f32", "bad-value: 'f32' is a dtype (a cast is 'f32(x)')"),
        ("T", "bad-value: 'T' is a dtype (a cast is 'T(x)')"),
        ("exp", "bad-value: 'exp' is a built-in function (call it: 'exp(...)')"),
        ("half", "bad-value: 'half' is a helper (call it: 'half(...)')"),
        ("y", "bad-point: 'y' is an output; it cannot be read"),
        (
            "x",
            "bad-value: 'x' is a tensor, not a value (read it with 'load x[...]', one subscript for each of [M, N])",
        ),
    ],
)
def test_no_value(mistakes: Mistakes, name: str, said: str) -> None:
    body = f"value = load x[m, n]\nstore y[m, n] = value + {name}"
    assert mistakes(body, before="def half(v): return v / 2\n") == [said]


def test_a_mistake_is_told_once(mistakes: Mistakes) -> None:
    body = "a = unknown\nb = a + 1\nc = sum(b, n)\nstore y[m, n] = load x[m, n] + c"
    assert mistakes(body) == ["unknown-name: there is no 'unknown' here"]


def test_a_name_of_an_ended_loop(mistakes: Mistakes) -> None:
    body = "for k in N by 16:\n    a = load x[m, k]\nstore y[m, n] = sum(a, n) + k"
    assert mistakes(body) == [
        "escaped-value: 'a' belongs to the loop of k, which has ended "
        "(to keep it, declare it before the loop: a = zeros(...))",
        "escaped-value: 'k' is a tile, and its loop has ended (use 'k' inside its loop)",
    ]


def test_a_missing_name_shows_where_else_it_is_used() -> None:
    text = "template t(x: f32[M]) -> y: f32[M]:\n    for m in grid(M by 64):\n        a = eps\n        store y[m] = eps * load x[m]"
    with pytest.raises(TdslError) as caught:
        check_text(Source("<test>", text))
    (mistake,) = caught.value.diagnostics
    assert [(repr(label.span), label.text) for label in mistake.labels] == [("<test>:4:22", "and here")]

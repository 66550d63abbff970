"""The grid, loops, tiles, branches, and how long a name lives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., str]
Mistakes = Callable[..., list[str]]
STORE = "\nstore y[m, n] = load x[m, n]"


def test_a_loop_may_use_a_name_again(check: Check) -> None:
    body = "for k in N by 16:\n    a = load x[m, k]\nfor k in N by 16:\n    a = load x[m, k]" + STORE
    text = check(body)
    assert "for k_1: 0 to N by 16\n  a_1: T[m, k_1] = load x@x_1[m, k_1]" in text


def test_a_variable_that_every_branch_begins_alike_lives_on(check: Check) -> None:
    body = (
        "if f > 0:\n    v = zeros(m)\nelif f > 1:\n    v = f32(m)\nelse:\n    v = f32(m) + 1"
        + STORE
        + " + v * f"
    )
    text = check(body, "(x: T[M, N], f: int) -> y: T[M, N]")
    assert text.count("v: f32[m] = ") == 3
    assert "v_1" not in text


def test_branches_that_differ_do_not_share_a_variable(check: Check, mistakes: Mistakes) -> None:
    branches = "if f > 0:\n    v = zeros(m)\nelse:\n    v = zeros(m, n)"
    signature = "(x: T[M, N], f: int) -> y: T[M, N]"
    assert "v_1: f32[m, n]" in check(branches + STORE, signature)
    assert mistakes(branches + STORE + " + v", signature) == [
        "unknown-name: 'v' is not there in every case: it belongs to a branch of an 'if' "
        "(declare 'v' before the 'if', or alike in every branch)"
    ]


def test_a_branch_alone_keeps_its_variables(mistakes: Mistakes) -> None:
    body = "if f > 0:\n    v = zeros(m)" + STORE + " + v"
    assert [line.split(":")[0] for line in mistakes(body, "(x: T[M, N], f: int) -> y: T[M, N]")] == [
        "unknown-name"
    ]


def test_an_optional_tensor_is_there_where_it_was_asked_for(check: Check, mistakes: Mistakes) -> None:
    signature = "(x: T[M, N], b: T[N]?, c: T[N]?) -> y: T[M, N]"
    good = [
        "v = load b[n] if b else 0",
        "v = f32(0)\nif b and c:\n    v = f32(0)\n    w = load b[n] + load c[n]",
        "v = f32(0)\nif not b:\n    v = f32(1)\nelse:\n    w = load b[n]",
        "v = f32(0)\nif not b or not c:\n    v = f32(1)\nelif true:\n    w = load b[n] * load c[n]",
    ]
    for body in good:
        use = "" if "load c" in body else "\nif c:\n    u = load c[n]"
        assert check(body + use + STORE + " + v", signature)
    body = "v = f32(0)\nif b or c:\n    w = load b[n]\nif not c:\n    w = load c[n]"
    assert [line.split(";")[0] for line in mistakes(body + STORE, signature)] == [
        "bad-point: 'b' may be None (test it with 'if b:', alone or with compile-time conditions)",
        "bad-point: 'c' may be None (test it with 'if c:', alone or with compile-time conditions)",
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("for i in grid(M):\n    pass", "bad-grid: the grid is the outermost loop"),
        ("for i in 0 to m:\n    pass", "axis-mismatch: the range of a tile is a scalar; this varies over m"),
        ("for i in 2.5:\n    pass", "bad-tile: the range of a tile is an integer; this is float"),
        ("for m in M:\n    pass", "duplicate-name: 'm' is a tile already"),
        ("w = whole(N, M)", "bad-call: 'whole' takes one dimension; this has 2"),
        ("if m > 3:\n    pass", "axis-mismatch: a condition is a scalar; this varies over m"),
        ("m += 1", "duplicate-name: 'm' is a tile; only a variable can change"),
        ("v += 1", "unknown-name: there is no 'v' here"),
    ],
)
def test_wrong(mistakes: Mistakes, body: str, said: str) -> None:
    (found,) = mistakes(body + STORE)
    assert found.startswith(said)


def test_what_follows_a_wrong_loop_is_not_complained_about(mistakes: Mistakes) -> None:
    body = "for k in N by BLOCK:\n    a = load x[m, k]\n    b = sum(a, k)" + STORE
    assert [line.split(":")[0] for line in mistakes(body)] == ["unknown-name"]

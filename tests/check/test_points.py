"""Load and store points."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., str]
Mistakes = Callable[..., list[str]]
SIGNATURE = "(x: T[M, N], ids: i64[M], b: T[N]?) -> (y: T[M, N], s: f32[M])"
USES = "\nu = load ids[m]\nif b:\n    w = load b[n]\n"
STORES = USES + "store y[m, n] = load x[m, n]\naccumulate s[m] += sum(load x[m, n], n)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("load x[m, n]", "T[m, n] = load x[m, n]"),
        ("load x[m, 0]", "T[m] = load x[m, 0]"),
        ("load x[m, n + 1] else -inf", "T[m, n] = load x[m, n + 1?] else -inf"),
        ("load x[load ids[m], n] unchecked", "T[m, n] = load x[load ids[m]?, n] unchecked"),
        ("load x[m, n] nofuse", "T[m, n] = load x[m, n] nofuse"),
        ("load x[m, n] fuse", "T[m, n] = load x[m, n] fuse"),
        ("load ids[m.start]", "i64 = load ids[m.start]"),
    ],
)
def test_loads(check: Check, value: str, text: str) -> None:
    assert check(f"v = {value}{STORES}", SIGNATURE).splitlines()[0] == f"v: {text}"


def test_each_load_is_a_point(check: Check) -> None:
    text = check("v = load x[m, n] + load x[m, n]" + STORES, SIGNATURE)
    assert "load x[m, n] + load x@x_1[m, n]" in text


def test_a_point_is_not_called_as_another_tensor(check: Check) -> None:
    text = check(
        "store y[m, n] = load x[m, n] + load x[m, n] + load x_1[m]", "(x: T[M, N], x_1: T[M]) -> y: T[M, N]"
    )
    assert text == "store y[m, n] = load x[m, n] + load x@x_2[m, n] + load x_1[m]"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("v = load x[m]", "wrong-rank: 'x' has 2 dimensions, [M, N]; here is 1 subscript"),
        ("v = load z[m]", "unknown-name: there is no tensor 'z'"),
        ("v = load u[m]", "unknown-name: there is no tensor 'u'"),
        ("v = load m[0]", "bad-point: 'm' is a tile, not a tensor"),
        ("v = load y[m, n]", "bad-point: 'y' is an output; it cannot be read"),
        ("v = load b[n]", "bad-point: 'b' may be None"),
        ("v = load x[m, 0.5]", "dtype-mismatch: a subscript is an integer; this is float"),
        (
            "v = load x[m, n / 2]",
            "dtype-mismatch: a subscript is an integer; this is float ('//' divides integers)",
        ),
        ("v = load x[m, n + 1] else load ids[m]", "axis-mismatch: what to read outside is one scalar"),
        ("v = load ids[m] else 0.5", "dtype-mismatch: float does not fit into i64, the dtype of ids"),
        ("v = load x[m, n] else 1", "needless-option: this is never read: every subscript is proven"),
        (
            "v = load x[m, n] unchecked",
            "needless-option: 'unchecked' says nothing: every subscript is proven",
        ),
        ("accumulate s[m] else skip += 1", "needless-option: 'else skip' says nothing"),
        ("accumulate s[m] unchecked += 1", "needless-option: 'unchecked' says nothing"),
        ("accumulate s[m] else 0 += 1", "syntax: "),
        ("accumulate s[m] else none += 1", "bad-point: what is outside has no 'none'"),
        ("v = load x[m, n + 1]", "out-of-bounds: 'n + 1' may be N; dimension 1 of x is N"),
        ("v = load x[load ids[m], n]", "out-of-bounds: 'load ids[m]' depends on what ids holds"),
        ("store x[m, n] = 0", "bad-point: 'x' is an input; it cannot be written"),
        ("accumulate x[m, n] += 0", "bad-point: 'x' is an input; it cannot be written"),
        ("accumulate s[load ids[m]] += 1.0", "out-of-bounds: 'load ids[m]' depends on what ids holds"),
        (
            "accumulate s[m] += load x[m, n]",
            "axis-mismatch: the value added also varies over n, and s does not",
        ),
    ],
)
def test_wrong(mistakes: Mistakes, line: str, said: str) -> None:
    (found,) = mistakes(line + STORES, SIGNATURE)
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("store y[m, m] = 0", "partial-store: 'm' is two subscripts; this stores a diagonal of y"),
        ("store y[m, 0] = 0", "partial-store: '0' does not cover dimension 1 of y, N"),
        ("store y[n, m] = 0", "out-of-bounds: 'n' goes up to N; dimension 0 of y is M"),
        ("store y[m, n] = sum(load x[m, n], m, n) + k", "axis-mismatch: the value stored also varies over k"),
        ("for i in M:\n    store y[m, n] = 0", "stored-twice: y does not vary over i"),
        ("for i in 0 to n.stop by 16:\n    store y[m, i] = 0", "partial-store: 'i' goes from 0 to n.stop"),
        ("for i in 1 to N by 16:\n    store y[m, i] = 0", "partial-store: 'i' goes from 1 to N"),
        ("i = whole(N)\nstore y[m, i] = 0", "stored-twice: y does not vary over n"),
        ("store y[m, n] = 'text'", "dtype-mismatch: a tensor cannot hold a string"),
    ],
)
def test_wrong_stores(mistakes: Mistakes, body: str, said: str) -> None:
    found = mistakes("k = whole(N)\nv = load x[m, n]\n" + body)
    assert found and found[0].startswith(said)


def test_dimensions_that_a_guard_makes_equal_are_equal(check: Check) -> None:
    signature = "(x: T[M, N]) -> y: T[N, M]\nwhere M == N"
    assert check("store y[m, n] = load x[m, n]", signature)


def test_a_dimension_of_one(check: Check) -> None:
    assert check("store y[m, 0, n] = load x[m, n]", "(x: T[M, N]) -> y: T[M, 1, N]")

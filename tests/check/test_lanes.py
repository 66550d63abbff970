"""Built-ins that see the lanes of a tile together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., str]
Mistakes = Callable[..., list[str]]
SIGNATURE = "(x: T[M, N], i: i32[M], d: f64[M, N]) -> y: T[M, N]"
HEAD = "v = load x[m, n]\nj = whole(4)\nw = whole(N)\nu = load x[m, w]\nt = load i[m]\ne = load d[m, n]\n"
USES = "\nstore y[m, n] = v"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("sort(v, n)", "T[m, n] = sort(v, n)"),
        ("sort(v, n, descending=true)", "T[m, n] = sort(v, n, descending)"),
        ("argsort(v, m)", "i32[m, n] = argsort(v, m)"),
        ("topk(u, w, j)", "T[m, j] = topk(u, w, j, descending)"),
        ("argtopk(u, w, j)", "i32[m, j] = argtopk(u, w, j, descending)"),
        ("flip(v > 0, n)", "bool[m, n] = flip(v > 0, n)"),
        ("histogram(t, m, j)", "i32[j] = histogram(t, m, j)"),
        ("take(u, w, t, other=0)", "T[m] = take(u, w, t, 0)"),
        ("take(u, w, j)", "T[m, j] = take(u, w, j)"),
        ("take(v, n, n.start)", "T[m] = take(v, n, n.start)"),
        ("padded(v, n)", "T[m, n] = padded(v, n, 0)"),
        ("padded(v, n, value=-inf)", "T[m, n] = padded(v, n, -inf)"),
    ],
)
def test_types(check: Check, value: str, text: str) -> None:
    lines = check(f"{HEAD}r = {value}{USES}", f"{SIGNATURE}\nwhere N >= 4")
    assert f"r: {text}" in lines.splitlines()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("sort(v)", "bad-call: 'sort' takes 2 arguments; this has 1 (name the tile to go along: sort(v, n))"),
        ("sort(v, j)", "axis-mismatch: 'sort' goes along j, over which 'v' does not vary"),
        ("sort(v, n, descending=1)", "bad-value: 'descending' is true or false"),
        ("sort(v > 0, n)", "dtype-mismatch: 'sort' needs numbers"),
        ("argsort(e, n)", "dtype-mismatch: 'argsort' takes numbers of up to 32 bits; this is f64"),
        ("argsort(n, n)", "dtype-mismatch: 'argsort' takes numbers of up to 32 bits; this is an index"),
        (
            "topk(u, w, j)",
            "out-of-bounds: 'topk' gives 4 lanes; w may have fewer (if it is so, say it in a guard, 'where 4 <= N')",
        ),
        ("topk(v, n, j)", "out-of-bounds: 'topk' gives 4 lanes; n may have fewer in a block"),
        ("topk(v, n, n)", "axis-mismatch: 'topk' wants another tile; 'v' varies over n already"),
        ("topk(u, w, n)", "bad-tile: 'topk' wants a tile made by 'whole'; 'n' is the tile of a loop"),
        ("topk(u, w, 4)", "bad-call: 'topk' wants the name of a tile; '4' is none"),
        ("histogram(v, n, j)", "dtype-mismatch: 'histogram' needs integers"),
        ("take(u, w, t)", "out-of-bounds: 't' may be anything, and there may be no such lane in w"),
        ("take(u, w, j)", "out-of-bounds: 'j' may be 3, and there may be no such lane in w"),
        ("take(u, w, w, other=0)", "bad-call: 'w' is inside of w; 'other=' would never be read"),
        ("take(u, w, v)", "dtype-mismatch: 'take' wants an integer; this is T"),
        ("take(u, w, t, other=v)", "axis-mismatch: 'other=' is one scalar; this varies over m, n"),
        ("padded(t, m, value=0.5)", "dtype-mismatch: float does not fit into i32 (cast it: i32(0.5))"),
    ],
)
def test_wrong(mistakes: Mistakes, value: str, said: str) -> None:
    (found,) = mistakes(f"{HEAD}r = {value}{USES}", SIGNATURE)
    assert found.startswith(said)

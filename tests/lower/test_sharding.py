"""Which dimensions may be cut in parts that are computed apart."""

from __future__ import annotations

import pytest

from tdsl import pipeline
from tdsl.lower.facts.sharding import independent_dims
from tdsl.source import Source


def dims(text: str) -> dict[str, dict[str, int]]:
    return independent_dims(pipeline.load(Source("<string>", text), "f"))


MATMUL = """
template f(A: f16[M, K], B: f16[K, N]) -> C: f16[M, N]:
    for m, n in grid(M by 32, N by 32):
        acc = zeros(m, n)
        for k in K by 32:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc
"""
ROWS = """
template f(x: f32[R..., N], w: f32[N]) -> (y: f32[R..., N], s: f32[R...]):
    for r in grid(R by 4):
        n = whole(N)
        v = load x[r, n] * load w[n]
        store y[r, n] = v / sum(v, n)
        store s[r] = sum(v, n)
"""


def test_what_may_be_cut():
    assert dims(MATMUL) == {"M": {"A": 0, "C": 0}, "N": {"B": 1, "C": 1}}
    assert dims(ROWS) == {"R": {"x": 0, "y": 0, "s": 0}}


POINTWISE = """
template f(x: f32[M, N], z: f32[M]) -> y: f32[M, N]:
    for m, n in grid(M by 4, N by 32):
        store y[m, n] = WHAT + load z[m]
"""


@pytest.mark.parametrize(
    "what, names",
    [
        ("load x[m, n] * 2", "MN"),
        ("load x[m, n] / M", "N"),
        ("where(n > 2, load x[m, n], 0.0)", "M"),
        ("where(m >= n, load x[m, n], 0.0)", ""),
        ("load x[m + 1, n] else 0", "N"),
        ("load x[m, N - 1 - n]", "M"),
        ("load x[m, n] + f32(m.start)", "N"),
        ("load x[m, 0]", "M"),
        ("tl.exp(load x[m, n])", ""),
    ],
)
def test_what_may_not(what, names):
    guarded = POINTWISE.replace("WHAT", what)
    assert "".join(dims(guarded)) == names


@pytest.mark.parametrize(
    "text, names",
    [
        # The order of the axes changes; a size that is guarded; a sum over all rows; a computed size.
        ("template f(x: f32[M, N]) -> y: f32[N, M]:\n    for m, n in grid(M by 4, N by 4):\n        store y[n, m] = load x[m, n]\n", "MN"),
        ("template f(x: f32[N]) -> y: f32[N]\nwhere N % 8 == 0:\n    for n in grid(N by 8):\n        store y[n] = load x[n]\n", ""),
        ("template f(x: f32[M, N]) -> s: f32[N]:\n    for m, n in grid(M by 4, N by 4):\n        accumulate s[n] += sum(load x[m, n], m)\n", "N"),
        ("template f(x: f32[N]) -> y: f32[2 * N]:\n    for n in grid(2 * N by 8):\n        store y[n] = load x[n // 2]\n", ""),
        ("template f(x: f32[R...]) -> (y: f32[R...], z: f32[R]):\n    for r in grid(R by 8):\n        store y[r] = load x[r]\n        store z[r] = load x[r]\n", ""),
        ("template f(inout x: f32[M], w: f32[M, N]) -> y: f32[M, N]:\n    for m in grid(M by 1):\n        store x[m] = 1.0\n        for n in N by 8:\n            store y[m, n] = load w[m, n]\n", "M"),
        ("template f(i: i64[R], t: f32[V, N]) -> y: f32[R, N]:\n    for r, n in grid(R by 1, N by 8):\n        store y[r, n] = load t[load i[r], n] else 0\n", "RN"),
    ],
)  # fmt: skip
def test_signatures(text, names):
    assert "".join(dims(text)) == names

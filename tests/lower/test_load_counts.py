"""How many elements each load point loads, all programs together."""

from __future__ import annotations

import math

import pytest

from tdsl.lower.emit.emission import lower
from tdsl.lower.facts.binding import Binding, TensorArg
from tdsl.pipeline import load
from tdsl.source import Source

MATMUL = """
template t(A: f32[M, K], B: f32[K, N]) -> C: f32[M, N]:
    config BLOCK_M=32, BLOCK_N=64
    config BLOCK_M=64, BLOCK_N=64
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in K by 16:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc
"""
CAUSAL = """
template t(A: f32[M, N], B: f32[N]) -> C: f32[M, N]:
    for m in grid(M by 32):
        total = zeros(m)
        for n in 0 to m.stop by 16:
            total += sum((load A[m, n] else 0) * (load B[n] else 0), n)
        for n in N by 16:
            store C[m, n] = load A[m, n] + total
"""
GATHER = """
template t(A: i64[M], B: f32[V, N]) -> C: f32[M, N]:
    for m, n in grid(M, N by 64):
        row = load A[m]
        store C[m, n] = load B[row, n] else 0
"""
ROWS = """
template t(A: f32[R..., N], B: f32[N]) -> C: f32[R..., N]:
    for r in grid(R by 4):
        n = whole(N)
        store C[r, n] = load A[r, n] * load B[n]
"""
SCALARS = """
template t(A: f32[M, N], B: f32[M]) -> C: f32[M, N]:
    for m, n in grid(M, N by 64):
        again = m + 0
        store C[m, n] = load A[again, n] * load B[m]
"""
CASES = {
    "matmul": (MATMUL, {"A": (100, 70), "B": (70, 200), "C": (100, 200)}, {"A": 7000 * 4, "B": 14000 * 4}),
    # The first loop goes half of the way on average.
    "causal": (
        CAUSAL,
        {"A": (128, 128), "B": (128,), "C": (128, 128)},
        {"A": 128 * 64, "B": 64 * 4, "A_1": 128 * 128},
    ),
    "gather": (GATHER, {"A": (10,), "B": (10**6, 100), "C": (10, 100)}, {"A": 10 * 2, "B": 1000}),
    "rows": (ROWS, {"A": (3, 5, 100), "B": (100,), "C": (3, 5, 100)}, {"A": 1500, "B": 100 * 4}),
    "scalars": (SCALARS, {"A": (10, 100), "B": (10,), "C": (10, 100)}, {"A": 1000, "B": 10 * 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_elements(case: str) -> None:
    template, shapes, expected = CASES[case]
    kernel = load(Source("<test>", template), None)
    source = lower(
        kernel, Binding(tensors={name: _tensor(name, case, shape) for name, shape in shapes.items()})
    )
    assert {slot.point: slot.elements for slot in source.load_slots()} == expected


def test_dynamic_sizes_count_as_likely() -> None:
    kernel = load(Source("<test>", MATMUL), None)
    tensors = {
        "A": TensorArg(dtype="f32", shape=("ks0", 70), strides=(70, 1)),
        "B": TensorArg(dtype="f32", shape=(70, "ks1"), strides=("ks1", 1)),
        "C": TensorArg(dtype="f32", shape=("ks0", "ks1"), strides=("ks1", 1)),
    }
    source = lower(kernel, Binding(tensors=tensors, hints={"ks0": 100, "ks1": 200}))
    assert [slot.elements for slot in source.load_slots()] == [28000, 56000]


def _tensor(name: str, case: str, shape: tuple[int, ...]) -> TensorArg:
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return TensorArg(dtype="i64" if (case, name) == ("gather", "A") else "f32", shape=shape, strides=strides)

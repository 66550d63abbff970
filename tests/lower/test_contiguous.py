"""The binding for no call in particular: what is given counts, what is not stays open."""

from __future__ import annotations

import pytest

from tdsl.lower.facts import extents
from tdsl.lower.facts.contiguous import contiguous
from tdsl.pipeline import load
from tdsl.source import Source

PADDED = """
template t(x: T[M, N], p: int, e: float) -> y: T[M, DIM]
where T in (bf16, f32), M >= 1, N >= 1:
    config BLOCK=16
    for m, n in grid(M by BLOCK, DIM by 16):
        store y[m, n] = T(f32(load x[m, 0]) + e + f32(p))
"""
ROWS = """
template t(x: f32[R..., N], w: f32[N]?) -> y: f32[R..., N]:
    for r in grid(R by 4):
        n = whole(N)
        v = load x[r, n]
        if w:
            v = v * load w[n]
        store y[r, n] = v
"""


def binding(dim="N", **options):
    text = PADDED.replace("DIM", dim)
    return contiguous(load(Source("<test>", text), None), **options)


@pytest.mark.parametrize(
    "dims, shape, strides, sizes",
    [
        ({}, ("size_M", "size_N"), ("size_N", 1), ("size_M", "size_N")),
        ({"M": 7}, (7, "size_N"), ("size_N", 1), ("size_N",)),
        ({"N": 7}, ("size_M", 7), (7, 1), ("size_M",)),
        ({"M": 3, "N": 7}, (3, 7), (7, 1), ()),
        ({"M": 3, "N": 1}, (3, 1), (1, 1), ()),
    ],
)
def test_sizes(dims, shape, strides, sizes):
    found, arguments = binding(dims=dims)
    for name in ("x", "y"):
        tensor = found.tensors[name]
        assert (tensor.shape, tensor.strides, tensor.offset) == (shape, strides, 0)
    assert arguments == (*sizes, "p_", "e_")


@pytest.mark.parametrize("dtypes, expected", [({}, "bf16"), ({"T": "f32"}, "f32")])
def test_dtypes(dtypes, expected):
    found, _ = binding(dtypes=dtypes)
    assert {tensor.dtype for tensor in found.tensors.values()} == {expected}


def test_scalars():
    """An integer may be negative, which a size is not."""
    found, _ = binding()
    assert found.scalars == {"p": extents.Signed("p_"), "e": "e_"}


@pytest.mark.parametrize(
    "dim, known, of",
    [
        ("2 * N", 14, lambda n: 2 * n),
        ("N + 3", 10, lambda n: n + 3),
        ("cdiv(N, 4) * 4", 8, lambda n: -(-n // 4) * 4),
        ("N // 2 + N", 10, lambda n: n // 2 + n),
    ],
)
def test_a_size_that_is_calculated(dim, known, of):
    assert binding(dim, dims={"N": 7})[0].tensors["y"].shape[1] == known
    size = binding(dim)[0].tensors["y"].shape[1]
    assert [extents.evaluate(size, {"size_N": n}) for n in range(1, 9)] == [of(n) for n in range(1, 9)]


@pytest.mark.parametrize("absent", [(), ("w",)])
def test_leading_sizes_and_what_is_not_passed(absent):
    kernel = load(Source("<test>", ROWS), None)
    found, arguments = contiguous(kernel, dims={"N": 8}, absent=absent)
    assert found.tensors["x"].shape == ("size_R", 8) and arguments == ("size_R",)
    assert (found.tensors["w"] is None) == bool(absent)
    found, arguments = contiguous(kernel, dims={"R": 5}, absent=absent)
    assert found.tensors["y"].shape == (5, "size_N") and arguments == ("size_N",)

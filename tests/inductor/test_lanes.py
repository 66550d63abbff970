"""What looks along a tile, with work fused before and behind it: no lane is seen that a prologue made."""

from __future__ import annotations

import pytest
import torch

import tdsl
from tdsl import testing
from tdsl.testing import assert_fused

DEVICE = testing.device()


@tdsl.template(
    source="""
template ordered(x: T[M, N]) -> (up: T[M, N], most: T[M, 3], where_most: i32[M, 3], at: i32[M], back: T[M, N], bins: i32[M, 5])
where T in (f16, bf16, f32), N >= 3:
    config BLOCK=4
    for m in grid(M by BLOCK):
        n = whole(N)
        j = whole(3)
        b = whole(5)
        v = load x[m, n]
        store up[m, n] = sort(v, n)
        store most[m, j] = topk(v, n, j)
        store where_most[m, j] = argtopk(v, n, j)
        i = argmax(v, n)
        store at[m] = i
        store back[m, n] = flip(v, n)
        store bins[m, b] = histogram(i32(floor(v)), n, b)
"""
)
def ordered(x):
    order = x.sort(dim=1, descending=True, stable=True).indices[:, :3]
    bins = torch.stack([(x.float().floor() == each).sum(1) for each in range(5)], 1)
    return x.sort(1).values, x.gather(1, order), order.int(), x.argmax(1).int(), x.flip(1), bins.int()


def numbers(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    x = torch.randint(-9, 9, (rows, columns)).to(dtype)
    x[0] = -5  # what the lanes outside hold is larger
    return x.to(DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused(dtype):
    def program(x):
        up, most, at, first, back, bins = ordered(x / 2 - 1)
        return up * 2, torch.relu(most), at + 1, first * 3, -back, bins + 1

    x = numbers(7, 11, dtype)
    assert_fused(program, (x,), exact=True)
    assert_fused(program, (x,), exact=True, also=[(numbers(9, 11, dtype),), (numbers(2, 11, dtype),)])


def test_nan_wins():
    x = numbers(6, 11, torch.float32)
    x[1, 4:] = float("nan")
    x[2] = float("nan")
    x[3] = -float("inf")
    x[4, 10] = float("nan")
    result = torch.compile(lambda x: ordered(x - 1), fullgraph=True)(x)
    for found, wanted in zip(result[:5], ordered.reference(x - 1)[:5], strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


@tdsl.template(
    source="""
template called(x: T[M, 32]) -> (y: f32[M, 32], z: T[M, 32])
where T in (bf16, f32):
    config BLOCK=4
    for m in grid(M by BLOCK):
        n = whole(32)
        v = load x[m, n]
        store y[m, n] = tl.extra.cuda.libdevice.rint(f32(v)) + tl.extra.libdevice.atan2(f32(v), 2.0)
        w: T[m, n] = tl.cast(f32(v), tl.bfloat16, fp_downcast_rounding="rtne")
        s: T[m, n] = tl.sort(w, descending=true)
        store z[m, n] = s
"""
)
def called(x):
    y = x.float().round() + torch.atan2(x.float(), torch.tensor(2.0, device=x.device))
    return y, x.bfloat16().to(x.dtype).sort(1, descending=True).values


def test_triton_calls():
    assert_fused(lambda x: tuple(each + 1 for each in called(x * 2)), (torch.randn(7, 32, device=DEVICE),))

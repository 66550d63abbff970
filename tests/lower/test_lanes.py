"""Built-ins that look along a tile see the lanes that exist, and no others; against PyTorch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from .launch import Launch
from .targets import compiled

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")

INF, NAN = float("inf"), float("nan")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


@pytest.fixture(params=["static", "dynamic", "wide"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Launch:
    dynamic, wide = request.param == "dynamic", request.param == "wide"
    return Launch(tmp_path, dynamic=dynamic, index_dtype="i64" if wide else "i32")


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def rows(dtype: torch.dtype, width: int = 5) -> torch.Tensor:
    """Rows that lanes outside would win, tie with, or be mistaken in."""
    if dtype.is_floating_point:
        found = [
            [6, 5, 4, 4, NAN],
            [NAN] * 5,
            [-INF] * 5,
            [INF] * 5,
            [-INF, NAN, 3, NAN, INF],
            [-3, -1, -2, -1, -3],
            [7, 7, 1, 1, 7],
            [0.0, -0.0, 0.0, -0.0, 0.0],
            [INF, -INF, 2, INF, -INF],
        ]
    else:
        low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
        found = [[low] * 5, [high] * 5, [5, 2, 2, 5, 3], [high, low, high, low, 1], [1, 2, 3, 4, 5]]
    return torch.tensor(found, dtype=dtype)[:, :width]


REDUCTIONS = """
template reduce(x: T[M, N]) -> (most: i32[M], least: i32[M], a: T[M], b: T[M], at: i32[M], value: T[M])
where T in (f16, bf16, f32, f64, i8, u8, i16, i32, i64):
    for m in grid(M by 4):
        n = whole(N)
        v = load x[m, n]
        store most[m] = argmax(v, n)
        store least[m] = argmin(v, n)
        store a[m] = max(v, n)
        store b[m] = min(v, n)
        first = full(m, value=0, dtype=i32)
        best = full(m, value=0, dtype=T)
        for k in N by 2:
            u = load x[m, k]
            first = argmax(u, k)
            best = max(u, k)
        store at[m] = first
        store value[m] = best
"""


@pytest.mark.parametrize("width", [5, 1, 4])
def test_nan_wins_and_the_first_of_equals(run: Launch, width: int) -> None:
    for dtype in (*FLOATS, *INTS):
        x = rows(dtype, width)
        most, least, a, b, at, value = run(REDUCTIONS, x=x)
        wide = x if dtype.is_floating_point else x.long()
        same(most, wide.argmax(1).int())
        same(least, wide.argmin(1).int())
        same(a, x.amax(1))
        same(b, x.amin(1))
        last = (width - 1) // 2 * 2  # where the last block of the loop starts
        same(at, wide[:, last:].argmax(1).int() + last)
        same(value, x[:, last:].amax(1))


ORDER = """
template order(x: T[M, N], k: const int) -> (up: T[M, N], down: T[M, N], most: T[M, k], back: T[M, N], block: T[M, N])
where T in (f16, bf16, f32, f64, i8, u8, i16, i32, i64), k <= N:
    for m in grid(M by 4):
        n = whole(N)
        j = whole(k)
        v = load x[m, n]
        store up[m, n] = sort(v, n)
        store down[m, n] = sort(v, n, descending=true)
        store most[m, j] = topk(v, n, j)
        store back[m, n] = flip(v, n)
        for i in N by 2:
            store block[m, i] = sort(load x[m, i], i)
"""
INDICES = """
template order(x: T[M, N], k: const int) -> (up: i32[M, N], down: i32[M, N], most: i32[M, k], block: i32[M, N])
where T in (f16, bf16, f32, i8, u8, i16, i32), k <= N:
    for m in grid(M by 4):
        n = whole(N)
        j = whole(k)
        v = load x[m, n]
        store up[m, n] = argsort(v, n)
        store down[m, n] = argsort(v, n, descending=true)
        store most[m, j] = argtopk(v, n, j)
        for i in N by 2:
            store block[m, i] = argsort(load x[m, i], i)
"""


@pytest.mark.parametrize("width", [5, 1, 4, 0])
def test_order(run: Launch, width: int) -> None:
    k = min(width, 3)
    dtypes = (
        (*FLOATS, *INTS) if run.index_dtype == "i32" and not run.dynamic else (torch.float32, torch.int64)
    )
    for dtype in dtypes:
        x = rows(dtype, width)
        up, down, most, back, block = run(ORDER, x=x, k=k)
        same(up, x.sort(1).values)
        same(down, x.sort(1, descending=True).values)
        same(most, x.sort(1, descending=True).values[:, :k])
        same(back, x.flip(1))
        pairs = [x[:, at : at + 2].sort(1).values for at in range(0, width, 2)]
        same(block, torch.cat([x[:, :0], *pairs], 1))
        if dtype.itemsize < 8:
            up, down, most, block = run(INDICES, x=x, k=k)
            same(up, x.sort(dim=1, stable=True).indices.int())
            order = x.sort(dim=1, stable=True, descending=True).indices.int()
            same(down, order)
            same(most, order[:, :k])
            pairs = [
                x[:, at : at + 2].sort(dim=1, stable=True).indices.int() + at for at in range(0, width, 2)
            ]
            same(block, torch.cat([x[:, :0].int(), *pairs], 1))


def test_order_of_one_row_and_of_three_dimensions(run: Launch) -> None:
    text = """
template order(x: f32[B, M, N]) -> (y: f32[B, M, N], rows: f32[B, M, N], z: i32[B, 2]):
    for b in grid(B):
        m = whole(M)
        n = whole(N)
        j = whole(2)
        v = load x[b, m, n]
        store y[b, m, n] = sort(v, m)
        store rows[b, m, n] = flip(v, m)
        w = padded(load x[b, 0, n] unchecked, n, value=-inf)
        store z[b, j] = argtopk(w, n, j) if N >= 2 else j
""".replace("B, 2]):", "B, 2])\nwhere N >= 2:").replace(" if N >= 2 else j", "")
    x = torch.stack([rows(torch.float32), rows(torch.float32).flip(0)])
    y, turned, z = run(text, x=x)
    same(y, x.sort(1).values)
    same(turned, x.flip(1))
    same(z, x[:, 0].sort(dim=1, stable=True, descending=True).indices[:, :2].int())


def test_counts(run: Launch) -> None:
    text = """
template counts(x: T[M, N], B: const int) -> (y: i32[M, B], z: i32[M, B], all: i32[B])
where T in (i8, u8, i16, i32, i64):
    for m in grid(M by 4):
        n = whole(N)
        b = whole(B)
        store y[m, b] = histogram(load x[m, n], n, b)
        total = zeros(m, b, dtype=i32)
        for k in N by 4:
            total += histogram(load x[m, k], k, b)
        store z[m, b] = total
        accumulate all[b] += sum(histogram(load x[m, n], n, b), m)
template row(x: T[N], B: const int) -> y: i32[B]
where T in (i8, u8, i16, i32, i64):
    for one in grid(1):
        b = whole(B)
        total = zeros(b, dtype=i32)
        for n in N by 8:
            total += histogram(load x[n], n, b)
        store y[b] = total
"""
    generator = torch.Generator().manual_seed(3)
    for dtype in INTS:
        for shape in ((5, 21), (3, 1), (2, 0)):
            x = torch.randint(-3, 12, shape, generator=generator).to(dtype)
            expected = torch.stack([(x == each).sum(1) for each in range(5)], 1).int()
            y, z, both = run(text, name="counts", x=x, B=5)
            same(y, expected)
            same(z, expected)
            same(both, expected.sum(0).int())
            same(run(text, name="row", x=x[0], B=5), expected[0])
    huge = torch.tensor([2**32 + 1, 1, 2**62, -(2**63), 2**40])
    same(run(text, name="row", x=huge, B=2), torch.tensor([0, 1], dtype=torch.int32))


TAKEN = """
template taken(x: T[M, N], i: I[M, N], k: I[K], s: I[M]) -> (own: T[M, N], each: T[M, K], one: T[M], turned: T[M, N], two: T[M, K, 3], block: T[M, N])
where T in (f16, bf16, f32, f64, i8, u8, i32, i64), I in (i8, i32, i64), N >= 1:
    for m in grid(M by 4):
        n = whole(N)
        kk = whole(K)
        t = whole(3)
        v = load x[m, n]
        store own[m, n] = take(v, n, load i[m, n], other=0)
        store each[m, kk] = take(v, n, load k[kk], other=1)
        store one[m] = take(v, n, load s[m], other=0)
        store turned[m, n] = take(v, n, N - 1 - n)
        store two[m, kk, t] = take(v, n, load k[kk] + t, other=0)
        for b in N by 2:
            store block[m, b] = take(load x[m, b], b, b.start + 0 * b)
template one(x: T[N]) -> y: T[1]
where T in (f16, bf16, f32, f64, i8, u8, i32, i64), N >= 1:
    for a in grid(1):
        n = whole(N)
        store y[a] = take(load x[n], n, N - 1)
"""


def _of_bools(text: str) -> str:
    return (
        re.sub("T in [(].*?[)]", "T in (bool,)", text)
        .replace("other=0", "other=false")
        .replace("other=1", "other=true")
    )


def test_take(run: Launch) -> None:
    # Triton's own interpreter makes no scalar of bf16.
    dtypes = (
        torch.float16,
        torch.float32,
        torch.float64,
        torch.int8,
        torch.uint8,
        torch.int32,
        torch.int64,
        torch.bool,
    )
    for dtype in dtypes if run.index_dtype == "i32" and not run.dynamic else (torch.float16, torch.bool):
        for index in (torch.int8, torch.int32, torch.int64):
            for width in (5, 1):
                x = rows(torch.int32 if dtype == torch.bool else dtype, width).to(dtype)
                generator = torch.Generator().manual_seed(3)
                i = torch.randint(-3, 9, x.shape, generator=generator).to(index)
                k = torch.tensor([0, -1, 4, 5, 100, -100, 2], dtype=index)

                def at(position: torch.Tensor, other: int, x: torch.Tensor = x) -> torch.Tensor:
                    inside = (position >= 0) & (position < x.shape[1])
                    found = x.gather(1, torch.where(inside, position, 0).long())
                    return torch.where(inside, found, torch.tensor(other).to(x.dtype))

                text = TAKEN if dtype != torch.bool else _of_bools(TAKEN)
                own, each, one, turned, two, block = run(text, name="taken", x=x, i=i, k=k, s=i[:, 0])
                spread = k.expand(len(x), -1)
                same(own, at(i, 0))
                same(each, at(spread, 1))
                same(one, at(i[:, :1], 0)[:, 0])
                same(turned, x.flip(1))
                same(two, torch.stack([at(spread.long() + t, 0) for t in range(3)], 2))
                same(block, x[:, torch.arange(width) // 2 * 2])
                same(run(text, name="one", x=x[1]), x[1, -1:])


def test_what_padded_lanes_hold(run: Launch) -> None:
    text = """
template padding(x: T[M, N], fill: float) -> (y: T[M, N], z: f32[M])
where T in (f16, bf16, f32):
    for m in grid(M by 4):
        n = whole(N)
        v = padded(f32(load x[m, n]), n, value=fill)
        top: f32[m] = tl.sum(padded(f32(load x[m, n]) + 1, n), 1)
        w: f32[m, n] = tl.sort(padded(padded(load x[m, n], n, value=-inf), m), 1, descending=true)
        store y[m, n] = w
        store z[m] = top
""".replace("top: f32[m] = tl.sum(padded(f32(load x[m, n]) + 1, n), 1)", "top = sum(v, n)")
    for dtype in (torch.float16, torch.float32):
        x = torch.randint(-9, 0, (5, 6), generator=torch.Generator().manual_seed(3)).to(dtype)
        y, z = run(text, x=x, fill=float("inf"))
        same(y, x.sort(1, descending=True).values)
        same(z, x.float().sum(1))


def test_triton_calls_see_full_tiles(run: Launch) -> None:
    text = """
template called(x: f32[M, N], w: f32[M, 16]) -> (up: f32[M, N], turned: f32[N, M], flipped: f32[M, 16], soft: f32[M, 16])
where N % 8 == 0:
    for m in grid(M by 4):
        for n in N by 8:
            v = load x[m, n]
            a: f32[m, n] = tl.sort(v)
            b: f32[n, m] = tl.trans(v)
            store up[m, n] = a
            store turned[n, m] = b
        k = whole(16)
        c: f32[m, k] = tl.flip(load w[m, k], 1)
        store flipped[m, k] = c
        d: f32[k, m] = tl.trans(load w[m, k])
        e: f32[k, m] = tl.softmax(d, 0)
        store soft[m, k] = e
"""
    x, w = torch.randn(6, 24), torch.randn(6, 16)
    sort, turned, flipped, soft = run(text, x=x, w=w)
    same(sort, x.view(6, 3, 8).sort(2).values.view(6, 24))
    same(turned, x.T)
    same(flipped, w.flip(1))
    torch.testing.assert_close(soft, w.softmax(1))


def test_a_lane_of_its_own_block(tmp_path):
    text = """
template own(x: f32[M, N]) -> (y: f32[M, N], s: f32[M]):
    for m in grid(M by 4):
        total = zeros(m)
        for n in N by 8:
            v = load x[m, n]
            store y[m, n] = take(v, n, n) + take(take(v, m, m), n, n)
            total += sum(v, n)
        store s[m] = total
"""
    x = torch.randn(7, 21)
    y, _ = Launch(tmp_path)(text, x=x)
    assert torch.equal(y, x * 2)


@pytest.mark.parametrize("size", [1, 3])
def test_an_index_longer_than_the_tile_compiles(tmp_path: Path, size: int) -> None:
    text = f"""
template longer(x: f64[M, {size}], k: i32[40]) -> (y: f64[M, 40], z: f64[M, 7, 5]):
    for m in grid(M by 8):
        n = whole({size})
        kk = whole(40)
        a = whole(7)
        b = whole(5)
        v = load x[m, n]
        store y[m, kk] = take(v, n, load k[kk], other=1)
        store z[m, a, b] = take(v, n, b - a, other=2)
"""
    compiled(text, tmp_path)
    x, k = torch.randn(9, size, dtype=torch.float64), torch.arange(40, dtype=torch.int32) % 5 - 1
    y, z = Launch(tmp_path)(text, x=x, k=k)

    def at(place: torch.Tensor, other: int) -> torch.Tensor:
        inside = (place >= 0) & (place < size)
        return torch.where(inside, x[:, torch.where(inside, place, 0).long()], other)

    same(y, at(k, 1))
    same(z, at(torch.arange(5) - torch.arange(7)[:, None], 2))

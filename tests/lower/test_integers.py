"""Integers are Python's: on indices 64 bits where 32 would not hold it, and quotients that round towards -infinity."""

from __future__ import annotations

import pytest
import torch

import tdsl
from tdsl.testing import assert_fused
from tests.lower.held import FORMS, HELD, check_numbers, of_numbers
from tests.lower.targets import compiled

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")
P = 1000000007

SUBSCRIPTS = {
    "(m * 1000000007) % K": lambda m, K: m * P % K,
    "(m << 30) % K": lambda m, K: (m << 30) % K,
    "m * 1000000007 // 1000000007 % K": lambda m, K: m % K,
    "(K - 1 - m * 1000000007) % K": lambda m, K: (K - 1 - m * P) % K,
    "(m * 1000) ** 3 % K": lambda m, K: (m * 1000) ** 3 % K,
}


def rows_at(subscript, grid="M by 16"):
    place = SUBSCRIPTS[subscript]
    source = f"""
template rows(x: f32[K, N], like: f32[M, N]) -> y: f32[M, N]
where K >= 1:
    for m, n in grid({grid}, N by 16):
        store y[m, n] = load x[{subscript}, n] + load like[m, n]
"""

    def rows(x, like):
        return x[place(torch.arange(like.shape[0]), x.shape[0])] + like

    return tdsl.template(source=source)(rows)


@pytest.mark.parametrize("grid", ["M by 16", "M"])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("subscript", SUBSCRIPTS)
def test_subscripts(subscript, dynamic, grid):
    rows = rows_at(subscript, grid)
    args = torch.randn(37, 3), torch.randn(21, 3)
    assert_fused(lambda x, like: rows(x * 2, like) + 1, args, kernels=1, dynamic=dynamic)
    torch.testing.assert_close(rows(*args), rows.reference(*args), rtol=0, atol=0)


def test_a_value():
    @tdsl.template(
        source="""
template places(like: f32[M, N]) -> y: f64[M, N]:
    for m, n in grid(M by 16, N by 16):
        r = m * 1000000007
        store y[m, n] = f64(r - n) + load like[m, n]
"""
    )
    def places(like):
        m, n = torch.arange(like.shape[0]), torch.arange(like.shape[1])
        return (m[:, None] * P - n).double() + like

    assert_fused(lambda like: places(like) * 2, (torch.zeros(21, 20),), kernels=1)


@pytest.mark.parametrize("rows, bits", [(3, 32), (21, 64)])
def test_no_more_bits_than_it_takes(rows, bits):
    function = rows_at("(m * 1000000007) % K")
    report = assert_fused(lambda x, like: function(x, like) + 1, (torch.randn(37, 20), torch.randn(rows, 20)))
    assert ("tl.int64" in report.code[0]) == (bits == 64)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_size(dynamic):
    @tdsl.template(
        source="""
template scaled(like: f32[M, N]) -> y: f64[M, N]:
    for m, n in grid(M by 16, N by 16):
        store y[m, n] = f64(M * 1000000007) + load like[m, n]
"""
    )
    def scaled(like):
        return like.double() + like.shape[0] * P

    assert_fused(lambda like: scaled(like) * 2, (torch.zeros(21, 3),), kernels=1, dynamic=dynamic)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("k", [2**31 - 5, 2**31, 2**33 + 1, -(2**31) - 7])
def test_a_large_integer_of_the_call(k, dynamic):
    @tdsl.template(
        source="""
template beyond(d: f32[M], k: int) -> y: f32[M]:
    for m in grid(M by 16):
        store y[m] = (load d[(m + k) % 7] else -1) + (load d[(m - k) % 7] else -1) + f32(m < k)
"""
    )
    def beyond(d, k):
        m = torch.arange(d.shape[0])
        return d[(m + k) % 7] + d[(m - k) % 7] + (m < k)

    args = torch.randn(21), k
    assert_fused(lambda d, k: beyond(d, k) + 1, args, kernels=1, dynamic=dynamic)
    torch.testing.assert_close(beyond(*args), beyond.reference(*args))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_ids_of_few_bits(dtype):
    """An id is multiplied by the stride of a row in as many bits as any index."""

    @tdsl.template(
        source="""
template rows(d: f32[M, N], ids: I[R]) -> y: f32[R, N]
where I in (u8, i8, i16, i32):
    for r, n in grid(R by 16, N by 16):
        store y[r, n] = load d[load ids[r], n] else 0
"""
    )
    def rows(d, ids):
        ids = ids.long()
        inside = (ids >= 0) & (ids < d.shape[0])
        return torch.where(inside[:, None], d[ids.clamp(0, d.shape[0] - 1)], 0)

    ids = torch.tensor([0, 3, 9, 27, 49, 50, 120]).to(dtype)
    table = torch.full((150, 700), 777.0)[50:100]
    table.copy_(torch.arange(50.0)[:, None].expand(50, 700))
    assert_fused(lambda d, ids: rows(d, ids) + 1, (table, ids), kernels=1)
    assert_fused(lambda d, ids: rows(d * 2, ids), (table, ids), kernels=1)
    torch.testing.assert_close(rows(table, ids), rows.reference(table, ids))


ROUNDED = """
template at(x: f32[K, N], like: f32[M, N], pos: int) -> y: f32[M, N]
where K >= 1:
    for m, n in grid({grid}, N by 16):
        store y[m, n] = load x[(m - pos) % K, n] + load x[(pos - 7) % K, n] + load like[m, n]

template numbers(like: f32[M, N], pos: int) -> y: f64[M, N]:
    for m, n in grid({grid}, N by 16):
        store y[m, n] = f64((m - pos) // 3) + f64((pos - 7) % -5) + f64(pos // -4) + f64(cdiv(pos, 3)) + load like[m, n]
"""


@pytest.mark.parametrize("grid", ["M by 16", "M"])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("pos", [5, -3, -8])
def test_quotients_of_scalars_round_as_python_does(pos, dynamic, grid):
    """Triton rounds towards zero: a subscript that was proven would be outside."""

    @tdsl.template(source=ROUNDED.format(grid=grid))
    def at(x, like, pos):
        return x[(torch.arange(like.shape[0]) - pos) % x.shape[0]] + x[(pos - 7) % x.shape[0]] + like

    @tdsl.template(source=ROUNDED.format(grid=grid))
    def numbers(like, pos):
        m = torch.arange(like.shape[0])[:, None]
        return ((m - pos) // 3 + (pos - 7) % -5 + pos // -4 - (-pos // 3)).double() + like

    x, like = torch.randn(7, 3), torch.zeros(19, 3)
    assert_fused(lambda *args: at(*args) + 1, (x, like, pos), kernels=1, dynamic=dynamic)
    assert_fused(lambda *args: numbers(*args) * 2, (like, pos), kernels=1, dynamic=dynamic)
    torch.testing.assert_close(at(x, like, pos), at.reference(x, like, pos), rtol=0, atol=0)
    torch.testing.assert_close(numbers(like, pos), numbers.reference(like, pos), rtol=0, atol=0)


@pytest.mark.parametrize("dynamic", [False, True])
def test_cdiv_of_what_is_loaded(dynamic):
    @tdsl.template(
        source="""
template up(x: i32[N]) -> y: i32[N]:
    for n in grid(N by 16):
        store y[n] = cdiv(load x[n], 3)
"""
    )
    def up(x):
        return -(-x // 3)

    args = (torch.arange(-20, 20, dtype=torch.int32),)
    assert_fused(lambda x: up(x + 1) * 2, args, kernels=1, dynamic=dynamic)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", HELD)
def test_numbers_that_a_dtype_does_not_hold(dtype, form, dynamic):
    check_numbers(dtype, form, "cpu", dynamic=dynamic)


def test_numbers_that_a_dtype_does_not_hold_compile_for_a_gpu(tmp_path):
    numbers = (2**31, -(2**31) - 1, 5 * 10**9)
    compiled(
        "".join(
            of_numbers(dtype, form, p) for dtype in ("u8", "i16", "i32") for form in FORMS for p in numbers
        ),
        tmp_path,
        ["sm_90"],
    )


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("at", ["i32(m) * 65536 * 9", "maximum(v, 0) * maximum(v, 1)", "i8(m)", "abs(v * 2)"])
def test_a_subscript_that_wraps_is_outside(at, dynamic):
    """It is negative then, also where all that it is made of is not."""

    @tdsl.template(
        source=f"""
template t(table: f32[K], x: i32[M]) -> y: f32[M]:
    for m in grid(M by 16):
        v = load x[m]
        store y[m] = load table[{at}] else -1
"""
    )
    def t(table, x):
        m = torch.arange(x.shape[0], dtype=torch.int32)
        places = {
            "i32(m) * 65536 * 9": m * 65536 * 9,
            "maximum(v, 0) * maximum(v, 1)": x.clamp(min=0) * x.clamp(min=1),
            "i8(m)": m.to(torch.int8),
            "abs(v * 2)": (x * 2).abs(),
        }
        place = places[at].long()
        inside = (place >= 0) & (place < table.shape[0])
        return torch.where(inside, table[place.clamp(0, table.shape[0] - 1)], -1.0)

    numbers = [0, 1, 9, 46341, 65537, 2**30, 2**31 - 1, -(2**30), *range(7000)]
    table, x = torch.randn(100), torch.tensor(numbers, dtype=torch.int32)
    assert_fused(lambda table, x: t(table, x) * 2, (table, x), kernels=1, dynamic=dynamic)


SMALL = (
    lambda x: ~x,
    lambda x: x + -1,
    lambda x: x - 300,
    lambda x: x * 300,
    lambda x: x & 4294967295,
    lambda x: x ^ -1,
    lambda x: 7 - (x << 3),
    lambda x: -x >> 1,
    lambda x: torch.where(x > -3, x, 1),
    lambda x: torch.where(x < 70000, -1, x).to(x.dtype),
)


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
)
def test_fused_work_on_few_bits(dtype):
    """What is around a template has numbers that its dtype cannot hold; they wrap in the interpreter too."""

    @tdsl.template(
        source="""
template same(x: T[N]) -> y: T[N]
where T in (bool, u8, i8, i16, i32, i64):
    for n in grid(N by 16):
        store y[n] = load x[n]
"""
    )
    def same(x):
        return x.clone()

    x = torch.tensor([0, 1, 2, 3, 7, 100, 127, -1, -128, -3, 55, -100]).to(dtype)
    work = SMALL if dtype != torch.bool else (lambda x: ~x, lambda x: x ^ True, lambda x: x | ~x)
    assert_fused(lambda x: tuple(f(same(f(x))) for f in work), (x,), kernels=len(work))

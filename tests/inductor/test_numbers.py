"""Numbers where tensors may be: literals beside narrow and wide dtypes, and tensors of no dimensions."""

from __future__ import annotations

import pytest
import torch

import tdsl
from tdsl import testing

TEXT = """
template limited(a: T[M, K], b: T[K, N]) -> c: T[M, N]
where T in (f16, bf16, f32):
    config BLOCK_M=16, BLOCK_N=16, BLOCK_K=16
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(maximum(load a[m, k], -2.0), where(k < 7, load b[k, n], 1.0))
        store c[m, n] = acc

template at_least(x: f64[N]) -> (y: f64[N], z: f64[N]):
    config BLOCK=16
    for n in grid(N by BLOCK):
        v = load x[n]
        store y[n] = maximum(v, 0.1)
        store z[n] = where(v > 0, v, 0.1)

template shifted(x: T[R..., N], less: T[R...]) -> y: T[R..., N]:
    config BLOCK_R=4, BLOCK_N=16
    for r, n in grid(R by BLOCK_R, N by BLOCK_N):
        store y[r, n] = load x[r, n] - load less[r]

template negated(x: T[N], y: T[N]) -> (a: T[N], b: T[N], c: T[N], d: T[N])
where T in (f16, bf16, f32, f64):
    config BLOCK=16
    for n in grid(N by BLOCK):
        v = load x[n]
        w = load y[n]
        store a[n] = -v
        store b[n] = w / -v
        store c[n] = -(v * w) - -w
        store d[n] = -v * -v * -abs(w)
"""


@tdsl.template(source=TEXT)
def limited(a, b):
    ones = torch.ones_like(b)
    first = torch.arange(b.shape[0], device=b.device)[:, None] < 7
    return torch.maximum(a, torch.full_like(a, -2)) @ torch.where(first, b, ones)


@tdsl.template(source=TEXT)
def at_least(x):
    least = torch.full_like(x, 0.1)
    return torch.maximum(x, least), torch.where(x > 0, x, least)


@tdsl.template(source=TEXT)
def shifted(x, less):
    return x - less[..., None]


@tdsl.template(source=TEXT)
def negated(x, y):
    return -x, y / -x, -(x * y) - -y, -x * -x * -y.abs()


def test_a_negative_zero_is_one(device: torch.device) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.tensor(
            [0.0, -0.0, 2.0, -2.0, 0.0, -0.0, float("nan"), float("inf")], dtype=dtype, device=device
        )
        y = torch.tensor([1.0, 1.0, 2.0, 4.0, -0.0, 0.0, 1.0, -2.0], dtype=dtype, device=device)
        for made, wanted in zip(negated(x, y), negated.reference(x, y), strict=True):
            assert torch.equal(made.nan_to_num(7), wanted.nan_to_num(7))
            number = ~wanted.isnan()
            assert torch.equal(made.signbit() & number, wanted.signbit() & number)


def test_a_literal_takes_a_narrow_dtype(device: torch.device) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        a, b = (torch.randint(-2, 3, size, device=device).to(dtype) for size in ((20, 19), (19, 21)))
        testing.assert_fused(lambda a, b: limited(a, b).relu(), (a, b), exact=True)


def test_a_literal_takes_a_wide_dtype(device: torch.device) -> None:
    x = torch.randint(-3, 4, (40,), device=device).double()
    testing.assert_fused(lambda x: at_least(x), (x,), exact=True)


def test_an_input_of_no_dimensions_is_read_by_a_template(device: torch.device) -> None:
    x, by = torch.randn(40, device=device), torch.randn((), device=device)
    testing.assert_fused(lambda x, by: shifted(x, by).relu() * by, (x, by), exact=True)


NARROW = """
template narrow(a: T[M, N], s: int) -> (p: f32[M, N], q: f32[M, N], r: T[M, N], t: bool[M, N])
where T in (i8, u8, i16):
    for m, n in grid(M by 8, N by 16):
        x = load a[m, n]
        store p[m, n] = f32(x * N - s)
        store q[m, n] = f32((x + 200) * 3 & 255)
        store r[m, n] = ~x + (-3)
        store t[m, n] = x > s
"""


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16])
def test_a_scalar_wraps_in_a_narrow_integer(dtype, dynamic, device):
    def reference(a, s):
        return (a * a.shape[1] - s).float(), ((a + 200) * 3 & 255).float(), ~a + -3, a > s

    narrow = tdsl.template(source=NARROW, name="narrow")(reference)
    a = torch.randint(0, 128, (13, 300), device=device).to(dtype)
    testing.assert_fused(lambda a, s: narrow(a, s), (a, 100), kernels=1, dynamic=dynamic)


ROUNDED = """
template rounded(a: T[M, N], s: float) -> (p: f32[M, N], q: f32[M, N])
where T in (f16, bf16):
    for m, n in grid(M by 8, N by 16):
        x = load a[m, n]
        store p[m, n] = f32(x * s + 0.1)
        store q[m, n] = f32(N / x - 2.0)
"""


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_scalar_is_not_rounded_but_the_result_is(dtype, dynamic, device):
    def reference(a, s):
        def held(x):
            return x.to(dtype).float()

        return held(held(a.float() * s) + 0.1), held(held(a.shape[1] / a.float()) - 2.0)

    rounded = tdsl.template(source=ROUNDED, name="rounded")(reference)
    a = (torch.rand(13, 300, device=device) + 1).to(dtype)
    for got, want in zip(
        torch.compile(lambda a, s: rounded(a, s), dynamic=dynamic)(a, 0.3), reference(a, 0.3), strict=True
    ):
        assert torch.equal(got, want)


def test_a_divisor_that_the_dtype_does_not_hold_is_what_it_is(device):
    source = """
template left(a: u8[N]) -> c: u8[N]:
    for n in grid(N by 16):
        store c[n] = load a[n] % 256
"""
    left = tdsl.template(source=source, name="left")(lambda a: a % 256)
    a = torch.arange(20, dtype=torch.uint8, device=device)
    assert torch.equal(torch.compile(left)(a), a)


COMPARED = """
template compared(a: T[N], zero: float) -> y: i32[N]
where T in (f16, bf16, f32, f64):
    for n in grid(N by 16):
        x = load a[n]
        s = x * x
        found = i32(s >= 0) + 2 * i32(exp(x) + 1 > 0) + 4 * i32(1 - s < 2) + 8 * i32(0 <= abs(x))
        found += 16 * i32(1 > -abs(x)) + 32 * i32(sign(s + 1) > 0) + 64 * i32(x > 0) + 128 * i32(s >= zero)
        store y[n] = found + 256 * i32(s > -1) + 512 * i32(0 <= s) + 1024 * i32(tanh(s) < 2)

template kept(a: T[N]) -> y: T[N]
where T in (f16, bf16, f32, f64):
    for n in grid(N by 16):
        x = load a[n]
        store y[n] = where(x >= 0, x, 1)

template opposite(a: i16[N]) -> (y: i64[N], z: i64[N], w: i16[N]):
    for n in grid(N by 16):
        x = load a[n]
        store y[n] = i64(-x)
        store z[n] = i64(zeros(n, dtype=i16) - x) + 3 * i64(65536 - x)
        store w[n] = -x
"""


def _of_comparisons(a, zero):
    x, s = a, a * a
    found = [s >= 0, x.exp() + 1 > 0, 1 - s < 2, x.abs() >= 0, -x.abs() < 1, torch.sign(s + 1) > 0, x > 0]
    found += [s >= zero, s > -1, s >= 0, s.tanh() < 2]
    return sum(each.int() << at for at, each in enumerate(found)).int()


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_no_comparison_with_nan_is_true(dtype, dynamic, device):
    """ptxas takes what it knows of x * x for true of NaN, too."""
    compared = tdsl.template(source=COMPARED, name="compared")(_of_comparisons)
    kept = tdsl.template(source=COMPARED, name="kept")(lambda a: torch.where(a >= 0, a, 1))
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([nan, 1, -2, 0, inf, -inf, 0.5, nan, -0.25] * 5, dtype=dtype, device=device)

    def behind(x):
        y = kept(x)
        square = y * y
        return torch.where(square >= 0, 5, 6), torch.where(1 - square < 2, 7, 8), (square + 1 > 0).int()

    def in_front(x):
        return kept(x * x), kept(x.float().exp().to(x.dtype))

    found = torch.compile(lambda x, zero: compared(x, zero), dynamic=dynamic)(x, 0.0)
    assert torch.equal(found, _of_comparisons(x, 0.0))
    assert found[0] == 0
    for program in (behind, in_front):
        for got, want in zip(torch.compile(program, dynamic=dynamic)(x), program(x), strict=True):
            torch.testing.assert_close(got, want, equal_nan=True)


THRESHOLDS = """
template thresholds(a: T[N]) -> y: i32[N]
where T in (f16, bf16, f32):
    for n in grid(N by 16):
        x = load a[n]
        store y[n] = i32(x > 0.1) + 2 * i32(x >= 0.1) + 4 * i32(x < 0.1) + 8 * i32(x <= 0.1) + 16 * i32(x == 0.1)
"""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_comparison_is_with_the_number_itself(dtype, device):
    def reference(a):
        x = a.float()
        found = [x > 0.1, x >= 0.1, x < 0.1, x <= 0.1, x == 0.1]
        return sum(each.int() << at for at, each in enumerate(found)).int()

    function = tdsl.template(source=THRESHOLDS, name="thresholds")(reference)
    a = torch.tensor([0.1, 0.1001, 0.0999, 0.09, 0.2], device=device).to(dtype)
    assert torch.equal(torch.compile(function)(a), reference(a))


def test_the_least_number_has_no_opposite(device):
    def reference(a):
        return (-a).long(), (-a).long() + 3 * (-a).long(), -a

    opposite = tdsl.template(source=COMPARED, name="opposite")(reference)
    a = torch.tensor([-(2**15), -(2**15) + 1, -1, 0, 1, 2**15 - 1], dtype=torch.int16, device=device)

    def program(a):
        y, z, w = opposite(-a)
        return y, z, (-w).long() + (0 - w).abs()

    for got, want in zip(torch.compile(opposite)(a), reference(a), strict=True):
        assert torch.equal(got.cpu(), want.cpu())
    b = -a.cpu()
    expected = (-b).long(), 4 * (-b).long(), b.long() + b.abs()
    for got, want in zip(torch.compile(program)(a), expected, strict=True):
        assert torch.equal(got.cpu(), want)


DOUBLE = """
template double(x: f64[N], w: f32[N], s: float, k: int) -> (a: f64[N], b: f64[N], c: f64[N], d: f32[N], e: i32[N]):
    for n in grid(N by 4):
        v = load x[n]
        u = s * s
        store a[n] = v + k * s
        store b[n] = v + n * s + u
        store c[n] = v + sqrt(k) + (u if N > 1 else 1.0) + minimum(s, k * 0.1)
        store d[n] = (load w[n]) * u
        store e[n] = i32(k * s * 100000001.0 > 30000000.3)
"""


@pytest.mark.parametrize("mode", ["eager", False, True])
@pytest.mark.parametrize("s", [0.1, 16777217.0, 1e-30])
def test_numbers_are_of_float64_where_it_is_calculated_with(s, mode, device):
    def reference(x, w, s, k):
        index = torch.arange(len(x), dtype=torch.float64, device=x.device)
        least = min(s, k * 0.1)
        flag = torch.full(
            (len(x),), int(k * s * 100000001.0 > 30000000.3), dtype=torch.int32, device=x.device
        )
        c = x + k**0.5 + s * s + least
        return x + k * s, x + index * s + s * s, c, w * (s * s), flag

    double = tdsl.template(source=DOUBLE, name="double")(reference)
    x = torch.rand(11, dtype=torch.float64, device=device)
    w = torch.rand(11, device=device)
    program = double if mode == "eager" else torch.compile(lambda *args: double(*args), dynamic=mode)
    for k in (3, 5):
        for got, want in zip(program(x, w, s, k), reference(x, w, s, k), strict=True):
            rtol = 1e-15 if got.dtype == torch.float64 else 2e-7
            torch.testing.assert_close(got, want, rtol=rtol, atol=0)

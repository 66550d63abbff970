"""On a GPU: eager calls and fused programs, through Inductor's own launchers. Skipped where there is none."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import tdsl
from tdsl.testing import assert_fused, load_module
from tests.lower.held import FORMS, HELD, check_numbers

t = load_module(Path(__file__).with_name("templates.py"))
mm, ew, rn, rn_looped, sm, ln, axpy, swap = t.mm, t.ew, t.rn, t.rn_looped, t.sm, t.ln, t.axpy, t.swap
pytestmark = pytest.mark.gpu
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


def randn(*shape, dtype=torch.float32):
    return torch.randn(shape, device="cuda").to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_eager(dtype):
    for m, k, n in [(1, 1, 1), (70, 50, 90), (128, 64, 256), (0, 3, 4), (3, 0, 4)]:
        a, b = randn(m, k, dtype=dtype), randn(n, k, dtype=dtype).T
        torch.testing.assert_close(mm(a, b), a @ b, rtol=2e-2, atol=2e-2)
    x, w = randn(3, 7, 100, dtype=dtype), randn(100, dtype=dtype)
    torch.testing.assert_close(rn(x, w, 1e-5), rn.reference(x, w, 1e-5), rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(ln(x, w, None, 1e-5), ln.reference(x, w, None, 1e-5), rtol=2e-2, atol=2e-2)


def test_eager_in_place():
    y, x = randn(1000), randn(1000)
    want = y + 3 * x
    axpy(y, x, 3.0)
    torch.testing.assert_close(y, want)
    torch.testing.assert_close(t.column_sums(randn(70, 33) * 0 + 1), torch.full((33,), 70.0, device="cuda"))


CONTRACTED = """
template times(a: T[M, N], b: T[M, N]) -> y: T[M, N] where T in (f32, f64, bf16):
    for m, n in grid(M by 16, N by 64):
        store y[m, n] = load a[m, n] * load b[m, n]

template plus(a: T[M, N], b: T[M, N]) -> y: T[M, N] where T in (f32, f64, bf16):
    for m, n in grid(M by 16, N by 64):
        store y[m, n] = load a[m, n] + load b[m, n]
"""
times = tdsl.template(source=CONTRACTED, name="times")(lambda a, b: a * b)
plus = tdsl.template(source=CONTRACTED, name="plus")(lambda a, b: a + b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nothing_contracts_across_a_fusion(dtype):
    """A product on one side and a sum on the other are rounded as they are in two kernels."""
    a, b, c = (torch.randn(70, 90, device="cuda", dtype=torch.float64).to(dtype) for _ in range(3))
    for program in (
        lambda a, b, c: times(a, b) + c,
        lambda a, b, c: plus(a * b, c),
        lambda a, b, c: plus(c, a * b) - a,
        lambda a, b, c: plus(times(a, b), c),
    ):
        assert torch.equal(torch.compile(program, fullgraph=True)(a, b, c), program(a, b, c))
    tiny = torch.full_like(a, torch.finfo(dtype).tiny)
    assert torch.equal(
        torch.compile(lambda a, b: times(a, b) + 0, fullgraph=True)(tiny, tiny * 0 + 0.5), tiny / 2
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m, k, n", [(70, 50, 90), (512, 256, 512), (1, 1, 1)])
def test_founding(dtype, m, k, n):
    program = lambda a, b, c: torch.relu(mm(a, torch.sigmoid(b))) * c  # noqa: E731
    args = (randn(m, k, dtype=dtype), randn(k, n, dtype=dtype), randn(n, dtype=dtype))
    assert_fused(program, args, kernels=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_epilogues(dtype):
    a, b, r = randn(70, 50, dtype=dtype), randn(50, 90, dtype=dtype), randn(70, 90, dtype=dtype)

    def program(a, b, r):
        c = mm(a, b)
        d = torch.relu(c)
        e = d * r
        return c, d, F.gelu(e + r), torch.sin(e + 1).float(), c + torch.arange(90, device="cuda")

    assert_fused(program, (a, b, r), kernels=1)


def test_float64_and_integers():
    a, b = randn(20, 40, dtype=torch.float64), randn(20, 40, dtype=torch.float64)
    assert_fused(lambda a, b: torch.exp(ew(a, b).abs().sqrt()) / 3, (a, b), kernels=1)
    i, j = (torch.randint(-9, 9, (20, 40), device="cuda") for _ in range(2))
    assert_fused(lambda a, b: ew(a, b) * 2 + 1, (i, j), kernels=1, exact=True)


def test_prologues():
    a, b = randn(70, 50, dtype=torch.bfloat16), randn(50, 90, dtype=torch.bfloat16)
    q = torch.randint(-128, 128, (50, 90), dtype=torch.int8, device="cuda")
    assert_fused(lambda a, b: mm(torch.exp(a), b + 4), (a, b), kernels=1)
    assert_fused(lambda a, q, s: mm(a, q.to(torch.bfloat16) * s), (a, q, b[0]), kernels=1)
    assert_fused(lambda a, b: mm(a.flip(0), b), (a, b), kernels=1)
    assert_fused(lambda x, w: rn_looped(torch.exp(x), w, 1e-5), (randn(70, 90), randn(90)), kernels=1)
    assert_fused(lambda x: sm(x + 1) * 2, (randn(70, 90),), kernels=1)


def test_outputs():
    def program(x, w):
        y, mean, rstd = ln(torch.tanh(x), w, w, 1e-5)
        return torch.relu(y) + x, mean * 2, y / rstd[..., None]

    assert_fused(program, (randn(3, 7, 40), randn(40)), kernels=1)
    assert_fused(program, (randn(3, 7, 4096), randn(4096)), kernels=1)


def test_in_place():
    def program(y, x):
        axpy(y, torch.exp(x), 2.0)
        return torch.relu(y) + 1

    assert_fused(program, (randn(1000), randn(1000)), kernels=1)
    assert_fused(lambda a, b: (swap(a, b), a - b)[1], (randn(20, 33), randn(20, 33)), kernels=None)


def test_accumulate():
    x = torch.randint(-4, 5, (700, 130), device="cuda").float()
    assert_fused(lambda x: t.column_sums(x * 2) + 1, (x,), kernels=None, exact=True)


@pytest.mark.parametrize(
    "config", [{"cpp_wrapper": True}, {"triton.cudagraphs": True}, {"max_autotune": True}]
)
def test_roads(config):
    a, b, c = randn(70, 50), randn(50, 90), randn(90)
    program = lambda a, b, c: torch.relu(mm(a, torch.sigmoid(b))) * c  # noqa: E731
    compiled = torch.compile(program, fullgraph=True, options=config)
    for _ in range(3):
        torch.testing.assert_close(
            compiled(a, b, c), torch.relu(a @ torch.sigmoid(b)) * c, rtol=1e-4, atol=1e-4
        )


TUNED = """
template add(inout y: f32[N], x: f32[N]):
    tune BLOCK in (64, 128, 256), num_warps in (1, 4)
    for n in grid(N by BLOCK):
        store y[n] = load y[n] + load x[n]

template sums(x: T[M, N]) -> s: f32[N]:
    tune BLOCK_M in (16, 32), BLOCK_N in (32, 64)
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        accumulate s[n] += sum(f32(load x[m, n]), m)

template product(A: T[M, K], B: T[K, N]) -> C: T[M, N]:
    tune BLOCK_M in (32, 64), BLOCK_N in (32, 64), BLOCK_K in (32, 64), num_stages in (2, 12)
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc
"""


@tdsl.template(source=TUNED)
def add(y, x):
    y.add_(x)


@tdsl.template(source=TUNED)
def sums(x):
    return x.float().sum(0)


@tdsl.template(source=TUNED)
def product(A, B):
    return A @ B


@pytest.fixture
def cold(tmp_path, monkeypatch):
    """Nothing was compiled or timed before."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))


def test_tuning_in_place(cold, caplog):
    y, x = randn(5000), randn(5000)
    want = y + x
    with caplog.at_level(logging.INFO, "tdsl"):
        add(y, x)
    assert caplog.text.count(" ms, ") == 6
    torch.testing.assert_close(y, want)
    add(y, x)
    torch.testing.assert_close(y, want + x)

    def program(y, x):
        add(y, torch.exp(x))
        return torch.relu(y) + 1

    y, want = randn(5000), None
    want = y + torch.exp(x)
    caplog.clear()
    with caplog.at_level(logging.INFO, "tdsl"):
        result = torch.compile(program, fullgraph=True)(y, x)
    assert caplog.text.count(" ms, ") == 6
    torch.testing.assert_close(y, want)
    torch.testing.assert_close(result, torch.relu(want) + 1)


def test_tuning_with_sums(cold, caplog):
    x = torch.randint(-4, 5, (700, 130), device="cuda").float()
    with caplog.at_level(logging.INFO, "tdsl"):
        torch.testing.assert_close(sums(x), x.sum(0), rtol=0, atol=0)
        compiled = torch.compile(lambda x: sums(x * 2) + 1, fullgraph=True)
        for _ in range(2):
            torch.testing.assert_close(compiled(x), (x * 2).sum(0) + 1, rtol=0, atol=0)
    assert caplog.text.count(" ms, ") == 8


@pytest.mark.parametrize("road", [{}, {"cpp_wrapper": True}, {"triton.cudagraphs": True}])
def test_tuning_side_by_side(cold, caplog, road):
    a, b = randn(512, 256, dtype=torch.bfloat16), randn(256, 512, dtype=torch.bfloat16)
    compiled = torch.compile(lambda a, b: torch.relu(product(a, b + 1)), fullgraph=True, options=road)
    with caplog.at_level(logging.INFO, "tdsl"):
        for _ in range(3):
            got = compiled(a, b)
    torch.testing.assert_close(got, torch.relu(a @ (b + 1)), rtol=2e-2, atol=2e-1)
    # 16 candidates, of which 8 are tuned at most; nothing is timed twice.
    assert 1 < caplog.text.count(" ms, ") <= 8
    assert caplog.text.count("the winner is") == 1


def test_threads_that_tune_at_once(cold):
    a, b = randn(512, 256, dtype=torch.bfloat16), randn(256, 512, dtype=torch.bfloat16)
    want = torch.relu(a @ torch.sigmoid(b))
    compiled = torch.compile(lambda a, b: torch.relu(product(a, torch.sigmoid(b))), fullgraph=True)
    start, wrong = threading.Barrier(8), []

    def work():
        try:
            start.wait()
            for _ in range(3):
                torch.testing.assert_close(compiled(a, b), want, rtol=2e-2, atol=2e-1)
                torch.testing.assert_close(product(a, b), a @ b, rtol=2e-2, atol=2e-1)
        except BaseException as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_dynamic():
    program = lambda a, b, c: torch.relu(mm(a.flip(0), torch.sigmoid(b))) * c  # noqa: E731
    compiled = torch.compile(program, fullgraph=True, dynamic=True)
    for n in (33, 4, 16, 128):
        a, b, c = randn(n, n + 3), randn(n + 3, n + 1), randn(n + 1)
        want = torch.relu(a.flip(0) @ torch.sigmoid(b)) * c
        torch.testing.assert_close(compiled(a, b, c), want, rtol=1e-4, atol=1e-4)


def test_gradients():
    a, b = randn(70, 50).requires_grad_(), randn(50, 90).requires_grad_()
    loss = torch.compile(lambda a, b: torch.relu(mm(a, torch.sigmoid(b))).sum(), fullgraph=True)
    want = torch.autograd.grad(torch.relu(a @ torch.sigmoid(b)).sum(), (a, b))
    torch.testing.assert_close(torch.autograd.grad(loss(a, b), (a, b)), want, rtol=1e-3, atol=1e-3)


ARITHMETIC = """
template floats(a: T[M], b: T[N]) -> (q: T[M, N], r: T[M, N]) where T in (f16, bf16, f32, f64):
    for m, n in grid(M by 8, N by 16):
        store q[m, n] = load a[m] // load b[n]
        store r[m, n] = load a[m] % load b[n]

template integers(a: T[M], b: T[N]) -> (q: T[M, N], r: T[M, N], c: T[M, N], left: T[M, N], right: T[M, N])
where T in (i8, i16, i32, i64):
    for m, n in grid(M by 8, N by 16):
        v = load a[m]
        w = load b[n]
        store q[m, n] = v // w
        store r[m, n] = v % w
        store c[m, n] = cdiv(v, w)
        store left[m, n] = v << w
        store right[m, n] = v >> w

template product(a: i8[M, 12], b: i8[12, N]) -> y: i32[M, N]:
    for m, n in grid(M by 16, N by 16):
        k = whole(12)
        store y[m, n] = dot(load a[m, k], load b[k, n])
"""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_quotients_of_floats(dtype):
    """As PyTorch's on a CPU, in float32 where they are narrow."""

    @tdsl.template(source=ARITHMETIC)
    def floats(a, b): ...

    inf = float("inf")
    edges = [float("nan"), inf, -inf, 0.0, -0.0, 1.0, -1.0, 0.1, -0.1, 0.3, 3.0, -3.0, 7.5, 1e4, -1e-4, 59.0]
    a = torch.cat([torch.tensor(edges), torch.randn(500) * 20]).to(dtype)
    q, r = (each.cpu() for each in floats(a.cuda(), a.cuda()))
    wide = a.float() if dtype.itemsize < 4 else a
    for found, function in ((q, torch.floor_divide), (r, torch.remainder)):
        wanted = function(wide[:, None], wide[None, :]).to(dtype)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
def test_quotients_and_shifts_of_integers(dtype):
    @tdsl.template(source=ARITHMETIC)
    def integers(a, b): ...

    info = torch.iinfo(dtype)
    a = torch.tensor([info.min, info.min + 1, -7, -1, 0, 1, 5, info.max - 1, info.max], dtype=dtype)
    b = torch.tensor([info.min, -64, -3, -2, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 100, info.max], dtype=dtype)
    q, r, c, left, right = (each.cpu() for each in integers(a.cuda(), b.cuda()))
    x, y = a[:, None], b[None, :]
    up = torch.div(x, y, rounding_mode="floor") + (torch.remainder(x, y) != 0)
    for found, wanted in ((q, x // y), (r, torch.remainder(x, y)), (c, up), (left, x << y), (right, x >> y)):
        assert torch.equal(found, wanted.to(dtype))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", HELD)
def test_numbers_that_a_dtype_does_not_hold(dtype, form, dynamic):
    check_numbers(dtype, form, "cuda", dynamic=dynamic)


def test_a_large_integer_of_an_eager_call():
    source = """
template wrapping(a: i32[N], k: int) -> y: i32[N]:
    for z in grid(1):
        for n in N by 16:
            v = load a[n]
            if k > 7:
                v = v + i32(((n * k) // k) % 5)
            store y[n] = v
"""

    @tdsl.template(source=source)
    def wrapping(a, k): ...

    for size in (1, 37):
        a = torch.arange(size, dtype=torch.int32, device="cuda")
        assert torch.equal(wrapping(a, 2**33), a + torch.arange(size, device="cuda") % 5)


def test_a_dot_of_few_lanes_of_8_bits():
    @tdsl.template(source=ARITHMETIC)
    def product(a, b): ...

    a, b = (torch.randint(-128, 128, shape, dtype=torch.int8) for shape in ((50, 12), (12, 33)))
    assert torch.equal(product(a.cuda(), b.cuda()).cpu(), a.int() @ b.int())

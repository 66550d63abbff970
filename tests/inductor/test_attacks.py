"""Programs that once went wrong."""

from __future__ import annotations

import pytest
import torch

import tdsl
from tdsl import testing


@tdsl.template(
    source="""
template mm(A: T[M, K], B: T[K, N]) -> C: T[M, N]:
    config BM=16, BN=16, BK=16
    for m, n in grid(M by BM, N by BN):
        acc = zeros(m, n)
        for k in K by BK:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc
"""
)
def mm(A, B):
    return A @ B


@tdsl.template(
    source="""
template rows(x: T[M, N]) -> (total: f32[M], least: T[M], greatest: T[M]):
    for m in grid(M by 4):
        n = whole(N)
        v = load x[m, n]
        store total[m] = sum(f32(v), n)
        store least[m] = min(v, n)
        store greatest[m] = max(v, n)
"""
)
def rows(x):
    return x.float().sum(1), x.amin(1), x.amax(1)


@tdsl.template(
    source="""
template columns(x: f32[M, N]) -> (total: f32[N], copy: f32[M, N]):
    for m, n in grid(M by 4, N by 8):
        v = load x[m, n]
        accumulate total[n] += sum(v, m)
        store copy[m, n] = v
"""
)
def columns(x):
    return x.sum(0), x.clone()


def ints(*shape: int) -> torch.Tensor:
    return torch.randint(-4, 5, shape, device=testing.device()).float()


def test_a_constant_as_a_prologue():
    for make in (torch.ones_like, torch.zeros_like, lambda b: torch.full_like(b, 2.5), lambda b: b * 0 + 3):
        testing.assert_fused(
            lambda a, b, make=make: mm(a, make(b)) + 1, (ints(20, 18), ints(18, 19)), exact=True
        )


def test_numbers_of_one_element():
    def program(a, b, c):
        return torch.relu(mm(a / c[0], torch.sigmoid(b))) * c[1]

    testing.assert_fused(program, (ints(1, 1), ints(1, 1), ints(2) + 9))
    testing.assert_fused(program, (ints(20, 18), ints(18, 19), ints(2) + 9))


def test_a_remainder_as_a_prologue():
    testing.assert_fused(
        lambda a, b: mm(a % 3, torch.remainder(b, -2.0) + 1), (ints(20, 18), ints(18, 19)), exact=True
    )
    testing.assert_fused(
        lambda a, b: mm(a, (b.int() % (a[:18, :1].int() * 2 + 9)).float()),
        (ints(20, 18), ints(18, 19)),
        exact=True,
    )


@pytest.mark.parametrize(
    "work",
    [
        lambda x: torch.digamma(x + 9),
        lambda x: torch.special.i0e(x),
        lambda x: torch.special.zeta(x + 9, 2.0),
        lambda x: torch.frexp(x).mantissa,
        lambda x: torch.frexp(x).exponent + x,
        lambda x: x.to(torch.float8_e4m3fnuz).float() * 2,
    ],
)
def test_work_that_triton_has_not(work):
    if torch.cuda.is_available():
        pytest.skip("Inductor's own kernels lack float8_e4m3fnuz on NVIDIA's GPUs, and frexp differs")
    for program in (lambda a, b: mm(a, work(b)), lambda a, b: work(mm(a, b))):
        report = testing.assert_fused(program, (ints(20, 18), ints(18, 19)), kernels=None)
        assert report.kernels == 2
        assert any("which kernels in Triton do not have" in refusal.reason for refusal in report.refusals)


def test_a_float8_tensor_that_triton_has_not():
    if torch.cuda.is_available():
        pytest.skip("Inductor's own kernels lack it, too")
    x = ints(18, 19).to(torch.float8_e5m2fnuz)
    testing.assert_fused(lambda a, x: mm(a, x.float() * 2), (ints(20, 18), x), kernels=None, exact=True)


@tdsl.template(
    source="""
template plus(x: f32[N], k: int) -> y: f32[N]:
    for n in grid(N by 64):
        store y[n] = load x[n] + k
"""
)
def plus(x, k):
    return x + k


@pytest.mark.parametrize(
    "number",
    [
        lambda x: x.argmax().item() + 1,
        lambda x: x.argmax().item() // 2,
        lambda x: min(x.argmax().item(), 7),
        lambda x: x.argmax().item() ** 2,
        lambda x: int(x.sum().item()),
    ],
)
def test_a_number_that_a_tensor_holds(number):
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        testing.assert_fused(lambda x: plus(x * 2, number(x)).relu(), (ints(100),), kernels=None, exact=True)


def test_padding_as_a_prologue():
    def program(x):
        return rows(torch.nn.functional.pad(x, (1, 2, 3, 4), value=3.0))

    testing.assert_fused(program, (ints(13, 5),), exact=True)


def test_reductions_keep_nan():
    x = ints(9, 21)
    x[2, 3] = x[4, 20] = float("nan")
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        testing.assert_fused(lambda x: rows(x * 2), (x.to(dtype),), exact=True)


def test_an_accumulated_output_that_nobody_wants():
    testing.assert_fused(lambda x: columns(x + 1)[1], (ints(9, 21),), exact=True)
    testing.assert_fused(lambda x: columns(x + 1)[0], (ints(9, 21),), exact=True)


SCALED = """
template scaled(x: T[M], s: float, k: const int = 2) -> y: T[M]:
    config BM=16
    for m in grid(M by BM):
        store y[m] = load x[m] * s * k
"""


@tdsl.template(source=SCALED)
def scaled(x, s, k=2):
    return x * s * k


def test_a_gradient_with_an_argument_as_its_default():
    for compile in (lambda f: f, torch.compile):
        for extra in ((), (2,), (3,)):
            x = ints(9).requires_grad_()
            compile(lambda x, extra=extra: scaled(x, 2.0, *extra))(x).sum().backward()
            assert (x.grad == 2.0 * (extra or (2,))[0]).all()


def test_another_reference_is_another_operator():
    def define(factor):
        @tdsl.template(source=SCALED)
        def scaled(x, s, k=2):
            return x * s * k * factor

        return scaled.op

    assert define(1) != define(2)
    assert str(define(1)).split("_")[0] == str(define(1)).split("_")[0]


@tdsl.template(
    source="""
template axpy(inout x: T[N], y: T[N], a: float):
    config BN=16
    for n in grid(N by BN):
        store x[n] = load x[n] + a * load y[n]
"""
)
def axpy(x, y, a):
    x.add_(y, alpha=a)


def test_a_write_is_noticed_by_who_saved_the_tensor():
    z = (ints(20).requires_grad_()) * 1
    product = z * z
    with torch.no_grad():
        axpy(z, torch.ones_like(z), 2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


def test_elements_that_are_one_are_not_written():
    with pytest.raises(tdsl.TdslError, match="'x' is written to"):
        axpy(ints(1).expand(14), ints(14), 2.0)


@tdsl.template(
    source="""
template times(x: i64[N], k: int) -> c: i64[N]:
    config BN=16
    for n in grid(N by BN):
        store c[n] = load x[n] * k
"""
)
def times(x, k):
    return x * k


def test_a_large_integer_at_run_time():
    compiled = torch.compile(lambda x, k: times(x, k) - k, fullgraph=True, dynamic=True)
    x = torch.ones(20, dtype=torch.int64, device=testing.device())
    for k in (3, 2**40, -(2**40)):
        assert (compiled(x, k) == 0).all()

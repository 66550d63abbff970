"""Sizes that nobody knows before a program runs: they fuse as any others do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tdsl
from tdsl.testing import assert_fused, load_module

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")
t = load_module(Path(__file__).with_name("templates.py"))
KEPT = torch.arange(37) % 2 == 0
NONE, FEW = torch.zeros(37, dtype=torch.bool), torch.arange(37) > 33


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True, capture_scalar_outputs=True):
        yield


def found(x):
    return x.nonzero().squeeze(1).float()


def chain(mask):
    x = found(mask)
    t.axpy(x, x.cos() * 3, 2.0)
    return torch.relu(t.both(x * 3 + 1)[0]) + 1


def several_outputs(mask, x, w):
    y, mean, rstd = t.ln(torch.relu(x[mask]), w, None, 1e-5)
    return y * 2 + mean[:, None], rstd + 1


def experts(mask, x, w):
    """One kernel for each product, the activation and the copy of what is transposed within them."""
    h = t.mm(torch.relu(x[mask]), w).sin()
    return t.mm((h * 2).T, x[mask] + 1) - 3


def merged(mask, x):
    return t.sm(x[mask].view(-1, 3, 7) * 2).transpose(0, 1).flatten(1).relu()


def quotient(mask):
    n = mask.sum().item()
    torch._check(n >= 0)
    one = torch.arange(n // 2).float()
    other = torch.arange(n * 4).float()
    return t.both(one + 1)[0].relu(), t.both(other * 2)[1].cos()


def parts(x, lengths):
    a, b = lengths.tolist()
    torch._check(a >= 0)
    torch._check(b >= 0)
    torch._check(a + b == x.shape[0])
    one, other = torch.split(x, [a, b])
    return t.both(one * 2)[0].relu(), t.both(other + 1)[1].sin()


X, W = torch.randn(37, 21), torch.randn(21)
PROGRAMS = {
    "nonzero, twice in place": (chain, (KEPT,), 2, [(NONE,), (FEW,)]),
    "several outputs": (several_outputs, (KEPT, X, W), 1, [(FEW, X, W)]),
    "experts": (experts, (KEPT, X, torch.randn(21, 9)), 2, [(FEW, X, torch.randn(21, 9))]),
    "merged": (merged, (KEPT, X), 1, [(FEW, X), (NONE, X)]),
    "n // 2, n * 4": (quotient, (KEPT,), None, [(NONE,), (FEW,)]),
    "split": (parts, (torch.randn(20), torch.tensor([7, 13])), 2, [(torch.randn(20), torch.tensor([0, 20]))]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_fuses(name):
    program, args, kernels, also = PROGRAMS[name]
    report = assert_fused(program, args, kernels=kernels, also=also)
    for refusal in report.refusals:
        assert "another template" in refusal.reason or "a call of a library" in refusal.reason


TEXT = """
template large(x: f32[M, N]) -> y: f32[M, N]
where M * N > 30:
    for m, n in grid(M, N by 16):
        store y[m, n] = load x[m, n] * 2

template either(x: f32[M, N]) -> y: f32[M, N]:
    for m, n in grid(M, N by 16):
        store y[m, n] = load x[m, n] * (2 if M * N > 30 else 2)
"""


@tdsl.template(source=TEXT)
def large(x):
    return x * 2


@tdsl.template(source=TEXT)
def either(x):
    return x * 2


@pytest.mark.parametrize(
    "template, said, rows",
    [
        (large, "whether 'M * N > 30' holds is known only when the program runs", lambda n: n * 20 > 30),
        (either, "a size of 'x' is known only when the program runs", lambda n: n == 20),
    ],
)
def test_what_has_to_be_known(template, said, rows):
    def program(x, mask, checked):
        kept = x[mask]
        if checked:
            torch._check(rows(kept.shape[0]))
        return template(kept).relu()

    x, mask = torch.randn(37, 20), torch.arange(37) < 20
    with pytest.raises(Exception) as error:
        torch.compile(program, fullgraph=True)(x, mask, False)
    assert said in str(error.value) and "torch._check(" in str(error.value)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(program, fullgraph=True)(x, mask, True), (x[mask] * 2).relu())
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(program)(x, mask, False), (x[mask] * 2).relu())


SIZES = """
template half(x: f32[M, N]) -> y: f32[(M - N) // 2 + N, 2 * N]:
    for m, n in grid((M - N) // 2 + N, 2 * N by 16):
        store y[m, n] = (load x[m, n] else 1.0) + (~M)

template fewer(x: f32[M, N]) -> y: f32[M - N]:
    for m in grid(M - N by 16):
        store y[m] = load x[m, 0] else 0.0

template divided(x: f32[M, N]) -> y: f32[N // (M // 2)]:
    for n in grid(N // (M // 2) by 16):
        store y[n] = load x[0, n]

template most(x: f32[M, N]) -> y: f32[maximum(M - N, 4)]:
    for m in grid(maximum(M - N, 4) by 16):
        store y[m] = load x[m, 0] else 0.0

template bits(x: f32[M, N]) -> y: f32[M, N]
where ~M < -M and (M & 16) == 0 and (M | 32) > 31 and (M ^ 1) > 0 and M << 1 > 9 and M >> 1 > 1 and 1 << M > 0:
    for m, n in grid(M, N by 16):
        store y[m, n] = load x[m, n] + (~M)

template pair(x: f32[M, N], z: f32[M + 1, N]) -> y: f32[M, N]:
    for m, n in grid(M, N by 16):
        store y[m, n] = load x[m, n] + load z[m + 1, n]
"""


def padded(x, rows, columns, value=0.0):
    x = torch.nn.functional.pad(x, (0, columns, 0, rows), value=value)
    return x[:rows, :columns]


@tdsl.template(source=SIZES)
def half(x):
    m, n = x.shape
    return padded(x, (m - n) // 2 + n, 2 * n, 1.0) - m - 1


@tdsl.template(source=SIZES)
def fewer(x):
    m, n = x.shape
    return padded(x, m - n, 1)[:, 0].clone()


@tdsl.template(source=SIZES)
def divided(x):
    m, n = x.shape
    return padded(x, 1, n // (m // 2))[0]


@tdsl.template(source=SIZES)
def most(x):
    m, n = x.shape
    return padded(x, max(m - n, 4), 1)[:, 0].clone()


@tdsl.template(source=SIZES)
def bits(x):
    return x - x.shape[0] - 1


@tdsl.template(source=SIZES)
def pair(x, z):
    return x + z[1:]


@pytest.mark.parametrize("template", [half, fewer, divided], ids=lambda each: each.__name__)
def test_a_size_of_an_output_is_calculated(template):
    assert_fused(
        lambda mask, x: template(x[mask]).relu(),
        (KEPT, X[:, :8]),
        kernels=None,
        also=[(torch.arange(37) > 13, X[:, :8])],
    )


def test_every_operator_is_of_symbolic_sizes_too():
    compiled = torch.compile(lambda x: bits(x).relu(), dynamic=True, fullgraph=True)
    for rows in (37, 13):
        torch.testing.assert_close(compiled(X[:rows]), bits(X[:rows]).relu())


def test_a_negative_size_is_an_error_when_it_runs():
    compiled = torch.compile(lambda mask, x: fewer(x[mask]).relu(), fullgraph=True)
    few = torch.arange(37) < 30
    torch.testing.assert_close(compiled(few, X), fewer(X[few]).relu())
    with pytest.raises(RuntimeError):
        compiled(FEW, X)


def test_unequal_sizes_are_an_error_when_it_runs():
    """Each of them is unknown: that one is one more than the other is said as the program runs."""
    compiled = torch.compile(lambda one, other, x: pair(x[one], x[other]).relu(), fullgraph=True)
    one, other = torch.arange(37) < 20, torch.arange(37) > 15
    torch.testing.assert_close(compiled(one, other, X), pair(X[one], X[other]).relu())
    with pytest.raises(RuntimeError):
        compiled(other, one, X)


def test_what_decides_a_size_has_to_be_known():
    def program(mask, x, checked):
        kept = x[mask]
        if checked:
            torch._check(kept.shape[0] >= 12)
        return most(kept).relu()

    x = X[:, :8]
    with pytest.raises(
        Exception, match=r"what 'maximum\(M - N, 4\)' comes to is known only when the program runs"
    ):
        torch.compile(program, fullgraph=True)(KEPT, x, False)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(program, fullgraph=True)(KEPT, x, True), most(x[KEPT]).relu())

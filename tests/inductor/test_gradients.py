"""A template's own backward: called where its gradient is taken, checked, and never a stale one."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import tdsl
from tdsl import TdslError, operators, testing
from tests.inductor.test_processes import run

testing.device()

SOFTMAX = """
template softmax(x: T[R, N]) -> y: T[R, N]:
    config BLOCK_R=2, num_warps=4
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load x[r, n])
        e = exp(v - max(v, n))
        store y[r, n] = e / sum(e, n)

template softmax_grad(dy: T[R, N], y: T[R, N]) -> dx: T[R, N]:
    config BLOCK_R=2, num_warps=4
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load y[r, n])
        g = f32(load dy[r, n])
        store dx[r, n] = v * (g - sum(v * g, n))
"""

NORM = """
template norm(x: T[R, N], w: T[N], b: T[N]?, eps: float, keep: bool = True) -> (y: T[R, N], rstd: f32[R], size: i32[R]):
    config BLOCK_R=2, num_warps=4
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load x[r, n])
        inv = rsqrt(sum(v * v, n) / N + eps)
        out = v * inv * load w[n]
        if b:
            out += load b[n]
        store y[r, n] = out
        store rstd[r] = inv
        store size[r] = N
"""

DOUBLE = """
template double(x: f32[N]) -> y: f32[N]:
    for n in grid(N by 16):
        store y[n] = load x[n] * 2
"""


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


def reference(x):
    return torch.softmax(x.float(), -1).to(x.dtype)


@tdsl.template(source=SOFTMAX)
def softmax_grad(dy, y):
    return y * (dy - (y * dy).sum(-1, keepdim=True))


def make_softmax(saves=("y",), without_reference=False):
    """A softmax, and the calls of its backward."""
    calls = []

    def softmax(x):
        return reference(x)

    def nothing(x): ...

    made = tdsl.template(source=SOFTMAX, name="softmax")(nothing if without_reference else softmax)

    def softmax_backward(grads, inputs, outputs):
        calls.append(tuple(grads.y.stride()))
        return {"x": softmax_grad(grads.y, outputs.y)}

    assert made.backward(saves=saves)(softmax_backward) is softmax_backward
    return made, calls


def make_norm(**saves):
    @tdsl.template(source=NORM)
    def norm(x, w, b, eps, keep=True):
        inv = torch.rsqrt(x.float().square().mean(-1) + eps)
        y = x * inv[:, None] * w
        y = y if b is None else y + b
        return y.to(x.dtype), inv, torch.full((x.shape[0],), x.shape[1], dtype=torch.int32)

    def norm_backward(grads, inputs, outputs):
        x, inv = inputs.x, outputs.rstd[:, None]
        assert inputs.keep is True and isinstance(inputs.eps, float)
        g = grads.y * inputs.w
        along = (g * x).sum(-1, keepdim=True) - grads.rstd[:, None] * -1
        dx = g * inv - x * inv**3 * along / x.shape[1]
        return {
            "x": dx,
            "w": (grads.y * x * inv).sum(0),
            "b": None if inputs.b is None else grads.y.sum(0),
        }

    (norm.backward(**saves) if saves else norm.backward)(norm_backward)
    return norm


def both(f, *args):
    """The gradients of `f` by own backwards and by the references, of copies of the arguments."""

    def take(f):
        mine = [a.detach().requires_grad_(a.requires_grad) if isinstance(a, torch.Tensor) else a for a in args]
        floats = [a for a in mine if isinstance(a, torch.Tensor) and a.requires_grad]
        return torch.autograd.grad(f(*mine), floats)

    with operators.reference_gradients():
        want = take(f)
    return take(f), take(torch.compile(f, fullgraph=True)), want


@pytest.mark.parametrize("without_reference", [False, True])
def test_softmax(without_reference):
    softmax, calls = make_softmax(without_reference=without_reference)
    x = torch.randn(5, 37, requires_grad=True)
    want = torch.autograd.grad((reference(x) ** 2).sum(), x)
    torch.testing.assert_close(torch.autograd.grad((softmax(x) ** 2).sum(), x), want)
    assert len(calls) == 1
    compiled = torch.compile(lambda x: (softmax(torch.sin(x)) ** 2).sum(), fullgraph=True)
    want = torch.autograd.grad((reference(x.sin()) ** 2).sum(), x)
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x), want)
    assert len(calls) == 2  # once, as the graph was made
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x), want)
    assert len(calls) == 2

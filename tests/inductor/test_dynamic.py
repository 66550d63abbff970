"""Dynamic sizes: one compilation serves all, fused as with static ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend

from tdsl.testing import assert_fused, load_module

t = load_module(Path(__file__).with_name("templates.py"))
mm, ew, rn, ln, axpy = t.mm, t.ew, t.rn, t.ln, t.axpy


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


def randn(*shape):
    return torch.randn(shape)


PROGRAMS = {
    "founding": (
        lambda a, b, c: torch.relu(mm(a, torch.sigmoid(b))) * c,
        lambda n: (randn(n, n + 3), randn(n + 3, 50), randn(50)),
    ),
    "all": (
        lambda a, b, c: F.gelu(mm(a * 2, b) + c),
        lambda n: (randn(n, n + 3), randn(n + 3, n + 1), randn(n + 1)),
    ),
    "flip": (
        lambda a, b, c: mm(a.flip(0) + c, b),
        lambda n: (randn(n, n + 3), randn(n + 3, n + 1), randn(n + 3)),
    ),
    "views": (
        lambda a, b: torch.relu(mm(a, b).view(-1, 2, 50)) + 1,
        lambda n: (randn(2 * n, n + 3), randn(n + 3, 50)),
    ),
    "slices": (lambda a, b: mm(a[:, 1:], b[1:]) + 1, lambda n: (randn(n, n + 3), randn(n + 3, n + 1))),
    "rows": (lambda x, w: rn(x * 2, w, 1e-5) + x, lambda n: (randn(n, 3, 40), randn(40))),
    "outputs": (
        lambda x, w: (lambda y, m, r: (y * 2, m + r, y / r[..., None]))(*ln(x + 1, w, None, 1e-5)),
        lambda n: (randn(3, n, 40), randn(40)),
    ),
    "in place": (lambda y, x: (axpy(y, x * 2, 3.0), y + 1)[1], lambda n: (randn(n), randn(n))),
    "several": (
        lambda a, b: (ew(a, b) + 1, ew(a, b).relu(), torch.arange(a.shape[1]) * ew(a, b)),
        lambda n: (randn(n, n + 2), randn(n, n + 2)),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_compilation(name):
    program, arguments = PROGRAMS[name]
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(program, dynamic=True, fullgraph=True, backend=counter)
    for n in (33, 4, 16, 65):
        mine, its = arguments(n), None
        its = [a.clone() for a in mine]
        torch.testing.assert_close(compiled(*mine), eager(program, its), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(list(mine), its)
    assert counter.frame_count == 1


def eager(program, args):
    from tdsl.testing import _PyTorch

    with _PyTorch(float64=False):
        return program(*args)


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in ("several", "views")])
def test_one_kernel(name):
    program, arguments = PROGRAMS[name]
    assert_fused(program, arguments(33), kernels=1, dynamic=True)


def test_a_size_that_grows_dynamic():
    compiled = torch.compile(lambda a, b: torch.relu(mm(a, b)), fullgraph=True)
    for n in (5, 6, 7, 40):
        a, b = randn(n, 33), randn(33, 20)
        torch.testing.assert_close(compiled(a, b), torch.relu(a @ b), rtol=1e-4, atol=1e-4)


def test_a_dynamic_scalar():
    compiled = torch.compile(lambda x, w, e: rn(x, w, e) * 2, fullgraph=True)
    x, w = randn(5, 40), randn(40)
    for eps in (1e-5, 1e-3, 0.1):
        torch.testing.assert_close(compiled(x, w, eps), rn.reference(x, w, eps) * 2)

"""Sizes and scalars that become dynamic. (Programs that are compiled so at once are in `test_scenarios`.)"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tdsl.testing import load_module

t = load_module(Path(__file__).with_name("templates.py"))
mm, rn = t.mm, t.rn


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


def randn(*shape):
    return torch.randn(shape)


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

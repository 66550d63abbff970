"""Sizes and scalars that become dynamic. (Programs that are compiled so at once are in `test_scenarios`.)"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tdsl
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


SIGN = """
template signed(a: f32[M], d: int) -> y: f32[M]:
    for m in grid(M):
        store y[m] = load a[m] + f32(d // 2) * 100 + f32(d % 5)
"""


@tdsl.template(source=SIGN)
def signed(a: torch.Tensor, d: int) -> torch.Tensor:
    return a + d // 2 * 100 + d % 5


@pytest.mark.parametrize(
    "number",
    [
        lambda n: (n - 30) % -7,
        lambda n: (n - 30) // 4,
        lambda n: n // -5,
        lambda n: min(n // 2 - 9, 2),
        lambda n: 3 - n,
        lambda n: (n - 9) // 2 * 3,
    ],
)
def test_a_number_calculated_of_sizes_has_a_sign(number):
    """Inductor's symbol for what it computes on the host is one of a size, which is never negative."""
    a, first = randn(3), randn(8)
    torch._dynamo.mark_dynamic(first, 0)
    compiled = torch.compile(lambda a, x: signed(a, number(x.shape[0])), fullgraph=True)
    for x in (first, randn(13), randn(41)):
        torch.testing.assert_close(compiled(a, x), signed.reference(a, number(x.shape[0])))

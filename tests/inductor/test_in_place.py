"""Templates that write to their arguments: always as PyTorch, and one kernel where nothing else sees the memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tdsl.testing import assert_fused, load_module

t = load_module(Path(__file__).with_name("templates.py"))
axpy, swap = t.axpy, t.swap


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


V, U = torch.randn(100), torch.randn(100)


def test_a_temporary():
    def program(a, b):
        x = a * 2
        axpy(x, b, 3.0)
        return torch.relu(x) + 1

    assert_fused(program, (V, U), kernels=1)


def test_an_argument():
    assert_fused(lambda y, x: axpy(y, x, 2.0), (V, U), kernels=1)


def test_an_argument_and_what_reads_it():
    def program(y, x):
        axpy(y, torch.exp(x), 2.0)
        return torch.relu(y) + 1, y * x

    assert_fused(program, (V, U), kernels=1)


def test_what_reads_it_before():
    def program(y, x):
        before = y + 1
        axpy(y, x, 2.0)
        return before, y * 2

    assert_fused(program, (V, U), kernels=None)


def test_in_place_after():
    def program(y, x):
        axpy(y, x, 2.0)
        y.relu_()
        return y + 1

    assert_fused(program, (V, U), kernels=None)


def test_twice():
    def program(y, x):
        axpy(y, x, 2.0)
        axpy(y, x, -1.0)
        return y.sum()

    assert_fused(program, (V, U), kernels=None)


def test_clone_then_mutate():
    def program(y, x):
        z = y.clone()
        axpy(z, x, 2.0)
        return z, y

    assert_fused(program, (V, U), kernels=None)


def test_two_arguments():
    def program(a, b):
        swap(a, b)
        return a - b

    assert_fused(program, (torch.randn(20, 33), torch.randn(20, 33)), kernels=None)


def test_two_temporaries():
    def program(a, b):
        c, d = a * 2, b + 1
        swap(c, d)
        return torch.relu(c), d - 1

    assert_fused(program, (torch.randn(20, 33), torch.randn(20, 33)), kernels=1)


@pytest.mark.parametrize(
    "view",
    [
        lambda base: base[10:110],
        lambda base: base[::2],
        lambda base: base.view(10, 20).T[3:8].reshape(-1),
        lambda base: base.view(2, 100)[1],
        lambda base: base.view(100, 2)[:, 1],
        lambda base: base.flip(0)[:100],
    ],
)
def test_a_view(view):
    def program(base, x):
        axpy(view(base), x, 2.0)
        return base * 2

    x = torch.randn(view(torch.randn(200)).shape)
    assert_fused(program, (torch.randn(200), x), kernels=None)


def test_a_view_of_a_temporary():
    def program(a, x):
        base = a.clone()
        axpy(base[10:110], x, 2.0)
        return base, base[20:30] + 1

    assert_fused(program, (torch.randn(200), U), kernels=None)


def test_overlapping_arguments():
    base = torch.randn(150)
    assert_fused(lambda y, x: axpy(y, x, 2.0), (base[:100], base[50:].clone()), kernels=None)
    assert_fused(lambda base: (axpy(base[:100], base[:100] * 1, 2.0), base), (base,), kernels=None)


def test_the_same_tensor_twice():
    def program(y):
        axpy(y, y.clone(), 2.0)
        return y + 1

    assert_fused(program, (V,), kernels=None)


def test_transposed_arguments():
    def program(a, b):
        swap(a, b)
        return a + 1

    assert_fused(program, (torch.randn(33, 20).T, torch.randn(20, 33)), kernels=None)


def test_empty():
    assert_fused(lambda y, x: axpy(y, x, 2.0), (torch.randn(0), torch.randn(0)), kernels=None)

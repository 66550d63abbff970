"""Identical layers are lowered once, and what differs is not taken for the same: counted, and run."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch

import tdsl
from tdsl.lower.emit import emission
from tdsl.lower.emit.text import function_text
from tdsl.lower.inductor import launch, recording
from tdsl.testing import assert_fused, count_kernels, load_module

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")
t = load_module(Path(__file__).with_name("templates.py"))

TEXT = """
template affine(x: T[M, N], b: T[N]?, k: int, s: float, c: const float) -> y: T[M, N]
where T in (f16, f32, f64):
    config BLOCK=16
    for m, n in grid(M by BLOCK, N by BLOCK):
        v = load x[m, n] * T(s) * T(c) + T(k)
        if b:
            v += load b[n]
        store y[m, n] = v
"""


@tdsl.template(source=TEXT)
def affine(x, b, k, s, c):
    y = x * s * c + k
    return y if b is None else y + b


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
    emission.lower.cache_clear()


def layers(x, weights):
    for w, product in weights:
        x = x + torch.relu(t.mm(torch.sigmoid(t.rn(x, w, 1e-6)), product))
    return x


def of_layers(count, rows=5):
    return torch.randn(rows, 37), [(torch.randn(37), torch.randn(37, 37) / 6) for _ in range(count)]


@pytest.mark.parametrize("dynamic", [False, True])
def test_identical_layers_are_emitted_once(dynamic):
    for count in (2, 8):
        torch._dynamo.reset()
        emission.lower.cache_clear()
        x, weights = of_layers(count)
        if dynamic:
            torch._dynamo.mark_dynamic(x, 0)
        with mock.patch.object(emission, "_Emission", wraps=emission._Emission) as made:
            compiled = torch.compile(layers, fullgraph=True)
            found = count_kernels(compiled, x, weights)
        # The first layer reads an argument of the graph where the others read what is made, so that its kernels are others.
        assert found.kernels == 4 and made.call_count == 2
        torch.testing.assert_close(compiled(x, weights), layers(x, weights))


def test_their_kernels_are_as_if_each_had_been_emitted():
    x, weights = of_layers(3)

    def code():
        torch._dynamo.reset()
        made = count_kernels(torch.compile(layers, fullgraph=True), x, weights).code
        return [text.partition("\n")[2] for text in made]  # the first line numbers the graph

    kept = code()
    with mock.patch("tdsl.lower.lower", emission.lower.__wrapped__):
        assert code() == kept


X = torch.arange(7 * 40).reshape(7, 40).float()
B = torch.arange(40).float()
ONE = (X, None, 1, 2.0, 3.0)


@pytest.mark.parametrize(
    "other",
    {
        "another size": (X[:5], None, 1, 2.0, 3.0),
        "another dtype": (X.double(), None, 1, 2.0, 3.0),
        "other strides": (X.T.contiguous().T, None, 1, 2.0, 3.0),
        "another row's stride": (torch.cat([X, X], 1)[:, :40], None, 1, 2.0, 3.0),
        "not aligned": (torch.cat([X, X], 1)[:, 1:41], None, 1, 2.0, 3.0),
        "an optional tensor": (X, B, 1, 2.0, 3.0),
        "another integer": (X, None, 2, 2.0, 3.0),
        "another number": (X, None, 1, 5.0, 3.0),
        "another constant": (X, None, 1, 2.0, 5.0),
        "a constant of another sign": (X, None, 0, 2.0, -3.0),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_two_calls_in_one_graph(other):
    def program(one, other):
        return [torch.relu(affine(*one)) + 1, torch.relu(affine(*other)) + 1, affine(*one)]

    compiled = torch.compile(program, fullgraph=True)
    for made, expected in zip(compiled(ONE, other[1]), program(ONE, other[1]), strict=True):
        torch.testing.assert_close(made, expected, rtol=0, atol=0)


def test_an_eager_call_for_each_sign_of_zero():
    """In float64 a number stands in the kernel's text."""
    x = torch.randn(3, 5, dtype=torch.float64)
    with mock.patch.dict(launch._entries, clear=True):
        for factor in (0.0, -0.0, 0.0, -0.0):
            affine(x, None, 0, factor, 1.0)
        texts = {function_text(entry.source) for entry in launch._entries.values()}
    assert len(texts) == 2 and sum("-0.0" in text for text in texts) == 1


def test_sizes_of_two_graphs():
    """The same kernel serves rows that vary in one graph, and columns that vary in another, each by its own name."""
    for dim in (0, 1):
        for size in (3, 9):
            torch._dynamo.reset()
            x = torch.randn(16, 40).narrow(dim, 0, size).contiguous()
            torch._dynamo.mark_dynamic(x, dim)
            assert_fused(lambda x: torch.relu(affine(x.sin(), None, 1, 2.0, 3.0)), (x,))


def test_what_work_costs_is_found_once_for_each_node():
    """The scheduler asks of each pair of nodes."""

    def wide(x, products):
        return [t.mm(torch.sigmoid(x + at), product) for at, product in enumerate(products)]

    counts = []
    for count in (4, 8):
        torch._dynamo.reset()
        with mock.patch.object(recording, "_effort", wraps=recording._effort) as found:
            x, products = torch.randn(5, 37), [torch.randn(37, 37) for _ in range(count)]
            count_kernels(torch.compile(wide, fullgraph=True), x, products)
        counts.append(found.call_count)
    assert 0 < counts[1] <= 2 * counts[0]

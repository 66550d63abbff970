"""A kernel of several launches: one template behind another, and Inductor plans what lies between them."""

from __future__ import annotations

import pytest
import torch

import tdsl
from tdsl.testing import count_kernels

TEXT = """
template parts(A: T[M, K], B: T[K, N], S: int) -> P: f32[S, M, N]
where T in (f16, bf16, f32), S > 0:
    config BLOCK_M=16, BLOCK_N=32, BLOCK_K=16
    for s, m, n in grid(S, M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in s * cdiv(K, S) to minimum((s + 1) * cdiv(K, S), K) by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store P[s, m, n] = acc

template total(P: f32[S, M, N]) -> C: f32[M, N]:
    config BLOCK_M=16, BLOCK_N=32
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for s in S:
            acc += load P[s, m, n]
        store C[m, n] = acc
"""


@tdsl.template(source=TEXT)
def parts(A, B, S): ...


@tdsl.template(source=TEXT)
def total(P): ...


def split_k(a, b, bias, count):
    return torch.relu(total(parts(torch.sigmoid(a), b, count)) + bias)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_product_whose_sum_is_split(count, dynamic):
    compiled = torch.compile(split_k, fullgraph=True, dynamic=dynamic)
    for m, k, n in [(33, 70, 40), (1, 3, 1), (16, 48, 65)]:
        a, b = torch.randint(-3, 4, (m, k)).float(), torch.randint(-3, 4, (k, n)).float()
        bias = torch.randint(-3, 4, (n,)).float()
        expected = torch.relu(torch.sigmoid(a) @ b + bias)
        torch.testing.assert_close(split_k(a, b, bias, count), expected)
        found = count_kernels(compiled, a, b, bias, count)
        assert found.kernels <= 2, "the work before is in the first, the work behind in the last"
        torch.testing.assert_close(compiled(a, b, bias, count), expected)


def test_what_lies_between_is_planned():
    """It is one buffer of the graph, which Inductor allocates, and reuses for what comes next."""

    def twice(a, b, bias):
        first = split_k(a, b, bias, 3)
        return split_k(first @ first.T, a, bias, 3)

    a, b, bias = torch.randn(64, 64), torch.randn(64, 64), torch.randn(64)
    found = count_kernels(torch.compile(twice, fullgraph=True), a, b, bias)
    (code,) = found.code
    torch.testing.assert_close(torch.compile(twice, fullgraph=True)(a, b, bias), twice(a, b, bias))
    assert code.count("empty_strided_cpu((3, 64, 64)") == 1
    assert "# reuse" in code

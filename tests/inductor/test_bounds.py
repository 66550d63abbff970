"""Points that lie where a proof, a branch or the author says, and names that a signature may have: fused."""

from __future__ import annotations

import pytest
import torch

import tdsl
from tdsl import testing

DEVICE = testing.device()


@tdsl.template(
    source="""
template rope(x: f32[S, D], cos: f32[S, D // 2], sin: f32[S, D // 2]) -> y: f32[S, D]
where D % 2 == 0:
    config BLOCK=4
    let H = D // 2
    for s, d in grid(S by BLOCK, D by 8):
        i = d % (D // 2)
        c = load cos[s, i]
        v = load sin[s, i]
        low = load x[s, d - D // 2] else 0
        high = load x[s, d + D // 2] else 0
        store y[s, d] = load x[s, d] * c + where(d < H, -high, low) * v + 0 * cos(c)
"""
)
def rope(x, cos, sin):  # called like built-in functions
    h = x.shape[1] // 2
    a, b = x[:, :h], x[:, h:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], 1)


@tdsl.template(
    source="""
template center(x: f32[N, C], like: f32[G]) -> y: f32[N, C]
where C % G == 0:
    for n, g in grid(N, G):
        t = f32(0)
        for c in g * (C // G) to (g + 1) * (C // G) by 4:
            t += sum(load x[n, c], c)
        for c in g * (C // G) to (g + 1) * (C // G) by 4:
            store y[n, c] = load x[n, c] - t
"""
)
def center(x, like):
    g = like.shape[0]
    v = x.reshape(x.shape[0], g, -1)
    return (v - v.sum(-1, keepdim=True)).reshape(x.shape)


@tdsl.template(
    source="""
template walked(x: f32[M, N]) -> (y: f32[M, N], s: f32[N]):
    config BLOCK=4
    for m in grid(M by BLOCK):
        n = whole(N)
        total = zeros(n)
        for i in m.start to m.stop:
            store y[i, n] = load x[i, n] - max(load x[i, n], n)
            total += load x[i, n]
        accumulate s[n] += total
"""
)
def walked(x):
    return x - x.amax(1, keepdim=True), x.sum(0)


@tdsl.template(
    source="""
template segments(x: f32[L, D], offs: i64[S + 1]) -> y: f32[S, D]:
    for s, d in grid(S, D by 8):
        first = load offs[s]
        last = load offs[s + 1]
        acc = zeros(d)
        for l in L:
            if l >= first and l < last:
                acc += load x[l, d]
        store y[s, d] = acc
"""
)
def segments(x, offs):
    rows = torch.arange(x.shape[0], device=x.device)
    return ((rows >= offs[:-1, None]) & (rows < offs[1:, None])).to(x.dtype) @ x


@tdsl.template(
    source="""
template scatter(ids: i32[R], v: f32[R, D], like: f32[V]) -> (a: f32[V, D], b: f32[V, D]):
    for r in grid(R by 4):
        d = whole(D)
        i = load ids[r]
        accumulate a[i, d] else skip += load v[r, d]
        for j in r.start to r.stop:
            k = load ids[j]
            if k >= 0 and k < V:
                accumulate b[k, d] += load v[j, d]
"""
)
def scatter(ids, v, like):
    inside = (ids >= 0) & (ids < like.shape[0])
    a = torch.zeros(like.shape[0], v.shape[1], device=v.device).index_add(
        0, torch.where(inside, ids, 0), v * inside[:, None]
    )
    return a, a.clone()


@tdsl.template(
    source="""
template product(A: T[M, K], B: T[K, N]) -> C: f64[M, N]
where T in (bf16, f16, f32, f64, i8, u8):
    for m, n in grid(M by 16, N by 16):
        k = whole(K)
        store C[m, n] = f64(dot(load A[m, k], load B[k, n]))
"""
)
def product(A, B):
    return A.double() @ B.double()


@pytest.mark.parametrize("dynamic", [False, True])
def test_points_that_are_proven_or_skipped(dynamic):
    def program(x, c, s, like, offsets, ids):
        turned = torch.relu(rope(torch.exp(x), cos=torch.cos(c), sin=s))
        centered = torch.relu(center(torch.exp(x), torch.sin(like)))
        summed = torch.relu(segments(torch.sin(x), offsets)) + 1
        skipped, tested = scatter(ids, x * 2, torch.cos(like))
        return turned, centered, summed, skipped + 1, tested

    x, c, s, like = (torch.randn(*size, device=DEVICE) for size in ((7, 12), (7, 6), (7, 6), (4,)))
    offsets = torch.tensor([0, 2, 2, 7], device=DEVICE)
    ids = torch.tensor([0, 3, -1, 4, 99, 3, 1], dtype=torch.int32, device=DEVICE)
    # The four templates, cos(like) with sin(like), of which the sizes alone are needed, and the sum behind `accumulate`.
    testing.assert_fused(program, (x, c, s, like, offsets, ids), kernels=6, dynamic=dynamic)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_loop_over_a_block(dynamic):
    def program(x, gain, bias):
        y, s = walked(torch.sin(x) * gain)
        return torch.exp(y + bias) * y, s

    def arguments(m, n):
        return (
            torch.randn(n, m, device=DEVICE).T,
            torch.randn(m, 1, device=DEVICE),
            torch.randn(n, device=DEVICE),
        )

    others = [arguments(5, 11), arguments(8, 11)] if dynamic else []
    testing.assert_fused(program, arguments(7, 11), dynamic=dynamic or None, also=others)


def test_a_dot_of_a_variable_dtype():
    def program(a, b):
        return product(a, b) + 1

    compiled = torch.compile(program, fullgraph=True)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int8, torch.uint8):
        a, b = (torch.randint(0, 100, size).to(DEVICE, dtype) for size in ((20, 37), (37, 18)))
        torch.testing.assert_close(compiled(a, b), (a.double() @ b.double()) + 1, rtol=0, atol=0)

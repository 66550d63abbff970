"""The templates that the tests of the lowering fuse things into. Small blocks: many of them, all ragged."""

from __future__ import annotations

import torch

import tdsl

TEXT = """
template mm(A: T[M, K], B: T[K, N]) -> C: T[M, N]
where T in (f16, bf16, f32):
    config BLOCK_M=32, BLOCK_N=32, BLOCK_K=32, num_warps=4, num_stages=2
    for m, n in grid(M by BLOCK_M, N by BLOCK_N, group=2):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc

template ew(a: T[M, N], b: T[M, N]) -> c: T[M, N]
where T in (f16, bf16, f32, f64, i64, i32):
    config BLOCK_M=16, BLOCK_N=64, num_warps=4
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        x = load a[m, n]
        store c[m, n] = x * load b[m, n] + x

template rn(x: T[R..., N], w: T[N], eps: float) -> y: T[R..., N]
where T in (f16, bf16, f32):
    config BLOCK_R=4, num_warps=4
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load x[r, n])
        store y[r, n] = v * rsqrt(sum(v * v, n) / N + eps) * load w[n]

template rn_looped(x: T[R, N], w: T[N], eps: float) -> y: T[R, N]
where T in (f16, bf16, f32):
    config BLOCK_R=4, BLOCK_N=32, num_warps=4
    for r in grid(R by BLOCK_R):
        total = zeros(r)
        for n in N by BLOCK_N:
            v = f32(load x[r, n])
            total += sum(v * v, n)
        scale = rsqrt(total / N + eps)
        for n in N by BLOCK_N:
            store y[r, n] = f32(load x[r, n]) * scale * load w[n]

template sm(x: T[R..., N]) -> y: T[R..., N]:
    config BLOCK_R=1, num_warps=4
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load x[r, n])
        e = exp(v - max(v, n))
        store y[r, n] = e / sum(e, n)

template ln(x: T[R..., N], w: T[N], b: T[N]?, eps: float) -> (y: T[R..., N], mean: f32[R...], rstd: f32[R...]):
    config BLOCK_R=4, num_warps=4
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load x[r, n])
        mu = sum(v, n) / N
        c = v - mu
        inv = rsqrt(sum(c * c, n) / N + eps)
        out = c * inv * load w[n]
        if b:
            out += load b[n]
        store y[r, n] = out
        store mean[r] = mu
        store rstd[r] = inv

template axpy(inout y: f32[N], x: f32[N], alpha: float):
    config BLOCK=64, num_warps=4
    for n in grid(N by BLOCK):
        store y[n] = load y[n] + alpha * load x[n]

template swap(inout a: f32[M, N], inout b: f32[M, N]):
    config BLOCK_M=16, BLOCK_N=32, num_warps=4
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        x = load a[m, n]
        y = load b[m, n]
        store a[m, n] = y
        store b[m, n] = x

template column_sums(x: T[M, N]) -> s: f32[N]:
    config BLOCK_M=16, BLOCK_N=32, num_warps=4
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        accumulate s[n] += sum(f32(load x[m, n]), m)

template embed(ids: i64[R], table: T[V, N]) -> y: T[R, N]:
    config BLOCK_R=1, BLOCK_N=64, num_warps=4
    for r, n in grid(R by BLOCK_R, N by BLOCK_N):
        store y[r, n] = load table[load ids[r], n] else 0

template both(x: T[R...]) -> (y: T[R...], z: T[R]):
    config BLOCK=64, num_warps=4
    for r in grid(R by BLOCK):
        v = load x[r]
        store y[r] = v + 1
        store z[r] = v * 2

template less(a: T[M, N], b: T[M, N]) -> c: bool[M, N]:
    config BLOCK_M=16, BLOCK_N=32, num_warps=4
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        store c[m, n] = load a[m, n] < load b[m, n]
"""


@tdsl.template(source=TEXT)
def mm(A, B):
    return A @ B


@tdsl.template(source=TEXT)
def ew(a, b):
    return a * b + a


@tdsl.template(source=TEXT)
def rn(x, w, eps):
    v = x.float()
    return (v * torch.rsqrt((v * v).mean(-1, keepdim=True) + eps) * w).to(x.dtype)


@tdsl.template(source=TEXT)
def rn_looped(x, w, eps):
    v = x.float()
    return (v * torch.rsqrt((v * v).mean(-1, keepdim=True) + eps) * w).to(x.dtype)


@tdsl.template(source=TEXT)
def sm(x):
    return torch.softmax(x, -1)


@tdsl.template(source=TEXT)
def ln(x, w, b, eps):
    v = x.float()
    mean = v.mean(-1)
    c = v - mean[..., None]
    rstd = torch.rsqrt((c * c).mean(-1) + eps)
    out = c * rstd[..., None] * w
    if b is not None:
        out = out + b
    return out.to(x.dtype), mean, rstd


@tdsl.template(source=TEXT)
def axpy(y, x, alpha):
    y.add_(x, alpha=alpha)


@tdsl.template(source=TEXT)
def swap(a, b):
    old = a.clone()
    a.copy_(b)
    b.copy_(old)


@tdsl.template(source=TEXT)
def column_sums(x):
    return x.float().sum(0)


@tdsl.template(source=TEXT)
def embed(ids, table):
    return table[ids]


@tdsl.template(source=TEXT)
def less(a, b):
    return a < b


@tdsl.template(source=TEXT)
def both(x):
    return x + 1, (x * 2).reshape(-1)

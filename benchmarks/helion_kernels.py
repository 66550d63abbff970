"""The rows' operators in Helion's language, fused into torch.compile, in Helion's default configurations.

    matmul(A, B) inside torch.compile    ->    one kernel with the pointwise work around it

Each returns what the template of the same name returns. Imports helion, so only the Helion contender imports it.
"""

# mypy: ignore-errors

import helion
import helion.language as hl
import torch

_kernel = helion.kernel(autotune_effort="none", static_shapes=True, torch_compile_fusion=True)


@_kernel
def matmul(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    m, k = A.size()
    _, n = B.size()
    C = torch.empty([m, n], dtype=A.dtype, device=A.device)
    for tile_m, tile_n in hl.tile([m, n]):
        acc = hl.zeros([tile_m, tile_n], dtype=torch.float32)
        for tile_k in hl.tile(k):
            acc = torch.addmm(acc, A[tile_m, tile_k], B[tile_k, tile_n])
        C[tile_m, tile_n] = acc.to(A.dtype)
    return C


@_kernel
def swiglu(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    m, k = x.size()
    _, n = gate.size()
    y = torch.empty([m, n], dtype=x.dtype, device=x.device)
    for tile_m, tile_n in hl.tile([m, n]):
        g = hl.zeros([tile_m, tile_n], dtype=torch.float32)
        u = hl.zeros([tile_m, tile_n], dtype=torch.float32)
        for tile_k in hl.tile(k):
            block = x[tile_m, tile_k]
            g = torch.addmm(g, block, gate[tile_k, tile_n])
            u = torch.addmm(u, block, up[tile_k, tile_n])
        y[tile_m, tile_n] = (g * torch.sigmoid(g) * u).to(x.dtype)
    return y


@_kernel
def rms_norm(x: torch.Tensor, w: torch.Tensor, eps: float) -> torch.Tensor:
    m = x.size(0)
    y = torch.empty_like(x)
    for tile_m in hl.tile(m):
        v = x[tile_m, :].to(torch.float32)
        scale = torch.rsqrt(torch.mean(v * v, dim=-1) + eps)
        y[tile_m, :] = (v * scale[:, None] * w[:].to(torch.float32)).to(x.dtype)
    return y


@_kernel
def softmax(x: torch.Tensor) -> torch.Tensor:
    m = x.size(0)
    y = torch.empty_like(x)
    for tile_m in hl.tile(m):
        v = x[tile_m, :].to(torch.float32)
        e = torch.exp(v - torch.amax(v, dim=1, keepdim=True))
        y[tile_m, :] = (e / torch.sum(e, dim=1, keepdim=True)).to(x.dtype)
    return y


@_kernel
def layer_norm(
    x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    m, n = x.size()
    y = torch.empty_like(x)
    mean = torch.empty([m], dtype=torch.float32, device=x.device)
    rstd = torch.empty([m], dtype=torch.float32, device=x.device)
    for tile_m in hl.tile(m):
        v = x[tile_m, :].to(torch.float32)
        mu = torch.sum(v, dim=-1) / n
        centred = v - mu[:, None]
        inverse = torch.rsqrt(torch.sum(centred * centred, dim=-1) / n + eps)
        scaled = centred * inverse[:, None] * w[:].to(torch.float32) + b[:].to(torch.float32)
        y[tile_m, :] = scaled.to(x.dtype)
        mean[tile_m] = mu
        rstd[tile_m] = inverse
    return y, mean, rstd


@_kernel
def attention_rows(q_in: torch.Tensor, k_in: torch.Tensor, v_in: torch.Tensor, scale: float) -> torch.Tensor:
    m = q_in.size(-2)
    n = k_in.size(-2)
    head = hl.specialize(q_in.size(-1))
    q = q_in.reshape([-1, m, head])
    k = k_in.reshape([-1, n, head]).transpose(1, 2)
    v = v_in.reshape([-1, n, head])
    out = torch.empty_like(q)
    qk_scale = scale * 1.44269504
    for tile_b, tile_m in hl.tile([q.size(0), m]):
        top = hl.full([tile_b, tile_m], float("-inf"), dtype=torch.float32)
        total = torch.full_like(top, 1.0)
        acc = hl.zeros([tile_b, tile_m, head], dtype=torch.float32)
        block = q[tile_b, tile_m, :]
        for tile_n in hl.tile(n):
            s = torch.bmm(block, k[tile_b, :, tile_n])
            new_top = torch.maximum(top, torch.amax(s, -1) * qk_scale)
            p = torch.exp2(s * qk_scale - new_top[:, :, None])
            rescale = torch.exp2(top - new_top)
            total = total * rescale + torch.sum(p, -1)
            acc = acc * rescale[:, :, None]
            values = v[tile_b, tile_n, :]
            acc = torch.baddbmm(acc, p.to(values.dtype), values)
            top = new_top
        out[tile_b, tile_m, :] = (acc / total[:, :, None]).to(out.dtype)
    return out.view(q_in.size())


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal: bool) -> torch.Tensor:
    assert not causal, "this kernel is for attention without a mask"
    return attention_rows(q, k, v, scale)

"""Grouped-query attention as a model is trained with it: the result is gated, and a row's weight is kept for its gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


def masked_scores(q: torch.Tensor, k: torch.Tensor, scale: float, causal: bool) -> torch.Tensor:
    """[B, H, M, N] in float32 of q: [B, H, M, D] and k: [B, H, N, D]."""
    s = q.float() @ k.float().mT * scale
    if causal:
        s = s.masked_fill(torch.ones_like(s, dtype=torch.bool).triu(1), -torch.inf)
    return s


@tdsl.template("gqa.tdsl")
def gqa(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], 1) for each in (k, v))
    o = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    return o, torch.logsumexp(masked_scores(q, k, scale, causal), -1)


@tdsl.template("gqa.tdsl")
def gqa_backward_kv(
    grad: torch.Tensor,
    delta: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lse: torch.Tensor,
    scale: float,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    heads = (k.shape[1], q.shape[1] // k.shape[1])
    wide_k, wide_v = (each.repeat_interleave(heads[1], 1).float() for each in (k, v))
    p = torch.exp(masked_scores(q, wide_k, scale, causal) - lse[..., None])
    ds = p * (grad.float() @ wide_v.mT - delta[..., None]) * scale
    dk, dv = ds.mT @ q.float(), p.mT @ grad.float()
    dk, dv = (each.unflatten(1, heads).sum(2).to(k.dtype) for each in (dk, dv))
    return dk, dv


@tdsl.template("gqa.tdsl")
def gqa_backward_q(
    grad: torch.Tensor,
    delta: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lse: torch.Tensor,
    scale: float,
    causal: bool = False,
) -> torch.Tensor:
    k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], 1).float() for each in (k, v))
    p = torch.exp(masked_scores(q, k, scale, causal) - lse[..., None])
    return (p * (grad.float() @ v.mT - delta[..., None]) * scale @ k).to(q.dtype)


@gqa.backward
def gqa_gradient(grads: Any, inputs: Any, outputs: Any) -> dict[str, torch.Tensor]:
    q, k, v, scale, causal = inputs.q, inputs.k, inputs.v, inputs.scale, inputs.causal
    delta = (grads.o.float() * outputs.o).sum(-1) - grads.lse
    dk, dv = gqa_backward_kv(grads.o, delta, q, k, v, outputs.lse, scale, causal)
    dq = gqa_backward_q(grads.o, delta, q, k, v, outputs.lse, scale, causal)
    return {"q": dq, "k": dk, "v": dv}


def program(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    o, _ = gqa(q, k, v, q.shape[-1] ** -0.5, causal=True)
    return o * torch.sigmoid(gate)


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    batch, heads, groups, m, d = (4, 16, 4, 1000, 128) if gpu else (2, 4, 2, 70, 24)
    dtype = torch.bfloat16 if gpu else torch.float32
    return (
        torch.randn(batch, heads, m, d, device=device, dtype=dtype),
        torch.randn(batch, groups, m, d, device=device, dtype=dtype),
        torch.randn(batch, groups, m, d, device=device, dtype=dtype),
        torch.randn(batch, heads, m, d, device=device, dtype=dtype),
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

"""Causal attention with a bias on the queries and a gate on the result."""

from __future__ import annotations

import torch
import torch.nn.functional as F

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


@tdsl.template("attention.tdsl")
def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal: bool = False
) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)


def program(
    q: torch.Tensor, bias: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gate: torch.Tensor
) -> torch.Tensor:
    return attention(q + bias, k, v, q.shape[-1] ** -0.5, causal=True) * torch.sigmoid(gate)


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    batch, heads, m, n, d = (4, 16, 1000, 1000, 128) if gpu else (2, 2, 70, 70, 24)
    dtype = torch.bfloat16 if gpu else torch.float32
    return (
        torch.randn(batch, heads, m, d, device=device, dtype=dtype),
        torch.randn(heads, 1, d, device=device, dtype=dtype),
        torch.randn(batch, heads, n, d, device=device, dtype=dtype),
        torch.randn(batch, heads, n, d, device=device, dtype=dtype),
        torch.randn(batch, heads, m, d, device=device, dtype=dtype),
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

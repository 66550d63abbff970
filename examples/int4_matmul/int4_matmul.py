"""A product with 4-bit weights between an activation and a bias."""

from __future__ import annotations

import torch
import torch.nn.functional as F

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


@tdsl.template("int4_matmul.tdsl")
def int4_matmul(A: torch.Tensor, Q: torch.Tensor, S: torch.Tensor, G: int = 128) -> torch.Tensor:
    shifts = torch.arange(0, 32, 4, device=Q.device, dtype=torch.int32)
    weights = ((Q[:, None, :] >> shifts[:, None]) & 15) - 8
    return A @ (weights.flatten(0, 1).to(A.dtype) * S.repeat_interleave(G, 0))


def program(x: torch.Tensor, Q: torch.Tensor, S: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return int4_matmul(F.silu(x), Q, S, G=32) + bias


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    m, n, k = (16, 3000, 4096) if gpu else (9, 50, 96)
    dtype = torch.bfloat16 if gpu else torch.float32
    return (
        torch.randn(m, k, device=device, dtype=dtype),
        torch.randint(-(2**31), 2**31, (k // 8, n), device=device, dtype=torch.int32),
        torch.rand(k // 32, n, device=device, dtype=dtype) / k**0.5,
        torch.randn(n, device=device, dtype=dtype),
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

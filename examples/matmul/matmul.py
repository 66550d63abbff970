"""A matrix product whose right operand, activation and scale ride along: one kernel."""

from __future__ import annotations

import torch

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


@tdsl.template("matmul.tdsl")
def matmul(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    return A @ B


def program(A: torch.Tensor, B: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.relu(matmul(A, torch.sigmoid(B))) * bias


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    m, n, k = (200, 3000, 1000) if gpu else (70, 50, 90)
    dtype = torch.bfloat16 if gpu else torch.float32
    return (
        torch.randn(m, k, device=device, dtype=dtype),
        torch.randn(k, n, device=device, dtype=dtype),
        torch.randn(n, device=device, dtype=dtype),
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

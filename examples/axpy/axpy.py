"""An update in place: the buffer is made, updated and read in one kernel."""

from __future__ import annotations

import torch

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


@tdsl.template("axpy.tdsl")
def axpy(y: torch.Tensor, x: torch.Tensor, alpha: float) -> None:
    y.add_(x, alpha=alpha)


def program(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    y = a * 2
    axpy(y, torch.sigmoid(b), 3.0)
    return torch.relu(y) + 1


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    n = 1_000_001 if device.type == "cuda" else 1100
    return torch.randn(n, device=device), torch.randn(n, device=device)


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

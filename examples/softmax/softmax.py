"""Softmax of logits with a temperature, and a mask on what comes out."""

from __future__ import annotations

from typing import Any

import torch

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


@tdsl.template("softmax.tdsl")
def softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x.float(), -1).to(x.dtype)


@tdsl.template("softmax.tdsl")
def softmax_backward(grad: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    g, p = grad.float(), y.float()
    return (p * (g - (g * p).sum(-1, keepdim=True))).to(y.dtype)


@softmax.backward
def softmax_gradient(grads: Any, inputs: Any, outputs: Any) -> dict[str, torch.Tensor]:
    return {"x": softmax_backward(grads.y, outputs.y)}


def program(logits: torch.Tensor, temperature: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    return torch.where(keep, softmax(logits / temperature), 0)


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    rows, n = (4000, 3000) if gpu else (9, 70)
    dtype = torch.bfloat16 if gpu else torch.float32
    temperature = torch.tensor(0.7, device=device, dtype=dtype)
    return (
        torch.randn(rows, n, device=device, dtype=dtype),
        temperature,
        torch.rand(rows, n, device=device) < 0.9,
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

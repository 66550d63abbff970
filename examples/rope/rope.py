"""Rotary position embedding between the bias of a projection and the scale of the queries."""

from __future__ import annotations

from typing import Any

import torch

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


@tdsl.template("rope.tdsl")
def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    return x * cos.unsqueeze(-3) + rotate_half(x) * sin.unsqueeze(-3)


@tdsl.template("rope.tdsl")
def rope_backward(grad: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    return (grad * cos.unsqueeze(-3) - rotate_half(grad * sin.unsqueeze(-3))).to(grad.dtype)


@rope.backward(saves=("x", "cos", "sin"))
def rope_gradient(grads: Any, inputs: Any, outputs: Any) -> dict[str, torch.Tensor]:
    x, cos, sin, g = inputs.x, inputs.cos, inputs.sin, grads.y
    found = {"x": rope_backward(g, cos, sin).to(x.dtype)}
    if cos.requires_grad:
        found["cos"] = (g * x).sum(1).sum_to_size(cos.shape).to(cos.dtype)
    if sin.requires_grad:
        found["sin"] = (g * rotate_half(x)).sum(1).sum_to_size(sin.shape).to(sin.dtype)
    return found


def program(
    x: torch.Tensor, bias: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    return rope((x + bias).transpose(1, 2), cos, sin) * scale


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    batch, rows, heads, d = (4, 1000, 16, 128) if gpu else (2, 35, 3, 24)
    dtype = torch.bfloat16 if gpu else torch.float32
    angle = torch.arange(rows, device=device)[:, None] * 10000 ** (-torch.arange(0, d, 2, device=device) / d)
    angles = torch.cat((angle, angle), -1)
    return (
        torch.randn(batch, rows, heads, d, device=device, dtype=dtype),
        torch.randn(heads, d, device=device, dtype=dtype),
        angles.cos().to(dtype),
        angles.sin().to(dtype),
        torch.tensor(d**-0.5, device=device, dtype=dtype),
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

"""A gated unit whose input is scaled on the way in and whose residual is added on the way out."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


@tdsl.template("swiglu.tdsl")
def swiglu(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return F.silu(x @ gate) * (x @ up)


@tdsl.template("swiglu.tdsl")
def swiglu_backward(
    grad: torch.Tensor, x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    dy, g, u = grad.float(), (x @ gate).float(), (x @ up).float()
    s = torch.sigmoid(g)
    return (dy * u * s * (1 + g * (1 - s))).to(x.dtype), (dy * g * s).to(x.dtype)


@swiglu.backward(saves=("x", "gate", "up"))
def swiglu_gradient(grads: Any, inputs: Any, outputs: Any) -> dict[str, torch.Tensor]:
    x, gate, up = inputs.x, inputs.gate, inputs.up
    dg, du = swiglu_backward(grads.y, x, gate, up)
    rows, dg_rows, du_rows = (torch.atleast_2d(each).flatten(0, -2) for each in (x, dg, du))
    return {
        "x": dg @ gate.T + du @ up.T,
        "gate": rows.T @ dg_rows,
        "up": rows.T @ du_rows,
    }


def program(
    x: torch.Tensor, scale: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, residual: torch.Tensor
) -> torch.Tensor:
    return swiglu(x * scale, gate, up) + residual


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    m, n, k = (100, 3000, 2000) if gpu else (70, 50, 90)
    dtype = torch.bfloat16 if gpu else torch.float32
    return (
        torch.randn(m, k, device=device, dtype=dtype),
        torch.randn(k, device=device, dtype=dtype),
        torch.randn(k, n, device=device, dtype=dtype) / k**0.5,
        torch.randn(k, n, device=device, dtype=dtype) / k**0.5,
        torch.randn(m, n, device=device, dtype=dtype),
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

"""RMS normalisation between the activation before it and the gate after it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


@tdsl.template("rms_norm.tdsl")
def rms_norm(x: torch.Tensor, w: torch.Tensor, eps: float) -> torch.Tensor:
    v = x.float()
    return (v * torch.rsqrt(v.square().mean(-1, keepdim=True) + eps) * w).to(x.dtype)


@tdsl.template("rms_norm.tdsl")
def rms_norm_backward(
    grad: torch.Tensor, x: torch.Tensor, w: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    v, g = x.float(), grad.float()
    inv = torch.rsqrt(v.square().mean(-1, keepdim=True) + eps)
    unit = v * inv
    dx = inv * (g * w - unit * (g * w * unit).mean(-1, keepdim=True))
    return dx.to(x.dtype), (g * unit).sum_to_size(w.shape)


@rms_norm.backward(saves=("x", "w"))
def rms_norm_gradient(grads: Any, inputs: Any, outputs: Any) -> dict[str, torch.Tensor]:
    dx, dw = rms_norm_backward(grads.y, inputs.x, inputs.w, inputs.eps)
    return {"x": dx, "w": dw.to(inputs.w.dtype)}


def program(x: torch.Tensor, w: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    return rms_norm(F.gelu(x), w, 1e-6) * gate


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    batch, rows, n = (4, 1000, 4096) if gpu else (2, 5, 70)
    dtype = torch.bfloat16 if gpu else torch.float32
    return (
        torch.randn(batch, rows, n, device=device, dtype=dtype),
        torch.randn(n, device=device, dtype=dtype),
        torch.randn(batch, rows, n, device=device, dtype=dtype),
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

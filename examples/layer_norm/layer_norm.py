"""Layer normalisation, three outputs, each with its own epilogue."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


@tdsl.template("layer_norm.tdsl")
def layer_norm(
    x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    v = x.float()
    mean = v.mean(-1)
    centred = v - mean[..., None]
    rstd = torch.rsqrt(centred.square().mean(-1) + eps)
    y = centred * rstd[..., None] * w
    if b is not None:
        y = y + b
    return y.to(x.dtype), mean, rstd


@tdsl.template("layer_norm.tdsl")
def layer_norm_backward(
    grad: torch.Tensor,
    grad_mean: torch.Tensor,
    grad_rstd: torch.Tensor,
    x: torch.Tensor,
    w: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g, inv = grad.float(), rstd[..., None]
    unit = (x.float() - mean[..., None]) * inv
    along_mean = (g * w).sum(-1, keepdim=True) * inv - grad_mean[..., None]
    along_unit = (g * w * unit).sum(-1, keepdim=True) * inv + grad_rstd[..., None] * inv.square()
    dx = g * w * inv - (along_mean + unit * along_unit) / x.shape[-1]
    return dx.to(x.dtype), (g * unit).sum_to_size(w.shape), g.sum_to_size(w.shape)


@layer_norm.backward(saves=("x", "w", "b", "mean", "rstd"))
def layer_norm_gradient(grads: Any, inputs: Any, outputs: Any) -> dict[str, torch.Tensor]:
    x, w = inputs.x, inputs.w
    dx, dw, db = layer_norm_backward(grads.y, grads.mean, grads.rstd, x, w, outputs.mean, outputs.rstd)
    return {"x": dx, "w": dw.to(w.dtype), "b": db.to(w.dtype)}


def program(
    x: torch.Tensor, gain: torch.Tensor, w: torch.Tensor, b: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    y, mean, rstd = layer_norm(x * gain, w, b, 1e-5)
    return F.gelu(y), mean.abs(), 1 / rstd


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    batch, rows, n = (4, 1000, 4096) if gpu else (2, 5, 70)
    dtype = torch.bfloat16 if gpu else torch.float32
    return (
        torch.randn(batch, rows, n, device=device, dtype=dtype),
        torch.randn(n, device=device, dtype=dtype),
        torch.randn(n, device=device, dtype=dtype),
        torch.randn(n, device=device, dtype=dtype),
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

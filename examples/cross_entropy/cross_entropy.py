"""The loss of capped logits, each token with a weight of its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


@tdsl.template("cross_entropy.tdsl")
def cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, ignore_index: int = -100
) -> tuple[torch.Tensor, torch.Tensor]:
    v = logits.float()
    loss = F.cross_entropy(v, target, ignore_index=ignore_index, reduction="none")
    return loss, torch.logsumexp(v, -1)


@tdsl.template("cross_entropy.tdsl")
def cross_entropy_backward(
    grad: torch.Tensor,
    grad_lse: torch.Tensor,
    logits: torch.Tensor,
    target: torch.Tensor,
    lse: torch.Tensor,
    ignore_index: int = -100,
) -> torch.Tensor:
    g = torch.where(target == ignore_index, 0, grad)
    hit = torch.arange(logits.shape[1], device=target.device) == target[:, None]
    p = torch.exp(logits.float() - lse[:, None])
    return (p * (g + grad_lse)[:, None] - torch.where(hit, g[:, None], 0)).to(logits.dtype)


@cross_entropy.backward(saves=("logits", "target", "lse"))
def cross_entropy_gradient(grads: Any, inputs: Any, outputs: Any) -> dict[str, torch.Tensor]:
    logits, target, ignore_index = inputs.logits, inputs.target, inputs.ignore_index
    found = cross_entropy_backward(grads.loss, grads.lse, logits, target, outputs.lse, ignore_index)
    return {"logits": found}


def program(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    loss, _ = cross_entropy(30 * torch.tanh(logits / 30), target)
    return loss * weight


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    rows, vocabulary = (1000, 128_256) if gpu else (9, 70)
    dtype = torch.bfloat16 if gpu else torch.float32
    target = torch.randint(0, vocabulary, (rows,), device=device)
    target[::4] = -100
    return (
        torch.randn(rows, vocabulary, device=device, dtype=dtype),
        target,
        torch.rand(rows, device=device),
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

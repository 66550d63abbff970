"""Rows of an int8 table: only the rows that are asked for are scaled; positions are added."""

from __future__ import annotations

from typing import Any

import torch

import tdsl
from tdsl import testing

device = testing.device()  # without a GPU it switches Triton's interpreter on, so before Triton is imported


@tdsl.template("embed.tdsl")
def embed(ids: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    rows = table.shape[0]
    if rows == 0:
        return table.new_zeros(ids.shape[0], table.shape[1])
    inside = (ids >= 0) & (ids < rows)
    return torch.where(inside[:, None], table[ids.clamp(0, rows - 1)], 0)


@tdsl.template("embed.tdsl")
def embed_backward(grad: torch.Tensor, ids: torch.Tensor, V: int) -> torch.Tensor:
    inside = (ids >= 0) & (ids < V)
    rows = grad.new_zeros(V + 1, grad.shape[1], dtype=torch.float32)  # the last one is of what is outside
    return rows.index_add(0, torch.where(inside, ids, V), grad.float())[:V]


@embed.backward(saves=("ids", "table"))
def embed_gradient(grads: Any, inputs: Any, outputs: Any) -> dict[str, torch.Tensor]:
    table = inputs.table
    return {"table": embed_backward(grads.y, inputs.ids, table.shape[0]).to(table.dtype)}


def program(
    ids: torch.Tensor, table: torch.Tensor, scale: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    return embed(ids, table.to(scale.dtype) * scale) + positions


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gpu = device.type == "cuda"
    ids, rows, n = (4000, 30000, 2048) if gpu else (9, 30, 70)
    dtype = torch.bfloat16 if gpu else torch.float32
    return (
        torch.randint(-1, rows + 1, (ids,), device=device),  # both ends are outside
        torch.randint(-128, 128, (rows, n), device=device, dtype=torch.int8),
        torch.tensor(0.01, device=device, dtype=dtype),
        torch.randn(ids, n, device=device, dtype=dtype),
    )


def main() -> testing.Report:
    """Compile `program` for this machine's GPU, or for Triton's interpreter, and compare with PyTorch."""
    report = testing.assert_fused(program, inputs())
    print(report)
    return report


if __name__ == "__main__":
    main()

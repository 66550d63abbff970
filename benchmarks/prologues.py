"""Times prologues of a matmul fused and kept apart, beside what the rule of docs/fusion.md says of each.

python -m benchmarks prologues            a few minutes, most of them compiling

A line for each: the estimate of both ways in microseconds, which the rule takes, the measured medians, and `wrong` with
what it costs where the other way was faster by more than 3 %.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
import triton

import tdsl
from benchmarks.arguments import add_tiny, some_of
from benchmarks.measuring import spread, write_json
from tdsl.lower.inductor import explanation
from tdsl.lower.inductor.fusion import cost
from tdsl.lower.inductor.fusion.facts import Call, Effort

TEXT = """
template {name}(A: bf16[M, K], B: bf16[K, N]) -> C: bf16[M, N]:
    config BLOCK_M=128, BLOCK_N=256, BLOCK_K=64, num_warps=8, num_stages=3
    config BLOCK_M=128, BLOCK_N=128, BLOCK_K=64, num_warps=8, num_stages=3
    config BLOCK_M=64,  BLOCK_N=128, BLOCK_K=64, num_warps=4, num_stages=3
    for m, n in grid(M by BLOCK_M, N by BLOCK_N, group=8):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k] {says}, load B[k, n] {says})
        store C[m, n] = acc
"""
SIZES = ((4096, 4096, 4096), (512, 4096, 4096), (16, 4096, 4096), (1024, 1024, 1024))
TINY = ((16, 32, 32),)
WORK: dict[str, Callable[..., torch.Tensor]] = {
    "relu": lambda x, y, f, s, q: torch.relu(x),
    "exp": lambda x, y, f, s, q: torch.exp(x),
    "sigmoid": lambda x, y, f, s, q: torch.sigmoid(x),
    "gelu": lambda x, y, f, s, q: F.gelu(x),
    "sum": lambda x, y, f, s, q: x + y,
    "cast": lambda x, y, f, s, q: f.to(torch.bfloat16),
    "dequant": lambda x, y, f, s, q: q.to(torch.bfloat16) * s,
}


def template(name: str, says: str) -> Any:
    return tdsl.template(source=TEXT.format(name=name, says=says), name=name)(lambda A, B: A @ B)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file")
    parser.add_argument(
        "--work",
        type=some_of(WORK),
        default=[*WORK],
        metavar="NAMES",
        help=f"prologues: some of {','.join(WORK)}; all unless given",
    )
    add_tiny(parser)


def main(options: argparse.Namespace) -> int:
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    ways = {says: template(f"matmul_{says}", says) for says in ("fuse", "nofuse")}
    rows = []
    print(f"{'':34} {'estimated':>17} {'measured':>19}")
    for m, k, n in TINY if options.tiny else SIZES:
        for side in ("A", "B"):
            shape = (m, k) if side == "A" else (k, n)
            for work in options.work:
                inputs = (
                    torch.randn(shape, device=device, dtype=torch.bfloat16),
                    torch.randn(shape, device=device, dtype=torch.bfloat16),
                    torch.randn(shape, device=device),
                    torch.randn(shape[1], device=device, dtype=torch.bfloat16),
                    torch.randint(-128, 128, shape, device=device, dtype=torch.int8),
                )
                other = torch.randn((k, n) if side == "A" else (m, k), device=device, dtype=torch.bfloat16)
                fused, seen = _time(ways["fuse"], WORK[work], side, other, inputs)
                apart, _ = _time(ways["nofuse"], WORK[work], side, other, inputs)
                measured, estimated = {"fuse": fused, "nofuse": apart}, seen[-1]
                fuses = estimated.fused <= estimated.apart
                taken, left = (
                    measured[says] for says in (("fuse", "nofuse") if fuses else ("nofuse", "fuse"))
                )
                verdict = f"wrong: +{(taken / left - 1) * 100:.0f} %" if taken > 1.03 * left else ""
                print(
                    f"{m:5} x {k} x {n:5} {side} {work:8} {estimated.fused * 1e6:8.1f} {estimated.apart * 1e6:8.1f} "
                    f"{'fused' if fuses else 'apart'} {measured['fuse'] * 1e3:9.1f} {measured['nofuse'] * 1e3:9.1f} "
                    f"{verdict}",
                    flush=True,
                )
                rows.append(
                    {
                        "sizes": [m, k, n],
                        "side": side,
                        "work": work,
                        "estimated_us": [estimated.fused * 1e6, estimated.apart * 1e6],
                        "measured_us": [measured["fuse"] * 1e3, measured["nofuse"] * 1e3],
                    }
                )
    if options.json:
        name = torch.cuda.get_device_name() if gpu else "none"
        write_json(options.json, {"device": name, "torch": torch.__version__, "rows": rows})
    return 0


def _program(matmul: Any, compute: Callable[..., torch.Tensor], side: str) -> Callable[..., torch.Tensor]:
    if side == "A":
        return lambda other, *inputs: matmul(compute(*inputs), other)
    return lambda other, *inputs: matmul(other, compute(*inputs))


def _time(
    matmul: Any, compute: Any, side: str, other: torch.Tensor, inputs: tuple[torch.Tensor, ...]
) -> tuple[float, list[cost.Cost]]:
    """Milliseconds, the median of many runs; and what the rule makes of the prologue, were it asked."""
    seen: list[cost.Cost] = []

    def look(call: Call, effort: Effort) -> None:
        loaded = {tensor.buffer for tensor in call.tensors.values()}
        seen.extend(cost.estimate(call, effort, name) for name in effort.written if name in loaded)

    torch._dynamo.reset()
    compiled = torch.compile(_program(matmul, compute, side), dynamic=False)
    with (
        mock.patch.object(explanation, "costs_more_fused", look),
        torch._inductor.config.patch(fx_graph_cache=False),
    ):
        compiled(other, *inputs)
    return _median(lambda: compiled(other, *inputs)), seen


def _median(call: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        return float(triton.testing.do_bench(call, warmup=20, rep=80, return_mode="median"))
    samples = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        samples.append((time.perf_counter() - began) * 1e3)
    return spread(samples)["median"]

"""Measures what a layer adds to a compile: graphs of many identical layers, ours beside plain Inductor.

python -m benchmarks compiling
python -m benchmarks compiling --layers 8,32 --profile bench-out/compiling

A layer is `x + silu(matmul(rms_norm(x, w), W))`: two calls of templates, with pointwise work behind one. 'tdsl' compiles it
for Triton's interpreter, 'inductor' the same with the references in place of the templates, for C++, and 'opaque' with
operators of which Inductor knows nothing, which is the least that a call can cost. Each graph is compiled in a process of
its own with empty caches, which has compiled a graph of one layer before: what a first layer costs is not counted.
Seconds are the processor's, in that process: neither a C++ compiler's nor those of who else is busy on the machine.
Memory is what the process grew by at most.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from benchmarks import processes
from benchmarks.arguments import UsageError, count
from benchmarks.measuring import table

WHO = ("inductor", "opaque", "tdsl")
# PyTorch's own clocks.
PHASES = {
    "Dynamo": "bytecode_tracing",
    "AOTAutograd": "create_aot_dispatcher_function",
    "lowering": "GraphLowering.run",
    "scheduling": "Scheduler.__init__",
    "code generation": "Scheduler.codegen",
    "loading": "PyCodeCache.load_by_key_path",
    "seconds": "_compile.compile_inner",
}
INDUCTOR = "compile_fx_inner"  # runs inside of AOTAutograd's
ROWS, COLUMNS = 8, 64
_numbers = itertools.count()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layers",
        type=lambda text: [count(part) for part in text.split(",")],
        default=[8, 32, 96],
        metavar="NUMBERS",
        help="how many each graph has, in growing numbers (8,32,96)",
    )
    parser.add_argument(
        "--rounds", type=count, default=1, help="of how many the fastest counts (%(default)s)"
    )
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="DIR",
        help="keep what cProfile finds in each compile there; it slows them",
    )


def main(options: argparse.Namespace) -> int:
    if sorted(set(options.layers)) != options.layers:
        raise UsageError(f"expected growing numbers of layers, not {','.join(map(str, options.layers))}")
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
    found = {
        who: [_measured(who, layers, options.rounds, options.profile) for layers in options.layers]
        for who in WHO
    }
    print("\n".join(lines(options.layers, found)))
    return 0


def _measured(who: str, layers: int, rounds: int, profile: Path | None) -> dict[str, Any]:
    to = str(profile / f"{who}-{layers}.prof") if profile else ""
    return min((_compile(who, layers, to) for _ in range(rounds)), key=lambda one: float(one["seconds"]))


def _compile(who: str, layers: int, profile: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as caches:
        environment = {**processes.environment(caches), "TRITON_INTERPRET": "1"}
        done = subprocess.run(
            processes.command(measure_compile, who, str(layers), profile),
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measure_compile(who: str, layers: str, profile: str) -> None:
    """Prints, as JSON, the seconds of each phase, and the megabytes by which this process grew."""
    import torch

    clocks = torch._dynamo.utils.compilation_time_metrics
    processor = SimpleNamespace(**{**vars(time), "time_ns": time.process_time_ns})
    with torch.no_grad(), mock.patch.object(torch._dynamo.utils, "time", processor):
        _compiled(who, 1)
        torch._dynamo.reset()
        clocks.clear()
        before = _megabytes()
        profiler = cProfile.Profile()
        if profile:
            profiler.enable()
        _compiled(who, int(layers))
        if profile:
            profiler.disable()
            profiler.dump_stats(profile)
    spent = {phase: sum(clocks.get(clock, ())) for phase, clock in PHASES.items()}
    spent["AOTAutograd"] -= sum(clocks.get(INDUCTOR, ()))
    print(json.dumps({**spent, "memory": _megabytes() - before}))


def _compiled(who: str, layers: int) -> None:
    """Compiles a graph, and runs it once."""
    import torch
    import torch.nn.functional as F

    import tdsl
    from benchmarks.rows import EXAMPLES

    def rms_norm(x: Any, w: Any, eps: float) -> Any:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * w

    def matmul(A: Any, B: Any) -> Any:
        return A @ B

    norm, product = rms_norm, matmul
    if who == "opaque":
        norm = _opaque(norm, "(Tensor x, Tensor w, float eps) -> Tensor")
        product = _opaque(product, "(Tensor A, Tensor B) -> Tensor")
    elif who == "tdsl":
        norm = tdsl.template(EXAMPLES / "rms_norm" / "rms_norm.tdsl")(norm)
        product = tdsl.template(EXAMPLES / "matmul" / "matmul.tdsl", name="matmul")(product)

    def program(x: Any, weights: Sequence[tuple[Any, Any]]) -> Any:
        for w, W in weights:
            x = x + F.silu(product(norm(x, w, 1e-6), W))
        return x

    torch.compile(program, fullgraph=True)(
        torch.randn(ROWS, COLUMNS),
        [(torch.randn(COLUMNS), torch.randn(COLUMNS, COLUMNS)) for _ in range(layers)],
    )


def _opaque(function: Callable[..., Any], schema: str) -> Callable[..., Any]:
    import torch

    name = f"benchmarks::{function.__name__}_{next(_numbers)}"
    made = torch.library.custom_op(name, function, mutates_args=(), schema=schema)
    made.register_fake(lambda *args: torch.empty_like(args[0]))
    return made


def _megabytes() -> float:
    """The most memory that this process has had."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3


def lines(layers: Sequence[int], found: Mapping[str, Sequence[Mapping[str, float]]]) -> Iterator[str]:
    """As Markdown."""
    yield from table(
        (
            "",
            "layers",
            "seconds",
            *(phase for phase in PHASES if phase != "seconds"),
            "MB",
            "ms for each layer more",
        ),
        (
            (
                who,
                str(number),
                f"{one['seconds']:.2f}",
                *(f"{one[phase]:.2f}" for phase in PHASES if phase != "seconds"),
                f"{one['memory']:.0f}",
                _slope(layers, found[who], at),
            )
            for who in WHO
            for at, (number, one) in enumerate(zip(layers, found[who], strict=True))
        ),
    )
    for at in range(1, len(layers)):
        ours = _added(layers, found["tdsl"], at)
        more = [
            f"{ours - _added(layers, found[who], at):.1f} ms more than {who}" for who in WHO if who != "tdsl"
        ]
        yield f"\nFrom {layers[at - 1]} to {layers[at]} layers, one of ours costs {' and '.join(more)}."


def _added(layers: Sequence[int], ones: Sequence[Mapping[str, float]], at: int) -> float:
    """Milliseconds for each layer beyond those of the graph before."""
    return (ones[at]["seconds"] - ones[at - 1]["seconds"]) * 1e3 / (layers[at] - layers[at - 1])


def _slope(layers: Sequence[int], ones: Sequence[Mapping[str, float]], at: int) -> str:
    return f"{_added(layers, ones, at):.1f}" if at else ""

"""What a call costs the host, and what a compile costs: ours beside Inductor's own mm template.

    python -m benchmarks.overhead --out DIR     ->    DIR/overhead.json     (`benchmarks.suite` runs it as its last row)

Launch: a product so small (64 x 64 x 64) that the device waits for the host; the host's time for each call of the
compiled graph, and of the kernel's launch alone. Compile: each contender in a fresh process with empty caches, then
again with what the first one left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from tdsl import pipeline

SIZE = 64
_LAUNCH = re.compile(r"^\s*(\w+)\.run\(", re.MULTILINE)
TEMPLATE_ONLY: Mapping[str, Any] = {"max_autotune_gemm": True, "max_autotune_gemm_backends": "TRITON"}
EIGHT = (
    (128, 256, 64, 8, 3),
    (128, 256, 64, 8, 4),
    (128, 128, 64, 8, 3),
    (128, 128, 64, 4, 3),
    (128, 128, 64, 4, 4),
    (64, 128, 64, 4, 4),
    (128, 64, 64, 4, 4),
    (64, 64, 64, 4, 4),
)
TITLES = {
    "eager": "eager",
    "compile": "torch.compile (cuBLAS)",
    "template": "Inductor's mm template",
    "tdsl": "tdsl",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--part", default="", help="used by the command itself")
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part.partition(":")[0]](options.part.partition(":")[2])))
        return
    import torch

    if not torch.cuda.is_available():
        parser.error("this measures a GPU, and there is none")
    options.out.mkdir(parents=True, exist_ok=True)
    found = measure()
    (options.out / "overhead.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines(found)))


def measure(log: Any = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """All parts, each in a process of its own; a part that fails is its error."""
    found: dict[str, Any] = {"compile": {}}
    for part in ("launch", "recompile"):
        with tempfile.TemporaryDirectory() as caches:
            found[part] = _run(part, caches, log)
            say(f"{part}: {json.dumps(found[part])[:300]}")
    for who in ("compile", "template", "tdsl"):
        with tempfile.TemporaryDirectory() as caches:
            first = _run(f"compile:{who}", caches, log)
            known = _kernels_in(caches)
            second = _run(f"compile:{who}", caches, log)
            second["new_kernels"] = len(_kernels_in(caches) - known)
            found["compile"][who] = {"first": first, "second": second}
            say(f"compile {who}: {json.dumps(found['compile'][who])[:300]}")
    return found


def _run(part: str, caches: str, log: Any) -> dict[str, Any]:
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": os.path.join(caches, "inductor"),
        "TRITON_CACHE_DIR": os.path.join(caches, "triton"),
        "XDG_CACHE_HOME": os.path.join(caches, "home"),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.overhead", "--part", part],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            timeout=120,
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    except (subprocess.TimeoutExpired, json.JSONDecodeError, IndexError) as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def _kernels_in(caches: str) -> set[str]:
    return {str(path) for path in Path(caches).rglob("*.cubin")}


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _matmul(who: str, *, configs: int = 0) -> Any:
    """The matrix product of a contender, and the options to compile it with. `configs`: our template with so many."""
    import torch

    if who != "tdsl":
        return torch.mm, dict(TEMPLATE_ONLY) if who == "template" else {}
    import tdsl
    from benchmarks.candidates import with_configs
    from benchmarks.rows import EXAMPLES
    from tdsl.testing import load_module

    operator = load_module(EXAMPLES / "matmul" / "matmul.py").matmul
    if configs:
        text = (EXAMPLES / "matmul" / "matmul.tdsl").read_text(encoding="utf-8")
        names = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_warps", "num_stages")
        chosen = [dict(zip(names, values, strict=True)) for values in EIGHT[:configs]]
        operator = tdsl.template(source=with_configs(text, "matmul", chosen), name="matmul")(
            operator.reference
        )
    return operator, {}


# Launch


def _launch(nothing: str) -> dict[str, Any]:
    import torch

    from benchmarks.contenders import written_code

    device = _device()
    a, b = (torch.randn(SIZE, SIZE, device=device, dtype=torch.bfloat16) for _ in range(2))
    bias = torch.randn(SIZE, device=device, dtype=torch.bfloat16)
    calls: dict[str, Callable[[], Any]] = {}
    kernels: dict[str, Callable[[], Any]] = {}
    failed: dict[str, str] = {}
    for who in TITLES:
        for fused in (False, True):
            name = f"{who}, relu * bias" if fused else who
            try:
                mm, options = _matmul(who)
                program = _product(mm, fused)
                if who != "eager":
                    program = torch.compile(program, fullgraph=True, options=options or None)
                with torch.no_grad(), written_code() as texts:
                    _steady(program, a, b, bias)
                calls[name] = lambda program=program: program(a, b, bias)  # type: ignore[misc]
                kernel = _kernel_of(lambda program=program: program(a, b, bias), texts)  # type: ignore[misc]
                if kernel is not None:
                    kernels[name] = kernel
            except Exception as error:
                traceback.print_exc()
                failed[name] = f"{type(error).__name__}: {error}"[:300]
    with torch.no_grad():
        return {"call_us": _host(calls), "kernel_us": _host(kernels), "failed": failed}


def _product(mm: Any, fused: bool) -> Any:
    import torch

    if fused:
        return lambda a, b, bias: torch.relu(mm(a, b)) * bias
    return lambda a, b, bias: mm(a, b)


def _steady(program: Any, *arguments: Any) -> None:
    for _ in range(20):
        program(*arguments)


def _kernel_of(call: Callable[[], Any], texts: list[str]) -> Callable[[], Any] | None:
    """The launch in a compiled call, alone: what the graph's code calls `kernel.run(...)`, with the same arguments.

    None where there is not exactly one.
    """
    from benchmarks.explain import autotuners

    named = set(_LAUNCH.findall("\n".join(texts)))
    seen: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    replaced: list[tuple[Any, Any]] = []
    for tuner in autotuners():
        if (
            getattr(tuner.fn, "__name__", "") not in named
            and tuner.inductor_meta.get("kernel_name") not in named
        ):
            continue
        own = tuner.__dict__.get("run")
        run = tuner.run

        def record(*args: Any, tuner: Any = tuner, run: Any = run, **kwargs: Any) -> Any:
            seen.append((tuner, args, kwargs))
            return run(*args, **kwargs)

        tuner.run = record
        replaced.append((tuner, own))
    try:
        call()
    finally:
        for tuner, own in replaced:
            if own is None:
                del tuner.run
            else:
                tuner.run = own
    if len(seen) != 1:
        return None
    tuner, args, kwargs = seen[0]
    return lambda: tuner.run(*args, **kwargs)


def _host(calls: Mapping[str, Callable[[], Any]], rounds: int = 25, repeat: int = 400) -> dict[str, Any]:
    """Microseconds of host time a call; the order of the contenders changes each round."""
    import torch

    gpu = torch.cuda.is_available()
    if not gpu:
        rounds, repeat = 3, 3
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(0)
    for _ in range(rounds):
        shuffle.shuffle(order)
        for name in order:
            call = calls[name]
            for _ in range(repeat // 10):
                call()
            if gpu:
                torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(repeat):
                call()
            samples[name].append((time.perf_counter() - began) * 1e6 / repeat)
            if gpu:
                torch.cuda.synchronize()
    found = {}
    for name, values in samples.items():
        values.sort()
        found[name] = {
            "median": statistics.median(values),
            "p10": values[len(values) // 10],
            "p90": values[len(values) * 9 // 10],
        }
    return found


# Compile


def _prepared(who: str) -> tuple[Any, tuple[Any, ...]]:
    import torch

    device = _device()
    size = 4096 if device.type == "cuda" else 32
    arguments = tuple(
        torch.randn(shape, device=device, dtype=torch.bfloat16)
        for shape in ((size, size), (size, size), (size,))
    )
    mm, options = _matmul(who, configs=len(EIGHT))
    return torch.compile(_product(mm, True), fullgraph=True, options=options or None), arguments


def _warm_up() -> None:
    """Pays for what any first compile in a process pays: imports, the pool of compile workers, a context."""
    import torch

    x = torch.randn(1000, device=_device())
    torch.compile(lambda x: torch.sin(x) + 1, fullgraph=True)(x)
    try:
        from torch._inductor.async_compile import AsyncCompile

        AsyncCompile.wait_pool_ready()
    except Exception:
        traceback.print_exc()


def _compile(who: str) -> dict[str, Any]:
    """Seconds of the first call, where Inductor says they went, and how much was compiled and parsed."""
    import torch

    counted = {"triton_compiles": 0, "template_parses": 0}
    _count_parses(counted)
    _warm_up()
    _count_compiles(counted)
    compiled, arguments = _prepared(who)
    metrics = torch._dynamo.utils.compilation_time_metrics
    before = {name: sum(values) for name, values in metrics.items()}
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    with torch.no_grad():
        compiled(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    after = {name: sum(values) - before.get(name, 0.0) for name, values in metrics.items()}
    phases = dict(
        sorted(((n, round(s, 4)) for n, s in after.items() if s > 0.001), key=lambda item: -item[1])
    )
    return {"seconds": seconds, "phases": phases, **counted}


def _count_parses(counted: dict[str, int]) -> None:
    inner = getattr(pipeline, "parse_partly")  # noqa: B009 -- it is another module's

    def parse(*args: Any, **kwargs: Any) -> Any:
        counted["template_parses"] += 1
        return inner(*args, **kwargs)

    mock.patch.object(pipeline, "parse_partly", parse).start()


def _count_compiles(counted: dict[str, int]) -> None:
    """Counts in this process; what compile workers do shows in the cache folder instead."""
    try:
        from triton import knobs
    except ImportError:
        return

    def listen(*args: Any, cache_hit: bool = False, **kwargs: Any) -> None:
        counted["triton_compiles"] += not cache_hit

    knobs.compilation.listener = listen


def _recompile(nothing: str) -> dict[str, Any]:
    """Milliseconds of a compile whose kernels are all in Triton's cache: tracing and code generation."""
    import torch

    _warm_up()
    found: dict[str, Any] = {}
    with torch.no_grad():
        for who in ("compile", "tdsl"):
            compiled, arguments = _prepared(who)
            compiled(*arguments)
            samples = []
            with (
                torch._inductor.config.patch(fx_graph_cache=False),
                torch._functorch.config.patch(enable_autograd_cache=False),
            ):
                for _ in range(6):
                    torch._dynamo.reset()
                    began = time.perf_counter()
                    compiled(*arguments)
                    samples.append((time.perf_counter() - began) * 1e3)
            found[who] = statistics.median(samples[1:])
    found["lower_ms"] = _lowering_ms()
    return found


def _lowering_ms() -> float:
    """Of that, the lowering of our call: from the checked template to Triton source."""
    import torch

    from tdsl.lower.inductor.lowering import lower_call

    spent = []

    def lower(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = lower_call(*args, **kwargs)
        spent.append((time.perf_counter() - began) * 1e3)
        return result

    compiled, arguments = _prepared("tdsl")
    with (
        mock.patch("tdsl.lower.inductor.lowering.lower_call", lower),
        torch.no_grad(),
        torch._inductor.config.patch(fx_graph_cache=False),
        torch._functorch.config.patch(enable_autograd_cache=False),
    ):
        for _ in range(5):
            torch._dynamo.reset()
            compiled(*arguments)
    return statistics.median(spent)


PARTS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "launch": _launch,
    "compile": _compile,
    "recompile": _recompile,
}


def lines(found: Mapping[str, Any]) -> list[str]:
    """As Markdown."""
    text = []
    launch = found.get("launch", {})
    if launch:
        text += [
            f"Host microseconds for each call of a product of {SIZE} x {SIZE} x {SIZE} (median; p10 to p90):",
            "",
            "| | a call of the graph | the kernel's launch alone |",
            "| --- | --- | --- |",
        ]
    for name, one in launch.get("call_us", {}).items():
        title = TITLES[name.partition(",")[0]] + name[len(name.partition(",")[0]) :]
        kernel = launch["kernel_us"].get(name)
        text.append(f"| {title} | {_spread(one)} | {_spread(kernel) if kernel else ''} |")
    for name, why in [*launch.get("failed", {}).items(), *_error(launch)]:
        text.append(f"| {name} | failed: {' '.join(why.split())[:120]} | |")
    text += [
        "",
        f"The first call of relu(A @ B) * bias, 4096^3, in a process that has compiled something else before; ours with "
        f"{len(EIGHT)} configs:",
        "",
        "| | seconds, empty caches | seconds, second process | Triton kernels it compiled | templates it parsed |",
        "| --- | --- | --- | --- | --- |",
    ]
    for who, pair in found.get("compile", {}).items():
        first, second = pair["first"], pair["second"]
        if "error" in first or "error" in second:
            text.append(f"| {TITLES[who]} | {first.get('error', '')} {second.get('error', '')} | | | |")
            continue
        compiles = max(second["triton_compiles"], second["new_kernels"])
        text.append(
            f"| {TITLES[who]} | {first['seconds']:.2f} | {second['seconds']:.2f} | {compiles} | {second['template_parses']} |"
        )
    again = found.get("recompile", {})
    if "tdsl" in again:
        text += [
            "",
            f"Compiling it once more in one process, every kernel being in Triton's cache: {again['tdsl']:.0f} ms "
            f"(torch.compile with cuBLAS {again['compile']:.0f} ms), of which the lowering of our call takes "
            f"{again['lower_ms']:.1f} ms.",
        ]
    elif "error" in again:
        text += ["", f"Compiling once more failed: {again['error']}"]
    return text


def _error(part: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [("everything", part["error"])] if "error" in part else []


def _spread(one: Mapping[str, float]) -> str:
    return f"{one['median']:.1f} ({one['p10']:.1f} to {one['p90']:.1f})"


if __name__ == "__main__":
    main()

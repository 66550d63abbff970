"""Measures what a call costs the host, and what a compile costs: ours beside Inductor's own mm template.

python -m benchmarks overhead --out DIR

Launch: a product so small (64 x 64 x 64) that the device waits for the host; the host's time for each call of the
compiled graph, and of the kernel's launch alone. Compile: each contender in a fresh process with empty caches, then
again with what the first one left. A table is printed; DIR/overhead.json has more. `suite` measures it as its last row.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import processes
from benchmarks.arguments import add_out, add_tiny
from benchmarks.measuring import in_turn, spread, table, write_json
from tdsl import pipeline

SIZE = 64
NO_TEMPLATE = "needs a GPU"  # Inductor has none for a CPU
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
COMPILE_COLUMNS = (
    "",
    "seconds, empty caches",
    "seconds, second process",
    "Triton kernels it compiled",
    "templates it parsed",
)
TITLES = {
    "eager": "eager",
    "compile": "torch.compile (cuBLAS)",
    "template": "Inductor's mm template",
    "tdsl": "tdsl",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_out(parser, "overhead.json")
    add_tiny(parser, "few calls, and compiles of 32^3")


def main(options: argparse.Namespace) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    found = measure(tiny=options.tiny)
    write_json(options.out / "overhead.json", found)
    print("\n".join(lines(found)))
    return 0


def measure(log: Any = None, say: Callable[[str], None] = print, *, tiny: bool) -> dict[str, Any]:
    """All parts, each in a process of its own; a part that fails is its error."""
    found: dict[str, Any] = {"compile": {}, "size": _size(tiny)}
    for part in ("launch", "recompile"):
        with tempfile.TemporaryDirectory() as caches:
            found[part] = _run(part, "", caches, log, tiny=tiny)
            say(f"{part}: {json.dumps(found[part])[:300]}")
    for who in ("compile", "template", "tdsl"):
        with tempfile.TemporaryDirectory() as caches:
            first = _run("compile", who, caches, log, tiny=tiny)
            known = _kernels_in(caches)
            second = _run("compile", who, caches, log, tiny=tiny)
            second["new_kernels"] = len(_kernels_in(caches) - known)
            found["compile"][who] = {"first": first, "second": second}
            say(f"compile {who}: {json.dumps(found['compile'][who])[:300]}")
    return found


def _run(part: str, who: str, caches: str, log: Any, *, tiny: bool) -> dict[str, Any]:
    try:
        done = subprocess.run(
            processes.command(measure_part, part, who, "tiny" if tiny else ""),
            env={**processes.environment(caches), "XDG_CACHE_HOME": os.path.join(caches, "home")},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            timeout=120,
        )
        if done.returncode:
            return {"error": f"exit status {done.returncode}; its traceback is in suite.log, or above"}
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    except (subprocess.TimeoutExpired, json.JSONDecodeError, IndexError) as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def measure_part(part: str, who: str, tiny: str) -> None:
    """Prints what a part of PARTS has measured in this process; `who` is the contender, where there is one."""
    print(json.dumps(PARTS[part](who, bool(tiny))))


def _kernels_in(caches: str) -> set[str]:
    return {str(path) for path in Path(caches).rglob("*.cubin")}


def _size(tiny: bool) -> int:
    return 32 if tiny else 4096


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


def _launch(nothing: str, tiny: bool) -> dict[str, Any]:
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
            if who == "template" and device.type == "cpu":
                failed[name] = NO_TEMPLATE
                continue
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
        return {"call_us": _host(calls, tiny), "kernel_us": _host(kernels, tiny), "failed": failed}


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
    from benchmarks.tuned import autotuners

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


def _host(calls: Mapping[str, Callable[[], Any]], tiny: bool) -> dict[str, dict[str, float]]:
    """Microseconds of host time a call."""
    import torch

    rounds, repeat = (3, 3) if tiny else (25, 400)
    wait: Callable[[], None] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None

    def sample(call: Callable[[], Any]) -> float:
        for _ in range(repeat // 10):
            call()
        wait()
        began = time.perf_counter()
        for _ in range(repeat):
            call()
        took = time.perf_counter() - began
        wait()
        return took * 1e6 / repeat

    samples = in_turn(
        {name: partial(sample, call) for name, call in calls.items()}, least=rounds, most=rounds
    )
    return {name: spread(values) for name, values in samples.items()}


# Compile


def _prepared(who: str, tiny: bool) -> tuple[Any, tuple[Any, ...]]:
    import torch

    device, size = _device(), _size(tiny)
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


def _compile(who: str, tiny: bool) -> dict[str, Any]:
    """Seconds of the first call, where Inductor says they went, and how much was compiled and parsed."""
    import torch

    counted = {"triton_compiles": 0, "template_parses": 0}
    if who == "template" and _device().type == "cpu":
        return {"error": NO_TEMPLATE}
    _count_parses(counted)
    _warm_up()
    _count_compiles(counted)
    compiled, arguments = _prepared(who, tiny)
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


def _recompile(nothing: str, tiny: bool) -> dict[str, Any]:
    """Milliseconds of a compile whose kernels are all in Triton's cache: tracing and code generation."""
    import torch

    _warm_up()
    found: dict[str, Any] = {}
    with torch.no_grad():
        for who in ("compile", "tdsl"):
            compiled, arguments = _prepared(who, tiny)
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
    found["lower_ms"] = _lowering_ms(tiny)
    return found


def _lowering_ms(tiny: bool) -> float:
    """Of that, the lowering of our call: from the checked template to Triton source."""
    import torch

    from tdsl.lower.emit import emission
    from tdsl.lower.inductor.lowering import lower_call

    spent = []

    def lower(*args: Any, **kwargs: Any) -> Any:
        emission.lower.cache_clear()  # as of a first call
        began = time.perf_counter()
        result = lower_call(*args, **kwargs)
        spent.append((time.perf_counter() - began) * 1e3)
        return result

    compiled, arguments = _prepared("tdsl", tiny)
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


PARTS: Mapping[str, Callable[[str, bool], dict[str, Any]]] = {
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
            *table(("", "a call of the graph", "the kernel's launch alone"), _launches(launch)),
        ]
    text += [
        "",
        f"The first call of relu(A @ B) * bias, {found.get('size', 4096)}^3, in a process that has compiled something else before; ours with "
        f"{len(EIGHT)} configs:",
        "",
        *table(COMPILE_COLUMNS, _compiles(found.get("compile", {}))),
    ]
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


def _launches(launch: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for name, one in launch.get("call_us", {}).items():
        who, comma, rest = name.partition(",")
        kernel = launch["kernel_us"].get(name)
        yield TITLES[who] + comma + rest, _spread(one), _spread(kernel) if kernel else ""
    failed = dict(launch.get("failed", {}))
    if "error" in launch:
        failed["everything"] = launch["error"]
    for name, why in failed.items():
        yield name, f"failed: {' '.join(why.split())[:120]}", ""


def _compiles(found: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for who, pair in found.items():
        first, second = pair["first"], pair["second"]
        if "error" in first or "error" in second:
            errors = dict.fromkeys(part["error"] for part in (first, second) if "error" in part)
            yield TITLES[who], f"failed: {'; '.join(errors)}", "", "", ""
            continue
        compiles = max(second["triton_compiles"], second["new_kernels"])
        yield (
            TITLES[who],
            f"{first['seconds']:.2f}",
            f"{second['seconds']:.2f}",
            str(compiles),
            str(second["template_parses"]),
        )


def _spread(one: Mapping[str, float]) -> str:
    return f"{one['median']:.1f} ({one['p10']:.1f} to {one['p90']:.1f})"

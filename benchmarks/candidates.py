"""Times many configs of our fused kernels, to choose those that an example ships by measurement.

    python -m benchmarks.suite --configs gemm,int8,norm,attention,swiglu --out DIR    ->    DIR/configs.json, and a table

A candidate is the example's template with one `config`. Processes compile candidates side by side and time each
under a lock, alone on the device. Candidates that cannot fit are not made.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import EXAMPLES, Row

Config = dict[str, int]
SHARED_BYTES = 227 * 1024  # of a Hopper multiprocessor, for one block
ACCUMULATOR_REGISTERS = 128  # of 255 a thread
SHOWN = 12


def configs_for(row: Row) -> Iterator[Config]:
    """The candidates of a row; `group` is the grid's, all else as a `config` says it."""
    match row.template:
        case "matmul" | "swiglu":
            yield from _products(row, accumulators=2 if row.template == "swiglu" else 1)
        case "attention":
            yield from _attentions(row.sizes[3])
        case _:
            yield from _norms(row.sizes[-1])


def _products(row: Row, *, accumulators: int) -> Iterator[Config]:
    m = row.sizes[0]
    small = m <= 64
    blocks_m = sorted({max(16, m), 64}) if small else (64, 128, 256)
    blocks_n = (16, 32, 64, 128) if small else (64, 128, 256)
    blocks_k = (64, 128, 256) if small else (32, 64, 128)
    stages = (3, 4, 5, 6) if small else (3, 4, 5)
    for bm, bn, bk, warps, stage in itertools.product(blocks_m, blocks_n, blocks_k, (2, 4, 8), stages):
        if (bm * bk + accumulators * bk * bn) * 2 * stage > SHARED_BYTES:
            continue
        registers = accumulators * bm * bn / (32 * warps)
        if registers > ACCUMULATOR_REGISTERS or registers < (4 if small else 32):
            continue
        if (bk == 32 and stage < 4) or (small and bm == 64 > m and bn < 64):
            continue
        groups = (4, 8, 16) if bm * bn >= 2**15 and bk == 64 else (8,)
        for group in groups:
            yield {
                "BLOCK_M": bm,
                "BLOCK_N": bn,
                "BLOCK_K": bk,
                "num_warps": warps,
                "num_stages": stage,
                "group": group,
            }


def _attentions(head: int) -> Iterator[Config]:
    for bm, bn, warp, stage in itertools.product((64, 128, 256), (32, 64, 128), (4, 8), (2, 3, 4)):
        if (bm * head + 2 * stage * bn * head) * 2 > SHARED_BYTES:
            continue
        if bm * max(head, bn) / (32 * warp) > ACCUMULATOR_REGISTERS:
            continue
        yield {"BLOCK_M": bm, "BLOCK_N": bn, "num_warps": warp, "num_stages": stage}


def _norms(n: int) -> Iterator[Config]:
    for rows, warp in itertools.product((1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32)):
        each = rows * n / (32 * warp)
        if 4 <= each <= 256:
            yield {"BLOCK_R": rows, "num_warps": warp}


def with_configs(text: str, name: str, configs: Sequence[Mapping[str, int]]) -> str:
    """The file's text, where the template `name` has these configs and no others.

    A setting that a config does not name keeps the first value that the template gave it.
    """
    from tdsl import ast
    from tdsl.grammar import parse
    from tdsl.source import Source

    template = next(t for t in parse(Source("candidate", text)).templates if t.name.name == name)
    declared = [d for d in template.declarations if isinstance(d, ast.Config | ast.Tune)]
    first = {item.name.name: item.values[0].span.text for item in declared[0].items}
    indent = " " * (text[: declared[0].span.start].rpartition("\n")[2].count(" "))
    lines = []
    for config in configs:
        items = {key: str(config.get(key, value)) for key, value in first.items()}
        items.update({key: str(config[key]) for key in ("num_warps", "num_stages") if key in config})
        lines.append("config " + ", ".join(f"{key}={value}" for key, value in items.items()))
    for index in reversed(range(len(declared))):
        span = declared[index].span
        text = text[: span.start] + (f"\n{indent}".join(lines) if index == 0 else "") + text[span.end :]
    return text


def with_config(text: str, name: str, config: Mapping[str, int]) -> str:
    """The file's text, where the template has this one config; `group` in it is the grid's."""
    text = with_configs(text, name, [config])
    return re.sub(r"\bgroup=\d+", f"group={config['group']}", text) if "group" in config else text


def tune(chosen: Mapping[str, Row], options: argparse.Namespace) -> int:
    """Measures all candidates of the rows and prints the best of each."""
    from benchmarks.suite import versions

    began = time.time()
    # Row after row: a process holds the inputs and the truth of one.
    lists = [[(name, config) for config in configs_for(row)] for name, row in chosen.items()]
    tasks = [task for tasks_ in lists for task in tasks_]
    jobs = options.jobs or max(1, (os.cpu_count() or 2) - 1)
    if options.tiny:
        tasks = [task for tasks_ in lists for task in tasks_[:2]]
    print(f"{len(tasks)} candidates of {len(chosen)} rows, {jobs} processes", flush=True)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    left: queue.Queue[tuple[str, Config]] = queue.Queue()
    for task in tasks:
        left.put(task)
    scratch = tempfile.mkdtemp(prefix="tdsl-configs-")
    log = (options.out / "configs.log").open("a", encoding="utf-8")
    deadline = began + options.seconds

    def drive() -> None:
        process: subprocess.Popen[str] | None = None
        while time.time() < deadline:
            try:
                row, config = left.get_nowait()
            except queue.Empty:
                break
            if process is None or process.poll() is not None:
                process = _start(scratch, log, tiny=options.tiny)
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps({"row": row, "config": config}) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:
                answer = ""
            # A process that lost its device cannot go on.
            result = json.loads(answer) if answer else {"error": "the process died"}
            results[row].append({"config": config, **result})
            if result.get("fatal"):
                process.kill()
                process.wait()
        if process is not None:
            process.kill()
            process.wait()

    threads = [threading.Thread(target=drive) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    path = options.out / "configs.json"
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(timeout=5)
        _write(path, results, versions(), sys.argv)
    _write(path, results, versions(), sys.argv)
    done = sum(map(len, results.values()))
    print(f"{done} of {len(tasks)} candidates in {time.time() - began:.0f} s\n")
    for name, found in results.items():
        print("\n".join(_best(name, found)), flush=True)
    return 0


def _start(scratch: str, log: Any, *, tiny: bool) -> subprocess.Popen[str]:
    folder = tempfile.mkdtemp(dir=scratch)
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "inductor"),
        "TRITON_CACHE_DIR": os.path.join(folder, "triton"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.candidates", os.path.join(scratch, "gpu.lock"), str(int(tiny))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment,
    )


def _write(path: Path, results: Mapping[str, Any], versions: Mapping[str, str], command: list[str]) -> None:
    text = json.dumps({"command": command, "versions": versions, "rows": results}, indent=1)
    fresh = path.with_suffix(".new")
    fresh.write_text(text + "\n", encoding="utf-8")
    fresh.replace(path)


def _best(name: str, found: list[dict[str, Any]]) -> Iterator[str]:
    right = sorted((one for one in found if one.get("right")), key=lambda one: one["us"])
    wrong = [one for one in found if one.get("right") is False]
    failed = [one for one in found if "error" in one]
    yield f"{name}: {len(right)} timed, {len(wrong)} WRONG, {len(failed)} failed"
    for one in right[:SHOWN]:
        yield (
            f"  {one['us']:8.2f} us  {_spelled(one['config'])}   "
            f"{one['registers']} regs, {one['spills']} spilled, {one['shared']} shared, {one['programs']} programs"
        )
    for one in wrong[:3]:
        yield f"  WRONG ({one['distance']:.2g} of {one['allowed']:.2g}): {_spelled(one['config'])}"
    for why in sorted({one["error"].splitlines()[-1][:160] for one in failed})[:3]:
        yield f"  failed: {why}"
    yield ""


def _spelled(config: Mapping[str, int]) -> str:
    return ", ".join(f"{key}={value}" for key, value in config.items())


# The process that compiles and times


def main() -> None:
    lock_file, tiny = sys.argv[1], sys.argv[2] == "1"
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import torch

    from benchmarks.gpu import Lock

    lock = Lock(lock_file)
    state: dict[str, Any] = {}
    with torch.no_grad():
        for line in sys.stdin:
            task = json.loads(line)
            try:
                answer = _measure(task["row"], task["config"], lock, state, tiny=tiny)
            except Exception as error:
                traceback.print_exc()
                words = "".join(traceback.format_exception_only(type(error), error)).strip()
                fatal = "CUDA error" in words or "illegal memory" in words
                answer = {"error": words[:400], "fatal": fatal}
            out.write(json.dumps(answer) + "\n")


def _measure(name: str, config: Config, lock: Any, state: dict[str, Any], *, tiny: bool) -> dict[str, Any]:
    import torch

    import tdsl
    from benchmarks.contenders import compile_program, parts_of, template_of, written_code
    from benchmarks.explain import autotuners, tuned_kernels
    from benchmarks.gpu import Batch, Timing, sets_for
    from benchmarks.rows import leaves, moved_bytes, rows
    from benchmarks.worker import _allowed, _distance

    row = rows(tiny=tiny)[name]
    torch._dynamo.reset()
    if name not in state:
        with lock:
            state.clear()
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

            def inputs(seed: int) -> Any:
                return row.inputs(device, torch.Generator(device=device).manual_seed(seed))

            arguments = inputs(0)
            # float64 for each process would take the device from the others: float32 tells right from wrong.
            wide = tuple(one.float() if one.is_floating_point() else one for one in arguments)
            truth = [one.double() for one in leaves(row.program(row.baseline)(*wide))]
            eager = row.program(row.baseline)(*arguments)
            allowed = [_allowed(one, true) for one, true in zip(leaves(eager), truth, strict=True)]
            moved = moved_bytes(arguments, eager)
            sets = [inputs(seed) for seed in range(min(8, sets_for(moved)))]
            state[name] = (arguments, truth, allowed, sets)
            state["module"] = template_of(row)
            del eager
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    arguments, truth, allowed, sets = state[name]
    operator = state["module"]
    text = (EXAMPLES / row.template / f"{row.template}.tdsl").read_text(encoding="utf-8")
    made = tdsl.template(source=with_config(text, row.template, config), name=row.template)(
        operator.reference
    )
    call = compile_program(row.program(made), {}, lock)
    older = {id(tuner) for tuner in autotuners()}  # a kernel's name is the same for each config
    began = time.perf_counter()
    waited = lock.waited
    with written_code() as texts:
        result = call(*arguments)
    seconds = time.perf_counter() - began - (lock.waited - waited)
    with lock:
        distances = [_distance(one, true) for one, true in zip(leaves(result), truth, strict=True)]
        del result
        right = all(one <= limit for one, limit in zip(distances, allowed, strict=True))
        answer: dict[str, Any] = {
            "right": right,
            "distance": max(distances),
            "allowed": max(allowed),
            "compile_seconds": seconds,
        }
        kernels = tuned_kernels(texts, older=older)
        answer["kernels"] = parts_of(texts)[0]
        for key in ("registers", "spills", "shared", "programs"):
            answer[key] = getattr(kernels[0], key) if kernels else None
        if right:
            batch = Batch(call, sets)
            batch.measure()
            rounds = 5 if torch.cuda.is_available() else 1
            timing = Timing.of([batch.measure() for _ in range(rounds)], batch.calls)
            answer["us"], answer["p90"] = timing.median, timing.p90
            del batch
    return answer


if __name__ == "__main__":
    main()

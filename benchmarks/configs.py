"""Times many configs of our fused kernels, to choose those that an example ships by measurement.

python -m benchmarks configs gemm,int8,norm,attention,swiglu --out DIR

A candidate is the example's template with one `config`. Processes compile candidates side by side and time each
under a lock, alone on the device. The best of each row are printed; DIR/configs.json has all.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import torch

import tdsl
from benchmarks import processes
from benchmarks.arguments import add_out, add_tiny, count, seconds
from benchmarks.candidates import Config, configs_for, with_config
from benchmarks.contenders import compile_program, parts_of, template_of, written_code
from benchmarks.gpu import Batch, Lock, Timing, sets_for, versions
from benchmarks.measuring import write_json
from benchmarks.rows import EXAMPLES, allowed_distance, chosen_rows, distance, leaves, moved_bytes, rows
from benchmarks.tuned import autotuners, tuned_kernels

SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", metavar="ROWS", help="groups and rows, separated by commas or semicolons")
    add_out(parser, "configs.json")
    add_tiny(parser, "two candidates of each row, in sizes for an interpreter")
    parser.add_argument("--seconds", type=seconds, default=420, help="for everything (%(default)s)")
    parser.add_argument("--jobs", type=count, help="processes (one fewer than there are cores)")


def main(options: argparse.Namespace) -> int:
    """Measures all candidates of the rows and prints the best of each."""
    chosen = chosen_rows(options.rows, tiny=options.tiny)
    options.out.mkdir(parents=True, exist_ok=True)
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
    record = {"command": options.line, "versions": versions(), "rows": results}
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(timeout=5)
        write_json(path, record)
    write_json(path, record)
    done = sum(map(len, results.values()))
    print(f"{done} of {len(tasks)} candidates in {time.time() - began:.0f} s\n")
    for name, found in results.items():
        print("\n".join(_best(name, found)), flush=True)
    return 0


def _start(scratch: str, log: Any, *, tiny: bool) -> subprocess.Popen[str]:
    folder = tempfile.mkdtemp(dir=scratch)
    return subprocess.Popen(
        processes.command(measure_candidates, os.path.join(scratch, "gpu.lock"), "tiny" if tiny else ""),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**processes.environment(folder), "TORCHINDUCTOR_COMPILE_THREADS": "1"},
    )


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


def measure_candidates(lock_file: str, tiny: str) -> None:
    """Answers each line of standard input, a row and a config, with a line."""
    out = processes.answers()
    lock = Lock(lock_file)
    state: dict[str, Any] = {}
    with torch.no_grad():
        for line in sys.stdin:
            task = json.loads(line)
            try:
                answer = _measure(task["row"], task["config"], lock, state, tiny=bool(tiny))
            except Exception as error:
                traceback.print_exc()
                why = processes.words(error)
                answer = {"error": why, "fatal": processes.lost_device(why)}
            out.write(json.dumps(answer) + "\n")


def _measure(name: str, config: Config, lock: Lock, state: dict[str, Any], *, tiny: bool) -> dict[str, Any]:
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
            allowed = [allowed_distance(one, true) for one, true in zip(leaves(eager), truth, strict=True)]
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
        distances = [distance(one, true) for one, true in zip(leaves(result), truth, strict=True)]
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

"""The table: every row against every contender, on the GPU of this machine.

    python -m benchmarks.suite --out DIR [--only gemm,norm,"softmax 16384x4096"] [--quick] [--seconds S]

Rows compile in processes of their own, several at a time; then they are timed one after another, alone. What is known
is written to DIR/results.json after each row, and the table, made of it by `report`, printed at the end.

    python -m benchmarks.suite --explain ROW           what was chosen for our kernel of a row
    python -m benchmarks.suite --configs ROW,GROUP     times candidates for our kernels (see `candidates`)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import CONTENDERS
from benchmarks.rows import Row, rows

ROOT = Path(__file__).parents[1]
GRACE = 30.0  # seconds between the end of compiling and the loss of patience
TURN = 90.0  # seconds that a row's timing may take at most


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-out"), help="where results.json goes")
    parser.add_argument("--only", default="", help="groups and rows, separated by semicolons or commas")
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--quick", action="store_true", help="no max-autotune, shorter rounds")
    parser.add_argument("--tiny", action="store_true", help="sizes for an interpreter: proves that it runs")
    parser.add_argument("--seconds", type=float, default=420, help="for everything")
    parser.add_argument("--row-seconds", type=float, default=2.5, help="of rounds for each row")
    parser.add_argument("--limit", type=float, default=150, help="seconds of compiling for one contender")
    parser.add_argument("--jobs", type=int, default=0, help="rows compiled at a time")
    parser.add_argument("--explain", default="", metavar="ROW")
    parser.add_argument("--configs", default="", metavar="ROWS", help="time candidate configs of our kernels")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        parser.error(
            "this measures a GPU, and there is none; --tiny proves in Triton's interpreter that it runs"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    if options.configs:
        from benchmarks.candidates import tune

        return tune(chosen_rows(options.configs, tiny=options.tiny), options)
    if options.explain:
        options.only, options.contenders = options.explain, "tdsl"
    results = Suite(options).run()
    if options.explain:
        for record in results["rows"].values():
            show_choice(record)
        return 0
    from benchmarks.report import table

    print(table(results))
    return 0


def chosen_rows(only: str, *, tiny: bool) -> dict[str, Row]:
    """Those whose name or group is named; all for nothing. Exits where a name is unknown."""
    known = rows(tiny=tiny)
    wanted = [name.strip() for name in only.replace(";", ",").split(",") if name.strip()]
    if not wanted or wanted == ["all"]:
        return known
    # A row's own name may have commas in it.
    named = [row for row in known.values() if row.name in only or row.group in wanted]
    if not named:
        sys.exit(f"no row or group {only!r}; rows: {'; '.join(known)}")
    return {row.name: row for row in named}


@dataclass(kw_only=True)
class _Process:
    """A worker, and what it said."""

    row: str
    popen: subprocess.Popen[str]
    folder: str
    without: dict[str, Any]  # contenders that took the device away from an earlier process


class Suite:
    """One run. `results` is what is written."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        only = options.only.replace("overhead", "").strip(",; ")
        self.overhead = "overhead" in options.only or only in ("", "all")
        self.chosen = (
            {} if self.overhead and not only and options.only else chosen_rows(only, tiny=options.tiny)
        )
        self.contenders = [name for name in options.contenders.split(",") if name]
        if options.quick:
            self.contenders = [name for name in self.contenders if not name.startswith("max-autotune")]
        self.began = time.time()
        cores = os.cpu_count() or 1
        self.jobs = options.jobs or max(1, min(8, cores // 2))
        self.threads = max(1, cores // self.jobs + 2) if cores > 2 else 1
        self.scratch = tempfile.mkdtemp(prefix="tdsl-bench-")
        self.events: queue.Queue[tuple[_Process, dict[str, Any] | None]] = queue.Queue()
        self.log = (options.out / "suite.log").open("a", encoding="utf-8")
        self.results: dict[str, Any] = {
            "command": shlex.join(["python", "-m", "benchmarks.suite", *sys.argv[1:]]),
            "versions": versions(),
            "jobs": self.jobs,
            "contenders": {name: CONTENDERS[name].title for name in self.contenders},
            "ceilings": {},
            "rows": {},
        }

    def run(self) -> dict[str, Any]:
        # Of what is left for timing each row takes its rounds, and the making of inputs and graphs.
        timing = len(self.chosen) * (self.options.row_seconds + 4) + 15
        deadline = self.began + max(self.options.seconds - timing, self.options.seconds * 0.3)
        # The slowest to compile first.
        waiting = sorted(self.chosen.values(), key=lambda row: not row.matmul)
        running: list[_Process] = []
        ready: dict[str, _Process] = {}
        print(f"{len(waiting)} rows, {self.jobs} at a time, {self.threads} threads each", flush=True)
        ceilings = self.start("ceilings", deadline)
        running.append(ceilings)
        while waiting or running:
            while waiting and len(running) < self.jobs + (ceilings in running):
                running.append(self.start(waiting.pop(0).name, deadline))
            process, event = self.next_event(deadline + GRACE)
            if process is None:
                for late in running:
                    late.popen.kill()
                    self.record(late.row)["broken"] = "it was not compiled in time"
                self.note(f"not compiled in time: {', '.join(late.row for late in running)}")
                running, waiting = [], []
                break
            if event is None or event["event"] == "broken":
                if process in running:
                    running.remove(process)
                    if self.fatal(process.row) not in ({}, process.without):
                        waiting.insert(0, self.chosen[process.row])
                        continue
                    why = event["error"] if event else f"the process ended ({process.popen.wait()})"
                    self.record(process.row)["broken"] = why
                    self.note(f"{process.row}: {why}")
            elif event["event"] == "ready":
                running.remove(process)
                ready[process.row] = process
            else:
                self.take(process, event)
        self.note(f"compiled after {time.time() - self.began:.0f} s")
        self.write()
        for name in ["ceilings", *self.chosen]:
            if name in ready:
                if time.time() - self.began > self.options.seconds:
                    self.record(name)["broken"] = "no time was left to time it"
                    ready[name].popen.kill()
                    continue
                self.time(ready[name])
                self.write()
        if self.overhead:
            from benchmarks.overhead import measure

            self.results["overhead"] = measure(self.log, self.note)
        self.results["seconds"] = time.time() - self.began
        self.write()
        shutil.rmtree(self.scratch, ignore_errors=True)
        return self.results

    def fatal(self, row: str) -> dict[str, Any]:
        """The contenders that took the device away from the row's process."""
        known = self.record(row)["contenders"]
        return {name: one for name, one in known.items() if one.get("fatal")}

    def start(self, row: str, deadline: float) -> _Process:
        without = self.fatal(row)
        folder = tempfile.mkdtemp(dir=self.scratch)
        order = {
            "row": row,
            "tiny": self.options.tiny,
            "contenders": [name for name in self.contenders if name not in without],
            "lock": os.path.join(self.scratch, "gpu.lock"),
            "limit": self.options.limit,
            "deadline": deadline,
            "seconds": self.options.row_seconds if not self.options.quick else 0.5,
        }
        environment = {
            **os.environ,
            "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "inductor"),
            "TRITON_CACHE_DIR": os.path.join(folder, "triton"),
            "TORCHINDUCTOR_COMPILE_THREADS": str(self.threads),
            "HELION_AUTOTUNE_EFFORT": "none",
            "PYTHONUNBUFFERED": "1",
        }
        popen = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )
        process = _Process(row=row, popen=popen, folder=folder, without=without)
        threading.Thread(target=self.listen, args=(process,), daemon=True).start()
        return process

    def listen(self, process: _Process) -> None:
        assert process.popen.stdout is not None
        for line in process.popen.stdout:
            try:
                self.events.put((process, json.loads(line)))
            except json.JSONDecodeError:
                self.note(f"{process.row} said: {line.rstrip()}")
        self.events.put((process, None))

    def next_event(self, until: float) -> tuple[_Process | None, dict[str, Any] | None]:
        try:
            return self.events.get(timeout=max(0.1, until - time.time()))
        except queue.Empty:
            return None, None

    def time(self, process: _Process) -> None:
        assert process.popen.stdin is not None
        try:
            process.popen.stdin.write("now\n")
            process.popen.stdin.flush()
        except OSError:
            self.record(process.row)["broken"] = "the process died while it waited"
            return
        until = time.time() + TURN
        while True:
            other, event = self.next_event(until)
            if other is None:
                process.popen.kill()
                self.record(process.row)["broken"] = f"it was not timed within {TURN:.0f} s"
                return
            if other is not process:
                continue
            if event is None:
                return
            if event["event"] == "ceilings":
                self.results["ceilings"] = {k: v for k, v in event.items() if k != "event"}
            elif event["event"] == "done":
                process.popen.wait()  # its memory is free before the next one's turn
                print(self.line(process.row), flush=True)
                return
            elif event["event"] == "broken":
                self.record(process.row)["broken"] = event["error"]
                return
            else:
                self.take(process, event)

    def take(self, process: _Process, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        record = self.record(process.row)
        if kind == "row":
            record.update(event)
        elif kind == "contender":
            name = event.pop("name")
            record["contenders"].setdefault(name, {}).update(event)
            what = event.get("why") or f"{event.get('compile_seconds', 0):.1f} s"
            if event["status"] != "absent":
                self.note(f"{process.row}: {name} {event['status']}: {' '.join(what.split())[:160]}")
        elif kind == "timing":
            record["contenders"][event.pop("name")]["us"] = event

    def record(self, row: str) -> dict[str, Any]:
        known = self.chosen.get(row)
        made: dict[str, Any] = self.results["rows"].setdefault(row, {"contenders": {}})
        if known is not None:
            made.setdefault("group", known.group)
            made.setdefault("hold", {"against": known.hold.against, "at_most": known.hold.at_most})
        return made

    def line(self, row: str) -> str:
        times = {
            name: one["us"]["median"] for name, one in self.record(row)["contenders"].items() if "us" in one
        }
        return f"{row}: " + ", ".join(f"{name} {value:.1f}" for name, value in times.items()) + " us"

    def note(self, text: str) -> None:
        self.log.write(f"[{time.time() - self.began:.0f} s] {text}\n")
        self.log.flush()
        print(f"[{time.time() - self.began:.0f} s] {text}", flush=True)

    def write(self) -> None:
        path = self.options.out / "results.json"
        ordered = {name: self.results["rows"][name] for name in self.chosen if name in self.results["rows"]}
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({**self.results, "rows": ordered}, indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)


def show_choice(record: dict[str, Any]) -> None:
    ours = record["contenders"].get("tdsl", {})
    print(json.dumps({key: value for key, value in ours.items() if key != "us"}, indent=1))
    if "us" in ours:
        print(f"{ours['us']['median']:.2f} us (p10 {ours['us']['p10']:.2f}, p90 {ours['us']['p90']:.2f})")


def versions() -> dict[str, str]:
    import importlib.metadata

    import torch

    found = {"python": platform.python_version(), "torch": torch.__version__, "cuda": str(torch.version.cuda)}
    for package in ("triton", "helion"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        found["gpu"], found["driver"] = (
            part.strip()
            for part in subprocess.run(query, capture_output=True, text=True, check=True)
            .stdout.splitlines()[0]
            .split(",")
        )
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    found["cores"] = str(os.cpu_count())
    return found


if __name__ == "__main__":
    sys.exit(main())

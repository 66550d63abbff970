"""Times every row against every contender on the GPU of this machine, and prints the table.

python -m benchmarks suite --only gemm,"softmax 16384x4096"

Rows compile in processes of their own, several at a time; then they are timed one after another, alone. What is known
is written to DIR/results.json after each row; `report` makes the table of it again, and `plot` a picture. The launch
and compile costs that `overhead` measures are the row `overhead`.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import overhead, processes
from benchmarks.arguments import add_out, add_tiny, count, seconds, some_of
from benchmarks.contenders import CONTENDERS
from benchmarks.gpu import versions
from benchmarks.measuring import write_json
from benchmarks.report import report
from benchmarks.rows import Row, chosen_rows
from benchmarks.worker import measure_row

GRACE = 30.0  # seconds between the end of compiling and the loss of patience
TURN = 90.0  # seconds that a row's timing may take at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only", default="", metavar="ROWS", help="groups and rows, separated by commas or semicolons"
    )
    parser.add_argument(
        "--contenders",
        type=some_of(CONTENDERS),
        default=[*CONTENDERS],
        metavar="NAMES",
        help=f"some of {','.join(CONTENDERS)}; all unless given",
    )
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What `Suite` reads of the options."""
    add_out(parser, "results.json")
    parser.add_argument("--quick", action="store_true", help="no max-autotune, shorter rounds")
    add_tiny(parser)
    parser.add_argument("--seconds", type=seconds, default=420, help="for everything (%(default)s)")
    parser.add_argument(
        "--row-seconds",
        type=seconds,
        default=2.5,
        metavar="SECONDS",
        help="of rounds for each row (%(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=seconds,
        default=150,
        metavar="SECONDS",
        help="of compiling for one contender (%(default)s)",
    )
    parser.add_argument("--jobs", type=count, help="rows compiled at a time (half of the cores, at most 8)")


def main(options: argparse.Namespace) -> int:
    # `overhead` is no row of `rows`, and is asked for like one.
    rest = options.only.replace("overhead", "").strip(",; ")
    with_overhead = "overhead" in options.only or rest in ("", "all")
    chosen = chosen_rows(rest, tiny=options.tiny) if rest or not options.only else {}
    print(report(Suite(options, chosen, options.contenders, with_overhead=with_overhead).run()))
    return 0


@dataclass(kw_only=True)
class _Process:
    """A worker, and what it said."""

    row: str
    popen: subprocess.Popen[str]
    without: dict[str, Any]  # contenders that took the device away from an earlier process


class Suite:
    """One run. `results` is what is written."""

    def __init__(
        self,
        options: argparse.Namespace,
        chosen: Mapping[str, Row],
        contenders: Sequence[str],
        *,
        with_overhead: bool = False,
    ) -> None:
        options.out.mkdir(parents=True, exist_ok=True)
        self.options, self.chosen, self.with_overhead = options, chosen, with_overhead
        self.contenders = [
            name for name in contenders if not (options.quick and name.startswith("max-autotune"))
        ]
        self.began = time.time()
        cores = os.cpu_count() or 1
        self.jobs = options.jobs or max(1, min(8, cores // 2))
        self.threads = max(1, cores // self.jobs + 2) if cores > 2 else 1
        self.scratch = tempfile.mkdtemp(prefix="tdsl-bench-")
        self.events: queue.Queue[tuple[_Process, dict[str, Any] | None]] = queue.Queue()
        self.log = (options.out / "suite.log").open("a", encoding="utf-8")
        self.results: dict[str, Any] = {
            "command": options.line,
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
        if self.with_overhead:
            self.results["overhead"] = overhead.measure(self.log, self.note, tiny=self.options.tiny)
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
            **processes.environment(folder),
            "TORCHINDUCTOR_COMPILE_THREADS": str(self.threads),
            "HELION_AUTOTUNE_EFFORT": "none",
            "PYTHONUNBUFFERED": "1",
        }
        popen = subprocess.Popen(
            processes.command(measure_row, json.dumps(order)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )
        process = _Process(row=row, popen=popen, without=without)
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
        ordered = {name: self.results["rows"][name] for name in self.chosen if name in self.results["rows"]}
        write_json(self.options.out / "results.json", {**self.results, "rows": ordered})

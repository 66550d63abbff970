"""Processes that run cases: a crash or a hang of one is a failure of its case, and costs no other case.

    with Pool(jobs=2, device="cpu") as pool:
        for answer in pool.run(tasks): ...

What is asked is a plan, or a seed and an index that a plan is drawn from; what comes back is an `Answer`.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.harness import Statistics
    from tests.fuzz.programs import Plan

TIMEOUT = {"cpu": 300, "cuda": 240}  # seconds for one case; sorting in loops takes the interpreter a hundred
RECYCLED = 150  # cases, after which a process has made room for a fresh one
CPP = 12  # one case in so many is compiled to C++ where nothing is fused, as users' programs are


@dataclass(frozen=True, kw_only=True)
class Task:
    seed: int
    index: int
    fault: str | None = None
    plan: Plan | None = None  # instead of the one that the two numbers give
    saved: str | None = None  # or the file of a case that failed once
    cpp: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    task: Task
    kind: str  # 'ok', or what `Failure` says, or 'crash'
    message: str = ""
    statistics: Statistics | None = None
    plan: Plan | None = None
    seconds: float = 0  # of this process


class Worker:
    def __init__(self, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = tempfile.mkdtemp(prefix="tdsl-fuzz-")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, device, self.folder), daemon=True)
        self.process.start()
        theirs.close()
        self.device = device
        self.task: Task | None = None
        self.since = 0.0
        self.done = 0

    def give(self, task: Task) -> None:
        self.task, self.since = task, time.monotonic()
        self.pipe.send(task)

    def expired(self) -> bool:
        limit = TIMEOUT[self.device] * (3 if not self.done else 1)
        return self.task is not None and time.monotonic() - self.since > limit

    def take(self) -> Answer:
        """What it says of its task; a crash, if it has died."""
        assert self.task is not None
        task, self.task = self.task, None
        self.done += 1
        try:
            found: Answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join(10)
            code = self.process.exitcode
            how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
            return Answer(task=task, kind="crash", message=f"the process died: {how}")
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.join(10)
        self.pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Pool:
    def __init__(self, *, jobs: int, device: str) -> None:
        self.jobs = jobs
        self.device = device
        self.workers: list[Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()

    def reset(self) -> None:
        """The next task finds fresh processes."""
        for worker in self.workers:
            worker.close()
        self.workers = []

    def run(self, tasks: Iterable[Task]) -> Iterator[Answer]:
        """Answers in the order in which they come. Who stops listening leaves the tasks that are under way."""
        waiting = iter(tasks)
        self.workers = [worker for worker in self.workers if self._keep(worker)]
        exhausted = False
        while True:
            while not exhausted and sum(worker.task is not None for worker in self.workers) < self.jobs:
                task = next(waiting, None)
                if task is None:
                    exhausted = True
                    break
                self._idle().give(task)
            busy = [worker for worker in self.workers if worker.task is not None]
            if not busy:
                return
            ready = wait([worker.pipe for worker in busy], timeout=1)
            for worker in busy:
                answer: Answer | None = None
                if worker.pipe in ready:
                    answer = worker.take()
                elif worker.expired():
                    assert worker.task is not None
                    answer = Answer(
                        task=worker.task, kind="crash", message=f"no answer within {TIMEOUT[self.device]} s"
                    )
                    worker.task = None
                    worker.process.kill()
                if answer is not None:
                    if not worker.process.is_alive() or worker.done >= RECYCLED:
                        self.workers.remove(worker)
                        worker.close()
                    yield answer

    def _keep(self, worker: Worker) -> bool:
        if worker.task is None and worker.process.is_alive():
            return True
        worker.close()
        return False

    def _idle(self) -> Worker:
        for worker in self.workers:
            if worker.task is None:
                return worker
        self.workers.append(Worker(self.device))
        return self.workers[-1]


def _serve(pipe: Connection, device: str, folder: str) -> None:
    """The process: answers one task after the other, until nobody asks."""
    prepare(device, folder)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            break
        pipe.send(perform(task, device))


def prepare(device: str, folder: str) -> None:
    """Settings of a process that runs cases; before torch is imported."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    os.environ["TRITON_CACHE_DIR"] = os.path.join(folder, "triton")
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    import warnings

    warnings.simplefilter("ignore")
    import logging

    import torch

    torch.set_num_threads(1)
    logging.getLogger("torch").setLevel(logging.CRITICAL)


def perform(task: Task, device: str) -> Answer:
    from contextlib import nullcontext

    import torch

    from tests.fuzz.faults import planted
    from tests.fuzz.harness import Failure, check
    from tests.fuzz.programs import plan, read_case
    from tests.fuzz.strays import interpreted_strays

    start = time.process_time()

    def answer(kind: str, message: str = "", **more: Any) -> Answer:
        return Answer(
            task=task, kind=kind, message=message, plan=drawn, seconds=time.process_time() - start, **more
        )

    drawn = task.plan
    if drawn is None and task.saved is None:
        drawn = plan(task.seed, task.index)
    cpp = task.cpp if task.cpp is not None else task.index % CPP == 0
    if drawn is not None and drawn.gradient:
        cpp = True  # sums over rows, which the two kinds of code group differently
    strays = nullcontext() if cpp or device != "cpu" else interpreted_strays()
    try:
        with planted(task.fault), strays:
            try:
                case = drawn.case() if drawn is not None else read_case(Path(task.saved or ""))
            except Exception as error:
                return answer("refused", f"{type(error).__name__}: {error}"[:3000])
            return answer("ok", statistics=check(case, device))
    except Failure as failure:
        return answer(failure.kind, failure.message)
    finally:
        torch._dynamo.reset()
        if device == "cuda":
            torch.cuda.empty_cache()  # the GPU is shared with other processes, and some inputs are huge

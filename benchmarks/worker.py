"""One row in a process of its own: compiles its contenders, checks them, waits for its turn, times them.

    measure_row('{"row": "gemm 4096x4096x4096", ...}')    ->    lines of JSON on standard output, read by `suite`

It says what happens as it happens, and times when it reads a line. A contender that fails, is wrong or takes too long
is a record, not the end.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import sys
import time
import traceback
from typing import Any

import torch

from benchmarks.contenders import CONTENDERS, parts_of, reference, written_code
from benchmarks.gpu import Batch, Lock, measure_ceilings, sets_for, time_all
from benchmarks.processes import answers, lost_device, words
from benchmarks.rows import Inputs, Program, Row, allowed_distance, distance, leaves, moved_bytes, rows
from benchmarks.tuned import tuned_kernels

SECONDS_AFTER_DEADLINE = 1.0
_late = False  # whether the alarm went off: the compiler wraps what it is interrupted with


class TookTooLong(Exception):
    """Raised in the main thread by the alarm."""


def measure_row(text: str) -> None:
    order, out = json.loads(text), answers()

    def say(**message: Any) -> None:
        out.write(json.dumps(message) + "\n")

    try:
        torch._dynamo.config.recompile_limit = 64
        signal.signal(signal.SIGALRM, _alarm)
        if order["row"] == "ceilings":
            say(event="ready")
            sys.stdin.readline()
            say(event="ceilings", **(measure_ceilings() if torch.cuda.is_available() else {}))
            return
        with torch.no_grad():
            _Worker(order, say).work()
    except Exception as error:
        traceback.print_exc()
        say(event="broken", error=words(error))


def _alarm(*_: object) -> None:
    global _late
    _late = True
    raise TookTooLong


class _Worker:
    def __init__(self, order: dict[str, Any], say: Any) -> None:
        self.order, self.say = order, say
        self.row: Row = rows(tiny=order["tiny"])[order["row"]]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.lock = Lock(order["lock"])
        self.ready: dict[str, Program] = {}
        _share_gpu(self.lock)

    def inputs(self, seed: int) -> Inputs:
        generator = torch.Generator(device=self.device).manual_seed(seed)
        return self.row.inputs(self.device, generator)

    def work(self) -> None:
        with self.lock:
            arguments = self.inputs(0)
            truth = _float64(reference(self.row), arguments)
            eager = self.row.program(self.row.baseline)(*arguments)
            allowed = [allowed_distance(one, true) for one, true in zip(leaves(eager), truth, strict=True)]
            moved = moved_bytes(arguments, eager)
            del eager
        self.say(
            event="row", bytes=moved, flops=self.row.flops, sets=sets_for(moved), allowed_error=max(allowed)
        )
        for name in self.order["contenders"]:
            self.prepare(name, arguments, truth, allowed)
        del arguments, truth
        _empty()
        _stop_compile_workers()
        self.say(event="ready")
        sys.stdin.readline()
        self.time(moved)

    def prepare(self, name: str, arguments: Inputs, truth: list[torch.Tensor], allowed: list[float]) -> None:
        """Compile and check one contender; says how that went."""
        left = min(self.order["limit"], self.order["deadline"] - time.time())
        if left < SECONDS_AFTER_DEADLINE:
            self.say(event="contender", name=name, status="skipped", why="no time was left to compile it")
            return
        global _late
        _late = False
        try:
            signal.setitimer(signal.ITIMER_REAL, left)
            call = CONTENDERS[name].make(self.row, self.lock)
            if isinstance(call, str):
                self.say(event="contender", name=name, status="absent", why=call)
                return
            waited, began = self.lock.waited, time.perf_counter()
            with written_code() as texts:
                if CONTENDERS[name].compiled:
                    result = call(*arguments)
                else:
                    with self.lock:
                        result = call(*arguments)
            with self.lock:
                seconds = time.perf_counter() - began - (self.lock.waited - waited)
                results = [result]
                del result
                error = self.check(call, results, arguments, truth)
        except BaseException as error_:
            if isinstance(error_, KeyboardInterrupt):
                raise
            traceback.print_exc()
            why = f"took longer than {left:.0f} s" if _late else words(error_)
            fatal = lost_device(why)
            self.say(event="contender", name=name, status="failed", why=why, fatal=fatal)
            if fatal:
                os._exit(1)  # this process has lost the device; the row starts again without the contender
            return
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        kernels, tma = parts_of(texts)
        right = all(one <= limit for one, limit in zip(error, allowed, strict=True))
        if right:
            self.ready[name] = call
        self.say(
            event="contender",
            name=name,
            status="right" if right else "WRONG",
            error=max(error),
            compile_seconds=seconds,
            kernels=kernels,
            tma=tma,
            **({"chosen": _chosen(texts)} if name == "tdsl" else {}),
            **({"configs": _helion_configs(self.row)} if name == "helion" else {}),
        )

    def check(
        self, call: Program, results: list[Any], arguments: Inputs, truth: list[torch.Tensor]
    ) -> list[float]:
        """How far a second run's results are from float64, after those of the first became NaN and free memory."""
        found = leaves(results.pop())
        if len(found) != len(truth):
            raise AssertionError(f"it returns {len(found)} tensors, not {len(truth)}")
        for one, true in zip(found, truth, strict=True):
            if one.shape != true.shape:
                raise AssertionError(f"it returns a tensor of {tuple(one.shape)}, not {tuple(true.shape)}")
            if one.is_floating_point():
                one.fill_(float("nan"))
        del found, one
        return [distance(one, true) for one, true in zip(leaves(call(*arguments)), truth, strict=True)]

    def time(self, moved: int) -> None:
        gc.collect()
        gc.freeze()  # each capture of a graph collects garbage: not all that the compiler left
        with self.lock:
            sets = [self.inputs(seed) for seed in range(sets_for(moved))]
            batches: dict[str, Batch] = {}
            for name, call in self.ready.items():
                try:
                    batches[name] = Batch(call, sets)
                except Exception as error:
                    traceback.print_exc()
                    self.say(event="contender", name=name, status="failed", why=f"timing: {words(error)}")
            if batches:
                for name, timing in time_all(batches, seconds=self.order["seconds"]).items():
                    record = dataclasses.asdict(timing)
                    record["samples"] = [round(value, 3) for value in timing.samples]
                    self.say(event="timing", name=name, **record)
        self.say(event="done")


def _share_gpu(lock: Lock) -> None:
    """Inductor's own measurements take turns, too."""
    from torch._inductor.runtime import benchmarking

    if hasattr(benchmarking, "set_gpu_benchmark_lock_context"):
        benchmarking.set_gpu_benchmark_lock_context(lock.held)


def _float64(program: Program, arguments: Inputs) -> list[torch.Tensor]:
    wide = tuple(one.double() if one.is_floating_point() else one for one in arguments)
    return [one.double() for one in leaves(program(*wide))]


def _chosen(texts: list[str]) -> list[dict[str, Any]]:
    try:
        return [dataclasses.asdict(kernel) for kernel in tuned_kernels(texts)]
    except Exception as error:
        return [{"error": words(error)}]


def _helion_configs(row: Row) -> list[str]:
    """What Helion runs without tuning."""
    from benchmarks import helion_kernels

    kernels = (getattr(helion_kernels, name, None) for name in (str(row.helion), f"{row.helion}_rows"))
    bound = [one for kernel in kernels for one in getattr(kernel, "_bound_kernels", {}).values()]
    return [str(getattr(one, "_config", None)) for one in bound]


def _empty() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _stop_compile_workers() -> None:
    """They would hold memory until the row's turn."""
    from torch._inductor.async_compile import shutdown_compile_workers

    try:
        shutdown_compile_workers()
    except Exception:
        traceback.print_exc()

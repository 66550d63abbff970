"""The one device and the one clock: a lock that keeps measurements apart, and how a call is timed.

    time_all({"eager": Batch(run, sets), ...}, seconds=2.5)    ->    microseconds per call, rounds of all in turn

Many processes compile at once; whatever runs or measures on the GPU meanwhile holds the lock. What the table shows
is timed after all compiling, one row at a time.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.measuring import in_turn, spread

Call = Callable[..., Any]
BATCH_US = 3000.0  # the length of what is timed between two events: launch gaps at its ends vanish in it
GRAPH_US = 1000.0  # the work in one graph
LEAST_BYTES = 4  # the input sets hold at least this many times the L2 cache


class Lock:
    """A lock over processes, by a file; entered again by its holder at no cost. `waited` counts seconds."""

    def __init__(self, path: str | None) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT) if path else None
        self._depth = 0
        self.waited = 0.0

    def __enter__(self) -> Lock:
        if self._depth == 0 and self._file is not None:
            start = time.perf_counter()
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self.waited += time.perf_counter() - start
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            if torch.cuda.is_available():
                # After a sticky error even this raises; the lock must go back all the same.
                with contextlib.suppress(RuntimeError):
                    torch.cuda.synchronize()
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self:
            yield


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Microseconds per call over the rounds."""

    median: float
    p10: float
    p90: float
    rounds: int
    calls: int  # in one round
    samples: list[float] = field(repr=False)

    @classmethod
    def of(cls, samples: list[float], calls: int) -> Timing:
        return cls(**spread(samples), rounds=len(samples), calls=calls, samples=samples)


def l2_bytes() -> int:
    return int(torch.cuda.get_device_properties(0).L2_cache_size) if torch.cuda.is_available() else 0


def sets_for(bytes_per_call: int) -> int:
    """How many input sets to rotate, so that a call never finds its inputs in the cache."""
    return max(1, min(64, -(-LEAST_BYTES * l2_bytes() // max(1, bytes_per_call))))


class Batch:
    """A call ready to be timed: a CUDA graph of calls over rotating inputs, or without a GPU a plain loop.

    The last outputs are kept while the graph is captured, as many as there are input sets, so that outputs rotate
    like inputs. Raises what the call or its capture raises.
    """

    def __init__(self, call: Call, sets: Sequence[tuple[Any, ...]]) -> None:
        self.call, self.sets = call, sets
        self.graph: torch.cuda.CUDAGraph | None = None
        for arguments in sets[:2]:
            call(*arguments)
        if not torch.cuda.is_available():
            self.calls, self.replays = len(sets), 1
            return
        torch.cuda.synchronize()
        estimate = self._estimate()
        rounds = max(1, round(GRAPH_US / estimate / len(sets)))
        self.calls = rounds * len(sets)
        kept: collections.deque[Any] = collections.deque(maxlen=len(sets))
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            for index in range(self.calls):
                kept.append(call(*sets[index % len(sets)]))
        del kept
        self.graph.replay()
        torch.cuda.synchronize()
        self.replays = max(1, min(200, round(BATCH_US / max(1.0, self._replay_us()))))

    def _estimate(self) -> float:
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for arguments in self.sets:
            self.call(*arguments)
        stop.record()
        torch.cuda.synchronize()
        return max(1.0, float(start.elapsed_time(stop)) * 1e3 / len(self.sets))

    def _replay_us(self) -> float:
        assert self.graph is not None
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        self.graph.replay()
        stop.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(stop)) * 1e3

    def measure(self) -> float:
        """Microseconds per call, of one batch."""
        if self.graph is None:
            began = time.perf_counter()
            for arguments in self.sets:
                self.call(*arguments)
            return (time.perf_counter() - began) * 1e6 / self.calls
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(200_000)  # the device is busy while the host queues the rest: no gap is timed
        start.record()
        for _ in range(self.replays):
            self.graph.replay()
        stop.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(stop)) * 1e3 / (self.replays * self.calls)


def time_all(
    batches: Mapping[str, Batch], *, seconds: float, least: int = 10, most: int = 60
) -> dict[str, Timing]:
    """Rounds of all contenders in turn; as many as `seconds` allow, within `least` and `most`."""
    for batch in batches.values():  # clocks and caches settle
        batch.measure()
    measures = {name: batch.measure for name, batch in batches.items()}
    samples = in_turn(measures, least=least, most=most, seconds=seconds)
    return {
        name: Timing.of(values, batches[name].calls * batches[name].replays)
        for name, values in samples.items()
    }


def measure_ceilings(seconds: float = 3.0) -> dict[str, float]:
    """Bytes per second of a large copy (read and written), and operations per second of bf16 matrix products."""
    device = torch.device("cuda")
    source = torch.randn(2**29, device=device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    found = time_all(
        {
            "copy": Batch(lambda: torch.neg(source, out=target), [()]),
            "matmul": Batch(lambda: torch.mm(a, b), [()]),
        },
        seconds=seconds,
    )
    return {
        "copy_bytes_per_second": 2 * source.numel() * 2 / (found["copy"].median * 1e-6),
        "matmul_flops_per_second": 2 * 8192**3 / (found["matmul"].median * 1e-6),
        "copy_us": found["copy"].median,
        "matmul_us": found["matmul"].median,
    }


def versions() -> dict[str, str]:
    """What a run ran on."""
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

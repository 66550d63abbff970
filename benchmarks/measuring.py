"""What several commands measure and write with: spread, contenders in turn, tables, records.

It imports nothing else of `benchmarks`, and no torch: some commands measure what happens without it.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path


def spread(samples: Sequence[float]) -> dict[str, float]:
    """The median, and the tenth and the ninetieth percentile."""
    ordered = sorted(samples)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"median": statistics.median(ordered), "p10": at(0.1), "p90": at(0.9)}


def in_turn(
    measures: Mapping[str, Callable[[], float]], *, least: int, most: int, seconds: float = float("inf")
) -> dict[str, list[float]]:
    """Samples of all contenders, in a new order each round; as many as `seconds` allow, within `least` and `most`.

    Clocks drift and caches age: a contender that always came first would be measured on another machine.
    """
    samples: dict[str, list[float]] = {name: [] for name in measures}
    order = list(measures)
    shuffle = random.Random(0)
    began = time.perf_counter()
    for index in range(most):
        if index >= least and time.perf_counter() - began > seconds:
            break
        shuffle.shuffle(order)
        for name in order:
            samples[name].append(measures[name]())
    return samples


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table in Markdown, each as soon as its row is known."""
    yield f"| {' | '.join(header)} |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def write_json(path: Path, value: object) -> None:
    """Replaces the file at once, so that a run that is stopped leaves a whole one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)

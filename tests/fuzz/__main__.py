"""Fuzz from the shell.

python -m tests.fuzz --graphs 2000 --seed 1 --jobs 2       random graphs; exits with 1 if one fails
python -m tests.fuzz --seed 1 --only 17                    one of them again, with its program and whole error
python -m tests.fuzz --faults                              does it find what is planted?
python -m tests.fuzz --census --graphs 20000               after a change of what is drawn: `constructs` again
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.workers import Answer, Pool, Task

if TYPE_CHECKING:
    from tests.fuzz.programs import Plan

FAILURES = Path(__file__).parent / "failures"
ALLOWED_MISSES = 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--graphs", type=int, default=200, help="how many (with --faults: at most, for each fault)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the index to begin with")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--device", choices=["cuda", "cpu"], help="the GPU if there is one")
    parser.add_argument("--only", type=int, metavar="CASE", help="one case of the seed, and its program")
    parser.add_argument(
        "--faults", nargs="*", metavar="NAME", help="plant faults (all, or those whose name contains NAME)"
    )
    parser.add_argument("--save", action="store_true", help="keep each failure, reduced, for --saved")
    parser.add_argument("--saved", action="store_true", help="run every case that was kept")
    parser.add_argument("--seconds", type=float, help="stop after this long")
    parser.add_argument(
        "--census", action="store_true", help="find graphs that have every construct in every situation"
    )
    parser.add_argument("--coverage", action="store_true", help="what of tdsl no graph's template reaches")
    options = parser.parse_args(arguments)
    if options.coverage:
        from tests.fuzz.visits import report

        report(options.seed, range(options.first, options.first + options.graphs))
        return 0
    if options.census:
        from tests.fuzz.constructs import record, recorded

        left = record(options.graphs)
        print(f"{len(recorded())} graphs kept; {len(left)} pairs not met")
        for construct, situation in sorted(left):
            print(f"    {construct}: {situation}")
        return 1 if left else 0
    device = options.device or ("cuda" if _has_gpu() else "cpu")
    if device == "cuda" and not _has_gpu():
        parser.error("there is no GPU")
    with Pool(jobs=options.jobs, device=device) as pool:
        if options.saved:
            return run_saved(pool)
        indices = range(options.first, options.first + options.graphs)
        if options.faults is not None:
            return find_faults(pool, options.seed, indices, options.faults)
        if options.only is not None:
            return show(pool, options.seed, options.only)
        return fuzz(pool, options.seed, indices, options.save, options.seconds)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def fuzz(pool: Pool, seed: int, indices: range, save: bool, seconds: float | None) -> int:
    start = time.monotonic()
    tally = Tally()
    failures = []

    def tasks() -> collections.abc.Iterator[Task]:
        for index in indices:
            if seconds is not None and time.monotonic() - start > seconds:
                return
            yield Task(seed=seed, index=index)

    for answer in pool.run(tasks()):
        tally.add(answer)
        if answer.kind == "pytorch":
            what = answer.message.replace("\n", " ")[:200]
            print(
                f"wrong without templates, too: --seed {seed} --only {answer.task.index}: {what}", flush=True
            )
        elif answer.kind != "ok":
            failures.append(answer)
            print(
                f"FAILED --seed {seed} --only {answer.task.index}: {answer.kind}: {answer.message}",
                flush=True,
            )
        if tally.graphs % 100 == 0:
            print(
                f"{tally.graphs} graphs, {len(failures)} failed, {time.monotonic() - start:.0f} s", flush=True
            )
    for answer in failures[:5]:
        print(f"\n# ---- reduced from --seed {seed} --only {answer.task.index}\n", flush=True)
        small, why = smaller(pool, answer)
        print(small.script(why), flush=True)
        if save:
            path = FAILURES / f"seed_{seed}_case_{answer.task.index}.case"
            path.write_text(small.saved(why), encoding="utf-8")
    print(tally.report(time.monotonic() - start))
    return 1 if failures else 0


def run_saved(pool: Pool) -> int:
    """Every case that failed once."""
    files = sorted(map(str, FAILURES.glob("*.case")))
    failed = 0
    for answer in pool.run(Task(seed=0, index=at, saved=file) for at, file in enumerate(files)):
        if answer.kind != "ok":
            failed += 1
            print(f"FAILED {answer.task.saved}: {answer.kind}: {answer.message}", flush=True)
    print(f"{len(files)} cases that failed once, {failed} of them again")
    return 1 if failed else 0


def smaller(pool: Pool, answer: Answer) -> tuple[Plan, str]:
    """A plan that fails in the same way, as small as it was made in a few minutes, and what it says."""
    from tests.fuzz.programs import plan
    from tests.fuzz.reduction import reduced

    found = answer.plan or plan(answer.task.seed, answer.task.index)
    last = answer

    def fails(candidate: Plan) -> bool:
        nonlocal last
        (new,) = pool.run([replace(answer.task, plan=candidate)])
        if new.kind != answer.kind or essence(new) != essence(answer):
            return False
        last = new
        return True

    if not fails(found):
        return found, f"{answer.kind}: {answer.message} (not every time)"
    small = reduced(found, fails)
    return small, f"{last.kind}: {last.message}"


def essence(answer: Answer) -> str:
    """What two failures that are one have in common: the code of an error, or its type; any wrong number is one."""
    if answer.kind == "mismatch":
        return ""
    code = re.search(r"error\[[\w-]+\]", answer.message)
    return code.group() if code else answer.message[:25]


def show(pool: Pool, seed: int, index: int) -> int:
    (answer,) = pool.run([Task(seed=seed, index=index)])
    if answer.plan is None:
        from tests.fuzz.programs import plan

        print(plan(seed, index).text())
    else:
        print(answer.plan.text())
    if answer.kind == "ok":
        print(f"passes: {answer.statistics}")
        return 0
    print(f"{answer.kind}: {answer.message}\n\n# ---- reduced\n")
    small, why = smaller(pool, answer)
    print(small.script(why))
    return 1


class Tally:
    """What a run saw: a fusion that is lost shows in the kernels of a graph."""

    def __init__(self) -> None:
        self.graphs = 0
        self.kinds: collections.Counter[str] = collections.Counter()
        self.kernels = self.templates = self.compiles = 0
        self.seconds = 0.0
        self.single = 0
        self.families: collections.Counter[str] = collections.Counter()
        self.features: collections.Counter[str] = collections.Counter()
        self.exact = 0
        self.dynamic: list[int] = []

    def add(self, answer: Answer) -> None:
        self.graphs += 1
        self.kinds[answer.kind] += 1
        self.seconds += answer.seconds
        if answer.plan is not None:
            self.families.update(answer.plan.families)
            self.features.update(answer.plan.features)
            self.exact += answer.plan.exact
        if answer.statistics is not None:
            self.kernels += answer.statistics.kernels
            self.templates += answer.statistics.templates
            self.compiles += answer.statistics.compiles
            self.single += answer.statistics.kernels == answer.statistics.compiles
            if answer.plan is not None and answer.plan.dynamic is None:
                self.dynamic.append(answer.statistics.compiles)

    def report(self, wall: float) -> str:
        good = max(1, self.compiles)
        lines = [
            f"{self.graphs} graphs in {wall:.0f} s ({self.seconds / max(1, self.graphs):.2f} s of one processor each): "
            + ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items())),
            f"exact: {self.exact}; kernels for each compiled graph: {self.kernels / good:.3f}, "
            f"of templates: {self.templates / good:.3f}; one kernel alone: {self.single}",
            f"dynamic: {len(self.dynamic)}, compiled {sum(self.dynamic) / max(1, len(self.dynamic)):.2f} times each",
            "templates: " + ", ".join(f"{count} {name}" for name, count in self.families.most_common()),
            "with: " + ", ".join(f"{count} {name}" for name, count in self.features.most_common()),
        ]
        return "\n".join(lines)


def find_faults(pool: Pool, seed: int, indices: range, names: Sequence[str]) -> int:
    """Plants each fault in turn, and says after how many graphs it was found."""
    from tests.fuzz.faults import FAULTS

    missed = []
    chosen = [name for name in FAULTS if not names or any(part in name for part in names)]
    with Pool(jobs=1, device=pool.device) as honest:
        for name in chosen:
            start = time.monotonic()
            tried, found = find_fault(pool, honest, seed, indices, name)
            taken = time.monotonic() - start
            if found is None:
                missed.append(name)
                print(f"MISSED {name}: not found in {tried} graphs, {taken:.0f} s", flush=True)
            else:
                what = f"{found.kind}: {found.message}".splitlines()[0][:110]
                print(f"found {name}: after {tried} graphs, {taken:.0f} s; {what}", flush=True)
    print(f"{len(chosen)} faults planted, {len(chosen) - len(missed)} found")
    return 1 if len(missed) > ALLOWED_MISSES else 0


def find_fault(pool: Pool, honest: Pool, seed: int, indices: range, name: str) -> tuple[int, Answer | None]:
    """After how many graphs a fault was found, and how it showed."""
    pool.reset()  # what a process has compiled before knows nothing of the fault
    tried = 0
    for answer in pool.run(Task(seed=seed, index=index, fault=name) for index in indices):
        tried += 1
        if answer.kind != "ok":
            # What fails in the same way without the fault, too, says nothing of the fault.
            (without,) = honest.run([Task(seed=seed, index=answer.task.index)])
            if without.kind != answer.kind:
                return tried, answer
    return tried, None


if __name__ == "__main__":
    sys.exit(main())

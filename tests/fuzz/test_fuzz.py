"""A hundred fresh graphs, every case that failed once, and whether the fuzzer would notice.

Fresh means that they are others every day; `FUZZ_SEED` in the environment takes those of another.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SEED = int(os.environ.get("FUZZ_SEED", time.time() // 86400))
GRAPHS = 100
PARTS = 2


def fuzz(*arguments: object) -> str:
    """What `python -m tests.fuzz` prints; the test fails if it finds something."""
    command = [sys.executable, "-m", "tests.fuzz", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("part", range(PARTS))
def test_fresh_graphs(part: int) -> None:
    count = GRAPHS // PARTS
    printed = fuzz("--seed", SEED, "--first", part * count, "--graphs", count)
    assert f"{count} graphs in" in printed and " ok" in printed


def test_all_that_ever_failed() -> None:
    assert "0 of them again" in fuzz("--saved")


@pytest.mark.parametrize("name", ["<= for <", pytest.param("second epilogue lost", marks=pytest.mark.full)])
def test_a_fault_is_found(name: str) -> None:
    assert "1 faults planted, 1 found" in fuzz("--seed", 7, "--graphs", 60, "--faults", name)


def test_every_fault_can_be_planted() -> None:
    """A fault names what it breaks: it must still be there."""
    script = "from tests.fuzz.faults import FAULTS, planted\nfor name in FAULTS:\n    with planted(name): pass\nprint(len(FAULTS))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 20

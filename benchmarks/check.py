"""Measures how long the command `tdsl check FILE` takes, all in all, and what it imports.

python -m benchmarks check

Aim: 0.3 s for the command, without torch and triton.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.arguments import UsageError, count, file
from benchmarks.measuring import spread

HEAVY = ("torch", "triton", "numpy", "sympy")
MATMUL = Path(__file__).parents[1] / "examples" / "matmul" / "matmul.tdsl"
PROBE = (
    "import sys; from tdsl import cli; cli.run(['check', sys.argv[1]]); "
    f"print([name for name in {HEAVY!r} if name in sys.modules])"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=file, nargs="?", default=MATMUL, metavar="FILE", help="the matmul example unless given"
    )
    parser.add_argument("--runs", type=count, default=10, help="of the command (%(default)s)")


def main(options: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "tdsl", "check", str(options.file)]
    try:
        seconds = [_run(command) for _ in range(options.runs)]
    except subprocess.CalledProcessError:
        raise UsageError(f"expected a file without mistakes, not {options.file}") from None
    bare = _run([sys.executable, "-c", "pass"])
    probe = [sys.executable, "-c", PROBE, str(options.file)]
    loaded = subprocess.run(probe, check=True, capture_output=True, text=True)
    print(
        f"tdsl check {options.file}: median {spread(seconds)['median']:.3f} s, worst {max(seconds):.3f} s "
        f"of {options.runs}"
    )
    print(f"Python alone: {bare:.3f} s; heavy imports: {loaded.stdout.splitlines()[-1]}")
    return 0


def _run(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began

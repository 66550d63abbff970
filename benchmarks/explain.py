"""Prints what the tuning chose for our kernel of a row: config, registers, spills, shared memory, grid; and its time.

python -m benchmarks explain 'gemm 4096x4096x4096'

It is a run of `suite` with our kernels alone, and writes DIR/results.json like it.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.rows import chosen_rows
from benchmarks.suite import Suite, add_run_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", metavar="ROWS", help="groups and rows, separated by commas or semicolons")
    add_run_arguments(parser)


def main(options: argparse.Namespace) -> int:
    chosen = chosen_rows(options.rows, tiny=options.tiny)
    results = Suite(options, chosen, ["tdsl"]).run()
    for name, record in results["rows"].items():
        if name in chosen:
            show_choice(record)
    return 0


def show_choice(record: dict[str, Any]) -> None:
    ours = record["contenders"].get("tdsl", {})
    print(json.dumps({key: value for key, value in ours.items() if key != "us"}, indent=1))
    if "us" in ours:
        print(f"{ours['us']['median']:.2f} us (p10 {ours['us']['p10']:.2f}, p90 {ours['us']['p90']:.2f})")

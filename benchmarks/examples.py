"""Runs every example on the GPU, fused, in bf16 and float32, and prints a table of what ran.

python -m benchmarks examples            docs/gpu.md begins with what it printed

A row is one program: how many kernels it became and how far it is from float64, beside eager's own
distance. A failure is a row, too, and makes the exit status 1; its traceback goes to stderr.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterator, Sequence

import torch
import triton

from benchmarks.arguments import add_tiny, some_of
from benchmarks.measuring import table
from benchmarks.rows import EXAMPLES
from tdsl import testing

PROGRAMS = {path.stem: path for path in sorted(EXAMPLES.glob("*/*.py"))}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        type=some_of(PROGRAMS),
        default=[*PROGRAMS],
        metavar="NAMES",
        help=f"some of {','.join(PROGRAMS)}; all unless given",
    )
    add_tiny(parser, "the sizes that the examples have without a GPU")


def main(options: argparse.Namespace) -> int:
    gpu = torch.cuda.is_available()
    print("# What ran on a GPU\n" if gpu else "# What ran in Triton's interpreter\n")
    print(
        f"{torch.cuda.get_device_name() if gpu else 'No GPU'}; torch {torch.__version__}, "
        f"triton {triton.__version__}. Written by `python -m benchmarks examples`.\n"
    )
    failed: list[str] = []
    header = ("example", "dtype", "Triton kernels", "error against float64", "eager's own")
    for line in table(header, run(options.only, failed)):
        print(line, flush=True)
    return int(bool(failed))


def run(names: Sequence[str], failed: list[str]) -> Iterator[Sequence[str]]:
    """A row for each program and dtype; who fails is added to `failed`."""
    for name in names:
        for dtype in (torch.bfloat16, torch.float32):
            shown = str(dtype).removeprefix("torch.")
            try:
                module = testing.load_module(PROGRAMS[name])
                if dtype == torch.bfloat16 and all(value.dtype != dtype for value in module.inputs()):
                    continue  # a template in float32 alone
                arguments = [
                    value.to(dtype)
                    if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16
                    else value
                    for value in module.inputs()
                ]
                report = testing.assert_fused(module.program, arguments)
            except Exception as error:
                failed.append(name)
                print(f"== {name} {shown}", file=sys.stderr)
                traceback.print_exc()
                yield name, shown, f"failed: {type(error).__name__}", "", ""
            else:
                yield name, shown, str(report.kernels), f"{report.error:.2g}", f"{report.eager_error:.2g}"

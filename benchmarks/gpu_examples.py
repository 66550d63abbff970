"""Run every example on the GPU, fused, in bf16 and float32, and write a table of what ran.

    python benchmarks/gpu_examples.py > docs/gpu.md

A row is one program: how many kernels it became and how far it is from float64, beside eager's own
distance. A failure is a row, too, and makes the exit status 1; its traceback goes to stderr.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import torch
import triton

from tdsl import testing

EXAMPLES = Path(__file__).parents[1] / "examples"


def main() -> int:
    failed = 0
    versions = f"torch {torch.__version__}, triton {triton.__version__}"
    print("# What ran on a GPU\n")
    print(f"{torch.cuda.get_device_name()}; {versions}. Written by `python benchmarks/gpu_examples.py`.\n")
    print("| example | dtype | Triton kernels | error against float64 | eager's own |")
    print("| --- | --- | --- | --- | --- |")
    for path in sorted(EXAMPLES.glob("*/*.py")):
        for dtype in (torch.bfloat16, torch.float32):
            name = str(dtype).removeprefix("torch.")
            try:
                module = testing.load_module(path)
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
                failed = 1
                print(f"| {path.stem} | {name} | failed: {type(error).__name__} | | |", flush=True)
                print(f"== {path.stem} {name}", file=sys.stderr)
                traceback.print_exc()
            else:
                print(
                    f"| {path.stem} | {name} | {report.kernels} | {report.error:.2g} | {report.eager_error:.2g} |",
                    flush=True,
                )
    return failed


if __name__ == "__main__":
    sys.exit(main())

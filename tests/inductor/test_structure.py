"""What makes kernels fast on an H100, read off their machine code: in the shipped configs, with what is fused, products
run while the next operands arrive, everything moves 16 bytes at a time, and no register is spilled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PRODUCTS = ("matmul", "left", "parts", "swiglu", "few rows", "attention", "int4_matmul")
QUICK = ("matmul, silu:0", "parts, gelu:0", "left:0")
MORE = (
    *("matmul", "matmul, bias", "matmul, silu", "matmul, column", "parts, silu", "parts, gelu"),
    *("left", "left, rows", "few rows", "swiglu", "swiglu, few rows", "layer_norm", "rms_norm", "softmax"),
    *("attention 64, full", "attention 64, causal", "attention 128, full", "attention 128, causal"),
    "int4_matmul",
)
# Bytes, behind the main loop, of a program and its BLOCK_M. In parts there are none.
SPILLED = {("matmul, silu", 256): 8}


def kernels(folder, *names):
    settings = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("structure.py")), *names],
        env={**settings, "TRITON_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_fast(kernel):
    assert kernel["kernels"] == 1, "all is fused"
    assert kernel["spilled"] <= SPILLED.get((kernel["program"], kernel["constants"].get("BLOCK_M_")), 0)
    assert kernel["stores"].keys() <= {"16", "8"}
    if not kernel["program"].startswith(PRODUCTS):
        assert kernel["loads"].keys() <= {"16"}
        return
    # A row is one load; a column is one for each of the 16 rows that a thread has at most.
    assert sum(count for width, count in kernel["loads"].items() if width != "16") <= 17
    assert kernel["copies"].keys() == {"16"}
    if kernel["constants"].get("BLOCK_M_", 64) < 64:
        return  # too few rows for an asynchronous product
    assert kernel["wgmma"] > 0
    if kernel["program"].startswith(("attention", "int4_matmul")):
        return  # each product's result is needed at once; its right operand is computed, and read from shared memory
    assert max(kernel["under_way"]) > 0


def test_the_first_configs(tmp_path):
    found = kernels(tmp_path, *QUICK)
    assert len(found) == len(QUICK)
    for kernel in found:
        assert_fast(kernel)


@pytest.mark.full
@pytest.mark.parametrize("program", MORE)
def test_every_config(program, tmp_path):
    found = kernels(tmp_path, program)
    assert found
    for kernel in found:
        assert_fast(kernel)

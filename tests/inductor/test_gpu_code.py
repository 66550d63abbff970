"""The kernels that Inductor would launch on a GPU compile to machine code, with what was fused into them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPECTED = {
    "founding": 1,
    "founding dynamic": 1,
    "even": 1,
    "f32": 1,
    "f64 of f16": 1,
    "f64": 1,
    "f64 of f32": 1,
    "outputs": 1,
    "outputs dynamic": 1,
    "scalars": 1,
    "softmax": 1,
    "few bytes": 1,
    "float8": 1,
    "bordered": 3,
    "bordered dynamic": 3,
    "in place": 1,
    "sums": 2,
    "embed": 1,
    "one": 1,
}


OTHERS = [pytest.param(target, marks=pytest.mark.full) for target in ("sm_80", "sm_100", "gfx942")]


@pytest.mark.parametrize("target", ["sm_90", *OTHERS])
def test_compiles(target, tmp_path):
    settings = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("gpu_code.py")), target],
        env={**settings, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert {name: int(count) for name, count in found.items()} == EXPECTED

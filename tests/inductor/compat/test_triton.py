"""What Triton compiles wrongly, or not at all: the workarounds are in the texts of kernels, and in what runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.inductor.compat.upstream import TRITON, assert_wrong


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("triton_kernels.py"))],
        env={
            **os.environ,
            "TRITON_INTERPRET": "0",
            "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_dot_of_float64_that_was_narrow(found):
    assert_wrong("PassManager::run failed" in found["dot_of_narrow"], "runtime/intrinsics.py: opaque")


def test_a_gather_whose_index_is_longer_than_its_rows(found):
    assert_wrong("PassManager::run failed" in found["longer_index"], "emit/lanes.py: Lanes.repeated")


def test_the_negative_of_zero(found):
    wrong = "arith.subf" in found["negative"] and "arith.negf" not in found["negative"]
    assert_wrong(wrong, "emit/expressions.py: Expressions._unary", needed=TRITON < (3, 8))


def test_machine_code_that_was_cut_off_in_the_cache(found):
    assert_wrong(
        "JSONDecodeError" in found["unreadable"], "runtime/autotuner.py: TemplateAutotuner._precompile_config"
    )

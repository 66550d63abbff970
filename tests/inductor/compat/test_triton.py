"""What Triton, or its assembler, compiles wrongly or not at all: the workarounds are in the texts of kernels, and in what
runs them."""

from __future__ import annotations

import json
import os
import re
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


def test_a_float8_is_no_integer(found):
    assert_wrong(bool(found["whole_number"]), "types.py: converts_through_f32")


def test_the_negative_of_zero(found):
    wrong = "arith.subf" in found["negative"] and "arith.negf" not in found["negative"]
    assert_wrong(wrong, "emit/expressions.py: Expressions._unary", needed=TRITON < (3, 8))


def test_machine_code_that_was_cut_off_in_the_cache(found):
    assert_wrong(
        "JSONDecodeError" in found["unreadable"], "runtime/autotuner.py: TemplateAutotuner._precompile_config"
    )


# The assembler: the PTX is right, and what is made of it is not.


def test_a_square_is_taken_to_be_no_nan(found):
    """Of NaN `>=` is false: whether x is one is not even looked at."""
    assert "STG" in found["at_least_zero"]
    assert_wrong("LDG" not in found["at_least_zero"], "runtime/intrinsics.py: above, at_least, below")


def test_the_opposite_of_the_least_i16(found):
    """32768 is no i16: its sign has to be extended once more, behind the subtraction."""
    before, subtraction, behind = re.split(r"(\bI\w+\.?\w* R\d+, .*-R\d+.*)", found["opposite"], maxsplit=1)
    assert "PRMT" in before, subtraction
    assert_wrong("PRMT" not in behind, "runtime/intrinsics.py: as_i16")


def test_every_second_lane_keeps_its_sign(found):
    ptx, sass = found["absolute"]["ptx"], found["absolute"]["sass"]
    wanted = len(re.findall(r"and\.b16\b.*, 32767;", ptx))
    lanes = sass.count(", 0x7fff,") + 2 * len(re.findall(r"0x7fff7fff|\|R\d+\|", sass))
    assert_wrong(0 < lanes < wanted, "runtime/intrinsics.py: absolute")

"""`tdsl show --standalone`: files that run where there is no tdsl, and say what does not fit."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tdsl import cli
from tests.standalone_cases import CASES

ROOT = Path(__file__).parent.parent


def file_of(template: str) -> Path:
    if template.startswith("golden/"):
        return ROOT / "tests" / template / "kernel.tdsl"
    return ROOT / "examples" / template / f"{template}.tdsl"


def write(file: Path | str, output: Path, options: str) -> None:
    assert cli.run(["show", str(file), "--standalone", "-o", str(output), *shlex.split(options)]) == 0


def run(*command: str, interpreted: bool = True) -> subprocess.CompletedProcess[str]:
    """In a process that cannot import tdsl: -I keeps PYTHONPATH and this folder away."""
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpreted else "0"}
    return subprocess.run([sys.executable, "-I", *command], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("standalone")
    for name, case in CASES.items():
        write(file_of(case.template), folder / f"{name}.py", case.options)
    done = run(str(ROOT / "tests" / "standalone_cases.py"), str(folder))
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("case", CASES)
def test_runs_without_tdsl(case: str, outcomes: dict[str, str]) -> None:
    assert outcomes[case] == "right"


def test_each_example_and_golden_is_run() -> None:
    examples = {path.parent.name for path in ROOT.glob("examples/*/*.tdsl")}
    goldens = {f"golden/{path.parent.name}" for path in ROOT.glob("tests/golden/*/kernel.tdsl")}
    # In bf16 alone, with which Triton's interpreter does not calculate.
    assert {case.template for case in CASES.values()} == (examples | goldens) - {"golden/helper"}

"""Each example's kernel compiles to machine code for GPUs of four kinds, and is the same text every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/*.tdsl"))
COMPILED = [*EXAMPLES, Path(__file__).with_name("lanes.tdsl")]
# The shared memory that one program may use, in bytes. An example's last config fits everywhere.
SHARED = {"sm_80": 166_912, "sm_90": 232_448, "sm_100": 232_448, "gfx942": 65_536}
SEEDS = range(5)


@pytest.mark.parametrize("example", COMPILED, ids=lambda path: path.stem)
def test_compiles_for_every_target(example: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_targets.py")
    done = subprocess.run(
        [sys.executable, str(script), str(example), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {result["target"] for result in results} == SHARED.keys()
    for result in results:
        assert "error" not in result, f"{result['target']}, {result['dtype']}:\n{result['error']}"
        assert result["bytes"] > 0
        assert result["shared"] <= SHARED[result["target"]], result


def test_one_text_for_every_hash_seed() -> None:
    probe = (
        "import sys; from tdsl import cli\n"
        "for file in sys.argv[1:]:\n"
        "    for stage in ('ast', 'ir', 'triton'): cli.run(['show', file, '--stage', stage])"
    )
    texts = set()
    for seed in SEEDS:
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", probe, *map(str, EXAMPLES)]
        texts.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(texts) == 1

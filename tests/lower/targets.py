"""Compiles the templates of a text for each kind of GPU, in a process that does not interpret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def compiled(text: str, folder: Path, targets: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row for each kernel and target (`compile_targets`; all of them, if none is named); raises AssertionError
    where one fails."""
    file = folder / "compiled.tdsl"
    file.write_text(text)
    script = Path(__file__).with_name("compile_targets.py")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, str(script), str(file), str(folder), *targets]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for row in rows:
        assert "error" not in row, f"{row['target']}, {row['dtype']}:\n{row['error']}"
    assert rows
    return rows

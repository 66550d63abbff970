"""What every file of a workaround has: where the bug was seen, and a test of its name that reproduces it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tdsl.lower.inductor import compat

NO_WORKAROUNDS = {"__init__", "call_names", "names", "probes"}
FILES = [path for path in Path(compat.__file__).parent.glob("*.py") if path.stem not in NO_WORKAROUNDS]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_workaround_has_a_reproducer(path):
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert told is not None and "\nSeen: " in told
    reproducer = Path(__file__).with_name(f"test_{path.stem}.py")
    assert "assert_wrong(" in reproducer.read_text(encoding="utf-8")

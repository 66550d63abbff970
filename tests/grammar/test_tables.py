"""The kept parse tables are those of the grammar."""

from __future__ import annotations

import json
from pathlib import Path

import lark
import pytest

from tdsl.grammar import parse, parser, tables
from tdsl.source import Source

GRAMMAR = Path(tables.__file__).with_name("tdsl.lark").read_text(encoding="utf-8")
TEXT = "template f(x: f32[M]):\n    v = load x[m] else 0\n"


def test_the_kept_tables_are_up_to_date() -> None:
    kept = json.loads(tables.TABLES.read_text(encoding="utf-8"))
    if kept["made_from"]["lark"] != lark.__version__:
        pytest.skip(f"they were made with Lark {kept['made_from']['lark']}")
    fresh = tables.spell(tables.make(GRAMMAR), GRAMMAR)
    assert tables.TABLES.read_text(encoding="utf-8") == fresh, "run tdsl.grammar.tables.write()"


@pytest.mark.parametrize("kept", [None, '{"made_from": {"lark": "0", "sha256": ""}}'])
def test_without_fitting_tables_the_grammar_is_read(
    kept: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = parse(Source("<string>", TEXT))
    path = tmp_path / "tables.json"
    if kept is not None:
        path.write_text(kept, encoding="utf-8")
    monkeypatch.setattr(tables, "TABLES", path)
    parser._grammar.cache_clear()
    try:
        assert parse(Source("<string>", TEXT)) == expected
    finally:
        parser._grammar.cache_clear()

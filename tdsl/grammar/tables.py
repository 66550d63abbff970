"""The parse tables of tdsl.lark, made once and kept in tables.json, since making them takes longer than all the rest.

    python -c "from tdsl.grammar.tables import write; write()"      # tdsl.lark  ->  tables.json

The file is used only with the grammar and the version of Lark that it was made from and with; else, and that is
always right, the tables are made anew. It is data: nothing in it is run. The same grammar gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

_GRAMMAR = Path(__file__).with_name("tdsl.lark")
TABLES = Path(__file__).with_name("tables.json")


def load() -> lark.Lark:
    """The parser: from the kept tables if they fit, and if not, from the grammar."""
    grammar = _GRAMMAR.read_text(encoding="utf-8")
    try:
        kept = json.loads(TABLES.read_text(encoding="utf-8"), object_pairs_hook=_with_numbers)
    except FileNotFoundError:
        return make(grammar)
    if kept["made_from"] != _origin(grammar):
        return make(grammar)
    return lark.Lark.load(kept)


def make(grammar: str) -> lark.Lark:
    # Lark's own lexer is not used: the parser is fed with what the scanner makes.
    return lark.Lark(grammar, parser="lalr", lexer="basic", propagate_positions=True)


def write() -> None:
    """Make tables.json anew, after a change of tdsl.lark or for another version of Lark."""
    grammar = _GRAMMAR.read_text(encoding="utf-8")
    TABLES.write_text(spell(make(grammar), grammar), encoding="utf-8")


def spell(parser: lark.Lark, grammar: str) -> str:
    """The text of tables.json."""
    data, memo = parser.memo_serialize([TerminalDef, Rule])
    _renumber(data["parser"]["parser"])
    kept = {"made_from": _origin(grammar), "data": data, "memo": memo}
    return json.dumps(kept, separators=(",", ":")) + "\n"


def _origin(grammar: str) -> dict[str, str]:
    return {"lark": lark.__version__, "sha256": hashlib.sha256(grammar.encode()).hexdigest()}


def _renumber(table: dict[str, Any]) -> None:
    """Number the states and symbols of a parse table by their names: Lark's numbers depend on the hash seed."""
    names = table["tokens"]
    numbers = {name: number for number, name in enumerate(sorted(names.values()))}
    states = {
        state: {names[symbol]: action for symbol, action in actions.items()}
        for state, actions in table["states"].items()
    }
    order = sorted(table["start_states"].values())
    for state in order:  # grows on the way
        for name in sorted(states[state]):
            kind, target = states[state][name]
            if kind == _SHIFT and target not in order:
                order.append(target)
    assert len(order) == len(states)
    renamed = {state: number for number, state in enumerate(order)}
    table["tokens"] = {number: name for name, number in numbers.items()}
    table["states"] = {
        renamed[state]: {
            numbers[name]: (kind, renamed[target] if kind == _SHIFT else target)
            for name, (kind, target) in sorted(states[state].items())
        }
        for state in order
    }
    for key in ("start_states", "end_states"):
        table[key] = {start: renamed[state] for start, state in table[key].items()}


_SHIFT = 0  # how Lark writes the action; the other, reduce, is 1


def _with_numbers(pairs: list[tuple[str, Any]]) -> dict[str | int, Any]:
    """JSON has no numbers as keys; Lark's tables have, and no names that look like them."""
    return {int(key) if key.isdigit() else key: value for key, value in pairs}

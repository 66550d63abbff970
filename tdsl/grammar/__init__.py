"""Reading: `read` a file, `parse` its text. The parser is imported when it is first asked for: what was checked before
and is read again needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdsl.grammar.reader import read

if TYPE_CHECKING:
    from tdsl.grammar.parser import parse, parse_partly

__all__ = ["parse", "parse_partly", "read"]


def __getattr__(name: str) -> object:
    if name in ("parse", "parse_partly"):
        from tdsl.grammar import parser

        return getattr(parser, name)
    raise AttributeError(f"module 'tdsl.grammar' has no attribute {name!r}")

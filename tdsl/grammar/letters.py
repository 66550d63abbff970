# ruff: noqa: RUF001, RUF002 - letters that look like others are what this module is about
"""Characters that are not what they look like: what each is called, and the ASCII text that was likely meant.

describe('а')   ->  'а' (U+0430, CYRILLIC SMALL LETTER A)
plain('а')      ->  a
plain('≥')      ->  >=
"""

from __future__ import annotations

import unicodedata

_LOOKALIKES = {
    **dict(zip("авекмнорстухіјѕһԁԛԝ", "abekmhopctyxijshdqw", strict=True)),
    **dict(zip("АВЕКМНОРСТУХІЈЅԌԜҮ", "ABEKMHOPCTYXIJSGWY", strict=True)),
    **dict(zip("αγικνορυ", "ayikvopu", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2018\u2019\u201a\u00b4", "'"),
    **dict.fromkeys("\u00d7\u22c5\u2217\u00b7", "*"),
    "\u00f7": "/",
    "\u2215": "/",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2260": "!=",
    "\u2192": "->",
    "\u2208": "in",
    "\u221e": "inf",
    "\u2026": "...",
    "\u0131": "i",
    "\u017f": "s",
}


def plain(char: str) -> str | None:
    """The ASCII text that `char` looks like or stands for, if there is one."""
    if char in _LOOKALIKES:
        return _LOOKALIKES[char]
    if char.isspace():
        return " "
    compatible = unicodedata.normalize("NFKD", char)
    bare = "".join(part for part in compatible if not unicodedata.combining(part))
    return bare if bare and bare.isascii() and bare.isprintable() else None


def is_blank(char: str) -> bool:
    """Whether `char` shows as a blank or as nothing at all, such as U+00A0 or U+200B."""
    return char.isspace() or unicodedata.category(char) == "Cf"


def describe(char: str) -> str:
    """How a message calls `char`: itself where it prints, its number, and its Unicode name where it has one."""
    number = f"U+{ord(char):04X}"
    name = unicodedata.name(char, "")
    if not char.isprintable() or is_blank(char) or unicodedata.combining(char):
        return f"{name} ({number})" if name else f"the character {number}"
    return f"'{char}' ({number}, {name})" if name else f"'{char}' ({number})"

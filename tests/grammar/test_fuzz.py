"""Broken versions of the examples: each parses, or has mistakes that can be shown; nothing else happens."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from tdsl.diagnostics import TdslError
from tdsl.grammar import parse
from tdsl.source import Source

EXAMPLES = [
    path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*/*.tdsl"))
]
TOKEN = re.compile(r"[ \t]+|\w+|[^\w\s]|\n")
WORDS = sorted({word for text in EXAMPLES for word in TOKEN.findall(text)})
STRANGE = [
    "\t",
    "'",
    '"""',
    "\\",
    "é",
    "\u200b",
    "\0",
    "\r",
    "\f",
    "while",
    "lambda",
    "==",
    "1.2.3",
    "\n ",
    "\n        ",
]
SOON = 2.0  # seconds; each takes some milliseconds


def broken(rng: random.Random) -> str:
    tokens = TOKEN.findall(rng.choice(EXAMPLES))
    for _ in range(rng.choice([1, 1, 1, 2, 4, 10])):
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        match rng.randrange(6):
            case 0:
                tokens[at] = ""
            case 1:
                tokens.insert(at, tokens[at])
            case 2:
                tokens[at] = rng.choice(WORDS)
            case 3:
                tokens.insert(at, rng.choice(WORDS + STRANGE))
            case 4:
                del tokens[at + 1 :]
            case _:
                tokens[at], tokens[other] = tokens[other], tokens[at]
    return "".join(tokens)


@pytest.mark.parametrize("seed", range(10))
def test_broken_examples(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(40):
        text = broken(rng)
        started = time.perf_counter()
        try:
            parse(Source("<string>", text))
        except TdslError as error:
            assert error.diagnostics
            starts = [each.span.start for each in error.diagnostics]
            assert starts == sorted(starts)
            assert "error[" in str(error)
        except Exception as error:
            raise AssertionError(f"{error!r} for\n{text}") from error
        assert time.perf_counter() - started < SOON, text

"""What is too much: a diagnostic with the limit in it, soon, and never a RecursionError."""

from __future__ import annotations

import time

import pytest

from tdsl.diagnostics import Code, TdslError
from tdsl.grammar import parse
from tdsl.source import Source

SOON = 10.0  # seconds; what follows takes a tenth of that at most, and without a limit minutes


def mistakes(text: str) -> list[tuple[Code, str]]:
    started = time.perf_counter()
    try:
        parse(Source("<string>", text))
        found = []
    except TdslError as error:
        assert len(str(error)) < 100_000
        found = [(each.code, each.message) for each in error.diagnostics]
    assert time.perf_counter() - started < SOON
    return found


def line(text: str) -> str:
    return f"template f(x: f32[M]):\n    v = {text}\n"


@pytest.mark.parametrize(
    "text",
    [
        "(" * 20_000 + "x" + ")" * 20_000,
        "(" * 20_000,
        "load x[" * 12_000,
        "exp(" * 20_000,
        "-" * 10_000 + "x",
        "not " * 10_000 + "x",
        "x ** " * 10_000 + "x",
        "x + " * 10_000 + "x",
        "x if y else " * 5_000 + "x",
        "load x[m] else " * 5_000 + "0",
        "(x + " * 60 + "x" + " + x)" * 60,
        "-(" * 60 + "x" + ")" * 60,
    ],
    ids=lambda text: text[:12],
)
def test_deep_expressions(text: str) -> None:
    ((code, message),) = mistakes(line(text))
    assert code is Code.TOO_DEEP
    assert "100 levels" in message


@pytest.mark.parametrize("text", ["(" * 99 + "x" + ")" * 99, "x" + " + x" * 99, "-" * 98 + "x"])
def test_the_deepest_expressions(text: str) -> None:
    assert mistakes(line(text)) == []


def test_deep_blocks() -> None:
    def nested(depth: int) -> str:
        headers = "".join("    " * level + "if a:\n" for level in range(1, depth))
        return "template f(x: f32[M]):\n" + headers + "    " * depth + "pass\n"

    assert mistakes(nested(16)) == []
    for depth in (17, 500):
        ((code, message),) = mistakes(nested(depth))
        assert code is Code.TOO_DEEP
        assert "16 levels" in message


@pytest.mark.parametrize(
    "text", ["x + " * 249_000 + "x", "'" + "a" * 998_000 + "'", "a" * 998_000, "(" * 99_000]
)
def test_a_line_of_a_megabyte(text: str) -> None:
    (*_, (code, message)) = mistakes(line(text))
    assert code is Code.TOO_LARGE if len(text) > 100_000 else Code.TOO_DEEP
    assert "100,000" in message or "100 levels" in message


@pytest.mark.parametrize(
    "text",
    [
        "(\n",
        "x = (1\n",
        "}\n",
        "x y\n",
        "'\n",
        "if:\n",
        " x\n  y\n",
        "a = 1.2.3\n",
        "é\n",
        "while x:\n    y\n",
        "\t \n x\n",
    ],
    ids=repr,
)
def test_many_mistakes(text: str) -> None:
    found = mistakes(text * 5_000)
    assert 1 <= len(found) <= 101

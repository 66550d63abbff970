"""What several commands ask of a command line, and what is said of a wrong one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any


class UsageError(Exception):
    """The command line is wrong; the text says what was expected."""


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0, not {text!r}")
    return value


def count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more, not {text!r}")
    return int(text)


def some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """What parses names, separated by commas, each of which is known."""

    def parse(text: str) -> list[str]:
        found = [name.strip() for name in text.split(",") if name.strip()]
        if not found or not {*found} <= {*known}:
            raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, not {text!r}")
        return found

    return parse


def file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"expected a file, and there is none at {text!r}")
    return path


def read_results(path: Path) -> dict[str, Any]:
    """What `suite` has written to the file."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"versions", "contenders", "ceilings", "rows"} <= found.keys():
        raise UsageError(f"expected a results.json that 'suite' has written; {path} is none")
    return found


def add_out(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("bench-out"), metavar="DIR", help=f"where {what} goes (%(default)s)"
    )


def add_tiny(parser: argparse.ArgumentParser, sizes: str = "sizes for an interpreter") -> None:
    parser.add_argument("--tiny", action="store_true", help=f"{sizes}: proves without a GPU that it runs")

"""What tdsl says about a mistake: `Diagnostic`, the table of codes, the renderer, and `TdslError`."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from tdsl.source import Span


class Code(Enum):
    """Every kind of mistake. The value is what `error[...]` shows; one file per code in tests/errors."""

    # the text
    UNREADABLE_FILE = "unreadable-file"
    ENCODING = "encoding"
    TOO_LARGE = "too-large"
    TOO_DEEP = "too-deep"
    BAD_CHARACTER = "bad-character"
    INDENTATION = "indentation"
    SYNTAX = "syntax"
    BAD_NUMBER = "bad-number"
    # names
    RESERVED_NAME = "reserved-name"
    DUPLICATE_NAME = "duplicate-name"
    UNKNOWN_NAME = "unknown-name"
    UNUSED_INPUT = "unused-input"
    RECURSION = "recursion"
    # the signature
    UNKNOWN_DTYPE = "unknown-dtype"
    UNBOUND_DIM = "unbound-dim"
    BAD_DIM = "bad-dim"
    BAD_PARAM = "bad-param"
    BAD_GUARD = "bad-guard"
    # tiles, blocks and loops
    BAD_CONFIG = "bad-config"
    BAD_BLOCK = "bad-block"
    NOT_CONSTANT = "not-constant"
    BAD_GRID = "bad-grid"
    BAD_TILE = "bad-tile"
    ESCAPED_VALUE = "escaped-value"
    # values
    AXIS_MISMATCH = "axis-mismatch"
    DTYPE_MISMATCH = "dtype-mismatch"
    BAD_CALL = "bad-call"
    BAD_VALUE = "bad-value"
    # points
    WRONG_RANK = "wrong-rank"
    OUT_OF_BOUNDS = "out-of-bounds"
    BAD_POINT = "bad-point"
    NEEDLESS_OPTION = "needless-option"
    NOT_STORED = "not-stored"
    STORED_TWICE = "stored-twice"
    PARTIAL_STORE = "partial-store"
    INOUT_RACE = "inout-race"
    # one call of a template
    BAD_ARGUMENT = "bad-argument"
    # what is installed
    MISSING_PACKAGE = "missing-package"


@dataclass(frozen=True, kw_only=True)
class Label:
    """A second place that a message speaks of, with a few words to put under it."""

    span: Span
    text: str


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """One mistake: what is wrong, where, and, where there is one, what to do."""

    code: Code
    message: str
    span: Span
    labels: tuple[Label, ...] = ()
    help: str | None = None

    def __str__(self) -> str:
        return render(self)


class TdslError(Exception):
    """A template is wrong, or is called wrongly. `diagnostics` has every mistake found, in file order."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(*self.diagnostics)

    def __repr__(self) -> str:
        return f"TdslError({self})"

    def __str__(self) -> str:
        return "\n\n".join(render(diagnostic) for diagnostic in self.diagnostics)


def suggest(name: str, known: Iterable[str]) -> str | None:
    """The known name nearest to `name`, if one is near."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=0.6)
    return near[0] if near else None


def render(diagnostic: Diagnostic) -> str:
    """The diagnostic as text, without an end of line:

    error[code]: message
      --> name:line:column
       |
    12 |     the line, with the place underlined
       |              ^^^^^ ----- a label
       = help: what to do
    """
    lines = [f"error[{diagnostic.code.value}]: {_shown(diagnostic.message)}"]
    primary = diagnostic.span
    marks = [_Mark(span=primary, text="", primary=True)]
    marks += [_Mark(span=label.span, text=_shown(label.text), primary=False) for label in diagnostic.labels]
    sources = list(dict.fromkeys(mark.span.source for mark in marks if mark.span.source.text))
    width = max((len(str(mark.line)) for mark in marks if mark.span.source.text), default=1)
    gutter = " " * width
    if not primary.source.text:
        lines.append(f"{gutter}--> {_shown(primary.source.name)}")
    for source in sources:
        own = [mark for mark in marks if mark.span.source == source]
        arrow = "-->" if source == primary.source else ":::"
        lines.append(f"{gutter}{arrow} {_shown(source.name)}:{own[0].line}:{own[0].column}")
        lines.append(f"{gutter} |")
        previous: int | None = None
        for number in sorted({mark.line for mark in own}):
            if previous is not None and number > previous + 1:
                lines.append("...")
            previous = number
            for text, notes in _excerpts(source.line(number), [mark for mark in own if mark.line == number]):
                lines.append(f"{number:>{width}} | {text}".rstrip())
                lines += [f"{gutter} | {note}" for note in notes]
    if diagnostic.help is not None:
        lines.append(f"{gutter} = help: {_shown(diagnostic.help)}")
    return "\n".join(lines)


_WINDOW = 100  # characters of a line that are shown at most
_LEAD = 40  # of them, before the place that is underlined
_TAB = 4
_LONGEST = 1000  # characters of a message


class _Mark:
    """One underlined place: where on its first line it starts and ends (from 0), and what is said of it."""

    def __init__(self, *, span: Span, text: str, primary: bool) -> None:
        self.span = span
        self.text = text
        self.primary = primary
        self.line, self.column = span.source.position(span.start)
        self.start = self.column - 1
        length = len(span.source.line(self.line))
        self.end = max(self.start + 1, min(self.start + span.end - span.start, length))


def _excerpts(line: str, marks: list[_Mark]) -> Iterator[tuple[str, list[str]]]:
    """The line with its marks under it; a long line once for each part of it that has marks."""
    left = marks
    while left:
        first = left[0]
        start = 0 if len(line) <= _WINDOW else max(0, min(first.start - _LEAD, len(line) - _WINDOW))
        end = start + _WINDOW
        here = [mark for mark in left if mark is first or (mark.start >= start and mark.end <= end)]
        left = [mark for mark in left if mark not in here]
        before, after = "..." if start > 0 else "", "..." if len(line) > end else ""
        # columns[i] is where character start + i begins on the screen; a mark may lie one beyond the last.
        columns = [len(before)]
        shown = [before]
        for char in line[start:end]:
            piece = _shown(char) if char != "\t" else " " * (_TAB - columns[-1] % _TAB)
            shown.append(piece)
            columns.append(columns[-1] + _columns(piece))
        columns.append(columns[-1] + 1)
        places = [(columns[mark.start - start], columns[min(mark.end, end) - start], mark) for mark in here]
        yield "".join(shown) + after, _underlines(places)


def _underlines(places: list[tuple[int, int, _Mark]]) -> list[str]:
    """`^^^ ---- label`: the rightmost label beside its line, the others below theirs, from right to left."""
    strokes = [" "] * max(end for _, end, _ in places)
    for start, end, mark in sorted(places, key=lambda place: place[2].primary):
        strokes[start:end] = ("^" if mark.primary else "-") * max(1, end - start)
    labelled = sorted((place for place in places if place[2].text), key=lambda place: place[0], reverse=True)
    lines = ["".join(strokes)]
    if labelled and max(end for _, end, _ in places) == labelled[0][1]:
        lines[0] += f" {labelled.pop(0)[2].text}"
    return lines + [f"{' ' * start}{mark.text}" for start, _, mark in labelled]


def _shown(text: str) -> str:
    """Text fit for a terminal: what does not print is spelled out, and what is endless cut."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"<U+{ord(char):04X}>" for char in text)


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )

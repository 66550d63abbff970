"""Text to lines of tokens: brackets paired, indentation counted, comments gone.

    for k in K by B:        [FOR NAME IN NAME BY NAME COLON]
        acc += dot(a,   ->  indent [NAME AUGMENTED NAME LPAR NAME COMMA NAME RPAR]
                   b)

The terminals come from tdsl.lark. What a line means is left to the parser; a line in which a mistake was
found here is marked broken, so that the parser says no more about it.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from lark import Token
from lark.lexer import PatternStr, TerminalDef

from tdsl import foreign
from tdsl.diagnostics import Code, Diagnostic, Label
from tdsl.grammar.letters import describe, is_blank, plain
from tdsl.source import Source, Span

MAX_LINE = 100_000  # characters; no line that a person writes comes near
MAX_BRACKETS = 100  # inside one another; the passes recurse over expressions
MAX_BLOCKS = 16  # inside one another; Python itself takes 20 loops in one another
_TAB = 4
MAX_RESTARTS = 20  # after this many brackets that swallow the rest of the file
MAX_INTEGER = 2**63 - 1


def kinds(names: str) -> frozenset[str]:
    """A set of the grammar's terminals."""
    return frozenset(names.split())


_OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB"}
_CLOSERS = {"RPAR": "LPAR", "RSQB": "LSQB"}
_SPELLED = {"LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]"}
# A line that starts with one of these is no continuation of a bracket opened above.
_STARTERS = kinds("TEMPLATE DEF LET CONFIG TUNE FOR ELIF STORE ACCUMULATE RETURN PASS")
_PYTHON_STARTERS = frozenset(("while", "import", "from", "class", "with", "try"))
_PLAIN = kinds("COMMA COLON SIGN OPERATOR COMPARISON ARROW ELLIPSIS OPTIONAL INVERT DOT STRING")
_HEADERS = kinds("TEMPLATE DEF FOR IF ELIF ELSE")
# A template's header goes on with these at the start of a line; its guards, and configs, go on after a ','.
_HEADER_GOES_ON = re.compile(r"(?:[ \t]*(?:\#[^\n]*)?\n)+[ \t]*(?:where\b(?!\s*=[^=])|->)")
_GO_ON_AFTER_COMMA = kinds("TEMPLATE CONFIG TUNE")
# Where lines that end, or start, with one of these were meant to be one.
_UNFINISHED = kinds("SIGN OPERATOR COMPARISON AND OR NOT IN EQUAL AUGMENTED ARROW COMMA BY TO")
_NO_START = kinds("SIGN OPERATOR COMPARISON AND OR IN EQUAL AUGMENTED ARROW COMMA BY TO DOT GRID")

_CHARACTERS: dict[str, str] = {
    ";": "';' does not end a statement",
    "\\": "'\\' does not continue a line",
}


@dataclass
class Line:
    """One logical line. `closes` blocks end before it; then, if `opens`, a block begins."""

    tokens: list[Token]
    blank: str = ""
    closes: int = 0
    opens: bool = False
    broken: bool = False
    misplaced: bool = False  # its indentation is a mistake, which was reported


@dataclass
class Scan:
    """`closes` is the number of blocks that end with the file."""

    lines: list[Line] = field(default_factory=list)
    closes: int = 0
    diagnostics: list[Diagnostic] = field(default_factory=list)
    complete: bool = True  # False: a mistake after which the rest of the file was not looked at


class Vocabulary:
    """The terminals of a grammar as one regular expression, and its words."""

    def __init__(self, terminals: Iterable[TerminalDef]) -> None:
        self.words = {word: "PYTHON_WORD" for word in keyword.kwlist}
        parts = []
        for terminal in terminals:
            if isinstance(terminal.pattern, PatternStr) and terminal.pattern.value.isalpha():
                self.words[terminal.pattern.value] = terminal.name
            else:
                regexp = terminal.pattern.to_regexp()
                if terminal.name == "NUMBER":
                    regexp = f"(?:{regexp})(?![\\w.])"
                parts.append(f"(?P<{terminal.name}>{regexp})")
        parts += [
            r"(?P<end>\n)",
            r"(?P<comment>\#[^\n]*)",
            r"(?P<number>0[xX]\w*|\.?\d(?:(?<=[\d.])[eE][+-]\d|[\w.])*)",
            r"(?P<string>\"\"\"|'''|[\"'])",
            r"(?P<other>[^ \t])",
        ]
        self.pattern = re.compile(rf"[ \t]*(?:{'|'.join(parts)})")


def scan(source: Source, vocabulary: Vocabulary) -> Scan:
    """The lines of a source, and each mistake that shows without knowing what they mean."""
    scanner = _Scanner(source, vocabulary)
    scanner.run()
    return scanner.result


class _Scanner:
    def __init__(self, source: Source, vocabulary: Vocabulary) -> None:
        self.source = source
        self.text = source.text
        self.end = 0  # how far the text is read, without the blanks before it
        self.is_cut = False  # whether there is more
        self.vocabulary = vocabulary
        self.result = Scan()
        # The logical line being read, and where the physical line starts that it starts in.
        self.tokens: list[Token] = []
        self.brackets: list[int] = []  # the places, among the tokens, of those that are open
        self.broken = False
        self.line_start = 0
        # Inside brackets: where the present physical line starts, in the text and among the tokens.
        self.row_start = 0
        self.row_first = -1
        # Blocks: their indentation; indentations found wrong once, and the level that each was taken for.
        self.levels = [0]
        self.wrong: dict[int, int] = {}
        self.first_blank = ""
        self.mixed = False
        # Names with letters that are not ASCII, and what they were taken for.
        self.strange: dict[str, str] = {}
        self.restarts = 0
        self.reported: set[tuple[Code, int]] = set()

    def run(self) -> None:
        length = self._find_length()
        self.is_cut = length < len(self.text)
        self.end = len(self.text[:length].rstrip(" \t"))
        start: int | None = 0
        while start is not None:
            start = self._scan(start)
        if self.is_cut and self.result.complete:
            message = f"a line may have {MAX_LINE:,} characters"
            self._report(Code.TOO_LARGE, message, length, length + 1)
            self.result.complete = False
        if self.result.complete:
            self._end_line()
            self._arrange()

    def _find_length(self) -> int:
        """How much of the text there is before a line gets too long."""
        length = 0
        for row in self.text.split("\n"):
            if len(row) > MAX_LINE:
                return length + MAX_LINE
            length += len(row) + 1
        return len(self.text)

    def _scan(self, start: int) -> int | None:
        """Read from `start` to the end; if that has to go on at another place, say where."""
        text, tokens, brackets, words = self.text, self.tokens, self.brackets, self.vocabulary.words
        for match in self.vocabulary.pattern.finditer(text, start, self.end):
            kind = match.lastgroup
            assert kind is not None
            start, end = match.span(kind)
            value = text[start:end]
            if kind == "NAME":
                if value in words and not self._is_attribute(value):
                    kind = words[value]
                elif not value.isascii():
                    value = self._respell(value, start)
                    kind = words.get(value, kind)
                if brackets and len(tokens) == self.row_first and self._is_new_line(kind, value, start):
                    self._break_off(len(tokens))
            elif kind in _PLAIN:
                pass
            elif kind == "NUMBER":
                self._check_number(value, start)
            elif kind == "end":
                if brackets:
                    self.row_start, self.row_first = end, len(tokens)
                    continue
                if tokens:
                    if tokens[0].type in _GO_ON_AFTER_COMMA and self._goes_on(start):
                        continue
                    self._end_line()
                self.line_start = end
                continue
            elif kind == "comment":
                continue
            elif kind in _CLOSERS:
                self._close(kind, start)
            elif kind in ("EQUAL", "AUGMENTED"):
                if brackets and len(tokens) == self.row_first + 1 and self._starts_statement(kind):
                    self._break_off(self.row_first)
            elif kind == "string":
                if self.is_cut:
                    return None  # it may end in what is not read
                self._report_string(value, start)
                if not self.result.complete:
                    return None
                line_end = text.find("\n", end)
                return line_end if line_end >= 0 else None
            elif kind == "other":
                self._report_character(value, start)
                continue
            elif kind == "number":
                self._report(Code.BAD_NUMBER, f"'{value}' is not a number", start, end, _number_help(value))
                kind, value = "NUMBER", "0"
            token = Token(kind, value, start, None, None, None, None, end)
            if kind in _OPENERS:
                if len(brackets) == MAX_BRACKETS:
                    message = f"brackets may nest {MAX_BRACKETS} levels deep"
                    self._report(Code.TOO_DEEP, message, start, end)
                    self.result.complete = False
                    return None
                brackets.append(len(tokens))
            tokens.append(token)
        if brackets and not self.is_cut:
            return self._restart()
        return None

    def _goes_on(self, line_end: int) -> bool:
        if self.tokens[-1].type == "COMMA":
            return True
        return self.tokens[0].type == "TEMPLATE" and _HEADER_GOES_ON.match(self.text, line_end) is not None

    # Mistakes

    def _report(
        self, code: Code, message: str, start: int, end: int, help: str | None = None, *labels: Label
    ) -> None:
        # A part of the text that is read twice has its mistakes reported once.
        if (code, start) not in self.reported:
            self.reported.add((code, start))
            span = Span(self.source, start, end)
            self.result.diagnostics.append(
                Diagnostic(code=code, message=message, span=span, help=help, labels=labels)
            )

    def _respell(self, name: str, start: int) -> str:
        """The name with ASCII letters in the place of those that look like them; reported the first time."""
        if name not in self.strange:
            self.strange[name] = "".join(char if char.isascii() else plain(char) or char for char in name)
            at, char = next((at, char) for at, char in enumerate(name) if not char.isascii())
            meant = plain(char)
            if meant is not None and len(name) > 1:
                message = f"the letter {at + 1} of '{name}' is {describe(char)}, not the ASCII '{meant}'"
            elif meant is not None:
                message = f"this is {describe(char)}, not the ASCII '{meant}'"
            else:
                message = f"{describe(char)} cannot be part of a name"
            fixed = self.strange[name]
            help = f"write '{fixed}'" if fixed.isascii() else "names are made of a-z, A-Z, 0-9 and _"
            self._report(Code.BAD_CHARACTER, message, start, start + len(name), help)
        return self.strange[name]

    def _check_number(self, value: str, start: int) -> None:
        if len(value) < 4 or (value.isdigit() and len(value) <= 18):
            return
        end = start + len(value)
        if value[:2] in ("0x", "0X", "0b", "0B") or not any(char in value for char in ".eE"):
            digits = value.replace("_", "")
            if len(digits) > 80 or int(digits, 0) > MAX_INTEGER:
                message = f"this integer is larger than {MAX_INTEGER}, the largest of 64 bits"
                self._report(Code.BAD_NUMBER, message, start, end)
        elif (number := float(value)) == float("inf"):
            self._report(Code.BAD_NUMBER, "this number is too large for a float", start, end, "write 'inf'")
        elif number == 0 and re.search("[1-9]", re.split("[eE]", value)[0]):
            self._report(Code.BAD_NUMBER, "this number is too small for a float: it would be 0", start, end)

    def _report_string(self, quote: str, start: int) -> None:
        end = start + len(quote)
        self._report(Code.SYNTAX, "this string is never closed", start, end, f"end it with {quote}")
        self.broken = True
        if len(quote) == 3:
            self.result.complete = False

    def _report_character(self, char: str, start: int) -> None:
        if is_blank(char):
            help = "replace it with a space" if char.isspace() else "remove it"
            message = f"{describe(char)} looks like a blank but is none"
            if not self.broken:
                self._report(Code.BAD_CHARACTER, message, start, start + 1, help)
        elif not self.broken:
            message, help = f"{describe(char)} is not part of the language", None
            if char in foreign.SIGNS:
                message = _CHARACTERS.get(char, f"'{char}' is not part of the language")
                help = foreign.SIGNS[char]
                if char == "@" and not self.tokens:
                    help = "a template has no decorators; the Python function has"
            elif not char.isascii() and (meant := plain(char)) is not None:
                help = f"write '{meant}'"
            self._report(Code.BAD_CHARACTER, message, start, start + 1, help)
        self.broken = True

    # Brackets

    def _close(self, kind: str, start: int) -> None:
        opener = _CLOSERS[kind]
        here = Span(self.source, start, start + 1)
        open = [self.tokens[at] for at in self.brackets]
        if open and open[-1].type == opener:
            self.brackets.pop()
            return
        if any(bracket.type == opener for bracket in open):
            label = Label(span=here, text=f"'{_SPELLED[kind]}' comes first")
            self._report_unclosed(open[-1], label)
            while self.tokens[self.brackets.pop()].type != opener:
                pass
        elif open:
            label = Label(span=self._span(open[-1]), text="opened here")
            message = f"'{_SPELLED[kind]}' cannot close '{open[-1]}'"
            self._report(Code.SYNTAX, message, start, start + 1, None, label)
            self.brackets.pop()
        elif not self.broken:
            message = f"'{_SPELLED[kind]}' closes nothing: no '{_SPELLED[opener]}' is open"
            self._report(Code.SYNTAX, message, start, start + 1)
        self.broken = True

    def _report_unclosed(self, bracket: Token, *labels: Label) -> None:
        span = self._span(bracket)
        closer = _SPELLED[_OPENERS[bracket.type]]
        message = f"'{bracket}' is never closed"
        self._report(Code.SYNTAX, message, span.start, span.end, f"add '{closer}'", *labels)

    def _is_attribute(self, word: str) -> bool:
        """Whether a keyword is a name here, as in `tl.where`."""
        return bool(self.tokens) and self.tokens[-1].type == "DOT" and not keyword.iskeyword(word)

    def _is_new_line(self, kind: str, word: str, start: int) -> bool:
        """Whether a word at the start of a row cannot go on with what is in brackets."""
        if kind in ("IF", "ELSE"):
            row_end = self.text.find("\n", start)
            row = self.text[start : row_end if row_end >= 0 else None]
            return row.partition("#")[0].rstrip().endswith(":")
        return kind in _STARTERS or word in _PYTHON_STARTERS

    def _starts_statement(self, kind: str) -> bool:
        """Whether `NAME =` or `NAME +=` at the start of a row is a new line rather than a keyword argument."""
        at = self.brackets[-1]
        is_call = (
            self.tokens[at].type == "LPAR"
            and at > 0
            and self.tokens[at - 1].type in ("NAME", "WHERE", "GRID")
        )
        indented = self._span(self.tokens[-1]).start - self.row_start
        first_indented = self._span(self.tokens[0]).start - self.line_start
        return kind == "AUGMENTED" or not is_call or indented <= first_indented

    def _break_off(self, count: int) -> None:
        """End the logical line after `count` tokens: what follows is a new one, so a bracket is unclosed."""
        self._report_unclosed(self.tokens[self.brackets[-1]])
        self.brackets.clear()
        self.broken = True
        rest = self.tokens[count:]
        del self.tokens[count:]
        self._end_line()
        self.tokens.extend(rest)
        self.line_start = self.row_start

    def _restart(self) -> int | None:
        """A bracket is open at the end of the file: say so, and read again what follows the line it is in."""
        first = self.tokens[self.brackets[0]]
        self._report_unclosed(first)
        self.broken = True
        self.brackets.clear()
        self.restarts += 1
        line_end = self.text.find("\n", first.start_pos)
        if line_end < 0:
            return None
        if self.restarts > MAX_RESTARTS:
            self.result.complete = False
            return None
        self.tokens[:] = [token for token in self.tokens if self._span(token).start < line_end]
        return line_end

    def _span(self, token: Token) -> Span:
        assert token.start_pos is not None and token.end_pos is not None
        return Span(self.source, token.start_pos, token.end_pos)

    def _end_line(self) -> None:
        if self.tokens:
            before = self.text[self.line_start : self.tokens[0].start_pos]
            blank = before[: len(before) - len(before.lstrip())]
            self.result.lines.append(Line(self.tokens.copy(), blank=blank, broken=self.broken))
        self.tokens.clear()
        self.broken = False
        self.row_first = -1

    # Blocks

    def _arrange(self) -> None:
        """Find the blocks."""
        self._check_tabs()
        lines = self.result.lines
        self.result.lines = []
        previous: Line | None = None
        for at, line in enumerate(lines):
            if previous is not None and self._belongs_to(previous, line):
                previous.tokens += line.tokens
                continue
            self._place(line, previous, lines[at + 1] if at + 1 < len(lines) else None)
            if not self.result.complete:
                return
            self.result.lines.append(line)
            previous = line
        if previous is not None and previous.tokens[-1].type == "COLON":
            self.result.closes += self._fill_block(previous)
        self.result.closes += len(self.levels) - 1

    def _belongs_to(self, previous: Line, line: Line) -> bool:
        """Whether `line` was meant to go on with the one before; reported, as that takes brackets."""
        if previous.tokens[-1].type == "COLON" or _width(line.blank) <= self.levels[-1]:
            return False
        first = self._span(line.tokens[0])
        if previous.tokens[-1].type not in _UNFINISHED and line.tokens[0].type not in _NO_START:
            return False
        if not previous.broken:
            help = "put what spans lines in parentheses"
            self._report(
                Code.SYNTAX,
                "a line goes on in the next one only inside brackets",
                first.start,
                first.end,
                help,
            )
        previous.broken = True
        return True

    def _place(self, line: Line, previous: Line | None, following: Line | None) -> None:
        """Count the blocks that end before `line`, and say whether one begins."""
        width = _width(line.blank)
        if width == 0:
            self.wrong.clear()
        if previous is not None and _may_open(previous):
            ahead = 0 if following is None or _may_open(line) else _width(following.blank)
            if width <= self.levels[-1] < ahead and previous.tokens[-1].type == "COLON":
                self._report_indentation(line, "this line is indented less than the block it is in", ahead)
                width = ahead
            if width > self.levels[-1]:
                line.opens = True
                self.levels.append(width)
                self.wrong.pop(width, None)
                if len(self.levels) - 1 > MAX_BLOCKS:
                    first = self._span(line.tokens[0])
                    message = f"blocks may nest {MAX_BLOCKS} levels deep"
                    self._report(Code.TOO_DEEP, message, first.start, first.end)
                    self.result.complete = False
                return
            if previous.tokens[-1].type == "COLON":
                line.closes += self._fill_block(previous)
        if self.wrong.get(width) in self.levels:
            line.misplaced = True
            width = self.wrong[width]
        if width < self.levels[-1] and following is not None and not _may_open(line):
            ahead = _width(following.blank)
            if width < ahead and ahead in self.levels:
                self._report_indentation(line, "this line is indented less than the block it is in", ahead)
                width = ahead
        inner = self.levels[-1]
        while width < self.levels[-1]:
            inner = self.levels.pop()
            line.closes += 1
        if width == self.levels[-1]:
            return
        level = self.levels[-1]
        if inner > width:
            message = (
                "this line lies between two blocks: it is indented less than one and more than the other"
            )
            if inner - width < width - level:
                self.levels.append(inner)
                line.closes -= 1
        elif self.levels == [0]:
            message = "this line is indented, but no block is open"
        else:
            message = "this line is indented more than the line before it, which opens no block"
        self.wrong[width] = self.levels[-1]
        self._report_indentation(line, message, self.levels[-1])

    def _report_indentation(self, line: Line, message: str, level: int) -> None:
        line.misplaced = True
        if not self.mixed:
            first = self._span(line.tokens[0])
            unit = "tab" if "\t" in self.first_blank else "space"
            count = level // _TAB if unit == "tab" else level
            help = f"indent it with {count} {unit}{'s' * (count != 1)}" if count else "remove the indentation"
            self._report(Code.INDENTATION, message, first.start, first.end, help)

    def _fill_block(self, header: Line) -> int:
        """Report that the block of `header` is empty, and give it a line; the number of blocks to close."""
        last = self._span(header.tokens[-1])
        if not header.broken and not self.mixed:
            message = f"the block of '{header.tokens[0]}' is empty"
            help = "indent the lines of the block, or write 'pass'"
            self._report(Code.INDENTATION, message, last.start, last.end, help)
        body = Token("PASS", "pass", last.end, None, None, None, None, last.end)
        self.result.lines.append(Line([body], opens=True))
        return 1

    def _check_tabs(self) -> None:
        """A file indents with tabs or with spaces; say where it first does both."""
        first_line = 0
        for line in self.result.lines:
            if not line.blank:
                continue
            start = self._span(line.tokens[0]).start - len(line.blank)
            if not self.first_blank:
                self.first_blank, first_line = line.blank, self.source.position(start)[0]
            if "\t" in line.blank and line.blank.strip("\t"):
                message = "this line is indented with tabs and spaces"
            elif ("\t" in line.blank) != ("\t" in self.first_blank):
                used, other = ("tabs", "spaces") if "\t" in line.blank else ("spaces", "tabs")
                message = f"this line is indented with {used}, line {first_line} with {other}"
            else:
                continue
            self.mixed = True
            end = start + len(line.blank)
            self._report(Code.INDENTATION, message, start, end, "use spaces throughout")
            return


def _width(blank: str) -> int:
    """Columns of an indentation. Where tabs and spaces meet, which is reported, this is a guess."""
    return sum(_TAB if char == "\t" else 1 for char in blank)


def _may_open(line: Line) -> bool:
    """Whether a block may follow: on a line that ends with ':', or that should have or may have."""
    if line.tokens[-1].type == "COLON" or line.broken:
        return True
    if line.tokens[0].type not in _HEADERS:
        return False
    depth = 0
    for token in line.tokens:
        depth += (token.type in _OPENERS) - (token.type in _CLOSERS)
        # An output of a template has a ':' too.
        if token.type == "COLON" and depth == 0 and line.tokens[0].type != "TEMPLATE":
            return False
    return True


def _number_help(value: str) -> str | None:
    if value.isdigit():
        return "an integer does not start with 0"
    if value[:2] in ("0o", "0O"):
        return "write it as decimal, 0x... or 0b..."
    if value.endswith("_") or "__" in value:
        return "write single _ between digits"
    number = re.match(r"[0-9]+(\.[0-9]*)?", value)
    if number and value[number.end() :].isalpha():
        return f"a number has no suffix: write '{number[0]}'"
    if ".." in value:
        return foreign.SIGNS[".."]
    return None

"""Text to AST, or every mistake of syntax in it at once.

    template f(x: f32[N]) -> y: f32[N]:         File(templates=(Template(name=f, ...),))
        for n in grid(N by 64):          ->
            store y[n] = load x[n]

A line with a mistake is reported and left out, and reading goes on with the next. What names mean is left to the
checker.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from tdsl import ast
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.grammar.explanation import LineError, explain
from tdsl.grammar.reader import normalize
from tdsl.grammar.scanner import Line, Scan, Vocabulary, scan
from tdsl.grammar.tables import load
from tdsl.grammar.tree import build
from tdsl.source import Source, Span

MAX_MISTAKES = 100


@cache
def _grammar() -> tuple[Lark, Vocabulary]:
    lark = load()
    return lark, Vocabulary(lark.terminals)


def parse(source: Source) -> ast.File:
    """The file that `source` spells. Raises `TdslError` with all mistakes of syntax, in file order."""
    file, diagnostics = parse_partly(source)
    if diagnostics:
        raise TdslError(diagnostics)
    return file


def parse_partly(source: Source) -> tuple[ast.File, tuple[Diagnostic, ...]]:
    """The templates and helpers without a mistake of syntax, and all such mistakes, in file order.

    So that a caller can go on to check the rest of a file. Raises `TdslError` when the text is none.
    """
    source = normalize(source)
    lark, vocabulary = _grammar()
    scanned = scan(source, vocabulary)
    diagnostics = scanned.diagnostics
    if not scanned.complete or len(diagnostics) > MAX_MISTAKES:
        return _empty(source), _in_order(diagnostics)
    tree = None
    if not any(line.broken for line in scanned.lines):
        tree = _read(lark, scanned)
    if tree is None:
        diagnostics += _recover(lark, scanned, source)
        if not scanned.complete:
            return _empty(source), _in_order(diagnostics)
        tree = _read(lark, scanned)
        assert tree is not None, "a line that the grammar refuses was not found"
    file, more = build(tree, source)
    diagnostics += more
    if not diagnostics:
        return file, ()
    return _sound(file, diagnostics), _in_order(diagnostics)


def _read(lark: Lark, scanned: Scan) -> Tree[Token] | None:
    """None where the grammar refuses a line."""
    parser = lark.parse_interactive()
    try:
        for token in _tokens(scanned):
            parser.feed_token(token)
        tree = parser.feed_eof()  # type: ignore[no-untyped-call]
    except UnexpectedToken:
        return None
    assert isinstance(tree, Tree)
    return tree


def _tokens(scanned: Scan) -> Iterator[Token]:
    end: int | None = 0
    for line in scanned.lines:
        yield from _margin(line, end)
        start = line.tokens[0].start_pos
        end = line.tokens[-1].end_pos
        if line.broken:
            yield Token("_BROKEN", "", start, None, None, None, None, end)
        else:
            yield from line.tokens
        yield Token("_NEWLINE", "", end, None, None, None, None, end)
    for _ in range(scanned.closes):
        yield Token("_DEDENT", "", end, None, None, None, None, end)


def _margin(line: Line, end: int | None = None) -> Iterator[Token]:
    for _ in range(line.closes):
        yield Token("_DEDENT", "", end, None, None, None, None, end)
    if line.opens:
        yield Token("_INDENT", "", end, None, None, None, None, end)


def _recover(lark: Lark, scanned: Scan, source: Source) -> list[Diagnostic]:
    """Mark each line that the grammar refuses as broken, and say why."""
    diagnostics: list[Diagnostic] = []
    parser = lark.parse_interactive()
    broken_at = [False]  # for each open block: whether its last line is broken
    for number, line in enumerate(scanned.lines):
        opens = any(following.opens for following in scanned.lines[number + 1 : number + 2])
        for token in _margin(line):
            parser.feed_token(token)
        del broken_at[len(broken_at) - line.closes :]
        if line.opens:
            broken_at.append(False)
        if not line.broken:
            accepted = _fork(parser)
            at = _feed(accepted, line, opens)
            if at is None:
                parser = accepted
            else:
                line.broken = True
                # What belongs to a broken line is no mistake of its own.
                kinds = [token.type for token in line.tokens[:2]]
                is_rest = at == 0 and broken_at[-1] and kinds[0] in ("WHERE", "ELIF", "ELSE")
                is_rest = is_rest and kinds != ["ELSE", "IF"]
                is_rest = is_rest or (line.misplaced and at <= 1)
                if not is_rest:
                    expected = _expected(parser, line, at)
                    refusal = LineError(source=source, tokens=line.tokens, at=at, expected=expected)
                    diagnostics.append(explain(refusal))
                    if len(diagnostics) > MAX_MISTAKES:
                        scanned.complete = False
                        return diagnostics
        if line.broken:
            parser.feed_token(Token("_BROKEN", ""))
            parser.feed_token(Token("_NEWLINE", ""))
        broken_at[-1] = line.broken
    return diagnostics


def _feed(parser: InteractiveParser, line: Line, opens: bool) -> int | None:
    """Feed a line; the number of the token that is refused, if one is (the end of the line counts as one)."""
    for at, token in enumerate([*line.tokens, Token("_NEWLINE", "")]):
        try:
            parser.feed_token(token)
        except UnexpectedToken:
            return at
    if opens:
        try:
            _fork(parser).feed_token(Token("_INDENT", ""))
        except UnexpectedToken:
            return len(line.tokens)
    return None


def _fork(parser: InteractiveParser) -> InteractiveParser:
    return parser.copy(deepcopy_values=False)  # type: ignore[no-any-return, no-untyped-call]


def _expected(parser: InteractiveParser, line: Line, at: int) -> frozenset[str]:
    """What the grammar takes in the place of a line's token `at`."""
    before = _fork(parser)
    for token in line.tokens[:at]:
        before.feed_token(token)
    return frozenset(before.accepts())  # type: ignore[no-untyped-call]


def _empty(source: Source) -> ast.File:
    return ast.File(span=Span(source, 0, len(source.text)), templates=(), helpers=())


def _sound(file: ast.File, diagnostics: list[Diagnostic]) -> ast.File:
    starts = sorted(each.span.start for each in diagnostics)

    def is_sound(node: ast.Node) -> bool:
        return bisect_left(starts, node.span.start) == bisect_right(starts, node.span.end)

    return replace(
        file,
        templates=tuple(template for template in file.templates if is_sound(template)),
        helpers=tuple(helper for helper in file.helpers if is_sound(helper)),
    )


def _in_order(diagnostics: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    ordered = sorted(diagnostics, key=lambda each: each.span.start)
    if len(ordered) > MAX_MISTAKES:
        message = f"the file has more than {MAX_MISTAKES} mistakes; those from here on are not shown"
        rest = Diagnostic(code=Code.TOO_LARGE, message=message, span=ordered[MAX_MISTAKES].span)
        ordered[MAX_MISTAKES:] = [rest]
    return tuple(ordered)

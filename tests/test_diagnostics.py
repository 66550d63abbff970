"""How a mistake is shown."""

from __future__ import annotations

from tdsl.diagnostics import Code, Diagnostic, Label, render
from tdsl.source import Source, Span


def span(source: Source, text: str, nth: int = 0) -> Span:
    start = -1
    for _ in range(nth + 1):
        start = source.text.index(text, start + 1)
    return Span(source, start, start + len(text))


def shown(source: Source, place: str, *labels: tuple[str, str], help: str | None = None) -> list[str]:
    diagnostic = Diagnostic(
        code=Code.AXIS_MISMATCH,
        message="they do not fit",
        span=span(source, place),
        labels=tuple(Label(span=span(source, text), text=words) for text, words in labels),
        help=help,
    )
    return render(diagnostic).splitlines()


def test_labels_on_one_line() -> None:
    source = Source("matmul.tdsl", "\n" * 11 + "        acc += dot(load A[m, k], load B[j, n])\n")
    labels = [("load A[m, k]", "varies over m, k"), ("load B[j, n]", "varies over j, n")]
    assert shown(source, "dot", *labels, help="did you mean 'load B[k, n]'?") == [
        "error[axis-mismatch]: they do not fit",
        "  --> matmul.tdsl:12:16",
        "   |",
        "12 |         acc += dot(load A[m, k], load B[j, n])",
        "   |                ^^^ ------------  ------------ varies over j, n",
        "   |                    varies over m, k",
        "   = help: did you mean 'load B[k, n]'?",
    ]


def test_labels_on_several_lines() -> None:
    source = Source("f.tdsl", "one\ntwo\nthree\nfour five\nsix\n" + "\n" * 5 + "last\n")
    assert shown(source, "four", ("two", "here"), ("last", "and here"), ("three", "there")) == [
        "error[axis-mismatch]: they do not fit",
        "  --> f.tdsl:4:1",
        "   |",
        " 2 | two",
        "   | --- here",
        " 3 | three",
        "   | ----- there",
        " 4 | four five",
        "   | ^^^^",
        "...",
        "11 | last",
        "   | ---- and here",
    ]


def test_a_label_in_another_file() -> None:
    one, two = Source("one.tdsl", "alpha\n"), Source("two.tdsl", "\nbeta\n")
    diagnostic = Diagnostic(
        code=Code.DUPLICATE_NAME,
        message="twice",
        span=span(one, "alpha"),
        labels=(Label(span=span(two, "beta"), text="first here"),),
    )
    assert render(diagnostic).splitlines() == [
        "error[duplicate-name]: twice",
        " --> one.tdsl:1:1",
        "  |",
        "1 | alpha",
        "  | ^^^^^",
        " ::: two.tdsl:2:1",
        "  |",
        "2 | beta",
        "  | ---- first here",
    ]


def test_a_place_of_no_width_and_one_of_several_lines() -> None:
    source = Source("f.tdsl", "for k in K\n    pass")
    end = Diagnostic(code=Code.SYNTAX, message="no ':'", span=Span(source, 10, 10))
    assert render(end).splitlines()[-2:] == ["1 | for k in K", "  |           ^"]
    both = Diagnostic(code=Code.SYNTAX, message="all", span=Span(source, 4, 19))
    assert render(both).splitlines()[-1] == "  |     ^^^^^^"
    last = Diagnostic(code=Code.SYNTAX, message="end", span=Span(source, 19, 19))
    assert render(last).splitlines()[-2:] == ["2 |     pass", "  |         ^"]


def test_tabs_wide_and_unprintable_characters() -> None:
    source = Source("f.tdsl", "\ta\tb = 'é' \u540d\u524d \x1b\u200bhere")
    lines = shown(source, "here", ("b", "b"))
    assert lines[3:] == [
        "1 |     a   b = 'é' \u540d\u524d <U+001B><U+200B>here",
        "  |         -                            ^^^^",
        "  |         b",
    ]
    assert shown(source, "\x1b")[4] == "  |                      ^^^^^^^^"
    odd = Source("a\x1b\udc80.tdsl", "x")
    assert shown(odd, "x")[1] == " --> a<U+001B><U+DC80>.tdsl:1:1"
    "\n".join(shown(odd, "x")).encode()


def test_a_long_line_is_cut_around_each_place() -> None:
    source = Source("f.tdsl", "first " + "x" * 1_000_000 + " middle " + "y" * 500 + " last")
    lines = shown(source, "middle", ("first", "here"), ("last", "there"))
    assert max(map(len, lines)) < 130
    carets = [(lines[at - 1], line) for at, line in enumerate(lines) if "^" in line or "-- " in line[3:]]
    assert len(carets) == 3
    for above, below in carets:
        place = "middle" if "^" in below else "first" if "here" in below and "t" not in below else "last"
        at = above.index(place)
        assert below[at : at + len(place)] in ("^" * len(place), "-" * len(place))
    assert carets[0][0].startswith("1 | ...x") and carets[0][0].endswith("y...")


def test_an_empty_file_has_no_line_to_show() -> None:
    source = Source("missing.tdsl", "")
    diagnostic = Diagnostic(code=Code.ENCODING, message="no\ntext", span=Span(source, 0, 0), help="go")
    assert render(diagnostic).splitlines() == [
        "error[encoding]: no<U+000A>text",
        " --> missing.tdsl",
        "  = help: go",
    ]


def test_a_long_message_is_cut() -> None:
    source = Source("f.tdsl", "x")
    diagnostic = Diagnostic(
        code=Code.SYNTAX, message="a" * 100_000, span=Span(source, 0, 1), help="b" * 100_000
    )
    assert max(map(len, render(diagnostic).splitlines())) < 1100

"""A line that the grammar refuses, in the author's words.

    for k in K by B          ->   ':' is missing at the end of this line
    tempalte f(x: f32[N]):   ->   'tempalte' is not a statement; did you mean 'template'?

The grammar says at which token a line stops making sense, and what it would have taken there. The rules below are
tried in order; each knows one way in which that happens. The last says what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lark import Token

from tdsl import foreign
from tdsl.diagnostics import Code, Diagnostic, suggest
from tdsl.grammar.scanner import kinds
from tdsl.source import Source, Span

STATEMENTS = (
    *("template", "def", "let", "config", "tune", "for", "if", "elif", "else"),
    *("store", "accumulate", "return", "pass"),
)

_HEADERS = kinds("TEMPLATE DEF FOR IF ELIF ELSE")

# What the grammar's terminals are called; a word or sign that is spelled one way is called what it is.
_SPELLED = {
    **{"COLON": "':'", "LPAR": "'('", "RPAR": "')'", "LSQB": "'['", "RSQB": "']'", "COMMA": "','"},
    **{"EQUAL": "'='", "ARROW": "'->'", "DOT": "'.'", "ELLIPSIS": "'...'", "OPTIONAL": "'?'"},
    **{"AUGMENTED": "'+='", "_NEWLINE": "the end of the line"},
}
_KEYWORDS = kinds("IN GRID BY TO IF ELSE CONST INOUT UNCHECKED FUSE NOFUSE WHERE")
_PREFIXES = kinds("SIGN INVERT NOT")
_VALUES = kinds("NAME NUMBER STRING TRUE FALSE LOAD")
_IDLE = "a value that is not stored or named does nothing"
_JOINERS = kinds("IN AND OR NOT IF ELSE TO BY")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """`tokens[at]` is where a line stops making sense; `at == len(tokens)` is its end."""

    source: Source
    tokens: Sequence[Token]
    at: int
    expected: frozenset[str]

    @property
    def first(self) -> Token:
        return self.tokens[0]

    @property
    def before(self) -> Token | None:
        return self.tokens[self.at - 1] if self.at else None

    @property
    def bad(self) -> Token | None:
        """None at the end of the line."""
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    @property
    def after(self) -> Token | None:
        return self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else None

    @property
    def kind(self) -> str:
        return self.bad.type if self.bad is not None else "_NEWLINE"

    @property
    def takes_value(self) -> bool:
        return "NUMBER" in self.expected

    @property
    def takes_operator(self) -> bool:
        return "COMPARISON" in self.expected

    @property
    def in_brackets(self) -> bool:
        depth = 0
        for token in self.tokens[: self.at]:
            depth += (token.type in ("LPAR", "LSQB")) - (token.type in ("RPAR", "RSQB"))
        return depth > 0

    def span(self) -> Span:
        if self.bad is not None:
            return _span(self.source, self.bad)
        end = self.tokens[-1].end_pos
        assert end is not None
        return Span(self.source, end, end)


@dataclass(frozen=True, kw_only=True)
class Reason:
    message: str
    help: str | None = None
    code: Code = Code.SYNTAX
    token: Token | None = None  # where it is; None: at the refused token


def explain(refusal: Refusal) -> Diagnostic:
    """What is wrong with a line, and where."""
    reason = next(reason for rule in _RULES if (reason := rule(refusal)) is not None)
    span = refusal.span() if reason.token is None else _span(refusal.source, reason.token)
    return Diagnostic(code=reason.code, message=reason.message, span=span, help=reason.help)


def _span(source: Source, token: Token) -> Span:
    assert token.start_pos is not None and token.end_pos is not None
    return Span(source, token.start_pos, token.end_pos)


def _unknown_statement(refusal: Refusal) -> Reason | None:
    """`tempalte f(...)`, `Store C[m] = x`: a first word that is nearly a statement's."""
    first = refusal.first
    if first.type != "NAME" or refusal.at != 1 or refusal.kind in ("EQUAL", "AUGMENTED", "DOT"):
        return None
    if first in foreign.LINES and (refusal.kind in _VALUES or refusal.kind == "LPAR"):
        message = f"'{first}' is not a statement"
        return Reason(message=message, help=foreign.LINES[first], token=first)
    near = suggest(first.lower(), STATEMENTS)
    if near is not None and refusal.kind not in ("LPAR", "LSQB", "COMMA"):
        message = f"'{first}' is not a statement; did you mean '{near}'?"
        return Reason(message=message, help=f"write '{near}'", token=first)
    if refusal.kind in _VALUES:
        message = f"'{first}' is not a statement"
        return Reason(
            message=message,
            help=f"a line starts with {_listed(STATEMENTS)}, or is 'NAME = VALUE'",
            token=first,
        )
    return None


def _no_such_line(refusal: Refusal) -> Reason | None:
    """`while x:`, `else:` after no `if`, `load A[m]` alone: a first word that starts no line."""
    if refusal.at != 0 or refusal.bad is None:
        return None
    bad = refusal.bad
    if bad.isalpha() and refusal.after is not None and refusal.after.type in ("EQUAL", "AUGMENTED"):
        return _keyword_as_name(bad)
    match refusal.kind:
        case "PYTHON_WORD" if bad in foreign.LINES:
            return Reason(message=f"there is no '{bad}' in tdsl", help=foreign.LINES[bad])
        case "ELIF" | "ELSE":
            return Reason(message=f"this '{bad}' follows no 'if'", help="align it with its 'if'")
        case "WHERE":
            help = "guards follow the outputs: 'template f(...) -> y: T[N] where CONDITION:'"
            return Reason(message="this 'where' follows no template header", help=help)
        case "SIGN" if refusal.after == bad and f"{bad}{bad}" in foreign.LINES:
            return Reason(message=f"a line cannot start with '{bad}{bad}'", help=foreign.LINES[f"{bad}{bad}"])
        case "LOAD" | "INVERT" | "SIGN" | "NOT" | "NUMBER" | "LPAR" | "TRUE" | "FALSE":
            return Reason(message=_IDLE, help="write 'NAME = VALUE'")
    return Reason(
        message=f"a line cannot start with '{bad}'",
        help=foreign.LINES.get(bad) or f"a line starts with {_listed(STATEMENTS)}, or is 'NAME = VALUE'",
    )


def _bare_name(refusal: Refusal) -> Reason | None:
    """`C[m, n] = x`, `f(x)`, `a, b = x`, `x == 1`: a line that starts with a name and is no assignment."""
    first, bad = refusal.first, refusal.bad
    if first.type != "NAME" or refusal.at != 1:
        return None
    if first == "tl" and refusal.kind == "DOT" and (help := foreign.STATEMENTS.get(str(refusal.after))):
        return Reason(message=f"'tl.{refusal.after}' touches memory behind the compiler's back", help=help)
    types = [token.type for token in refusal.tokens]
    match refusal.kind:
        case "LSQB" if "AUGMENTED" in types:
            return Reason(
                message="a tensor is added to with 'accumulate'",
                help=f"write 'accumulate {first}[...] += ...'",
            )
        case "LSQB" if "EQUAL" in types:
            return Reason(
                message="a tensor is written with 'store'", help=f"write 'store {first}[...] = ...'"
            )
        case "LPAR" if (near := suggest(first.lower(), STATEMENTS[:2])) is not None:
            message = f"'{first}' is not a statement; did you mean '{near}'?"
            return Reason(message=message, help=f"write '{near}'", token=first)
        case "COMMA" if "EQUAL" in types:
            return Reason(message="a line assigns to one name", help="write one line for each name")
        case "COMPARISON" if bad == "==":
            return Reason(message="'==' compares; it does not assign", help="write '='")
        case "SIGN" if refusal.after is not None and refusal.after == bad:
            return Reason(message=f"there is no '{bad}{bad}'", help=f"write '{first} {bad}= 1'")
        case "EQUAL" | "AUGMENTED" | "COLON":
            return None
        case "DOT" if "EQUAL" in types:
            return Reason(message="only a name can be assigned to", token=first)
    return Reason(message=_IDLE, help="write 'NAME = VALUE'", token=first)


def _else_if(refusal: Refusal) -> Reason | None:
    first = refusal.first
    if (
        first.type != "ELSE"
        or refusal.at > 1
        or len(refusal.tokens) < 2
        or refusal.tokens[1].type in ("COLON", "EQUAL")
    ):
        return None
    if refusal.tokens[1].type == "IF":
        return Reason(message="'else if' is spelled 'elif'", help="write 'elif CONDITION:'", token=first)
    return Reason(
        message="'else' takes no condition", help="write 'else:', or 'elif CONDITION:'", token=first
    )


def _near_keyword(refusal: Refusal) -> Reason | None:
    """`for n in 0 ot N`: a name where a keyword nearly spelled like it could stand."""
    if refusal.kind != "NAME" or "NAME" in refusal.expected:
        return None
    words = sorted(kind.lower() for kind in refusal.expected & (_KEYWORDS | {"AND", "OR"}))
    bad = str(refusal.bad)
    near = next((word for word in words if sorted(word) == sorted(bad)), None)
    if near is None and len(bad) > 1:
        near = suggest(bad, words)
    if near is None:
        return None
    return Reason(
        message=f"'{refusal.bad}' cannot stand here; did you mean '{near}'?", help=f"write '{near}'"
    )


def _foreign(refusal: Refusal) -> Reason | None:
    """What is spelled as another language has it: `torch.float16[N]`, `load(A[m])`, `x[m].sum()`, `// text`."""
    bad, before, after = refusal.bad, refusal.before, refusal.after
    if bad is None or before is None:
        return None
    if refusal.kind == "DOT" and before in foreign.MODULES and after is not None:
        help = foreign.PARAMETERS.get(after) or foreign.dtype(after)
        if help is not None:
            return Reason(message=f"there is no '{before}.{after}'", help=help, token=before)
    if refusal.kind == "DOT" and before.type in ("RPAR", "RSQB") and after is not None:
        help = foreign.dotted(["x", after], called=True)
        return Reason(message=f"a value has no '.{after}'", help=help)
    if refusal.kind == "LPAR" and before in foreign.STATEMENTS:
        return Reason(message=f"'{before}' is no function", help=foreign.STATEMENTS[before], token=before)
    if refusal.kind == "NAME" and before in foreign.PARAMETERS and "COLON" in refusal.expected:
        return Reason(
            message=f"there is no '{before}' in tdsl", help=foreign.PARAMETERS[before], token=before
        )
    if before == "<" and bad == ">":
        return Reason(message="there is no '<>'", help=foreign.SIGNS["<>"], token=before)
    if refusal.kind in ("COLON", "ELLIPSIS") and refusal.in_brackets and (before in ("[", ",", ":")):
        return Reason(message=f"'{bad}' is no value", help=foreign.SIGNS[bad])
    if refusal.kind in ("NAME", "PYTHON_WORD", "IN", "TO", "BY") and "//" in refusal.tokens[: refusal.at]:
        return Reason(message=f"an operator is missing before '{bad}'", help=foreign.SIGNS["//"])
    return None


def _keyword_as_name(bad: Token) -> Reason:
    whose = "Python" if bad.type == "PYTHON_WORD" else "the language"
    message = f"'{bad}' is a keyword of {whose} and cannot be a name"
    help = f"choose another name, such as '{bad}_'"
    return Reason(code=Code.RESERVED_NAME, message=message, help=help, token=bad)


def _reserved(refusal: Refusal) -> Reason | None:
    """A keyword where a name is called for, or where a value is."""
    bad, first = refusal.bad, refusal.first
    if (
        refusal.at == 1
        and refusal.kind in ("EQUAL", "AUGMENTED")
        and first.isalpha()
        and first.type != "NAME"
    ):
        return _keyword_as_name(first)
    before = refusal.before
    # 'load' and the function 'where' start a value, so that it is what follows that is refused.
    starts_value = before is not None and before.type in ("LOAD", "WHERE") and not refusal.takes_value
    if before is not None and before.type == "INOUT" and refusal.kind == "COLON":
        return _keyword_as_name(before)
    if before is not None and starts_value and refusal.kind in ("RPAR", "RSQB", "COMMA", "EQUAL"):
        return _keyword_as_name(before)
    if bad is None or not bad.isalpha() or refusal.kind == "NAME" or refusal.at == 0:
        return None
    if refusal.takes_value and refusal.kind in _VALUES:
        return None
    if (
        refusal.kind == "PYTHON_WORD"
        and bad in foreign.VALUES
        and (refusal.takes_value or refusal.takes_operator)
    ):
        return Reason(message=f"there is no '{bad}' in tdsl", help=foreign.VALUES[bad])
    if "NAME" not in refusal.expected:
        return None
    if refusal.kind in _JOINERS and (refusal.after is None or refusal.after.type in _VALUES):
        return None
    return _keyword_as_name(bad)


def _equals(refusal: Refusal) -> Reason | None:
    """`=` for `==` and the other way round, `=` for `+=`, a default where there is none."""
    bad, first, expected = refusal.bad, refusal.first, refusal.expected
    if refusal.kind == "COMPARISON" and bad == "==" and "EQUAL" in expected:
        return Reason(message="'==' compares; it does not assign", help="write '='")
    if refusal.kind == "EQUAL" and "AUGMENTED" in expected and first.type == "ACCUMULATE":
        return Reason(message="'accumulate' adds to what is there", help="write '+='")
    if refusal.kind == "AUGMENTED" and first.type == "STORE" and "EQUAL" in expected:
        return Reason(
            message=f"'store' writes, it has no '{bad}'",
            help="write 'store NAME[...] = ...', or 'accumulate NAME[...] += ...'",
        )
    if refusal.kind == "AUGMENTED" and "EQUAL" in expected:
        return Reason(message=f"'{bad}' changes a value that is there already", help="write '='")
    if refusal.at == 2 and first.type == "NAME" and refusal.before == ":" and refusal.kind != "EQUAL":
        return Reason(
            message="':' is followed by a type; it does not assign",
            help=f"write '{first} = ...'",
            token=refusal.before,
        )
    if refusal.kind != "EQUAL":
        return None
    if refusal.before is not None and refusal.before.type == "COLON" and first.type == "NAME":
        return Reason(message="there is no ':='", help="write '='")
    if first.type == "TEMPLATE" and expected & {"RPAR", "LSQB"} and not refusal.takes_operator:
        return Reason(
            message="only a 'const' parameter has a default", help="write 'NAME: const TYPE = VALUE'"
        )
    if (
        refusal.takes_operator
        and not refusal.in_brackets
        and first.type in ("NAME", "LET", "STORE", "ACCUMULATE")
    ):
        return Reason(message="a line has one '='", help="to compare, write '=='")
    if refusal.takes_operator:
        return Reason(message="'=' assigns; it does not compare", help="write '=='")
    return None


def _header(refusal: Refusal) -> Reason | None:
    """What goes wrong in headers: ':', '->', parentheses, dimensions."""
    first, expected, before = refusal.first, refusal.expected, refusal.before
    if first.type == "TEMPLATE":
        if "ARROW" in expected and refusal.kind in ("NAME", "LPAR", "SIGN", "COMPARISON", "EQUAL"):
            return Reason(
                message="'->' is missing before the outputs", help="write 'template NAME(...) -> OUTPUT:'"
            )
        if refusal.kind == "WHERE" and before is not None and before.type == "COLON":
            return Reason(
                message="the ':' of a template comes after its guards", help="remove it here", token=before
            )
        before_name = refusal.after is not None and refusal.after.type == "NAME"
        if refusal.kind == "CONST" and "NAME" in expected and before_name:
            return Reason(message="'const' stands before the type", help="write 'NAME: const TYPE'")
        is_input = all(token.type != "ARROW" for token in refusal.tokens[: refusal.at])
        if refusal.kind in ("COMMA", "RPAR") and "LSQB" in expected and is_input:
            return Reason(
                message="an 'inout' parameter is a tensor",
                help="write 'inout NAME: DTYPE[M, N]'",
                token=before,
            )
        if refusal.kind in ("COLON", "_NEWLINE", "WHERE", "COMMA", "RPAR") and "LSQB" in expected:
            return Reason(message="an output needs its dimensions", help="write 'NAME: DTYPE[M, N]'")
        if refusal.kind in ("COMMA", "RPAR") and "COLON" in expected and before is not None:
            help = f"write '{before}: DTYPE[M, N]', '{before}: float' or '{before}: const int'"
            return Reason(message=f"the parameter '{before}' has no type", help=help, token=before)
    if first.type == "DEF":
        if refusal.kind == "ARROW":
            return Reason(message="a helper does not declare its result", help="write 'def NAME(x):'")
        if refusal.kind == "COLON" and refusal.in_brackets:
            return Reason(message="a helper's parameters have no types", help="write 'def NAME(x):'")
        if refusal.kind == "EQUAL" and refusal.in_brackets:
            return Reason(message="a helper's parameters have no defaults", help="write 'def NAME(x):'")
    if first.type in ("TEMPLATE", "DEF") and refusal.at == 2 and "LPAR" in expected:
        return Reason(
            message=f"'{first}' needs parameters in parentheses", help=f"write '{first} {before}(...):'"
        )
    if first.type in _HEADERS and "COLON" in expected and refusal.bad is None:
        return Reason(message="':' is missing at the end of this line", help="add ':'")
    return None


def _subscript(refusal: Refusal) -> Reason | None:
    """`x[m]` in a value: a tensor that is not loaded."""
    if refusal.kind != "LSQB" or not refusal.takes_operator or refusal.before is None:
        return None
    if refusal.before.type == "NAME":
        help = f"to read a tensor, write 'load {refusal.before}[...]'"
        return Reason(message="a value has no subscripts", help=help, token=refusal.before)
    return Reason(message="a value has no subscripts", help="a tensor is read with 'load NAME[...]'")


def _doubled(refusal: Refusal) -> Reason | None:
    """`&&` and `||`."""
    bad, before = refusal.bad, refusal.before
    if bad is None or before is None or bad != before or bad.start_pos != before.end_pos:
        return None
    if bad in ("&", "|"):
        return Reason(message=f"there is no '{bad}{bad}'", help=foreign.SIGNS[f"{bad}{bad}"], token=before)
    return None


def _no_value(refusal: Refusal) -> Reason | None:
    """A value is called for and something else, or nothing, is there."""
    if not refusal.takes_value or refusal.before is None:
        return None
    if refusal.bad is None:
        return Reason(message=f"a value is missing after '{refusal.before}'")
    if refusal.kind == "LSQB":
        return Reason(message="there are no lists", help="a tensor is read with 'load NAME[...]'")
    if refusal.kind not in _VALUES:
        return Reason(message=f"a value is missing between '{refusal.before}' and '{refusal.bad}'")
    return None


def _no_joint(refusal: Refusal) -> Reason | None:
    """Two values side by side."""
    if refusal.bad is None or not refusal.takes_operator:
        return None
    if refusal.kind in _VALUES | _PREFIXES or refusal.kind == "LPAR":
        what = "',' or an operator" if "COMMA" in refusal.expected else "an operator"
        return Reason(message=f"{what} is missing before '{refusal.bad}'")
    return None


def _question(refusal: Refusal) -> Reason | None:
    """`a ? b : c`."""
    if refusal.kind == "OPTIONAL" and refusal.takes_operator:
        return Reason(message="'?' is not an operator", help=foreign.SIGNS["?"])
    return None


def _colon_early(refusal: Refusal) -> Reason | None:
    """A ':' that ends no header."""
    if refusal.kind == "COLON" and refusal.first.type not in _HEADERS:
        return Reason(
            message="':' cannot stand here",
            help="only the lines of 'template', 'def', 'for' and 'if' end with ':'",
        )
    return None


def _unexpected(refusal: Refusal) -> Reason:
    expected = refusal.expected
    if refusal.takes_operator:  # after a value these could always follow; what could end it says more
        expected -= {"IF", "IN", "LPAR", "DOT"}
    names = []
    if "NUMBER" in expected:
        names.append("a value")
    elif "NAME" in expected:
        names.append("a name")
    if "STRING" in expected and "NUMBER" not in expected:
        names.append("a string")
    names += [f"'{kind.lower()}'" for kind in sorted(expected & _KEYWORDS)]
    names += [_SPELLED[kind] for kind in _SPELLED if kind in expected]
    found = "the line ends" if refusal.bad is None else f"'{refusal.bad}' stands"
    if names and len(names) <= 4:
        return Reason(message=f"{_listed(names, quote=False)} is expected where {found}")
    if refusal.bad is None:
        return Reason(message="the line ends too early")
    return Reason(message=f"'{refusal.bad}' cannot stand here")


def _listed(words: Sequence[str], quote: bool = True) -> str:
    spelled = [f"'{word}'" if quote else word for word in words]
    return spelled[0] if len(spelled) == 1 else f"{', '.join(spelled[:-1])} or {spelled[-1]}"


_RULES: tuple[Callable[[Refusal], Reason | None], ...] = (
    _else_if,
    _no_such_line,
    _unknown_statement,
    _bare_name,
    _foreign,
    _near_keyword,
    _header,
    _equals,
    _reserved,
    _subscript,
    _doubled,
    _question,
    _colon_early,
    _no_value,
    _no_joint,
    _unexpected,
)

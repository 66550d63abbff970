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
class LineError:
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
class Explanation:
    message: str
    help: str | None = None
    code: Code = Code.SYNTAX
    token: Token | None = None  # where it is; None: at the refused token


def explain(error: LineError) -> Diagnostic:
    """What is wrong with a line, and where."""
    reason = next(reason for rule in _RULES if (reason := rule(error)) is not None)
    span = error.span() if reason.token is None else _span(error.source, reason.token)
    return Diagnostic(code=reason.code, message=reason.message, span=span, help=reason.help)


def _span(source: Source, token: Token) -> Span:
    assert token.start_pos is not None and token.end_pos is not None
    return Span(source, token.start_pos, token.end_pos)


def _unknown_statement(error: LineError) -> Explanation | None:
    """`tempalte f(...)`, `Store C[m] = x`: a first word that is nearly a statement's."""
    first = error.first
    if first.type != "NAME" or error.at != 1 or error.kind in ("EQUAL", "AUGMENTED", "DOT"):
        return None
    if first in foreign.LINES and (error.kind in _VALUES or error.kind == "LPAR"):
        message = f"'{first}' is not a statement"
        return Explanation(message=message, help=foreign.LINES[first], token=first)
    near = suggest(first.lower(), STATEMENTS)
    if near is not None and error.kind not in ("LPAR", "LSQB", "COMMA"):
        message = f"'{first}' is not a statement; did you mean '{near}'?"
        return Explanation(message=message, help=f"write '{near}'", token=first)
    if error.kind in _VALUES:
        message = f"'{first}' is not a statement"
        return Explanation(
            message=message,
            help=f"a line starts with {_listed(STATEMENTS)}, or is 'NAME = VALUE'",
            token=first,
        )
    return None


def _no_such_line(error: LineError) -> Explanation | None:
    """`while x:`, `else:` after no `if`, `load A[m]` alone: a first word that starts no line."""
    if error.at != 0 or error.bad is None:
        return None
    bad = error.bad
    if bad.isalpha() and error.after is not None and error.after.type in ("EQUAL", "AUGMENTED"):
        return _keyword_as_name(bad)
    match error.kind:
        case "PYTHON_WORD" if bad in foreign.LINES:
            return Explanation(message=f"there is no '{bad}' in tdsl", help=foreign.LINES[bad])
        case "ELIF" | "ELSE":
            return Explanation(message=f"this '{bad}' follows no 'if'", help="align it with its 'if'")
        case "WHERE":
            help = "guards follow the outputs: 'template f(...) -> y: T[N] where CONDITION:'"
            return Explanation(message="this 'where' follows no template header", help=help)
        case "SIGN" if error.after == bad and f"{bad}{bad}" in foreign.LINES:
            return Explanation(
                message=f"a line cannot start with '{bad}{bad}'", help=foreign.LINES[f"{bad}{bad}"]
            )
        case "LOAD" | "INVERT" | "SIGN" | "NOT" | "NUMBER" | "LPAR" | "TRUE" | "FALSE":
            return Explanation(message=_IDLE, help="write 'NAME = VALUE'")
    return Explanation(
        message=f"a line cannot start with '{bad}'",
        help=foreign.LINES.get(bad) or f"a line starts with {_listed(STATEMENTS)}, or is 'NAME = VALUE'",
    )


def _bare_name(error: LineError) -> Explanation | None:
    """`C[m, n] = x`, `f(x)`, `a, b = x`, `x == 1`: a line that starts with a name and is no assignment."""
    first, bad = error.first, error.bad
    if first.type != "NAME" or error.at != 1:
        return None
    if first == "tl" and error.kind == "DOT" and (help := foreign.STATEMENTS.get(str(error.after))):
        return Explanation(message=f"'tl.{error.after}' touches memory behind the compiler's back", help=help)
    types = [token.type for token in error.tokens]
    match error.kind:
        case "LSQB" if "AUGMENTED" in types:
            return Explanation(
                message="a tensor is added to with 'accumulate'",
                help=f"write 'accumulate {first}[...] += ...', or of an 'inout' "
                f"'store {first}[...] = load {first}[...] + ...'",
            )
        case "LSQB" if "EQUAL" in types:
            return Explanation(
                message="a tensor is written with 'store'", help=f"write 'store {first}[...] = ...'"
            )
        case "LPAR" if (near := suggest(first.lower(), STATEMENTS[:2])) is not None:
            message = f"'{first}' is not a statement; did you mean '{near}'?"
            return Explanation(message=message, help=f"write '{near}'", token=first)
        case "COMMA" if "EQUAL" in types:
            return Explanation(message="a line assigns to one name", help="write one line for each name")
        case "COMPARISON" if bad == "==":
            return Explanation(message="'==' compares; it does not assign", help="write '='")
        case "SIGN" if error.after is not None and error.after == bad:
            return Explanation(message=f"there is no '{bad}{bad}'", help=f"write '{first} {bad}= 1'")
        case "EQUAL" | "AUGMENTED" | "COLON":
            return None
        case "DOT" if "EQUAL" in types:
            return Explanation(message="only a name can be assigned to", token=first)
    return Explanation(message=_IDLE, help="write 'NAME = VALUE'", token=first)


def _else_if(error: LineError) -> Explanation | None:
    first = error.first
    if (
        first.type != "ELSE"
        or error.at > 1
        or len(error.tokens) < 2
        or error.tokens[1].type in ("COLON", "EQUAL")
    ):
        return None
    if error.tokens[1].type == "IF":
        return Explanation(message="'else if' is spelled 'elif'", help="write 'elif CONDITION:'", token=first)
    return Explanation(
        message="'else' takes no condition", help="write 'else:', or 'elif CONDITION:'", token=first
    )


def _near_keyword(error: LineError) -> Explanation | None:
    """`for n in 0 ot N`: a name where a keyword nearly spelled like it could stand."""
    if error.kind != "NAME" or "NAME" in error.expected:
        return None
    words = sorted(kind.lower() for kind in error.expected & (_KEYWORDS | {"AND", "OR"}))
    bad = str(error.bad)
    near = next((word for word in words if sorted(word) == sorted(bad)), None)
    if near is None and len(bad) > 1:
        near = suggest(bad, words)
    if near is None:
        return None
    return Explanation(
        message=f"'{error.bad}' cannot stand here; did you mean '{near}'?", help=f"write '{near}'"
    )


def _foreign(error: LineError) -> Explanation | None:
    """What is spelled as another language has it: `torch.float16[N]`, `load(A[m])`, `x[m].sum()`, `// text`."""
    bad, before, after = error.bad, error.before, error.after
    if bad is None or before is None:
        return None
    if error.kind == "DOT" and before in foreign.MODULES and after is not None:
        help = foreign.PARAMETERS.get(after) or foreign.dtype(after)
        if help is not None:
            return Explanation(message=f"there is no '{before}.{after}'", help=help, token=before)
    if error.kind == "DOT" and before.type in ("RPAR", "RSQB") and after is not None:
        help = foreign.dotted(["x", after], called=True)
        return Explanation(message=f"a value has no '.{after}'", help=help)
    if error.kind == "LPAR" and before in foreign.STATEMENTS:
        return Explanation(
            message=f"'{before}' is no function", help=foreign.STATEMENTS[before], token=before
        )
    if error.kind == "NAME" and before in foreign.PARAMETERS and "COLON" in error.expected:
        return Explanation(
            message=f"there is no '{before}' in tdsl", help=foreign.PARAMETERS[before], token=before
        )
    if before == "<" and bad == ">":
        return Explanation(message="there is no '<>'", help=foreign.SIGNS["<>"], token=before)
    if error.kind in ("COLON", "ELLIPSIS") and error.in_brackets and (before in ("[", ",", ":")):
        return Explanation(message=f"'{bad}' is no value", help=foreign.SIGNS[bad])
    if error.kind in ("NAME", "PYTHON_WORD", "IN", "TO", "BY") and "//" in error.tokens[: error.at]:
        return Explanation(message=f"an operator is missing before '{bad}'", help=foreign.SIGNS["//"])
    return None


def _keyword_as_name(bad: Token) -> Explanation:
    whose = "Python" if bad.type == "PYTHON_WORD" else "the language"
    message = f"'{bad}' is a keyword of {whose} and cannot be a name"
    help = f"choose another name, such as '{bad}_'"
    return Explanation(code=Code.RESERVED_NAME, message=message, help=help, token=bad)


def _reserved(error: LineError) -> Explanation | None:
    """A keyword where a name is called for, or where a value is."""
    bad, first = error.bad, error.first
    if error.at == 1 and error.kind in ("EQUAL", "AUGMENTED") and first.isalpha() and first.type != "NAME":
        return _keyword_as_name(first)
    before = error.before
    # 'load' and the function 'where' start a value, so that it is what follows that is refused.
    starts_value = before is not None and before.type in ("LOAD", "WHERE") and not error.takes_value
    if before is not None and before.type == "INOUT" and error.kind == "COLON":
        return _keyword_as_name(before)
    if before is not None and starts_value and error.kind in ("RPAR", "RSQB", "COMMA", "EQUAL"):
        return _keyword_as_name(before)
    if bad is None or not bad.isalpha() or error.kind == "NAME" or error.at == 0:
        return None
    if error.takes_value and error.kind in _VALUES:
        return None
    if error.kind == "PYTHON_WORD" and bad in foreign.VALUES and (error.takes_value or error.takes_operator):
        return Explanation(message=f"there is no '{bad}' in tdsl", help=foreign.VALUES[bad])
    if "NAME" not in error.expected:
        return None
    if error.kind in _JOINERS and (error.after is None or error.after.type in _VALUES):
        return None
    return _keyword_as_name(bad)


def _equals(error: LineError) -> Explanation | None:
    """`=` for `==` and the other way round, `=` for `+=`, a default where there is none."""
    bad, first, expected = error.bad, error.first, error.expected
    if error.kind == "COMPARISON" and bad == "==" and "EQUAL" in expected:
        return Explanation(message="'==' compares; it does not assign", help="write '='")
    if error.kind == "EQUAL" and "AUGMENTED" in expected and first.type == "ACCUMULATE":
        return Explanation(message="'accumulate' adds to what is there", help="write '+='")
    if error.kind == "AUGMENTED" and first.type == "STORE" and "EQUAL" in expected:
        return Explanation(
            message=f"'store' writes, it has no '{bad}'",
            help="write 'store NAME[...] = ...', of an 'inout' 'store NAME[...] = load NAME[...] + ...', "
            "or 'accumulate NAME[...] += ...'",
        )
    if error.kind == "AUGMENTED" and "EQUAL" in expected:
        return Explanation(message=f"'{bad}' changes a value that is there already", help="write '='")
    if error.at == 2 and first.type == "NAME" and error.before == ":" and error.kind != "EQUAL":
        return Explanation(
            message="':' is followed by a type; it does not assign",
            help=f"write '{first} = ...'",
            token=error.before,
        )
    if error.kind != "EQUAL":
        return None
    if error.before is not None and error.before.type == "COLON" and first.type == "NAME":
        return Explanation(message="there is no ':='", help="write '='")
    if first.type == "TEMPLATE" and expected & {"RPAR", "LSQB"} and not error.takes_operator:
        return Explanation(
            message="only a 'const' parameter has a default", help="write 'NAME: const TYPE = VALUE'"
        )
    if (
        error.takes_operator
        and not error.in_brackets
        and first.type in ("NAME", "LET", "STORE", "ACCUMULATE")
    ):
        return Explanation(message="a line has one '='", help="to compare, write '=='")
    if error.takes_operator:
        return Explanation(message="'=' assigns; it does not compare", help="write '=='")
    return None


def _header(error: LineError) -> Explanation | None:
    """What goes wrong in headers: ':', '->', parentheses, dimensions."""
    first, expected, before = error.first, error.expected, error.before
    if first.type == "TEMPLATE":
        if "ARROW" in expected and error.kind in ("NAME", "LPAR", "SIGN", "COMPARISON", "EQUAL"):
            return Explanation(
                message="'->' is missing before the outputs", help="write 'template NAME(...) -> OUTPUT:'"
            )
        if error.kind == "WHERE" and before is not None and before.type == "COLON":
            return Explanation(
                message="the ':' of a template comes after its guards", help="remove it here", token=before
            )
        before_name = error.after is not None and error.after.type == "NAME"
        if error.kind == "CONST" and "NAME" in expected and before_name:
            return Explanation(message="'const' stands before the type", help="write 'NAME: const TYPE'")
        is_input = all(token.type != "ARROW" for token in error.tokens[: error.at])
        if error.kind in ("COMMA", "RPAR") and "LSQB" in expected and is_input:
            return Explanation(
                message="an 'inout' parameter is a tensor",
                help="write 'inout NAME: DTYPE[M, N]'",
                token=before,
            )
        if error.kind in ("COLON", "_NEWLINE", "WHERE", "COMMA", "RPAR") and "LSQB" in expected:
            return Explanation(message="an output needs its dimensions", help="write 'NAME: DTYPE[M, N]'")
        if error.kind in ("COMMA", "RPAR") and "COLON" in expected and before is not None:
            help = f"write '{before}: DTYPE[M, N]', '{before}: float' or '{before}: const int'"
            return Explanation(message=f"the parameter '{before}' has no type", help=help, token=before)
    if first.type == "DEF":
        if error.kind == "ARROW":
            return Explanation(message="a helper does not declare its result", help="write 'def NAME(x):'")
        if error.kind == "COLON" and error.in_brackets:
            return Explanation(message="a helper's parameters have no types", help="write 'def NAME(x):'")
        if error.kind == "EQUAL" and error.in_brackets:
            return Explanation(message="a helper's parameters have no defaults", help="write 'def NAME(x):'")
    if first.type in ("TEMPLATE", "DEF") and error.at == 2 and "LPAR" in expected:
        return Explanation(
            message=f"'{first}' needs parameters in parentheses", help=f"write '{first} {before}(...):'"
        )
    if first.type in _HEADERS and "COLON" in expected and error.bad is None:
        return Explanation(message="':' is missing at the end of this line", help="add ':'")
    return None


def _subscript(error: LineError) -> Explanation | None:
    """`x[m]` in a value: a tensor that is not loaded."""
    if error.kind != "LSQB" or not error.takes_operator or error.before is None:
        return None
    if error.before.type == "NAME":
        help = f"to read a tensor, write 'load {error.before}[...]'"
        return Explanation(message="a value has no subscripts", help=help, token=error.before)
    return Explanation(message="a value has no subscripts", help="a tensor is read with 'load NAME[...]'")


def _doubled(error: LineError) -> Explanation | None:
    """`&&` and `||`."""
    bad, before = error.bad, error.before
    if bad is None or before is None or bad != before or bad.start_pos != before.end_pos:
        return None
    if bad in ("&", "|"):
        return Explanation(
            message=f"there is no '{bad}{bad}'", help=foreign.SIGNS[f"{bad}{bad}"], token=before
        )
    return None


def _no_value(error: LineError) -> Explanation | None:
    """A value is called for and something else, or nothing, is there."""
    if not error.takes_value or error.before is None:
        return None
    if error.bad is None:
        return Explanation(message=f"a value is missing after '{error.before}'")
    if error.kind == "LSQB":
        return Explanation(message="there are no lists", help="a tensor is read with 'load NAME[...]'")
    if error.kind not in _VALUES:
        return Explanation(message=f"a value is missing between '{error.before}' and '{error.bad}'")
    return None


def _no_joint(error: LineError) -> Explanation | None:
    """Two values side by side."""
    if error.bad is None or not error.takes_operator:
        return None
    if error.kind in _VALUES | _PREFIXES or error.kind == "LPAR":
        what = "',' or an operator" if "COMMA" in error.expected else "an operator"
        return Explanation(message=f"{what} is missing before '{error.bad}'")
    return None


def _question(error: LineError) -> Explanation | None:
    """`a ? b : c`."""
    if error.kind == "OPTIONAL" and error.takes_operator:
        return Explanation(message="'?' is not an operator", help=foreign.SIGNS["?"])
    return None


def _colon_early(error: LineError) -> Explanation | None:
    """A ':' that ends no header."""
    if error.kind == "COLON" and error.first.type not in _HEADERS:
        return Explanation(
            message="':' cannot stand here",
            help="only the lines of 'template', 'def', 'for' and 'if' end with ':'",
        )
    return None


def _unexpected(error: LineError) -> Explanation:
    expected = error.expected
    if error.takes_operator:  # after a value these could always follow; what could end it says more
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
    found = "the line ends" if error.bad is None else f"'{error.bad}' stands"
    if names and len(names) <= 4:
        return Explanation(message=f"{_listed(names, quote=False)} is expected where {found}")
    if error.bad is None:
        return Explanation(message="the line ends too early")
    return Explanation(message=f"'{error.bad}' cannot stand here")


def _listed(words: Sequence[str], quote: bool = True) -> str:
    spelled = [f"'{word}'" if quote else word for word in words]
    return spelled[0] if len(spelled) == 1 else f"{', '.join(spelled[:-1])} or {spelled[-1]}"


_RULES: tuple[Callable[[LineError], Explanation | None], ...] = (
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

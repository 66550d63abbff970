"""Triton code as Python syntax trees: quoted, asked, and printed once, when all of it is known.

    quote("tl.where({0}, {1}, 0)", mask, value)    ->    the tree of    tl.where(m_mask[:, None], a_ + b_, 0)

A hole of a quotation, written as a set of its number, takes a tree as an operand, so that nobody counts
parentheses. No tree is changed once it is made: one may stand in several places, and `renamed` makes another.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

Part = ast.expr | int | float | str  # a tree, a number, or the name of something


def quote(text: str, *parts: Part) -> ast.expr:
    """The tree of a Python expression with `parts` in its holes."""
    made: ast.expr = _quotation(text)([*map(tree, parts)])
    return made


@functools.lru_cache(maxsize=4096)
def parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


_Maker = Callable[[Sequence[ast.expr]], Any]  # of a field of a tree, from what fills the holes


@functools.cache
def _quotation(text: str) -> _Maker:
    return _maker(parsed(text)) or (lambda parts: parsed(text))


def _maker(value: object) -> _Maker | None:
    """None: there is no hole in it."""
    match value:
        case ast.Set(elts=[ast.Constant(value=int(number))]):
            return operator.itemgetter(number)
        case list():
            items = [(item, _maker(item)) for item in value]
            if any(make for _, make in items):
                return lambda parts: [make(parts) if make else item for item, make in items]
        case ast.AST():
            fields = dict(ast.iter_fields(value))
            made = {name: make for name, each in fields.items() if (make := _maker(each))}
            if made:
                kind = type(value)
                return lambda parts: kind(**fields | {name: make(parts) for name, make in made.items()})
    return None


def _rebuilt(node: ast.expr, change: Callable[[ast.expr], ast.expr | None]) -> ast.expr:
    """A copy with what `change` puts in the place of a node, outermost first; None: the node as it is."""

    def rebuilt(value: object) -> object:
        if isinstance(value, list):
            return [rebuilt(item) for item in value]
        if not isinstance(value, ast.AST):
            return value
        changed = change(value) if isinstance(value, ast.expr) else None
        if changed is not None:
            return changed
        return type(value)(**{name: rebuilt(each) for name, each in ast.iter_fields(value)})

    made = rebuilt(node)
    assert isinstance(made, ast.expr)
    return made


def holes(text: str, number: int) -> int:
    """How often a quotation has the hole of that number."""
    found = 0
    for node in ast.walk(parsed(text)):
        match node:
            case ast.Set(elts=[ast.Constant(value=value)]):
                found += value == number
    return found


def tree(part: Part) -> ast.expr:
    match part:
        case ast.expr():
            return part
        case str():
            return name(part)
    return number(part)


def name(text: str) -> ast.Name:
    assert text.isidentifier(), f"{text!r} is no name"
    return ast.Name(id=text, ctx=ast.Load())


def number(value: bool | int | float) -> ast.expr:
    """A literal; of infinity and NaN, which have none, `float("inf")`."""
    if isinstance(value, float) and not math.isfinite(value):
        return ast.Call(func=name("float"), args=[ast.Constant(value=repr(value))], keywords=[])
    if not isinstance(value, bool) and (value < 0 or math.copysign(1.0, value) < 0):
        return ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=-value))
    return ast.Constant(value=value)


def value_of(node: ast.expr) -> bool | int | float | None:
    """The number that a literal is; None for anything else."""
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str() as text)]):
            return float(text)
    return None


def call(function: str, *arguments: Part, **keywords: Part | None) -> ast.expr:
    """`function(*arguments, **keywords)`, where what is None is left out; `function` may have dots."""
    return ast.Call(
        func=parsed(function),
        args=list(map(tree, arguments)),
        keywords=[
            ast.keyword(arg=word, value=tree(value)) for word, value in keywords.items() if value is not None
        ],
    )


def tupled(items: Sequence[Part]) -> ast.Tuple:
    return ast.Tuple(elts=list(map(tree, items)), ctx=ast.Load())


def listed(items: Sequence[Part]) -> ast.List:
    return ast.List(elts=list(map(tree, items)), ctx=ast.Load())


_OPERATORS: Mapping[str, ast.operator] = {
    "+": ast.Add(),
    "-": ast.Sub(),
    "*": ast.Mult(),
    "/": ast.Div(),
    "//": ast.FloorDiv(),
    "%": ast.Mod(),
    "**": ast.Pow(),
    "|": ast.BitOr(),
    "^": ast.BitXor(),
    "&": ast.BitAnd(),
    "<<": ast.LShift(),
    ">>": ast.RShift(),
}
_COMPARISONS: Mapping[str, ast.cmpop] = {
    "==": ast.Eq(),
    "!=": ast.NotEq(),
    "<": ast.Lt(),
    "<=": ast.LtE(),
    ">": ast.Gt(),
    ">=": ast.GtE(),
}


def binary(op: str, left: Part, right: Part) -> ast.expr:
    """`left op right`, of an operator, a comparison, `and` or `or`."""
    left, right = tree(left), tree(right)
    if op in _COMPARISONS:
        return ast.Compare(left=left, ops=[_COMPARISONS[op]], comparators=[right])
    if op in ("and", "or"):
        return ast.BoolOp(op=ast.And() if op == "and" else ast.Or(), values=[left, right])
    return ast.BinOp(left=left, op=_OPERATORS[op], right=right)


def joined(op: str, operands: Sequence[ast.expr]) -> ast.expr | None:
    """`a op b op c`; None of none."""
    return functools.reduce(functools.partial(binary, op), operands) if operands else None


def expanded(node: ast.expr, kept: Sequence[bool]) -> ast.expr:
    """`node[:, None]`: each dimension that is kept, and one lane along the others. There are several."""
    index: list[ast.expr] = [ast.Slice() if keep else ast.Constant(value=None) for keep in kept]
    return ast.Subscript(value=node, slice=ast.Tuple(elts=index, ctx=ast.Load()), ctx=ast.Load())


def as_vector(node: ast.expr) -> ast.expr:
    """`node` without what `expanded` made of the vectors in it."""

    def vector(node: ast.expr) -> ast.expr | None:
        match node:
            case ast.Subscript(value=value, slice=ast.Tuple(elts=elts)) if all(
                isinstance(each, ast.Slice) or (isinstance(each, ast.Constant) and each.value is None)
                for each in elts
            ):
                return as_vector(value)
        return None

    return _rebuilt(node, vector)


def renamed(node: ast.expr, names: Mapping[str, str]) -> ast.expr:
    return _rebuilt(
        node,
        lambda each: name(names[each.id]) if isinstance(each, ast.Name) and each.id in names else None,
    )


def reads(node: ast.AST) -> frozenset[str]:
    """The names in it, functions among them."""
    if (known := _read.get(node)) is None:
        known = frozenset(each.id for each in ast.walk(node) if isinstance(each, ast.Name))
        _read[node] = known
    return known


# Statements. One that others are inside of has an empty body: the lines that follow are deeper.


def assign(target: str, value: Part) -> ast.Assign:
    return ast.Assign(targets=[ast.Name(id=target, ctx=ast.Store())], value=tree(value), lineno=0)


def constant(target: str, value: Part) -> ast.stmt:
    """`target: tl.constexpr = value`."""
    return ast.AnnAssign(
        target=ast.Name(id=target, ctx=ast.Store()),
        annotation=parsed("tl.constexpr"),
        value=tree(value),
        simple=1,
    )


def for_each(target: str, items: ast.expr) -> ast.stmt:
    return ast.For(target=ast.Name(id=target, ctx=ast.Store()), iter=items, body=[], orelse=[], lineno=0)


def when(test: Part) -> ast.stmt:
    return ast.If(test=tree(test), body=[], orelse=[])


def does(value: ast.expr) -> ast.stmt:
    """An expression for what it does."""
    return ast.Expr(value=value)


def printed(node: ast.AST | None) -> str:
    """One line. None is `else:`, which is no statement of its own."""
    if node is None:
        return "else:"
    if (known := _printed.get(node)) is None:
        known = _printed[node] = ast.unparse(node)
    return known


# The lines of a kernel stand in the module of each of its calls.
_read: WeakKeyDictionary[ast.AST, frozenset[str]] = WeakKeyDictionary()
_printed: WeakKeyDictionary[ast.AST, str] = WeakKeyDictionary()

"""Expressions: names, operators, conditions.

    x * 2 + m       Binary(+, Binary(*, x: T[m], 2: int): T[m], m: int[m]): T[m]

Operands line up by tile name and promote as PyTorch's do. An expression with a mistake is None, and nothing
more is said about what it is part of. Calls and load points are left to `calls`, `triton_calls`, `inlining`
and `points`.
"""

from __future__ import annotations

from typing_extensions import assert_never

from tdsl import ast, ir
from tdsl.check import calls, names, points, triton_calls
from tdsl.check.dtypes import STRING
from tdsl.check.operands import have_kinds, lined_up, wide
from tdsl.check.scope import (
    Alias,
    Context,
    Parameter,
    TileName,
    Variable,
    describe,
    quoted,
    varies,
)
from tdsl.diagnostics import Code
from tdsl.source import Span
from tdsl.types import BOOL, DTYPES, WEAK_BOOL, WEAK_FLOAT, WEAK_INT, DType

_MAX_DEPTH = 130  # helpers inlined; a single expression has at most 100, which the parser sees to
_MAX_POWER = 64
_ARITHMETIC = ("+", "-", "*", "/", "//", "%", "**")
_BITWISE = ("&", "|", "^", "<<", ">>")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


def value(ctx: Context, node: ast.Expr) -> ir.Expr | None:
    """The typed expression, or None where a mistake was reported."""
    ctx.depth += 1
    try:
        if ctx.depth > _MAX_DEPTH:
            span = ctx.calls[0] if ctx.calls else node.span
            ctx.error(Code.TOO_DEEP, span, "the helpers called here nest too deeply")
            return None
        return _value(ctx, node)
    finally:
        ctx.depth -= 1


def _value(ctx: Context, node: ast.Expr) -> ir.Expr | None:
    match node:
        case ast.Name():
            return names.name(ctx, node)
        case ast.Literal():
            return names.literal(node)
        case ast.Binary(op="and" | "or"):
            return _logical(ctx, node)
        case ast.Binary():
            return _binary(ctx, node)
        case ast.Call():
            return calls.call(ctx, node)
        case ast.Load():
            return points.load(ctx, node)
        case ast.Unary():
            return _unary(ctx, node)
        case ast.Conditional():
            return _conditional(ctx, node)
        case ast.TileBound():
            return _tile_bound(ctx, node)
        case ast.Membership():
            return _membership(ctx, node)
        case ast.TritonCall():
            return triton_calls.call(ctx, node, None)
        case ast.TritonName():
            ctx.error(Code.BAD_VALUE, node.span, f"'tl.{node.name}' can only be an argument of a 'tl.' call")
            return None
        case _:
            assert_never(node)


def _tile_bound(ctx: Context, node: ast.TileBound) -> ir.Expr | None:
    symbol = ctx.lookup(node.tile.name)
    match symbol:
        case None:
            names.undefined(ctx, node.tile.span, node.tile.name)
        case TileName(tile=None) | Variable(type=None):
            pass
        case TileName(tile=ir.Tile() as tile) | Alias(value=ir.TileRef(tile=tile)):
            edge = "start" if node.bound == "start" else "stop"
            type = ir.Type(dtype=WEAK_INT)
            return ir.TileEdge(span=node.span, type=type, tile=tile, edge=edge)  # type: ignore[arg-type]
        case _:
            ctx.error(
                Code.BAD_TILE,
                node.span,
                f"only a tile has a '{node.bound}'; '{node.tile.name}' is {describe(symbol)}",
            )
    return None


# Operators


def _unary(ctx: Context, node: ast.Unary) -> ir.Expr | None:
    if node.op == "not":
        operand = condition(ctx, node.operand)
        if operand is None:
            return None
        type = ir.Type(dtype=BOOL, constant=operand.type.constant)
        return ir.Unary(span=node.span, type=type, op="not", operand=operand)
    operand = value(ctx, node.operand)
    if operand is None:
        return None
    needed = {1, 2} if node.op in ("-", "+") else {0, 1}
    if not have_kinds(ctx, node.op, ((node.operand, operand),), needed, node.span):
        return None
    if node.op == "+":
        return operand
    if node.op == "-" and isinstance(operand, ir.Constant):
        assert not isinstance(operand.value, str)
        return ir.Constant(span=node.span, type=operand.type, value=-operand.value)
    if node.op == "~" and operand.type.dtype == WEAK_BOOL:
        ctx.error(Code.DTYPE_MISMATCH, node.span, "'~' of a constant", help="write 'not ...'")
        return None
    return ir.Unary(span=node.span, type=operand.type, op=node.op, operand=operand)


def _binary(ctx: Context, node: ast.Binary) -> ir.Expr | None:
    left, right = value(ctx, node.left), value(ctx, node.right)
    if left is None or right is None:
        return None
    return binary(ctx, node.span, node.op, (node.left, left), (node.right, right))


def binary(
    ctx: Context, span: Span, op: str, a: tuple[ast.Expr, ir.Expr], b: tuple[ast.Expr, ir.Expr]
) -> ir.Expr | None:
    """`a op b`, arithmetic or a comparison."""
    left, right = a[1], b[1]
    if left.type.dtype == STRING or right.type.dtype == STRING:
        return _strings(ctx, span, op, left, right)
    if op in _COMPARISONS:
        needed = {0, 1, 2}
    elif op in ("&", "|", "^"):
        needed = {0, 1}
    else:
        needed = {1} if op in ("<<", ">>") else {1, 2}
    if op in _ARITHMETIC:
        # A bool counts as a number beside a number.
        both = ctx.dtypes.promote(left.type.dtype, right.type.dtype)
        mixed = ctx.dtypes.categories(both)
        pairs: tuple[tuple[ast.Expr, ir.Expr], ...] = (a, b) if 0 in mixed else ()
        if not have_kinds(ctx, op, pairs, needed, span) or not wide(ctx, (a, b), f"'{op}'"):
            return None
    elif not have_kinds(ctx, op, (a, b), needed, span):
        return None
    dtype = ctx.dtypes.promote(left.type.dtype, right.type.dtype)
    if op in _COMPARISONS:
        dtype = BOOL
    elif op == "/":
        dtype = ctx.dtypes.promote(dtype, WEAK_FLOAT)
    elif op == "**":
        raised = _power(ctx, a, b)
        if raised is None:
            return None
        dtype = ctx.dtypes.promote(left.type.dtype, raised)
    elif op in ("<<", ">>"):
        dtype = dtype if left.type.dtype.weak else left.type.dtype
    elif (
        op in ("//", "%")
        and isinstance(right, ir.Constant)
        and right.value == 0
        and 1 in ctx.dtypes.categories(dtype)
    ):
        ctx.error(Code.BAD_VALUE, b[0].span, "this divides by zero")
        return None
    if op in ("<<", ">>") and isinstance(right, ir.Constant) and not 0 <= right.value <= 63:  # type: ignore[operator]
        ctx.error(Code.BAD_VALUE, b[0].span, f"a shift by {right.value}; 0 to 63 is possible")
        return None
    type = lined_up(ctx, span, dtype, (left, right))
    return None if type is None else ir.Binary(span=span, type=type, op=op, left=left, right=right)


def _power(ctx: Context, a: tuple[ast.Expr, ir.Expr], b: tuple[ast.Expr, ir.Expr]) -> DType | None:
    """What the exponent adds to the dtype of a power."""
    exponent = b[1]
    if not isinstance(exponent, ir.Constant) or isinstance(exponent.value, bool | str):
        ctx.error(
            Code.BAD_VALUE,
            b[0].span,
            "an exponent is a number written as such",
            help=f"for any other: exp({b[0].span.text} * log({a[0].span.text}))",
        )
        return None
    if exponent.value not in (0.5, -0.5) and (
        not isinstance(exponent.value, int) or abs(exponent.value) > _MAX_POWER
    ):
        ctx.error(
            Code.BAD_VALUE,
            b[0].span,
            f"an exponent is a whole number from -{_MAX_POWER} to {_MAX_POWER}, 0.5 or -0.5",
            help=f"for any other: exp({b[0].span.text} * log({a[0].span.text}))",
        )
        return None
    return WEAK_INT if isinstance(exponent.value, int) and exponent.value >= 0 else WEAK_FLOAT


def _strings(ctx: Context, span: Span, op: str, left: ir.Expr, right: ir.Expr) -> ir.Expr | None:
    if op in ("==", "!=") and left.type.dtype == right.type.dtype:
        return ir.Binary(span=span, type=ir.Type(dtype=BOOL, constant=True), op=op, left=left, right=right)
    ctx.error(
        Code.DTYPE_MISMATCH,
        span,
        f"'{op}' does not work on strings",
        help="strings can be compared: == and !=",
    )
    return None


# Conditions


def condition(ctx: Context, node: ast.Expr) -> ir.Expr | None:
    """A scalar bool; the name of an optional tensor asks whether it was passed."""
    if isinstance(node, ast.Name):
        symbol = ctx.lookup(node.name)
        if isinstance(symbol, Parameter) and symbol.broken and not isinstance(symbol.node, ir.Tensor):
            return None
        if isinstance(symbol, Parameter) and isinstance(symbol.node, ir.Tensor):
            if symbol.node.optional:
                return ir.Present(span=node.span, type=ir.Type(dtype=BOOL, constant=True), param=node.name)
            ctx.error(
                Code.BAD_VALUE,
                node.span,
                f"'{node.name}' is always there; only an optional tensor can be asked for",
                help=f"declare it with '?': '{symbol.span.text}?'",
            )
            return None
    found = value(ctx, node)
    if found is None:
        return None
    if not ctx.dtypes.is_bool(found.type.dtype):
        ctx.error(
            Code.DTYPE_MISMATCH,
            node.span,
            f"a condition is true or false; this is {found.type.dtype}",
            help=f"compare it: ({quoted(node)}) != 0",
        )
        return None
    if found.type.tiles:
        ctx.error(
            Code.AXIS_MISMATCH,
            node.span,
            f"a condition is a scalar; this {varies(found.type.tiles)}",
            help="choose lane by lane with where(condition, a, b)",
        )
        return None
    return found


def implied(node: ir.Expr, truth: bool) -> frozenset[str]:
    """The optional tensors that are there when a condition comes out as `truth`."""
    match node:
        case ir.Present(param=param) if truth:
            return frozenset({param})
        case ir.Unary(op="not", operand=operand):
            return implied(operand, not truth)
        case ir.Binary(op="and", left=left, right=right):
            a, b = implied(left, truth), implied(right, truth)
            return a | b if truth else a & b
        case ir.Binary(op="or", left=left, right=right):
            a, b = implied(left, truth), implied(right, truth)
            return a & b if truth else a | b
        case _:
            return frozenset()


def negated(condition: ir.Expr) -> ir.Expr:
    return ir.Unary(span=condition.span, type=condition.type, op="not", operand=condition)


def _logical(ctx: Context, node: ast.Binary) -> ir.Expr | None:
    left = condition(ctx, node.left)
    before = ctx.present
    if left is not None and left.type.constant:
        ctx.present |= implied(left, node.op == "and")
    right = condition(ctx, node.right)
    ctx.present = before
    if left is None or right is None:
        return None
    type = ir.Type(dtype=BOOL, constant=left.type.constant and right.type.constant)
    return ir.Binary(span=node.span, type=type, op=node.op, left=left, right=right)


def _conditional(ctx: Context, node: ast.Conditional) -> ir.Expr | None:
    test = condition(ctx, node.condition)
    before = ctx.present
    if test is not None:
        ctx.present = before | implied(test, True)
    then = value(ctx, node.then)
    if test is not None:
        ctx.present = before | implied(test, False)
    otherwise = value(ctx, node.otherwise)
    ctx.present = before
    if test is not None and not test.type.constant:
        ctx.error(
            Code.NOT_CONSTANT,
            node.condition.span,
            "the condition of '... if ... else ...' is known at compile time; this is not",
            help="choose values with where(condition, a, b)",
        )
        return None
    if test is None or then is None or otherwise is None:
        return None
    if (then.type.dtype == STRING) != (otherwise.type.dtype == STRING):
        ctx.error(Code.DTYPE_MISMATCH, node.span, "one side is a string and the other is not")
        return None
    strings = then.type.dtype == STRING
    dtype = STRING if strings else ctx.dtypes.promote(then.type.dtype, otherwise.type.dtype)
    type = lined_up(ctx, node.span, dtype, (then, otherwise))
    if type is None:
        return None
    return ir.Select(span=node.span, type=type, condition=test, then=then, otherwise=otherwise)


def _membership(ctx: Context, node: ast.Membership) -> ir.Expr | None:
    if isinstance(node.value, ast.Name):
        dtype = names.dtype_named(ctx, node.value.name)
        if dtype is not None:
            return _dtype_in(ctx, node, dtype)
    this = value(ctx, node.value)
    choices = [value(ctx, choice) for choice in node.choices]
    if this is None:
        return None
    test: ir.Expr | None = None
    for choice, written in zip(choices, node.choices, strict=True):
        if choice is None:
            return None
        equal = binary(ctx, node.span, "==", (node.value, this), (written, choice))
        if equal is None:
            return None
        if test is not None:
            type = ir.Type(dtype=BOOL, constant=test.type.constant and equal.type.constant)
            equal = ir.Binary(span=node.span, type=type, op="or", left=test, right=equal)
        test = equal
    assert test is not None, "the parser wants at least one choice"
    if not test.type.constant:
        ctx.error(
            Code.NOT_CONSTANT,
            node.span,
            "'in' asks about what is known at compile time; this is not",
            help="compare with each: a == 1 or a == 2",
        )
        return None
    return test


def _dtype_in(ctx: Context, node: ast.Membership, dtype: DType) -> ir.Expr | None:
    found: list[str] = []
    for choice in node.choices:
        if isinstance(choice, ast.Name) and choice.name in DTYPES:
            found.append(choice.name)
        else:
            names.unknown_dtype(ctx, choice.span, choice.span.text)
    if len(found) < len(node.choices):
        return None
    return ir.DTypeIn(
        span=node.span, type=ir.Type(dtype=BOOL, constant=True), dtype=dtype, choices=tuple(found)
    )


def bind(ctx: Context) -> None:
    """Let the rules of other modules type parts of expressions."""
    ctx.value, ctx.condition = value, condition

"""What an operation takes: the category of its operands, and tiles that line up.

    x + idx    with x: T[m, n] and idx: i32[n]    →    T[m, n]

Which operation needs what is left to `expressions`, `calls` and `triton_calls`.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from tdsl import ast, ir
from tdsl.check.scope import Context, quoted, union
from tdsl.diagnostics import Code, Label
from tdsl.source import Span
from tdsl.types import DType


def lined_up(ctx: Context, span: Span, dtype: DType, operands: Iterable[ir.Expr]) -> ir.Type | None:
    """The type of an elementwise operation."""
    types = [operand.type for operand in operands]
    tiles = union(*(type.tiles for type in types))
    if not ctx.check_lanes(tiles, span):
        return None
    return ir.Type(dtype=dtype, tiles=tiles, constant=all(type.constant for type in types))


_NEEDED = {
    frozenset({1}): "integers",
    frozenset({0, 1}): "integers or bools",
    frozenset({1, 2}): "numbers",
    frozenset({2}): "floats",
    frozenset({0}): "bools",
}


def have_kinds(
    ctx: Context, op: str, operands: tuple[tuple[ast.Expr, ir.Expr], ...], needed: Set[int], span: Span
) -> bool:
    """Whether the operands' categories are among the `needed`."""
    for node, operand in operands:
        found = ctx.dtypes.categories(operand.type.dtype)
        if found and found <= needed:
            continue
        wrong = set(range(3)) - needed
        is_bool = found == {0}
        cast = "i32" if needed <= {0, 1} or is_bool else "f32"
        help = f"compare it: {quoted(node)} != 0" if needed == {0} else f"cast it: {cast}({quoted(node)})"
        if op in ("&", "|", "^") and any(ctx.dtypes.is_bool(other.type.dtype) for _, other in operands):
            help = f"'{op}' binds tighter than a comparison: put one beside it in parentheses, (a > b) {op} c"
        ctx.error(
            Code.DTYPE_MISMATCH,
            span,
            f"'{op}' needs {_NEEDED[frozenset(needed)]}",
            Label(span=node.span, text=f"is {ctx.dtypes.why(operand.type.dtype, wrong)}"),
            help=help,
        )
        return False
    return wide(ctx, operands, f"'{op}'")


def wide(ctx: Context, operands: Iterable[tuple[ast.Expr, ir.Expr]], who: str) -> bool:
    """Whether no operand may be an 8-bit float, which only casts, dots, loads and stores know."""
    for node, operand in operands:
        narrow = ctx.dtypes.narrow(operand.type.dtype)
        if narrow is not None:
            dtype = str(operand.type.dtype)
            ctx.error(
                Code.DTYPE_MISMATCH,
                node.span,
                f"{who} does not work on {dtype if dtype == narrow else f'{dtype}, which may be {narrow}'}",
                help=f"cast it first: f32({quoted(node)})",
            )
            return False
    return True

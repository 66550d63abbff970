"""Assignments: a variable keeps the dtype and the tiles of its first value.

    acc = zeros(m, n)          acc: f32[m, n]
    acc = f16(...)             converts: an f16 fits into f32
    acc = load A[m, k]         escaped-value: acc lives outside the loop of k

Where a variable lives is left to `statements` and `inlining`.
"""

from __future__ import annotations

from tdsl import ast, ir
from tdsl.check.scope import Context, Variable, listing, quoted, varies
from tdsl.diagnostics import Code, Label
from tdsl.source import Span


def fits(ctx: Context, variable: Variable, node: ast.Expr, value: ir.Expr, span: Span) -> bool:
    """Whether a later value fits into a variable; reported at `span`, the name assigned to."""
    type = variable.type
    if type is None:
        return False
    name = variable.name
    extra = [tile for tile in value.type.tiles if tile not in type.tiles]
    declared = Label(span=variable.span, text=varies(type.tiles))
    if extra:
        tiles = listing(tile.name for tile in extra)
        reduced = f"sum({quoted(node)}, {', '.join(tile.name for tile in extra)})"
        loops = [tile for tile in extra if _opened_after(ctx, tile, variable)]
        if loops:
            ctx.error(
                Code.ESCAPED_VALUE,
                span,
                f"'{name}' outlives the loop of {listing(tile.name for tile in loops)}, over which this value varies",
                Label(span=node.span, text=varies(value.type.tiles)),
                declared,
                help=f"reduce it, such as {reduced}",
            )
        else:
            ctx.error(
                Code.AXIS_MISMATCH,
                span,
                f"'{name}' does not vary over {tiles}, and this value does",
                Label(span=node.span, text=varies(value.type.tiles)),
                declared,
                help=f"reduce it, such as {reduced}, or start '{name}' with these tiles: "
                f"zeros({', '.join(tile.name for tile in value.type.tiles)})",
            )
        return False
    if not ctx.dtypes.keeps(type.dtype, value.type.dtype):
        if type.dtype.weak:
            strong = value.type.dtype if not value.type.dtype.weak else "f32"
            message = f"'{name}' began as a number without a dtype; {value.type.dtype} does not fit into it"
            help = (
                f"begin it with a dtype: {strong}(...)" if " " not in str(strong) else "begin it with a cast"
            )
        else:
            message = f"'{name}' is {type.dtype}; {value.type.dtype} does not fit into it"
            help = f"cast it: {type.dtype}({quoted(node)})"
            if type.dtype.concrete is None and len(type.dtype.names) > 1:
                help = "begin it with a wider dtype"
        ctx.error(
            Code.DTYPE_MISMATCH,
            span,
            message,
            Label(span=variable.span, text=f"'{name}' is {type.dtype}"),
            help=help,
        )
        return False
    return True


def _opened_after(ctx: Context, tile: ir.Tile, variable: Variable) -> bool:
    """Whether the loop of `tile` is inside the block that `variable` belongs to."""
    return any(
        block.kind == "for" and block.tile is not None and block.tile.tile == tile
        for block in ctx.blocks[variable.level :]
    )

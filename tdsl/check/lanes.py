"""Built-ins that see the lanes of a tile together: their order, their place, how many there are of each.

    topk(x, n, j)     Along(topk, x: f32[r, n], n onto j): f32[r, j]     proven: j has no more lanes than n
    take(x, n, i)     Along(take, x: f32[r, n], n, i: i32[k]): f32[r, k]     proven: i is in n

What a tile's name stands for is left to `calls`.
"""

from __future__ import annotations

from tdsl import ast, ir
from tdsl.builtins import Lanes
from tdsl.check.dtypes import STRING
from tdsl.check.operands import have_kinds
from tdsl.check.scope import Context, quoted, shown, union, varies
from tdsl.diagnostics import Code, Label
from tdsl.types import I32, WEAK_INT, DType

_WIDE = frozenset({"i64", "f64", "~int"})  # an index of a tile may take 64 bits, too


def call(
    ctx: Context, node: ast.Call, row: Lanes, operand: ir.Expr, tile: ir.Tile, onto: ir.Tile | None
) -> ir.Expr | None:
    """The value of a call whose operand varies over `tile`; `onto`: the tile that takes its place."""
    name = node.function.name
    first = node.arguments[0]
    if not have_kinds(ctx, name, ((first, operand),), row.takes, node.span):
        return None
    if row.narrow and ctx.dtypes.possible(operand.type.dtype) & _WIDE:
        _refuse_wide(ctx, node, operand)
        return None
    if onto is not None and not _fits(ctx, node, operand, tile, onto):
        return None
    descending = _descending(ctx, node)
    arguments: list[ir.Expr] | None = []
    if name == "take":
        arguments = _index(ctx, node, operand, tile)
    elif name == "padded":
        arguments = _scalar(ctx, node, operand, "value")
    if descending is None or arguments is None:
        return None
    rest = tuple(other for other in operand.type.tiles if other != tile)
    tiles = operand.type.tiles
    if onto is not None:
        tiles = (*rest, onto)
    elif name == "take":
        tiles = union(rest, arguments[0].type.tiles)
    # Rows are counted by comparing each value with each bin.
    counted = union(operand.type.tiles, tiles) if name == "histogram" and rest else tiles
    if not ctx.check_lanes(counted, node.span):
        return None
    dtype: DType = operand.type.dtype if row.gives == "same" else I32
    return ir.Along(
        span=node.span,
        type=ir.Type(dtype=dtype, tiles=tiles),
        function=name,
        operand=operand,
        tile=tile,
        onto=onto,
        arguments=tuple(arguments),
        descending=descending or name in ("topk", "argtopk"),
    )


def _refuse_wide(ctx: Context, node: ast.Call, operand: ir.Expr) -> None:
    dtype = operand.type.dtype
    wide = next(name for name in ("i64", "f64", "~int") if name in ctx.dtypes.possible(dtype))
    which = "an index, which may take 64" if wide == "~int" else f"{dtype}, which may be {wide}"
    ctx.error(
        Code.DTYPE_MISMATCH,
        node.arguments[0].span,
        f"'{node.function.name}' takes numbers of up to 32 bits; this is {wide if str(dtype) == wide else which}",
        help=f"cast it, if that keeps the order: {'f32' if wide == 'f64' else 'i32'}({quoted(node.arguments[0])})",
    )


def _fits(ctx: Context, node: ast.Call, operand: ir.Expr, tile: ir.Tile, onto: ir.Tile) -> bool:
    name, span = node.function.name, node.arguments[2].span
    if onto in operand.type.tiles:
        message = f"'{name}' wants another tile; {shown(node.arguments[0])} varies over {onto.name} already"
        ctx.error(Code.AXIS_MISMATCH, span, message, help=f"make one: {onto.name}_1 = whole(...)")
        return False
    if name == "histogram":
        return True
    if onto.role != "whole":
        message = f"'{name}' wants a tile made by 'whole'; '{onto.name}' is the tile of a loop"
        ctx.error(Code.BAD_TILE, span, message, help="j = whole(4) is a tile of four lanes")
        return False
    one = ir.Constant(span=span, type=ir.Type(dtype=WEAK_INT, constant=True), value=1)
    room = _binary("+", _lanes(tile), one)
    if ctx.bounds.shortfall(onto.stop, room, ctx.loops) is None:
        return True
    wanted, there = onto.stop.span.text, tile.stop.span.text
    whole = tile.role == "whole"
    ctx.error(
        Code.OUT_OF_BOUNDS,
        span,
        f"'{name}' gives {wanted} lanes; {tile.name} may have fewer" + ("" if whole else " in a block"),
        Label(span=node.arguments[1].span, text=f"has {there}" if whole else "a block of a loop"),
        help=f"if it is so, say it in a guard, 'where {wanted} <= {there}'"
        if whole
        else "use a tile made by 'whole'",
    )
    return False


def _binary(op: str, left: ir.Expr, right: ir.Expr) -> ir.Expr:
    tiles = union(left.type.tiles, right.type.tiles)
    type = ir.Type(dtype=WEAK_INT if left.type.dtype.weak else left.type.dtype, tiles=tiles)
    return ir.Binary(span=left.span, type=type, op=op, left=left, right=right)


def _lanes(tile: ir.Tile) -> ir.Expr:
    """How many lanes of a tile exist."""
    if tile.role == "whole":
        return tile.stop
    return _binary("-", _edge(tile, "stop"), _edge(tile, "start"))


def _edge(tile: ir.Tile, edge: str) -> ir.Expr:
    type = ir.Type(dtype=WEAK_INT)
    return ir.TileEdge(span=tile.span, type=type, tile=tile, edge="start" if edge == "start" else "stop")


def _descending(ctx: Context, node: ast.Call) -> bool | None:
    for keyword in node.keywords:
        if keyword.name.name == "descending":
            if isinstance(keyword.value, ast.Literal) and isinstance(keyword.value.value, bool):
                return keyword.value.value
            ctx.error(Code.BAD_VALUE, keyword.value.span, "'descending' is true or false")
            return None
    return False


def _scalar(ctx: Context, node: ast.Call, operand: ir.Expr, name: str) -> list[ir.Expr] | None:
    """What a keyword says that some lanes hold: one scalar that the operand's dtype keeps; 0 for `padded`."""
    for keyword in node.keywords:
        if keyword.name.name != name:
            continue
        value = ctx.value(ctx, keyword.value)
        if value is None:
            return None
        if value.type.tiles:
            message = f"'{name}=' is one scalar; this {varies(value.type.tiles)}"
            ctx.error(Code.AXIS_MISMATCH, keyword.value.span, message)
            return None
        if value.type.dtype == STRING or not ctx.dtypes.keeps(operand.type.dtype, value.type.dtype):
            message = f"{value.type.dtype} does not fit into {operand.type.dtype}"
            help = f"cast it: {operand.type.dtype}({quoted(keyword.value)})"
            ctx.error(Code.DTYPE_MISMATCH, keyword.value.span, message, help=help)
            return None
        return [value]
    zero = ir.Type(dtype=WEAK_INT, constant=True)
    return [ir.Constant(span=node.span, type=zero, value=0)] if name == "value" else []


def _index(ctx: Context, node: ast.Call, operand: ir.Expr, tile: ir.Tile) -> list[ir.Expr] | None:
    """`take`'s index, and what it reads outside, if it may be there."""
    written = node.arguments[2]
    index = ctx.value(ctx, written)
    other = _scalar(ctx, node, operand, "other")
    if index is None or other is None:
        return None
    if not ctx.dtypes.is_integer(index.type.dtype):
        why = ctx.dtypes.why(index.type.dtype, {0, 2})
        ctx.error(Code.DTYPE_MISMATCH, written.span, f"'take' wants an integer; this is {why}")
        return None
    # An index is inside of its own block.
    own = isinstance(index, ir.TileRef) and index.tile == tile
    lane = index if tile.role == "whole" else _binary("-", index, _edge(tile, "start"))
    shortfall = None if own else ctx.bounds.shortfall(lane, _lanes(tile), ctx.loops)
    if shortfall is None and other:
        message = f"{shown(written)} is inside of {tile.name}; 'other=' would never be read"
        ctx.error(Code.BAD_CALL, node.keywords[0].span, message, help="leave it out")
        return None
    if shortfall is not None and not other:
        far = "anything" if shortfall.extreme is None else shortfall.extreme
        ctx.error(
            Code.OUT_OF_BOUNDS,
            written.span,
            f"{shown(written)} may be {far}, and there may be no such lane in {tile.name}",
            Label(span=node.arguments[1].span, text=f"has {tile.stop.span.text}")
            if tile.role == "whole"
            else Label(span=node.arguments[1].span, text="a block of a loop"),
            help="say what to read there: 'other=0'",
        )
        return None
    return [index, *other]

"""Calls: built-in functions, casts, `dot` and reductions.

    sum(v * v, n)                        Reduce(sum, v * v: f32[r, n], over n): f32[r]
    dot(load A[m, k], load B[k, n])      Dot(..., over k): f32[m, n]

What a helper's call expands to is left to `inlining`.
"""

from __future__ import annotations

from dataclasses import replace

from tdsl import ast, foreign, ir
from tdsl.builtins import BUILTINS, Elementwise, Lanes, Reduction, Scan
from tdsl.check import inlining, lanes, names, triton_names
from tdsl.check.dtypes import STRING
from tdsl.check.operands import have_kinds, lined_up
from tdsl.check.scope import (
    Alias,
    Context,
    Parameter,
    TileName,
    Variable,
    describe,
    listing,
    quoted,
    shown,
    union,
    varies,
)
from tdsl.diagnostics import Code, Label
from tdsl.types import BOOL, DTYPES, F32, I32, LEAST_DOT, LEAST_DOT_8_BIT, WEAK_FLOAT, WEAK_INT

_PRECISIONS = ("ieee", "tf32", "tf32x3")


def call(ctx: Context, node: ast.Call) -> ir.Expr | None:
    name = node.function.name
    if name in BUILTINS:
        return _builtin(ctx, node)
    if name in ctx.helpers:
        return inlining.expand(ctx, node)
    if name in DTYPES or names.dtype_named(ctx, name) is not None:
        return _cast(ctx, node)
    symbol = ctx.lookup(name)
    for argument in (*node.arguments, *(keyword.value for keyword in node.keywords)):
        if not (isinstance(argument, ast.Name) and _is_tile(ctx, argument)):
            ctx.value(ctx, argument)
    if isinstance(symbol, Alias) and symbol == Alias(None):
        return None
    if symbol is not None:
        help = f"read it with 'load {name}[...]'" if _is_tensor(symbol) else None
        ctx.error(
            Code.BAD_CALL, node.function.span, f"'{name}' is {describe(symbol)}, not a function", help=help
        )
    else:
        near = ctx.suggest(name, [*BUILTINS, *ctx.helpers, *DTYPES, *ctx.dtypes.choices])
        there = f"Triton's own is 'tl.{name}(...)'" if triton_names.find(name) else None
        help = foreign.function(name) or (f"did you mean '{near}'?" if near else there)
        ctx.missing(Code.UNKNOWN_NAME, node.function.span, name, f"there is no function '{name}'", help=help)
    return None


def _is_tensor(symbol: object) -> bool:
    return isinstance(symbol, Parameter) and isinstance(symbol.node, ir.Tensor)


def _is_tile(ctx: Context, node: ast.Name) -> bool:
    symbol = ctx.lookup(node.name)
    return isinstance(symbol, TileName) or (
        isinstance(symbol, Alias) and isinstance(symbol.value, ir.TileRef)
    )


def _builtin(ctx: Context, node: ast.Call) -> ir.Expr | None:
    name = node.function.name
    row = BUILTINS[name]
    least, most = row.arity
    count = len(node.arguments)
    if not least <= count <= most:
        wanted = f"{least}" if least == most else f"at least {least}"
        noun = "argument" if wanted.endswith("1") else "arguments"
        help = _call_help(node)
        ctx.error(Code.BAD_CALL, node.span, f"'{name}' takes {wanted} {noun}; this has {count}", help=help)
        return None
    allowed = row.keywords
    seen: set[str] = set()
    for keyword in node.keywords:
        if keyword.name.name not in allowed or keyword.name.name in seen:
            word = keyword.name.name
            message = f"'{name}' has '{word}=' twice" if word in seen else f"'{name}' has no '{word}='"
            near = ctx.suggest(word, allowed)
            help = f"did you mean '{near}='?" if near and word not in seen else None
            ctx.error(Code.BAD_CALL, keyword.name.span, message, help=help)
            return None
        seen.add(keyword.name.name)
    match row:
        case Elementwise():
            return _elementwise(ctx, node, row)
        case Reduction():
            return _reduce(ctx, node, row)
        case Scan():
            return _scan(ctx, node, row)
        case Lanes():
            return _lanes(ctx, node, row)
        case _:
            return _form(ctx, node)


def _form(ctx: Context, node: ast.Call) -> ir.Expr | None:
    match node.function.name:
        case "whole":
            ctx.error(
                Code.BAD_TILE,
                node.span,
                "'whole' makes a tile; it stands alone on the right of '='",
                help=f"write it on a line of its own: n = {node.span.text}",
            )
            return None
        case "promote":
            ctx.error(Code.BAD_VALUE, node.span, "'promote' makes a dtype, not a value")
            return None
        case "zeros" | "full":
            return _fill(ctx, node)
        case "dot":
            return _dot(ctx, node)
        case "where":
            return _where(ctx, node)
        case "clamp":
            return _clamp(ctx, node)
        case name:
            raise AssertionError(f"{name} has no rule")


def _call_help(node: ast.Call) -> str | None:
    name = node.function.name
    if isinstance(BUILTINS[name], Reduction | Scan | Lanes) and len(node.arguments) == 1:
        return f"name the tile to go along: {name}({node.arguments[0].span.text}, n)"
    return None


def _arguments(ctx: Context, nodes: tuple[ast.Expr, ...]) -> list[ir.Expr] | None:
    found = [ctx.value(ctx, node) for node in nodes]
    known = [each for each in found if each is not None]
    return known if len(known) == len(found) else None


def _cast(ctx: Context, node: ast.Call) -> ir.Expr | None:
    name = node.function.name
    if len(node.arguments) != 1 or node.keywords:
        ctx.error(
            Code.BAD_CALL, node.span, f"a cast takes one value: {name}(x); this has {len(node.arguments)}"
        )
        return None
    dtype = names.dtype_named(ctx, name)
    operand = ctx.value(ctx, node.arguments[0])
    if operand is None or dtype is None:
        return None
    if operand.type.dtype == STRING:
        ctx.error(Code.DTYPE_MISMATCH, node.arguments[0].span, "a string cannot be cast")
        return None
    type = ir.Type(dtype=dtype, tiles=operand.type.tiles, constant=operand.type.constant)
    return ir.Cast(span=node.span, type=type, operand=operand)


# Lane by lane


def _elementwise(ctx: Context, node: ast.Call, row: Elementwise) -> ir.Expr | None:
    name = node.function.name
    arguments = _arguments(ctx, node.arguments)
    if arguments is None:
        return None
    pairs = tuple(zip(node.arguments, arguments, strict=True))
    if not have_kinds(ctx, name, pairs, row.takes, node.span):
        return None
    dtype = ctx.dtypes.promote(*(argument.type.dtype for argument in arguments))
    match row.gives:
        case "float":
            dtype = ctx.dtypes.promote(dtype, WEAK_FLOAT)
        case "bool":
            dtype = BOOL
        case "f32":
            dtype = F32
    if name == "next_pow2" and not arguments[0].type.constant:
        ctx.error(
            Code.NOT_CONSTANT,
            node.arguments[0].span,
            "'next_pow2' takes what is known at compile time; this is not",
        )
        return None
    if name == "cdiv" and isinstance(arguments[1], ir.Constant) and arguments[1].value == 0:
        ctx.error(Code.BAD_VALUE, node.arguments[1].span, "this divides by zero")
        return None
    type = lined_up(ctx, node.span, dtype, arguments)
    if type is None:
        return None
    if row.value is None:
        type = replace(type, constant=False)
    return ir.Elementwise(span=node.span, type=type, function=name, arguments=tuple(arguments))


def _clamp(ctx: Context, node: ast.Call) -> ir.Expr | None:
    """`minimum(maximum(x, low), high)`, which keeps NaN, and whose bounds the prover knows."""
    arguments = _arguments(ctx, node.arguments)
    if arguments is None:
        return None
    pairs = tuple(zip(node.arguments, arguments, strict=True))
    if not have_kinds(ctx, "clamp", pairs, BUILTINS["clamp"].takes, node.span):
        return None
    value = arguments[0]
    dtype = ctx.dtypes.promote(*(argument.type.dtype for argument in arguments))
    for function, bound in zip(("maximum", "minimum"), arguments[1:], strict=True):
        type = lined_up(ctx, node.span, dtype, (value, bound))
        if type is None:
            return None
        value = ir.Elementwise(span=node.span, type=type, function=function, arguments=(value, bound))
    return value


def _where(ctx: Context, node: ast.Call) -> ir.Expr | None:
    arguments = _arguments(ctx, node.arguments)
    if arguments is None:
        return None
    test, then, otherwise = arguments
    if not ctx.dtypes.is_bool(test.type.dtype):
        ctx.error(
            Code.DTYPE_MISMATCH,
            node.arguments[0].span,
            f"'where' asks true or false first; this is {test.type.dtype}",
            help=f"compare it: ({quoted(node.arguments[0])}) != 0",
        )
        return None
    sides = tuple(zip(node.arguments[1:], (then, otherwise), strict=True))
    if not have_kinds(ctx, "where", sides, BUILTINS["where"].takes, node.span):
        return None
    dtype = ctx.dtypes.promote(then.type.dtype, otherwise.type.dtype)
    type = lined_up(ctx, node.span, dtype, (test, then, otherwise))
    if type is None:
        return None
    return ir.Elementwise(span=node.span, type=type, function="where", arguments=(test, then, otherwise))


def _fill(ctx: Context, node: ast.Call) -> ir.Expr | None:
    keywords = {keyword.name.name: keyword.value for keyword in node.keywords}
    tiles = [_tile(ctx, node, argument) for argument in node.arguments]
    dtype = names.dtype(ctx, keywords["dtype"]) if "dtype" in keywords else F32
    value: ir.Expr | None
    if node.function.name == "zeros":
        zero = ir.Type(dtype=WEAK_INT, constant=True)
        value = ir.Constant(span=node.span, type=zero, value=0)
    elif "value" in keywords:
        value = ctx.value(ctx, keywords["value"])
        if value is not None and value.type.tiles:
            ctx.error(
                Code.AXIS_MISMATCH,
                keywords["value"].span,
                f"'full' takes a scalar; this {varies(value.type.tiles)}",
            )
            return None
    else:
        ctx.error(Code.BAD_CALL, node.span, "'full' lacks its value", help="full(m, value=0)")
        return None
    if value is None or dtype is None or None in tiles:
        return None
    known = tuple(tile for tile in tiles if tile is not None)
    if len(set(known)) < len(known):
        ctx.error(Code.BAD_CALL, node.span, f"'{node.function.name}' names a tile twice")
        return None
    if value.type.dtype == STRING:
        ctx.error(Code.DTYPE_MISMATCH, keywords["value"].span, "a block cannot hold a string")
        return None
    if not ctx.check_lanes(known, node.span):
        return None
    return ir.Fill(span=node.span, type=ir.Type(dtype=dtype, tiles=known), value=value)


# Along tiles


def _tile(ctx: Context, node: ast.Call, argument: ast.Expr) -> ir.Tile | None:
    """The tile that an argument names."""
    function = node.function.name
    if isinstance(argument, ast.Name):
        symbol = ctx.lookup(argument.name)
        match symbol:
            case TileName(tile=None) | Variable(type=None) | Alias(value=None, dtype=None):
                return None
            case TileName(tile=ir.Tile() as tile) | Alias(value=ir.TileRef(tile=tile)):
                if not tile.scalar:
                    return tile
                ctx.error(
                    Code.BAD_CALL,
                    argument.span,
                    f"'{argument.name}' is a single index, not a block of them",
                    help=f"give it a block: 'by', or leave '{argument.name}' out",
                )
                return None
            case None:
                tiles = [name for name in ctx.visible() if isinstance(ctx.lookup(name), TileName)]
                near = ctx.suggest(argument.name, tiles) or (tiles[0] if len(tiles) == 1 else None)
                if argument.name in ctx.gone or near is None:
                    names.undefined(ctx, argument.span, argument.name)
                else:
                    message = f"there is no tile '{argument.name}' here"
                    advice = f"did you mean '{near}'?"
                    ctx.missing(Code.UNKNOWN_NAME, argument.span, argument.name, message, help=advice)
                return None
    elif ctx.value(ctx, argument) is None:
        return None
    if function in ("max", "min"):
        help: str | None = f"lane by lane, use '{function}imum(a, b)'; along a tile, '{function}(x, n)'"
    elif function in ("zeros", "full"):
        help = f"name the tiles that it varies over: '{function}(m, n{', value=1' if function == 'full' else ''})'"
    else:
        help = f"name the tile to go along: '{function}(x, n)'" if BUILTINS[function].arity[0] == 2 else None
    text = argument.span.text if len(argument.span.text) <= 30 else "this"
    ctx.error(
        Code.BAD_CALL, argument.span, f"'{function}' wants the name of a tile; '{text}' is none", help=help
    )
    return None


def _along(ctx: Context, node: ast.Call, operand: ir.Expr | None) -> tuple[ir.Tile, ...] | None:
    """The tiles that a reduction or scan names; the operand varies over each."""
    found = [_tile(ctx, node, argument) for argument in node.arguments[1:]]
    if operand is None or None in found:
        return None
    tiles = tuple(tile for tile in found if tile is not None)
    for tile, argument in zip(tiles, node.arguments[1:], strict=True):
        if tile not in operand.type.tiles:
            over = [other.name for other in operand.type.tiles if other not in tiles]
            ctx.error(
                Code.AXIS_MISMATCH,
                node.function.span,
                f"'{node.function.name}' goes along {tile.name}, over which {shown(node.arguments[0])} does not vary",
                Label(span=node.arguments[0].span, text=varies(operand.type.tiles)),
                Label(span=argument.span, text="this tile"),
                help=f"did you mean '{over[0]}'?" if over else None,
            )
            return None
    if len(set(tiles)) < len(tiles):
        ctx.error(Code.BAD_CALL, node.span, f"'{node.function.name}' names a tile twice")
        return None
    return tiles


def _reduce(ctx: Context, node: ast.Call, row: Reduction) -> ir.Expr | None:
    name = node.function.name
    operand = ctx.value(ctx, node.arguments[0])
    tiles = _along(ctx, node, operand)
    if operand is None or tiles is None:
        return None
    if not have_kinds(ctx, name, ((node.arguments[0], operand),), row.takes, node.span):
        return None
    dtype = operand.type.dtype
    if row.gives == "index":
        dtype = I32
    elif row.gives == "number":
        dtype = ctx.dtypes.promote(dtype, WEAK_INT)
    left = tuple(tile for tile in operand.type.tiles if tile not in tiles)
    type = ir.Type(dtype=dtype, tiles=left)
    return ir.Reduce(span=node.span, type=type, function=name, operand=operand, tiles=tiles)


def _scan(ctx: Context, node: ast.Call, row: Scan) -> ir.Expr | None:
    operand = ctx.value(ctx, node.arguments[0])
    tiles = _along(ctx, node, operand)
    if operand is None or tiles is None:
        return None
    name = node.function.name
    if not have_kinds(ctx, name, ((node.arguments[0], operand),), row.takes, node.span):
        return None
    type = ir.Type(dtype=ctx.dtypes.promote(operand.type.dtype, WEAK_INT), tiles=operand.type.tiles)
    return ir.Scan(span=node.span, type=type, function=name, operand=operand, tile=tiles[0])


def _lanes(ctx: Context, node: ast.Call, row: Lanes) -> ir.Expr | None:
    operand = ctx.value(ctx, node.arguments[0])
    tiles = _along(ctx, replace(node, arguments=node.arguments[:2]), operand)
    onto = _tile(ctx, node, node.arguments[2]) if row.onto else None
    if operand is None or tiles is None or (row.onto and onto is None):
        return None
    return lanes.call(ctx, node, row, operand, tiles[0], onto)


# dot


def _dot(ctx: Context, node: ast.Call) -> ir.Expr | None:
    arguments = _arguments(ctx, node.arguments)
    precision = _precision(ctx, node)
    if arguments is None:
        return None
    left, right = arguments
    shared = [tile for tile in left.type.tiles if tile in right.type.tiles]
    if len(shared) != 1:
        _report_shared(ctx, node, left, right, shared)
        return None
    (tile,) = shared
    categories = [ctx.dtypes.categories(side.type.dtype) for side in arguments]
    # Then they are alike in every call.
    same = left.type.dtype == right.type.dtype and not left.type.dtype.weak
    if not (same and 0 not in categories[0]) and categories not in ([{1}, {1}], [{2}, {2}]):
        _report_mixed(ctx, node, left, right)
        return None
    for argument, side in zip(node.arguments, arguments, strict=True):
        if side.type.dtype.weak:
            ctx.error(
                Code.DTYPE_MISMATCH,
                argument.span,
                f"'dot' multiplies what has a dtype; {shown(argument)} has none of its own",
                help=f"cast it: {'i32' if categories == [{1}, {1}] else 'f32'}({quoted(argument)})",
            )
            return None
    possible = [ctx.dtypes.possible(side.type.dtype) for side in arguments]
    narrow = [bool(names & {"f8e4m3", "f8e5m2"}) for names in possible]
    if narrow[0] != narrow[1]:
        which = 0 if narrow[0] else 1
        ctx.error(
            Code.DTYPE_MISMATCH,
            node.function.span,
            f"'dot' takes 8-bit floats on both sides or on none; {shown(node.arguments[which])} is "
            f"{arguments[which].type.dtype}",
            help=f"cast it: f16({quoted(node.arguments[which])})",
        )
        return None
    if not _check_contracted(ctx, node, left, right, tile, possible):
        return None
    tiles = union(
        tuple(other for other in left.type.tiles if other != tile),
        tuple(other for other in right.type.tiles if other != tile),
    )
    if not ctx.check_lanes(tiles, node.span):
        return None
    dtype = ctx.dtypes.accumulator(left.type.dtype, right.type.dtype)
    type = ir.Type(dtype=dtype, tiles=tiles)
    return ir.Dot(span=node.span, type=type, left=left, right=right, tile=tile, precision=precision)


def _report_mixed(ctx: Context, node: ast.Call, left: ir.Expr, right: ir.Expr) -> None:
    """A dot of a float with an integer, or of bools; a cast of one side to what the other is mends the first."""
    (a, b), help = node.arguments, None
    kinds = [ctx.dtypes.categories(side.type.dtype) for side in (left, right)]
    for to, this, written in ((left, right, b), (right, left, a)):
        dtype, found = to.type.dtype, ctx.dtypes.categories(to.type.dtype)
        if (
            0 not in found
            and STRING not in (dtype, this.type.dtype)
            and len(dtype.names) == 1
            and not dtype.weak
            and (help is None or found == {2})
        ):
            help = f"cast one of them: {dtype}({quoted(written)})"
    ctx.error(
        Code.DTYPE_MISMATCH,
        node.function.span,
        "'dot' multiplies floats with floats, or integers with integers",
        *(
            Label(span=written.span, text=f"is {ctx.dtypes.why(side.type.dtype, {0, 1, 2} - kind)}")
            if len(kind) == 1
            else Label(span=written.span, text=f"is {side.type.dtype}, which may be either")
            for written, side, kind in zip(node.arguments, (left, right), kinds, strict=True)
        ),
        help=help or f"cast both: i32({quoted(a)}) and i32({quoted(b)})",
    )


def _precision(ctx: Context, node: ast.Call) -> str | None:
    for keyword in node.keywords:
        match keyword.value:
            case ast.Literal(value=str(value)) if value in _PRECISIONS:
                return value
            case written:
                near = (
                    ctx.suggest(str(written.value), _PRECISIONS) if isinstance(written, ast.Literal) else None
                )
                ctx.error(
                    Code.BAD_VALUE,
                    written.span,
                    f"'precision' is one of {', '.join(repr(each) for each in _PRECISIONS)}",
                    help=f"did you mean '{near}'?" if near else None,
                )
    return None


def _check_contracted(
    ctx: Context, node: ast.Call, left: ir.Expr, right: ir.Expr, tile: ir.Tile, possible: list[frozenset[str]]
) -> bool:
    """Whether the block of the contracted tile is one that a matrix instruction takes."""
    if tile.block is None or len(left.type.tiles) != 2 or len(right.type.tiles) != 2:
        return True
    if possible[0] | possible[1] <= {"i32", "i64", "i16"}:
        return True
    eight = all(DTYPES[name].bits == 8 for names in possible for name in names)
    least = LEAST_DOT_8_BIT if eight else LEAST_DOT
    for size in ctx.block_sizes.get(tile.key, ()):
        if size is not None and 0 < size < least:
            ctx.error(
                Code.BAD_BLOCK,
                tile.block.span,
                f"'dot' contracts at least {least} lanes at a time; a block of {tile.name} has {size}",
                Label(span=node.function.span, text=f"contracts {tile.name}"),
                help=f"use a block of {least} or more",
            )
            return False
    return True


def _report_shared(
    ctx: Context, node: ast.Call, left: ir.Expr, right: ir.Expr, shared: list[ir.Tile]
) -> None:
    a, b = node.arguments
    verb = "share none" if not shared else f"share {listing(tile.name for tile in shared)}"
    fix = None
    if not shared:
        swapped = _swap(ctx, b, left, right) or _swap(ctx, a, right, left)
        fix = f"did you mean '{swapped}'?" if swapped else None
    elif len(shared) == 2:
        (kept, _), over = shared, ", ".join(tile.name for tile in shared)
        fix = (
            f"sum({quoted(a)} * {quoted(b)}, {over}) contracts both; for a matrix product with itself, "
            f"load one side with a tile of its own in place of '{kept.name}'"
        )
    ctx.error(
        Code.AXIS_MISMATCH,
        node.function.span,
        f"'dot' needs exactly one shared tile; {shown(a)} and {shown(b)} {verb}",
        Label(span=a.span, text=varies(left.type.tiles)),
        Label(span=b.span, text=varies(right.type.tiles)),
        help=fix,
    )


def _swap(ctx: Context, node: ast.Expr, other: ir.Expr, this: ir.Expr) -> str | None:
    """The load `node` with one tile replaced so that it shares exactly one with `other`."""
    if not isinstance(node, ast.Load) or not isinstance(this, ir.Load):
        return None
    tensor = ctx.tensor(node.tensor.name)
    if tensor is None:
        return None
    for at, (subscript, dim) in enumerate(zip(node.subscripts, tensor.dims, strict=True)):
        if not isinstance(subscript, ast.Name) or isinstance(dim, ir.RestDim):
            continue
        for tile in other.type.tiles:
            if ctx.bounds.equal(tile.stop, dim) and tile not in this.type.tiles:
                texts = [each.span.text for each in node.subscripts]
                texts[at] = tile.name
                return f"load {node.tensor.name}[{', '.join(texts)}]"
    return None

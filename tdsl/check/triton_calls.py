"""`tl.NAME(...)`: Triton called directly.

    tl.clamp(x, 0.0, 6.0)              lane by lane: x's tiles, the promotion of the arguments
    y: f32[n, m] = tl.trans(x)         what the author says
    y: f32[m, n] = tl.sort(x)          likewise, if no lane of x is outside of n, or `padded` says what those hold

What would break the guarantees of the language is refused: memory, programs, lanes that do not exist. What Triton has
is `triton_names`.
"""

from __future__ import annotations

from tdsl import ast, foreign, ir
from tdsl.builtins import BUILTINS
from tdsl.check import names, triton_names
from tdsl.check.dtypes import STRING
from tdsl.check.operands import lined_up
from tdsl.check.scope import Alias, Context, TileName, union
from tdsl.check.triton_names import Function
from tdsl.diagnostics import Code
from tdsl.types import LEAST_DOT, WEAK_FLOAT, WEAK_INT, DType


def annotated(ctx: Context, annotation: ast.TileType, node: ast.Expr) -> ir.Expr | None:
    """The value of `y: f32[m, n] = tl.NAME(...)`."""
    if not isinstance(node, ast.TritonCall):
        ctx.error(
            Code.BAD_VALUE,
            annotation.span,
            "only the result of a 'tl.' call is annotated; any other value has its type",
            help="leave the annotation out",
        )
        ctx.value(ctx, node)
        return None
    dtype = names.dtype(ctx, annotation.dtype)
    tiles = [_tile(ctx, ident) for ident in annotation.tiles]
    known = tuple(tile for tile in tiles if tile is not None)
    if dtype is None or len(known) < len(tiles):
        call(ctx, node, ir.Type(dtype=WEAK_FLOAT))
        return None
    if len(set(known)) < len(known):
        ctx.error(Code.BAD_TILE, annotation.span, "the annotation names a tile twice")
        return None
    return call(ctx, node, ir.Type(dtype=dtype, tiles=known))


def _tile(ctx: Context, ident: ast.Ident) -> ir.Tile | None:
    match ctx.lookup(ident.name):
        case (
            TileName(tile=ir.Tile(scalar=False) as tile)
            | Alias(value=ir.TileRef(tile=ir.Tile(scalar=False) as tile))
        ):
            return tile
        case TileName(tile=None) | Alias(value=None, dtype=None):
            return None
        case None:
            names.undefined(ctx, ident.span, ident.name)
        case TileName():
            ctx.error(Code.BAD_TILE, ident.span, f"'{ident.name}' is a single index, not a block of them")
        case _:
            ctx.error(Code.BAD_TILE, ident.span, f"'{ident.name}' is not a tile")
    return None


def call(ctx: Context, node: ast.TritonCall, annotation: ir.Type | None) -> ir.Expr | None:
    allowed = _is_allowed(ctx, node, annotation is not None)
    if node.name in triton_names.MEMORY or node.name.startswith("atomic_"):
        # A tensor there is no value; it is used, or written, all the same.
        tensors = ctx.blocks[0].names
        ctx.used.update(tensors)
        ctx.meant.update(tensors)
        return None
    arguments = [_argument(ctx, argument) for argument in node.arguments]
    keywords = [(keyword.name.name, _argument(ctx, keyword.value)) for keyword in node.keywords]
    seen: set[str] = set()
    for keyword in node.keywords:
        if keyword.name.name in seen:
            ctx.error(Code.BAD_CALL, keyword.span, f"'{keyword.name.name}=' is there twice")
            allowed = False
        seen.add(keyword.name.name)
    if not allowed:
        return None
    known = [argument for argument in arguments if argument is not None]
    named = [(name, value) for name, value in keywords if value is not None]
    if len(known) < len(arguments) or len(named) < len(keywords):
        return None
    function = triton_names.find(node.name)
    assert function is not None, "it is allowed"
    if not _fits(ctx, node, function, known, dict(named)):
        return None
    values = [
        value
        for value in (*known, *(value for _, value in named))
        if value.type.dtype != STRING and not isinstance(value, ir.TritonName)
    ]
    type = annotation
    if type is None:
        if not values:
            ctx.error(
                Code.BAD_CALL,
                node.span,
                f"what 'tl.{node.name}()' returns is not known",
                help=f"say it: y: f32[m] = {node.span.text}" if len(node.span.text) <= 40 else None,
            )
            return None
        dtype: DType = ctx.dtypes.promote(*(value.type.dtype for value in values))
        if dtype.weak:
            dtype = ctx.dtypes.promote(dtype, WEAK_FLOAT)
        lined = lined_up(ctx, node.span, dtype, values)
        if lined is None:
            return None
        type = ir.Type(dtype=lined.dtype, tiles=lined.tiles)
    elif not ctx.check_lanes(union(type.tiles, *(value.type.tiles for value in values)), node.span):
        return None
    return ir.TritonCall(
        span=node.span,
        type=type,
        name=node.name,
        by_lane=function.kind in ("lane", "typed"),
        arguments=tuple(known),
        keywords=tuple(named),
    )


def _argument(ctx: Context, node: ast.Expr) -> ir.Expr | None:
    if isinstance(node, ast.TritonName):
        if node.name not in triton_names.NAMES:
            near = ctx.suggest(node.name, triton_names.NAMES)
            help = f"did you mean 'tl.{near}'?" if near else None
            message = f"Triton has no dtype 'tl.{node.name}'"
            ctx.missing(Code.UNKNOWN_NAME, node.span, f"tl.{node.name}", message, help=help)
            return None
        return ir.TritonName(span=node.span, type=ir.Type(dtype=STRING, constant=True), name=node.name)
    return ctx.value(ctx, node)


def _is_allowed(ctx: Context, node: ast.TritonCall, annotated: bool) -> bool:
    """Whether a template may call the function, with as many arguments."""
    name = node.name
    last = name.rsplit(".", 1)[-1]
    function = triton_names.find(name)
    if any(part.startswith("_") for part in name.split(".")) or not name:
        ctx.error(Code.BAD_CALL, node.span, f"'tl.{name}' is Triton's own affair")
    elif name.startswith("atomic_"):
        message = f"'tl.{name}' writes to memory behind the compiler's back"
        ctx.error(Code.BAD_CALL, node.span, message, help=foreign.STATEMENTS["atomic_add"])
    elif name in triton_names.MEMORY:
        word = "store" if "store" in name else "load"
        message = f"'tl.{name}' touches memory behind the compiler's back"
        ctx.error(Code.BAD_CALL, node.span, message, help=foreign.STATEMENTS[word])
    elif name in triton_names.PROGRAM:
        own = name if name in BUILTINS else None
        help = f"tdsl has its own '{own}'" if own else foreign.function(name)
        ctx.error(Code.BAD_CALL, node.span, f"'tl.{name}' cannot be called from a template", help=help)
    elif name in triton_names.REDUCTIONS:
        message = f"'tl.{name}' would see the lanes outside of a tile"
        ctx.error(Code.BAD_CALL, node.span, message, help=f"use {triton_names.REDUCTIONS[name]}")
    elif name in triton_names.SEVERAL:
        ctx.error(
            Code.BAD_CALL,
            node.span,
            f"'tl.{name}' returns several blocks, and a template has no names for them",
        )
    elif function is None:
        _unknown(ctx, node, last)
    elif function.kind not in ("lane", "typed") and not annotated:
        own = last if last in BUILTINS else None
        help = f"tdsl has its own '{own}'" if own else "annotate it: y: f32[m, n] = tl..."
        ctx.error(Code.BAD_CALL, node.span, f"what 'tl.{name}' returns varies over other tiles", help=help)
    elif function.kind == "typed" and not annotated:
        help = f"annotate it: y: f32[m, n] = tl.{name}(...)"
        ctx.error(Code.BAD_CALL, node.span, f"the dtype of what 'tl.{name}' returns is not known", help=help)
    else:
        return _takes(ctx, node, function)
    return False


def _unknown(ctx: Context, node: ast.TritonCall, last: str) -> None:
    if last in BUILTINS:
        help: str | None = f"tdsl has its own '{last}'"
    elif foreign.function(last):
        help = foreign.function(last)
    else:
        here = triton_names.TRITON_FUNCTIONS
        if node.name.startswith(triton_names.LIBDEVICES):
            here = dict.fromkeys(triton_names.LIBDEVICE, triton_names.Function("lane", ("x",)))
        near = ctx.suggest(last, here)
        prefix = node.name.removesuffix(last) if node.name.startswith(triton_names.LIBDEVICES) else ""
        help = f"did you mean 'tl.{prefix}{near}'?" if near else None
    where = "that runs on every target" if node.name.startswith("extra.") else "that a template can call"
    message = f"Triton has no 'tl.{node.name}' {where}"
    ctx.missing(Code.UNKNOWN_NAME, node.span, f"tl.{node.name}", message, help=help)


def _takes(ctx: Context, node: ast.TritonCall, function: Function) -> bool:
    """Whether each parameter is given once, and strings where there may be some."""
    free = "*" in function.takes
    takes = [each for each in function.takes if each != "*"]
    parameters = [each.removesuffix("=") for each in takes]
    given = dict(zip(parameters, node.arguments, strict=False))
    if len(node.arguments) > len(parameters) and not free:
        count = len(node.arguments)
        message = f"'tl.{node.name}' takes {', '.join(takes)}; this has {count} arguments"
        ctx.error(Code.BAD_CALL, node.span, message)
        return False
    for keyword in node.keywords:
        word = keyword.name.name
        if word not in parameters or word in given:
            message = (
                f"'tl.{node.name}' has '{word}=' twice"
                if word in given
                else f"'tl.{node.name}' has no '{word}='"
            )
            near = None if word in given else ctx.suggest(word, parameters)
            ctx.error(Code.BAD_CALL, keyword.span, message, help=f"did you mean '{near}='?" if near else None)
            return False
        given[word] = keyword.value
    missing = [each for each in takes if not each.endswith("=") and each not in given]
    if missing:
        message = f"'tl.{node.name}' lacks {', '.join(repr(each) for each in missing)}"
        ctx.error(Code.BAD_CALL, node.span, message)
        return False
    return True


def _fits(
    ctx: Context,
    node: ast.TritonCall,
    function: Function,
    arguments: list[ir.Expr],
    keywords: dict[str, ir.Expr],
) -> bool:
    """Whether strings are where Triton takes one, libdevice gets its dtypes, and no lane outside is seen."""
    parameters = [each.removesuffix("=") for each in function.takes]
    given = [*zip(parameters, arguments, strict=False), *keywords.items()]
    for name, value in given:
        if (
            value.type.dtype == STRING
            and not isinstance(value, ir.TritonName)
            and name not in triton_names.STRINGS
        ):
            ctx.error(Code.DTYPE_MISMATCH, value.span, f"'tl.{node.name}' takes no string as '{name}'")
            return False
    dtypes = triton_names.dtypes(node.name)
    if dtypes is not None:
        for name, value in given:
            option = name in ("dim", "keep_dims", "ieee_rounding")
            if not option and not ctx.dtypes.possible(value.type.dtype) <= dtypes:
                wanted = " or ".join(sorted(each for each in dtypes if each[0] != "~"))
                message = f"'tl.{node.name}' takes {wanted}; this is {value.type.dtype}"
                cast = "i32" if "i32" in dtypes else "f32"
                help = f"cast it: {cast}({value.span.text})" if len(value.span.text) <= 40 else None
                ctx.error(Code.DTYPE_MISMATCH, value.span, message, help=help)
                return False
    if function.kind not in ("along", "across"):
        return True
    axis = dict(given).get("axis", dict(given).get("dim"))
    for name, value in given:
        for tile in _seen(function, name, value, axis):
            if tile.key not in _padded(ctx, value) and not _is_full(ctx, tile):
                own = (
                    f"use {node.name}(x, {tile.name}{', j' if node.name in _ONTO else ''}), or "
                    if node.name in BUILTINS
                    else ""
                )
                if node.name == "gather":
                    own = f"use take(x, {tile.name}, i), or "
                ctx.error(
                    Code.BAD_CALL,
                    value.span,
                    f"'tl.{node.name}' would see the lanes outside of {tile.name}",
                    help=f"{own}say what they hold, such as padded(x, {tile.name}, value=0)",
                )
                return False
    if node.name == "topk":
        k = dict(given)["k"]
        if (
            isinstance(k, ir.Constant)
            and isinstance(k.value, int)
            and (k.value < 1 or k.value & (k.value - 1))
        ):
            message = f"'tl.topk' gives a power of two of lanes, not {k.value}"
            ctx.error(Code.BAD_VALUE, k.span, message, help="use topk(x, n, j), with j = whole(...)")
            return False
    return True


_ONTO = ("topk", "histogram")
# By `dot_scaled`; `dot` has a built-in.
_CONTRACTED = {"lhs": -1, "lhs_scale": -1, "rhs": -2, "rhs_scale": -1}


def _seen(function: Function, name: str, value: ir.Expr, axis: ir.Expr | None) -> tuple[ir.Tile, ...]:
    """The tiles of an argument across which the function looks; all of them if it does not say."""
    tiles = value.type.tiles
    if "lhs" in function.takes:
        contracted = _CONTRACTED.get(name)
        return (tiles[contracted],) if contracted is not None and len(tiles) == 2 else ()
    at = function.axis
    if isinstance(axis, ir.Constant) and isinstance(axis.value, int):
        at = axis.value
    elif isinstance(axis, ir.Unary) and axis.op == "-" and isinstance(axis.operand, ir.Constant):
        at = -int(axis.operand.value)
    elif axis is not None:
        at = None
    if function.kind == "along" and at is not None and -len(tiles) <= at < len(tiles):
        return (tiles[at],)
    return tiles


def _padded(ctx: Context, value: ir.Expr) -> frozenset[str]:
    """The tiles outside which every lane of a block holds what the author says."""
    match value:
        case ir.Along(function="padded", operand=operand, tile=tile):
            return _padded(ctx, operand) | {tile.key}
        case ir.Cast(operand=operand):
            return _padded(ctx, operand)
        case ir.VarRef(name=name) if name in ctx.definitions:
            return _padded(ctx, ctx.definitions[name])
        case _:
            return frozenset()


def _is_full(ctx: Context, tile: ir.Tile) -> bool:
    """Whether the blocks of a tile are proven to have no lane outside of its range."""
    if tile.role == "whole":
        # A dot wants a block of so many lanes of a smaller tile, too.
        stop = tile.stop
        return (
            isinstance(stop, ir.Constant)
            and isinstance(stop.value, int)
            and stop.value >= LEAST_DOT
            and stop.value & (stop.value - 1) == 0
        )
    assert tile.block is not None, "a tile of lanes has a block"
    exact = ir.Type(dtype=WEAK_INT, constant=True)
    one = ir.Constant(span=tile.span, type=exact, value=1)

    def binary(op: str, left: ir.Expr, right: ir.Expr) -> ir.Expr:
        return ir.Binary(span=tile.span, type=exact, op=op, left=left, right=right)

    def divides(block: ir.Expr) -> bool:
        rests = [
            binary("-", edge, binary("*", block, binary("//", edge, block)))
            for edge in (tile.start, tile.stop)
        ]
        return all(ctx.bounds.shortfall(rest, one, ()) is None for rest in rests)

    sizes = ctx.block_sizes.get(tile.key, ())
    known = [
        ir.Constant(span=tile.span, type=exact, value=size) for size in sizes if size is not None and size > 0
    ]
    return divides(tile.block) or (0 < len(sizes) == len(known) and all(map(divides, known)))

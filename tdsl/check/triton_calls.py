"""`tl.NAME(...)`: Triton called directly.

    tl.clamp(x, 0.0, 6.0)              lane by lane: x's tiles, the promotion of the arguments
    y: f32[m, n] = tl.whatever(x)      what the author says; lanes outside of a tile are visible to it

What would break the guarantees of the language is refused: memory, programs, reductions.
"""

from __future__ import annotations

from tdsl import ast, ir
from tdsl.check import names
from tdsl.check.dtypes import STRING
from tdsl.check.operands import lined_up
from tdsl.check.scope import Alias, Context, TileName, union
from tdsl.diagnostics import Code
from tdsl.types import WEAK_FLOAT, DType

_MEMORY = (
    *("load", "store", "make_block_ptr", "advance", "make_tensor_descriptor", "load_tensor_descriptor"),
    *("store_tensor_descriptor", "descriptor_load", "descriptor_store"),
)
_PROGRAM = (
    *("program_id", "num_programs", "debug_barrier", "inline_asm_elementwise", "range", "static_range"),
    *("constexpr", "tensor", "static_assert", "static_print", "device_print", "device_assert", "jit"),
    *("condition", "core", "semantic", "pointer_type", "const", "map_elementwise"),
)
_REDUCTIONS = {
    "sum": "sum(x, n)",
    "max": "max(x, n)",
    "min": "min(x, n)",
    "argmax": "argmax(x, n)",
    "argmin": "argmin(x, n)",
    "cumsum": "cumsum(x, n)",
    "reduce": "sum(x, n) or max(x, n)",
    "xor_sum": None,
    "reduce_or": None,
}
_BLOCKS = (
    *("cumprod", "associative_scan", "sort", "topk", "flip", "histogram", "gather", "trans", "permute"),
    *("reshape", "view", "ravel", "expand_dims", "broadcast", "broadcast_to", "cat", "join", "split"),
    *("interleave", "dot", "dot_scaled", "arange", "zeros", "zeros_like", "full", "full_like", "swizzle2d"),
    *("softmax", "rand", "randn", "randint", "rand4x", "randint4x", "randn4x"),
)


def annotated(ctx: Context, annotation: ast.TileType, node: ast.Expr) -> ir.Expr | None:
    """The value of `y: f32[m, n] = tl.NAME(...)`."""
    dtype = names.dtype(ctx, annotation.dtype)
    tiles = [_tile(ctx, ident) for ident in annotation.tiles]
    if not isinstance(node, ast.TritonCall):
        ctx.error(
            Code.BAD_VALUE,
            annotation.span,
            "only the result of a 'tl.' call is annotated; any other value has its type",
            help="leave the annotation out",
        )
        ctx.value(ctx, node)
        return None
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
        span=node.span, type=type, name=node.name, arguments=tuple(known), keywords=tuple(named)
    )


def _argument(ctx: Context, node: ast.Expr) -> ir.Expr | None:
    if isinstance(node, ast.TritonName):
        return ir.TritonName(span=node.span, type=ir.Type(dtype=STRING, constant=True), name=node.name)
    return ctx.value(ctx, node)


def _is_allowed(ctx: Context, node: ast.TritonCall, annotated: bool) -> bool:
    last = node.name.rsplit(".", 1)[-1]
    if any(part.startswith("_") for part in node.name.split(".")) or not node.name:
        ctx.error(Code.BAD_CALL, node.span, f"'tl.{node.name}' is Triton's own affair")
    elif last.startswith("atomic_"):
        message = f"'tl.{node.name}' writes to memory behind the compiler's back"
        ctx.error(Code.BAD_CALL, node.span, message, help="use 'accumulate C[m] += value'")
    elif last in _MEMORY:
        word = "store" if "store" in last else "load"
        message = f"'tl.{node.name}' touches memory behind the compiler's back"
        ctx.error(Code.BAD_CALL, node.span, message, help=f"use '{word} A[m, n]'")
    elif last in _PROGRAM:
        ctx.error(Code.BAD_CALL, node.span, f"'tl.{node.name}' cannot be called from a template")
    elif last in _REDUCTIONS:
        message = f"'tl.{node.name}' would see the lanes outside of a tile"
        use = _REDUCTIONS[last]
        ctx.error(Code.BAD_CALL, node.span, message, help=f"use {use}" if use else None)
    elif last in _BLOCKS and not annotated:
        near = ctx.suggest(last, names.FUNCTIONS)
        help = (
            f"tdsl has its own '{near}'"
            if near == last
            else "annotate it: y: f32[m, n] = tl...; it sees lanes outside"
        )
        ctx.error(
            Code.BAD_CALL, node.span, f"what 'tl.{node.name}' returns varies over other tiles", help=help
        )
    else:
        return True
    return False

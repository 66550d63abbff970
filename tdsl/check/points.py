"""Load and store points: subscripts, their bounds, and what may be read or written where.

    load A[m, k]            Load(A, point A): T[m, k], each subscript proven in bounds
    store C[m, n] = acc     Store(C): m covers M, n covers N, acc varies over no other tile

The proof itself is `bounds`; that every output is stored exactly once is `coverage`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from tdsl import ast, ir
from tdsl.check.bounds import Bounds, Shortfall
from tdsl.check.dtypes import STRING
from tdsl.check.names import undefined
from tdsl.check.scope import (
    MAX_MISTAKES,
    Context,
    LoadPoint,
    Parameter,
    StorePoint,
    describe,
    listing,
    quoted,
    shown,
    union,
    varies,
)
from tdsl.diagnostics import Code, Label
from tdsl.source import Span
from tdsl.types import WEAK_INT

_MAX_GUARDS = 8  # that are tried
_MAX_STEPS = 2_000  # of the proof with each
_WAYS_OUT = (
    "to write a part, give that part an output of its own, pass it as 'inout', or add with 'accumulate'"
)
_ACCUMULATED = frozenset({"f32", "f64", "i32", "i64"})


def load(ctx: Context, node: ast.Load) -> ir.Expr | None:
    tensor = _tensor(ctx, node.tensor, "load")
    values = [ctx.value(ctx, subscript) for subscript in node.subscripts]
    otherwise = None if node.otherwise is None else ctx.value(ctx, node.otherwise)
    if tensor is None or not _may_load(ctx, node, tensor) or _is_broken(ctx, tensor):
        return None
    if not _check_rank(ctx, tensor, node.subscripts, node.span):
        return None
    if not _check_subscripts(ctx, node.subscripts, values):
        return None
    if node.otherwise is not None:
        if otherwise is None:
            return None
        if otherwise.type.tiles:
            ctx.error(
                Code.AXIS_MISMATCH,
                node.otherwise.span,
                f"what to read outside is one scalar; this {varies(otherwise.type.tiles)}",
                help="choose lane by lane with where(condition, a, b)",
            )
            return None
        if otherwise.type.dtype == STRING or not ctx.dtypes.keeps(tensor.dtype, otherwise.type.dtype):
            ctx.error(
                Code.DTYPE_MISMATCH,
                node.otherwise.span,
                f"{otherwise.type.dtype} does not fit into {tensor.dtype}, the dtype of {tensor.name}",
                help=f"cast it: {tensor.dtype}({quoted(node.otherwise)})",
            )
            return None
    subscripts: list[ir.Subscript] = []
    safe = True
    for at, (written, value) in enumerate(zip(node.subscripts, values, strict=True)):
        assert value is not None, "all subscripts are known"
        shortfall = ctx.shortfall(value, size(tensor.dims[at]))
        subscripts.append(ir.Subscript(span=written.span, value=value, in_bounds=shortfall is None))
        if shortfall is not None and otherwise is None and not node.unchecked:
            dim = size(tensor.dims[at])
            missing = _missing_guard(ctx, value, dim)
            help = _remedies(ctx, node, value, dim)
            out_of_bounds(ctx, written, value, tensor, at, shortfall, missing, help)
            safe = False
    if not safe or not _check_needed(ctx, node, subscripts):
        return None
    tiles = union((), *(subscript.value.type.tiles for subscript in subscripts))
    if not ctx.check_lanes(tiles, node.span):
        return None
    made = ir.Load(
        span=node.span,
        type=ir.Type(dtype=tensor.dtype, tiles=tiles),
        point=ctx.point(tensor.name),
        param=tensor.name,
        subscripts=tuple(subscripts),
        otherwise=otherwise,
        unchecked=node.unchecked,
        fuse=node.fuse,
        nofuse=node.nofuse,
    )
    if tensor.inout:
        ctx.inout_loads.setdefault(tensor.name, []).append(LoadPoint(made, ctx.path))
    return made


def _check_needed(ctx: Context, node: ast.Load | ast.Accumulate, subscripts: list[ir.Subscript]) -> bool:
    """Whether a point that says what holds outside may be outside. Else its author is mistaken about something."""
    otherwise = node.otherwise if isinstance(node, ast.Load) else None
    skip = isinstance(node, ast.Accumulate) and node.skip
    says = otherwise is not None or skip or node.unchecked
    if not says or not all(item.in_bounds for item in subscripts) or not ctx.is_telling():
        return True
    if otherwise is not None:
        option, message = (
            f"else {quoted(otherwise)}",
            "this is never read: every subscript is proven to be inside",
        )
    else:
        option = "else skip" if skip else "unchecked"
        message = f"'{option}' says nothing: every subscript is proven to be inside"
    ctx.error(
        Code.NEEDLESS_OPTION,
        node.span if otherwise is None else otherwise.span,
        message,
        help=f"take '{option}' away",
    )
    return False


def _remedies(ctx: Context, node: ast.Load, value: ir.Expr, dim: ir.Expr) -> str:
    """What to do about a subscript that is not proven."""
    general = f"add 'else 0' after {shown(node)}, or 'unchecked'"
    if isinstance(value, ir.TileRef):
        for tile in ctx.loops:
            if ctx.shortfall(replace(value, tile=tile), dim) is None:
                return f"did you mean '{tile.name}'? Else {general}"
    return general


def _missing_guard(ctx: Context, value: ir.Expr, dim: ir.Expr) -> tuple[str, ir.Expr | None] | None:
    """A condition that the template may have forgotten to ask for, with which the subscript is proven; and what it
    asks to be positive, if it is that."""
    if len(ctx.report) > MAX_MISTAKES:
        return None
    facts = ctx.bounds.facts
    for guard, text, positive in itertools.islice(_guards(value, dim), _MAX_GUARDS):
        more = replace(facts, guards=(*facts.guards, guard))
        match guard:
            case ir.Binary(op="==", left=ir.Binary(op="%", right=divisor)):
                more = replace(more, divisors=(*facts.divisors, divisor))
        if Bounds(more, _MAX_STEPS).shortfall(value, dim, ctx.loops, ctx.conditions) is None:
            return text, positive
    return None


def _guards(value: ir.Expr, dim: ir.Expr) -> Iterator[tuple[ir.Expr, str, ir.Expr | None]]:
    def compared(op: str, left: ir.Expr, right: ir.Expr) -> ir.Expr:
        return ir.Binary(span=value.span, type=value.type, op=op, left=left, right=right)

    zero = ir.Constant(span=value.span, type=value.type, value=0)
    if isinstance(value, ir.Constant):
        yield compared(">", dim, value), f"{_text(dim)} > {value.value}", None
        return
    parts = [*ir.walk(dim), *ir.walk(value)]
    divisors = [part.right for part in parts if isinstance(part, ir.Binary) and part.op in ("//", "%")]
    sizes = [part for part in parts if isinstance(part, ir.DimRef | ir.ParamRef)]
    asked: list[ir.Expr] = []
    for each in (*divisors, *sizes):
        if _is_settled(each) and not isinstance(each, ir.Constant) and each not in asked:
            asked.append(each)
            yield compared(">", each, zero), f"{each.span.text} > 0", each
    for part in parts:
        match part:
            case (
                ir.Binary(op="//", left=ir.TileRef(tile=ir.Tile(stop=whole)), right=divisor)
                | ir.Binary(op="//", left=whole, right=divisor)
            ) if _is_settled(whole) and _is_settled(divisor):
                remainder = compared("%", whole, divisor)
                yield compared("==", remainder, zero), f"{_text(whole)} % {_text(divisor)} == 0", None


def _is_settled(expr: ir.Expr) -> bool:
    """Whether a call settles it, so that a guard can be about it."""
    return all(isinstance(node, ir.Constant | ir.DimRef | ir.ParamRef | ir.Binary) for node in ir.walk(expr))


def _text(expr: ir.Expr) -> str:
    text = expr.span.text
    return text if text.isidentifier() or text.isdigit() else f"({text})"


def _is_broken(ctx: Context, tensor: ir.Tensor) -> bool:
    symbol = ctx.blocks[0].names.get(tensor.name)
    return isinstance(symbol, Parameter) and symbol.broken


def _may_load(ctx: Context, node: ast.Load, tensor: ir.Tensor) -> bool:
    if ctx.place in ("signature", "grid"):
        ctx.error(
            Code.BAD_POINT,
            node.span,
            "there is nothing to load before the programs start",
            help="sizes come from dimensions and parameters",
        )
        return False
    if tensor.optional and tensor.name not in ctx.present:
        ctx.error(
            Code.BAD_POINT,
            node.tensor.span,
            f"'{tensor.name}' may be None",
            Label(span=tensor.span, text="optional"),
            help=f"test it with 'if {tensor.name}:', alone or with compile-time conditions",
        )
        return False
    return True


def _tensor(ctx: Context, ident: ast.Ident, verb: str) -> ir.Tensor | None:
    """The tensor that a point names, if the point may be there."""
    if ctx.place == "helper":
        return None  # reported where the helper is defined
    symbol = ctx.lookup(ident.name)
    tensors = [
        name
        for name, known in ctx.blocks[0].names.items()
        if isinstance(known, Parameter)
        and isinstance(known.node, ir.Tensor)
        and ((known.kind == "input") if verb == "load" else (known.kind == "output" or known.node.inout))
    ]
    if symbol is None:
        near = ctx.suggest(ident.name, tensors)
        ctx.used.update(tensors)  # one of them was meant, so that it is not unused
        if near is None and ident.name in ctx.gone:
            undefined(ctx, ident.span, ident.name)
        else:
            ctx.meant.update([near] if near else tensors)
            ctx.missing(
                Code.UNKNOWN_NAME,
                ident.span,
                ident.name,
                f"there is no tensor '{ident.name}'",
                help=f"did you mean '{near}'?" if near else None,
            )
        return None
    if ident.name in ctx.duplicated:
        return None
    if not isinstance(symbol, Parameter) or not isinstance(symbol.node, ir.Tensor):
        ctx.error(Code.BAD_POINT, ident.span, f"'{ident.name}' is {describe(symbol)}, not a tensor")
        return None
    if verb == "load" and symbol.kind == "output":
        ctx.error(
            Code.BAD_POINT,
            ident.span,
            f"'{ident.name}' is an output; it cannot be read",
            help="keep the value in a variable, or declare an 'inout' parameter",
        )
        return None
    if verb != "load" and symbol.kind == "input" and not symbol.node.inout:
        help = f"declare it with 'inout': 'inout {symbol.span.text}'" if verb == "store" else None
        ctx.error(Code.BAD_POINT, ident.span, f"'{ident.name}' is an input; it cannot be written", help=help)
        return None
    if verb == "accumulate" and symbol.node.inout:
        ctx.meant.add(ident.name)  # so that it is not one more mistake that it is never stored
        ctx.error(
            Code.BAD_POINT,
            ident.span,
            f"'accumulate' adds to an output, which starts at zero; '{ident.name}' is an 'inout' parameter",
            help=f"write 'store {ident.name}[...] = load {ident.name}[...] + ...'",
        )
        return None
    return symbol.node


def size(dim: ir.Expr | ir.RestDim) -> ir.Expr:
    """A dimension as a number; of `R...`, the product of what it stands for."""
    if isinstance(dim, ir.RestDim):
        return ir.DimRef(span=dim.span, type=ir.Type(dtype=WEAK_INT, constant=True), name=dim.name)
    return dim


def _dims(tensor: ir.Tensor) -> str:
    return f"[{', '.join(dim.span.text for dim in tensor.dims)}]"


def _check_rank(ctx: Context, tensor: ir.Tensor, subscripts: tuple[ast.Expr, ...], span: Span) -> bool:
    if len(subscripts) == len(tensor.dims):
        return True
    count = len(tensor.dims)
    rest = next((dim.name for dim in tensor.dims if isinstance(dim, ir.RestDim)), None)
    ctx.error(
        Code.WRONG_RANK,
        span,
        f"'{tensor.name}' has {count} dimension{'' if count == 1 else 's'}, {_dims(tensor)}; "
        f"here {'is' if len(subscripts) == 1 else 'are'} {len(subscripts)} "
        f"subscript{'' if len(subscripts) == 1 else 's'}",
        Label(span=tensor.span, text="declared here"),
        help=f"'{rest}...' counts as one dimension" if rest and len(subscripts) > count else None,
    )
    return False


def _check_subscripts(ctx: Context, written: tuple[ast.Expr, ...], values: list[ir.Expr | None]) -> bool:
    good = True
    for node, value in zip(written, values, strict=True):
        if value is None:
            good = False
        elif not ctx.dtypes.is_integer(value.type.dtype):
            ctx.error(
                Code.DTYPE_MISMATCH,
                node.span,
                f"a subscript is an integer; this is {ctx.dtypes.why(value.type.dtype, {0, 2})}",
                help="'//' divides integers" if isinstance(value, ir.Binary) and value.op == "/" else None,
            )
            good = False
    return good


def out_of_bounds(
    ctx: Context,
    written: ast.Expr,
    value: ir.Expr,
    tensor: ir.Tensor,
    at: int,
    shortfall: Shortfall,
    missing: tuple[str, ir.Expr | None] | None,
    help: str,
) -> None:
    """`missing`: see `_missing_guard`; `help`: what else to do."""
    dim = tensor.dims[at]
    guard, positive = missing if missing is not None else (None, None)
    if guard is not None:
        help = f"if it is so, say it in a guard, 'where {guard}'; else {help}"
    text = written.span.text if len(written.span.text) <= 40 else "this"
    where = f"dimension {at} of {tensor.name} is {dim.span.text}"
    divisor = _unproven_divisor(ctx, value) if shortfall.extreme is None and positive is None else None
    if positive is not None:
        may_be = "0" if ctx.bounds.at_least(positive, 0, ctx.loops, ctx.conditions) else "0 or less"
        message = f"'{text}' may be outside, as {positive.span.text} may be {may_be}; {where}"
    elif divisor is not None:
        message = f"'{text}' divides by '{divisor.span.text}', which cannot be shown to be positive"
    elif shortfall.extreme is None:
        loaded = _loaded(value)
        if loaded == f"'{text}'":
            message = f"'{text}' is what a tensor holds and may be anything; {where}"
        elif loaded is not None:
            message = f"'{text}' depends on what {loaded} holds and may be anything; {where}"
        elif shortfall.below:
            message = f"'{text}' cannot be shown to be at least 0"
        else:
            message = f"'{text}' cannot be shown to stay inside; {where}"
    elif shortfall.below:
        known = shortfall.extreme.lstrip("-").isdigit()
        message = f"'{text}' may be {shortfall.extreme if known else 'less than 0'}"
    elif isinstance(value, ir.Constant):
        message = (
            f"{value.value} is inside only where {dim.span.text}, dimension {at} of {tensor.name}, is larger"
        )
    elif shortfall.extreme == text:
        message = f"'{text}' cannot be shown to stay inside; {where}"
    elif isinstance(value, ir.TileRef) and shortfall.extreme.endswith(" - 1"):
        message = f"'{text}' goes up to {shortfall.extreme.removesuffix(' - 1')}; {where}"
    else:
        message = f"'{text}' may be {shortfall.extreme}; {where}"
    ctx.error(
        Code.OUT_OF_BOUNDS,
        written.span,
        message,
        Label(span=dim.span, text=f"{tensor.name}'s dimension"),
        help=help,
    )


def _unproven_divisor(ctx: Context, value: ir.Expr) -> ir.Expr | None:
    for node in ir.walk(value):
        match node:
            case ir.Binary(op="//" | "%", right=divisor) if not ctx.bounds.at_least(
                divisor, 1, ctx.loops, ctx.conditions
            ):
                return divisor
    return None


def _loaded(value: ir.Expr) -> str | None:
    for node in ir.walk(value):
        if isinstance(node, ir.Load):
            return node.param
        if isinstance(node, ir.VarRef) and not node.type.dtype.weak:
            return f"'{node.name}'"
    return None


# Writing


def store(ctx: Context, node: ast.Store) -> ir.Statement | None:
    tensor = _tensor(ctx, node.tensor, "store")
    values = [ctx.value(ctx, subscript) for subscript in node.subscripts]
    value = ctx.value(ctx, node.value)
    if tensor is None:
        return None
    point = StorePoint(node.span, ctx.path, None)
    ctx.stores.setdefault(tensor.name, []).append(point)
    if _is_broken(ctx, tensor) or not _check_rank(ctx, tensor, node.subscripts, node.span):
        return None
    if not _check_subscripts(ctx, node.subscripts, values):
        return None
    known = [each for each in values if each is not None]
    if not _covers(ctx, node, tensor, known):
        return None
    subscripts = tuple(
        ir.Subscript(span=written.span, value=each, in_bounds=True)
        for written, each in zip(node.subscripts, known, strict=True)
    )
    point.subscripts = subscripts
    tiles = union((), *(each.type.tiles for each in known))
    if value is None or not _check_stored(ctx, node, value, tiles) or not ctx.check_lanes(tiles, node.span):
        return None
    return ir.Store(
        span=node.span, param=tensor.name, subscripts=subscripts, tiles=tiles, value=value, nofuse=node.nofuse
    )


def _check_stored(
    ctx: Context, node: ast.Store | ast.Accumulate, value: ir.Expr, tiles: tuple[ir.Tile, ...]
) -> bool:
    if value.type.dtype == STRING:
        ctx.error(Code.DTYPE_MISMATCH, node.value.span, "a tensor cannot hold a string")
        return False
    extra = [tile for tile in value.type.tiles if tile not in tiles]
    if not extra:
        return True
    over = ", ".join(tile.name for tile in extra)
    reduced = f"sum({quoted(node.value)}, {over})"
    verb = "stored" if isinstance(node, ast.Store) else "added"
    ctx.error(
        Code.AXIS_MISMATCH,
        node.value.span,
        f"the value {verb} also varies over {listing(tile.name for tile in extra)}, and {node.tensor.name} does not",
        help=f"reduce it, such as {reduced}",
    )
    return False


def _covers(ctx: Context, node: ast.Store, tensor: ir.Tensor, values: list[ir.Expr]) -> bool:
    """Whether this store writes each element of its tensor exactly once."""
    named: list[ir.Tile] = []
    good = True
    for at, (written, value) in enumerate(zip(node.subscripts, values, strict=True)):
        dim = tensor.dims[at]
        match value:
            case ir.TileRef(tile=tile) if tile in named:
                ctx.error(
                    Code.PARTIAL_STORE,
                    written.span,
                    f"'{tile.name}' is two subscripts; this stores a diagonal of {tensor.name}",
                    help=f"store it over two tiles, and zero elsewhere: where({tile.name} == j, ..., 0)",
                )
                good = False
            case ir.TileRef(tile=tile):
                while (block := _walked(tile)) is not None and block not in named:
                    named.append(tile)
                    tile = block
                part = _cut(ctx, tile, size(dim), named)
                named.append(tile)
                if part is not None:
                    named.append(part)
                else:
                    good = _covers_dim(ctx, written, tensor, at, tile) and good
            case ir.Constant(value=0) if isinstance(dim, ir.Constant) and dim.value == 1:
                pass
            case _:
                text = written.span.text if len(written.span.text) <= 30 else "this"
                ctx.error(
                    Code.PARTIAL_STORE,
                    written.span,
                    f"'{text}' does not cover dimension {at} of {tensor.name}, {dim.span.text}",
                    help=f"a subscript of a store is a tile over the whole dimension; {_WAYS_OUT}",
                )
                good = False
    for tile in ctx.loops if good else ():
        if tile not in named and not _single(tile):
            loop = "the grid" if tile.role == "grid" else "its loop"
            ctx.error(
                Code.STORED_TWICE,
                node.span,
                f"{tensor.name} does not vary over {tile.name}, so this stores it once for every {tile.name}",
                Label(span=tile.span, text=f"{tile.name} comes from here"),
                help=f"store it outside of {loop}"
                if tile.role == "loop"
                else f"add up with 'accumulate {tensor.name}[...] += ...'",
            )
            return False
    return good


def _single(tile: ir.Tile) -> bool:
    """Whether a tile is one block, whatever the sizes."""
    match tile:
        case ir.Tile(start=ir.Constant(value=0), stop=ir.Constant(value=1)):
            return True
        case _:
            return False


def _walked(tile: ir.Tile) -> ir.Tile | None:
    """The tile whose block the loop of `tile` walks: `m` of `for i in m.start to m.stop`."""
    match tile:
        case ir.Tile(start=ir.TileEdge(tile=first, edge="start"), stop=ir.TileEdge(tile=last, edge="stop")):
            return first if first == last else None
    return None


def _cut(ctx: Context, tile: ir.Tile, dim: ir.Expr, named: list[ir.Tile]) -> ir.Tile | None:
    """The loop around whose every index gives `tile` the next part of a dimension: `g * W to (g + 1) * W`."""
    for part in ctx.loops:
        if (
            not part.scalar
            or part in named
            or not (isinstance(part.start, ir.Constant) and part.start.value == 0)
        ):
            continue
        index = ir.TileRef(span=tile.span, type=ir.Type(dtype=WEAK_INT), tile=part)
        if any(node == index for node in ir.walk(tile.start)) and ctx.bounds.divides(
            index, part.stop, dim, tile
        ):
            return part
    return None


def _covers_dim(ctx: Context, written: ast.Expr, tensor: ir.Tensor, at: int, tile: ir.Tile) -> bool:
    dim = tensor.dims[at]
    zero = isinstance(tile.start, ir.Constant) and tile.start.value == 0
    if zero and ctx.bounds.equal(tile.stop, size(dim)):
        return True
    reference = ir.TileRef(span=written.span, type=ir.Type(dtype=WEAK_INT, tiles=(tile,)), tile=tile)
    if tile.scalar:
        reference = replace(reference, type=ir.Type(dtype=WEAK_INT))
    shortfall = ctx.shortfall(reference, size(dim))
    if shortfall is not None and tile.role == "grid":
        help = f"go from 0 to {dim.span.text}"
        out_of_bounds(ctx, written, reference, tensor, at, shortfall, None, help)
        return False
    code = Code.PARTIAL_STORE if shortfall is None else Code.OUT_OF_BOUNDS
    start, stop = tile.start.span.text if not zero else "0", tile.stop.span.text
    ctx.error(
        code,
        written.span,
        f"'{tile.name}' goes from {start} to {stop}; dimension {at} of {tensor.name} is 0 to {dim.span.text}",
        Label(span=dim.span, text=f"{tensor.name}'s dimension"),
        help=f"go over the whole dimension, with 'else' at loads that may be outside; {_WAYS_OUT}"
        if shortfall is None
        else f"go from 0 to {dim.span.text}",
    )
    return False


def accumulate(ctx: Context, node: ast.Accumulate) -> ir.Statement | None:
    tensor = _tensor(ctx, node.tensor, "accumulate")
    values = [ctx.value(ctx, subscript) for subscript in node.subscripts]
    value = ctx.value(ctx, node.value)
    if tensor is None:
        return None
    ctx.accumulates.setdefault(tensor.name, []).append(node.span)
    if _is_broken(ctx, tensor):
        return None
    wrong = sorted(ctx.dtypes.possible(tensor.dtype) - _ACCUMULATED)
    if wrong:
        ctx.error(
            Code.DTYPE_MISMATCH,
            node.tensor.span,
            f"'accumulate' adds in f32, f64, i32 or i64; {tensor.name} is {tensor.dtype}"
            + (f", which may be {wrong[0]}" if wrong[0] != str(tensor.dtype) else ""),
            Label(span=tensor.span, text="declared here"),
        )
        return None
    if not _check_rank(ctx, tensor, node.subscripts, node.span):
        return None
    if not _check_subscripts(ctx, node.subscripts, values):
        return None
    subscripts: list[ir.Subscript] = []
    for at, (written, each) in enumerate(zip(node.subscripts, values, strict=True)):
        assert each is not None, "all subscripts are known"
        shortfall = ctx.shortfall(each, size(tensor.dims[at]))
        if shortfall is not None and not node.skip and not node.unchecked:
            help = (
                f"after '{node.tensor.name}[...]' add 'else skip', which adds nothing outside, or 'unchecked'"
            )
            missing = _missing_guard(ctx, each, size(tensor.dims[at]))
            out_of_bounds(ctx, written, each, tensor, at, shortfall, missing, help)
            return None
        subscripts.append(ir.Subscript(span=written.span, value=each, in_bounds=shortfall is None))
    tiles = union((), *(each.value.type.tiles for each in subscripts))
    if value is None or not _check_stored(ctx, node, value, tiles) or not ctx.check_lanes(tiles, node.span):
        return None
    if not _check_needed(ctx, node, subscripts):
        return None
    if ctx.dtypes.categories(value.type.dtype) == {2} and 1 in ctx.dtypes.categories(tensor.dtype):
        ctx.error(
            Code.DTYPE_MISMATCH,
            node.value.span,
            f"{value.type.dtype} cannot be added to {tensor.name}, which is {tensor.dtype}",
            help=f"cast it: {tensor.dtype}(...)",
        )
        return None
    return ir.Accumulate(
        span=node.span,
        param=tensor.name,
        subscripts=tuple(subscripts),
        tiles=tiles,
        value=value,
        skip=node.skip,
        unchecked=node.unchecked,
    )

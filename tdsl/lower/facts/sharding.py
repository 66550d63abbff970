"""Which dimensions a kernel treats alike wherever an index is and however many there are.

    for m, n in grid(M by 64, N by 64):  ... C[m, n] = ... load A[m, k] ... load B[k, n]
    ->   M: A 0, C 0;  N: B 1, C 1          (K is summed over: not among them)

Such a dimension may be cut in parts, each computed by itself. What cannot be proven is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from tdsl import ir

# What calculates lane by lane, or says in `tile` or `tiles` along what it does not.
_KNOWN = (
    ir.Constant,
    ir.DimRef,
    ir.ParamRef,
    ir.SettingRef,
    ir.VarRef,
    ir.TileRef,
    ir.TileEdge,
    ir.Present,
    ir.DTypeIn,
    ir.Unary,
    ir.Binary,
    ir.Cast,
    ir.Select,
    ir.Elementwise,
    ir.Reduce,
    ir.Scan,
    ir.Dot,
    ir.Fill,
    ir.Inline,
    ir.Load,
    ir.Subscript,
    ir.Assign,
    ir.Whole,
    ir.For,
    ir.If,
    ir.Store,
    ir.Accumulate,
    ir.Tile,
)


def independent_dims(kernel: ir.Kernel) -> dict[str, dict[str, int]]:
    """By name, each with the tensors that have it, and which of their declared dimensions it is."""
    found = {}
    for tile in kernel.grid:
        if isinstance(tile.stop, ir.DimRef):
            name = tile.stop.name
            places = _places(kernel, name)
            if places is not None and _is_independent(kernel, tile, name, places):
                found[name] = places
    return found


def _places(kernel: ir.Kernel, name: str) -> dict[str, int] | None:
    """Where tensors have a dimension as a whole; None if one has it otherwise, or one that is written has not."""
    places, kinds = {}, set()
    for tensor in (*kernel.params, *kernel.outputs):
        if not isinstance(tensor, ir.Tensor):
            continue
        at = [index for index, dim in enumerate(tensor.dims) if _names(dim, name)]
        if at:
            dim = tensor.dims[at[0]]
            if len(at) > 1 or not isinstance(dim, ir.DimRef | ir.RestDim):
                return None
            places[tensor.name] = at[0]
            kinds.add(type(dim))
        elif tensor.inout or tensor in kernel.outputs:
            return None
    # Parts of the first of several sizes are no equal parts of their product.
    return places if len(kinds) == 1 else None


def _names(node: ir.Node, name: str) -> bool:
    return any(isinstance(each, ir.DimRef | ir.RestDim) and each.name == name for each in ir.walk(node))


def _is_independent(kernel: ir.Kernel, tile: ir.Tile, name: str, places: dict[str, int]) -> bool:
    rest = (*kernel.guards, *kernel.lets, *kernel.candidates, *([kernel.group] if kernel.group else ()))
    if any(_names(node, name) for node in (*rest, *kernel.body)):
        return False
    if any(_names(other, name) for other in kernel.grid if other.key != tile.key):
        return False
    if tile.block is not None and _names(tile.block, name):
        return False
    indices = 0  # those of the tile that stand where the dimension is
    for node in _nodes(kernel):
        if isinstance(node, ir.Load | ir.Store | ir.Accumulate):
            if node.param in places:
                index = node.subscripts[places[node.param]].value
                if not (isinstance(index, ir.TileRef) and index.tile.key == tile.key):
                    return False
                indices += 1
        elif not isinstance(node, _KNOWN):
            return False
        elif isinstance(node, ir.TileRef):
            indices -= node.tile.key == tile.key
        elif tile.key in [each.key for each in _along(node)]:
            return False
    return indices == 0


def _nodes(kernel: ir.Kernel) -> Iterator[ir.Node]:
    for statement in kernel.body:
        yield from ir.walk(statement)


def _along(node: ir.Node) -> tuple[ir.Tile, ...]:
    """The tiles along which a node looks across lanes, or at where they are."""
    match node:
        case ir.Reduce(tiles=tiles):
            return tiles
        case ir.Scan(tile=tile) | ir.Dot(tile=tile) | ir.TileEdge(tile=tile):
            return (tile,)
    return ()

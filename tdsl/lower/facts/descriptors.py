"""Which loads one instruction can do through a descriptor (TMA), which knows where the tensor ends."""

from __future__ import annotations

from tdsl import ir
from tdsl.lower.facts.extents import Extent
from tdsl.lower.facts.specialization import Specialization, has_tma
from tdsl.types import DTYPES

ALIGNMENT = 16  # bytes: of a row that a descriptor describes
MAX_BOX = 256  # lanes along each dimension that one instruction loads


def has_descriptor(specialization: Specialization, load: ir.Load) -> bool:
    """Whether some candidate can load a block so: of a matrix whose rows begin at multiples of 16 bytes, and of a
    pointer that is one."""
    name, arg = load.param, specialization.tensor(load.param)
    split, dtype = specialization.split(name), specialization.dtype(load.type.dtype)
    tiles = load.type.tiles
    if (
        not specialization.tma
        or specialization.binding.index_dtype != "i32"
        or dtype not in ("f16", "bf16", "f32")
    ):
        return False
    if len(tiles) != 2 or len(split) != 2 or any(len(sizes) != 1 for sizes, _ in split):
        return False
    if specialization.kernel.tensor(name).inout or arg.dtype != dtype:
        return False
    lanes = ALIGNMENT * 8 // DTYPES[dtype].bits
    row, column = arg.strides
    if not isinstance(row, int) or not isinstance(arg.offset, int) or 0 in arg.shape:
        return False
    if column != 1 or row < 1 or row % lanes or arg.offset % lanes:
        return False
    for tile, subscript, (sizes, _) in zip(tiles, load.subscripts, split, strict=True):
        if not isinstance(subscript.value, ir.TileRef) or subscript.value.tile != tile:
            return False
        if not (specialization.even(tile) or _ends(specialization, tile, sizes[0])):
            return False
    return all(
        all(specialization.block(tile, candidate) <= MAX_BOX for tile in tiles)
        and specialization.block(tiles[1], candidate) % lanes == 0
        and specialization.is_multiple(tiles[1].start, lanes, candidate)
        for candidate in specialization.candidates
        if has_tma(candidate)
    )


def _ends(specialization: Specialization, tile: ir.Tile, size: Extent) -> bool:
    """Whether the tile's range surely ends where a dimension of that size does."""
    known = specialization.integer(tile.stop)
    if known is not None:
        return known == size
    return isinstance(tile.stop, ir.DimRef) and specialization.dims[tile.stop.name] == size

"""A value on its way into code: how it is calculated, which tiles its block has, in which order, and what
is known of the lanes outside."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tdsl.ir import Tile
from tdsl.lower.emit import syntax

EVERYWHERE = "*"  # in `Value.zero`: whatever the tile


@dataclass(frozen=True, kw_only=True)
class Value:
    """`code` is a block with one dimension per tile, in this order; no tiles: a scalar.

    `dtype` None: a weak scalar, which takes the dtype of what it meets. `zero` has, for each tile along
    which the lanes outside are known to hold zero, the load points which that rests on.
    """

    code: ast.expr
    dtype: str | None = None
    tiles: tuple[Tile, ...] = ()
    zero: Mapping[str, frozenset[str]] = field(default_factory=dict)
    nonnegative: bool = False  # known of integers; `//` and `%` are then Triton's own

    def zero_along(self, tile: Tile) -> frozenset[str] | None:
        return self.zero.get(tile.key, self.zero.get(EVERYWHERE))

    @property
    def is_named(self) -> bool:
        """Whether to use it twice computes it once."""
        return isinstance(self.code, ast.Name)

    @property
    def number(self) -> bool | int | float | None:
        """The number that a weak literal is."""
        return syntax.value_of(self.code) if self.dtype is None else None

    def of(self, part: syntax.Part) -> Value:
        """All that is known of this one, of other code."""
        return replace(self, code=syntax.tree(part))


def zero_where_both(values: Iterable[Value]) -> Mapping[str, frozenset[str]]:
    """Where a function with f(0, 0, ...) = 0 is zero: where every one of `values` is."""
    maps = [value.zero for value in values]
    keys = sorted({key for entry in maps for key in entry})
    joint: dict[str, frozenset[str]] = {}
    for key in keys:
        points = [entry.get(key, entry.get(EVERYWHERE)) for entry in maps]
        if all(some is not None for some in points):
            joint[key] = frozenset().union(*(some for some in points if some is not None))
    return joint


def common_tiles(values: Iterable[Value]) -> tuple[Tile, ...]:
    """The block that holds all of them: the order of the widest, then what others add."""
    tiles: dict[Tile, None] = {}
    for value in sorted(values, key=lambda value: -len(value.tiles)):
        tiles.update(dict.fromkeys(value.tiles))
    return tuple(tiles)


def aligned(value: Value, tiles: tuple[Tile, ...]) -> Value:
    """`value` as a block that broadcasts against one over `tiles`."""
    if not value.tiles or value.tiles == tiles:
        return value
    order = tuple(tile for tile in tiles if tile in value.tiles)
    assert len(order) == len(value.tiles), "a value varies over a tile that is not in the block"
    if order != value.tiles:
        value = permuted(value, order)
    if len(order) == len(tiles):
        return value
    return replace(value, code=syntax.expanded(value.code, [tile in order for tile in tiles]), tiles=tiles)


def permuted(value: Value, order: tuple[Tile, ...]) -> Value:
    """`value` with its dimensions in `order`."""
    if order == value.tiles:
        return value
    if len(order) == 2:
        made = syntax.call("tl.trans", value.code)
    else:
        made = syntax.call(
            "tl.permute", value.code, syntax.tupled([value.tiles.index(tile) for tile in order])
        )
    return replace(value, code=made, tiles=order)


def literal(value: bool | int | float) -> Value:
    """A Python number as a weak scalar."""
    zero = {EVERYWHERE: frozenset[str]()} if value == 0 else {}
    return Value(code=syntax.number(value), zero=zero, nonnegative=value >= 0)

"""What sees the lanes of a tile together, in Triton: only those that exist have a part in it.

    sort(v, n)      v_bits = v_.to(tl.int32, bitcast=True)
                    v_keys = <integers in the order of the numbers, NaN the greatest>
                    tl.sort(tl.where(n_mask, v_keys, 2147483647))    and back

The lanes inside are the first of a block, so what sorts the others last leaves them outside.
"""

from __future__ import annotations

import ast
import math
from dataclasses import replace

from tdsl import ir
from tdsl.builtins import INDICES
from tdsl.lower.emit import syntax
from tdsl.lower.emit.expressions import Expressions
from tdsl.lower.emit.functions import triton_dtype
from tdsl.lower.emit.syntax import binary, call, quote
from tdsl.lower.emit.values import Value, aligned, permuted
from tdsl.types import DTYPES, GREATEST, LEAST

_NAN = {"f32": 0x7FC00000, "f64": 0x7FF8000000000000}


def reinterpreted(bits: ast.expr, dtype: str) -> ast.expr:
    """The same bits as another dtype."""
    return quote("{0}.to({1}, bitcast=True)", bits, triton_dtype(dtype))


def along(expressions: Expressions, expr: ir.Along) -> Value:
    return _Lanes(expressions, expr).emit()


class _Lanes:
    def __init__(self, expressions: Expressions, expr: ir.Along) -> None:
        self.expressions = expressions
        self.tiles = expressions.tiles
        self.expr = expr
        self.tile = expr.tile

    def emit(self) -> Value:
        expr = self.expr
        dtype = self.expressions.dtype(expr)
        operand = self.expressions.emit(expr.operand)
        value = self.last(operand)
        match expr.function:
            case "sort":
                found = self.sorted(value)
            case "argsort":
                found = self.order(value)
            case "topk":
                found = self.first(self.sorted(value))
            case "argtopk":
                found = self.first(self.order(value))
            case "flip":
                found = self.gathered(value, self.reversed())
            case "histogram":
                found = self.counts(value)
            case "take":
                found = self.taken(value)
            case "padded":
                fill = self.expressions.cast(self.expressions.emit(expr.arguments[0]), dtype)
                zero = isinstance(expr.arguments[0], ir.Constant) and expr.arguments[0].value == 0
                return self.expressions.neutralized(operand, self.tile, 0 if zero else fill.code)
            case _:
                raise AssertionError(f"{expr.function} does not look along a tile")
        if expr.function in INDICES:
            found = self.expressions.along_dimension(found, self.tile)
        return self.named(self.expressions.cast(found, dtype), expr.function)

    def named(self, value: Value, base: str) -> Value:
        return self.expressions.writer.named(value, base)

    def last(self, value: Value) -> Value:
        """The block with the tile as its last dimension, in a dtype that Triton takes: bools as numbers."""
        order = (*(tile for tile in value.tiles if tile != self.tile), self.tile)
        value = permuted(value, order)
        if value.dtype == "bool" or self.expr.function == "histogram":
            value = self.expressions.cast(value, "i64" if value.dtype == "i64" else "i32")
        return replace(value, zero={}, nonnegative=False)

    # In order

    def keys(self, value: Value, *, one_zero: bool) -> Value:
        """Integers, of 32 or 64 bits, that are in the order of the numbers. `one_zero`: -0.0 is 0.0."""
        assert value.dtype is not None, "a block has a dtype"
        if DTYPES[value.dtype].category == 2:
            wide = "f64" if value.dtype == "f64" else "f32"
            kind = "i64" if wide == "f64" else "i32"
            value = self.named(self.expressions.cast(value, wide), "lanes")
            bits = self.named(value.of(reinterpreted(value.code, kind)), "bits")
            if one_zero:
                bits = value.of(quote("tl.where({0} == {1}, 0, {0})", bits.code, LEAST[kind]))
                bits = self.named(bits, "bits")
            keys = self.mirrored(bits.code, kind)
            keys = quote("tl.where({0} == {0}, {1}, {2})", value.code, keys, _NAN[wide])
            value = replace(value, code=keys, dtype=kind)
        else:
            value = self.expressions.cast(value, "i64" if value.dtype == "i64" else "i32")
        if self.expr.descending:
            value = value.of(quote("~{0}", value.code))
        return value

    def mirrored(self, bits: ast.expr, kind: str) -> ast.expr:
        """Negative floats have their bits in the opposite order; the same undoes it."""
        return quote("{0} ^ (({0} >> {1}) & {2})", bits, DTYPES[kind].bits - 1, GREATEST[kind])

    def sorted(self, value: Value) -> Value:
        keys = self.keys(value, one_zero=False)
        kind = keys.dtype
        assert value.dtype is not None and kind is not None, "a block has a dtype"
        keys = self.expressions.neutralized(keys, self.tile, GREATEST[kind])
        found = self.named(keys.of(call("tl.sort", keys.code)), "sorted")
        if self.expr.descending:
            found = self.named(found.of(quote("~{0}", found.code)), "sorted")
        if DTYPES[value.dtype].category == 2:
            wide = "f64" if kind == "i64" else "f32"
            numbers = reinterpreted(self.mirrored(found.code, kind), wide)
            found = replace(found, code=numbers, dtype=wide)
        return self.expressions.cast(found, value.dtype)

    def order(self, value: Value) -> Value:
        """Which lane comes at each place: lanes are sorted with their numbers below their keys."""
        keys = self.keys(value, one_zero=True)
        packed = quote("({0}.to(tl.int64) << 32) | {1}", keys.code, self.lanes(keys.tiles))
        found = replace(keys, code=packed, dtype="i64")
        found = self.expressions.neutralized(found, self.tile, GREATEST["i64"])
        places = quote("(tl.sort({0}) & {1}).to(tl.int32)", found.code, 2**32 - 1)
        return replace(found, code=places, dtype="i32")

    def first(self, value: Value) -> Value:
        onto = self.expr.onto
        assert onto is not None, "checked"
        places = Value(code=call("tl.arange", 0, self.tiles.block(onto)), dtype="i32", tiles=(onto,))
        return self.gathered(self.named(value, "sorted"), places)

    def lanes(self, tiles: tuple[ir.Tile, ...]) -> ast.expr:
        lanes = call("tl.arange", 0, self.tiles.block(self.tile))
        return aligned(Value(code=lanes, tiles=(self.tile,)), tiles).code

    # By place

    def reversed(self) -> Value:
        start, stop = (self.tiles.edge(self.tile, edge).code for edge in ("start", "stop"))
        places = quote("{0} - {1} - 1 - {2}", stop, start, self.lanes((self.tile,)))
        index = self.expressions.specialization.binding.index_dtype
        return Value(code=places, dtype=index, tiles=(self.tile,))

    def taken(self, value: Value) -> Value:
        index, *other = self.expr.arguments
        lane = self.expressions.emit(index)
        wide = (lane.dtype or self.expressions.specialization.binding.index_dtype) == "i64"
        lane = self.named(self.expressions.cast(lane, "i64" if wide else "i32"), "place")
        start, stop = (self.tiles.edge(self.tile, edge) for edge in ("start", "stop"))
        inside = None
        if other:
            within = quote("({0} >= {1}) & ({0} < {2})", lane.code, start.code, stop.code)
            inside = Value(code=within, dtype="bool", tiles=lane.tiles)
        if start.number != 0:
            lane = lane.of(binary("-", lane.code, start.code))
        found = self.gathered(value, lane)
        if inside is None:
            return found
        assert found.dtype is not None, "a block has a dtype"
        fill = self.expressions.cast(self.expressions.emit(other[0]), found.dtype)
        return found.of(call("tl.where", aligned(inside, found.tiles).code, found.code, fill.code))

    def gathered(self, value: Value, lane: Value) -> Value:
        """`value` at a lane of the block. The lanes outside of an index's own tiles may hold anything: they read the
        first."""
        value = self.named(value, "lanes")
        rest = value.tiles[:-1]
        own = tuple(tile for tile in lane.tiles if tile not in rest)
        block = self.tiles.block(self.tile)
        lane = self.named(lane, "place")
        lane = lane.of(quote("tl.where(({0} >= 0) & ({0} < {1}), {0}, 0)", lane.code, block))
        lane = self.expressions.cast(lane, "i32")
        if rest or own:
            lane = self.expressions.block(lane, (*rest, *own), "i32")
        place = lane.code
        if not rest and not own:
            place = quote("tl.full((1,), {0}, tl.int32)", place)
        elif len(own) != 1:
            place = call(
                "tl.reshape", place, syntax.tupled([*map(self.tiles.block, rest), self.product(own)])
            )
        found = call("tl.gather", self.repeated(value, own), place, len(rest))
        if not rest and not own:
            found = call("tl.sum", found, 0)
        elif len(own) != 1:
            found = call("tl.reshape", found, self.tiles.shape((*rest, *own)))
        return replace(value, code=found, tiles=(*rest, *own))

    def product(self, tiles: tuple[ir.Tile, ...]) -> ast.expr:
        """Of the blocks of `tiles`."""
        blocks = [syntax.name(self.tiles.block(tile)) for tile in tiles]
        return syntax.joined("*", blocks) or syntax.number(1)

    def repeated(self, value: Value, own: tuple[ir.Tile, ...]) -> ast.expr:
        """The block, one after the other as often as it takes to be no shorter than an index along it.

        Triton 3.7 has no layout for rows of which the index is the longer: its pass for gathers fails.
        """
        rest, block = value.tiles[:-1], self.tiles.block(self.tile)
        specialization = self.expressions.specialization
        if not rest or not any(
            math.prod(specialization.block(tile, candidate) for tile in own)
            > specialization.block(self.tile, candidate)
            for candidate in specialization.candidates
        ):
            return value.code
        rows = [*map(self.tiles.block, rest)]
        times = call("tl.cdiv", self.product(own), block)
        apart = syntax.expanded(value.code, [*([True] * len(rest)), False, True])
        every = call("tl.broadcast_to", apart, syntax.tupled([*rows, times, block]))
        return call("tl.reshape", every, syntax.tupled([*rows, binary("*", times, block)]))

    # How many

    def counts(self, value: Value) -> Value:
        bins = self.expr.onto
        assert bins is not None, "checked"
        value = self.named(self.expressions.neutralized(value, self.tile, -1), "lanes")
        if value.tiles == (self.tile,) and bins.role == "whole":
            block = self.tiles.block(bins)
            mask = self.named(value.of(quote("({0} >= 0) & ({0} < {1})", value.code, block)), "counted")
            lanes = self.expressions.cast(value.of(call("tl.where", mask.code, value.code, 0)), "i32")
            found = call("tl.histogram", lanes.code, block, mask.code)
            return Value(code=found, dtype="i32", tiles=(bins,))
        tiles = (*value.tiles, bins)
        each, bin_ = aligned(value, tiles).code, aligned(self.tiles.index(bins), tiles).code
        found = quote("tl.sum(({0} == {1}).to(tl.int32), {2})", each, bin_, len(tiles) - 2)
        return Value(code=found, dtype="i32", tiles=(*value.tiles[:-1], bins))

"""What sees the lanes of a tile together, as Triton text: only those that exist have a part in it.

    sort(v, n)      v_bits = v_.to(tl.int32, bitcast=True)
                    v_keys = <integers in the order of the numbers, NaN the greatest>
                    tl.sort(tl.where(n_mask, v_keys, 2147483647))    and back

The lanes inside are the first of a block, so what sorts the others last leaves them outside.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tdsl import ir
from tdsl.lower import values
from tdsl.lower.values import Value, aligned, permuted
from tdsl.types import DTYPES, GREATEST, LEAST

if TYPE_CHECKING:
    from tdsl.lower.expressions import Expressions

_NAN = {"f32": "0x7fc00000", "f64": "0x7ff8000000000000"}


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
                return self.expressions.neutralized(operand, self.tile, "0" if zero else fill.text)
            case _:
                raise AssertionError(f"{expr.function} does not look along a tile")
        if expr.function in ("argsort", "argtopk"):
            found = self.expressions.along_dimension(found, self.tile)
        return self.named(self.expressions.cast(found, dtype), expr.function)

    def named(self, value: Value, base: str) -> Value:
        if value.text.isidentifier():
            return value
        name = self.expressions.writer.name(base)
        self.expressions.writer.line(f"{name} = {value.text}")
        return value.named(name)

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
            text = f"{value.text}.to(tl.{DTYPES[kind].triton}, bitcast=True)"
            bits = self.named(replace(value, text=text), "bits")
            if one_zero:
                text = f"tl.where({bits.text} == {LEAST[kind]}, 0, {bits.text})"
                bits = self.named(replace(value, text=text), "bits")
            text = f"tl.where({value.text} == {value.text}, {self.mirrored(bits.text, kind)}, {_NAN[wide]})"
            value = replace(value, text=text, dtype=kind)
        else:
            value = self.expressions.cast(value, "i64" if value.dtype == "i64" else "i32")
        if self.expr.descending:
            value = replace(value, text=f"~{value.inside(values.UNARY)}", strength=values.UNARY)
        return value

    def mirrored(self, bits: str, kind: str) -> str:
        """Negative floats have their bits in the opposite order; the same undoes it."""
        return f"{bits} ^ (({bits} >> {DTYPES[kind].bits - 1}) & {GREATEST[kind]})"

    def sorted(self, value: Value) -> Value:
        keys = self.keys(value, one_zero=False)
        kind = keys.dtype
        assert value.dtype is not None and kind is not None, "a block has a dtype"
        keys = self.expressions.neutralized(keys, self.tile, str(GREATEST[kind]))
        found = self.named(replace(keys, text=f"tl.sort({keys.text})", strength=values.ATOM), "sorted")
        if self.expr.descending:
            found = self.named(replace(found, text=f"~{found.text}"), "sorted")
        if DTYPES[value.dtype].category == 2:
            wide = "f64" if kind == "i64" else "f32"
            text = f"({self.mirrored(found.text, kind)}).to(tl.{DTYPES[wide].triton}, bitcast=True)"
            found = replace(found, text=text, dtype=wide)
        return self.expressions.cast(found, value.dtype)

    def order(self, value: Value) -> Value:
        """Which lane comes at each place: lanes are sorted with their numbers below their keys."""
        keys = self.keys(value, one_zero=True)
        text = f"({keys.inside(values.ATOM)}.to(tl.int64) << 32) | {self.lanes(keys.tiles)}"
        packed = replace(keys, text=text, strength=values.BITOR, dtype="i64")
        packed = self.expressions.neutralized(packed, self.tile, str(GREATEST["i64"]))
        text = f"(tl.sort({packed.text}) & 0xffffffff).to(tl.int32)"
        return replace(packed, text=text, strength=values.ATOM, dtype="i32")

    def first(self, value: Value) -> Value:
        onto = self.expr.onto
        assert onto is not None, "checked"
        text = f"tl.arange(0, {self.tiles.block(onto)})"
        return self.gathered(self.named(value, "sorted"), Value(text=text, dtype="i32", tiles=(onto,)))

    def lanes(self, tiles: tuple[ir.Tile, ...]) -> str:
        text = f"tl.arange(0, {self.tiles.block(self.tile)})"
        return aligned(Value(text=text, tiles=(self.tile,)), tiles).text

    # By place

    def reversed(self) -> Value:
        start = self.tiles.edge(self.tile, "start").text
        stop = self.tiles.edge(self.tile, "stop").inside(values.SUM)
        text = f"{stop} - {start} - 1 - {self.lanes((self.tile,))}"
        index = self.expressions.specialization.binding.index_dtype
        return Value(text=text, strength=values.SUM, dtype=index, tiles=(self.tile,))

    def taken(self, value: Value) -> Value:
        index, *other = self.expr.arguments
        lane = self.expressions.emit(index)
        wide = (lane.dtype or self.expressions.specialization.binding.index_dtype) == "i64"
        lane = self.named(self.expressions.cast(lane, "i64" if wide else "i32"), "place")
        start, stop = (self.tiles.edge(self.tile, edge) for edge in ("start", "stop"))
        inside = None
        if other:
            text = f"({lane.text} >= {start.text}) & ({lane.text} < {stop.inside(values.BITOR)})"
            inside = Value(text=text, strength=values.BITAND, dtype="bool", tiles=lane.tiles)
        if start.text != "0":
            text = f"{lane.text} - {start.inside(values.PRODUCT)}"
            lane = replace(lane, text=text, strength=values.SUM)
        found = self.gathered(value, lane)
        if inside is None:
            return found
        assert found.dtype is not None, "a block has a dtype"
        fill = self.expressions.cast(self.expressions.emit(other[0]), found.dtype)
        text = f"tl.where({aligned(inside, found.tiles).text}, {found.text}, {fill.text})"
        return replace(found, text=text, strength=values.ATOM)

    def gathered(self, value: Value, lane: Value) -> Value:
        """`value` at a lane of the block. The lanes outside of an index's own tiles may hold anything: they read the
        first."""
        value = self.named(value, "lanes")
        rest = value.tiles[:-1]
        own = tuple(tile for tile in lane.tiles if tile not in rest)
        block = self.tiles.block(self.tile)
        lane = self.named(lane, "place")
        text = f"tl.where(({lane.text} >= 0) & ({lane.text} < {block}), {lane.text}, 0)"
        lane = self.expressions.cast(replace(lane, text=text), "i32")
        flat = f"{' * '.join(map(self.tiles.block, own)) or '1'}"
        shape = f"({', '.join([*map(self.tiles.block, rest), flat])},)"
        if rest or own:
            lane = self.expressions.block(lane, (*rest, *own), "i32")
        text = lane.text if len(own) == 1 else f"tl.reshape({lane.text}, {shape})"
        if not rest and not own:
            text = f"tl.full((1,), {lane.text}, tl.int32)"
        text = f"tl.gather({self.repeated(value, own)}, {text}, {len(rest)})"
        if not rest and not own:
            text = f"tl.sum({text}, 0)"
        elif len(own) != 1:
            text = f"tl.reshape({text}, {self.tiles.shape((*rest, *own))})"
        return replace(value, text=text, strength=values.ATOM, tiles=(*rest, *own))

    def repeated(self, value: Value, own: tuple[ir.Tile, ...]) -> str:
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
            return value.text
        rows = ", ".join(map(self.tiles.block, rest))
        times = f"tl.cdiv({' * '.join(map(self.tiles.block, own))}, {block})"
        every = ", ".join([":"] * len(rest))
        text = f"tl.broadcast_to({value.text}[{every}, None, :], ({rows}, {times}, {block}))"
        return f"tl.reshape({text}, ({rows}, {times} * {block}))"

    # How many

    def counts(self, value: Value) -> Value:
        bins = self.expr.onto
        assert bins is not None, "checked"
        value = self.named(self.expressions.neutralized(value, self.tile, "-1"), "lanes")
        if value.tiles == (self.tile,) and bins.role == "whole":
            block = self.tiles.block(bins)
            mask = self.named(
                replace(value, text=f"({value.text} >= 0) & ({value.text} < {block})"), "counted"
            )
            lanes = self.expressions.cast(
                replace(value, text=f"tl.where({mask.text}, {value.text}, 0)"), "i32"
            )
            text = f"tl.histogram({lanes.text}, {block}, {mask.text})"
            return Value(text=text, dtype="i32", tiles=(bins,))
        tiles = (*value.tiles, bins)
        each = aligned(value, tiles).text
        text = f"tl.sum(({each} == {aligned(self.tiles.index(bins), tiles).text}).to(tl.int32), {len(tiles) - 2})"
        return Value(text=text, dtype="i32", tiles=(*value.tiles[:-1], bins))

"""Load and store points: subscripts → pointers and masks, as slots.

    load A[m, k]
    A_tile = tl.load(A_ + m_[:, None] * 50 + k_[None, :], mask=m_mask[:, None] & k_mask[None, :], other=0.0)

A mask has one term per tile that may be ragged and one per subscript that `check` could not prove.
"""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tdsl import ir
from tdsl.lower.emit import syntax
from tdsl.lower.emit.expressions import Expressions
from tdsl.lower.emit.functions import integer
from tdsl.lower.emit.syntax import binary, call
from tdsl.lower.emit.tiles import Tiles
from tdsl.lower.emit.triton import Dimension, Line, LoadSlot, StoreSlot
from tdsl.lower.emit.values import Value, aligned, literal
from tdsl.lower.emit.writer import Writer
from tdsl.lower.facts.candidates import SUBTILES, TMA
from tdsl.lower.facts.descriptors import has_descriptor
from tdsl.lower.facts.extents import Extent, multiply, product
from tdsl.lower.facts.load_counts import loaded_elements
from tdsl.lower.facts.specialization import Specialization
from tdsl.types import DTYPES


@dataclass(kw_only=True)
class _Demand:
    """Along which tiles somebody relies on a load reading zero outside."""

    tiles: tuple[ir.Tile, ...]  # of the block
    relied: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a point is: one index per dimension, aligned to the block `tiles`."""

    tiles: tuple[ir.Tile, ...]
    subscripts: tuple[Value, ...]
    moves: tuple[frozenset[str], ...]  # the tiles along which each subscript varies
    checks: tuple[tuple[ast.expr, ...], ...]  # of each subscript that was not proven
    mask: ast.expr | None


class Points:
    def __init__(self, specialization: Specialization, writer: Writer, tiles: Tiles) -> None:
        self.specialization = specialization
        self.writer = writer
        self.tiles = tiles
        self.expressions: Expressions  # set once both exist
        self._demands: dict[str, _Demand] = {}
        self._elements = loaded_elements(specialization)
        self.descriptors: list[Line] = []  # what makes them, once, before anything else
        dots = [node for node in specialization.kernel.nodes if isinstance(node, ir.Dot)]
        operands = [side for dot in dots for side in (dot.left, dot.right)]
        self._multiplied = {side.point for side in operands if isinstance(side, ir.Load)}
        self._sums = _sums_of_dots(specialization.kernel)

    def rely(self, points: frozenset[str], tile: ir.Tile) -> None:
        """Somebody needs the lanes outside `tile` of these load points to hold zero."""
        for point in points:
            self._demands[point].relied.add(tile.key)
        if points:
            self.tiles.mask(tile)

    def load(self, expr: ir.Load) -> Value:
        dtype = self.specialization.dtype(expr.type.dtype)
        place = self._place(expr.param, expr.subscripts, expr.type.tiles, unchecked=expr.unchecked)
        otherwise = self.expressions.emit(expr.otherwise) if expr.otherwise is not None else None
        if otherwise is None:
            otherwise = literal(0.0 if DTYPES[dtype].category == 2 else 0)
        zeros, other = otherwise.number == 0, otherwise.code
        plain = call(
            "tl.load",
            self._pointer(expr.param, place),
            mask=place.mask,
            other=other if place.mask is not None else None,
        )
        target = self.writer.name(f"{expr.point}_tile")
        demand = self._demands[expr.point] = _Demand(tiles=place.tiles)
        guarded = expr.otherwise is not None and not all(item.in_bounds for item in expr.subscripts)
        slot = LoadSlot(
            span=expr.span,
            indent=self.writer.indent,
            point=expr.point,
            param=expr.param,
            target=target,
            dtype=dtype,
            shape=tuple(map(self.tiles.block, place.tiles)),
            index=self._flat_index(expr.param, place),
            dimensions=() if expr.nofuse else self._slot_dimensions(expr.param, place),
            mask=place.mask,
            plain=plain,
            described=self._describe(expr) if zeros else None,
            neutral=None,
            relied=frozenset(),
            other=other,
            fusable=not expr.nofuse,
            always=expr.fuse,
            multiplied=expr.point in self._multiplied,
            elements=self._elements[expr.point],
        )
        tiles, mask = self.tiles, place.mask

        def settle() -> LoadSlot:
            if guarded:
                return replace(slot, neutral=mask)
            relied = {at: tile for at, tile in enumerate(demand.tiles) if tile.key in demand.relied}
            terms = [aligned(tiles.mask(tile), demand.tiles).code for tile in relied.values()]
            return replace(slot, neutral=syntax.joined("&", terms), relied=frozenset(relied))

        self.writer.add(settle)
        zero = {tile.key: frozenset({expr.point}) for tile in place.tiles} if zeros else {}
        return Value(code=syntax.name(target), dtype=dtype, tiles=place.tiles, zero=zero)

    def store(self, statement: ir.Store) -> None:
        dtype = self.specialization.dtype(self.specialization.kernel.tensor(statement.param).dtype)
        source = self._before_cast(statement.value, dtype)
        computed = self.expressions.emit(source)
        if computed.dtype is not None and _is_wider_float(dtype, computed.dtype):
            computed = self.expressions.block(computed, statement.tiles, computed.dtype)
            value = self.expressions.cast(computed, dtype)
        else:
            value = computed = self.expressions.block(computed, statement.tiles, dtype)
        summed = isinstance(source, ir.Dot) or _name(source) in self._sums or not self._is_float(source)
        tile = self.specialization.subtiled_tile(statement)
        if tile is None:
            self._store(
                statement, value.code, dtype, None if summed else (computed.code, computed.dtype or dtype)
            )
            return
        value = self.writer.named(value, f"{statement.param}_value")
        with self.tiles.parts(tile) as number:
            part = call("tile_part", value.code, number, SUBTILES)
            if len(statement.tiles) > 2:
                part = call("tl.reshape", part, self.tiles.shape(statement.tiles))
            self._store(statement, part, dtype, None if summed else (part, dtype))

    def _before_cast(self, value: ir.Expr, dtype: str) -> ir.Expr:
        """What a stored value is a cast of, if the cast widens it or makes a float of an integer."""
        if not isinstance(value, ir.Cast) or value.operand.type.dtype.weak:
            return value
        inner = self.specialization.dtype(value.operand.type.dtype)
        same = self.specialization.dtype(value.type.dtype) == dtype
        return value.operand if same and _is_wider_float(dtype, inner) else value

    def _is_float(self, value: ir.Expr) -> bool:
        dtype = value.type.dtype
        return dtype.weak or DTYPES[self.specialization.dtype(dtype)].category == 2

    def _store(
        self, statement: ir.Store, value: ast.expr, dtype: str, computed: tuple[ast.expr, str] | None
    ) -> None:
        place = self._place(statement.param, statement.subscripts, statement.tiles, unchecked=False)
        pointer = self._pointer(statement.param, place)
        self.writer.add(
            StoreSlot(
                span=statement.span,
                indent=self.writer.indent,
                param=statement.param,
                value=value,
                dtype=dtype,
                shape=tuple(map(self.tiles.block, place.tiles)),
                dimensions=self._slot_dimensions(statement.param, place),
                mask=place.mask,
                plain=call("tl.store", pointer, value, mask=place.mask),
                fusable=not statement.nofuse,
                computed=computed,
            )
        )

    def accumulate(self, statement: ir.Accumulate) -> None:
        dtype = self.specialization.dtype(self.specialization.kernel.tensor(statement.param).dtype)
        value = self.expressions.block(self.expressions.emit(statement.value), statement.tiles, dtype)
        place = self._place(
            statement.param, statement.subscripts, statement.tiles, unchecked=statement.unchecked
        )
        pointer, relaxed = self._pointer(statement.param, place), ast.Constant(value="relaxed")
        added = syntax.does(call("tl.atomic_add", pointer, value.code, mask=place.mask, sem=relaxed))
        span, indent = statement.span, self.writer.indent
        self.writer.add(Line(span=span, indent=indent, code=added, accumulates=statement.param))

    def _describe(self, load: ir.Load) -> ast.expr | None:
        """The load through a descriptor: outside the tensor that reads zero."""
        if not has_descriptor(self.specialization, load):
            return None
        arg = self.specialization.tensor(load.param)
        base: ast.expr = syntax.name(f"{load.param}_")
        if arg.offset != 0:
            base = binary("+", base, integer(arg.offset))
        name = self.writer.name(f"{load.point}_descriptor")
        sizes, strides = (syntax.listed([*map(integer, each)]) for each in (arg.shape, arg.strides))
        block = syntax.listed([*map(self.tiles.block, load.type.tiles)])
        made = call("tl.make_tensor_descriptor", base, sizes, strides, block)
        for indent, line in ((0, syntax.when(TMA)), (1, syntax.assign(name, made))):
            self.descriptors.append(Line(span=load.span, indent=indent, code=line, describes=load.point))
        return call(
            f"{name}.load", syntax.listed([self.tiles.edge(tile, "start").code for tile in load.type.tiles])
        )

    # Where

    def _place(
        self, param: str, subscripts: Sequence[ir.Subscript], tiles: tuple[ir.Tile, ...], *, unchecked: bool
    ) -> _Place:
        found, moves, checks = [], [], []
        terms = [term for tile in tiles if (term := self._ragged(tile, tiles)) is not None]
        sizes = self.specialization.split(param)
        for item, (extents, _) in zip(subscripts, sizes, strict=True):
            value = self._as_index(self.expressions.emit(item.value))
            moves.append(frozenset(tile.key for tile in value.tiles))
            value = aligned(value, tiles)
            if not item.in_bounds:
                value = self.writer.named(value, f"{param}_index")
            unproven = not item.in_bounds and not unchecked
            checks.append(tuple(self._checks(value, product(extents)) if unproven else ()))
            terms += checks[-1]
            found.append(value)
        return _Place(
            tiles=tiles,
            subscripts=tuple(found),
            moves=tuple(moves),
            checks=tuple(checks),
            mask=syntax.joined("&", terms),
        )

    def _as_index(self, value: Value) -> Value:
        """A subscript in as many bits as indices have: one that was loaded is soon multiplied by a stride."""
        index = self.specialization.binding.index_dtype
        narrow = value.dtype is not None and DTYPES[value.dtype].bits < DTYPES[index].bits
        return self.expressions.cast(value, index) if narrow else value

    def _ragged(self, tile: ir.Tile, tiles: tuple[ir.Tile, ...]) -> ast.expr | None:
        """The mask of a tile that has lanes outside, aligned to the block `tiles`."""
        return None if self.specialization.even(tile) else aligned(self.tiles.mask(tile), tiles).code

    def _slot_dimensions(self, param: str, place: _Place) -> tuple[Dimension, ...]:
        found = []
        indices = iter(self._dimensions(param, place))
        for moves, checks, (sizes, _) in zip(
            place.moves, place.checks, self.specialization.split(param), strict=True
        ):
            axes = frozenset(at for at, tile in enumerate(place.tiles) if tile.key in moves)
            terms = [self._ragged(tile, place.tiles) for at, tile in enumerate(place.tiles) if at in axes]
            mask = syntax.joined("&", [*(term for term in terms if term is not None), *checks])
            found += [Dimension(index=next(indices)[0].code, axes=axes, mask=mask) for _ in sizes]
        return tuple(found)

    @staticmethod
    def _checks(value: Value, size: Extent) -> list[ast.expr]:
        below = binary("<", value.code, integer(size))
        return [below] if value.nonnegative else [binary(">=", value.code, 0), below]

    def _dimensions(self, param: str, place: _Place) -> list[tuple[Value, Extent, Extent]]:
        """Index, size and stride of every dimension that the caller's tensor has; a subscript of
        `R...` is taken apart where its dimensions do not lie in one run of memory."""
        dimensions = []
        for value, (sizes, strides) in zip(place.subscripts, self.specialization.split(param), strict=True):
            if len(sizes) == 1:
                dimensions.append((value, sizes[0], strides[0]))
                continue
            if len(sizes) > 1 and not _is_simple(value):
                value = self.writer.named(value, f"{param}_index")
            for at, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
                inner = product(sizes[at + 1 :])
                index = value.code
                if inner != 1:
                    index = binary("//", index, integer(inner))
                if at > 0:
                    index = binary("%", index, integer(size))
                dimensions.append((value.of(index), size, stride))
        return dimensions

    def _pointer(self, param: str, place: _Place) -> ast.expr:
        arg = self.specialization.tensor(param)
        pointer: ast.expr = syntax.name(f"{param}_")
        terms = []
        if arg.offset != 0:
            terms.append(integer(arg.offset))
        dimensions = self._dimensions(param, place)
        covered: set[str] = set()
        still: list[tuple[Value, frozenset[str]]] = []
        at = 0
        for value, moves, (sizes, strides) in zip(
            place.subscripts, place.moves, self.specialization.split(param), strict=True
        ):
            run = _one_run(sizes, strides)
            steps = (
                [(value, run)]
                if run is not None
                else [(v, s) for v, _, s in dimensions[at : at + len(sizes)]]
            )
            at += len(sizes)
            if all(stride == 0 for _, stride in steps):
                still.append((value, moves))
                continue
            covered |= moves
            terms += [_times(index, stride) for index, stride in steps if stride != 0 and index.number != 0]
        # A tile along which nothing moves still gives the block its shape.
        for value, moves in still:
            if not moves <= covered:
                covered |= moves
                terms.append(_times(value, 0))
        return functools.reduce(functools.partial(binary, "+"), terms, pointer)

    def _flat_index(self, param: str, place: _Place) -> ast.expr:
        """The row-major position in the tensor's logical shape."""
        sizes = [product(extents) for extents, _ in self.specialization.split(param)]
        terms = []
        for at, value in enumerate(place.subscripts):
            if value.number != 0:
                terms.append(_times(value, product(sizes[at + 1 :])))
        return syntax.joined("+", terms) or syntax.number(0)


def _one_run(sizes: tuple[Extent, ...], strides: tuple[Extent, ...]) -> Extent | None:
    """The stride with which one index walks all of these dimensions, or None."""
    kept = [(size, stride) for size, stride in zip(sizes, strides, strict=True) if size != 1]
    if not kept:
        return 0
    for (_, outer), (size, inner) in itertools.pairwise(kept):
        if multiply(size, inner) != outer:
            return None
    return kept[-1][1]


def _is_simple(value: Value) -> bool:
    """Whether it is a name, or a vector of that name."""
    return isinstance(syntax.as_vector(value.code), ast.Name)


def _times(value: Value, stride: Extent) -> ast.expr:
    return value.code if stride == 1 else binary("*", value.code, integer(stride))


def _is_wider_float(dtype: str, than: str) -> bool:
    """Whether a cast to a float keeps every value of a narrower one, or makes a float of an integer."""
    wide, narrow = DTYPES[dtype], DTYPES[than]
    return wide.category == 2 and (narrow.category < 2 or narrow.bits < wide.bits)


def _sums_of_dots(kernel: ir.Kernel) -> frozenset[str]:
    """The variables that begin as a constant, and to which only dots are added."""
    found: dict[str, bool] = {}
    for node in kernel.nodes:
        if isinstance(node, ir.Assign):
            match node.value:
                case ir.Fill() | ir.Dot():
                    right = True
                case ir.Binary(op="+", left=left, right=ir.Dot()):
                    right = _name(left) == node.name
                case _:
                    right = False
            found[node.name] = found.get(node.name, True) and right
    return frozenset(name for name, right in found.items() if right)


def _name(expr: ir.Expr) -> str | None:
    return expr.name if isinstance(expr, ir.VarRef) else None

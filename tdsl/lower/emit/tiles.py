"""Tiles in Triton: program ids, index vectors, masks, edges, and the compile-time numbers behind them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tdsl import ir
from tdsl.lower.emit import syntax
from tdsl.lower.emit.functions import integer
from tdsl.lower.emit.syntax import assign, binary, call, quote
from tdsl.lower.emit.triton import Line
from tdsl.lower.emit.values import Value, literal
from tdsl.lower.emit.writer import Writer
from tdsl.lower.facts.candidates import PERSISTENT, SUBTILES
from tdsl.lower.facts.extents import Extent
from tdsl.lower.facts.specialization import Specialization


class Tiles:
    """Opens each tile once; what is asked of it later (`index`, `mask`, `edge`) decides which lines stay."""

    def __init__(self, specialization: Specialization, writer: Writer) -> None:
        self.specialization = specialization
        self.writer = writer
        self.emit: Callable[[ir.Expr], Value]  # set by whoever owns expressions
        self._used: set[str] = set()  # names that somebody asked for
        self._names: dict[tuple[str, str], str] = {}
        self._blocks: dict[str, str] = {}  # tile -> the name of its block
        self._stops: dict[str, Value] = {}
        self._negative: set[str] = set()  # tiles that may start below 0
        self._counts: dict[str, ast.expr] = {}  # tile of the grid -> in how many it comes
        self._constants: dict[str, ast.stmt] = {}  # line of the prelude, by name
        # Arguments that are compile-time integers and not the same in each candidate, by name.
        self.calculated_arguments: dict[str, ir.Expr] = {}

    # What a kernel starts with

    def prelude(self) -> tuple[Line, ...]:
        """Sizes and blocks as named constants, for those that the body names."""
        return tuple(Line(span=None, indent=0, code=line) for line in self._constants.values())

    def dimension(self, name: str) -> Value:
        extent = self.specialization.dims[name]
        return self._constant(f"{name}_", extent)

    def setting(self, name: str) -> Value:
        candidate = self.specialization.candidates[0]
        if name not in candidate.chosen:
            values = {other.settings[name] for other in self.specialization.candidates}
            if len(values) == 1:
                (known,) = values
                assert not isinstance(known, str), f"setting {name} is no number"
                if isinstance(known, bool | float):
                    return literal(known)
                return self._constant(f"{name}_", known)
            (value,) = (let.value for let in self.specialization.kernel.lets if let.name == name)
            self.calculated_arguments[f"{name}_"] = value
        return Value(code=syntax.name(f"{name}_"), nonnegative=self._nonnegative(name))

    def _nonnegative(self, name: str) -> bool:
        found = [candidate.settings[name] for candidate in self.specialization.candidates]
        return all(isinstance(value, int | float) and value >= 0 for value in found)

    def calculated(self, expr: ir.Expr, base: str) -> Value:
        """A compile-time integer that Python calculates: a literal, or an argument where candidates differ in it."""
        found = [self.specialization.value(expr, other.settings) for other in self.specialization.candidates]
        if len(set(found)) == 1:
            assert not isinstance(found[0], str), "an integer expression"
            return literal(found[0])
        calculated = self.calculated_arguments
        name = next((name for name, other in calculated.items() if other == expr), None)
        if name is None:
            name = self.writer.name(base.upper())
            calculated[name] = expr
        return Value(code=syntax.name(name), nonnegative=all(value >= 0 for value in found))  # type: ignore[operator]

    def _constant(self, name: str, extent: Extent) -> Value:
        if isinstance(extent, int):
            self._constants.setdefault(name, syntax.constant(name, extent))
            zero = literal(extent).zero
            return Value(code=syntax.name(name), zero=zero, nonnegative=extent >= 0)
        self._constants.setdefault(name, assign(name, self.wide(extent)))
        return Value(code=syntax.name(name), nonnegative=True)

    # Opening

    @contextmanager
    def turns(self, grid: tuple[ir.Tile, ...]) -> Iterator[ast.expr]:
        """What one program does: inside, the number of one tile of the grid. Programs are as many as
        there are tiles; where a candidate is persistent they may be fewer, and each takes turns."""
        number = self._wide(quote("tl.program_id(0)"))
        if not self.specialization.persistent:
            yield number
            return
        names = [self.writer.name(name) for name in ("program", "programs", "turns", "turn")]
        program, programs, turns, turn = names
        self.writer.assign(program, number)
        self.writer.assign(programs, self._wide(quote("tl.num_programs(0)")))
        tiles = syntax.joined("*", [self._count(tile) for tile in grid])
        assert tiles is not None, "there is something to take turns at"
        # One turn is a number that Triton knows, and leaves no loop.
        self.writer.assign(
            turns,
            quote("tl.cdiv({0} - {1}, {2}) if {3} else 1", tiles, program, programs, PERSISTENT),
        )
        self.writer.line(syntax.for_each(turn, call("range", turns)))
        with self.writer.block():
            yield quote("{0} + {1} * {2}", program, turn, programs)

    def open_grid(self, number: ast.expr, grid: tuple[ir.Tile, ...], group: ir.Expr | None) -> None:
        """From a number to one tile per axis, the last axis fastest; with `group`, the first two blocked
        axes are walked in bands of `group` rows, so that programs that run together share what they load."""
        if not grid:
            return
        numbers = {tile.key: self.writer.name(f"pid_{tile.key}") for tile in grid}
        blocked = [tile for tile in grid if not tile.scalar]
        banded = blocked[:2] if group is not None and len(blocked) >= 2 else []
        order = [tile for tile in grid if tile not in banded]
        if len(grid) == 1:
            self.writer.assign(numbers[grid[0].key], number)
        else:
            pid = self.writer.name("pid")
            self.writer.assign(pid, number)
            counts = {tile.key: self._count(tile) for tile in grid}
            if banded:
                self._open_band(pid, banded, numbers, counts, group, bool(order))
                if order:
                    inner = self.writer.name("outer")
                    every = binary("*", counts[banded[0].key], counts[banded[1].key])
                    self.writer.assign(inner, binary("//", pid, every))
                    pid = inner
            for at, tile in enumerate(reversed(order)):
                last = at == len(order) - 1
                self.writer.assign(numbers[tile.key], pid if last else binary("%", pid, counts[tile.key]))
                if not last:
                    rest = self.writer.name("pid_rest")
                    self.writer.assign(rest, binary("//", pid, counts[tile.key]))
                    pid = rest
        for tile in grid:
            if tile.scalar:
                self._name(tile, "index", f"{tile.key}_")
                self.writer.assign(f"{tile.key}_", numbers[tile.key])
            else:
                start = self._name(tile, "start")
                self.writer.assign(start, binary("*", numbers[tile.key], self.block(tile)))
                self._open_block(tile)

    def _open_band(
        self,
        pid: str,
        banded: list[ir.Tile],
        numbers: dict[str, str],
        counts: dict[str, ast.expr],
        group: ir.Expr | None,
        outer: bool,
    ) -> None:
        rows, columns = banded
        assert group is not None
        size = self.emit(group).code
        if outer:
            inner = self.writer.name("inner")
            self.writer.assign(inner, quote("{0} % ({1} * {2})", pid, counts[rows.key], counts[columns.key]))
            pid = inner
        band, width, within = (self.writer.name(name) for name in ("band", "band_rows", "within"))
        self.writer.assign(band, quote("{0} // ({1} * {2})", pid, size, counts[columns.key]))
        self.writer.assign(width, quote("tl.minimum({0} - {1} * {2}, {2})", counts[rows.key], band, size))
        self.writer.assign(within, quote("{0} % ({1} * {2})", pid, size, counts[columns.key]))
        self.writer.assign(numbers[rows.key], quote("{0} * {1} + {2} % {3}", band, size, within, width))
        self.writer.assign(numbers[columns.key], binary("//", within, width))

    def _count(self, tile: ir.Tile) -> ast.expr:
        if tile.key not in self._counts:
            size = self.emit(tile.stop).code
            if not tile.scalar:
                name = self.writer.name(f"num_{tile.key}")
                self.writer.assign(name, call("tl.cdiv", size, self.block(tile)))
                size = syntax.name(name)
            self._counts[tile.key] = size
        return self._counts[tile.key]

    def open_whole(self, tile: ir.Tile) -> None:
        index = self._name(tile, "index", f"{tile.key}_")
        self._stops[tile.key] = self.emit(tile.stop)
        lanes = self._wide(call("tl.arange", 0, self.block(tile)))
        self.writer.line_if(lambda: index in self._used, assign(index, lanes))
        self._open_mask(tile)

    def open_loop(self, tile: ir.Tile) -> ast.stmt:
        """The `for` line; the caller opens the block and then calls `enter_loop`."""
        first, stop = self.emit(tile.start), self.emit(tile.stop)
        if not first.nonnegative:
            self._negative.add(tile.key)
        if tile.scalar:
            name = self._name(tile, "index", f"{tile.key}_")
            return syntax.for_each(name, call("range", first.code, stop.code))
        self._stops[tile.key] = stop = self.writer.named(stop, f"{tile.key}_end")
        start = self._name(tile, "start")
        return syntax.for_each(start, call("range", first.code, stop.code, self.block(tile)))

    def enter_loop(self, tile: ir.Tile) -> None:
        if not tile.scalar:
            self._open_block(tile)

    def _open_block(self, tile: ir.Tile) -> None:
        if tile.key not in self._stops:
            self._stops[tile.key] = self.emit(tile.stop)
        index, start = self._name(tile, "index", f"{tile.key}_"), self._names[tile.key, "start"]
        lanes = quote("{0} + tl.arange(0, {1})", start, self.block(tile))
        lanes = self._wide(lanes) if tile.role == "loop" else lanes  # a program's number is wide already
        self.writer.line_if(lambda: index in self._used, assign(index, lanes))
        self._open_mask(tile)
        stop = self._name(tile, "stop")
        end = quote("tl.minimum({0} + {1}, {2})", start, self.block(tile), self._stops[tile.key].code)
        self.writer.line_if(lambda: stop in self._used, assign(stop, end))

    @contextmanager
    def parts(self, tile: ir.Tile) -> Iterator[str]:
        """A loop, unrolled, over the parts in which `tile` is stored: inside, what is asked of the tile is
        answered for the part whose number is given."""
        block = self.writer.name(f"PART_{tile.key}")
        self._constants[block] = syntax.constant(block, binary("//", self.block(tile), SUBTILES))
        number = self.writer.name("part")
        first = binary("*", number, block)
        if tile.role != "whole":
            first = binary("+", self._names[tile.key, "start"], first)
        names, whole = self._names.copy(), self._blocks[tile.key]
        self.writer.line(syntax.for_each(number, call("tl.static_range", SUBTILES)))
        with self.writer.block():
            index = self._name(tile, "index", self.writer.name(f"{tile.key}_part"))
            self._blocks[tile.key] = block
            lanes = self._wide(quote("{0} + tl.arange(0, {1})", first, block))
            self.writer.line_if(lambda: index in self._used, assign(index, lanes))
            self._open_mask(tile)
            yield number
        self._names, self._blocks[tile.key] = names, whole

    def _open_mask(self, tile: ir.Tile) -> None:
        if self.specialization.even(tile):
            return
        mask, index = self._name(tile, "mask"), self._names[tile.key, "index"]
        line = Line(
            span=self.writer.span,
            indent=self.writer.indent,
            code=assign(mask, binary("<", index, self._stops[tile.key].code)),
        )

        def settle() -> Line | None:
            if mask not in self._used:
                return None
            self._used.add(index)
            return line

        self.writer.add(settle)

    def wide(self, extent: Extent) -> ast.expr:
        """An integer that is known at run time, in as many bits as indices have."""
        wide = self.specialization.binding.index_dtype == "i64"
        return quote("tl.cast({0}, tl.int64)", integer(extent)) if wide else integer(extent)

    def _wide(self, index: ast.expr) -> ast.expr:
        wide = self.specialization.binding.index_dtype == "i64"
        return quote("{0}.to(tl.int64)", index) if wide else index

    def _name(self, tile: ir.Tile, what: str, name: str | None = None) -> str:
        self._names[tile.key, what] = name or self.writer.name(f"{tile.key}_{what}")
        return self._names[tile.key, what]

    # Asking

    def block(self, tile: ir.Tile) -> str:
        """The name of the block's size."""
        if tile.key not in self._blocks:
            if isinstance(tile.block, ir.SettingRef):
                setting = self.setting(tile.block.name).code
                assert isinstance(setting, ast.Name), "an integer setting has a name"
                self._blocks[tile.key] = setting.id
            else:
                name = self.writer.name(f"BLOCK_{tile.key}")
                sizes = {
                    self.specialization.block(tile, candidate) for candidate in self.specialization.candidates
                }
                if len(sizes) == 1:
                    size: syntax.Part = sizes.pop()
                else:
                    assert tile.block is not None, "whole tiles do not depend on a candidate"
                    size = self.emit(tile.block).code
                self._constants[name] = syntax.constant(name, size)
                self._blocks[tile.key] = name
        return self._blocks[tile.key]

    def shape(self, tiles: tuple[ir.Tile, ...]) -> ast.expr:
        return syntax.tupled([*map(self.block, tiles)])

    def index(self, tile: ir.Tile) -> Value:
        name = self._names[tile.key, "index"]
        self._used.add(name)
        dtype = self.specialization.binding.index_dtype
        nonnegative = tile.key not in self._negative
        if tile.scalar:
            return Value(code=syntax.name(name), nonnegative=nonnegative)
        return Value(code=syntax.name(name), dtype=dtype, tiles=(tile,), nonnegative=nonnegative)

    def edge(self, tile: ir.Tile, edge: str) -> Value:
        if tile.scalar:
            index = self.index(tile)
            return index if edge == "start" else index.of(binary("+", index.code, 1))
        if tile.role == "whole":
            return literal(0) if edge == "start" else self._stops[tile.key]
        name = self._names[tile.key, edge]
        self._used.add(name)
        return Value(code=syntax.name(name), nonnegative=tile.key not in self._negative)

    def mask(self, tile: ir.Tile) -> Value:
        """The lanes inside; only for a tile that is not even."""
        name = self._names[tile.key, "mask"]
        self._used.add(name)
        return Value(code=syntax.name(name), dtype="bool", tiles=(tile,))

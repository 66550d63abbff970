"""Statements, and the whole kernel: `lower(kernel, binding) -> TritonSource`.

    for k in K by BLOCK_K:                          for k_start in range(0, K_, BLOCK_K_):
        acc += dot(load A[m, k], load B[k, n])          k_ = k_start + tl.arange(0, BLOCK_K_)
                                                        ...
                                                        acc_ = tl.dot(A_tile, B_tile, acc_)

What it makes does not depend on what is fused: `lower.inductor` spells each slot, and owns signature,
decorator and launch.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from typing_extensions import assert_never

from tdsl import ir
from tdsl.lower.emit import syntax
from tdsl.lower.emit.expressions import Expressions
from tdsl.lower.emit.lanes import along
from tdsl.lower.emit.points import Points
from tdsl.lower.emit.tiles import Tiles
from tdsl.lower.emit.triton import Pointer, TritonSource
from tdsl.lower.emit.values import Value
from tdsl.lower.emit.writer import Writer
from tdsl.lower.facts.binding import Binding
from tdsl.lower.facts.budget import within_budget
from tdsl.lower.facts.overflow import wide_enough
from tdsl.types import WEAK_FLOAT


# A model has as many as it has kinds of layers, and shapes of each.
@lru_cache(maxsize=256)
def lower(kernel: ir.Kernel, binding: Binding) -> TritonSource:
    """The Triton source of `kernel` for the sizes, strides, dtypes and constants of `binding`.

    Raises TdslError where a block size or the grid cannot be had for these sizes.
    """
    return _Emission(kernel, binding).run()


class _Emission:
    def __init__(self, kernel: ir.Kernel, binding: Binding) -> None:
        self.kernel = kernel
        self.specialization = within_budget(kernel, wide_enough(kernel, binding))
        self.writer = Writer()
        self.tiles = Tiles(self.specialization, self.writer)
        self.points = Points(self.specialization, self.writer, self.tiles)
        self.expressions = Expressions(
            self.specialization,
            self.writer,
            self.tiles,
            load=self.points.load,
            rely=self.points.rely,
            along=lambda expr: along(self.expressions, expr),
        )
        self.tiles.emit = self.expressions.emit
        self.points.expressions = self.expressions
        counts = Counter(node.name for node in kernel.nodes if isinstance(node, ir.Assign))
        self.reassigned = frozenset(name for name, count in counts.items() if count > 1)

    def run(self) -> TritonSource:
        kernel = self.kernel
        self.writer.span = kernel.grid[0].span if kernel.grid else kernel.span
        with self.tiles.turns(kernel.grid) as number:
            self.tiles.open_grid(number, kernel.grid, kernel.group)
            self.statements(kernel.body)
        body = self.writer.finish()
        return TritonSource(
            name=kernel.name,
            pointers=self._pointers(),
            body=(*self.tiles.prelude(), *self.points.descriptors, *body),
            configs=self.specialization.configs(self.tiles.calculated_arguments),
            index_dtype=self.specialization.binding.index_dtype,
        )

    def _pointers(self) -> tuple[Pointer, ...]:
        accumulated = {node.param for node in self.kernel.nodes if isinstance(node, ir.Accumulate)}
        outputs = {output.name for output in self.kernel.outputs}
        pointers = []
        for item in (*self.kernel.params, *self.kernel.outputs):
            if isinstance(item, ir.Tensor) and self.specialization.binding.tensors[item.name] is not None:
                pointers.append(
                    Pointer(
                        name=f"{item.name}_",
                        param=item.name,
                        dtype=self.specialization.tensor(item.name).dtype,
                        written=item.inout or item.name in outputs,
                        accumulated=item.name in accumulated,
                    )
                )
        return tuple(pointers)

    def statements(self, body: tuple[ir.Statement, ...]) -> None:
        for statement in body:
            self.writer.span = statement.span
            self.statement(statement)

    def statement(self, statement: ir.Statement) -> None:
        match statement:
            case ir.Assign():
                self._assign(statement)
            case ir.Whole(tile=tile):
                self.tiles.open_whole(tile)
            case ir.For(tile=tile, body=body):
                self.writer.line(self.tiles.open_loop(tile))
                with self.writer.block():
                    self.tiles.enter_loop(tile)
                    self.statements(body)
            case ir.If():
                self._if(statement)
            case ir.Store():
                self.points.store(statement)
            case ir.Accumulate():
                self.points.accumulate(statement)
            case _:
                assert_never(statement)

    def _assign(self, statement: ir.Assign) -> None:
        name = f"{statement.name}_"
        value = self.expressions.settled(self.expressions.emit(statement.value))
        known = self.expressions.variables.get(statement.name)
        if known is None or (not known.tiles and not value.tiles and known.dtype is None):
            if value.dtype is not None:
                value = self.expressions.cast(value, self.specialization.dtype(statement.type.dtype))
        elif known.dtype is None:
            raise AssertionError(f"{statement.name} is weak, yet gets a block")
        else:
            value = self.expressions.block(value, known.tiles, known.dtype)
        if value.dtype is None and statement.type.dtype == WEAK_FLOAT and self.specialization.real == "f64":
            value = value.of(syntax.quote("tl.full((), {0}, tl.float64)", value.code))
        self.writer.assign(name, value.code)
        once = statement.name not in self.reassigned
        self.expressions.variables[statement.name] = Value(
            code=syntax.name(name),
            dtype=value.dtype,
            tiles=value.tiles,
            zero=value.zero if once else {},
            nonnegative=value.nonnegative and once,
        )

    def _if(self, statement: ir.If) -> None:
        opened = False
        for condition, body in statement.branches:
            if condition.type.constant:
                if not self.expressions.constant(condition):
                    continue
                self._else(body, opened)
                return
            if opened:
                # Not `elif`: what its condition loads must come after the tests before it.
                self.writer.line(None)
                with self.writer.block():
                    rest = ir.If(
                        span=statement.span,
                        branches=statement.branches[statement.branches.index((condition, body)) :],
                        orelse=statement.orelse,
                    )
                    self._if(rest)
                return
            value = self.expressions.emit(condition)
            self.writer.line(syntax.when(value.code))
            with self.writer.block():
                self.statements(body)
            opened = True
        self._else(statement.orelse, opened)

    def _else(self, body: tuple[ir.Statement, ...], opened: bool) -> None:
        if not opened:
            self.statements(body)
        elif body:
            self.writer.line(None)
            with self.writer.block():
                self.statements(body)

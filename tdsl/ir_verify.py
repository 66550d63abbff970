"""Verification: a kernel keeps the promises that `ir` makes. A failure is a mistake of ours, never an author's.

    verify(kernel)    AssertionError: 'acc' is used before it is assigned

Types are not derived a second time; names, tiles, ranks and stores are followed as a pass would meet them.
"""

from __future__ import annotations

from collections.abc import Mapping

from typing_extensions import assert_never

from tdsl import ir
from tdsl.options import OPTIONS


def verify(kernel: ir.Kernel) -> None:
    """Raises AssertionError with a sentence for the first broken promise."""
    _Verifier(kernel).run()


class _Verifier:
    def __init__(self, kernel: ir.Kernel) -> None:
        self.kernel = kernel
        self.tensors: Mapping[str, ir.Tensor] = {
            item.name: item for item in (*kernel.params, *kernel.outputs) if isinstance(item, ir.Tensor)
        }
        self.params = {param.name for param in kernel.params if not isinstance(param, ir.Tensor)}
        self.settings = {let.name for let in kernel.lets}
        self.settings |= {name for candidate in kernel.candidates for name, _ in candidate.items}
        self.tiles: set[str] = set()
        self.keys: set[str] = set()
        self.points: set[str] = set()
        self.written: set[str] = set()

    def run(self) -> None:
        kernel = self.kernel
        assert kernel.grid, "a kernel has a grid"
        assert kernel.candidates, "a kernel has a candidate"
        names = {
            tuple(sorted(name for name, _ in each.items if name not in OPTIONS)) for each in kernel.candidates
        }
        assert len(names) == 1, "every candidate sets the same names"
        constants = [*kernel.guards, *(let.value for let in kernel.lets)]
        constants += [value for candidate in kernel.candidates for _, value in candidate.items]
        constants += [each.condition for each in kernel.candidates if each.condition is not None]
        constants += [
            dim for tensor in self.tensors.values() for dim in tensor.dims if not isinstance(dim, ir.RestDim)
        ]
        for expr in constants:
            self.expression(expr, {})
        for tile in kernel.grid:
            self.tile(tile, {})
        for tile in kernel.grid:
            self.tiles.add(tile.key)
        self.block(kernel.body, {})
        for tensor in self.tensors.values():
            if tensor.inout or tensor in kernel.outputs:
                assert tensor.name in self.written, f"'{tensor.name}' is never written"

    def tile(self, tile: ir.Tile, variables: Mapping[str, ir.Type]) -> None:
        assert tile.key not in self.keys, f"two tiles or variables have the key '{tile.key}'"
        self.keys.add(tile.key)
        for bound in (tile.start, tile.stop):
            self.expression(bound, variables)
            assert not bound.type.tiles, f"a bound of '{tile.key}' varies over tiles"
        if tile.block is not None:
            self.expression(tile.block, variables)
            assert tile.block.type.constant, f"the block of '{tile.key}' is known at compile time"
            assert not tile.scalar, f"'{tile.key}' is one index and has no block"

    # Statements

    def block(self, body: tuple[ir.Statement, ...], variables: dict[str, ir.Type]) -> None:
        """`variables` gains what the block declares."""
        opened: list[str] = []
        for statement in body:
            match statement:
                case ir.Assign(name=name, type=type, value=value, declares=declares):
                    self.expression(value, variables)
                    assert set(value.type.tiles) <= set(type.tiles), f"a value of '{name}' has more tiles"
                    self.in_scope(type)
                    if declares:
                        assert name not in variables, f"'{name}' is declared twice"
                        variables[name] = type
                    assert variables.get(name) == type, f"'{name}' is assigned before it is declared"
                case ir.Whole(tile=tile):
                    self.tile(tile, variables)
                    self.tiles.add(tile.key)
                    opened.append(tile.key)
                case ir.For(tile=tile, body=inner):
                    self.tile(tile, variables)
                    self.tiles.add(tile.key)
                    self.block(inner, dict(variables))
                    self.tiles.discard(tile.key)
                case ir.If(branches=branches, orelse=orelse):
                    self.branches(branches, orelse, variables)
                case ir.Store() | ir.Accumulate():
                    self.write(statement, variables)
                case _:
                    assert_never(statement)
        self.tiles.difference_update(opened)

    def branches(
        self,
        branches: tuple[tuple[ir.Expr, tuple[ir.Statement, ...]], ...],
        orelse: tuple[ir.Statement, ...],
        variables: dict[str, ir.Type],
    ) -> None:
        ends: list[dict[str, ir.Type]] = []
        for condition, body in branches:
            self.expression(condition, variables)
            assert not condition.type.tiles, "a condition is a scalar"
            ends.append(dict(variables))
            self.block(body, ends[-1])
        if orelse:
            ends.append(dict(variables))
            self.block(orelse, ends[-1])
            for name, type in ends[0].items():
                if all(end.get(name) == type for end in ends):
                    variables[name] = type

    def write(self, node: ir.Store | ir.Accumulate, variables: Mapping[str, ir.Type]) -> None:
        tensor = self.tensors[node.param]
        assert tensor.inout or tensor in self.kernel.outputs, f"'{node.param}' is an input"
        self.written.add(node.param)
        self.subscripts(node.param, node.subscripts, variables)
        if isinstance(node, ir.Store) or not (node.skip or node.unchecked):
            assert all(item.in_bounds for item in node.subscripts), f"a write to '{node.param}' is not proven"
        found = {tile.key for item in node.subscripts for tile in item.value.type.tiles}
        assert found == {tile.key for tile in node.tiles}, (
            f"the tiles of a write to '{node.param}' are not its subscripts'"
        )
        self.expression(node.value, variables)
        assert set(node.value.type.tiles) <= set(node.tiles), f"a value for '{node.param}' has more tiles"

    def subscripts(
        self, param: str, subscripts: tuple[ir.Subscript, ...], variables: Mapping[str, ir.Type]
    ) -> None:
        assert len(subscripts) == len(self.tensors[param].dims), f"'{param}' has another rank"
        for item in subscripts:
            self.expression(item.value, variables)

    # Expressions

    def in_scope(self, type: ir.Type) -> None:
        for tile in type.tiles:
            assert tile.key in self.tiles, f"'{tile.key}' is not in scope"
            assert not tile.scalar, f"a type varies over the single index '{tile.key}'"

    def expression(self, root: ir.Expr, variables: Mapping[str, ir.Type]) -> None:
        known = dict(variables)
        stack: list[ir.Node | tuple[str, ir.Type]] = [root]
        while stack:
            node = stack.pop()
            if isinstance(node, tuple):
                name, type = node
                assert name not in self.keys, f"two variables have the key '{name}'"
                self.keys.add(name)
                known[name] = type
                continue
            if isinstance(node, ir.Typed):
                self.in_scope(node.type)
            match node:
                case ir.VarRef(name=name):
                    assert name in known, f"'{name}' is used before it is assigned"
                    assert known[name] == node.type, f"a reference to '{name}' has another type"
                case ir.TileRef(tile=tile) | ir.TileEdge(tile=tile):
                    assert tile.key in self.tiles, f"'{tile.key}' is not in scope"
                case ir.DimRef(name=name):
                    assert name in self.kernel.dims, f"there is no dimension '{name}'"
                case ir.ParamRef(name=name):
                    assert name in self.params, f"there is no parameter '{name}'"
                case ir.SettingRef(name=name):
                    assert name in self.settings, f"there is no setting '{name}'"
                case ir.Select(condition=condition):
                    assert condition.type.constant, "a conditional expression is decided at compile time"
                case ir.Reduce(operand=operand, tiles=tiles):
                    assert set(tiles) <= set(operand.type.tiles), (
                        "a reduction goes along tiles of its operand"
                    )
                case ir.Along(operand=operand, tile=tile, onto=onto):
                    assert tile in operand.type.tiles, (
                        "what looks along a tile has an operand that varies over it"
                    )
                    assert onto is None or onto in node.type.tiles, (
                        "and is over the tile that takes its place"
                    )
                case ir.Dot(left=left, right=right, tile=tile):
                    shared = set(left.type.tiles) & set(right.type.tiles)
                    assert shared == {tile}, "a dot contracts the one shared tile"
                case ir.Load(point=point, param=param, subscripts=subscripts):
                    assert point not in self.points, f"two loads are the point '{point}'"
                    self.points.add(point)
                    assert len(subscripts) == len(self.tensors[param].dims), f"'{param}' has another rank"
                    if node.otherwise is None and not node.unchecked:
                        assert all(item.in_bounds for item in subscripts), (
                            f"a load of '{param}' is not proven"
                        )
                case ir.Inline(bindings=bindings, result=result):
                    stack.append(result)
                    for name, value in reversed(bindings):
                        stack.append((name, _kept(value.type)))
                        stack.append(value)
                    continue
            stack.extend(reversed(list(ir.children(node))))


def _kept(type: ir.Type) -> ir.Type:
    """The type of a variable that a value of `type` is bound to."""
    return ir.Type(dtype=type.dtype, tiles=type.tiles)

"""How often each load point reads: what a prologue there would compute, against the tensor's own size.

    for m, n in grid(M by 128, N by 128):       M = N = K = 4096
        for k in K by 64:
            ... load A[m, k] ...                A: 4096 * 4096, once for each of the 32 blocks of n

It is an estimate for a decision about cost: sizes are the likely ones, blocks those of the first candidate,
lanes outside a tile are not counted, and both sides of a run-time `if` are.
"""

from __future__ import annotations

from collections.abc import Iterable

from tdsl import ir
from tdsl.lower.facts.specialization import Specialization


def loaded_elements(specialization: Specialization) -> dict[str, int]:
    """For each load point, how many elements all programs load there together."""
    return _Count(specialization).run()


class _Count:
    def __init__(self, specialization: Specialization) -> None:
        self.specialization = specialization
        self.candidate = specialization.candidates[0]
        self.assigned = ir.assignments(specialization.kernel)
        self.counts: dict[str, int] = {}

    def run(self) -> dict[str, int]:
        kernel = self.specialization.kernel
        self.statements(kernel.body, kernel.grid)
        return self.counts

    def statements(self, body: tuple[ir.Statement, ...], loops: tuple[ir.Tile, ...]) -> None:
        for statement in body:
            match statement:
                case ir.For(tile=tile, body=inner):
                    self.points(tile, loops)
                    self.statements(inner, (*loops, tile))
                case ir.If(branches=branches, orelse=orelse):
                    for condition, inner in branches:
                        self.points(condition, loops)
                        self.statements(inner, loops)
                    self.statements(orelse, loops)
                case _:
                    self.points(statement, loops)

    def points(self, root: ir.Node, loops: tuple[ir.Tile, ...]) -> None:
        for node in ir.walk(root):
            if isinstance(node, ir.Load):
                named = {tile.key: tile for tile in node.type.tiles}
                named |= self.named(subscript.value for subscript in node.subscripts)
                count = 1
                for tile in named.values():
                    count *= self.extent(tile)
                for tile in loops:
                    if tile.key not in named:
                        count *= self.blocks(tile)
                self.counts[node.point] = count

    def named(self, values: Iterable[ir.Expr]) -> dict[str, ir.Tile]:
        """The tiles on which values depend, directly or through variables."""
        found: dict[str, ir.Tile] = {}
        seen: set[str] = set()
        left = list(values)
        while left:
            for node in ir.walk(left.pop()):
                match node:
                    case ir.TileRef(tile=tile) | ir.TileEdge(tile=tile):
                        found[tile.key] = tile
                    case ir.VarRef(name=name) if name not in seen:
                        seen.add(name)
                        left += self.assigned.get(name, ())
        return found

    def extent(self, tile: ir.Tile) -> int:
        return max(self.likely(tile.stop) - self.likely(tile.start), 1)

    def blocks(self, tile: ir.Tile) -> int:
        if tile.role == "whole":
            return 1
        return -(-self.extent(tile) // self.specialization.block(tile, self.candidate))

    def likely(self, expr: ir.Expr) -> int:
        try:
            value = self.specialization.value(expr, self.candidate.settings, likely=True)
        except KeyError:
            # An end that differs from program to program: on average the middle of what it goes along.
            tiles = self.named([expr]).values()
            return max((self.likely(tile.stop) // 2 for tile in tiles), default=1)
        return int(value)

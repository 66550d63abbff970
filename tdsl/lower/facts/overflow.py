"""In how many bits a kernel must calculate with indices.

    load x[(m * 1000003) % K, n]     m < 4096    m * 1000003 is up to 4.1e9: in 64, though K is small
    load Q[k // 8, n]                            in 32

What bounds a tensor bounds its indices, and no value on the way to one: that a subscript is in bounds was proven of
exact integers. Each expression of indices and sizes is bounded by intervals; a size that is not known is as large as
one of a tensor that is indexed with 32 bits. What nothing bounds takes 64.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tdsl import ir
from tdsl.lower.facts.binding import Binding
from tdsl.lower.facts.budget import within_budget
from tdsl.lower.facts.specialization import Specialization
from tdsl.types import WEAK_INT

LEAST, MOST = -(2**31), 2**31 - 1
SIZE = MOST - 2**24  # of an unknown size: one more, or a few thousand, is still no overflow

Interval = tuple[float, float]  # of integers; infinite where nothing bounds them
_ARITHMETIC = (ir.Unary, ir.Binary, ir.Elementwise, ir.Select)
ANY: Interval = (-math.inf, math.inf)


def wide_enough(kernel: ir.Kernel, binding: Binding) -> Binding:
    """The binding, with 64-bit indices if 32 bits do not hold all that is calculated of indices."""
    if binding.index_dtype == "i32" and Intervals(within_budget(kernel, binding)).overflow():
        return replace(binding, index_dtype="i64")
    return binding


class Intervals:
    """What expressions of indices and sizes may come to in one binding of a kernel."""

    def __init__(self, specialization: Specialization) -> None:
        self.specialization = specialization
        self.assigned = ir.assignments(specialization.kernel)
        self.known: dict[int, Interval] = {}

    def overflow(self) -> bool:
        """Whether some arithmetic on indices may pass 32 bits, or meets a number that does."""
        for node in self.specialization.kernel.nodes:
            if not isinstance(node, _ARITHMETIC):
                continue
            operands = [each for each in ir.children(node) if isinstance(each, ir.Expr)]
            integers = [each for each in (node, *operands) if each.type.dtype == WEAK_INT]
            if node.type.constant and all(map(self._values, integers)):
                continue  # Python's
            weak = node.type.dtype == WEAK_INT or all(each.type.dtype == WEAK_INT for each in operands)
            if node.type.dtype == WEAK_INT and _passes(self.of(node)):
                return True
            for each in operands:
                # A number beside a tile of another dtype is a literal, and says itself how large it is; a parameter
                # whose value is not known has the bits that it is passed in.
                leaf = isinstance(each, ir.Constant | ir.ParamRef)
                if each.type.dtype == WEAK_INT and (weak or not leaf):
                    interval = self.of(each)
                    if _passes(interval) and not (leaf and interval == ANY):
                        return True
        return False

    def of(self, node: ir.Expr) -> Interval:
        if id(node) not in self.known:
            self.known[id(node)] = ANY  # what a variable's value depends on itself
            self.known[id(node)] = self._of(node)
        return self.known[id(node)]

    def _of(self, node: ir.Expr) -> Interval:
        if node.type.constant and (values := self._values(node)):
            return min(values), max(values)
        match node:
            case ir.DimRef():
                return 0, SIZE
            case ir.ParamRef(name=name) if isinstance(
                number := self.specialization.binding.scalars.get(name), int
            ):
                return number, number
            case ir.TileRef(tile=tile):
                return self.of(tile.start)[0], self.of(tile.stop)[1] - 1
            case ir.TileEdge(tile=tile):
                return self.of(tile.start)[0], self.of(tile.stop)[1]
            case ir.VarRef(name=name) if node.type.dtype == WEAK_INT and name in self.assigned:
                return _hull([self.of(value) for value in self.assigned[name]])
            case ir.Inline(result=result):
                return self.of(result)
            case ir.Unary(op="-", operand=operand):
                low, high = self.of(operand)
                return -high, -low
            case ir.Unary(op="~", operand=operand):
                low, high = self.of(operand)
                return -high - 1, -low - 1
            case ir.Binary(op=op, left=left, right=right):
                return _binary(op, self.of(left), self.of(right))
            case ir.Select(then=then, otherwise=otherwise):
                return _hull([self.of(then), self.of(otherwise)])
            case (
                ir.Elementwise(function="where", arguments=(_, *sides))
                | ir.Elementwise(function="minimum" | "maximum", arguments=sides)
            ):
                return _hull([self.of(side) for side in sides])
            case ir.Elementwise(function="abs", arguments=(operand,)):
                low, high = self.of(operand)
                return 0, max(-low, high)
            case ir.Elementwise(function="cdiv", arguments=(left, right)):
                # Triton adds the two before it divides.
                operands = self.of(left), self.of(right)
                return _hull([_binary("//", *operands), _binary("+", *operands)])
            case _:
                return ANY if node.type.dtype == WEAK_INT else (LEAST, MOST)

    def _values(self, node: ir.Expr) -> list[int]:
        """What a compile-time expression comes to in each candidate; none if that needs a size not known."""
        found = []
        for candidate in self.specialization.candidates:
            value = self.specialization.integer(node, candidate.settings)
            if value is None:
                return []
            found.append(value)
        return found


def _passes(interval: Interval) -> bool:
    return not (interval[0] >= LEAST and interval[1] <= MOST)


def _hull(intervals: list[Interval]) -> Interval:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def _binary(op: str, left: Interval, right: Interval) -> Interval:
    largest = max(map(abs, left))
    match op:
        case "+":
            return left[0] + right[0], left[1] + right[1]
        case "-":
            return left[0] - right[1], left[1] - right[0]
        case "*":
            corners = [0 if 0 in (a, b) else a * b for a in left for b in right]  # infinity times 0 is 0
            return min(corners), max(corners)
        case "//":
            return (0, left[1]) if left[0] >= 0 and right[0] >= 0 else (-largest - 1, largest + 1)
        case "%":
            if right[0] < 0:
                return right[0], max(right[1], 0)
            return 0, right[1] - 1 if left[0] < 0 else min(left[1], right[1] - 1)
        case ">>":
            return (0, left[1]) if left[0] >= 0 else (-largest - 1, largest)
        case "<<" if right[0] >= 0 and right[1] < 64:
            return _binary("*", left, (1, 2 ** int(right[1])))
        case "&" if min(left[0], right[0]) >= 0:
            return 0, min(left[1], right[1])
        case "|" | "^" if min(left[0], right[0]) >= 0:
            return 0, left[1] + right[1]
        case "**" if left[0] >= 0 and right[0] >= 0 and right[1] < 64:
            return 0, max(left[1], 1) ** right[1]  # 0 ** 0 is 1
        case "<" | "<=" | ">" | ">=" | "==" | "!=" | "and" | "or":
            return 0, 1
        case _:
            return ANY

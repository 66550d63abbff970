"""Which tuning candidates of a call are worth compiling, by arithmetic alone.

    128x256x64, 4 warps, 3 stages    ->    dropped: 256 registers a thread for what the loop carries
    128x128x64, 8 warps, 9 stages    ->    dropped: 9 x 32 KiB of shared memory, and there are 227
    128x128x64, 8 warps, 3 stages    ->    kept

Timing those that are kept is others' business. The numbers are lower bounds on what a kernel needs with
nothing fused, as compiled kernels show them; what a bound lets pass and does not fit, the compiler refuses.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tdsl import ir
from tdsl.lower.facts.binding import Binding
from tdsl.lower.facts.candidates import BoundCandidate, Budget
from tdsl.lower.facts.specialization import Specialization, specialize
from tdsl.types import DTYPES

log = logging.getLogger(__name__)

WGMMA_ROWS = 64  # the least that an asynchronous matrix product multiplies


def within_budget(kernel: ir.Kernel, binding: Binding) -> Specialization:
    """A kernel and a binding, put together, with the candidates that the binding's budget leaves."""
    whole = specialize(kernel, binding)
    return whole if binding.budget is None else replace(whole, candidates=affordable(whole, binding.budget))


def affordable(specialization: Specialization, budget: Budget) -> tuple[BoundCandidate, ...]:
    """The candidates that can fit, in the author's order; never none, at most `budget.most`."""
    name = specialization.kernel.name
    kept: Sequence[BoundCandidate] = specialization.candidates
    limit = budget.shared_memory
    if limit is not None:
        need = _cached(lambda candidate: shared_bytes(specialization, candidate, budget))
        kept = _fitting(name, kept, need, lambda _: limit, "bytes of shared memory")
    if budget.registers is not None:
        most = budget.registers
        need = _cached(lambda candidate: registers(specialization, candidate, budget))
        kept = _fitting(name, kept, need, lambda c: min(most, c.options.get("maxnreg", most)), "registers")
    for tile in dict.fromkeys(_tiles(specialization.kernel)):
        kept = _covering(name, specialization, tile, kept)
    if len(kept) > budget.most:
        log.info(
            "%s: %d candidates fit and the first %d are tuned (16 under max-autotune)",
            name,
            len(kept),
            budget.most,
        )
    return tuple(kept[: budget.most])


def shared_bytes(specialization: Specialization, candidate: BoundCandidate, budget: Budget) -> int:
    """Bytes of shared memory that the loads of the greediest loop of products are staged in."""
    stages = candidate.option("num_stages")
    most = 0
    for dots, loads in _product_loops(specialization.kernel):
        rows = min(
            math.prod(
                specialization.block(tile, candidate)
                for tile in dot.left.type.tiles
                if tile.key != dot.tile.key
            )
            for dot in dots
        )
        copies = stages if budget.asynchronous and rows >= WGMMA_ROWS else max(stages - 1, 1)
        most = max(most, copies * sum(_bits(specialization, candidate, load.type) for load in loads) // 8)
    return most // candidate.option("num_ctas")


def registers(specialization: Specialization, candidate: BoundCandidate, budget: Budget) -> int:
    """Registers a thread for what a loop carries from one step to the next, or for the largest single
    value that is calculated with, whichever is more."""
    warps, ctas = candidate.option("num_warps"), candidate.option("num_ctas")
    threads = warps * budget.warp_size * ctas
    bits = 0
    for types in _live_together(specialization.kernel):
        bits = max(bits, sum(_bits(specialization, candidate, type_) for type_ in types))
    return -(-bits // (32 * threads))


def _fitting(
    name: str,
    candidates: Sequence[BoundCandidate],
    need: Callable[[BoundCandidate], int],
    limit: Callable[[BoundCandidate], int],
    what: str,
) -> Sequence[BoundCandidate]:
    kept = []
    for candidate in candidates:
        if need(candidate) <= limit(candidate):
            kept.append(candidate)
        else:
            log.info(
                "%s: dropped %s: needs %d %s, of %d",
                name,
                candidate.describe(),
                need(candidate),
                what,
                limit(candidate),
            )
    if not kept:
        kept = [min(candidates, key=need)]
        log.info("%s: no candidate fits; kept %s", name, kept[0].describe())
    return kept


def _covering(
    name: str, specialization: Specialization, tile: ir.Tile, candidates: Sequence[BoundCandidate]
) -> Sequence[BoundCandidate]:
    """Drops blocks larger than the smallest that covers the whole of a tile's range by itself."""
    blocks = {}
    enough = None
    for candidate in candidates:
        start = specialization.integer(tile.start, candidate.settings)
        stop = specialization.integer(tile.stop, candidate.settings)
        if start is None or stop is None:
            return candidates
        blocks[id(candidate)] = block = specialization.block(tile, candidate)
        if block >= stop - start:
            enough = block if enough is None else min(enough, block)
    if enough is None:
        return candidates
    for candidate in candidates:
        if blocks[id(candidate)] > enough:
            log.info(
                "%s: dropped %s: a block of %d covers '%s'", name, candidate.describe(), enough, tile.name
            )
    return [candidate for candidate in candidates if blocks[id(candidate)] <= enough]


def _bits(specialization: Specialization, candidate: BoundCandidate, type_: ir.Type) -> int:
    lanes = math.prod(specialization.block(tile, candidate) for tile in type_.tiles)
    return lanes * DTYPES[specialization.dtype(type_.dtype)].bits


def _tiles(kernel: ir.Kernel) -> Iterator[ir.Tile]:
    yield from (tile for tile in kernel.grid if not tile.scalar)
    for node in kernel.nodes:
        if isinstance(node, ir.For) and not node.tile.scalar:
            yield node.tile


def _product_loops(kernel: ir.Kernel) -> Iterator[tuple[list[ir.Dot], list[ir.Load]]]:
    """Of each innermost loop with products in it: those, and the loads in it that reach one."""
    for loop in kernel.nodes:
        if not isinstance(loop, ir.For):
            continue
        inner = [node for node in ir.walk(loop) if isinstance(node, ir.For) and node is not loop]
        dots = [node for node in ir.walk(loop) if isinstance(node, ir.Dot)]
        if not dots or any(isinstance(node, ir.Dot) for other in inner for node in ir.walk(other)):
            continue
        values: dict[str, list[ir.Expr]] = {}
        for node in ir.walk(loop):
            if isinstance(node, ir.Assign):
                values.setdefault(node.name, []).append(node.value)
        loads: dict[str, ir.Load] = {}
        seen: set[str] = set()
        waiting: list[ir.Node] = [side for dot in dots for side in (dot.left, dot.right)]
        while waiting:
            for node in ir.walk(waiting.pop()):
                if isinstance(node, ir.Load):
                    loads[node.point] = node
                elif isinstance(node, ir.VarRef) and node.name not in seen:
                    seen.add(node.name)
                    # What a product goes into comes back around the loop in registers.
                    waiting += [
                        value
                        for value in values.get(node.name, [])
                        if not any(isinstance(part, ir.Dot) for part in ir.walk(value))
                    ]
        yield dots, [load for load in loads.values() if load.type.tiles]


def _live_together(kernel: ir.Kernel) -> Iterator[list[ir.Type]]:
    """Types of values that are in registers at one time, for sure."""
    for node in kernel.nodes:
        match node:
            case ir.For():
                inside = [item for item in ir.walk(node) if isinstance(item, ir.Assign)]
                declared = {item.name for item in inside if item.declares}
                carried = {item.name: item.type for item in inside if item.name not in declared}
                yield list(carried.values())
            case ir.Assign(type=type_):
                yield [type_]
            case ir.Reduce(operand=operand) | ir.Along(operand=operand):
                yield [operand.type]


def _cached(need: Callable[[BoundCandidate], int]) -> Callable[[BoundCandidate], int]:
    known: dict[int, int] = {}

    def ask(candidate: BoundCandidate) -> int:
        if id(candidate) not in known:
            known[id(candidate)] = need(candidate)
        return known[id(candidate)]

    return ask

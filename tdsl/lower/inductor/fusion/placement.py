"""Which slot of a kernel each fused node goes into, or that there is none for it.

    y, mean, rstd = ln(x, ...)         y.relu()     -> behind y
    (all stored in one block)          y / rstd     -> behind y, once rstd is known too
                                       mean + col   -> behind mean

The scheduler has compared what is written with what is read, element by element; here it is asked whether
the kernel has the values at hand. What is refused becomes a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from tdsl import ir
from tdsl.lower.emit.triton import Line, LoadSlot, StoreSlot
from tdsl.lower.facts.candidates import SUBTILES
from tdsl.lower.inductor.buffer import TemplateCall
from tdsl.lower.inductor.compat.names import (
    BaseSchedulerNode,
    ComputedBuffer,
    CppOverrides,
    Dep,
    MemoryDep,
    MemoryUsageType,
    ModularIndexing,
    MultiOutput,
    MutationLayout,
    Pointwise,
    SchedulerNode,
    StarDep,
    TritonKernelOverrides,
    V,
    sympy,
    sympy_product,
)
from tdsl.refusal import Reason


@dataclass(frozen=True)
class Placement:
    """The nodes behind each result, in order, and the other results whose values they read there."""

    epilogues: dict[str, list[SchedulerNode]] = field(default_factory=dict)
    joined: dict[str, set[str]] = field(default_factory=dict)
    # What is computed behind other results and read there: buffer -> the result that it is behind.
    handed: dict[str, dict[str, str]] = field(default_factory=dict)
    mutated: set[str] = field(default_factory=set)  # buffers that exist already and are written to


def place(
    call: TemplateCall, epilogues: Sequence[BaseSchedulerNode], prologues: Sequence[BaseSchedulerNode]
) -> Placement | Reason:
    """Where the nodes around `call` go, or why the first of them that can go nowhere cannot."""
    placement = Placement()
    home = {name: {param} for name, param in call.epilogue_fusable_outputs.items()}
    for node in epilogues:
        if isinstance(node.node, MultiOutput):
            continue
        if (reason := not_pointwise(node)) is not None:
            return reason
        deps = true_reads(node)
        reads = sorted({dep.name for dep in deps})
        for name in reads:
            if name in call.closed_results:
                return call.closed_results[name]
        if not all(isinstance(dep, MemoryDep) for dep in deps):
            return Reason(
                text="it reads a tensor as a whole, not element by element",
                help="only pointwise work can go behind a store",
            )
        assert isinstance(node, SchedulerNode), "pointwise work is one"
        sources = set().union(*(home[name] for name in reads if name in home))
        param = _home(call, sources, node)
        if isinstance(param, Reason):
            return param
        results = call.epilogue_fusable_outputs
        handed: dict[str, str] = {}
        for name in reads:
            if name in home and name not in results and home[name] != {param}:
                (handed[name],) = home[name]
                if param in _needed(placement, handed[name]):
                    return Reason(
                        text=f"it goes behind '{param}', and reads what is computed behind '{handed[name]}', "
                        f"which needs what is computed behind '{param}'",
                        help=f"compute it from '{handed[name]}' itself",
                    )
        placement.epilogues.setdefault(param, []).append(node)
        stored = {results[name] for name in reads if name in results}
        placement.joined.setdefault(param, set()).update(stored - {param})
        placement.handed.setdefault(param, {}).update(handed)
        for name in node.get_buffer_names():
            home[name] = {param}
        if node.has_aliasing_or_mutation():
            target = _written_in_place(call, node, param)
            if isinstance(target, Reason):
                return target
            placement.mutated.add(target)
    reader = _other_reader(call, placement, [*epilogues, *prologues])
    return placement if reader is None else reader


def not_pointwise(node: BaseSchedulerNode) -> Reason | None:
    """What keeps a node out of every kernel of a template, wherever it stands."""
    if any(isinstance(part.node, TemplateCall) for part in node.get_nodes()):
        return Reason(
            text="it is a kernel of another template, or is fused with one",
            help="one template for both would be one kernel",
        )
    if node.is_extern() or any(part.is_extern() for part in node.get_nodes()):
        return Reason(
            text="it is a call of a library, or of an operator that Inductor has no code for",
            help="a template in its place could be fused with what is around it",
        )
    if node.is_reduction():
        return Reason(
            text="it is a reduction, whose result needs elements of more than one block",
            help="reduce inside the template, or let it have a kernel of its own",
        )
    for part in node.get_nodes():
        data = part.node.data if isinstance(part.node, ComputedBuffer) else None
        if not isinstance(part, SchedulerNode) or not isinstance(data, Pointwise):
            return Reason(
                text=f"it is not pointwise work ({type(data or part.node).__name__})",
                help="only pointwise work moves into a template",
            )
        if (what := _beyond_triton(part)) is not None:
            return Reason(
                text=f"it needs {what}, which kernels in Triton do not have",
                help="leave it apart, or rewrite it",
            )
    return None


def _beyond_triton(node: SchedulerNode) -> str | None:
    """An operation or a dtype that a CPU's C++ has and Triton has not, or of which Inductor (2.13) makes no prologue."""
    body = node._body
    deps = [dep for dep in node.read_writes.reads_and_writes() if isinstance(dep, MemoryDep)]
    used = {V.graph.get_dtype(dep.name) for dep in deps}
    for block in (body.root_block, *body.subblocks.values()):
        for part in block.graph.nodes:
            name = str(part.target)
            if name == "frexp" or (
                hasattr(CppOverrides, name)
                and not CppOverrides._is_unimplemented(name)
                and TritonKernelOverrides._is_unimplemented(name)
            ):
                return f"'{name}'"
            used |= {arg for arg in part.args if isinstance(arg, torch.dtype)}
    device = node.get_device()
    if device is not None and device.type == "cpu":
        return min(map(str, used & _NOT_IN_THE_INTERPRETER), default=None)
    return None


_NOT_IN_THE_INTERPRETER = {torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu}


def _home(call: TemplateCall, sources: set[str], node: SchedulerNode) -> str | Reason:
    """The result in whose slot a node has all that it reads: the one of its own size. A node that reads
    none, and came here with one that does, can go behind any."""
    mine = numel(node)
    sized = []
    for param in sorted(sources) or call.epilogue_fusable_outputs.values():
        own = sympy_product(call.results[param].layout.size)
        if V.graph.sizevars.statically_known_equals(own, mine):
            if all(_within_reach(call, param, other) for other in sources - {param}):
                return param
            sized.append(param)
    if sized:
        others = ", ".join(f"'{other}'" for other in sorted(sources - {sized[0]}))
        together = all(_same_block(call, sized[0], other) for other in sources - {sized[0]})
        why = (
            "the program does not have it there"
            if together
            else "a loop or a branch has one of the stores and not the other"
        )
        return Reason(
            text=f"it needs {others} where '{sized[0]}' is stored, and {why}",
            help="leave out 'epilogue_subtile': a tile that is stored in parts has no other result beside it"
            if SUBTILES in dict(call.source.configs[0].constants)
            else "store both in one block, with the same leading subscripts",
        )
    known = " and ".join(
        f"'{name}' has {sympy_product(call.results[name].layout.size)}"
        for name in sorted(sources) or call.results
    )
    return Reason(
        text=f"it has {mine} elements, and {known}",
        help="only work on as many elements as are stored goes in: slice, pad or expand behind it",
    )


def _needed(placement: Placement, param: str) -> set[str]:
    """The results behind which something is computed that is read behind `param`, and so on."""
    direct = set(placement.handed.get(param, {}).values())
    return direct.union(*(_needed(placement, other) for other in direct))


def true_reads(node: BaseSchedulerNode) -> list[Dep]:
    """What a node reads, without what is there for the order of nodes only: that it comes after who has written to
    the tensor that it writes to itself, or after who has found out a size."""
    whole = {
        entry.buffer_name
        for part in node.get_nodes()
        if isinstance(part, SchedulerNode)
        for entry in part._body.memory_usage[MemoryUsageType.BUCKETIZE]
    }
    real = V.graph.scheduler.mutation_real_name  # each write in place gives a tensor another name
    return [
        dep
        for dep in node.read_writes.reads
        if isinstance(dep, MemoryDep) or (isinstance(dep, StarDep) and real.get(dep.name, dep.name) in whole)
    ]


def numel(node: SchedulerNode) -> sympy.Expr:
    """How many elements a node works on."""
    iteration, reduction = node.get_ranges()
    return sympy_product([*iteration, *reduction])


def _within_reach(call: TemplateCall, param: str, other: str) -> bool:
    """Whether the stored value of `other` is at hand in the slot of `param`, lane by lane: both are stored
    once, in one block, and the subscripts of `other` are the first ones of `param`."""
    mine, its = _stores(call, param), _stores(call, other)
    if len(mine) != 1 or len(its) != 1:
        return False
    depth = len(its[0].subscripts)
    tensor, its_tensor = call.kernel.tensor(param), call.kernel.tensor(other)
    if tensor.dims[:depth] != its_tensor.dims:
        return False
    values = [subscript.value for subscript in mine[0].subscripts[:depth]]
    if values != [subscript.value for subscript in its[0].subscripts]:
        return False
    if any(tile not in mine[0].tiles for tile in its[0].tiles):
        return False
    return _same_block(call, param, other)


def _stores(call: TemplateCall, param: str) -> list[ir.Store]:
    return [node for node in ir.walk(call.kernel) if isinstance(node, ir.Store) and node.param == param]


def _same_block(call: TemplateCall, param: str, other: str) -> bool:
    """Whether the two slots are lines of one block, so that what one names the other can read."""
    body = call.source.body
    positions = sorted(store_positions(call, name)[0] for name in (param, other))
    between: Sequence[Line | LoadSlot | StoreSlot] = body[positions[0] : positions[1] + 1]
    return all(item.indent >= between[0].indent for item in between) and (
        between[0].indent == between[-1].indent
    )


def store_positions(call: TemplateCall, param: str) -> list[int]:
    """Where in the body the store slots of a result are: one, or one in each branch of an `if`."""
    return [
        at for at, item in enumerate(call.source.body) if isinstance(item, StoreSlot) and item.param == param
    ]


def tiles_of(call: TemplateCall, param: str) -> tuple[ir.Tile, ...]:
    """The tiles of the block that the one store of a result stores."""
    return _stores(call, param)[0].tiles


# Results that are copied back to what they were made from


def _written_in_place(call: TemplateCall, node: SchedulerNode, param: str) -> str | Reason:
    """The buffer that `node` copies a result into, if the kernel reads it nowhere, or it is the very tensor that the
    kernel read as `inout`: then each element is written by whoever read it."""
    assert isinstance(node.node, ComputedBuffer), "asked of pointwise nodes only"
    layout = node.node.layout
    elsewhere = Reason(
        text="it writes into a tensor that exists already or is made in parts ('copy_', 'index_put', 'cat'), and not "
        "into the very one that the kernel has read",
        help="write it out of place, or pass the tensor itself as 'inout'",
    )
    if not isinstance(layout, MutationLayout):
        return elsewhere
    name = layout.get_buffer().get_name()
    if not _readers(call, name) and type(node.node.data) is Pointwise:  # and no `Scatter`, which is one, too
        return name
    if not call.results[param].inout or param not in call.tensors or name != call.tensors[param].get_name():
        return elsewhere
    # Where the element is that was read, for the place in the result that the node copies from.
    source, result = call.tensors[param].get_layout(), call.results[param].layout
    indices = _indices(node, call.result_buffers[param])
    if indices is None:
        return elsewhere
    read, written = indices
    place = source.offset + sum(
        step * ModularIndexing(read, its_step, size)
        for step, its_step, size in zip(source.stride, result.stride, result.size, strict=True)
        if size != 1
    )
    sizevars, ranges = V.graph.sizevars, node._body.var_ranges
    dense = source.offset + read if list(source.stride) == list(result.stride) else None
    same = any(
        sizevars.simplify_with_ranges(there - written, ranges) == 0
        for there in (dense, place)
        if there is not None
    )
    return name if same else elsewhere


def _indices(node: SchedulerNode, result: str) -> tuple[sympy.Expr, sympy.Expr] | None:
    """Where a node reads a result of a call, and where it writes; None if it is not one place each."""
    reads = set(node._body.get_all_read_expr(result))
    if len(reads) != 1:
        return None
    (written,) = node.get_buffer_names()
    return reads.pop(), node._body.get_write_expr(written)


def _other_reader(
    call: TemplateCall, placement: Placement, nodes: Sequence[BaseSchedulerNode]
) -> Reason | None:
    """Who else in the kernel reads what it writes to."""
    reason = Reason(
        text="the kernel would write in place to a tensor that it also reads, and not as its 'inout' alone",
        help="pass a clone for one of the two, or only the tensor itself, as 'inout'",
    )
    scheduler = V.graph.scheduler
    made = {name for node in nodes for name in node.get_buffer_names()}  # new values, read from registers
    for name in placement.mutated:
        if _readers(call, name) > 1:
            return reason
        for node in nodes:
            for dep in true_reads(node):
                if dep.name not in made and scheduler.mutation_real_name.get(dep.name, dep.name) == name:
                    return reason
    return None


def _readers(call: TemplateCall, name: str) -> int:
    """How many of the tensors that a call reads lie in a buffer's memory."""
    return sum(name in _memory(node.get_name()) for node in call.tensors.values())


def _memory(name: str) -> set[str]:
    """The buffers in whose memory a buffer lies: itself, and those that it is a view of (as another dtype, say)."""
    buffer = V.graph.scheduler.name_to_buf.get(name)
    return {name}.union(*map(_memory, buffer.get_aliases() if buffer is not None else ()))

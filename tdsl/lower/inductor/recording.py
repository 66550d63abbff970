"""Records of the scheduler's nodes, as `fusion` decides by them.

    SchedulerNode(relu, add)    ->   Work(kind="pointwise", numel=M * N, reads=(buf0, arg2_1), makes={buf1})
    TemplateCall(matmul)        ->   Call(tensors={A: arg0_1, B: arg1_1}, results={C: buf0}, ...)

A record is made once for each state that a node is in: its loops may change until it is fused.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from tdsl import ir
from tdsl.lower.facts.candidates import SUBTILES
from tdsl.lower.inductor.buffer import OutputBuffer, TemplateCall
from tdsl.lower.inductor.compat.names import (
    BaseSchedulerNode,
    ComputedBuffer,
    CppOverrides,
    MemoryDep,
    MemoryUsageType,
    MutationLayout,
    Pointwise,
    SchedulerNode,
    StarDep,
    TritonKernelOverrides,
    V,
    size_hint,
    sympy_product,
)
from tdsl.lower.inductor.fusion.facts import (
    Call,
    Effort,
    Kind,
    Load,
    Reach,
    Read,
    Result,
    Target,
    Tensor,
    Work,
)
from tdsl.lower.inductor.fusion.legality import not_pointwise
from tdsl.lower.inductor.fusion.placement import Placement, place
from tdsl.refusal import Reason

_works: WeakKeyDictionary[BaseSchedulerNode, tuple[object, object, Work]] = WeakKeyDictionary()
_efforts: WeakKeyDictionary[BaseSchedulerNode, tuple[tuple[Work, ...], Effort]] = WeakKeyDictionary()
_calls: WeakKeyDictionary[BaseSchedulerNode, Call] = WeakKeyDictionary()
# Of each call, by the works around it.
_placements: WeakKeyDictionary[Call, dict[Any, Placement | Reason]] = WeakKeyDictionary()


def is_call(node: BaseSchedulerNode) -> bool:
    """Whether a node is a template call, or has one fused into it."""
    return isinstance(node.get_template_node(), TemplateCall)


def placed(
    node: BaseSchedulerNode, epilogues: Sequence[BaseSchedulerNode], prologues: Sequence[BaseSchedulerNode]
) -> Placement | Reason:
    """Where the nodes around a template call go: `placement.place`, remembered, since the scheduler asks many times."""
    call = record_call(node)
    asked = tuple(map(record_work, epilogues)), tuple(map(record_work, prologues))
    known = _placements.setdefault(call, {})
    if asked not in known:
        known[asked] = place(call, *asked)
    return known[asked]


def unfit(node: BaseSchedulerNode) -> Reason | None:
    """What keeps a node out of every kernel of a template: `legality.not_pointwise`."""
    return not_pointwise(tuple(map(record_work, node.get_nodes())))


# Calls


def record_call(node: BaseSchedulerNode) -> Call:
    """The record of a template call's own node."""
    if node not in _calls:
        _calls[node] = _call(node)
    return _calls[node]


def _call(node: BaseSchedulerNode) -> Call:
    call = node.node
    assert isinstance(call, TemplateCall), "asked of template calls"
    layouts = [
        *(tensor.get_layout() for tensor in call.tensors.values()),
        *(result.layout for result in call.results.values()),
    ]
    return Call(
        tensors={
            param: Tensor(
                buffer=tensor.get_name(),
                memory=_memory(tensor.get_name()),
                size=tuple(layout.size),
                stride=tuple(layout.stride),
                offset=layout.offset,
            )
            for param, tensor in call.tensors.items()
            for layout in [tensor.get_layout()]
        },
        results={
            param: Result(
                buffer=call.result_buffers[param],
                size=tuple(result.layout.size),
                stride=tuple(result.layout.stride),
                inout=result.inout,
                closed=call.closed_results.get(call.result_buffers[param]),
            )
            for param, result in call.results.items()
        },
        loads=tuple(
            Load(
                buffer=call.tensors[slot.param].get_name(),
                elements=slot.elements,
                always=slot.always,
                text=slot.span.text if slot.span else "load",
            )
            for slot in call.source.load_slots()
        ),
        reach={
            (mine, its): _reach(call, mine, its)
            for mine in call.epilogue_fusable_outputs.values()
            for its in call.epilogue_fusable_outputs.values()
            if mine != its
        },
        subtiled=SUBTILES in dict(call.source.configs[0].constants),
        multiplies=any(isinstance(part, ir.Dot) for part in call.kernel.nodes),
        moved=sum(size_hint(sympy_product(layout.size)) * layout.dtype.itemsize for layout in layouts),
        sizes=V.graph.sizevars,
    )


def _memory(name: str) -> frozenset[str]:
    """The buffers in whose memory a buffer lies: itself, and those that it is a view of (as another dtype, say)."""
    buffer = V.graph.scheduler.name_to_buf.get(name)
    return frozenset({name}).union(*map(_memory, buffer.get_aliases() if buffer is not None else ()))


def _reach(call: TemplateCall, param: str, other: str) -> Reach:
    """Whether the stored value of `other` is at hand in the slot of `param`, lane by lane: both are stored
    once, in one block, and the subscripts of `other` are the first ones of `param`."""
    if not _same_block(call, param, other):
        return Reach.ANOTHER_BLOCK
    mine, its = call.kernel.stores(param), call.kernel.stores(other)
    if len(mine) != 1 or len(its) != 1:
        return Reach.NOT_HELD
    depth = len(its[0].subscripts)
    values = [subscript.value for subscript in mine[0].subscripts[:depth]]
    held = (
        call.kernel.tensor(param).dims[:depth] == call.kernel.tensor(other).dims
        and values == [subscript.value for subscript in its[0].subscripts]
        and set(its[0].tiles) <= set(mine[0].tiles)
    )
    return Reach.HERE if held else Reach.NOT_HELD


def _same_block(call: TemplateCall, param: str, other: str) -> bool:
    """Whether the two slots are lines of one block, so that what one names the other can read."""
    first, last = sorted(call.source.store_positions(name)[0] for name in (param, other))
    between = call.source.body[first : last + 1]
    return all(item.indent >= between[0].indent for item in between) and (
        between[0].indent == between[-1].indent
    )


# Work


def record_work(node: BaseSchedulerNode) -> Work:
    """The record of a node that is no fused one."""
    state = (node.read_writes, getattr(node, "_body", None))
    kept = _works.get(node)
    if kept is None or kept[0] is not state[0] or kept[1] is not state[1]:
        kept = _works[node] = (*state, _work(node))
    return kept[2]


def _work(node: BaseSchedulerNode) -> Work:
    kind, data = _kind(node), getattr(node.node, "data", None)
    makes = frozenset(node.get_buffer_names())
    if kind != "pointwise":
        return Work(name=node.get_name(), kind=kind, what=type(data or node.node).__name__, makes=makes)
    assert isinstance(node, SchedulerNode), "pointwise work is one"
    iteration, reduction = node.get_ranges()
    return Work(
        name=node.get_name(),
        kind=kind,
        lacking=_lacking(node),
        numel=sympy_product([*iteration, *reduction]),
        reads=_reads(node),
        makes=makes,
        in_place=node.has_aliasing_or_mutation(),
        target=_target(node),
    )


def _kind(node: BaseSchedulerNode) -> Kind:
    if isinstance(node.node, TemplateCall):
        return "template"
    if isinstance(node.node, OutputBuffer):
        return "output"
    if node.is_extern():
        return "library"
    if node.is_reduction():
        return "reduction"
    computed = isinstance(node, SchedulerNode) and isinstance(node.node, ComputedBuffer)
    return "pointwise" if computed and isinstance(node.node.data, Pointwise) else "other"  # type: ignore[union-attr]


def _reads(node: SchedulerNode) -> tuple[Read, ...]:
    """Without what is there for the order of nodes only: that it comes after who has written to the tensor that it
    writes to itself, or after who has found out a size."""
    whole = {entry.buffer_name for entry in node._body.memory_usage[MemoryUsageType.BUCKETIZE]}
    real = V.graph.scheduler.mutation_real_name  # each write in place gives a tensor another name
    return tuple(
        Read(buffer=dep.name, memory=_memory(first), whole=isinstance(dep, StarDep))
        for dep in node.read_writes.reads
        for first in [real.get(dep.name, dep.name)]
        if isinstance(dep, MemoryDep) or (isinstance(dep, StarDep) and first in whole)
    )


def _target(node: SchedulerNode) -> Target | None:
    assert isinstance(node.node, ComputedBuffer), "pointwise work is computed"
    layout = node.node.layout
    if not isinstance(layout, MutationLayout):
        return None
    body = node._body
    (made,) = node.get_buffer_names()
    places = {dep.name: set(body.get_all_read_expr(dep.name)) for dep in node.read_writes.reads}
    buffer = layout.get_buffer().get_name()
    return Target(
        buffer=buffer,
        memory=_memory(buffer),
        scattered=type(node.node.data) is not Pointwise,  # a `Scatter` is one, too
        place=body.get_write_expr(made),
        places_read={name: found.pop() for name, found in places.items() if len(found) == 1},
        ranges=body.var_ranges,
    )


def _lacking(node: SchedulerNode) -> str | None:
    """An operation or a dtype that a CPU's C++ has and Triton has not, or of which Inductor (2.13) makes no prologue."""
    body = node._body
    deps = [dep for dep in node.read_writes.reads_and_writes() if isinstance(dep, MemoryDep)]
    used = {V.graph.get_dtype(dep.name) for dep in deps}
    for block in (body.root_block, *body.subblocks.values()):
        for part in block.graph.nodes:
            name = str(part.target)
            if name == "frexp" or _is_of_cpp_only(name):
                return f"'{name}'"
            used |= {arg for arg in part.args if isinstance(arg, torch.dtype)}
    device = node.get_device()
    if device is not None and device.type == "cpu":
        return min(map(str, used & _NOT_IN_THE_INTERPRETER), default=None)
    return None


@functools.cache
def _is_of_cpp_only(operator: str) -> bool:
    return (
        hasattr(CppOverrides, operator)
        and not CppOverrides._is_unimplemented(operator)
        and TritonKernelOverrides._is_unimplemented(operator)
    )


_NOT_IN_THE_INTERPRETER = {torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu}


def record_effort(node: BaseSchedulerNode) -> Effort:
    """What pointwise work costs, of one node or of several that are fused."""
    works = tuple(map(record_work, node.get_nodes()))
    kept = _efforts.get(node)
    if kept is None or kept[0] != works:
        kept = _efforts[node] = works, _effort(node)
    return kept[1]


def _effort(node: BaseSchedulerNode) -> Effort:
    parts = [part for part in node.get_nodes() if isinstance(part, SchedulerNode)]
    operations: Counter[str] = Counter()
    traffic: dict[str, int] = {}
    for part in parts:
        operations.update(part._body.op_counts)
        for name, size in part.get_read_write_buffer_accesses(True, False).items():
            traffic[name] = max(size, traffic.get(name, 0))
    made = node.get_buffer_names()

    def in_bytes(buffer: Any) -> int:
        return size_hint(sympy_product(buffer.get_size())) * int(buffer.get_dtype().itemsize)

    return Effort(
        elements=max(1, *(size_hint(sympy_product(part.get_ranges()[0])) for part in parts)),
        operations=operations,
        read=sum(size for name, size in traffic.items() if name not in made),
        written={name: in_bytes(V.graph.get_buffer(name)) for name in made},
    )

"""What keeps work out of a template's kernel: asked to decide, and once more, when all is decided, to record it.

    matmul(torch.sigmoid(B)[:, :5], ...)    load B: 'B' is a slice of what it computes, or has it expanded
    c = matmul(...); c.sum(-1)              store C: it is a reduction, whose result needs ...

`obstacle` is our part of the scheduler's decision. The rest is the scheduler's own rules, which say no more than
no: `record_refusals` looks for what they look at, once a kernel is generated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import fx

from tdsl import ir
from tdsl.lower.inductor.buffer import TemplateCall
from tdsl.lower.inductor.compat.names import (
    BaseSchedulerNode,
    ComputedBuffer,
    MemoryDep,
    MultiOutput,
    OutputNode,
    SchedulerBuffer,
    SchedulerNode,
    V,
    sympy,
)
from tdsl.lower.inductor.fusion.cost import costs_more_fused
from tdsl.lower.inductor.fusion.placement import Placement
from tdsl.lower.inductor.recording import is_call, placed, record_call, record_effort, record_work, unfit
from tdsl.refusal import Reason, Refusal, record
from tdsl.source import Span


def obstacle(node1: BaseSchedulerNode, node2: BaseSchedulerNode) -> Reason | None:
    """Why one kernel cannot, or had better not, have both; one of them is a call, or holds one."""
    if is_call(node2) and (reason := unfit(node1)) is not None:
        return reason
    nodes = [*node1.get_nodes(), *node2.get_nodes()]
    at = next(at for at, node in enumerate(nodes) if node.is_template())
    placement = placed(nodes[at], nodes[at + 1 :], nodes[:at])
    if isinstance(placement, Reason):
        return placement
    return costs_more_fused(record_call(nodes[at]), record_effort(node1)) if is_call(node2) else None


# The record


def record_refusals(
    template: BaseSchedulerNode,
    epilogues: Sequence[BaseSchedulerNode],
    prologues: Sequence[BaseSchedulerNode],
) -> list[Refusal]:
    """Records, and returns, what else could have been in the kernel that is made of these nodes."""
    found = [*_prologues(template, prologues), *_epilogues(template, epilogues, prologues)]
    for refusal in found:
        record(refusal)
    return found


def _prologues(template: BaseSchedulerNode, prologues: Sequence[BaseSchedulerNode]) -> Iterator[Refusal]:
    scheduler = V.graph.scheduler
    call = template.node
    assert isinstance(call, TemplateCall), "asked of template calls"
    inside = {name: node for node in prologues for name in node.get_buffer_names()}
    kernel = scheduler.name_to_fused_node[template.get_name()]
    for slot in call.source.load_slots():
        assert slot.span is not None, "a load point is written somewhere"
        # What the point reads; where that is computed at the point, what it is computed from.
        reads = [call.tensors[slot.param].get_name()]
        for name in reads:
            if name in inside:
                reads += [read.buffer for read in record_work(inside[name]).reads if read.buffer not in reads]
            elif (buffer := scheduler.name_to_buf.get(name)) is not None:  # no input of the graph
                producer = scheduler.name_to_fused_node[buffer.defining_op_name()]
                if _is_empty(producer):
                    continue
                reason = _why_not_before(call, producer, kernel, buffer)
                yield _refusal(call, "prologue", slot.point, slot.span, [producer], reason)


def _why_not_before(
    call: TemplateCall, producer: BaseSchedulerNode, kernel: BaseSchedulerNode, buffer: SchedulerBuffer
) -> Reason:
    reason = unfit(producer) or call.closed_inputs.get(buffer.get_name())
    if reason is not None:
        return reason
    if producer.has_aliasing_or_mutation():
        return Reason(text="it writes into a tensor that exists already", help="write it out of place")
    nodes = list(kernel.get_nodes())
    before = nodes[: next(at for at, node in enumerate(nodes) if node.is_template()) + 1]
    inside = {*producer.get_nodes(), *before}
    for made in producer.get_outputs():
        readers = [user.node for user in made.users if user.node not in inside and not user.is_weak]
        if readers:
            return Reason(
                text=f"{_named(readers)}, so that it has to be in memory anyway",
                help="let the template be its only reader",
            )
        if made is not buffer and any(user.node in before for user in made.users):
            return Reason(
                text="its kernel also makes another tensor that the template reads",
                help="Inductor has fused the two; compute them from different inputs",
            )
    if kernel.get_operation_names() & producer.ancestors:
        return _CIRCLE
    return obstacle(producer, kernel) or _scheduled(producer, kernel)


def _epilogues(
    template: BaseSchedulerNode,
    epilogues: Sequence[BaseSchedulerNode],
    prologues: Sequence[BaseSchedulerNode],
) -> Iterator[Refusal]:
    scheduler = V.graph.scheduler
    call = template.node
    assert isinstance(call, TemplateCall), "asked of template calls"
    kernel = scheduler.name_to_fused_node[template.get_name()]
    placement = placed(template, epilogues, prologues)
    assert isinstance(placement, Placement), "the scheduling has fused only what can be placed"
    made = {buffer: param for param, buffer in call.result_buffers.items()}
    for param, works in placement.epilogues.items():
        made |= {name: param for work in works for name in work.makes}
    seen: set[tuple[str, str]] = set()
    for buffer, param in made.items():
        known = scheduler.name_to_buf.get(buffer)
        for user in known.users if known is not None else ():
            if isinstance(user.node, OutputNode) or user.is_weak or isinstance(user.node.node, MultiOutput):
                continue
            consumer = scheduler.name_to_fused_node[user.node.get_name()]
            if consumer is kernel or _is_empty(consumer) or (param, consumer.get_name()) in seen:
                continue
            seen.add((param, consumer.get_name()))
            yield _refusal(
                call,
                "epilogue",
                param,
                _store_span(call, param),
                [user.node],
                _why_not_behind(consumer, kernel),
            )


def _why_not_behind(consumer: BaseSchedulerNode, kernel: BaseSchedulerNode) -> Reason:
    reason = unfit(consumer)
    if reason is not None:
        return reason
    if consumer.get_device() != kernel.get_device():
        return Reason(text="it runs on another device", help="nothing can be done about it")
    if consumer.get_operation_names() & kernel.ancestors:
        return _CIRCLE
    return obstacle(kernel, consumer) or _scheduled(kernel, consumer)


def _scheduled(node1: BaseSchedulerNode, node2: BaseSchedulerNode) -> Reason:
    """What the scheduler itself has against fusing two nodes of which the second reads the first."""
    scheduler = V.graph.scheduler
    if (node1.get_buffer_names() | node2.get_buffer_names()) & V.graph.no_fuse_buffer_names:
        return Reason(text="Inductor must have its tensor in memory (for communication)", help="leave it so")
    made = {dep.name: dep for dep in node1.read_writes.writes}
    for dep in node2.unmet_dependencies:
        name = scheduler.mutation_renames.get(dep.name, dep.name)
        write = made.get(name)
        if isinstance(write, MemoryDep) and not scheduler.fusable_read_and_write(
            dep.rename(scheduler.mutation_renames), write
        ):
            mine, its = _worked_on(node1, name), _worked_on(node2, dep.name)
            if len(mine) == 1 and its and not mine & its:
                return Reason(
                    text=f"it is work on {mine.pop()} elements, and what reads it is on "
                    f"{' and '.join(sorted(map(str, its)))}: between the two it is expanded, sliced or padded",
                    help="expand or slice before the work, not behind it",
                )
            return Reason(
                text="it is read in another order than it is computed in (transposed, sliced, gathered, or from "
                "several places)",
                help="view or permute before the work, or make it contiguous in the order that is read",
            )
    if not scheduler.can_fuse_vertical(node1, node2):
        return Reason(
            text="another kernel has to run between the two, and needs the one for the other",
            help="compute what that kernel needs in another place",
        )
    return Reason(
        text="a rule of Inductor's own (on the nodes or tensors of a kernel, or on peak memory) keeps it apart",
        help="TORCH_LOGS=fusion shows which",
    )


def _worked_on(node: BaseSchedulerNode, name: str) -> set[sympy.Expr]:
    """How many elements the pointwise work of a node is on that makes or reads a buffer."""
    return {
        V.graph.sizevars.simplify(record_work(part).numel)
        for part in node.get_nodes()
        if isinstance(part, SchedulerNode)
        and not part.is_template()
        and any(dep.name == name for dep in part.read_writes.reads_and_writes())
    }


def _is_empty(node: BaseSchedulerNode) -> bool:
    """Whether a node makes tensors of no elements alone: then it is no kernel, and nothing was kept apart."""
    return all(isinstance(part.node, ComputedBuffer) and part.node.is_no_op() for part in node.get_nodes())


_CIRCLE = Reason(
    text="the kernel needs something that is computed from what it makes itself",
    help="break the circle, or leave it apart",
)


def _refusal(
    call: TemplateCall,
    kind: str,
    point: str,
    span: Span,
    nodes: Sequence[BaseSchedulerNode],
    reason: Reason,
) -> Refusal:
    origins = {
        origin.name: str(origin.target)
        for node in nodes
        for part in node.get_nodes()
        for origin in _origins(part)
    }
    return Refusal(
        template=call.kernel.name,
        kind="prologue" if kind == "prologue" else "epilogue",
        point=point,
        span=span,
        nodes=tuple(origins),
        targets=tuple(origins.values()),
        reason=reason.text,
        help=reason.help,
    )


def _origins(node: BaseSchedulerNode) -> list[fx.Node]:
    """The calls in the graph that a node computes, in the graph's order."""
    assert node.node is not None, "one node, not several fused"
    found = {origin for origin in node.node.get_origins() if origin.op == "call_function"}
    graphs = {origin.graph for origin in found}
    ordered = [origin for graph in graphs for origin in graph.nodes if origin in found]
    # Among a library call's origins are the views that it reads.
    return ordered[-1:] if node.is_extern() else ordered


def _named(readers: Iterable[BaseSchedulerNode | OutputNode]) -> str:
    """What they call, as a sentence that is the same for each layer of a model."""
    names: dict[str, None] = {}
    for reader in readers:
        if isinstance(reader, OutputNode):
            return "the graph returns it"
        names |= dict.fromkeys(_operator_name(origin) for origin in _origins(reader)[-1:])
    return f"it is also read by {' and '.join(list(names)[:3]) or 'others'}"


def _operator_name(node: fx.Node) -> str:
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target.overloadpacket).rpartition(".")[2]
    return getattr(target, "__name__", None) or str(target)


def _store_span(call: TemplateCall, param: str) -> Span:
    for node in call.kernel.nodes:
        if isinstance(node, ir.Store | ir.Accumulate) and node.param == param:
            return node.span
    raise AssertionError(f"{param} is stored somewhere")

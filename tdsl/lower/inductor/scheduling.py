"""How the scheduler treats a template call: what may be fused with it, and who generates its code.

    on a GPU:  Inductor's own scheduling, with wider rules for what goes behind a template call
    on a CPU:  a template call -> Triton (in its interpreter); everything else -> C++, as ever

Both are registered for their device, as a backend of somebody else's would be. They touch nodes that have
a `TemplateCall` in them and leave all others to the scheduling that they extend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tdsl.lower.inductor.buffer import TemplateCall
from tdsl.lower.inductor.compat.broken_modules import discard_broken_module
from tdsl.lower.inductor.compat.candidates_in_turn import compile_ahead
from tdsl.lower.inductor.compat.inverted_templates import keep_templates_from_inversion
from tdsl.lower.inductor.compat.names import (
    BaseSchedulerNode,
    CppScheduling,
    CUDACombinedScheduling,
    FusedSchedulerNode,
    TritonScheduling,
    V,
    before_each_round,
    extend_scheduling,
    inductor_config,
)
from tdsl.lower.inductor.compat.numbers_on_a_cpu import keep_tensors
from tdsl.lower.inductor.explanation import obstacle, record_refusals
from tdsl.lower.inductor.passes.loops import prepare_round
from tdsl.lower.inductor.passes.reinplacing import Reinplacing
from tdsl.lower.inductor.recording import is_call
from tdsl.refusal import Refusal, grouped


class TemplateScheduling:
    """Mixed into a device's scheduling, before it."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)  # type: ignore[call-arg]
        self._templates: TritonScheduling = _TritonScheduling(scheduler)
        self._said: set[Any] = set()  # of what was kept out of kernels of this graph
        if scheduler is not None:
            keep_templates_from_inversion(scheduler)
            before_each_round(scheduler, prepare_round)

    def can_fuse_vertical(self, node1: BaseSchedulerNode, node2: BaseSchedulerNode) -> bool:
        # The scheduler has compared what one writes with what the other reads, element by element.
        if is_call(node1) or is_call(node2):
            return obstacle(node1, node2) is None
        return super().can_fuse_vertical(node1, node2)  # type: ignore[misc, no-any-return]

    def can_fuse_multi_outputs_template(self, node1: BaseSchedulerNode, node2: BaseSchedulerNode) -> bool:
        # Asked before the scheduler's own rules for what may follow a template, which know neither several
        # nodes behind one with several outputs, nor a copy into the tensor that the template has read.
        if super().can_fuse_multi_outputs_template(node1, node2):  # type: ignore[misc]
            return True
        return (
            is_call(node1)
            and not is_call(node2)
            and bool(node1.get_operation_names() & node2.ancestors)
            and not node2.get_operation_names() & node1.ancestors
            and node1.get_device() == node2.get_device()
            and not (node1.get_buffer_names() | node2.get_buffer_names()) & V.graph.no_fuse_buffer_names
            and obstacle(node1, node2) is None
            and self.scheduler.can_fuse_vertical(node1, node2)  # type: ignore[attr-defined]
        )

    def can_fuse_horizontal(self, node1: BaseSchedulerNode, node2: BaseSchedulerNode) -> bool:
        if is_call(node1) or is_call(node2):
            return False
        if any(_is_awaited(node) or _is_copied_back(node) for node in (node1, node2)):
            return False
        return super().can_fuse_horizontal(node1, node2)  # type: ignore[misc, no-any-return]

    def fuse(self, node1: BaseSchedulerNode, node2: BaseSchedulerNode) -> FusedSchedulerNode:
        if is_call(node1) or is_call(node2):
            return FusedSchedulerNode.fuse(node1, node2)
        return super().fuse(node1, node2)  # type: ignore[misc, no-any-return]

    def codegen_template(
        self,
        template_node: BaseSchedulerNode,
        epilogue_nodes: Sequence[BaseSchedulerNode],
        prologue_nodes: Sequence[BaseSchedulerNode],
    ) -> str | None:
        call = template_node.node
        if not isinstance(call, TemplateCall):
            return super().codegen_template(template_node, epilogue_nodes, prologue_nodes)  # type: ignore[misc, no-any-return]
        assert call.make_kernel_render is not None, "a template call makes its kernel"
        keep_tensors(V.graph)
        kernel, render = call.make_kernel_render(call)
        # Inductor's operators ask the settings, not the kernel, what a CPU's code is written in.
        with inductor_config.patch(cpu_backend="triton"):
            self._templates._codegen_single_template(
                kernel, render, template_node, epilogue_nodes, prologue_nodes
            )
        self._templates.codegen_comment([*prologue_nodes, template_node, *epilogue_nodes], kernel.kernel_name)
        self._comment(grouped(record_refusals(template_node, epilogue_nodes, prologue_nodes)))
        kernel.call_kernel(kernel.kernel_name, call)
        V.graph.removed_buffers |= kernel.removed_buffers
        V.graph.inplaced_to_remove |= kernel.inplaced_to_remove
        self.free_buffers_in_scheduler()  # type: ignore[attr-defined]
        return None

    def _comment(self, refusals: Sequence[Refusal]) -> None:
        """Writes each into the generated code, once in a graph; what was written above is named."""
        mark = f"{V.graph.wrapper_code.comment} tdsl:"
        for refusal in refusals:
            if refusal.sort not in self._said:
                V.graph.wrapper_code.make_comment(f"{mark} {refusal}")
        if again := [refusal for refusal in refusals if refusal.sort in self._said]:
            named = ", ".join(refusal.brief for refusal in again)
            V.graph.wrapper_code.make_comment(f"{mark} as said above, {named}")
        self._said.update(refusal.sort for refusal in refusals)


class _TritonScheduling(TritonScheduling):
    """Generates the kernels of template calls."""

    def _emit_kernel_to_wrapper(
        self,
        wrapper: Any,
        kernel: Any,
        src_code: str,
        kernel_name: str,
        subs_name: str,
        *args: Any,
    ) -> None:
        # Here the text is final, the kernel's name in it.
        discard_broken_module(src_code)
        if kernel.call.primary.device.type != "cpu":
            compile_ahead(subs_name, src_code)
        super()._emit_kernel_to_wrapper(wrapper, kernel, src_code, kernel_name, subs_name, *args)  # type: ignore[no-untyped-call]


class CpuScheduling(TemplateScheduling, CppScheduling):
    """C++, and Triton's interpreter for template calls."""


class GpuScheduling(TemplateScheduling, CUDACombinedScheduling):
    """Inductor's scheduling for a GPU, with template calls."""


def _is_awaited(node: BaseSchedulerNode) -> bool:
    """Whether a node can move into the one template call that reads it, if it is left alone until then."""
    if node.is_reduction():
        return False
    for buffer in node.get_outputs():
        if len(buffer.users) != 1:
            return False
        user = buffer.users[0].node
        if not isinstance(user, BaseSchedulerNode):
            return False
        call = user.get_template_node()
        if not isinstance(call, TemplateCall) or buffer.get_name() not in call.fusable_inputs:
            return False
        if obstacle(node, user) is not None:
            return False  # kept apart, it may as well share a kernel with others
    return True


def _is_copied_back(node: BaseSchedulerNode) -> bool:
    """Whether a node can be the store in place of the template call that it reads, if it is left alone."""
    if not node.has_aliasing_or_mutation():
        return False
    scheduler = node.scheduler
    for name in {dep.name for dep in node.read_writes.reads}:
        if name in scheduler.name_to_buf:
            producer = scheduler.name_to_fused_node[scheduler.name_to_buf[name].defining_op_name()]
            if producer is not node and is_call(producer) and obstacle(producer, node) is None:
                return True
    return False


def extend_schedulings() -> None:
    """Registers ours in place of Inductor's own for CPUs and GPUs. What somebody else registered stays."""
    extend_scheduling("cpu", CppScheduling, CpuScheduling, Reinplacing())
    extend_scheduling("cuda", CUDACombinedScheduling, GpuScheduling, Reinplacing())

"""The scheduler's view of one call of a template: a `TemplateBuffer`, and a buffer for each output.

    C = matmul(A, B)          ->   TemplateCall(inputs=[A, B]), which is C
    y, mean, rstd = ln(x, w)  ->   TemplateCall(...), and an OutputBuffer for each of y, mean, rstd

A call never writes to its inputs: an `inout` parameter becomes one more output, and the lowering makes
the mutated tensor be that output from there on. So a value that is mutated in place can be fused with what
made it and with what reads it, like any other. What the kernel looks like is `kernel`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tdsl import ir
from tdsl.ir import Kernel
from tdsl.lower.inductor.loops import follow
from tdsl.lower.inductor.private import (
    BaseSchedulerNode,
    FixedLayout,
    IRNode,
    MultiOutput,
    MultiOutputLayout,
    OrderedSet,
    PartialRender,
    SymT,
    TemplateBuffer,
    TensorBox,
    V,
    symbol_is_type,
    sympy,
    sympy_product,
)
from tdsl.lower.triton import TritonSource


@dataclass(frozen=True, kw_only=True)
class Result:
    """One output of a call: a declared output, or the new value of an `inout` parameter."""

    param: str
    layout: FixedLayout
    inout: bool


class TemplateCall(TemplateBuffer):
    """One call of a template in a graph."""

    def __init__(
        self,
        *,
        kernel: Kernel,
        source: TritonSource,
        tensors: Mapping[str, IRNode],
        results: Sequence[Result],
        size_arguments: Mapping[sympy.Symbol, str],
        size_hints: Mapping[str, int],
        index_dtype: str,
    ) -> None:
        self.kernel = kernel
        self.source = source
        self.tensors = dict(tensors)  # parameter -> what it reads; absent optional parameters are left out
        self.size_arguments = dict(size_arguments)
        self.size_hints = dict(size_hints)  # likely values of sizes that vary, by their text
        self.index_dtype = index_dtype
        self.results: dict[str, Result] = {result.param: result for result in results}
        self.primary = max(results, key=lambda result: len(result.layout.size)).layout
        several = len(results) > 1
        points = {slot.point: tensors[slot.param] for slot in source.load_slots()}
        unique = list({id(node): node for node in tensors.values()}.values())
        super().__init__(
            layout=MultiOutputLayout(device=self.primary.device) if several else self.primary,
            inputs=unique,
            make_kernel_render=_make_kernel_render,
            allowed_prologue_inps=_fusable_inputs(kernel, source, tensors),
            named_inputs=points,
        )
        self.allow_prologue_fusion = True
        self.allow_epilogue_fusion = True
        # Result parameter -> name of its buffer. A tensor that nobody reads has its buffer removed.
        self.result_buffers: dict[str, str] = {}
        if several:
            for index, result in enumerate(results):
                output = OutputBuffer(result.layout, self, [(tuple, index)])
                self._multi_output_children[output.get_name()] = output
                self.result_buffers[result.param] = output.get_name()
        else:
            self.result_buffers[results[0].param] = self.get_name()
        closed = {node.param for node in ir.walk(kernel) if isinstance(node, ir.Store) and node.nofuse}
        stored = {slot.param for slot in source.store_slots()}
        self.epilogue_fusable_outputs = {
            name: param for param, name in self.result_buffers.items() if param in stored - closed
        }

    def boxes(self) -> dict[str, TensorBox]:
        """Each result as a tensor of the graph."""
        if not self._multi_output_children:
            return {param: TensorBox.create(self) for param in self.results}
        return {
            param: TensorBox.create(self._multi_output_children[name])
            for param, name in self.result_buffers.items()
        }

    def get_size(self) -> Sequence[sympy.Expr]:
        # Of a call with several outputs too: what the scheduler groups it by.
        return self.primary.size

    def get_device(self):  # type: ignore[no-untyped-def]
        return self.primary.device

    def should_allocate(self) -> bool:
        return not isinstance(self.layout, MultiOutputLayout)

    def has_aliasing_or_mutation_for_prologue_fusion(self, scheduler_node: BaseSchedulerNode) -> bool:
        # That the scheduler asks is the one occasion, before it compares what a prologue writes with what
        # is read here, to bring the two into one order.
        scheduler = scheduler_node.scheduler
        for node in self.tensors.values():
            buffer = scheduler.name_to_buf.get(node.get_name())
            if buffer is not None and node.get_name() in self.allowed_prologue_inps:
                producer = scheduler.name_to_fused_node[buffer.defining_op_name()]
                follow(producer, node.get_name(), node.get_layout())
        # Only what was fused behind a call writes to a tensor that exists, and `placement` looks at that.
        return False

    def get_free_symbol_uses(self, unbacked_only: bool = False) -> OrderedSet[sympy.Symbol]:
        uses = OrderedSet(super().get_free_symbol_uses(unbacked_only))
        for node in self.tensors.values():
            uses |= node.get_free_symbol_uses(unbacked_only)
        uses |= OrderedSet(
            symbol
            for symbol in self.size_arguments
            if not unbacked_only or symbol_is_type(symbol, (SymT.UNBACKED_INT, SymT.UNBACKED_FLOAT))
        )
        return uses


class OutputBuffer(MultiOutput):
    """One output of a call that has several. Inductor allocates it; the kernel fills it."""

    def should_allocate(self) -> bool:
        return True

    def codegen(self, wrapper) -> None:  # type: ignore[no-untyped-def]
        """Nothing is to be unpacked: the kernel was given this buffer."""


def _fusable_inputs(kernel: Kernel, source: TritonSource, tensors: Mapping[str, IRNode]) -> OrderedSet[str]:
    """Names of the buffers whose producer may move into the kernel.

    Each point that reads one must permit it, and must see all of its elements, each once: a broadcast or
    a slice has another number of elements than what the producer computes.
    """
    allowed: OrderedSet[str] = OrderedSet()
    refused: OrderedSet[str] = OrderedSet()
    closed = {node.point for node in ir.walk(kernel) if isinstance(node, ir.Load) and node.nofuse}
    for slot in source.load_slots():
        node = tensors[slot.param]
        name = node.get_name()
        whole = V.graph.sizevars.statically_known_equals(
            sympy_product(node.get_size()), sympy_product(V.graph.get_buffer(name).get_size())
        )
        (allowed if slot.point not in closed and whole else refused).add(name)
    return allowed - refused


def _make_kernel_render(call: TemplateCall, hint_override: int | None = None):  # type: ignore[no-untyped-def]
    from tdsl.lower.inductor.kernel import TemplateKernel

    kernel = TemplateKernel(call)

    def render() -> PartialRender:
        kernel._setup_fusion_hooks()
        return PartialRender("", kernel.render_hooks)

    return kernel, render

"""The scheduler's view of one call of a template: a `TemplateBuffer`, and a buffer for each output.

    C = matmul(A, B)          ->   TemplateCall(inputs=[A, B]), which is C
    y, mean, rstd = ln(x, w)  ->   TemplateCall(...), and an OutputBuffer for each of y, mean, rstd

A call never writes to its inputs: an `inout` parameter becomes one more output, and the lowering makes
the mutated tensor be that output from there on. So a value that is mutated in place can be fused with what
made it and with what reads it, like any other. What the kernel looks like is `kernel`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tdsl.ir import Kernel
from tdsl.lower.emit.triton import TritonSource
from tdsl.lower.inductor.compat.names import (
    PROLOGUE_INPUTS,
    UNBACKED,
    BaseSchedulerNode,
    Dep,
    FixedLayout,
    IRNode,
    MemoryDep,
    MultiOutput,
    MultiOutputLayout,
    OrderedSet,
    ReadWrites,
    TemplateBuffer,
    TensorBox,
    V,
    symbol_is_type,
    sympy,
    sympy_product,
)
from tdsl.refusal import Reason


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
        size_arguments: Mapping[sympy.Expr, str],
        size_hints: Mapping[str, int],
        make_kernel_render: Callable[..., Any],
    ) -> None:
        self.kernel = kernel
        self.source = source
        self.tensors = dict(tensors)  # parameter -> what it reads; absent optional parameters are left out
        self.size_arguments = dict(size_arguments)
        self.size_hints = dict(size_hints)  # likely values of sizes that vary, by their text
        self.results: dict[str, Result] = {result.param: result for result in results}
        self.primary = max(results, key=lambda result: len(result.layout.size)).layout
        several = len(results) > 1
        points = {slot.point: tensors[slot.param] for slot in source.load_slots()}
        # Names of the buffers that stay in memory, made there or read from there, and why.
        self.closed_inputs = _closed_inputs(source, tensors)
        self.fusable_inputs = OrderedSet(
            name for node in points.values() if (name := node.get_name()) not in self.closed_inputs
        )
        prologues: dict[str, Any] = {PROLOGUE_INPUTS: self.fusable_inputs}
        unique = list({id(node): node for node in tensors.values()}.values())
        super().__init__(
            layout=MultiOutputLayout(device=self.primary.device) if several else self.primary,
            inputs=unique,
            make_kernel_render=make_kernel_render,
            named_inputs=points,
            **prologues,
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
        self.closed_results = {
            self.result_buffers[param]: reason for param, reason in _closed_results(source, results).items()
        }
        self.epilogue_fusable_outputs = {
            name: param for param, name in self.result_buffers.items() if name not in self.closed_results
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

    def extract_read_writes(self, normalize: bool = False) -> ReadWrites:
        return _spelled_as_loops(super().extract_read_writes(normalize))

    def should_allocate(self) -> bool:
        return not isinstance(self.layout, MultiOutputLayout)

    def has_aliasing_or_mutation_for_prologue_fusion(self, scheduler_node: BaseSchedulerNode) -> bool:
        # Only what was fused behind a call writes to a tensor that exists, and `placement` looks at that.
        return False

    # What releases that say `PROLOGUE_INPUTS` otherwise call it.
    has_aliasing_or_mutation_for_producer_fusion = has_aliasing_or_mutation_for_prologue_fusion

    def get_free_symbol_uses(self, unbacked_only: bool = False) -> OrderedSet[sympy.Symbol]:
        uses = OrderedSet(super().get_free_symbol_uses(unbacked_only))
        for node in self.tensors.values():
            uses |= node.get_free_symbol_uses(unbacked_only)
        uses |= OrderedSet(
            symbol
            for expr in self.size_arguments
            for symbol in expr.free_symbols
            if not unbacked_only or symbol_is_type(symbol, UNBACKED)
        )
        return uses


class OutputBuffer(MultiOutput):
    """One output of a call that has several. Inductor allocates it; the kernel fills it."""

    def should_allocate(self) -> bool:
        return True

    def get_read_writes(self) -> ReadWrites:
        return _spelled_as_loops(super().get_read_writes())

    def codegen(self, wrapper) -> None:  # type: ignore[no-untyped-def]
        """Nothing is to be unpacked: the kernel was given this buffer."""


def _spelled_as_loops(found: ReadWrites) -> ReadWrites:
    """With each index a sum of products, as in the loops of pointwise work: the scheduler fuses what is spelled the same, and
    a stride may be a sum (of N + 1 columns)."""

    def spelled(deps: OrderedSet[Dep]) -> OrderedSet[Dep]:
        simplify = V.graph.sizevars.simplify
        return OrderedSet(
            replace(dep, index=simplify(dep.index)) if isinstance(dep, MemoryDep) else dep for dep in deps
        )

    return replace(found, reads=spelled(found.reads), writes=spelled(found.writes))


def _closed_inputs(source: TritonSource, tensors: Mapping[str, IRNode]) -> dict[str, Reason]:
    """The buffers whose producer may not move into the kernel.

    Each point that reads one must permit it, and must see all of its elements, each once: a broadcast or
    a slice has another number of elements than what the producer computes.
    """
    closed: dict[str, Reason] = {}
    for slot in source.load_slots():
        node = tensors[slot.param]
        name = node.get_name()
        base = V.graph.get_buffer(name)
        if not slot.fusable:
            where = f" (line {slot.span.source.position(slot.span.start)[0]})" if slot.span else ""
            closed[name] = Reason(
                text=f"load {slot.point}{where} says 'nofuse'", help="take that away to let it in"
            )
        elif not V.graph.sizevars.statically_known_equals(
            sympy_product(node.get_size()), sympy_product(base.get_size())
        ):
            closed.setdefault(
                name,
                Reason(
                    text=f"'{slot.param}' is a slice of what it computes, or has it expanded: "
                    f"{_shown(node.get_size())} of {_shown(base.get_size())}",
                    help="slice or expand before the work, not behind it",
                ),
            )
    return closed


def _closed_results(source: TritonSource, results: Sequence[Result]) -> dict[str, Reason]:
    """The results behind whose store nothing may go, by parameter."""
    closed = {}
    for result in results:
        slots = [slot for slot in source.store_slots() if slot.param == result.param]
        if not slots:
            closed[result.param] = Reason(
                text=f"'{result.param}' is a sum over programs ('accumulate'), and none of them sees all of it",
                help="store it from one program to let work in",
            )
        elif not all(slot.fusable for slot in slots):
            closed[result.param] = Reason(
                text=f"{'the' if len(slots) == 1 else 'a'} store of '{result.param}' says 'nofuse'",
                help="take that away to let it in",
            )
    return closed


def _shown(sizes: Sequence[sympy.Expr]) -> str:
    return f"[{', '.join(map(str, sizes))}]"

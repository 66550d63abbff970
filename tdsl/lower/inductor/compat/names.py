"""Every name of PyTorch's that is not public API and that fusion needs, each with the reason why.

Where a release lacks one, this module cannot be imported, and `probes` says so: templates then run without fusion, for
which `call_names` has what they need. Nothing else in tdsl imports from `torch._*` or `triton.runtime`; what differs
between releases is settled here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

# Sizes, strides and indices of Inductor's are sympy expressions; it is PyTorch's dependency, not ours.
import sympy  # type: ignore[import-untyped]
import torch

# What each output of a graph is to the graph's arguments.
from torch._functorch._aot_autograd.schemas import OutputType

# What was found out about the graph that is being compiled.
from torch._guards import TracingContext

# The IR that a lowering reads and makes.
from torch._inductor import ir

# 'cpu' here is C++ or Triton: what the rest of a compiled CPU graph is scheduled by.
from torch._inductor.codegen.common import (
    # Argument kinds of a kernel, for Triton's signature and its divisibility hints.
    ArgName,
    ConstexprArg,
    # A value of a kernel that is being written: its name and dtype.
    CSEVariable,
    # A line that vanishes if its buffer turns out to be needed by nobody.
    DeferredLine,
    # A removed output stays in the argument table as this marker.
    RemovedArg,
    # A buffer as an argument.
    TensorArg,
    # What a device has now, so that ours can extend it and keep the rest.
    get_custom_backend_config_for_device,
    get_custom_backend_pass_for_device,
    get_scheduling_for_device,
    get_wrapper_codegen_for_device,
    # Makes sure that the stock schedulings are registered before ours replaces one.
    init_backend_registration,
    # How a device gets its scheduling: the hook for 'our templates go to Triton'.
    register_backend_for_device,
)
from torch._inductor.codegen.cpp import (
    # What each operation is in C++, and (below) in Triton: the same has not both.
    CppOverrides,
    CppScheduling,
)
from torch._inductor.codegen.cuda_combined_scheduling import CUDACombinedScheduling
from torch._inductor.codegen.triton import (
    TritonKernelOverrides,
    TritonScheduling,
    # Prints a sympy expression in Triton's syntax.
    texpr,
)
from torch._inductor.codegen.triton_utils import (
    # Which arguments are divisible by 16, in the form that this triton wants.
    config_of,
    # Which arguments equal 1 and become constants.
    equal_1_arg_indices,
    # Whether a buffer may begin elsewhere than at a multiple of 16 bytes.
    is_unaligned_buffer,
    # Argument name -> Triton type.
    signature_to_meta,
)

# How a backend gets at a graph before it is lowered, and names itself in the key of a cached one.
from torch._inductor.custom_graph_pass import CustomGraphModulePass, get_hash_for_files
from torch._inductor.dependencies import Dep, MemoryDep, ReadWrites, StarDep, WeakDep, index_vars_no_squeeze
from torch._inductor.ir import (
    BaseView,
    ComputedBuffer,
    ExpandView,
    ExternKernel,
    FixedLayout,
    FlexibleLayout,
    IRNode,
    Layout,
    MultiOutput,
    MultiOutputLayout,
    Pointwise,
    StorageBox,
    TemplateBuffer,
    TensorBox,
)

# The layout of a node that writes into a buffer that exists: a copy into an argument, say.
from torch._inductor.ir import MutationLayoutSHOULDREMOVE as MutationLayout

# The loops of pointwise work, and how it is given others.
from torch._inductor.loop_body import LoopBody, MemoryUsageType

# Lowerings of ATen operators, for what our lowering leaves to them (empty outputs).
from torch._inductor.lowering import lowerings
from torch._inductor.scheduler import (
    BaseSchedulerNode,
    FusedSchedulerNode,
    # A user of a buffer that is the end of the graph.
    OutputNode,
    # Fuses round by round.
    Scheduler,
    SchedulerBuffer,
    SchedulerNode,
    # A fused node's dependencies, after the loops of its parts were reordered.
    refresh_group_node_dependencies,
)
from torch._inductor.select_algorithm import ExternalTritonTemplateKernel, PartialRender
from torch._inductor.shape_propagation import get_broadcasted_shape
from torch._inductor.utils import (
    Placeholder,
    sympy_dot,
    sympy_product,
)
from torch._inductor.virtualized import V
from torch.utils import _pytree as pytree
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.functions import FloorDiv, Max, ModularIndexing
from torch.utils._sympy.symbol import SymT, symbol_is_type

from tdsl.lower.inductor.compat.call_names import DeviceProperties, inductor_config

# Numbers that a tensor holds: nobody knows them before the kernel runs that makes it.
UNBACKED = (SymT.UNBACKED_INT, SymT.UNBACKED_FLOAT)

# How a template's buffer is told which of its inputs may have a prologue; empty where it is told otherwise.
PROLOGUE_INPUTS = next(
    (
        name
        for name in ("load_input_fusion_allowed_inputs", "allowed_prologue_inps")
        if name in inspect.signature(TemplateBuffer.__init__).parameters
    ),
    "",
)


def size_hint(expr: sympy.Expr) -> int:
    """A likely value of a size. `optimization_hint` since 2.12 (some builds of it: `size_hint`)."""
    sizevars = V.graph.sizevars
    ask = getattr(sizevars, "optimization_hint", None) or getattr(sizevars, "size_hint")  # noqa: B009
    return int(ask(expr, fallback=8192))


def fits_in_32_bits(number: sympy.Expr | int) -> bool:
    """Whether a number of elements fits in 32 bits; if it does now, the graph is guarded to keep it so."""
    number = sympy.sympify(number)
    if number.is_Integer and number < 2**31:
        return True  # Inductor's answer, too, which takes it a while
    return bool(TritonScheduling.can_use_32bit_indexing(number, []))


def outputs_that_are(*kinds: OutputType) -> set[int]:
    """Which outputs of the graph that is being compiled are of these kinds, if that is known."""
    context = TracingContext.try_get()
    known = context.fw_metadata if context is not None else None
    if known is None or known.tokens:
        return set()
    first = known.num_mutated_inp_runtime_indices
    return {first + at for at, output in enumerate(known.output_info) if output.output_type in kinds}


def is_unaligned_buffer_name(name: str) -> bool:
    """Since 2.13 Inductor has it under this name; in 2.12 it asks arguments only."""
    return bool(is_unaligned_buffer(TensorArg(name="", buffer=name, dtype=torch.uint8)))


def replace_loops(node: SchedulerNode, body: LoopBody) -> None:
    """Gives a node other loops. Since 2.13 a scheduler that does not fuse after all wants the old ones back."""
    notify = getattr(node, "_before_loop_state_mutation", None)
    if notify is not None:
        notify()
    node._body, node._sizes = body, body.sizes


def before_each_round(
    scheduler: Any, prepare: Callable[[Sequence[BaseSchedulerNode]], Callable[[], bool]]
) -> None:
    """Calls `prepare` with the nodes of each round of fusions, and what it gives after the round: if that has put anything
    back, the round goes on as things were. Inductor has a hook before the first one only."""
    fuse = scheduler.fuse_nodes_once
    if getattr(fuse, "prepares", None) is prepare:
        return

    def prepared(nodes: Any, *args: Any, **kwargs: Any) -> Any:
        put_back = prepare(nodes)
        fused = fuse(nodes, *args, **kwargs)
        return fuse(fused, *args, **kwargs) if put_back() else fused

    prepared.prepares = prepare  # type: ignore[attr-defined]
    scheduler.fuse_nodes_once = prepared


def extend_scheduling(
    device: str, base: type[Any], extended: type[Any], graph_pass: CustomGraphModulePass
) -> None:
    """Where `device` is scheduled by exactly `base`, schedules it by `extended`; and lets `graph_pass` see its graphs
    before they are lowered, if nothing of somebody else's does."""
    init_backend_registration()
    before = get_scheduling_for_device(device)
    wrapper = get_wrapper_codegen_for_device(device)
    assert before is not None and wrapper is not None, "Inductor registers CPUs and GPUs itself"

    def schedule(scheduler: Any) -> Any:
        made = before(scheduler)
        return extended(scheduler) if type(made) is base else made

    register_backend_for_device(
        device,
        schedule,
        wrapper,
        get_wrapper_codegen_for_device(device, cpp_wrapper=True),
        get_wrapper_codegen_for_device(device, fx_wrapper=True),
        get_custom_backend_pass_for_device(device) or graph_pass,
        get_custom_backend_config_for_device(device),
    )


__all__ = [name for name in dir() if not name.startswith("_") and name != "annotations"]

"""Every name of PyTorch's that is not public API, in one place, each with the reason why it is needed.

A new release that renames one fails here first: `tests/inductor/test_private.py` names them all. Nothing
else in tdsl imports from `torch._*` or `triton.runtime`; what differs between releases is settled here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

# Sizes, strides and indices of Inductor's are sympy expressions; it is PyTorch's dependency, not ours.
import sympy  # type: ignore[import-untyped]
import torch

# The current level of forward-mode derivatives.
import torch.autograd.forward_ad as forward_ad
from torch._C import _after_autograd_keyset as after_autograd

# Inside an operator's own autograd function: the call that lies below it.
from torch._C import _AutoDispatchBelowAutograd as below_autograd

# Which transform of `torch.func` a call is within.
from torch._C._functorch import TransformType

# Switches the cache of compiled graphs off, for those who want to see the code.
from torch._functorch import config as functorch_config

# What each output of a graph is to the graph's arguments.
from torch._functorch._aot_autograd.schemas import OutputType

# What was found out about the graph that is being compiled.
from torch._guards import TracingContext

# Reads a compiled graph's own settings: is the epilogue's 32-bit question already answered by the user?
from torch._inductor import config as inductor_config

# The IR that a lowering reads and makes.
from torch._inductor import decomposition, ir

# Compile workers, and the table of what they have been asked for.
from torch._inductor.async_compile import AsyncCompile, CompiledTritonKernels

# Loads a module from its text, through Inductor's cache on disk.
from torch._inductor.codecache import PyCodeCache

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
    TritonKernel,
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
    is_unaligned_buffer_name,
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
from torch._inductor.lowering import (
    # A call of the operator itself, for where there is no kernel of ours.
    fallback_handler,
    # Lowerings of ATen operators, for what our lowering leaves to them (empty outputs).
    lowerings,
    # The public-in-spirit way to lower a custom operator.
    register_lowering,
)

# Where PyTorch keeps what it compiles, which must be writable.
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch._inductor.runtime.hints import DeviceProperties, HeuristicType
from torch._inductor.scheduler import (
    BaseSchedulerNode,
    FusedSchedulerNode,
    # A user of a buffer that is the end of the graph.
    OutputNode,
    SchedulerBuffer,
    SchedulerNode,
    # A fused node's dependencies, after the loops of its parts were reordered.
    refresh_group_node_dependencies,
)
from torch._inductor.select_algorithm import ExternalTritonTemplateKernel, PartialRender
from torch._inductor.shape_propagation import get_broadcasted_shape
from torch._inductor.utils import (
    Placeholder,
    # What a compiled program became, for those who count its kernels.
    run_and_get_code,
    sympy_dot,
    sympy_product,
)
from torch._inductor.virtualized import V
from torch._subclasses.functional_tensor import FunctionalTensorMode, dispatch_functionalize
from torch.utils import _pytree as pytree
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.functions import FloorDiv, Max, ModularIndexing
from torch.utils._sympy.symbol import SymT, symbol_is_type

# How a tensor that is spread over processes is cut, and how an operator says what cuts it can take.
if torch.distributed.is_available():
    from torch.distributed.tensor import DTensor, Replicate, Shard
    from torch.distributed.tensor._op_schema import OpSchema, OpStrategy, RuntimeSchemaInfo
    from torch.distributed.tensor._ops.utils import expand_to_full_mesh_op_strategy

# Numbers that a tensor holds: nobody knows them before the kernel runs that makes it.
UNBACKED = (SymT.UNBACKED_INT, SymT.UNBACKED_FLOAT)

# How a template's buffer is told which of its inputs may have a prologue.
PROLOGUE_INPUTS = next(
    name
    for name in ("load_input_fusion_allowed_inputs", "allowed_prologue_inps")
    if name in inspect.signature(TemplateBuffer.__init__).parameters
)


def size_hint(expr: sympy.Expr) -> int:
    """A likely value of a size. `optimization_hint` since 2.12 (some builds of it: `size_hint`)."""
    sizevars = V.graph.sizevars
    ask = getattr(sizevars, "optimization_hint", None) or getattr(sizevars, "size_hint")  # noqa: B009
    return int(ask(expr, fallback=8192))


def note_likely_bytes(dep: Dep) -> None:
    """Where a tensor's size is not known before it runs, the scheduler takes what two kernels share of it for nothing, and
    does not fuse what shares nothing. This notes a likely number, in the table that it looks into first."""
    if dep.has_unbacked_symbols():
        size = size_hint(dep.get_numel()) * V.graph.get_dtype(dep.name).itemsize
        V.graph.dep_size_hint_cache[dep, True] = size


def fits_in_32_bits(number: sympy.Expr | int) -> bool:
    """Whether a number of elements fits in 32 bits; if it does now, the graph is guarded to keep it so."""
    return bool(TritonScheduling.can_use_32bit_indexing(sympy.sympify(number), []))


def outputs_that_are(*kinds: OutputType) -> set[int]:
    """Which outputs of the graph that is being compiled are of these kinds, if that is known."""
    context = TracingContext.try_get()
    known = context.fw_metadata if context is not None else None
    if known is None or known.tokens:
        return set()
    first = known.num_mutated_inp_runtime_indices
    return {first + at for at, output in enumerate(known.output_info) if output.output_type in kinds}


def replace_loops(node: SchedulerNode, body: LoopBody) -> None:
    """Gives a node other loops. Since 2.13 a scheduler that does not fuse after all wants the old ones back."""
    notify = getattr(node, "_before_loop_state_mutation", None)
    if notify is not None:
        notify()
    node._body, node._sizes = body, body.sizes


def raw_stream(device: torch.device) -> int:
    """The current stream of a GPU, as a launcher takes it; the interpreter has none."""
    if device.type != "cuda":
        return 0
    return int(
        torch._C._cuda_getCurrentRawStream(
            torch.cuda.current_device() if device.index is None else device.index
        )
    )


def register_decomposition(op: torch._ops.OpOverload, function: Callable[..., Any]) -> None:
    """Makes `function` what Inductor traces in place of `op`. Its table is copied once, on first use."""
    decomposition.register_decomposition([op])(function)
    decomposition.fast_random_decomps.cache_clear()


def without_wrappers(args: Sequence[Any]) -> list[Any]:
    """The arguments of a call, while a graph is made free of mutation: as they are now, below that."""

    def bare(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not torch._is_functional_tensor(value):
            return value
        torch._functionalize_sync(value)
        return torch._from_functional_tensor(value)

    return [bare(value) for value in args]


def call_functional(
    op: torch._ops.OpOverload, args: Sequence[Any], inner: Sequence[Any], written: Sequence[int]
) -> tuple[torch.Tensor, ...]:
    """A call, while a graph is made free of mutation, as PyTorch's own in-place operators make theirs.

    `op` returns outputs, and then new values of the arguments at the positions `written`. Those arguments
    are their new values from here on, and so are their bases and views; the outputs are returned. `inner`:
    the arguments without their wrappers.
    """
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.Functionalize)):
        made = op(*inner)
    made = (made,) if isinstance(made, torch.Tensor) else tuple(made)
    outputs, written_values = made[: len(made) - len(written)], made[len(made) - len(written) :]
    for position, new in zip(written, written_values, strict=True):
        torch._functionalize_replace(args[position], new)
        torch._functionalize_commit_update(args[position])
        torch._functionalize_sync(args[position])
    return tuple([torch._to_functional_tensor(output) for output in outputs])


def has_tangent(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether a forward-mode derivative is being taken by one of them."""
    if forward_ad._current_level < 0 and _transform() != TransformType.Jvp:
        return False
    return any(torch._VF._unpack_dual(tensor, level=0)[1] is not None for tensor in tensors)


def in_transform() -> bool:
    """Whether a derivative is being taken by `torch.func`, below whose wrappers no node of ours can be."""
    return _transform() in (TransformType.Grad, TransformType.Jvp)


def _transform() -> Any:
    interpreter = torch._C._functorch.peek_interpreter_stack()
    return None if interpreter is None else interpreter.key()


def without_mutation(function: Callable[..., Any], args: Sequence[Any]) -> Any:
    """What `function` returns, traced as if it wrote to nothing. `torch.func.functionalize` has no place
    inside a decomposition."""
    return dispatch_functionalize(function, FunctionalTensorMode())(*args)


def register_sharding(
    op: torch._ops.OpOverload,
    cuts: Callable[[dict[int, int]], list[tuple[dict[int, int], list[int]]]],
    written: Sequence[int],
) -> None:
    """Tells DTensor how `op` may be split among processes, beside calls in which each has everything.

    `cuts` takes the number of dimensions of each tensor argument, by position, and returns for each way the
    dimension along which an argument is cut (the others are whole) and that of each output. The arguments
    at the positions `written` stay where they are: another copy would be written to. The public
    `torch.distributed.tensor.experimental.register_sharding` has no place for that.
    """
    if not torch.distributed.is_available():
        return

    def strategy(schema: OpSchema) -> OpStrategy:
        given = {at: arg for at, arg in enumerate(schema.args_schema) if isinstance(arg, OpStrategy)}
        count = len(op._schema.returns)
        ways: list[list[Any]] = [[Replicate()] * (count + len(given))]
        for inputs, outputs in cuts({at: arg.ndim for at, arg in given.items()}):
            placed = [Shard(inputs[at]) if at in inputs else Replicate() for at in given]
            ways.append([*(Shard(dim) for dim in outputs), *placed])
        stay = [
            (index, arg.strategies[0].output_spec.placements)
            for index, (at, arg) in enumerate(given.items())
            if at in written
        ]
        found = expand_to_full_mesh_op_strategy(schema.get_mesh_from_args(), schema, ways, input_index=count)
        found.strategies = [
            spec
            for spec in found.strategies
            if spec.input_specs and all(spec.input_specs[at].placements == where for at, where in stay)
        ]
        if not found.strategies:
            raise RuntimeError(
                f"{op} writes to its arguments, and cannot be split among processes as they are; "
                "redistribute them to Replicate() before"
            )
        return found

    # Everything that is no tensor may decide about the outputs' sizes, and is part of what a result is kept under.
    DTensor._op_dispatcher.sharding_propagator.register_op_strategy(
        op, strategy, RuntimeSchemaInfo(static_argnum=0)
    )


def keep_templates_from_inversion(scheduler: Any) -> None:
    """Before it fuses two nodes that share little, the scheduler would rewrite the second one's loops to walk what
    the first wrote, and takes for granted that it has loops (2.13, 2.15); a template has none."""
    invert = getattr(scheduler, "shared_data_after_inverting_indexing", None)
    if invert is None or getattr(scheduler, "_templates_are_kept", False):
        return

    def unless_template(node1: BaseSchedulerNode, node2: BaseSchedulerNode) -> int:
        return -1 if node1.is_template() or node2.is_template() else invert(node1, node2)

    scheduler.shared_data_after_inverting_indexing = unless_template
    scheduler._templates_are_kept = True


def before_each_round(scheduler: Any, prepare: Callable[[Sequence[BaseSchedulerNode]], None]) -> None:
    """Calls `prepare` with the nodes of each round of fusions. Inductor has a hook before the first one only."""
    fuse = scheduler.fuse_nodes_once
    if getattr(fuse, "prepares", None) is prepare:
        return

    def prepared(nodes: Any, *args: Any, **kwargs: Any) -> Any:
        prepare(nodes)
        return fuse(nodes, *args, **kwargs)

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

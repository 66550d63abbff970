"""The private names of PyTorch's that every call of a template needs, fused or not, each with the reason why.

What `names` has besides is fusion's: a release that lacks some of that runs templates all the same (`probes`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

# The current level of forward-mode derivatives.
import torch.autograd.forward_ad as forward_ad
from torch._C import _after_autograd_keyset as after_autograd

# Inside an operator's own autograd function: the call that lies below it.
from torch._C import _AutoDispatchBelowAutograd as below_autograd

# Which transform of `torch.func` a call is within.
from torch._C._functorch import TransformType

# PyTorch's own ways to take an operator apart.
from torch._decomp import get_decompositions

# Switches the cache of compiled graphs off, for those who want to see the code.
from torch._functorch import config as functorch_config

# Reads a compiled graph's own settings: is the epilogue's 32-bit question already answered by the user?
from torch._inductor import config as inductor_config

# What Inductor traces in place of an operator.
from torch._inductor import decomposition

# Compile workers, and the table of what they have been asked for.
from torch._inductor.async_compile import AsyncCompile, CompiledTritonKernels

# What a compiled graph is kept under; and loads a module from its text, through Inductor's cache on disk.
from torch._inductor.codecache import FxGraphHashDetails, PyCodeCache

# What Inductor tells Triton of every kernel.
from torch._inductor.codegen.triton import TritonKernel

# What Inductor calls with each graph, and asks what it is for the keys of its caches.
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch._inductor.lowering import (
    # A call of the operator itself, for where there is no kernel of ours.
    fallback_handler,
    # The public-in-spirit way to lower a custom operator.
    register_lowering,
)

# Where PyTorch keeps what it compiles, which must be writable.
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch._inductor.runtime.hints import DeviceProperties, HeuristicType

# What a compiled program became, for those who count its kernels.
from torch._inductor.utils import run_and_get_code
from torch._subclasses.functional_tensor import FunctionalTensorMode, dispatch_functionalize

# What is told of every call of an operator; whether a tensor has others within it; and a nested argument's tensors, one
# by one.
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves, tree_map

# How a tensor that is spread over processes is cut, and how an operator says what cuts it can take.
if torch.distributed.is_available():
    from torch.distributed.tensor import DTensor, Replicate, Shard
    from torch.distributed.tensor._op_schema import OpSchema, OpStrategy, RuntimeSchemaInfo
    from torch.distributed.tensor._ops.utils import expand_to_full_mesh_op_strategy


def raw_stream(device: torch.device) -> int:
    """The current stream of a GPU, as a launcher takes it; the interpreter has none."""
    if device.type != "cuda":
        return 0
    return int(
        torch._C._cuda_getCurrentRawStream(
            torch.cuda.current_device() if device.index is None else device.index
        )
    )


def has_meaning_of_its_own(value: Any) -> bool:
    """Whether a tensor has others within it and says itself what an operator does with them, as a quantised weight does.
    One that is spread over processes means what it would mean in one."""
    if torch.distributed.is_available() and isinstance(value, DTensor):
        return False
    return isinstance(value, torch.Tensor) and is_traceable_wrapper_subclass(value)


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


def register_autocast(
    library: torch.library.Library,
    op: torch._ops.OpOverload,
    name: str,
    cast: Callable[[Sequence[Any], str], Sequence[Any]],
) -> None:
    """Makes calls of `op` under autocast, on a CPU and a GPU, calls with the arguments that `cast(args, device)` returns. The
    public `torch.library.register_autocast` knows no dtype but one that is fixed. `name`: in the library."""

    def register(device: str) -> None:
        key = getattr(torch._C.DispatchKey, "Autocast" + torch._C._dispatch_key_for_device(device))

        def call(*args: Any) -> Any:
            with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
                return op(*cast(args, device))

        op.py_impl(key)(call)
        library.impl(name, call, key.name)

    for device in ("cpu", "cuda"):
        register(device)


def forget_shardings() -> None:
    """Makes DTensor ask again how calls may be split."""
    if torch.distributed.is_available():
        # The module draws pictures, too, and imports NumPy for that.
        from torch.distributed.tensor.debug import _clear_sharding_prop_cache

        _clear_sharding_prop_cache()


def is_operator(name: str) -> bool:
    """Whether an operator is registered under a name such as 'mylib::matmul', with any overload."""
    return bool(torch._C._jit_get_schemas_for_operator(name))


def saved_graph_reader() -> Any:
    """The class that reads a graph of `torch.export.load`; it is slow to import."""
    from torch._export.serde.serialize import GraphModuleDeserializer

    return GraphModuleDeserializer


__all__ = [name for name in dir() if not name.startswith("_") and name != "annotations"]


# Options of Inductor's for a pass of ours over each graph before autograd, as early as the graph is known: a graph that
# comes out of a cache is then one that was changed already.


def inductor_options(custom: CustomGraphPass) -> dict[str, Any]:
    """Those that have `custom` called."""
    options: dict[str, Any] = {"pre_grad_custom_pass": custom}
    if hasattr(inductor_config, "pre_grad_pass_timing"):
        options["pre_grad_pass_timing"] = "early"
    return options

"""What tdsl registers with PyTorch's compiler: a lowering for each operator, and a scheduling per device.

    register_operator(torch.ops.tdsl.matmul.d3f9, kernel, reference)    ->    calls of it are lowered by `lowering`

On a CPU whose Triton is not interpreted a call becomes the reference before it is lowered, and what cannot
(it writes to its arguments) stays a call of the operator.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from tdsl import ir
from tdsl.ir import Kernel
from tdsl.lower.inductor.compat import probes
from tdsl.lower.inductor.compat.cached_decompositions import register_decomposition
from tdsl.lower.inductor.compat.call_names import (
    after_autograd,
    below_autograd,
    fallback_handler,
    inductor_config,
    register_lowering,
)
from tdsl.lower.inductor.compat.unwritable_caches import use_writable_caches

GraphReference = Callable[[tuple[Any, ...]], Any]


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, which needs no GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def runs_without_python() -> bool:
    """Whether what is being compiled is called from C++, where Triton's interpreter does not reach."""
    return bool(inductor_config.cpp_wrapper)


def accumulates(kernel: Kernel) -> bool:
    """Whether programs add to one element, in the order in which they happen to come."""
    return any(isinstance(node, ir.Accumulate) for node in kernel.nodes)


def register_operator(
    op: torch._ops.OpOverload, kernel: Callable[[], Kernel], reference: GraphReference
) -> None:
    """Makes the compiler know `op`. `kernel` returns what its template is when a call is lowered. `reference` takes the
    arguments of a call in a graph and returns what the call is instead, or NotImplemented."""
    fallback = fallback_handler(op, add_to_fallback_set=False)
    lower = _lowering(op, kernel, fallback) if _extend() else fallback
    register_lowering(op, type_promotion_kind=None)(lower)
    register_decomposition(op, lambda *args: reference(args))


def _lowering(
    op: torch._ops.OpOverload, current: Callable[[], Kernel], fallback: Callable[..., Any]
) -> Callable[..., Any]:
    from tdsl.lower.inductor import lowering
    from tdsl.lower.inductor.compat.names import V

    defaults = {argument.name: argument.default_value for argument in op._schema.arguments}

    def lower(*args: Any, **kwargs: Any) -> Any:
        kernel = current()
        arguments = {**defaults, **dict(zip(defaults, args, strict=False)), **kwargs}
        devices = [box.get_device() for param, box in _boxes(kernel, arguments)]
        if devices[0].type == "cpu" and (not interpreted() or V.graph.cpp_wrapper):
            return fallback(*args, **kwargs)
        if torch.are_deterministic_algorithms_enabled() and accumulates(kernel):
            return fallback(*args, **kwargs)
        value = V.graph.current_node.meta["val"]
        results = value if isinstance(value, tuple | list) else [value]
        made = lowering.lower_call(kernel, arguments, results, f32_precision(devices[0].type))
        return made[0] if len(made) == 1 else tuple(made)

    return lower


def call_below_autograd(op: torch._ops.OpOverload, keyset: Any, args: tuple[Any, ...]) -> Any:
    """The call, from inside the operator's own autograd function."""
    with below_autograd():
        return op.redispatch(keyset & after_autograd, *args)


def f32_precision(device_type: str) -> str:
    """How `dot` multiplies f32 on a device: as PyTorch's own matmul is set to."""
    if device_type == "cpu" or torch.get_float32_matmul_precision() == "highest":
        return "ieee"
    return "tf32"


@cache
def _extend() -> bool:
    """Whether calls are lowered. Where this release of PyTorch lacks what that needs, each stays a call of its operator,
    which launches the template's own kernel."""
    use_writable_caches()
    if lacking := probes.lacking():
        warnings.warn(probes.warning(lacking), RuntimeWarning, stacklevel=1)
        return False
    from tdsl.lower.inductor.scheduling import extend_schedulings

    extend_schedulings()
    return True


def _boxes(kernel: Kernel, arguments: dict[str, Any]) -> list[tuple[ir.Tensor, Any]]:
    return [
        (param, arguments[param.name])
        for param in kernel.params
        if isinstance(param, ir.Tensor) and arguments[param.name] is not None
    ]

"""What a call's arguments become under `torch.autocast`: the rules of PyTorch's own operators, by name.

    "lower"      autocast's dtype: matmul, linear, convolution
    "promote"    the widest dtype of the arguments: cat, addcmul
    "f32"        that dtype: softmax, layer_norm, in float32

Cast are floating arguments of whatever dtype the template leaves open. What PyTorch's operators leave as it is, float64,
stays; so do float8, whose scales would be lost, and a parameter that has one dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tdsl import ir
from tdsl.lower.inductor import dtypes

Rule = str | torch.dtype
_CAST = (torch.bfloat16, torch.float16, torch.float32)


def rule_of(given: Any) -> Rule | None:
    """The rule that `given` is: "lower", "promote", or a dtype, as a `torch.dtype` or by tdsl's name. TypeError if none."""
    if given is None or given in ("lower", "promote"):
        return given  # type: ignore[no-any-return]
    dtype = dtypes.TORCH.get(given) if isinstance(given, str) else given
    if not isinstance(dtype, torch.dtype) or dtype not in _CAST:
        raise TypeError(
            'autocast= is "lower" (to the dtype of autocast), "promote" (to the widest of the arguments) or a floating '
            f"dtype, such as torch.float32; got {given!r}"
        )
    return dtype


def cast_dtypes(
    kernel: ir.Kernel, given: Mapping[str, torch.dtype], rule: Rule, device: str
) -> dict[str, torch.dtype]:
    """What each tensor is cast to, by parameter; `given` has their dtypes. Those that stay are left out."""
    stated = {param.name for param in kernel.params if isinstance(param, ir.Const) and param.type == "dtype"}
    found = [
        param.name
        for param in kernel.params
        if isinstance(param, ir.Tensor)
        and given.get(param.name) in _CAST
        and param.dtype.variables() - stated
    ]
    if not found:
        return {}
    if isinstance(rule, torch.dtype):
        target = rule
    elif rule == "lower":
        target = torch.get_autocast_dtype(device)
    else:
        target = functools.reduce(torch.promote_types, [given[name] for name in found])
    return {name: target for name in found if given[name] != target}


def cast(kernel: ir.Kernel, args: Sequence[Any], rule: Rule, device: str) -> list[Any]:
    """The arguments of a call, in the template's order, as it takes them under autocast of `device`."""
    given = {
        param.name: value.dtype
        for param, value in zip(kernel.params, args, strict=False)
        if isinstance(value, torch.Tensor) and value.device.type == device
    }
    targets = cast_dtypes(kernel, given, rule, device)
    return [
        value.to(targets[param.name]) if param.name in targets else value
        for param, value in zip(kernel.params, args, strict=False)
    ]

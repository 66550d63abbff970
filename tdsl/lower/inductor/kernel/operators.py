"""Inductor's operators in fused work, but for what Triton would not compile, or compiles to wrong numbers."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, cast

import torch

from tdsl.lower.emit.functions import triton_dtype
from tdsl.lower.emit.syntax import call, quote
from tdsl.lower.emit.triton import StoreSlot
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.compat.names import (
    CSEVariable,
    DeviceProperties,
    V,
    get_broadcasted_shape,
    sympy,
)
from tdsl.lower.inductor.fusion.padding import PaddedLanes
from tdsl.lower.inductor.kernel.frames import block
from tdsl.types import converts_through_f32


class Operators(V.WrapperHandler):  # type: ignore[misc, name-defined]
    """Of an epilogue."""

    def _default(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == "to_dtype":
            value, dtype, *_ = args
            names = (dtypes.NAMES.get(each, str(each)) for each in (value.dtype, dtype))
            if converts_through_f32(*names):
                single = super()._default(name, (value, torch.float32, value.dtype), {})
                return super()._default(name, (single, dtype, torch.float32), {})
        return _instruction(name, args) or super()._default(name, args, kwargs)


def prologue_operators(zeros: PaddedLanes, buffer: str, keep: Callable[[Any], None]) -> type[Operators]:
    """Of a prologue: `zeros` is told of each value, and `keep` gets the one that would be stored in `buffer`."""

    class PrologueOperators(Operators):
        def _default(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            value = super()._default(name, args, kwargs)
            if isinstance(value, CSEVariable):
                zeros.note(name, args, str(value), value.dtype)
            return value

        def store(self, name: str, index: sympy.Expr, value: Any, mode: Any = None) -> None:
            V.kernel.store_buffer_names.add(name)
            V.kernel.cse.store_cache[name] = value
            if name == buffer:
                keep(value)

    return PrologueOperators


_INSTRUCTIONS: dict[tuple[str, torch.dtype | None], str] = {
    ("abs", torch.float32): "absolute({0})",
    ("abs", torch.int16): "as_i16(tl.abs({0}))",
    ("neg", torch.int16): "as_i16(-{0})",
    ("add", torch.int16): "as_i16({0} + {1})",
    ("sub", torch.int16): "as_i16({0} - {1})",
    ("mul", torch.int16): "as_i16({0} * {1})",
    ("gt", torch.float32): "above({0}, {1})",
    ("ge", torch.float32): "at_least({0}, {1})",
    ("lt", torch.float32): "below({0}, {1})",
}


def _instruction(name: str, args: tuple[Any, ...]) -> CSEVariable | None:
    """An operator on a GPU as `intrinsics` has it; None for one that Triton compiles to right numbers."""
    found = _INSTRUCTIONS.get((name, args[0].dtype)) if args and isinstance(args[0], CSEVariable) else None
    if found is None or V.graph.get_current_device_or_throw().type != "cuda":
        return None
    dtype = torch.bool if name in ("gt", "ge", "lt") else args[0].dtype
    shape = args[0].shape if len(args) == 1 else get_broadcasted_shape(args[0].shape, args[1].shape)
    text = found.format(*args)
    return cast(CSEVariable, V.kernel.cse.generate(V.kernel.compute, text, dtype=dtype, shape=shape))


def as_read(slot: StoreSlot) -> ast.expr:
    """The value of a store as what is fused behind it reads it, had it been stored."""
    if slot.computed is None:
        return block(slot.value, slot)
    computed, dtype = slot.computed
    value = as_stored(computed, dtype)
    if converts_through_f32(dtype, slot.dtype):
        value = quote("{0}.to(tl.float32)", value)
    if dtype != slot.dtype:
        value = quote("{0}.to({1})", value, triton_dtype(slot.dtype))
    return block(value, slot)


def as_stored(value: ast.expr, dtype: str) -> ast.expr:
    """A value that crosses a fusion, to the last bit what it would be had it been stored and loaded."""
    if dtype not in ("f16", "bf16", "f32", "f64"):
        return value
    device = DeviceProperties.create(V.graph.get_current_device_or_throw())
    return call("as_stored", value) if device.type == "cuda" else value

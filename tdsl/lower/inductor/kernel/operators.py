"""Inductor's operators in fused work, but for what Triton would not compile, or compiles to wrong numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch

from tdsl.lower.emit.fused import INSTRUCTIONS
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.compat.names import (
    CSEVariable,
    V,
    get_broadcasted_shape,
    sympy,
)
from tdsl.lower.inductor.fusion.padding import PaddedLanes
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


def _instruction(name: str, args: tuple[Any, ...]) -> CSEVariable | None:
    """An operator on a GPU as `intrinsics` has it; None for one that Triton compiles to right numbers."""
    if not args or not isinstance(args[0], CSEVariable):
        return None
    taken = args[0].dtype
    found = INSTRUCTIONS.get((name, dtypes.NAMES.get(taken, ""))) if taken is not None else None
    if found is None or V.graph.get_current_device_or_throw().type != "cuda":
        return None
    dtype = torch.bool if name in ("gt", "ge", "lt") else taken
    shape = args[0].shape if len(args) == 1 else get_broadcasted_shape(args[0].shape, args[1].shape)
    text = found.format(*args)
    return cast(CSEVariable, V.kernel.cse.generate(V.kernel.compute, text, dtype=dtype, shape=shape))

"""libdevice for Triton's interpreter, which has none: each function computed by PyTorch.

    libdevice.exp(x)  on a tile in the interpreter   ->   torch.exp of the tile's array
    tl.dot(x, y)      of bf16 tiles, likewise        ->   tl.dot of the same tiles in f32

A kernel that is interpreted imports `libdevice`, `tl_math` and `tl` from here; a compiled one from where
Inductor does. Nothing else differs between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import torch
import triton.language as tl
from triton.language import math as tl_math

from tdsl.lower.inductor.private import TensorHandle

__all__ = ["language", "libdevice", "tl_math"]


class Libdevice:
    """The functions of libdevice that Inductor writes, by name."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = FUNCTIONS.get(name)
        if function is None:
            raise NotImplementedError(f"libdevice.{name} is not available in Triton's interpreter")

        def call(*arguments: Any) -> Any:
            return _apply(function, arguments)

        return call


def _apply(function: Callable[..., torch.Tensor], arguments: tuple[Any, ...]) -> Any:
    element = next(a.dtype for a in arguments if isinstance(a, tl.tensor))
    tensors = [_tensor(argument) for argument in arguments]
    result = function(*tensors).numpy()
    result_type = _RESULT_TYPES.get(result.dtype.name, element)
    shape = next(a for a in arguments if isinstance(a, tl.tensor)).shape
    kind = tl.block_type(result_type, list(result.shape)) if shape else result_type
    data = result if shape else result.reshape(1)
    return tl.tensor(TensorHandle(data, result_type), kind)


def _tensor(argument: Any) -> torch.Tensor:
    if isinstance(argument, tl.tensor):
        data = argument.handle.data
        return torch.from_numpy(numpy.ascontiguousarray(data if argument.shape else data.reshape(())))
    value = getattr(argument, "value", argument)
    return torch.tensor(value)


_RESULT_TYPES = {
    "bool": tl.int1,
    "int32": tl.int32,
    "int64": tl.int64,
    "float32": tl.float32,
    "float64": tl.float64,
    "float16": tl.float16,
}

FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "abs": torch.abs,
    "fabs": torch.abs,
    "acos": torch.acos,
    "acosh": torch.acosh,
    "asin": torch.asin,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "atan2": torch.atan2,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "copysign": torch.copysign,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "cyl_bessel_i0": torch.special.i0,
    "cyl_bessel_i1": torch.special.i1,
    "digamma": torch.digamma,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "erfcx": torch.special.erfcx,
    "erfinv": torch.erfinv,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "fast_tanhf": torch.tanh,
    "floor": torch.floor,
    "fmod": torch.fmod,
    "hypot": torch.hypot,
    "isinf": torch.isinf,
    "isnan": torch.isnan,
    "j0": torch.special.bessel_j0,
    "j1": torch.special.bessel_j1,
    "ldexp": torch.ldexp,
    "lgamma": torch.lgamma,
    "llrint": lambda x: torch.round(x).to(torch.int64),
    "log": torch.log,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "log2": torch.log2,
    "nearbyint": torch.round,
    "nextafter": torch.nextafter,
    "pow": torch.pow,
    "rint": torch.round,
    "rsqrt": torch.rsqrt,
    "signbit": torch.signbit,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "tan": torch.tan,
    "tanh": torch.tanh,
    "trunc": torch.trunc,
    "y0": torch.special.bessel_y0,
    "y1": torch.special.bessel_y1,
}

libdevice = Libdevice()


class Language:
    """`triton.language`, but for what its interpreter computes wrongly."""

    def __getattr__(self, name: str) -> Any:
        return getattr(tl, name)

    def dot(self, left: Any, right: Any, *arguments: Any, **keywords: Any) -> Any:
        # The interpreter keeps bf16 as its bits, and multiplies those.
        if left.dtype == tl.bfloat16:
            left = left.to(tl.float32)
        if right.dtype == tl.bfloat16:
            right = right.to(tl.float32)
        return tl.dot(left, right, *arguments, **keywords)


language = Language()

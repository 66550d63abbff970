"""libdevice for Triton's interpreter, which has none: each function computed by PyTorch.

    libdevice.exp(x)  on a tile in the interpreter   ->   torch.exp of the tile's array
    x * y             of bf16 tiles, likewise        ->   their product in f32, rounded once

A kernel that is interpreted imports `libdevice`, `tl_math` and the functions of `intrinsics` from here, and is
launched through `interpreted`; a compiled one imports or defines them. Nothing else differs between the two.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy
import torch
import triton.language as tl
from triton.language import math as tl_math

from tdsl.lower.runtime import names
from tdsl.lower.runtime.intrinsics import normal, uniform

__all__ = [
    "above",
    "absolute",
    "as_i16",
    "at_least",
    "below",
    "floor_divided",
    "floor_remainder",
    "interpreted",
    "libdevice",
    "nan_argmax",
    "nan_argmin",
    "nan_max",
    "nan_min",
    "normal",
    "opaque",
    "product",
    "tile_part",
    "tl_math",
    "uniform",
]

triton_interpreter = names.triton_interpreter()
TensorHandle, interpreter_builder = triton_interpreter.TensorHandle, triton_interpreter.interpreter_builder


class Libdevice:
    """The functions of libdevice that Inductor writes, by name."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = LIBDEVICE_FUNCTIONS.get(name)
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
    kind = tl.block_type(result_type, list(result.shape)) if result.shape else result_type
    data = result if result.shape else result.reshape(1)
    return tl.tensor(TensorHandle(data, result_type), kind)


def _tensor(argument: Any) -> torch.Tensor:
    if isinstance(argument, tl.tensor):
        data = torch.from_numpy(numpy.ascontiguousarray(argument.handle.data))
        return data if argument.shape else data.reshape(())
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

LIBDEVICE_FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
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


# The interpreter would walk a reduction by a function lane by lane; here NumPy does.


def absolute(tile: Any) -> Any:
    return tl.abs(tile)


def as_i16(tile: Any) -> Any:
    return tile


def above(tile: Any, number: Any) -> Any:
    return tile > number


def at_least(tile: Any, number: Any) -> Any:
    return tile >= number


def below(tile: Any, number: Any) -> Any:
    return tile < number


def opaque(tile: Any) -> Any:
    return tile


def floor_divided(left: Any, right: Any) -> Any:
    return _apply(torch.floor_divide, (left, right))


def floor_remainder(left: Any, right: Any) -> Any:
    return _apply(torch.remainder, (left, right))


def nan_max(tile: Any, dim: Any) -> Any:
    return _reduced(numpy.max, tile, dim)


def nan_min(tile: Any, dim: Any) -> Any:
    return _reduced(numpy.min, tile, dim)


def product(tile: Any, dim: Any) -> Any:
    return _reduced(partial(numpy.prod, dtype=tile.handle.data.dtype), tile, dim)


def nan_argmax(tile: Any, dim: Any) -> Any:
    return _reduced(numpy.argmax, tile, dim, tl.int32)


def nan_argmin(tile: Any, dim: Any) -> Any:
    return _reduced(numpy.argmin, tile, dim, tl.int32)


def _reduced(function: Callable[..., Any], tile: Any, dim: Any, element: Any = None) -> Any:
    element = element or tile.dtype
    data = numpy.asarray(function(tile.handle.data, axis=int(getattr(dim, "value", dim))))
    if element is not tile.dtype:
        data = data.astype(numpy.int32)
    kind = tl.block_type(element, list(data.shape)) if data.shape else element
    return tl.tensor(TensorHandle(data if data.shape else data.reshape(1), element), kind)


def tile_part(tile: Any, part: Any, parts: Any) -> Any:
    data = numpy.split(tile.handle.data, int(getattr(parts, "value", parts)), axis=-1)[int(part)]
    data = numpy.ascontiguousarray(data)
    return tl.tensor(TensorHandle(data, tile.dtype), tl.block_type(tile.dtype, list(data.shape)))


# Narrow floats: the interpreter keeps a bf16 or float8 tile as its bits, and calculates with those.

_NARROW = {
    tl.bfloat16: torch.bfloat16,
    tl.float8e4nv: torch.float8_e4m3fn,
    tl.float8e5: torch.float8_e5m2,
}
_BITS = {1: torch.uint8, 2: torch.int16}


def _is_narrow(handle: Any) -> bool:
    return handle.dtype.scalar in _NARROW


def _widened(handle: Any) -> Any:
    """The tile in f32, if it is of a narrow float."""
    if not _is_narrow(handle):
        return handle
    dtype = _NARROW[handle.dtype.scalar]
    bits = numpy.ascontiguousarray(handle.data).view(numpy.uint8 if dtype.itemsize == 1 else numpy.int16)
    return TensorHandle(torch.from_numpy(bits).view(dtype).float().numpy(), tl.float32)


def _narrowed(data: numpy.ndarray[Any, Any], dtype: Any) -> Any:
    """The tile of a narrow float that is nearest to numbers of any other dtype."""
    values = torch.from_numpy(numpy.ascontiguousarray(data)).to(_NARROW[dtype])
    bits = values.view(_BITS[values.itemsize]).numpy()
    return TensorHandle(bits.view(numpy.uint8 if values.itemsize == 1 else numpy.uint16), dtype)


def _like(result: Any, narrow: Any) -> Any:
    if result.data.dtype == numpy.bool_:
        return result
    return _narrowed(result.data, narrow.dtype.scalar)


class Arithmetic:
    """In place of the interpreter's own functions, which these call."""

    # It would look for overflow in each sum and product, and tell nobody: a third of a run's time.
    options = replace(interpreter_builder.options, sanitize_overflow=interpreter_builder.options.debug)

    def __init__(self, builder: Any) -> None:
        self.stock = type(builder)
        self.builder = builder

    def get_bf16(self, value: float) -> Any:
        return _narrowed(numpy.array([value], dtype=numpy.float32), tl.bfloat16)

    def get_all_ones_value(self, kind: Any) -> Any:
        if kind.scalar == tl.int1:
            return TensorHandle(numpy.array([True]), tl.int1)
        return getattr(
            self, f"get_{'u' if kind.scalar.is_int_unsigned() else ''}int{kind.scalar.int_bitwidth}"
        )(-1)

    def binary_op(self, left: Any, right: Any, op: Any) -> Any:
        result = self.stock.binary_op(self.builder, _widened(left), _widened(right), op)
        return _like(result, left) if _is_narrow(left) else result

    def unary_op(self, value: Any, op: Any) -> Any:
        result = self.stock.unary_op(self.builder, _widened(value), op)
        return _like(result, value) if _is_narrow(value) else result

    def create_erf(self, value: Any) -> Any:
        return self.unary_op(value, lambda data: torch.erf(torch.from_numpy(data)).numpy())

    def create_rsqrt(self, value: Any) -> Any:
        return self.unary_op(value, lambda data: 1 / numpy.sqrt(data))

    def create_fma(self, x: Any, y: Any, z: Any) -> Any:
        result = self.stock.create_fma(self.builder, _widened(x), _widened(y), _widened(z))
        return _like(result, z) if _is_narrow(z) else result

    def create_clampf(self, value: Any, low: Any, high: Any, propagate_nans: Any) -> Any:
        wide = map(_widened, (value, low, high))
        result = self.stock.create_clampf(self.builder, *wide, propagate_nans)
        return _like(result, value) if _is_narrow(value) else result

    def create_dot(self, left: Any, right: Any, *rest: Any) -> Any:
        return self.stock.create_dot(self.builder, _widened(left), _widened(right), *rest)

    def cast_impl(self, value: Any, kind: Any) -> Any:
        value = _widened(value)
        if kind.scalar in _NARROW:
            return _narrowed(value.data, kind.scalar)
        return self.stock.cast_impl(self.builder, value, kind)

    def create_fp_to_fp(self, value: Any, kind: Any, rounding_mode: Any) -> Any:
        return self.cast_impl(value, kind)


def _constant(name: str) -> Callable[[Arithmetic, int], Any]:
    """A number in so many bits: what is beyond them wraps, as on a GPU. NumPy refuses it."""

    def constant(self: Arithmetic, value: int) -> Any:
        dtype = numpy.dtype(name)
        return TensorHandle(numpy.array([value & 2**64 - 1], numpy.uint64).astype(dtype), getattr(tl, name))

    return constant


for _name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
    setattr(Arithmetic, f"get_{_name}", _constant(_name))


_builtins: dict[Any, list[str]] = {}


def _patch_builtin(package: Any, builder: Any, scope: Any) -> None:
    """Triton's own looks through all of a package at each call of a function such as `tl.sum`."""
    if not _builtins.get(package):  # at first, and while it is patched by whoever else interprets a kernel
        _builtins[package] = [
            name for name, member in inspect.getmembers(package) if tl.core.is_builtin(member)
        ]
    for name in _builtins[package]:
        member = getattr(package, name)
        if tl.core.is_builtin(member):  # not yet patched
            triton_interpreter._patch_attr(package, name, member, builder, scope)


RETRIES = 20
NAMES = tuple(name for name in vars(Arithmetic) if not name.startswith("_"))
_lock = threading.RLock()


@contextmanager
def _calculating() -> Iterator[None]:
    """The interpreter has one state for all threads; warns of infinities, as no GPU does; and see above."""
    arithmetic = Arithmetic(interpreter_builder)
    with _lock, numpy.errstate(all="ignore"):
        patch_builtin = triton_interpreter._patch_builtin
        triton_interpreter._patch_builtin = _patch_builtin
        before = {name: vars(interpreter_builder).get(name) for name in NAMES}
        for name in NAMES:
            setattr(interpreter_builder, name, getattr(arithmetic, name))
        try:
            yield
        finally:
            triton_interpreter._patch_builtin = patch_builtin
            for name, function in before.items():
                if function is None:
                    delattr(interpreter_builder, name)
                else:
                    setattr(interpreter_builder, name, function)


def _rewrite(function: Any) -> None:
    """What the interpreter does to a function before it runs it first: it parses its text."""
    for _ in range(RETRIES):
        try:
            function.rewrite()
            return
        except SystemError:
            # CPython 3.11 counts the depth of what is parsed in one place for all threads, and finds that
            # it is wrong when another thread (Dynamo, in our tests) parses meanwhile.
            continue
    function.rewrite()


def interpreted(kernel: Any) -> Any:
    """A launcher whose runs calculate as they would on a GPU."""
    run = kernel.run

    def run_interpreted(*args: Any, **kwargs: Any) -> Any:
        with _calculating():
            _rewrite(kernel.fn)
            return run(*args, **kwargs)

    kernel.run = run_interpreted
    return kernel

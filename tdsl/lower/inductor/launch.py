"""Runs one template eagerly: the kernel with nothing fused, compiled once per kind of call and kept.

    matmul(A, B)    ->    the module that `module` writes, each slot unfused, launched by Inductor's runtime

Sizes and strides are arguments of the kernel where they may be, so that new sizes need no new kernel; which
of them are equal, and which are divisible by 16, is part of what a kernel is specialised to. Sizes of another
magnitude are tuned anew, of a kernel that is compiled already.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import assert_never

import tdsl.lower
from tdsl import ir
from tdsl.lower.emit.fused import Written
from tdsl.lower.emit.text import constexpr
from tdsl.lower.emit.triton import Line, LoadSlot, StoreSlot, TritonSource
from tdsl.lower.facts.binding import Binding, TensorArg, exact
from tdsl.lower.facts.candidates import Budget
from tdsl.lower.facts.extents import evaluate
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.compat.broken_modules import discard_broken_module
from tdsl.lower.inductor.compat.call_names import AsyncCompile, raw_stream
from tdsl.lower.inductor.compat.candidates_in_turn import compile_ahead
from tdsl.lower.inductor.module import launch_record
from tdsl.lower.inductor.tuning import bucket, budget_of
from tdsl.signature import Resolution

ALIGNMENT = 16  # bytes, and elements: what Triton wants to know of pointers and integers
INDEX_LIMIT = 2**31


def launch(
    kernel: ir.Kernel, arguments: Mapping[str, Any], resolution: Resolution, f32_precision: str
) -> tuple[torch.Tensor, ...]:
    """The outputs of one call. The arguments fit the kernel's signature: `resolution` is of them."""
    tensors = {
        param.name: arguments[param.name]
        for param in kernel.params
        if isinstance(param, ir.Tensor) and arguments[param.name] is not None
    }
    device = next(iter(tensors.values())).device
    accumulated = {node.param for node in kernel.nodes if isinstance(node, ir.Accumulate)}
    outputs = []
    for output, info in zip(kernel.outputs, resolution.outputs, strict=True):
        make = torch.zeros if output.name in accumulated else torch.empty
        outputs.append(make(tuple(info.shape), dtype=dtypes.TORCH[info.dtype], device=device))
        tensors[output.name] = outputs[-1]
    written = [*outputs, *(tensors[p.name] for p in kernel.params if isinstance(p, ir.Tensor) and p.inout)]
    if all(tensor.numel() == 0 for tensor in written):
        return tuple(outputs)
    call = _EagerCall(kernel, arguments, tensors, resolution, f32_precision, budget_of(device))
    entry = _entry(call, device)
    # For other sizes the same kernel may have programs; none are none in each candidate.
    if entry is not None and evaluate(entry.source.configs[0].grid, call.sizes()) > 0:
        ordered = [tensors[pointer.param] for pointer in entry.source.pointers]
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            entry.autotuner.run(*ordered, *call.values, *call.floats, stream=raw_stream(device))
    return tuple(outputs)


@dataclass(frozen=True)
class _Entry:
    source: TritonSource
    autotuner: Any


class _EagerCall:
    """What a kernel is specialised to for one call (`key`), and what it gets as arguments."""

    def __init__(
        self,
        kernel: ir.Kernel,
        arguments: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        resolution: Resolution,
        f32_precision: str,
        budget: Budget | None,
    ) -> None:
        self.kernel = kernel
        self.budget = budget
        self.values: list[int] = []
        self.floats: list[float] = []
        self._names: dict[int, str] = {}
        self._static = {0, 1, *_static_sizes(kernel, tensors)}
        if any(name == "tma" for candidate in kernel.candidates for name, _ in candidate.items):
            self._static.update(*(tensor.stride() for tensor in tensors.values()))
        self.tensors: dict[str, TensorArg | None] = {
            param.name: self._tensor(tensors[param.name]) if param.name in tensors else None
            for param in (*kernel.params, *kernel.outputs)
            if isinstance(param, ir.Tensor)
        }
        double = any(tensor.dtype == torch.float64 for tensor in tensors.values())
        self.scalars: dict[str, Any] = {}
        for param in kernel.params:
            if isinstance(param, ir.Scalar):
                value = arguments[param.name]
                if isinstance(value, int):
                    self.scalars[param.name] = self._extent(value) if value >= 0 else value
                elif double or not math.isfinite(value):
                    self.scalars[param.name] = value  # an argument is a float32
                else:
                    self.scalars[param.name] = f"fs{len(self.floats)}"
                    self.floats.append(value)
        self.consts = dict(resolution.consts)
        self.f32_precision = f32_precision
        integers = [value for value in arguments.values() if isinstance(value, int)]
        far = any(_reach(tensor) >= INDEX_LIMIT for tensor in tensors.values())
        far |= any(abs(value) >= INDEX_LIMIT for value in integers)
        self.index_dtype = "i64" if far else "i32"
        self.aligned = frozenset(
            name for name, tensor in tensors.items() if tensor.data_ptr() % ALIGNMENT == 0
        )
        self.key = (
            kernel.source.text,
            kernel.name,
            tuple(self.tensors.items()),
            tuple((value % ALIGNMENT == 0, value >= INDEX_LIMIT) for value in self.values),
            exact(self.scalars),
            exact(self.consts),
            self.aligned,
            self.index_dtype,
            f32_precision,
            budget,
            tuple(map(bucket, self.values)) if budget is not None and len(kernel.candidates) > 1 else None,
        )

    def _tensor(self, tensor: torch.Tensor) -> TensorArg:
        return TensorArg(
            dtype=dtypes.NAMES[tensor.dtype],
            shape=tuple(map(self._extent, tensor.shape)),
            strides=tuple(map(self._extent, tensor.stride())),
        )

    def _extent(self, value: int) -> int | str:
        if value in self._static:
            return value
        if value not in self._names:
            self._names[value] = f"ks{len(self.values)}"
            self.values.append(value)
        return self._names[value]

    def sizes(self) -> dict[str, int]:
        return {name: value for value, name in self._names.items()}

    def binding(self) -> Binding:
        return Binding(
            tensors=self.tensors,
            scalars=self.scalars,
            consts=self.consts,
            hints=self.sizes(),
            index_dtype=self.index_dtype,
            f32_precision=self.f32_precision,
            budget=self.budget,
        )


_entries: dict[object, _Entry | None] = {}
_lock = threading.Lock()


def _entry(call: _EagerCall, device: torch.device) -> _Entry | None:
    """The compiled kernel for a call; None if it has no programs to run."""
    key = (call.key, device)
    if key not in _entries:
        with _lock:
            if key not in _entries:
                _entries[key] = _compile(call, device)
    return _entries[key]


def _compile(call: _EagerCall, device: torch.device) -> _Entry | None:
    source = tdsl.lower.lower(call.kernel, call.binding())
    sizes = call.sizes()
    if all(config.grid == 0 for config in source.configs):
        return None
    signature = {pointer.name: dtypes.SIGNATURE[pointer.dtype] for pointer in source.pointers}
    hints = [pointer.param in call.aligned for pointer in source.pointers]
    for name, value in sizes.items():
        signature[name] = "i64" if value >= INDEX_LIMIT or source.index_dtype == "i64" else "i32"
        hints.append(value % ALIGNMENT == 0)
    signature |= {f"fs{index}": "fp32" for index in range(len(call.floats))}
    constants = [name for name, _ in source.configs[0].constants]
    arguments = [*signature, *map(constexpr, constants)]
    signature |= dict.fromkeys(constants, "constexpr")
    inout = {param.name for param in call.kernel.params if isinstance(param, ir.Tensor) and param.inout}
    name = f"triton_tdsl_{source.name}"
    record = launch_record(
        source,
        call.kernel,
        device,
        name=name,
        shown=name,
        arguments=arguments,
        signature=signature,
        constants={},
        attributes={(i,): [["tt.divisibility", ALIGNMENT]] for i, hint in enumerate(hints) if hint},
        reset=[pointer.name for pointer in source.pointers if pointer.accumulated],
        overwritten=[pointer.name for pointer in source.pointers if pointer.param in inout],
        sizes=sizes,
        frees=True,
    )
    text = record.module(_body(source, call.aligned))
    discard_broken_module(text)
    if device.type != "cpu":
        compile_ahead(name, text)
    made = AsyncCompile().triton(name, text, device.type)
    return _Entry(source, made if hasattr(made, "run") else made.result())


def _body(source: TritonSource, aligned: Collection[str]) -> list[tuple[int, Written]]:
    lines: list[tuple[int, Written]] = []
    described = {slot.point for slot in source.load_slots() if slot.param in aligned}
    for item in source.body:
        match item:
            case Line(describes=str(point)) if point not in described:
                continue
            case Line():
                lines.append((item.indent, item.code))
            case LoadSlot():
                lines.append((item.indent, item.unfused(aligned=item.point in described)))
            case StoreSlot():
                lines.append((item.indent, item.plain))
            case _:
                assert_never(item)
    return lines


def _static_sizes(kernel: ir.Kernel, tensors: Mapping[str, torch.Tensor]) -> set[int]:
    found: set[int] = set()
    for name, axis in tdsl.lower.static_axes(kernel):
        if name in tensors:
            found.update(static_sizes(kernel.tensor(name), axis, tensors[name].shape))
    return found


def static_sizes(tensor: ir.Tensor, axis: int, shape: Sequence[Any]) -> Sequence[Any]:
    """The sizes behind one declared axis of a tensor; of `R...`, all leading ones."""
    leading = len(shape) - len(tensor.dims)
    if not isinstance(tensor.dims[0], ir.RestDim):
        return shape[axis : axis + 1]
    return shape[: leading + 1] if axis == 0 else shape[axis + leading : axis + leading + 1]


def _reach(tensor: torch.Tensor) -> int:
    """One more than the largest offset of an element, or the number of elements if that is larger."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return max(last + 1, tensor.numel())

"""Runs a template's kernel, nothing fused, in Triton's interpreter: what the lowering means, without Inductor."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tdsl import ir
from tdsl.lower import lower, static_axes
from tdsl.lower.emit.text import IMPORTS, function_text
from tdsl.lower.emit.triton import TritonSource
from tdsl.lower.facts.binding import Binding, TensorArg
from tdsl.lower.facts.extents import Signed, evaluate
from tdsl.lower.runtime import interpreter
from tdsl.pipeline import load
from tdsl.signature import TensorInfo, resolve
from tdsl.source import Source
from tdsl.types import DTYPES

INTERPRETED = "from tdsl.lower.runtime.interpreter import *\n\n\n"  # what Triton's interpreter has not
NAMES = {getattr(torch, info.torch): name for name, info in DTYPES.items()}


class Launch:
    """`dynamic`: sizes and strides that may vary are arguments, named s0, s1, ..."""

    def __init__(
        self, folder: Path, *, dynamic: bool = False, index_dtype: str = "i32", config: int = 0
    ) -> None:
        self.folder = folder
        self.dynamic = dynamic
        self.index_dtype = index_dtype
        self.config = config
        self.text = ""

    def __call__(self, template: str, *, name: str | None = None, **args: Any) -> Any:
        kernel = load(Source("<test>", template), name)
        info = {
            key: TensorInfo(NAMES[value.dtype], tuple(value.shape))
            if isinstance(value, torch.Tensor)
            else value
            for key, value in args.items()
        }
        resolution = resolve(kernel, info)
        outputs = {
            output.name: self._poisoned(kernel, output.name, shape.dtype, shape.shape)
            for output, shape in zip(kernel.outputs, resolution.outputs, strict=True)
        }
        tensors = {key: value for key, value in args.items() if isinstance(value, torch.Tensor)} | outputs
        self.sizes: dict[str, int] = {}
        fixed = set(static_axes(kernel))
        binding = Binding(
            tensors={
                item.name: self._argument(kernel, item, tensors.get(item.name), fixed)
                for item in (*kernel.params, *kernel.outputs)
                if isinstance(item, ir.Tensor)
            },
            scalars={
                p.name: Signed(self._size(args[p.name])) if self.dynamic and p.type == "int" else args[p.name]
                for p in kernel.params
                if isinstance(p, ir.Scalar)
            },
            consts=resolution.consts,
            hints=self.sizes,
            index_dtype=self.index_dtype,
        )
        source = lower(kernel, binding)
        self.text = function_text(source, tuple(self.sizes))
        self._launch(source, tensors)
        found = tuple(outputs.values())
        return found[0] if len(found) == 1 else found

    def _poisoned(self, kernel: ir.Kernel, name: str, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
        accumulated = any(isinstance(n, ir.Accumulate) and n.param == name for n in ir.walk(kernel))
        poison = 0 if accumulated else (float("nan") if DTYPES[dtype].category == 2 else 77)
        return torch.full(shape, poison).to(getattr(torch, DTYPES[dtype].torch))

    def _argument(
        self, kernel: ir.Kernel, item: ir.Tensor, value: torch.Tensor | None, fixed: set[tuple[str, int]]
    ) -> TensorArg | None:
        if value is None:
            return None
        shape: list[int | str] = list(value.shape)
        strides: list[int | str] = list(value.stride())
        if self.dynamic and not any(isinstance(dim, ir.RestDim) for dim in item.dims):
            static = {
                dim.name
                for p in kernel.params
                if isinstance(p, ir.Tensor)
                for axis, dim in enumerate(p.dims)
                if (p.name, axis) in fixed and isinstance(dim, ir.DimRef)
            }
            for axis, dim in enumerate(item.dims):
                if isinstance(dim, ir.DimRef) and dim.name not in static:
                    shape[axis] = self._size(value.shape[axis])
            strides = [stride if stride in (0, 1) else self._size(stride) for stride in value.stride()]
        return TensorArg(
            dtype=NAMES[value.dtype],
            shape=tuple(shape),
            strides=tuple(strides),
            offset=value.storage_offset(),
        )

    def _size(self, value: int) -> str:
        for name, known in self.sizes.items():
            if known == value:
                return name
        name = f"s{len(self.sizes)}"
        self.sizes[name] = value
        return name

    def _launch(self, source: TritonSource, tensors: dict[str, torch.Tensor]) -> None:
        function = getattr(_module(self.folder, IMPORTS + INTERPRETED + self.text), source.name)
        config = source.configs[self.config]
        grid = evaluate(config.grid, self.sizes)
        if grid > 0:
            pointers = [
                torch.as_strided(t, (t.untyped_storage().nbytes() // t.element_size(),), (1,), 0)
                for t in (tensors[pointer.param] for pointer in source.pointers)
            ]
            with interpreter._calculating():
                function[(grid,)](*pointers, *self.sizes.values(), **dict(config.constants))


_count = itertools.count()


def _module(folder: Path, text: str) -> ModuleType:
    path = folder / f"kernel_{hashlib.sha256(text.encode()).hexdigest()[:16]}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(f"{path.stem}_{next(_count)}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

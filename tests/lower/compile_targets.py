"""Compiles one template's kernel to machine code for each kind of GPU; no GPU is needed.

    python compile_targets.py FILE.tdsl FOLDER [TARGET ...]      prints one JSON object a line

A process of its own: Triton's interpreter, in which the other tests run, is switched on for a whole process.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tdsl import ir
from tdsl.grammar import read
from tdsl.lower import lower, static_axes
from tdsl.lower.emit.functions import FOR_HIP
from tdsl.lower.emit.text import IMPORTS, function_text
from tdsl.lower.facts.contiguous import contiguous
from tdsl.pipeline import check_text

TARGETS = {
    "sm_80": (GPUTarget("cuda", 80, 32), "cubin"),
    "sm_90": (GPUTarget("cuda", 90, 32), "cubin"),
    "sm_100": (GPUTarget("cuda", 100, 32), "cubin"),
    "gfx942": (GPUTarget("hip", "gfx942", 64), "hsaco"),
}
TYPES = {
    "bf16": "*bf16",
    "f32": "*fp32",
    "f16": "*fp16",
    "i32": "*i32",
    "i64": "*i64",
    "bool": "*i1",
    "f64": "*fp64",
    "u8": "*u8",
    "i8": "*i8",
    "i16": "*i16",
    "f8e4m3": "*fp8e4nv",
    "f8e5m2": "*fp8e5",
}
SCALARS = {"float": "fp32", "int": "i32"}
HIP = "".join(f"from tdsl.lower.runtime.intrinsics import {own} as {name}\n" for name, own in FOR_HIP.items())
ALIGNED_SIZE, BLOCK_SIZE = 1024, 64  # of a dimension, and of one that a single block covers


def kernels(file: str, folder: Path) -> Any:
    """Each template of a file as a Triton function, once for bf16 and once for f32."""
    for kernel in check_text(read(file)):
        blocks = {kernel.tensor(param).dims[axis].name for param, axis in static_axes(kernel)}
        for dtype in ("bf16", "f32"):
            # In bf16 every size is known and aligned, so that loads pipeline; in f32 as few as can be.
            known = kernel.dims if dtype == "bf16" else blocks
            dims = {name: BLOCK_SIZE if name in blocks else ALIGNED_SIZE for name in known}
            dtypes = {name: dtype for name, choices in kernel.dtype_choices if dtype in choices}
            if dtype == "f32" or dtypes:
                binding, arguments = contiguous(kernel, dims=dims, dtypes=dtypes)
                source = lower(kernel, binding)
                text = function_text(source, arguments)
                modules = {
                    "cuda": imported(folder / f"{kernel.name}_{dtype}.py", f"{IMPORTS}\n\n{text}"),
                    "hip": imported(folder / f"{kernel.name}_{dtype}_hip.py", f"{IMPORTS}{HIP}\n\n{text}"),
                }
                functions = {maker: getattr(module, source.name) for maker, module in modules.items()}
                signature = {pointer.name: TYPES[pointer.dtype] for pointer in source.pointers}
                signature |= dict.fromkeys(arguments, "i32")
                signature |= {
                    f"{p.name}_": SCALARS[p.type] for p in kernel.params if isinstance(p, ir.Scalar)
                }
                config = source.configs[-1]
                aligned = {(index,): [["tt.divisibility", 16]] for index in range(len(source.pointers))}
                signature |= {name: "constexpr" for name, _ in config.constants}
                yield dtype, functions, signature, aligned, config


def imported(path: Path, text: str) -> Any:
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(file: str, folder: Path, *targets: str) -> None:
    for dtype, functions, signature, aligned, config in kernels(file, folder):
        for name in targets or TARGETS:
            target, binary = TARGETS[name]
            found: dict[str, object] = {"target": name, "dtype": dtype}
            try:
                compiled = triton.compile(
                    ASTSource(functions[target.backend], signature, dict(config.constants), aligned),
                    target=target,
                    options={"num_warps": config.num_warps or 4, "num_stages": config.num_stages or 2},
                )
                found |= {"bytes": len(compiled.asm[binary]), "shared": compiled.metadata.shared}
            except Exception:
                found |= {"error": traceback.format_exc()}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])

"""Kernels that Triton compiles wrongly or not at all, and what comes of each, as a line of JSON. For a process of its own,
where Triton is not interpreted; no GPU is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

SM_90 = GPUTarget("cuda", 90, 32)


@triton.jit
def dot_of_narrow(a, b, c):
    m, n = tl.arange(0, 32)[:, None], tl.arange(0, 32)[None, :]
    x = tl.load(a + m * 32 + n).to(tl.float64)
    y = tl.load(b + m * 32 + n).to(tl.float64)
    tl.store(c + m * 32 + n, tl.dot(x, y, out_dtype=tl.float64))


@triton.jit
def longer_index(a, i, c):
    along, short = tl.arange(0, 64)[None, :], tl.arange(0, 2)[None, :]
    tl.store(c + along, tl.gather(tl.load(a + short), tl.load(i + along), 1))


@triton.jit
def negative(a, c):
    n = tl.arange(0, 32)
    tl.store(c + n, -tl.load(a + n))


def compiled(function: Any, signature: Mapping[str, str]) -> Any:
    return triton.compile(ASTSource(function, dict(signature)), target=SM_90, options={"num_warps": 4})


def error_of(function: Any, signature: Mapping[str, str]) -> str:
    try:
        compiled(function, signature)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    f32 = {"a": "*fp32", "c": "*fp32"}
    found = {
        "dot_of_narrow": error_of(dot_of_narrow, {"a": "*fp16", "b": "*fp16", "c": "*fp64"}),
        "longer_index": error_of(longer_index, {"a": "*fp32", "i": "*i32", "c": "*fp32"}),
        "negative": compiled(negative, f32).asm["ttir"],
    }
    # What is in Triton's cache, cut off.
    for file in Path(triton.knobs.cache.dir).rglob("negative.json"):
        file.write_bytes(file.read_bytes()[:100])
    found["unreadable"] = error_of(negative, f32)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

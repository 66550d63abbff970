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

SM_80, SM_90 = GPUTarget("cuda", 80, 32), GPUTarget("cuda", 90, 32)


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


@triton.jit
def whole_number(a, c):
    n = tl.arange(0, 32)
    tl.store(c + n, tl.load(a + n).to(tl.int64))


@triton.jit
def at_least_zero(a, c):
    n = tl.arange(0, 128)
    x = tl.load(a + n)
    tl.store(c + n, (x * x >= 0).to(tl.int32))


@triton.jit
def opposite(a, c):
    n = tl.arange(0, 128)
    tl.store(c + n, (0 - tl.load(a + n)).to(tl.int64))


@triton.jit
def absolute(a, b, c):
    m, n = tl.arange(0, 32)[:, None], tl.arange(0, 32)[None, :]
    found = tl.dot(tl.load(a + m * 32 + n), tl.load(b + m * 32 + n))
    tl.store(c + m * 32 + n, tl.abs(found).to(tl.bfloat16))


def compiled(function: Any, signature: Mapping[str, str], target: GPUTarget = SM_90) -> Any:
    aligned = {(at,): [["tt.divisibility", 16]] for at in range(len(signature))}
    source = ASTSource(function, dict(signature), attrs=aligned)
    return triton.compile(source, target=target, options={"num_warps": 4})


def error_of(function: Any, signature: Mapping[str, str]) -> str:
    try:
        compiled(function, signature)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    f32 = {"a": "*fp32", "c": "*fp32"}
    found: dict[str, Any] = {
        "dot_of_narrow": error_of(dot_of_narrow, {"a": "*fp16", "b": "*fp16", "c": "*fp64"}),
        "longer_index": error_of(longer_index, {"a": "*fp32", "i": "*i32", "c": "*fp32"}),
        "whole_number": error_of(whole_number, {"a": "*fp8e4nv", "c": "*i64"}),
        "negative": compiled(negative, f32).asm["ttir"],
        "at_least_zero": compiled(at_least_zero, {"a": "*fp32", "c": "*i32"}).asm["sass"],
        "opposite": compiled(opposite, {"a": "*i16", "c": "*i64"}).asm["sass"],
    }
    code = compiled(absolute, dict.fromkeys("abc", "*bf16"), SM_80).asm
    found["absolute"] = {"ptx": code["ptx"], "sass": code["sass"]}
    # What is in Triton's cache, cut off.
    for file in Path(triton.knobs.cache.dir).rglob("negative.json"):
        file.write_bytes(file.read_bytes()[:100])
    found["unreadable"] = error_of(negative, f32)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

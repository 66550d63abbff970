"""A tuned kernel as Inductor makes it for a GPU, on a machine without one. For programs in processes of their
own, where Triton is not interpreted: `test_tuning.py` and `test_cache.py` run them."""

from __future__ import annotations

import ast
import re
from typing import Any
from unittest import mock

import gpu_code
import torch
import triton
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.codecache import PyCodeCache
from torch._inductor.runtime import triton_helpers

import tdsl

SOURCE = """
template mm(A: T[M, K], B: T[K, N]) -> C: T[M, N]:
    tune BLOCK_M in (32, 64), BLOCK_N in (32, 64), BLOCK_K in (32,)
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc
"""


@tdsl.template(source=SOURCE)
def mm(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    return A @ B


def generate(*, dynamic: bool = False, rows: int = 256) -> tuple[str, list[tuple[str, str]]]:
    """Inductor's code, and what compile workers were asked for meanwhile: names and texts, in order."""
    asked: list[tuple[str, str]] = []

    def program(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.relu(mm(a, torch.sigmoid(b)))

    def note(self: AsyncCompile, name: str, text: str, device_str: str = "cuda") -> None:
        asked.append((name, text))

    with (
        mock.patch.object(AsyncCompile, "use_process_pool", classmethod(lambda cls: True)),
        mock.patch.object(AsyncCompile, "triton", note),
    ):
        code = gpu_code.generate(
            program,
            (torch.randn(rows, 192, dtype=torch.bfloat16), torch.randn(192, 320, dtype=torch.bfloat16)),
            dynamic=dynamic,
        )
    return code, asked


def texts(code: str) -> list[str]:
    """What the module passes to compile workers, to the letter."""
    return [
        ast.literal_eval(text)
        for text in re.findall(r"async_compile\.triton\('\w+', ('''.*?''')", code, re.S)
    ]


def load(text: str) -> Any:
    """The autotuner of a kernel's module."""
    (name,) = re.findall(r"^def (\w+)\(", text, re.MULTILINE)
    with mock.patch.object(triton_helpers, "set_driver_to_gpu", lambda: None):
        PyCodeCache.cache_clear()
        return getattr(PyCodeCache.load(text), name)


def compile_all(text: str) -> tuple[Any, list[bool]]:
    """The autotuner with its candidates compiled, and for each whether Triton found it in its cache."""
    hits: list[bool] = []
    triton.knobs.compilation.listener = lambda cache_hit, **_: hits.append(cache_hit)
    made = load(text)
    with mock.patch.object(triton_helpers, "set_driver_to_gpu", lambda: None):
        made._precompile_worker()
    triton.knobs.compilation.listener = None
    return made, hits

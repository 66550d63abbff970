"""On a CPU: pointwise work that is fused with no template runs in Triton's interpreter too, not in C++.

A C++ compiler takes half a second for each kernel, which is most of what a case would cost; Inductor's own Triton code
for the same node costs nothing, and is what a GPU would run. What surrounds it is as ever: which nodes are fused, in
which order, and how a template's kernel comes about. One case in a few is compiled to C++ as users' programs are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch._inductor.config
from torch._inductor.codegen.cpp import CppScheduling
from torch._inductor.codegen.triton import TritonScheduling
from torch._inductor.virtualized import V

from tdsl.lower.inductor import module

FORWARDED = ("codegen_node", "group_fn", "can_fuse_vertical", "can_fuse_horizontal", "fuse")

COMPILED = ("triton_helpers.set_driver_to_gpu()", "from torch._inductor.runtime.triton_helpers import")


class Strays(TritonScheduling):
    """Inductor's own code generation; its kernels get the launcher that ours have."""

    def define_kernel(self, src_code: str, *args: Any, **kwargs: Any) -> Any:
        lines = [line for line in src_code.split("\n") if not line.startswith(COMPILED)]
        start = next(at for at, line in enumerate(lines) if line.startswith("@triton_heuristics."))
        lines[start:start] = [*module.INTERPRETED, "@interpreted"]
        return super().define_kernel("\n".join(lines), *args, **kwargs)


def _strays(scheduling: Any) -> Strays:
    if not hasattr(scheduling, "_strays"):
        scheduling._strays = Strays(scheduling.scheduler)
    found: Strays = scheduling._strays
    return found


def _forwarded(name: str) -> Any:
    def forward(self: Any, *args: Any) -> Any:
        V.graph.is_unspec_arg = lambda name: False  # as `tdsl` does beside a template
        with torch._inductor.config.patch(cpu_backend="triton"):
            return getattr(_strays(self), name)(*args)

    return forward


@contextmanager
def interpreted_strays() -> Iterator[None]:
    with (
        mock.patch.multiple(CppScheduling, **{name: _forwarded(name) for name in FORWARDED}),
        mock.patch("torch.utils._triton.triton_hash_with_backend", lambda: "none"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield

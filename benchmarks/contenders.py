"""Who runs against whom: how each contender makes a callable of a row's program.

    CONTENDERS["tdsl"].make(row)    ->    the program with the template in it, under torch.compile(fullgraph=True)

Nothing is compiled before the first call. What a contender became (kernels, libraries) is read from Inductor's
output code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F

from benchmarks.gpu import Lock
from benchmarks.rows import EXAMPLES, Program, Row

MAX_AUTOTUNE: Mapping[str, Any] = {
    "max_autotune": True,
    "coordinate_descent_tuning": True,
    "max_autotune_gemm_backends": "ATEN,TRITON",
}
PERSISTENT_TMA: Mapping[str, Any] = {**MAX_AUTOTUNE, "triton.enable_persistent_tma_matmul": True}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """`program` gives the program to compile for a row, or a reason (a text) why there is none."""

    name: str
    title: str
    program: Callable[[Row], Program | str]
    options: Mapping[str, Any] = field(default_factory=dict)
    compiled: bool = True

    def make(self, row: Row, lock: Lock) -> Program | str:
        """The callable; or why it takes no part in this row."""
        program = self.program(row)
        if isinstance(program, str) or not self.compiled:
            return program
        return compile_program(program, self.options, lock)


def compile_program(program: Program, options: Mapping[str, Any], lock: Lock) -> Program:
    """torch.compile, its result run under the lock. The first call compiles without it."""

    def backend(graph: Any, inputs: Any) -> Program:
        from torch._inductor.compile_fx import compile_fx

        compiled: Any = compile_fx(graph, inputs, config_patches=dict(options))

        def run(*args: Any) -> Any:
            with lock:
                return compiled(*args)

        return run

    return torch.compile(program, fullgraph=True, dynamic=False, backend=backend)


def template_of(row: Row) -> Any:
    """Our operator, from the example."""
    from tdsl.testing import load_module

    return getattr(load_module(EXAMPLES / row.template / f"{row.template}.py"), row.template)


def _torch(row: Row) -> Program:
    return row.program(row.baseline)


def _gemm_only(row: Row) -> Program | str:
    return row.program(row.baseline) if row.matmul else "there is no matrix product that these options touch"


def _tdsl(row: Row) -> Program:
    return row.program(template_of(row))


def _helion(row: Row) -> Program | str:
    if row.helion is None:
        return "no Helion kernel was written for this row"
    from benchmarks import helion_kernels

    return row.program(getattr(helion_kernels, row.helion))


def _flex(row: Row) -> Program | str:
    if not row.flex:
        return "no attention"
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    length = row.sizes[2]

    def earlier(b: Any, h: Any, m: Any, n: Any) -> Any:
        return m >= n

    device = "cuda" if torch.cuda.is_available() else "cpu"
    mask = create_block_mask(earlier, None, None, length, length, device=device) if row.causal else None

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal: bool) -> Any:
        return flex_attention(q, k, v, block_mask=mask, scale=scale)

    return row.program(attention)


CONTENDERS: Mapping[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender(name="eager", title="eager", program=_torch, compiled=False),
        Contender(name="tdsl", title="tdsl", program=_tdsl),
        Contender(name="compile", title="torch.compile", program=_torch),
        Contender(name="helion", title="Helion", program=_helion),
        Contender(name="flex", title="FlexAttention", program=_flex),
        Contender(name="max-autotune", title="max-autotune", program=_torch, options=MAX_AUTOTUNE),
        Contender(
            name="max-autotune-tma", title="max-autotune, TMA", program=_gemm_only, options=PERSISTENT_TMA
        ),
    )
}


def reference(row: Row) -> Program:
    """The row's program in PyTorch, for inputs in float64; attention is spelt out."""
    if not row.flex:
        return row.program(row.baseline)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal: bool) -> Any:
        heads = []
        for h in range(q.shape[1]):  # the scores of one head at a time: all of them do not fit
            scores = q[:, h] @ k[:, h].transpose(-1, -2) * scale
            if causal:
                later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
                scores = scores.masked_fill(later, float("-inf"))
            heads.append(F.softmax(scores, -1) @ v[:, h])
        return torch.stack(heads, 1)

    return row.program(attention)


@contextmanager
def written_code() -> Iterator[list[str]]:
    """Collects Inductor's output code while it is entered."""
    from torch._inductor.graph import GraphLowering

    texts: list[str] = []
    with mock.patch.object(GraphLowering, "save_output_code", texts.append):
        yield texts


_KERNEL = re.compile(r"^(?:    )?(\w+) = async_compile\.\w+\(", re.MULTILINE)
_LIBRARY = re.compile(r"\b((?:extern_kernels|torch\.ops)\.[\w.]+)\(")
_TMA = re.compile(r"make_tensor_descriptor|TensorDescriptor|create_2d_tma")


def parts_of(texts: list[str]) -> tuple[list[str], bool]:
    """The kernels and library calls of output code, and whether TMA descriptors are in it."""
    found: list[str] = []
    for text in texts:
        for name in (*_KERNEL.findall(text), *_LIBRARY.findall(text)):
            if name not in found:
                found.append(name)
    return found, any(_TMA.search(text) for text in texts)

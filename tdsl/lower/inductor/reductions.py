"""Reductions that keep NaN, one instruction a lane: `max.NaN`. Inductor's own compare, test and select.

    nan_max(x, 1)    ->    tl.reduce(x, 1, the larger of two, or NaN)

A kernel's module imports them, compiled; `interpreter` has those of Triton's interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _larger(a, b):  # type: ignore[no-untyped-def]
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _smaller(a, b):  # type: ignore[no-untyped-def]
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def nan_max(x, dim):  # type: ignore[no-untyped-def]
    return tl.reduce(x, dim, _larger)


@triton.jit
def nan_min(x, dim):  # type: ignore[no-untyped-def]
    return tl.reduce(x, dim, _smaller)

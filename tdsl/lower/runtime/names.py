"""The private names of PyTorch's that a kernel's own module needs, each with the reason why.

Compile workers run kernels' modules, and need not wait for all of the compiler that `inductor.compat.names` imports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch._inductor.runtime import triton_heuristics

# The stored winner of a kernel's tuning: where it is, so that one that cannot be read goes.
from torch._inductor.runtime.autotune_cache import AutotuneCache

# A candidate as plain data, to compare two by.
from torch._inductor.runtime.runtime_utils import triton_config_to_hashable
from torch._inductor.runtime.triton_heuristics import (
    # The class that compiles, times and launches a kernel's candidates; ours watches over it.
    CachingAutotuner,
    # The key of a set of candidates in the stored winner.
    hash_configs,
)


def cached_autotune(**settings: Any) -> Callable[[Any], Any]:
    """Inductor's decorator of kernels: reads the stored winner, makes an autotuner of the class it is given.
    Looked up at each call, so that whoever wants to see what a kernel is made of can stand in for it."""
    decorator: Callable[[Any], Any] = triton_heuristics.cached_autotune(**settings)
    return decorator


__all__ = [
    "AutotuneCache",
    "CachingAutotuner",
    "cached_autotune",
    "hash_configs",
    "triton_config_to_hashable",
]


def triton_interpreter() -> Any:
    """The module of Triton's interpreter: `_patch_builtin` and `_patch_attr`, `TensorHandle` (a tile's array), and
    `interpreter_builder`, which calculates with it. Imported where it is wanted, for it needs NumPy."""
    from triton.runtime import interpreter

    return interpreter

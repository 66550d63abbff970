"""Inductor copies its table of decompositions on first use, and does not see what is registered later.

An operator that is made after the first compilation of a process would stay a call in the graph: on a CPU without
Triton's interpreter, where a template becomes its reference, that is an error at run time.

Seen: torch 2.12.0, 2.13.0, 2.14.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tdsl.lower.inductor.compat.call_names import decomposition


def register_decomposition(op: torch._ops.OpOverload, function: Callable[..., Any]) -> None:
    """Makes `function` what Inductor traces in place of `op`, from now on."""
    decomposition.register_decomposition([op])(function)
    decomposition.fast_random_decomps.cache_clear()

"""Inductor takes an input of no dimensions on a CPU for a number, for a kernel that runs on the CPU, too.

It has to be one for a kernel that runs elsewhere. A template that reads such an input is given the number where it loads
from a pointer.

Seen: torch 2.12.0, 2.13.0, 2.14.1.
"""

from __future__ import annotations

from typing import Any


def keep_tensors(graph: Any) -> None:
    """Makes an input of no dimensions a pointer like any other in a graph that is all on the CPU."""
    if graph.device_types == {"cpu"}:
        graph.is_unspec_arg = lambda name: False

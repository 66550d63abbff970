"""Inductor takes a tensor of a size that is not known before it runs for one of no bytes.

The scheduler fuses two nodes for what they share, and what they share of such a tensor counts as nothing: the work
around a template stays outside of it.

Seen: torch 2.12.0, 2.13.0, 2.14.1.
"""

from __future__ import annotations

from tdsl.lower.inductor.compat.names import Dep, V, size_hint


def note_likely_bytes(dep: Dep) -> None:
    """Notes a likely number of bytes, in the table into which the scheduler looks first."""
    if dep.has_unbacked_symbols():
        size = size_hint(dep.get_numel()) * V.graph.get_dtype(dep.name).itemsize
        V.graph.dep_size_hint_cache[dep, True] = size

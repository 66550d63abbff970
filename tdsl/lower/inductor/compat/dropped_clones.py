"""PyTorch drops the clone of an argument that a graph writes to and returns.

A program that writes to a part of an argument and returns a clone of it has, while it is free of mutation, a copy into
the argument still to come: the clone is dropped as needless. Written in place, the argument itself would be returned, and
what the caller does to the clone happens to the argument.

Seen: torch 2.12.0, 2.13.0, 2.14.1.
"""

from __future__ import annotations

import torch
from torch import fx

from tdsl.lower.inductor.compat.names import V


def cloned_again(graph: fx.Graph, value: fx.Node) -> fx.Node:
    """A clone of a node, before the graph's end."""
    with graph.inserting_before(graph.output_node()), V.fake_mode:
        clone = graph.call_function(torch.ops.aten.clone.default, (value,))
        clone.meta["val"] = value.meta["val"].clone()
    return clone

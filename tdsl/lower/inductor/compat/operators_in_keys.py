"""PyTorch keeps compiled graphs under the names of the operators that they call, not under what those do.

A graph that holds what an operator's lowering, or its decomposition, made of a call is handed out in the next process
though the operator has another of these by then.

Seen: torch 2.13.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch

from tdsl.lower.inductor.compat.call_names import FxGraphHashDetails


@functools.cache
def watch_keys(described: Callable[[Iterable[object]], list[str]]) -> None:
    """Makes what `described` says of the operators that a graph calls a part of what it is kept under, in the caches of
    Inductor and of AOTAutograd. Where it says nothing the key is PyTorch's."""
    stock = FxGraphHashDetails.__init__

    @functools.wraps(stock)
    def init(self: Any, gm: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, gm, *args, **kwargs)
        graphs = [each for each in gm.modules() if isinstance(each, torch.fx.GraphModule)] if gm else []
        targets = dict.fromkeys(node.target for each in graphs for node in each.graph.nodes)
        if said := described(targets):
            self.tdsl = said

    FxGraphHashDetails.__init__ = init  # type: ignore[method-assign]

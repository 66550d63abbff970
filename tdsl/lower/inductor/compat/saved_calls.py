"""`torch.export.load` reads a call by the names of its arguments, and drops those that the operator no longer has.

    saved: scaled(x, factor=3.0)    now: scaled(Tensor x) -> Tensor    loaded: scaled(x), and no word

One that is new is a KeyError, and an operator that is gone is a node that cannot be read.

Seen: torch 2.13.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tdsl.lower.inductor.compat.call_names import saved_graph_reader

_KINDS = {
    "as_tensor": "Tensor",
    "as_none": "None",
    "as_int": "int",
    "as_sym_int": "SymInt",
    "as_float": "float",
    "as_sym_float": "float",
    "as_bool": "bool",
    "as_string": "str",
}


@dataclass(frozen=True, kw_only=True)
class SavedCall:
    """A call of an operator in a saved graph: 'mylib::matmul', 'v1', each argument's kind and name, how many outputs."""

    name: str
    overload: str
    arguments: tuple[tuple[str, str], ...]
    outputs: int


@functools.cache
def watch_saved_calls(check: Callable[[SavedCall], None]) -> None:
    """Has `check` see each call of an operator in a saved program, before anything of it is read: an error that is raised
    while one node is read reaches nobody but a log."""
    reader = saved_graph_reader()
    stock = reader.deserialize_graph

    @functools.wraps(stock)
    def read(self: Any, serialized_graph: Any) -> Any:
        for call in _calls(serialized_graph):
            check(call)
        return stock(self, serialized_graph)

    reader.deserialize_graph = read


def _calls(graph: Any) -> Iterator[SavedCall]:
    """In the graph, and in those that its nodes are given: branches, and what is checkpointed."""
    for node in graph.nodes:
        for each in node.inputs:
            if each.arg.type == "as_graph":
                yield from _calls(each.arg.value.graph)
        parts = node.target.split(".")
        if parts[:2] == ["torch", "ops"] and len(parts) == 5:
            yield SavedCall(
                name=f"{parts[2]}::{parts[3]}",
                overload=parts[4],
                arguments=tuple(
                    (_KINDS.get(each.arg.type, each.arg.type), each.name) for each in node.inputs
                ),
                outputs=sum(
                    len(each.value) if each.type == "as_tensors" else each.type != "as_none"
                    for each in node.outputs
                ),
            )

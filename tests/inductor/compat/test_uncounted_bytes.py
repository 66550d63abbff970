from __future__ import annotations

from types import SimpleNamespace

import sympy
import torch
from torch._inductor.dependencies import MemoryDep
from torch._inductor.graph import GraphLowering
from torch._inductor.sizevars import SizeVarAllocator
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.symbol import SymT, make_symbol

from tdsl.lower.inductor.compat.uncounted_bytes import note_likely_bytes
from tests.inductor.compat.upstream import assert_wrong


def likely_bytes(*, noted: bool) -> int:
    """Of a row of float32s, as long as is not known."""
    index = sympy.Symbol("p0", integer=True, nonnegative=True)
    dep = MemoryDep("buf0", index, (index,), (make_symbol(SymT.UNBACKED_INT, 0, integer=True),))
    graph = SimpleNamespace(
        dep_size_hint_cache={},
        graph_inputs={},
        sizevars=SizeVarAllocator(ShapeEnv()),
        get_dtype=lambda name: torch.float32,
    )
    graph.get_dep_size_hint = lambda *args: GraphLowering.get_dep_size_hint(graph, *args)
    with V.set_graph_handler(graph):
        if noted:
            note_likely_bytes(dep)
        return graph.get_dep_size_hint(dep)


def test_a_tensor_of_unknown_size_has_no_bytes():
    assert_wrong(likely_bytes(noted=False) == 0, "compat/uncounted_bytes.py")


def test_ours_has_some():
    assert likely_bytes(noted=True) > 0

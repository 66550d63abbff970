from __future__ import annotations

from types import SimpleNamespace

import sympy
from torch._inductor.dependencies import MemoryDep, ReadWrites
from torch._inductor.ir import ComputedBuffer, TemplateBuffer
from torch._inductor.scheduler import Scheduler, SchedulerNode
from torch._inductor.sizevars import SizeVarAllocator
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._ordered_set import OrderedSet

from tdsl.lower.inductor.compat import inverted_templates
from tests.inductor.compat.upstream import assert_wrong

P, N = sympy.Symbol("p0", integer=True, nonnegative=True), sympy.Integer(64)


def node(reads: list[str], writes: list[str], *, template: bool) -> SchedulerNode:
    """A node on a GPU, as far as it is looked at; a template's has no `_body`."""
    made = SchedulerNode.__new__(SchedulerNode)
    made.node = object.__new__(TemplateBuffer if template else ComputedBuffer)

    def deps(names: list[str]) -> OrderedSet[MemoryDep]:
        return OrderedSet(MemoryDep(name, P, (P,), (N,)) for name in names)

    made.read_writes = ReadWrites(deps(reads), deps(writes), OrderedSet())
    made.unmet_dependencies = deps(reads)
    made.is_cpu = lambda: False
    made.is_template = lambda: template
    return made


PAIR = node(["arg0"], ["buf0"], template=False), node(["buf0"], ["buf1"], template=True)


def test_the_loops_of_a_template_are_asked_for():
    graph = SimpleNamespace(sizevars=SizeVarAllocator(ShapeEnv()))
    try:
        with V.set_graph_handler(graph):
            Scheduler.shared_data_after_inverting_indexing(SimpleNamespace(), *PAIR)
        wrong = False
    except AttributeError as error:
        wrong = "_body" in str(error)
    assert_wrong(wrong, "compat/inverted_templates.py", needed=inverted_templates.NEEDED)


def test_ours_asks_for_none(monkeypatch):
    monkeypatch.setattr(inverted_templates, "NEEDED", True)
    scheduler = SimpleNamespace(shared_data_after_inverting_indexing=lambda node1, node2: 7)
    inverted_templates.keep_templates_from_inversion(scheduler)
    inverted_templates.keep_templates_from_inversion(scheduler)
    assert scheduler.shared_data_after_inverting_indexing(*PAIR) == -1
    assert scheduler.shared_data_after_inverting_indexing(PAIR[0], PAIR[0]) == 7

"""What is wrong in the classes that ours extend: a fused program without the override, which keeps its place there."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._inductor.codegen.cpu_device_op_overrides import CpuDeviceOpOverrides
from torch._inductor.codegen.triton import TritonKernel
from torch._inductor.virtualized import V

from tdsl import testing
from tdsl.lower.inductor import recording
from tdsl.lower.inductor.kernel.generation import TemplateKernel
from tdsl.lower.inductor.passes import loops
from tests.inductor.compat.upstream import assert_wrong

t: Any = testing.load_module(Path(__file__).parent.parent / "templates.py")


def whole(*shape: int) -> torch.Tensor:
    return torch.randint(-3, 4, shape).float()


MATRICES = whole(37, 50), whole(50, 45)
STOCK_STORE = TemplateKernel.store


def set_name_alone(self, entry, name):
    entry.set_name(name)


def store_of_a_number(self, name, index, value, mode=None):
    plain = super(TemplateKernel, self).store if index.is_number else STOCK_STORE.__get__(self)
    plain(name, index, value, mode)


# Where the override is, what stands in for it (None: what it overrides), a program, and what it then fails with.
OVERRIDES = {
    "a remainder in a prologue": (
        (TemplateKernel, "codegen_prologues_in_subgraphs", None),
        lambda a, b: t.mm(torch.remainder(a, 2.0), b),
        MATRICES,
        "has no attribute 'is_constant'",
    ),
    "a constant index has no shape and no mask": (
        (TemplateKernel, "indexing", None),
        lambda a, b, c: t.mm(a, b) * c,
        (*MATRICES, whole(1, 1)),
        "must have shape",
    ),
    "splits of an index are of another name": (
        (TemplateKernel, "rename_indexing", None),
        lambda a, b, c: t.mm(a, b).view(-1, 2, 45) * c,
        (whole(74, 50), MATRICES[1], whole(2, 1)),
        "name 'xindex' is not defined",
    ),
    "a renamed index is unknown": (
        (TemplateKernel, "_rename", set_name_alone),
        lambda a, b, c: t.mm(a, b.relu()) + c,
        (*MATRICES, whole(45)),
        "Unregistered range symbol|Ambiguous type",
    ),
    "one element is broadcast to another block": (
        (TemplateKernel, "store", store_of_a_number),
        lambda a, b: t.mm(a, b).relu(),
        (whole(1, 50), whole(50, 1)),
        "name 'XBLOCK' is not defined",
    ),
    "frexp": (
        (recording, "_lacking", lambda node: None),
        lambda a, b: t.mm(torch.frexp(a).mantissa, b),
        MATRICES,
        "has no attribute 'is_floating_point'",
    ),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="what a CPU's programs fail with")
@pytest.mark.parametrize("bug", OVERRIDES)
def test_without_the_override(bug, monkeypatch):
    (owner, name, stand_in), program, arguments, message = OVERRIDES[bug]
    testing.assert_fused(program, arguments, kernels=None)
    torch._dynamo.reset()
    if stand_in is None:
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(owner, name, stand_in)
    try:
        testing.assert_fused(program, arguments, kernels=None)
        told = ""
    except Exception as error:
        told = str(error)
    assert not told or re.search(message, told)
    assert_wrong(bool(told), f"{owner.__name__}.{name}")


def test_the_imports_of_a_benchmark_are_indented():
    with V.set_graph_handler(SimpleNamespace(device_ops=CpuDeviceOpOverrides())):
        text = TritonKernel.imports_for_benchmark_kernel(None)
    try:
        compile(text, "<imports>", "exec")
        wrong = False
    except IndentationError:
        wrong = True
    needed = torch.__version__ < "2.14"
    assert_wrong(wrong, "TemplateKernel.imports_for_benchmark_kernel", needed=needed)


def test_a_quotient_by_a_sum_is_not_seen(monkeypatch, device):
    """Work behind a template stays a kernel of its own."""
    pick = testing.load_module(Path(__file__).parent.parent / "test_loops.py").pick
    monkeypatch.setattr(loops, "_divided", lambda expr, ranges: expr)
    found = testing.assert_fused(
        lambda x: pick(x * 2, 2).permute(2, 1, 0).flatten(1).relu().exp(),
        (torch.randn(9, 11, 3, device=device),),
        kernels=None,
        dynamic=True,
    )
    assert_wrong(found.kernels > 1, "passes/loops.py: _divided")

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch._inductor.graph import GraphLowering

from tdsl.lower.inductor.compat.numbers_on_a_cpu import keep_tensors
from tests.inductor.compat.upstream import assert_wrong


def test_a_tensor_of_no_dimensions_is_taken_for_a_number():
    number = torch._inductor.ir.InputBuffer(
        name="arg0_1",
        layout=torch._inductor.ir.FixedLayout(torch.device("cpu"), torch.float32, [], []),
    )
    graph = SimpleNamespace(graph_inputs={"arg0_1": number}, zero_dim_cpu_tensor_list=set())
    wrong = GraphLowering.is_unspec_arg(graph, "arg0_1")
    assert_wrong(wrong, "compat/numbers_on_a_cpu.py")
    graph.device_types = {"cpu"}
    keep_tensors(graph)
    assert not graph.is_unspec_arg("arg0_1")

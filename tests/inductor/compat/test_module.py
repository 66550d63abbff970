"""What Inductor makes of the text of a kernel's module, and `module.py` writes it for."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace
from unittest import mock

import torch
from torch._inductor.codegen import triton as codegen
from torch._inductor.virtualized import V

from tests.inductor.compat.upstream import assert_wrong


def test_a_module_is_handed_to_workers_as_another_text():
    """To be found again by what is loaded later it must be that text to the letter."""
    text = "\n  x = 1"
    graph = SimpleNamespace(get_current_device_or_throw=lambda: torch.device("cpu"))
    kernel = SimpleNamespace(emit_kernel_override=lambda *args: False)
    wrapper = mock.MagicMock()
    with mock.patch.object(codegen, "async_compile") as workers, V.set_graph_handler(graph):
        codegen.TritonScheduling._emit_kernel_to_wrapper(
            None, wrapper, kernel, text, "kernel", "kernel", [], "path", lambda *args: ("", "")
        )
    handed = workers.triton.call_args.args[1]
    (loaded,) = re.findall("'''.*?'''", wrapper.define_kernel.call_args.args[1], re.S)
    assert_wrong(handed != ast.literal_eval(loaded), "module.py: LaunchRecord.module, the newlines around it")

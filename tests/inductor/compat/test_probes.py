"""A release of PyTorch that lacks a hook: templates run without fusion, right, and one warning says why."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tdsl.lower.inductor.compat import names as private
from tdsl.lower.inductor.compat import probes

PROGRAM = """
import torch
from torch._inductor import ir, select_algorithm
from torch._inductor.utils import run_and_get_code
HOOK
import tdsl
SOURCE = '''
template mm(A: f32[M, K], B: f32[K, N]) -> C: f32[M, N]:
    config BLOCK=16
    for m, n in grid(M by BLOCK, N by BLOCK):
        acc = zeros(m, n)
        for k in K by BLOCK:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc

template axpy(inout y: f32[N], x: f32[N]):
    config BLOCK=16
    for n in grid(N by BLOCK):
        store y[n] = load y[n] + load x[n]
'''
@tdsl.template(source=SOURCE, name="mm")
def mm(A, B):
    return A @ B
@tdsl.template(source=SOURCE, name="axpy")
def axpy(y, x):
    y.add_(x)
def program(a, b, y):
    c = torch.relu(mm(a, torch.sigmoid(b)))
    axpy(y, c[0] * 2)
    return c * y
a, b, y = torch.randn(20, 18), torch.randn(18, 30), torch.randn(30)
c = torch.relu(a @ torch.sigmoid(b))
want = c * (y + c[0] * 2)
for dynamic in (False, True):
    torch._dynamo.reset()
    mine = y.clone()
    compiled = torch.compile(program, fullgraph=True, dynamic=dynamic)
    out, (code,) = run_and_get_code(compiled, a, b, mine)
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(mine, y + c[0] * 2)
    print("torch.ops.tdsl.mm" in code, "torch.ops.tdsl.axpy" in code)
torch.testing.assert_close(mm(a, b), a @ b)
"""


@pytest.mark.parametrize(
    "lacking, hook",
    [
        (
            "cannot import name 'ExternalTritonTemplateKernel'",
            "del select_algorithm.ExternalTritonTemplateKernel",
        ),
        pytest.param(
            "TemplateBuffer.realize_template_input",
            "del ir.TemplateBuffer.realize_template_input",
            marks=pytest.mark.full,
        ),
    ],
)
def test_templates_run_without_fusion(lacking, hook, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "always:torch", "-c", PROGRAM.replace("HOOK", hook)],
        env={
            **os.environ,
            "TRITON_INTERPRET": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stdout == "True True\nTrue True\n"
    assert done.stderr.count("has not what tdsl fuses templates by") == 1
    assert lacking in done.stderr


def test_what_is_lacking(monkeypatch):
    monkeypatch.delattr(private.TemplateBuffer, "realize_template_input")
    monkeypatch.setattr(private.TritonScheduling, "_emit_kernel_to_wrapper", lambda self, kernel: None)
    monkeypatch.setattr(private.TemplateBuffer, "__init__", lambda self, layout, inputs: None)
    monkeypatch.setattr(private, "PROLOGUE_INPUTS", "")
    assert probes.lacking() == [
        "TemplateBuffer.realize_template_input",
        "TritonScheduling._emit_kernel_to_wrapper(self, wrapper, kernel, src_code, kernel_name, subs_name)",
        "TemplateBuffer.__init__(layout, inputs, make_kernel_render, named_inputs)",
        "TemplateBuffer.__init__(allowed_prologue_inps)",
    ]

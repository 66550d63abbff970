"""What a fresh process sees: other settings, a cache that another one filled, several threads."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

PRELUDE = """
import torch, tdsl
from torch._inductor.utils import run_and_get_code
torch.manual_seed(0)
"""


def run(program: str, **environment: str) -> str:
    settings = {k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", "PYTHONHASHSEED")}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
        env={**settings, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


MATMUL = '''
SOURCE = """
template mm(A: T[M, K], B: T[K, N]) -> C: T[M, N]:
    config BLOCK_M=32, BLOCK_N=32, BLOCK_K=32
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc * 1

template axpy(inout y: f32[N], x: f32[N]):
    config BLOCK=64
    for n in grid(N by BLOCK):
        store y[n] = load y[n] + load x[n]
"""

@tdsl.template(source=SOURCE)
def mm(A, B):
    return A @ B

@tdsl.template(source=SOURCE)
def axpy(y, x):
    y.add_(x)
'''


def test_a_cpu_whose_triton_is_not_interpreted():
    program = (
        MATMUL
        + """
a, b, y = torch.randn(7, 5), torch.randn(5, 9), torch.randn(9)
torch.testing.assert_close(mm(a, b), a @ b)
f = torch.compile(lambda a, b: torch.relu(mm(a, torch.sigmoid(b))), fullgraph=True)
out, (code,) = run_and_get_code(f, a, b)
torch.testing.assert_close(out, torch.relu(a @ torch.sigmoid(b)))
assert "triton.jit" not in code and "tdsl" not in code.split("async_compile")[0], code
g = torch.compile(lambda y, x: (axpy(y, x * 2), y + 1)[1], fullgraph=True)
z = y.clone()
torch.testing.assert_close(g(z, y), y * 3 + 1)
torch.testing.assert_close(z, y * 3)
axpy(z, y)
torch.testing.assert_close(z, y * 4)
a.requires_grad_()
loss = torch.compile(lambda a, b: mm(a, b).sin().sum(), fullgraph=True)
got, want = torch.autograd.grad(loss(a, b), a), torch.autograd.grad((a @ b).sin().sum(), a)
torch.testing.assert_close(got, want)

@tdsl.template(source=SOURCE, name="mm")
def bare(A, B): ...

try:
    bare(a.detach(), b)
except tdsl.TdslError as error:
    assert "has no reference" in str(error)
else:
    raise AssertionError
print("done")
"""
    )
    assert run(program) == "done\n"


def test_an_edited_template_is_never_served_from_a_cache(tmp_path):
    program = (
        MATMUL
        + """
a, b = torch.ones(8, 4), torch.ones(4, 8)
from torch._dynamo.utils import counters
print(torch.compile(lambda a, b: mm(a, b) + 0.5)(a, b)[0, 0].item(), counters["inductor"]["fxgraph_cache_hit"])
"""
    )
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "1"}
    assert run(program, **cache) == "4.5 0\n"
    assert run(program, **cache) == "4.5 1\n"
    assert run(program.replace("acc * 1", "acc * 3"), **cache) == "12.5 0\n"
    # Without the interpreter the same graph is another program.
    assert run(program, TORCHINDUCTOR_CACHE_DIR=str(tmp_path)) == "4.5 0\n"


@pytest.mark.full
def test_twenty_edits(tmp_path):
    program = (
        MATMUL
        + "print(torch.compile(lambda a, b: mm(a, b) + 0.5)(torch.ones(8, 4), torch.ones(4, 8))[0, 0].item())"
    )
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "1"}
    for factor in range(1, 21):
        assert run(program.replace("acc * 1", f"acc * {factor}"), **cache) == f"{4.0 * factor + 0.5}\n"


def test_two_processes_fill_one_cache(tmp_path):
    program = (
        MATMUL
        + "print(torch.compile(lambda a, b: mm(a, b) + 0.5)(torch.ones(8, 4), torch.ones(4, 8))[0, 0].item())"
    )
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "1"}
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: run(program, **cache), range(2))) == ["4.5\n"] * 2


@pytest.mark.full
def test_an_edited_helper_is_never_served_from_a_cache(tmp_path):
    program = (
        MATMUL
        + """
import sys
sys.path.insert(0, FOLDER)
import helper
from torch._dynamo.utils import counters

@tdsl.template(source=SOURCE, name="mm")
def scaled(A, B):
    return helper.TABLE["mm"](A, B)

a, b = torch.ones(8, 4, requires_grad=True), torch.ones(4, 8)
torch.compile(lambda a, b: scaled(a, b).sum())(a, b).backward()
print(a.grad[0, 0].item(), counters["inductor"]["fxgraph_cache_hit"] > 0)
"""
    ).replace("FOLDER", repr(str(tmp_path)))
    helper = tmp_path / "helper.py"
    text = "def product(A, B):\n    return 1 * (A @ B)\n\nTABLE = {'mm': product}\n"
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "TRITON_INTERPRET": "1"}
    helper.write_text(text)
    assert run(program, **cache) == "8.0 False\n"
    assert run(program, **cache) == "8.0 True\n"
    helper.write_text(text.replace("1 *", "3 *"))
    assert run(program, **cache) == "24.0 False\n"


def test_the_end_of_a_process():
    """What runs when Python exits may still call a template. The library of operators is not freed even after
    that: PyTorch would abort the process where another thing had ended an operator before."""
    program = (
        MATMUL[: MATMUL.index("@tdsl")]
        + """
import weakref

class Anything:
    pass

def late():
    print(torch.equal(mm(torch.ones(2, 3), torch.ones(3, 2)), torch.full((2, 2), 3.0)))

kept = Anything()
weakref.finalize(kept, late)  # older than tdsl's library, and so called after it

@tdsl.template(source=SOURCE)
def mm(A, B):
    return A @ B

from tdsl.operators import _library
_library.cache_clear()
"""
    )
    assert run(program, TRITON_INTERPRET="1") == "True\n"


def test_threads():
    program = (
        MATMUL
        + """
import threading
wrong = []
def work(n):
    try:
        a, b = torch.randn(n, 40), torch.randn(40, 50)
        f = torch.compile(lambda a, b: torch.relu(mm(a, torch.sigmoid(b))) + n, dynamic=False)
        torch.testing.assert_close(f(a, b), torch.relu(a @ torch.sigmoid(b)) + n, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mm(a, b), a @ b, rtol=1e-4, atol=1e-4)
    except BaseException as error:
        wrong.append(repr(error))
threads = [threading.Thread(target=work, args=(20 + i,)) for i in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(wrong)
"""
    )
    assert run(program, TRITON_INTERPRET="1") == "[]\n"


def test_around_it():
    program = (
        MATMUL
        + """
a, b = torch.randn(7, 5), torch.randn(5, 9)
f = torch.compile(lambda a, b: torch.relu(mm(a, b)), fullgraph=True)
for mode in (torch.inference_mode, torch.no_grad):
    with mode():
        torch.testing.assert_close(f(a, b), torch.relu(a @ b))
        torch.testing.assert_close(mm(a, b), a @ b)
with torch.autocast("cpu", torch.bfloat16):
    assert mm(a, b).dtype == torch.float32
exported = torch.export.export(type("M", (torch.nn.Module,), {"forward": lambda self, a, b: mm(a, b) + 1})(), (a, b))
torch.testing.assert_close(exported.module()(a, b), a @ b + 1)
print("done")
"""
    )
    assert run(program, TRITON_INTERPRET="1") == "done\n"


def test_importing_tdsl_does_not_import_torch():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, tdsl; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "False\n", done.stderr

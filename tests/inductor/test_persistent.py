"""`persistent`: fewer programs than tiles, and each takes turns, give the same tiles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import tdsl
from tdsl import testing
from tdsl.testing import assert_fused, load_module

t = load_module(Path(__file__).with_name("templates.py"))
DEVICE = testing.device()
NEEDS_GPU = pytest.mark.gpu
# Blocks have 16 or 32 rows: more tiles than a GPU has multiprocessors, or than the interpreter takes a CPU to have.
M, N = (900, 700) if DEVICE.type == "cuda" else (110, 75)
CHOICES = """
template mm(A: T[M, K], B: T[K, N]) -> C: T[M, N]
where T in (f16, bf16, f32):
    tune persistent in (CHOICES), BLOCK_M in (32,), BLOCK_N in (32,), num_warps in (4,)
    for m, n in grid(M by BLOCK_M, N by BLOCK_N, group=2):
        acc = zeros(m, n)
        for k in K by 32:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc

template pick(x: T[B, M, N], w: T[N]) -> (y: T[B, M, N], z: T[B, M, N]):
    config BLOCK=16, num_warps=4, epilogue_subtile=2, persistent=1
    for b, m, n in grid(B, M by BLOCK, N by BLOCK, group=3):
        v = load x[b, m, n] * load w[n]
        store y[b, m, n] = v
        store z[b, m, n] = v + 1
"""


def persistent(function):
    """The test template of that name, all of whose configs are persistent."""
    text = t.TEXT.replace("num_warps=4", "num_warps=4, persistent=1")
    return tdsl.template(source=text, name=function.template.name)(function.reference)


def product(choices):
    text = CHOICES.replace("CHOICES", choices)
    return tdsl.template(source=text, name="mm")(lambda A, B: A @ B)


def whole_numbers(*shape, dtype=torch.float32):
    return torch.randint(-4, 5, shape, device=DEVICE).to(dtype)


def assert_turns(report):
    assert len(re.findall(r"for turn in range\(turns\):", report.kernel_text)) == 1
    (most,) = {
        int(found) for text in report.code for found in re.findall(r"'python': \['min\([^']*, (\d+)\)'", text)
    }
    assert most == (4 if DEVICE.type == "cpu" else torch.cuda.get_device_properties().multi_processor_count)


@pytest.mark.parametrize("choices", ["1,", "1, 0", "0, 1"])
def test_one_text_serves_candidates_of_both_kinds(choices):
    mm = product(choices)

    def program(a, b, row, column, tile):
        return torch.relu(mm(torch.relu(a), b) + row) * column[:, None] - tile

    def inputs(m, k, n):
        return [whole_numbers(*shape) for shape in ((m, k), (k, n), (n,), (m,), (m, n))]

    report = assert_fused(program, inputs(M, 50, N), exact=True, also=[inputs(N + 7, 33, M), inputs(2, 2, 3)])
    assert_turns(report)


def test_without_it_there_is_no_loop():
    mm = product("0,")
    report = assert_fused(lambda a, b: mm(a, b), (whole_numbers(70, 50), whole_numbers(50, 40)))
    assert "turn" not in report.kernel_text and "persistent_" not in report.kernel_text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_product_with_both_sides_fused(dtype):
    mm = persistent(t.mm)

    def program(a, b, c):
        return torch.relu(mm(a * 2, torch.relu(b)) + c)

    # The sums stay below 256, which bf16 still counts one by one.
    args = [whole_numbers(*shape, dtype=dtype) for shape in ((M, 3), (3, N), (N,))]
    assert_turns(assert_fused(program, args, exact=True))


def test_several_outputs():
    ln = persistent(t.ln)

    def program(x, w, b):
        y, mean, rstd = ln(torch.relu(x), w, b, 1e-5)
        return torch.relu(y) * w, mean + 1, rstd * 2

    args = whole_numbers(M, 33), whole_numbers(33), whole_numbers(33)
    assert_turns(assert_fused(program, args))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_grid_of_three_dimensions_stored_in_parts(batch):
    text = CHOICES.replace("CHOICES", "1,")
    pick = tdsl.template(source=text, name="pick")(lambda x, w: (x * w, x * w + 1))

    def program(x, w, c):
        y, z = pick(x, w)
        return torch.relu(y) + c, z * w

    args = whole_numbers(batch, M, N), whole_numbers(N), whole_numbers(batch, M, N)
    assert_turns(assert_fused(program, args, exact=True))


def test_sums_over_programs():
    column_sums = persistent(t.column_sums)
    x = whole_numbers(M, N)
    assert_turns(assert_fused(lambda x: column_sums(x * 2) + 1, (x,), kernels=None, exact=True))


def test_in_place():
    axpy, swap = persistent(t.axpy), persistent(t.swap)

    def program(y, x):
        axpy(y, x * 2, 3.0)
        return torch.relu(y) + 1

    size = 100 * M + 1
    assert_turns(assert_fused(program, (whole_numbers(size), whole_numbers(size)), exact=True))
    args = whole_numbers(M, N), whole_numbers(M, N)
    assert_turns(assert_fused(lambda a, b: (swap(a, b), a - b)[1], args, kernels=None, exact=True))


def test_an_index_that_is_loaded():
    embed = persistent(t.embed)
    ids = torch.randint(0, 9, (M,), device=DEVICE)
    report = assert_fused(lambda i, t, c: embed(i, t) * c, (ids, whole_numbers(9, N), whole_numbers(N)))
    assert_turns(report)


@pytest.mark.parametrize("sizes", [(0, 5, 7), (7, 0, 5), (5, 7, 0)])
def test_empty(sizes):
    m, k, n = sizes
    mm = persistent(t.mm)
    args = whole_numbers(m, k), whole_numbers(k, n)
    assert torch.equal(mm(*args), args[0] @ args[1])
    assert_fused(lambda a, b: mm(a, b) + 1, args, kernels=None, exact=True)


def test_eagerly():
    mm, ln = persistent(t.mm), persistent(t.ln)
    for m, k, n in (M, 20, N), (N, 33, M), (1, 1, 1):
        a, b = whole_numbers(m, k), whole_numbers(k, n)
        assert torch.equal(mm(a, b), a @ b)
    args = whole_numbers(M, 33), whole_numbers(33), None, 1e-5
    for got, want in zip(ln(*args), t.ln.reference(*args), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@NEEDS_GPU
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "options", [{"cpp_wrapper": True}, {"triton.cudagraphs": True}, {"max_autotune": True}]
)
def test_roads(options, dynamic):
    mm = product("1, 0")
    compiled = torch.compile(lambda a, b: torch.relu(mm(a, b)) + 1, options=options, dynamic=dynamic)
    for m, k, n in (M, 20, N), (N, 33, M), (M, 20, N):
        a, b = whole_numbers(m, k), whole_numbers(k, n)
        assert torch.equal(compiled(a, b), torch.relu(a @ b) + 1)


@NEEDS_GPU
def test_a_package_of_open_sizes(tmp_path):
    mm = product("1,")

    class Program(torch.nn.Module):
        def forward(self, a, b):
            return torch.relu(mm(a, b)) + 1

    m = torch.export.Dim("m", min=2, max=4096)
    args = whole_numbers(M, 32), whole_numbers(32, N)
    exported = torch.export.export(Program(), args, dynamic_shapes=({0: m}, None))
    path = torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "made.pt2"))
    loaded = torch._inductor.aoti_load_package(path)
    for rows in (M, 5, 3 * M):
        a = whole_numbers(rows, 32)
        assert torch.equal(loaded(a, args[1]), torch.relu(a @ args[1]) + 1)


def test_it_is_on_or_off():
    with pytest.raises(tdsl.TdslError, match="'persistent' is 0 or 1; not 2"):
        product("2,")

"""`tma`: tiles that are loaded through descriptors are the same tiles, zeros outside the tensor among them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch._inductor.utils import tensor_is_aligned
from triton.runtime import _allocation

import tdsl
from tdsl import testing
from tdsl.lower.runtime.autotuner import TemplateAutotuner
from tdsl.testing import assert_fused

DEVICE = testing.device()
NEEDS_GPU = pytest.mark.gpu
TEXT = """
template mm(A: T[M, K], B: T[K, N]) -> C: T[M, N]
where T in (f16, bf16, f32):
    tune OPTIONS, BLOCK_M in (32,), BLOCK_N in (64,), num_warps in (4,), num_stages in (2,)
    for m, n in grid(M by BLOCK_M, N by BLOCK_N, group=2):
        acc = zeros(m, n)
        for k in K by 32:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc

template rows(x: T[M, N], h: f32[M, H]) -> (y: T[M, N], total: f32[M]):
    tune OPTIONS, BLOCK_M in (16,), num_warps in (4,)
    for m in grid(M by BLOCK_M):
        n = whole(N)
        v = load x[m, n]
        store y[m, n] = v * 2
        s = zeros(m)
        for j in H // 2 by 16:
            s += sum(load h[m, j], j)
        store total[m] = s + sum(f32(v), n)

template add(inout y: T[M, N], x: T[M, N]):
    tune OPTIONS, BLOCK_M in (16,), BLOCK_N in (32,), num_warps in (4,)
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        store y[m, n] = load y[m, n] + load x[m, n]
"""


def _add(y, x):
    y.add_(x)


REFERENCES = {
    "mm": lambda A, B: A @ B,
    "rows": lambda x, h: (x * 2, h[:, : h.shape[1] // 2].sum(1) + x.float().sum(1)),
    "add": _add,
}


@pytest.fixture(autouse=True)
def aligned(monkeypatch):
    """Of arguments on a CPU, too, Inductor sees what is aligned."""
    monkeypatch.setattr("torch._inductor.graph.should_assume_input_aligned", tensor_is_aligned)


def template(name, options="tma in (1,)"):
    return tdsl.template(source=TEXT.replace("OPTIONS", options), name=name)(REFERENCES[name])


def whole_numbers(*shape, dtype=torch.float32):
    return torch.randint(-4, 5, shape, device=DEVICE).to(dtype)


def described(report):
    """The load points that have a descriptor."""
    lines = [line for line in report.kernel_text.splitlines() if "tl.make_tensor_descriptor(" in line]
    names = [line.split("_descriptor = ")[0].strip() for line in lines]
    assert all(f"{name}_descriptor.load([" in report.kernel_text for name in names)
    return names


@pytest.mark.parametrize("options", ["tma in (1,)", "tma in (1, 0)", "tma in (1,), persistent in (1,)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_ragged_product(dtype, options):
    mm = template("mm", options)

    def program(a, b, row, tile):
        return torch.relu(mm(a, b) + row) * tile

    args = [whole_numbers(*shape, dtype=dtype) for shape in ((37, 40), (40, 72), (72,), (37, 72))]
    # Of small numbers the sums are exact in bf16, too.
    args[0], args[1] = args[0].sign(), args[1].sign()
    report = assert_fused(program, args, exact=dtype == torch.float32)
    assert described(report) == ["A", "B"]


def test_a_point_with_a_prologue_keeps_its_code():
    mm = template("mm")
    args = whole_numbers(37, 40), whole_numbers(40, 72)
    assert described(assert_fused(lambda a, b: mm(torch.relu(a) + 1, b), args, exact=True)) == ["B"]
    assert described(assert_fused(lambda a, b: mm(a, torch.relu(b) + 1), args, exact=True)) == ["A"]
    assert described(assert_fused(lambda a, b: mm(a * 2, torch.relu(b) + 1), args, exact=True)) == []


def test_rows_that_begin_anywhere_are_loaded_by_pointers():
    mm = template("mm")
    a, b = whole_numbers(37, 40), whole_numbers(40, 72)
    assert described(assert_fused(mm, (whole_numbers(37, 39), whole_numbers(39, 72)), exact=True)) == ["B"]
    assert described(assert_fused(mm, (whole_numbers(40, 37).t(), b), exact=True)) == ["B"]
    assert described(assert_fused(lambda a, b: mm(a[:, 4:], b[4:]), (a, b), exact=True)) == ["A", "B"]
    assert described(assert_fused(lambda a, b: mm(a[:, 1:], b[1:]), (a, b), exact=True)) == ["B"]
    assert described(assert_fused(mm, (whole_numbers(37 * 40 + 1)[1:].view(37, 40), b), exact=True)) == ["B"]
    assert described(assert_fused(lambda a, b: mm(a[:1].expand(5, 40), b), (a, b), exact=True)) == ["B"]


def test_open_sizes():
    mm = template("mm")

    def inputs(m):
        return whole_numbers(m, 40), whole_numbers(40, 72), whole_numbers(72)

    report = assert_fused(
        lambda a, b, c: mm(a, b) + c, inputs(37), exact=True, also=[inputs(3), inputs(100), inputs(64)]
    )
    assert described(report) == ["A", "B"]
    # What a row is long must be known.
    args = whole_numbers(37, 40), whole_numbers(40, 72)
    also = [(whole_numbers(37, 44), whole_numbers(44, 72))]
    assert described(assert_fused(lambda a, b: mm(a, b) + 1, args, exact=True, also=also)) == ["B"]


def test_a_tile_that_ends_before_the_tensor_is_loaded_by_pointers():
    rows = template("rows")
    args = whole_numbers(37, 44), whole_numbers(37, 40)
    assert described(assert_fused(rows, args, exact=True)) == ["x"]
    args = whole_numbers(37, 44), whole_numbers(37, 64)
    assert described(assert_fused(rows, args, exact=True)) == ["x", "h"]


def test_what_is_written_in_place_is_loaded_by_pointers():
    add = template("add")

    def program(y, x):
        add(y, x)
        return y * 2

    report = assert_fused(program, (whole_numbers(37, 40), whole_numbers(37, 40)), exact=True)
    assert described(report) == ["x"]


@pytest.mark.parametrize("sizes", [(0, 8, 8), (8, 0, 8), (8, 8, 0)])
def test_empty(sizes):
    m, k, n = sizes
    mm = template("mm")
    args = whole_numbers(m, k), whole_numbers(k, n)
    assert torch.equal(mm(*args), args[0] @ args[1])
    assert_fused(lambda a, b: mm(a, b) + 1, args, kernels=None, exact=True)


def test_eagerly():
    mm = template("mm", "tma in (1, 0)")
    for m, k, n in (37, 40, 72), (64, 40, 72), (37, 44, 72), (37, 39, 71):
        a, b = whole_numbers(m, k), whole_numbers(k, n)
        assert torch.equal(mm(a, b), a @ b)
        wide = whole_numbers(m, k + 8)
        for at in (1, 4):  # a pointer that is no multiple of 16 bytes, and one that is
            assert torch.equal(mm(wide[:, at : at + k], b), wide[:, at : at + k] @ b)


@NEEDS_GPU
@pytest.mark.parametrize(
    "options", [{}, {"cpp_wrapper": True}, {"triton.cudagraphs": True}, {"max_autotune": True}]
)
def test_roads(options):
    mm = template("mm", "tma in (1,), persistent in (0, 1)")
    compiled = torch.compile(lambda a, b: torch.relu(mm(a, b)) + 1, options=options)
    for _ in range(3):
        a, b = whole_numbers(700, 72), whole_numbers(72, 520)
        assert torch.equal(compiled(a, b), torch.relu(a @ b) + 1)


def test_any_thread_gets_memory_for_descriptors():
    def launcher(size, *, stream):
        return _allocation._allocator.get()(size, 16, stream)

    autotuner = object.__new__(TemplateAutotuner)
    autotuner.inductor_meta = {"use_fast_triton_launcher": True}
    autotuner.device_props = SimpleNamespace(type=DEVICE.type)
    with ThreadPoolExecutor(1) as pool:
        launch = autotuner._build_fast_launcher(launcher)
        assert pool.submit(launch, 64, stream=0).result().nbytes == 64


@NEEDS_GPU
@pytest.mark.parametrize("eager", [False, True])
def test_threads(eager):
    mm = template("mm")
    run = mm if eager else torch.compile(lambda a, b: torch.relu(mm(a, b)) + 1)
    a, b = whole_numbers(700, 72), whole_numbers(72, 520)
    want = a @ b if eager else torch.relu(a @ b) + 1
    for _ in range(3):  # from the third call on, Inductor's launch is its fast one
        assert torch.equal(run(a, b), want)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: run(a, b), range(32)):
            assert torch.equal(got, want)


@NEEDS_GPU
def test_a_package(tmp_path):
    mm = template("mm", "tma in (1,)")

    class Program(torch.nn.Module):
        def forward(self, a, b):
            return torch.relu(mm(a, b)) + 1

    args = whole_numbers(700, 72), whole_numbers(72, 520)
    exported = torch.export.export(Program(), args)
    path = torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "made.pt2"))
    assert torch.equal(torch._inductor.aoti_load_package(path)(*args), Program()(*args))


def test_it_is_on_or_off():
    with pytest.raises(tdsl.TdslError, match="'tma' is 0 or 1; not 2"):
        template("mm", "tma in (2,)")

"""Which prologues are fused: what a point says, else what the rule of `cost` says. Large sizes are compiled for a
GPU from fake tensors, and not run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend
from torch._functorch import config as autograd
from torch._inductor import config as inductor

import tdsl
from tdsl.lower.inductor import recording
from tdsl.lower.inductor.fusion import cost, placement
from tdsl.testing import assert_fused, load_module

gpu_code = load_module(Path(__file__).with_name("gpu_code.py"))
t = load_module(Path(__file__).with_name("templates.py"))

TEXT = """
template {name}(A: T[M, K], B: T[K, N]) -> C: T[M, N]
where T in (f16, bf16, f32):
    config BLOCK_M=128, BLOCK_N=256, BLOCK_K=64, num_warps=8, num_stages=4
    for m, n in grid(M by BLOCK_M, N by BLOCK_N, group=8):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n]{says})
        store C[m, n] = acc

template small_{name}(A: T[M, K], B: T[K, N]) -> C: T[M, N]
where T in (f16, bf16, f32):
    config BLOCK_M=32, BLOCK_N=32, BLOCK_K=32
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n]{says})
        store C[m, n] = acc

template twice_{name}(x: f32[M, N]) -> (y: f32[M, N], s: f32[M]):
    config BLOCK_M=16, BLOCK_N=32
    for m in grid(M by BLOCK_M):
        total = zeros(m)
        for n in N by BLOCK_N:
            total += sum(load x[m, n], n)
        store s[m] = total
        for n in N by BLOCK_N:
            store y[m, n] = load x[m, n]{says} / total
"""


def template(name, says=""):
    @tdsl.template(source=TEXT.format(name=name, says=says), name=name)
    def mm(A, B):
        return A @ B

    return mm


matmul, fusing, closed = template("matmul"), template("fusing", " fuse"), template("closed", " nofuse")
small_fusing = tdsl.template(source=TEXT.format(name="fusing", says=" fuse"), name="small_fusing")(
    lambda A, B: A @ B
)
small_closed = tdsl.template(source=TEXT.format(name="closed", says=" nofuse"), name="small_closed")(
    lambda A, B: A @ B
)


def fake(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device="meta")


def generated(program, *args, **options):
    """The kernels that `program` becomes on a GPU, and what was kept out of templates."""
    # No worker processes: they would load the kernels.
    with tdsl.refusal.watch() as refusals, inductor.patch(compile_threads=1):
        code = gpu_code.generate(program, args, **options)
    return len(gpu_code.kernels(code)), refusals


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


# The rule. M, K, N; what makes B of b (bf16), c (bf16), f (float32), s (one row), q (int8); how many kernels.

WORK = {
    "sigmoid": lambda b, c, f, s, q: torch.sigmoid(b),
    "gelu": lambda b, c, f, s, q: F.gelu(b),
    "relu": lambda b, c, f, s, q: torch.relu(b),
    "scale": lambda b, c, f, s, q: b * s,
    "sum": lambda b, c, f, s, q: b + c,
    "cast": lambda b, c, f, s, q: f.to(torch.bfloat16),
    "dequant": lambda b, c, f, s, q: q.to(torch.bfloat16) * s,
}
CUBE, FLAT, WIDE, TINY = (4096, 4096, 4096), (16, 4096, 4096), (512, 4096, 4096), (512, 512, 512)
DEEP = (8192, 8192, 8192)


@pytest.mark.parametrize(
    "sizes, work, kernels",
    [
        # Computed 32 times over, in the loop of a kernel that is busy: apart, whatever it is.
        *((CUBE, work, 2) for work in WORK),
        # Four times: apart if it is much work or much to read.
        *((WIDE, work, 2) for work in ("sigmoid", "gelu", "sum", "cast")),
        *((WIDE, work, 1) for work in ("relu", "scale", "dequant")),
        # One block of rows: each element is computed once, here or there.
        *((FLAT, work, 1) for work in WORK),
        # Nothing is worth a launch.
        *((TINY, work, 1) for work in WORK),
        (DEEP, "dequant", 2),
    ],
)
def test_rule(sizes, work, kernels):
    m, k, n = sizes
    found, refusals = generated(
        lambda a, *args: matmul(a, WORK[work](*args)),
        fake(m, k),
        fake(k, n),
        fake(k, n),
        fake(k, n, dtype=torch.float32),
        fake(n),
        fake(k, n, dtype=torch.int8),
    )
    assert found == kernels
    assert [(r.kind, r.point) for r in refusals] == [("prologue", "B")] * (kernels - 1)


def test_the_numbers():
    """The one case that the documents compute by hand."""
    _, (refusal,) = generated(lambda a, b: matmul(a, torch.sigmoid(b)), fake(4096, 4096), fake(4096, 4096))
    operations = 31 * 4096 * 4096 * (16 + 6) / (132 * 128 * 1.7e9)
    apart = 3e-6 + 2 * 2 * 4096 * 4096 / 3e12
    assert f"about {operations * 1e6:.0f} us, keeping it apart {apart * 1e6:.0f} us" in refusal.reason
    assert "each element is loaded 32 times" in refusal.reason
    assert refusal.help == "'load B[k, n] fuse' fuses it whatever it costs"


def test_a_point_that_says_fuse():
    found, refusals = generated(lambda a, b: fusing(a, torch.sigmoid(b)), fake(*CUBE[:2]), fake(*CUBE[1:]))
    assert (found, refusals) == (1, [])
    # Of the other point nothing was said.
    found, (refusal,) = generated(lambda a, b: fusing(torch.sigmoid(a), b), fake(*CUBE[:2]), fake(*CUBE[1:]))
    assert (found, refusal.point) == (2, "A")


def test_a_point_that_says_nofuse():
    found, (refusal,) = generated(lambda a, b: closed(a, torch.relu(b)), fake(*TINY[:2]), fake(*TINY[1:]))
    assert (found, refusal.point) == (2, "B")


def test_fuse_does_not_open_a_point_that_is_closed():
    # One tensor at both points: it is in memory for both, or for none.
    text = TEXT.format(name="both", says=" nofuse").replace("load A[m, k]", "load A[m, k] fuse")
    both = tdsl.template(source=text, name="both")(lambda A, B: A @ B)

    def program(a):
        z = torch.relu(a)
        return both(z, z)

    found, refusals = generated(program, fake(512, 512))
    assert found == 2
    assert {refusal.point for refusal in refusals} == {"A", "B"}
    assert all("load B (line" in refusal.reason for refusal in refusals)


def test_memory_bound_work_hides_arithmetic():
    # 1 + w is computed for each block of rows, a thousand times over; the rows themselves take far longer.
    found, _ = generated(
        lambda x, w: t.rn(x, 1 + w, 1e-5),
        fake(65536, 4096, dtype=torch.float32),
        fake(4096, dtype=torch.float32),
    )
    assert found == 1
    # Both loops over x compute it, and neither as long as it would take to write it.
    found, _ = generated(
        lambda x, w: t.rn_looped(torch.exp(x), w, 1e-5),
        fake(8192, 8192, dtype=torch.float32),
        fake(8192, dtype=torch.float32),
    )
    assert found == 1


def test_few_rows_of_a_large_table():
    ids = fake(1024, dtype=torch.int64)
    found, _ = generated(lambda i, e: t.embed(i, F.gelu(e)), ids, fake(1 << 20, 512, dtype=torch.float32))
    assert found == 1  # a thousandth of the table is ever looked at


def test_behind_one_call_rather_than_before_another():
    found, refusals = generated(
        lambda a, b, d: matmul(torch.sigmoid(matmul(a, b)), d), *(fake(4096, 4096) for _ in range(3))
    )
    assert found == 2
    assert not any("operations" in refusal.reason for refusal in refusals)


def test_what_is_kept_apart_shares_a_kernel():
    def program(a, b):
        return matmul(a, torch.sigmoid(b)), torch.cos(b)

    found, _ = generated(program, fake(*CUBE[:2]), fake(*CUBE[1:]))
    assert found == 2


def test_likely_sizes_decide_for_dynamic_ones():
    def program(a, b):
        return matmul(a, torch.sigmoid(b))

    assert generated(program, fake(*CUBE[:2]), fake(*CUBE[1:]), dynamic=True)[0] == 2
    assert generated(program, fake(*TINY[:2]), fake(*TINY[1:]), dynamic=True)[0] == 1


@pytest.mark.parametrize("launch, kernels", [(3e-6, 1), (-1.0, 2)])
def test_a_decision_guards_nothing(launch, kernels, monkeypatch):
    monkeypatch.setattr(cost, "LAUNCH", launch)
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(lambda a, b: t.mm(a, torch.sigmoid(b)), backend=counter, dynamic=True)
    with (
        tdsl.refusal.watch() as refusals,
        inductor.patch(fx_graph_cache=False),
        autograd.patch(enable_autograd_cache=False),
    ):
        for size in (40, 70, 129, 257):
            a, b = torch.randn(size, size + 3), torch.randn(size + 3, size + 7)
            torch.testing.assert_close(compiled(a, b), a @ torch.sigmoid(b), rtol=1e-4, atol=1e-3)
    assert counter.frame_count == 1
    assert len(refusals) == kernels - 1


# What there is in memory

A, B = torch.randn(70, 50), torch.randn(50, 90)
ALLOCATION = re.compile(r"= empty_strided\w*\(")


def allocated(report):
    return sum(len(ALLOCATION.findall(text)) for text in report.code)


def test_a_fused_producer_has_no_buffer():
    assert allocated(assert_fused(lambda a, b: t.mm(a, torch.sigmoid(b)), (A, B), kernels=1)) == 1
    assert allocated(assert_fused(lambda a, b: small_fusing(a, torch.sigmoid(b)), (A, B), kernels=1)) == 1
    assert allocated(assert_fused(lambda a, b: small_closed(a, torch.sigmoid(b)), (A, B), kernels=2)) == 2


def test_a_producer_that_is_read_elsewhere_has_one():
    def program(a, b):
        z = torch.sigmoid(b)
        return t.mm(a, z), z

    assert allocated(assert_fused(program, (A, B), kernels=2)) == 2


def test_apart_is_right_too(monkeypatch):
    monkeypatch.setattr(cost, "LAUNCH", -1.0)
    report = assert_fused(
        lambda a, b, r: torch.relu(t.mm(torch.exp(a), torch.sigmoid(b))) + r,
        (A, B, torch.randn(70, 90)),
        kernels=2,
    )
    assert [refusal.point for refusal in report.refusals] == ["A", "B"]
    twice = tdsl.template(source=TEXT.format(name="x", says=" fuse"), name="twice_x")(
        lambda x: (x / x.sum(1, keepdim=True), x.sum(1))
    )
    # One of its two points says fuse, and what one has, both have.
    assert_fused(lambda x: twice(torch.exp(x)), (A,), kernels=1)


def test_each_question_is_answered_once(monkeypatch):
    """The scheduler asks of a pair again and again, and a placement looks at every node."""
    asked = []

    def place(call, *works):
        asked.append((call, *works))
        return placement.place(call, *works)

    monkeypatch.setattr(recording, "place", place)
    a, b = torch.randn(33, 20), torch.randn(20, 40)
    mm = template("remembered")
    compiled = torch.compile(lambda a, b: mm(torch.sigmoid(a), b).relu() * 2 + 1, fullgraph=True)
    with inductor.patch(fx_graph_cache=False):
        compiled(a, b)
    assert len(asked) > 1 and len(asked) == len(set(asked))

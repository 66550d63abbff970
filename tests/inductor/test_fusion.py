"""What is fused into a template's kernel, and that the result is PyTorch's: each program is compiled whole,
its kernels are counted, and it is compared with PyTorch. The sizes are ragged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tdsl.testing import assert_fused, load_module

t = load_module(Path(__file__).with_name("templates.py"))
mm, ew, rn, rn_looped, sm, ln = t.mm, t.ew, t.rn, t.rn_looped, t.sm, t.ln


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


def randn(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype)


A, B, BIAS, RESIDUAL = (randn(70, 50), randn(50, 90), randn(90), randn(70, 90))


# Epilogues


def founding(a, b, bias):
    return torch.relu(mm(a, torch.sigmoid(b))) * bias


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_founding(dtype):
    assert_fused(founding, (A.to(dtype), B.to(dtype), BIAS.to(dtype)), kernels=1)


def test_gelu_residual():
    assert_fused(lambda a, b, c, r: F.gelu(mm(a, b) + c) + r, (A, B, BIAS, RESIDUAL), kernels=1)


def test_two_consumers():
    def program(a, b):
        c = mm(a, b)
        return torch.relu(c) + 1, torch.sigmoid(c)

    assert_fused(program, (A, B), kernels=1)


def test_five_consumers():
    def program(a, b):
        c = mm(a, b)
        return torch.relu(c), torch.sigmoid(c), c + 1, c * c, -c

    assert_fused(program, (A, B), kernels=1)


def test_chain():
    def program(a, b, r):
        c = mm(a, b)
        d = torch.relu(c)
        e = d * r
        return d, e, torch.sin(e + 1)

    assert_fused(program, (A, B, RESIDUAL), kernels=1)


def test_raw_output_kept():
    def program(a, b):
        c = mm(a, b)
        return c, torch.relu(c) + c

    assert_fused(program, (A, B), kernels=1)


def test_output_of_a_matmul_after():
    def program(a, b):
        c = mm(a, b)
        return torch.relu(c), c @ c.T

    assert_fused(program, (A, B), kernels=1)


def test_reads_an_input():
    s = randn(33, 33)
    assert_fused(lambda s: mm(s, s) + s, (s,), kernels=1)


@pytest.mark.parametrize(
    "extra",
    [randn(90), randn(70, 1), randn(1, 1), torch.tensor(2.5), randn(90, 70).T, randn(70, 180)[:, ::2]],
)
def test_extra_inputs(extra):
    assert_fused(lambda a, b, e: mm(a, b) * e + 1, (A, B, extra), kernels=1)


def test_mask():
    mask = torch.rand(70, 90) > 0.5
    assert_fused(lambda a, b, m: torch.where(m, mm(a, b), -1.0), (A, B, mask), kernels=1)


def test_index_dependent():
    def program(a, b):
        c = mm(a, b)
        odd = (torch.arange(70)[:, None] + torch.arange(90)) % 2 == 0
        return c + torch.arange(90), torch.triu(c), torch.where(odd, c, 0.0)

    assert_fused(program, (A, B), kernels=1)


def test_views_of_the_output():
    def program(a, b):
        c = mm(a, b)
        return torch.relu(c.view(7, 10, 90)) * torch.arange(10)[:, None], torch.relu(c.unsqueeze(1))

    assert_fused(program, (A, B), kernels=1)


def test_transposed_output():
    assert_fused(lambda a, b: torch.relu(mm(a, b).T).contiguous(), (A, B), kernels=None)


def test_dtypes_after():
    a, b = randn(20, 40, dtype=torch.bfloat16), randn(20, 40, dtype=torch.bfloat16)
    assert_fused(lambda a, b: ew(a, b).float() * 2, (a, b), kernels=1)
    assert_fused(lambda a, b: ew(a, b).float() * 2, (a.half(), b.half()), kernels=1)
    assert_fused(lambda a, b: torch.exp(ew(a, b).abs().sqrt()) / 3, (a.double(), b.double()), kernels=1)
    assert_fused(lambda a, b: ew(a, b) > 0.5, (a, b), kernels=1)


def test_integers():
    a, b = torch.randint(-9, 9, (20, 40)), torch.randint(-9, 9, (20, 40))
    assert_fused(lambda a, b: ew(a, b) * 2 + 1, (a, b), kernels=1, exact=True)
    assert_fused(lambda a, b: ew(a * 3, b - 1) // 2, (a.int(), b.int()), kernels=1, exact=True)


@pytest.mark.parametrize(
    "after",
    [
        lambda c: c.sum(-1),
        lambda c: torch.softmax(c, -1),
        lambda c: c.argmax(-1),
        lambda c: F.pad(c, (1, 2)),
        lambda c: torch.cat([c, c * 2]),
        lambda c: c[3:5] + 1,
        lambda c: c[torch.tensor([1, 5, 2])],
        lambda c: c[:, :70] + c[:, :70].T,
    ],
)
def test_what_is_not_pointwise(after):
    assert_fused(lambda a, b: after(mm(a, b)), (A, B), kernels=None)


def test_special_values():
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1.0]).repeat(4, 5)
    one = torch.ones_like(x)

    def program(x, one):
        c = ew(x, one)
        return torch.relu(c), torch.maximum(c, one), torch.minimum(c, one)

    assert_fused(program, (x, one), kernels=1, exact=True)


def test_in_place_on_the_output():
    assert_fused(lambda a, b: mm(a, b).relu_().add_(1), (A, B), kernels=1)


def test_in_place_into_a_clone():
    assert_fused(lambda a, b, q: q.clone().add_(mm(a, b)), (A, B, RESIDUAL), kernels=1)


# Prologues


@pytest.mark.parametrize(
    "before",
    [
        torch.sigmoid,
        torch.exp,
        lambda x: x + 4,
        lambda x: x.abs().sqrt(),
        lambda x: torch.where(x > 0, x, 1.0),
    ],
)
def test_both_inputs(before):
    assert_fused(lambda a, b: mm(before(a), before(b)), (A, B), kernels=1)


def test_cast():
    a = A.to(torch.bfloat16)
    assert_fused(lambda a, b: mm(a.float(), b), (a, B), kernels=1)
    assert_fused(lambda a, b: mm(a.to(torch.bfloat16), b.to(torch.bfloat16)), (A, B), kernels=1)


def test_int8_weights():
    q, s = torch.randint(-128, 128, (50, 90), dtype=torch.int8), randn(90)
    assert_fused(lambda a, q, s: mm(a, q.float() * s), (A, q, s), kernels=1)


def test_several_sources():
    assert_fused(lambda a, s, b: mm(a * s, b), (A, randn(70, 50), B), kernels=1)
    assert_fused(lambda a, s, t, b: mm(a * s + t, b), (A, randn(70, 1), randn(50), B), kernels=1)


@pytest.mark.parametrize(
    "before",
    [
        lambda a: a.flip(0),
        lambda a: a[torch.arange(69, -1, -1)],
        lambda a: a * torch.arange(50),
        lambda a: a.view(35, 2, 50).mul(torch.tensor([1.0, 2.0])[:, None]).view(70, 50),
    ],
)
def test_index_dependent_prologue(before):
    assert_fused(lambda a, b: mm(before(a), b), (A, B), kernels=1)


@pytest.mark.parametrize(
    "before",
    [
        lambda a: torch.sigmoid(a)[3:40],
        lambda a: torch.sigmoid(a)[:, :1].expand(70, 50),
        lambda a: torch.sigmoid(a)[0].expand(70, 50),
        lambda a: torch.sigmoid(a.T.contiguous()).T,
        lambda a: torch.sigmoid(a)[::2],
    ],
)
def test_views_of_what_is_computed(before):
    assert_fused(lambda a, b: mm(before(a), b), (A, B), kernels=None)


@pytest.mark.parametrize(
    "a",
    [
        randn(50, 70).T,
        randn(70, 100)[:, ::2],
        randn(90, 60)[7:77, 5:55],
        randn(1, 50).expand(70, 50),
        randn(70, 1).expand(70, 50),
        randn(3000).as_strided((70, 50), (13, 2), 17),
    ],
)
def test_strides(a):
    assert_fused(founding, (a, B, BIAS), kernels=1)
    assert_fused(lambda a, b: mm(torch.sigmoid(a), b), (a, B), kernels=1)


def test_one_producer_for_both():
    s = randn(33, 33)
    assert_fused(lambda s: mm(torch.sigmoid(s), torch.sigmoid(s)), (s,), kernels=1)
    assert_fused(lambda s: mm(s, s.T), (s,), kernels=1)
    assert_fused(lambda s: (lambda z: mm(z, z.T))(torch.sigmoid(s)), (s,), kernels=None)


def test_producer_returned_too():
    def program(a, b):
        z = torch.sigmoid(a)
        return mm(z, b), z

    assert_fused(program, (A, B), kernels=2)


def test_two_load_points():
    x, w = randn(10, 70), randn(70)
    assert_fused(lambda x, w: rn_looped(torch.exp(x), w, 1e-5), (x, w), kernels=1)


def test_reduction_templates():
    x, w = randn(3, 7, 40), randn(40)
    assert_fused(lambda x, w: rn(x * 2 + 1, torch.exp(w), 1e-5) * 3, (x, w), kernels=1)
    assert_fused(lambda x: sm(x + 1) * 2, (x,), kernels=1)


# Several outputs, several templates

X, W = randn(3, 7, 40), randn(40)


def test_an_epilogue_on_each_output():
    def program(x, w):
        y, mean, rstd = ln(torch.tanh(x), w, w, 1e-5)
        return torch.relu(y) + x, mean * 2, torch.exp(rstd)

    assert_fused(program, (X, W), kernels=1)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_output_used(which):
    assert_fused(lambda x, w: ln(x, w, None, 1e-5)[which] * 2, (X, W), kernels=1)


def test_no_output_used():
    def program(x, w):
        ln(x, w, None, 1e-5)
        return x + 1

    assert_fused(program, (X, W), kernels=1)


def test_an_epilogue_of_two_outputs():
    def program(x, w):
        y, mean, rstd = ln(x, w, None, 1e-5)
        return y / rstd[..., None] + mean[..., None], mean + rstd

    assert_fused(program, (X, W), kernels=1)


def test_chains_behind_several_outputs():
    def program(x, w):
        y, mean, _ = ln(x, w, None, 1e-5)
        d = torch.relu(y)
        e = d * x
        return d, torch.sin(e + 1), mean + 1, (mean + 1) * 2

    assert_fused(program, (X, W), kernels=1)


def test_two_templates():
    assert_fused(lambda a, b, d: mm(torch.relu(mm(a, b)), d), (A, B, randn(90, 33)), kernels=2)
    assert_fused(lambda x, w, b: mm(rn(x, w, 1e-5) * 2, b), (randn(21, 40), W, randn(40, 30)), kernels=2)


def test_same_template_twice():
    assert_fused(lambda a, b, c: (mm(a, b) + 1, mm(a, c)), (A, B, randn(50, 33)), kernels=2)
    assert_fused(lambda a, b, c: (mm(a, b), mm(c, b)), (A, B, randn(70, 50)), kernels=None)


def test_nested_outputs():
    def program(x, w):
        y, mean, _ = ln(x, w, None, 1e-5)
        return [y, (mean, None)]

    assert_fused(program, (X, W), kernels=1)


# Sizes


@pytest.mark.parametrize("m, k, n", [(1, 1, 1), (31, 33, 32), (101, 5, 1), (0, 5, 7), (5, 0, 7), (5, 7, 0)])
def test_sizes(m, k, n):
    assert_fused(founding, (randn(m, k), randn(k, n), randn(n)), kernels=None)


@pytest.mark.parametrize("r, n", [(1, 1), (4, 64), (5, 63), (0, 7)])
def test_row_sizes(r, n):
    def program(x, w):
        y, mean, rstd = ln(x * 2, w, None, 1e-5)
        return y + 1, mean * 2, rstd

    assert_fused(program, (randn(r, n), randn(n)), kernels=None)


def test_scalar_rows():
    x = torch.arange(40.0)  # one number per output: its error is luck, unless the sums are exact
    assert_fused(lambda x, w: rn(x, w, 1e-5) + 1, (x, W), kernels=1)
    compiled = torch.compile(lambda x, w: [o * 2 for o in ln(x, w, None, 1e-5)], fullgraph=True)
    torch.testing.assert_close(compiled(x, W), [o * 2 for o in ln.reference(x, W, None, 1e-5)])


def test_large_embedding():
    ids, table = torch.randint(0, 30, (17,)), randn(30, 70)
    assert_fused(lambda i, e: torch.relu(t.embed(i % 7, e * 2)), (ids, table), kernels=1)


def test_accumulate():
    assert_fused(lambda x: t.column_sums(torch.exp(x)) + 1, (randn(70, 33),), kernels=None)
    assert_fused(lambda x: t.column_sums(x), (randn(0, 33),), kernels=None)


def test_bool_output():
    assert_fused(lambda a, b: ~t.less(a, b), (randn(20, 33), randn(20, 33)), kernels=1, exact=True)

"""Stores and loads in the branches of a run-time `if`: each branch stores with all that is fused behind the output."""

from __future__ import annotations

import pytest
import torch

import tdsl
from tdsl import testing
from tdsl.testing import assert_fused

DEVICE = testing.device()
TEXT = """
template halves(x: f32[M, N]) -> y: f32[M, N]:
    config BLOCK=4, num_warps=1
    for m, n in grid(M, N by BLOCK):
        if m > 3:
            store y[m, n] = load x[m, n] * 2
        else:
            store y[m, n] = 1.0

template chosen(x: T[N], k: int) -> y: T[N]:
    config BLOCK=16, num_warps=1
    for n in grid(N by BLOCK):
        if k > 3:
            store y[n] = load x[n] * 2
        elif k > 1:
            store y[n] = load x[n] - 1
        else:
            store y[n] = 3.0

template asked(x: f32[M, N], flag: i32[M]) -> y: f32[M, N]:
    config BLOCK=8, num_warps=1
    for m in grid(M):
        if load flag[m] > 0:
            top = f32(-inf)
            for n in N by BLOCK:
                top = maximum(top, max(load x[m, n], n))
            for n in N by BLOCK:
                store y[m, n] = load x[m, n] - top
        else:
            for c in N by 4:
                store y[m, c] = load x[m, c]

template both(x: f32[M, N], k: int) -> (y: f32[M, N], z: f32[M]):
    config BLOCK=4, num_warps=1
    for m in grid(M by BLOCK):
        n = whole(N)
        v = load x[m, n]
        if m.start > 4:
            store z[m] = sum(v, n)
            if k > 0:
                store y[m, n] = v * k
            else:
                store y[m, n] = -v
        else:
            store y[m, n] = v + 1
            store z[m] = max(v, n)

template parts(x: f32[M, N]) -> y: f32[M, N]:
    config BLOCK_M=8, BLOCK_N=16, num_warps=1, OPTION
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        if m.start > 0:
            store y[m, n] = load x[m, n] * 2
        else:
            store y[m, n] = load x[m, n] + 5

template half_open(x: f32[M, N]) -> y: f32[M, N]:
    config BLOCK=4, num_warps=1
    for m, n in grid(M, N by BLOCK):
        if m > 3:
            store y[m, n] = load x[m, n] * 2 nofuse
        else:
            store y[m, n] = 1.0

template number(x: f32[N], k: int) -> y: f32[N]:
    for n in grid(N):
        if n > k:
            store y[n] = load x[n]
        else:
            store y[n] = 2.0

template stepped(inout a: f32[M, N], k: int):
    config BLOCK=4, num_warps=1
    for m, n in grid(M, N by BLOCK):
        if m > k:
            store a[m, n] = load a[m, n] * 2
        else:
            store a[m, n] = load a[m, n] - 1
"""


def rows(x, dims=2):
    return torch.arange(x.shape[0], device=x.device).reshape(-1, *[1] * (dims - 1))


REFERENCES = {
    "halves": lambda x: torch.where(rows(x) > 3, x * 2, 1.0),
    "half_open": lambda x: torch.where(rows(x) > 3, x * 2, 1.0),
    "chosen": lambda x, k: x * 2 if k > 3 else x - 1 if k > 1 else torch.full_like(x, 3),
    "asked": lambda x, flag: torch.where(flag[:, None] > 0, x - x.max(1, keepdim=True).values, x),
    "both": lambda x, k: (
        torch.where(rows(x) // 4 * 4 > 4, x * k if k > 0 else -x, x + 1),
        torch.where(rows(x, 1) // 4 * 4 > 4, x.sum(1), x.max(1).values),
    ),
    "parts": lambda x: torch.where(rows(x) >= 8, x * 2, x + 5),
    "number": lambda x, k: torch.where(rows(x, 1) > k, x, 2.0),
    "stepped": lambda a, k: (a.copy_(torch.where(rows(a) > k, a * 2, a - 1)), None)[1],
}


def template(name, option=""):
    text = TEXT.replace(", OPTION", f", {option}" if option else "")
    reference = REFERENCES[name]
    names = reference.__code__.co_varnames[: reference.__code__.co_argcount]
    space = {"reference": reference}
    exec(f"def {name}({', '.join(names)}): return reference({', '.join(names)})", space)
    return tdsl.template(source=text, name=name)(space[name])


t = {name: template(name) for name in REFERENCES}
subtiled, persistent = template("parts", "epilogue_subtile=2"), template("parts", "persistent=1")


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


def integers(*shape):
    return torch.randint(-8, 9, shape, device=DEVICE).float()


def many(x, bias, flag, k):
    one = t["halves"](x).relu() + bias
    two = t["chosen"](x[0].exp2(), k).half()
    three = t["asked"](x * 2, flag) * bias
    four = t["parts"](x).relu()
    five = subtiled(x + 1) * bias
    six = persistent(-x) + bias
    seven = t["number"](x[1] * 2, k) - 4
    raw = t["halves"](x - 1)
    return one, two, three, four, five, six, seven, raw, raw.relu(), raw > bias


def arguments(m, n, k):
    flag = torch.randint(0, 2, (m,), device=DEVICE, dtype=torch.int32)
    return integers(m, n), integers(n), flag, k


@pytest.mark.parametrize("k", [0, 2, 7])
def test_each_branch_stores_what_is_fused(k):
    assert_fused(many, arguments(9, 21, k), kernels=8, exact=True)


def test_with_dynamic_sizes():
    also = [arguments(m, n, k) for m, n, k in ((17, 33, 5), (8, 16, 3), (2, 5, -9))]
    assert_fused(many, arguments(9, 21, 2), kernels=8, exact=True, dynamic=True, also=also)


def test_several_outputs():
    def program(x, bias, k):
        y, z = t["both"](x * 2, k)
        return y.relu() + bias, z * 2

    for k in (0, 3):
        torch._dynamo.reset()
        assert_fused(program, (integers(11, 13), integers(13), k), kernels=1, exact=True)


def test_an_epilogue_of_two_outputs_that_are_stored_in_branches_is_right():
    def program(x, k):
        y, z = t["both"](x, k)
        return y - z[:, None]

    assert_fused(program, (integers(11, 13), 2), kernels=None, exact=True)


def test_in_place():
    def program(x, k):
        x = x * 2
        t["stepped"](x, k)
        return x.relu() + 1

    def argument(x, k):
        t["stepped"](x, k)
        return x.relu() + 1

    for k in (2, 30):
        torch._dynamo.reset()
        assert_fused(program, (integers(9, 21), k), kernels=1, exact=True)
        assert_fused(argument, (integers(9, 21), k), kernels=1, exact=True)


def test_nofuse_in_one_branch_keeps_work_out_of_both():
    report = assert_fused(lambda x: t["half_open"](x).relu(), (integers(9, 21),), kernels=2, exact=True)
    assert "a store of 'y' says 'nofuse'" in str(report.refusals[0])

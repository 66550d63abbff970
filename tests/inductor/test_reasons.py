"""What was not fused is right all the same, and the reason is recorded with the point, its line and the graph's nodes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._inductor.utils import fresh_cache

import tdsl
from tdsl.lower.inductor import cost
from tdsl.testing import assert_fused, count_kernels, load_module

t = load_module(Path(__file__).with_name("templates.py"))
LINES = t.TEXT.splitlines()

TEXT = """
template closed(x: f32[M, N]) -> y: f32[M, N]:
    config BLOCK_M=16, BLOCK_N=32
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        store y[m, n] = (load x[m, n] nofuse) * 2 nofuse

template apart(x: f32[M, N]) -> (y: f32[M, N], s: f32[M]):
    config BLOCK_M=16, BLOCK_N=32
    for m in grid(M by BLOCK_M):
        total = zeros(m)
        for n in N by BLOCK_N:
            v = load x[m, n]
            total += sum(v, n)
            store y[m, n] = v * 2
        store s[m] = total
"""


@tdsl.template(source=TEXT)
def closed(x):
    return x * 2


@tdsl.template(source=TEXT)
def apart(x):
    return x * 2, x.sum(1)


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


A, B, X, W = torch.randn(70, 50), torch.randn(50, 90), torch.randn(21, 40), torch.randn(40)
SQUARE = torch.randn(33, 33)


def twice_read(a, b):
    z = torch.sigmoid(a)
    return t.mm(z, b), torch.cumsum(z, 0)


def returned(a, b):
    z = torch.sigmoid(a)
    return t.mm(z, b), z


def transposed(s):
    z = torch.sigmoid(s)
    return t.mm(z, z.T)


def between(a, b):
    c = t.mm(a, b)
    return c / c.sum()


def out_of_reach(x):
    y, s = apart(x)
    return y + s[:, None]


def into_an_argument(q, a, b):
    q.add_(t.mm(a, b))


def read_behind_too(x, w):
    z = torch.exp(x)
    return t.rn(z, w, 1e-5) + z


def an_argument_changed(q, b):
    q.mul_(2)
    return t.mm(q, b)


# name -> program, its arguments, the point, one of the nodes, what the reason says
CASES = {
    "nofuse load": (lambda x: closed(torch.exp(x)), (X,), "x", "exp", "says 'nofuse'"),
    "nofuse store": (lambda x: torch.exp(closed(x)), (X,), "y", "exp", "says 'nofuse'"),
    "reduction before": (lambda a, b: t.mm(torch.softmax(a, -1), b), (A, B), "A", "amax", "a reduction"),
    "sum before": (
        lambda a, w: t.rn(a, w.sum(0), 1e-5),
        (X, torch.randn(9, 40)),
        "w",
        "sum_1",
        "a reduction",
    ),
    "sum behind": (lambda a, b: t.mm(a, b).sum(-1), (A, B), "C", "sum_1", "a reduction"),
    "expand before": (
        lambda a, b: t.mm(torch.sigmoid(a[0]).expand(70, 50), b),
        (A, B),
        "A",
        "sigmoid",
        "[70, 50] of [50]",
    ),
    "slice behind": (
        lambda a, b: t.mm(a, b)[3:5] + 1,
        (A, B),
        "C",
        "add",
        "180 elements, and 'C' has 6300",
    ),
    "pad behind": (
        lambda a, b: F.pad(t.mm(a, b), (1, 2)),
        (A, B),
        "C",
        "constant_pad_nd",
        "6510 elements, and 'C' has 6300",
    ),
    "second reader": (twice_read, (A, B), "A", "sigmoid", "it is also read by cumsum"),
    "read behind too": (read_behind_too, (X, W), "x", "exp", "it is also read by add"),
    "returned": (returned, (A, B), "A", "sigmoid", "the graph returns it"),
    "order": (transposed, (SQUARE,), "B", "sigmoid", "another order"),
    "order behind": (lambda a, b: t.mm(a, b).flip(0) + 1, (A, B), "C", "add", "another order"),
    "between": (between, (A, B), "C", "div", "another kernel has to run between"),
    "out of reach": (out_of_reach, (X,), "y", "add", "does not have it there"),
    "library before": (lambda a, b: t.mm(a @ b, b.T), (A, B), "A", "mm", "a call of a library"),
    "library behind": (lambda a, b: t.mm(a, b) @ b.T, (A, B), "C", "mm_1", "a call of a library"),
    "template before": (lambda a, b: t.mm(t.mm(a, b), b.T), (A, B), "A", "mm", "another template"),
    "template behind": (lambda a, b: t.mm(t.mm(a, b), b.T), (A, B), "C", "mm_1", "another template"),
    "accumulate": (lambda x: t.column_sums(x) + 1, (X,), "s", "add", "'s' is a sum over programs"),
    "into an argument": (
        into_an_argument,
        (torch.randn(70, 90), A, B),
        "C",
        "add",
        "a tensor that exists already",
    ),
    "an argument changed": (an_argument_changed, (A, B), "A", "mul", None),
}


@pytest.mark.parametrize("case", CASES)
def test_reason(case):
    program, args, point, node, said = CASES[case]
    report = assert_fused(program, args, kernels=None)
    found = [r for r in report.refusals if r.point == point]
    for refusal in found:
        print(refusal)
        line, _ = refusal.span.source.position(refusal.span.start)
        assert f":{line}: {refusal.template}: " in str(refusal)
        written = "load " if refusal.kind == "prologue" else ("store ", "accumulate ")
        assert refusal.span.text.startswith(written)
        assert refusal.help and len(refusal.nodes) == len(refusal.targets)
    assert any(
        (node is None or node in refusal.nodes) and (said is None or said in refusal.reason)
        for refusal in found
    )


def test_what_is_fused_is_not_recorded():
    report = assert_fused(lambda a, b: torch.relu(t.mm(torch.sigmoid(a), b)) + 1, (A, B), kernels=1)
    assert report.refusals == ()


def test_cost(monkeypatch):
    monkeypatch.setattr(cost, "OPERATIONS_PER_SECOND", 1.0)
    report = assert_fused(lambda a, b: t.mm(a, torch.sigmoid(b)), (A, B), kernels=2)
    (refusal,) = report.refusals
    assert (refusal.template, refusal.kind, refusal.point) == ("mm", "prologue", "B")
    assert refusal.nodes == ("sigmoid",) and refusal.targets == ("aten.sigmoid.default",)
    assert "each element is loaded 3 times; 16 operations on it" in refusal.reason
    assert refusal.help.startswith("'load B[k, n] fuse'")


def test_where_it_is_seen(caplog):
    def program(a, b):
        return t.mm(a, b).sum(0)

    with caplog.at_level(logging.INFO, logger="tdsl.fusion"), tdsl.refusal.watch() as seen:
        counted = count_kernels(torch.compile(program), A, B)
    (refusal,) = seen
    assert refusal in tdsl.refusals()
    assert f"# tdsl: {refusal}" in counted.code[0]
    logged = [record.getMessage() for record in caplog.records if record.name == "tdsl.fusion"]
    assert logged in ([str(refusal)], [])  # once in a process
    with pytest.raises(AssertionError, match="expected 1 kernel, compiled to 2") as error:
        torch._dynamo.reset()
        assert_fused(program, (A, B), kernels=1)
    assert str(refusal) in str(error.value)


def test_a_graph_from_the_cache_adds_nothing():
    def program(a, b):
        return t.mm(a, b).prod(0)

    found = []
    with fresh_cache():
        for _ in range(2):
            torch._dynamo.reset()
            with tdsl.refusal.watch() as seen:
                torch.compile(program)(A, B)
            found.append(len(seen))
    assert found == [1, 0]


def test_old_ones_are_dropped(monkeypatch):
    monkeypatch.setattr(tdsl.refusal, "LIMIT", 2)
    for program in (
        lambda a, b: t.mm(a, b).sum(0),
        lambda a, b: t.mm(a, b).argmax(0),
        lambda a, b: t.mm(a, b) @ b.T,
    ):
        torch._dynamo.reset()
        count_kernels(torch.compile(program), A, B)
    assert [refusal.nodes for refusal in tdsl.refusals()] == [("argmax",), ("mm_1",)]

"""What was not fused is right all the same, and the reason is recorded with the point, its line and the graph's nodes."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._inductor.utils import fresh_cache

import tdsl
from tdsl.lower.inductor.fusion import cost
from tdsl.testing import assert_fused, count_kernels, load_module

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")
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


torch.manual_seed(0)
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
    return c / c.abs().sum()  # not of numbers that cancel: who adds them up how would matter


def out_of_reach(x):
    y, s = apart(x)
    return y + s[:, None]


def into_an_argument(q, a, b):
    q.add_(t.mm(a, b))


def scattered(q, a, b, i):
    q.index_put_((i,), t.mm(a, b).relu())


def parts(a, b):
    return t.mm(torch.cat([a.sum(0, keepdim=True), a[1:]]), b)


def expanded_on_the_way(a, b, row):
    return t.mm(a * torch.tanh(row), b)  # on a CPU Inductor computes the row's tanh apart, once


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
        "is a slice of what it computes, or has it expanded: ",
    ),
    "expand on the way": (
        expanded_on_the_way,
        (A, B, torch.randn(1, 50)),
        "A",
        "tanh",
        "between the two it is expanded",
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
    "returned": (
        returned,
        (A, B),
        "A",
        "sigmoid",
        "the graph returns it, so that it has to be in memory anyway",
    ),
    "order": (transposed, (SQUARE,), "B", "sigmoid", "another order"),
    "order behind": (lambda a, b: t.mm(a, b).flip(0) + 1, (A, B), "C", "add", "another order"),
    "between": (between, (A, B), "C", "div", "another kernel has to run between"),
    "out of reach": (out_of_reach, (X,), "y", "add", "' is stored, and a loop or a branch has one of"),
    "library before": (lambda a, b: t.mm(a @ b, b.T), (A, B), "A", "mm", "a call of a library"),
    "library behind": (lambda a, b: t.mm(a, b) @ b.T, (A, B), "C", "mm_1", "a call of a library"),
    "template before": (lambda a, b: t.mm(t.mm(a, b), b.T), (A, B), "A", "mm", "another template"),
    "template behind": (lambda a, b: t.mm(t.mm(a, b), b.T), (A, B), "C", "mm_1", "another template"),
    "accumulate": (lambda x: t.column_sums(x) + 1, (X,), "s", "add", "is a sum over programs"),
    "into an argument": (
        into_an_argument,
        (torch.randn(70, 90), A, B),
        "C",
        "add",
        "in place to a tensor that it also reads",
    ),
    "scattered into an argument": (
        scattered,
        (torch.randn(99, 90), A, B, torch.randperm(99)[:70]),
        "C",
        "index_put",
        "it writes into a tensor that exists already or is made in parts",
    ),
    "an argument changed": (
        an_argument_changed,
        (A, B),
        "A",
        "mul",
        "it writes into a tensor that exists already",
    ),
    "parts before": (parts, (A, B), "A", "cat", "it is not pointwise work (ConcatKernel)"),
    "C++ alone": (
        lambda a, b: torch.digamma(t.mm(a, b)),
        (A, B),
        "C",
        "digamma",
        "it needs 'digamma', which kernels in Triton do not have",
    ),
    "fused with another": (
        lambda a, b: t.mm(a, b).relu() * t.mm(a + 1, b),
        (A, B),
        "C",
        "relu",
        "or is fused with one",
    ),
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


# Those that no program of this file gets: what they begin with, and why.
NOT_PROVOKED = {
    "it goes behind '": "we know of no program that gets there: a guard",
    "it reads a tensor as a whole": "Inductor has code for `bucketize` on a GPU alone",
    "it runs on another device": "needs two devices",
    "its kernel also makes another tensor": "depends on what Inductor has fused before it comes to the template",
    "the kernel needs something": "the scheduler proposes no such pair; a guard of the record",
    "Inductor must have its tensor in memory": "needs several processes",
    "a rule of Inductor's own": "a rule of a version or setting that we do not know of",
    "computing it there costs": "test_cost",
}


def test_every_reason_is_provoked():
    said = [case[4] for case in CASES.values() if case[4] is not None]
    unseen = set()
    for file in (Path(tdsl.__file__).parent / "lower" / "inductor").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Reason":
                (text,) = (word.value for word in node.keywords if word.arg == "text")
                pieces = [
                    part.value
                    for part in (text.values if isinstance(text, ast.JoinedStr) else [text])
                    if isinstance(part, ast.Constant)
                ]
                if not any(
                    words in piece or (len(piece) > 8 and piece in words)
                    for piece in pieces
                    for words in said
                ):
                    unseen.add("".join(pieces))
    assert not [text for text in unseen if not any(start in text for start in NOT_PROVOKED)]
    assert not [start for start in NOT_PROVOKED if not any(start in text for text in unseen)]


def test_what_is_fused_is_not_recorded():
    report = assert_fused(lambda a, b: torch.relu(t.mm(torch.sigmoid(a), b)) + 1, (A, B), kernels=1)
    assert report.refusals == ()


def test_what_has_no_elements_is_not_kept_apart():
    """Nothing computes it: it is no kernel."""

    def program(x, w):
        return t.mm(x.exp(), w.exp()), torch.relu(t.mm(x.T, x)[:0])

    report = assert_fused(program, (torch.randn(20, 0), torch.randn(0, 30)), kernels=None)
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
    assert refusal.sort in [each.sort for each in tdsl.refusals()]
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


def test_layers_are_counted(monkeypatch):
    """Each is the same in all but the names that the graph has for it."""
    monkeypatch.setattr(tdsl.refusal, "_kept", {})

    def program(a, *weights):
        found = []
        for w in weights:
            z = torch.sigmoid(w)
            found += [t.mm(a, z), torch.cumsum(z, 0)]
        return found, t.mm(a, weights[0]).sum(0)

    report = assert_fused(program, (A, *(torch.randn(50, 90) for _ in range(5))), kernels=None)
    for found in (report.refusals, tdsl.refusals()):
        counts = {refusal.nodes: refusal.count for refusal in found}
        assert counts == {("sigmoid",): 5, ("sum_1",): 1} and len(found) == 2
        sigmoid, total = sorted(str(found).splitlines(), key=lambda line: "load B" not in line)
        assert "mm: sigmoid is kept out of load B, 5 times: it is also read by cumsum, so that" in sigmoid
        assert "mm: sum_1 is kept out of store C: " in total
        assert repr(found) == str(found)
    comments = [line.partition("# tdsl: ")[2] for line in report.code[0].splitlines() if "# tdsl: " in line]
    again = [line for line in comments if line.startswith("as said above, ")]
    assert [line.split()[3] for line in again] == [f"sigmoid_{at}" for at in range(1, 5)]
    assert len(comments) == len(again) + 2

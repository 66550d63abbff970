"""Where works go behind the results of a call, and why not: each reason, and beside it what is allowed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
import sympy

from tdsl.lower.inductor.fusion.facts import Call, Reach, Work
from tdsl.lower.inductor.fusion.placement import Placement, place
from tdsl.refusal import Reason
from tests.fusion.records import K, M, N, U, V, X, call, homes, read, reason, result, target, tensor, work

NOT_HELD, ANOTHER_BLOCK, HERE = Reach.NOT_HELD, Reach.ANOTHER_BLOCK, Reach.HERE
ROW = (6,)

# A layer norm: rows have their mean and deviation at hand where the whole is stored, and not the other way.
NORM = call(
    {"y": result("Y", 6, 4), "mean": result("MEAN", 6), "rstd": result("RSTD", 6)},
    reach={("mean", "y"): NOT_HELD, ("rstd", "y"): NOT_HELD},
)
PRODUCT = call({"c": result("C", 6, 4)}, {"a": tensor("A", 6, 5), "b": tensor("B", 5, 4)})
CLOSED = Reason(text="it is a sum over programs", help="none")


def described(found: Placement | Reason) -> Any:
    assert isinstance(found, Placement), found
    return (
        {param: [each.name for each in behind] for param, behind in found.epilogues.items()},
        {param: set(others) for param, others in found.results_read.items() if others},
        {param: dict(values) for param, values in found.values_read.items() if values},
    )


# Where what is allowed goes: the works, what is behind each result, which others and which values are read there.

ALLOWED: dict[str, tuple[list[Work], dict[str, list[str]], dict[str, set[str]], dict[str, dict[str, str]]]] = {
    "nothing": ([], {}, {}, {}),
    "one": ([work("relu", "Y")], {"y": ["relu"]}, {}, {}),
    "an argument beside it": ([work("add", "Y", "arg0", "arg1")], {"y": ["add"]}, {}, {}),
    "a chain": (
        [work("w1", "Y"), work("w2", "w1"), work("w3", "w2"), work("w4", "w3")],
        {"y": ["w1", "w2", "w3", "w4"]},
        {},
        {},
    ),
    "a chain that comes back": (
        [work("w1", "Y"), work("w2", "w1"), work("w3", "w2", "w1", "Y")],
        {"y": ["w1", "w2", "w3"]},
        {},
        {},
    ),
    "two of one": ([work("w1", "Y"), work("w2", "Y")], {"y": ["w1", "w2"]}, {}, {}),
    "a row": ([work("add", "MEAN", "arg0", size=ROW)], {"mean": ["add"]}, {}, {}),
    "each behind its own": (
        [work("w1", "RSTD", size=ROW), work("w2", "Y"), work("w3", "MEAN", size=ROW)],
        {"rstd": ["w1"], "y": ["w2"], "mean": ["w3"]},
        {},
        {},
    ),
    "another result": ([work("div", "Y", "RSTD")], {"y": ["div"]}, {"y": {"rstd"}}, {}),
    "both others": (
        [work("w1", "Y", "RSTD"), work("w2", "w1", "MEAN")],
        {"y": ["w1", "w2"]},
        {"y": {"mean", "rstd"}},
        {},
    ),
    "two rows": ([work("add", "RSTD", "MEAN", size=ROW)], {"mean": ["add"]}, {"mean": {"rstd"}}, {}),
    "a value": (
        [work("neg", "MEAN", size=ROW), work("add", "Y", "neg")],
        {"mean": ["neg"], "y": ["add"]},
        {},
        {"y": {"neg": "mean"}},
    ),
    "a value and its result": (
        [work("neg", "MEAN", size=ROW), work("add", "Y", "neg", "MEAN")],
        {"mean": ["neg"], "y": ["add"]},
        {"y": {"mean"}},
        {"y": {"neg": "mean"}},
    ),
    "a value of a value": (
        [work("w1", "RSTD", size=ROW), work("w2", "w1", "MEAN", size=ROW), work("w3", "w2", "Y")],
        {"rstd": ["w1"], "mean": ["w2"], "y": ["w3"]},
        {},
        {"mean": {"w1": "rstd"}, "y": {"w2": "mean"}},
    ),
    "two values": (
        [
            work("w1", "RSTD", size=ROW),
            work("w2", "MEAN", size=ROW),
            work("w3", "w1", "Y"),
            work("w4", "w2", "w3"),
        ],
        {"rstd": ["w1"], "mean": ["w2"], "y": ["w3", "w4"]},
        {},
        {"y": {"w1": "rstd", "w2": "mean"}},
    ),
    "a value that is at home": (
        [work("neg", "MEAN", size=ROW), work("add", "neg", "RSTD", size=ROW)],
        {"mean": ["neg", "add"]},
        {"mean": {"rstd"}},
        {},
    ),
    "what reads nothing": ([work("full")], {"y": ["full"]}, {}, {}),
    "what reads nothing of the call's": ([work("cos", "arg0")], {"y": ["cos"]}, {}, {}),
    "of two as large, behind the first": ([work("full", size=ROW)], {"mean": ["full"]}, {}, {}),
    "what reads nothing, and who reads that": (
        [work("full", size=ROW), work("add", "full", "RSTD", size=ROW), work("mul", "add", "Y")],
        {"mean": ["full", "add"], "y": ["mul"]},
        {"mean": {"rstd"}},
        {"y": {"add": "mean"}},
    ),
    "an output of the call": (
        [work("take", "Y", kind="output", size=(9,)), work("relu", "Y")],
        {"y": ["relu"]},
        {},
        {},
    ),
    "other shapes of as many": ([work("w1", "Y", size=(24,)), work("w2", "w1", size=(2, 3, 4))], {"y": ["w1", "w2"]}, {}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", ALLOWED)
def test_where_it_goes(case):
    works, *expected = ALLOWED[case]
    assert list(described(place(NORM, tuple(works), ()))) == expected


@pytest.mark.parametrize("prologue", [work("cat", "arg0", kind="other"), work("p", read("arg0", whole=True))])
def test_of_prologues_nothing_is_asked_but_what_they_read(prologue):
    assert homes(PRODUCT, work("relu", "C"), before=[prologue]) == {"c": ["relu"]}


# Why it goes nowhere: the works, of which the last is at fault, and words of the reason.

REFUSED: dict[str, tuple[list[Work], str]] = {
    "a reduction": ([work("sum", "Y", kind="reduction")], "it is a reduction"),
    "a library": ([work("mm", "Y", kind="library")], "a call of a library"),
    "a template": ([work("mm", "Y", kind="template")], "another template"),
    "a concatenation": ([work("cat", "Y", kind="other", what="Concat")], "not pointwise work (Concat)"),
    "C++ alone": ([work("f", "Y", lacking="'digamma'")], "it needs 'digamma'"),
    "as a whole": ([work("bucketize", "Y", read("arg0", whole=True))], "reads a tensor as a whole"),
    "a result as a whole": ([work("bucketize", read("Y", whole=True))], "reads a tensor as a whole"),
    "too few": ([work("slice", "Y", size=(5, 4))], "it has 20 elements, and 'y' has 24"),
    "too many": ([work("pad", "Y", size=(7, 4))], "it has 28 elements, and 'y' has 24"),
    "none": ([work("slice", "Y", size=(0, 4))], "it has 0 elements, and 'y' has 24"),
    "as many as a result that it does not read": ([work("pad", "MEAN")], "24 elements, and 'mean' has 6"),
    "between two": (
        [work("w", "Y", "RSTD", size=(12,))],
        "it has 12 elements, and 'rstd' has 6 and 'y' has 24",
    ),
    "reads nothing, and is as large as nothing": (
        [work("full", size=(5,))],
        "it has 5 elements, and 'y' has 24 and 'mean' has 6 and 'rstd' has 6",
    ),
    "behind a value": (
        [work("relu", "Y"), work("slice", "relu", size=(12,))],
        "it has 12 elements, and 'y' has 24",
    ),
    "too large where it is stored": (
        [work("w", "Y", "MEAN", size=ROW)],
        "it needs 'y' where 'mean' is stored, and the program does not have it there",
    ),
    "a value that is too large there": (
        [work("relu", "Y"), work("w", "relu", "MEAN", size=ROW)],
        "it needs 'y' where 'mean' is stored",
    ),
    "what reads nothing has to stay": (
        [work("full"), work("w", "full", "MEAN", size=ROW)],
        "it needs 'y' where 'mean' is stored",
    ),
    "memory of an unknown kind": ([work("cat", "Y", in_place=True)], "it writes into a tensor that exists"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_why_it_goes_nowhere(case):
    works, words = REFUSED[case]
    found = reason(NORM, *works)
    assert words in found.text and found.help
    assert isinstance(place(NORM, tuple(works[:-1]), ()), Placement)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_at_fault_may_come_later(case):
    """And what comes after it is not looked at."""
    works, words = REFUSED[case]
    before, after = work("before", "RSTD", size=ROW), work("after", "Y", size=(99,))
    assert words in reason(NORM, before, *works, after).text


def test_a_closed_result():
    half = call({"y": result("Y", 6, 4), "s": result("S", 6, closed=CLOSED)})
    assert reason(half, work("w", "S", size=ROW)) is CLOSED
    assert reason(half, work("w", "Y", "S")) is CLOSED
    assert reason(half, work("w", read("S", whole=True), size=ROW)) is CLOSED
    assert homes(half, work("w", "Y")) == {"y": ["w"]}
    assert homes(half, work("take", "S", kind="output")) == {}
    # It is no home of what reads nothing, either.
    assert "it has 6 elements, and 'y' has 24" in reason(half, work("full", size=ROW)).text
    assert "pointwise" in reason(half, work("w", "S", kind="other")).text


def test_no_result_is_open():
    closed = call({"s": result("S", 6, closed=CLOSED)})
    assert reason(closed, work("full", size=ROW)).text == "it has 6 elements, and 's' has 6"
    assert homes(closed) == {}


# What is at hand where


def pair(reach: dict[tuple[str, str], Reach], **options: Any) -> Call:
    results = {name: result(name.upper(), 6, 4) for name in "abc"}
    return call(results, reach=reach, **options)


EVERY = [(HERE, ""), (NOT_HELD, "the program does not have it there"), (ANOTHER_BLOCK, "a loop or a branch")]


@pytest.mark.parametrize("subtiled", [False, True])
@pytest.mark.parametrize("back, _", EVERY)
@pytest.mark.parametrize("there, why", EVERY)
def test_two_of_one_size(there, why, back, _, subtiled):
    """The first has the second at hand, or the second the first, or there is none for both."""
    found = place(pair({("a", "b"): there, ("b", "a"): back}, subtiled=subtiled), (work("w", "A", "B"),), ())
    if HERE in (there, back):
        home, other = ("a", "b") if there is HERE else ("b", "a")
        assert described(found) == ({home: ["w"]}, {home: {other}}, {})
    else:
        assert isinstance(found, Reason)
        assert found.text.startswith("it needs 'b' where 'a' is stored, and ") and why in found.text
        assert ("epilogue_subtile" in found.help) == subtiled
        assert ("in one block" in found.help) == (not subtiled)


def test_what_is_needed_is_what_is_not_at_hand():
    three = work("w", "A", "B", "C")
    nowhere = {("b", "a"): NOT_HELD, ("c", "a"): NOT_HELD}
    for missing, named in (("b", "'b'"), ("c", "'c'")):
        found = reason(pair({("a", missing): ANOTHER_BLOCK, **nowhere}), three)
        assert found.text.startswith(f"it needs {named} where 'a' is stored, and a loop or a branch")
    found = reason(pair({("a", "b"): NOT_HELD, ("a", "c"): NOT_HELD, **nowhere}), three)
    assert found.text == "it needs 'b', 'c' where 'a' is stored, and the program does not have it there"
    found = reason(pair({("a", "b"): NOT_HELD, ("a", "c"): ANOTHER_BLOCK, **nowhere}), three)
    assert "'b', 'c'" in found.text and "a loop or a branch" in found.text


def test_a_value_has_to_be_at_hand_as_its_result_has():
    apart = pair({("a", "b"): NOT_HELD, ("b", "a"): ANOTHER_BLOCK})
    assert "it needs 'b' where 'a'" in reason(apart, work("v", "B"), work("w", "A", "v")).text
    assert homes(apart, work("v", "B"), work("w", "C", "v")) == {"b": ["v", "w"]}


# Values that are computed behind each other

# Only b and c have d at hand: what reads it goes behind b, else c, whatever of a it reads, too.
RING = call(
    {name: result(name.upper(), 6, 4) for name in "abcd"},
    reach={("a", "d"): NOT_HELD, ("d", "a"): NOT_HELD, ("d", "b"): NOT_HELD, ("d", "c"): NOT_HELD},
)
AROUND = [work("va", "A"), work("vb", "B"), work("w", "A", "vb")]  # a needs what is behind b


def test_a_circle_of_two():
    found = reason(RING, *AROUND, work("last", "B", "D", "va"))
    assert found.text == (
        "it goes behind 'b', and reads what is computed behind 'a', which needs what is computed behind 'b'"
    )
    assert found.help == "compute it from 'a' itself"


def test_the_help_helps():
    """The stored value is at hand without what is fused behind it."""
    found = described(place(RING, (*AROUND, work("last", "B", "D", "A")), ()))
    assert found == (
        {"a": ["va", "w"], "b": ["vb", "last"]},
        {"b": {"a", "d"}},
        {"a": {"vb": "b"}},
    )


def test_no_circle_without_the_first_half():
    assert described(place(RING, (*AROUND[:2], work("last", "B", "D", "va")), ()))[2] == {"b": {"va": "a"}}


def test_a_circle_of_three():
    ring = call(
        {name: result(name.upper(), 6, 4) for name in "abcd"},
        reach={("a", "d"): NOT_HELD, ("b", "d"): NOT_HELD, **{("d", each): NOT_HELD for each in "abc"}},
    )
    works = [
        work("va", "A"),
        work("vb", "B"),
        work("vc", "C"),
        work("w1", "A", "vb"),  # a needs b
        work("w2", "B", "vc"),  # b needs c
    ]
    assert isinstance(place(ring, tuple(works), ()), Placement)
    found = reason(ring, *works, work("last", "C", "D", "va"))
    assert "it goes behind 'c', and reads what is computed behind 'a'" in found.text
    assert homes(ring, *works[:-1], work("last", "C", "D", "va"))["c"] == ["vc", "last"]


# Sizes that are not known

SYMBOLIC = [
    ((M, N), (M * N,), True),
    ((M, N), (N, M), True),
    ((M, N + 1), (M * N + M,), True),
    ((M + 1, M + 1), (M**2 + 2 * M + 1,), True),
    ((2 * M, N), (M, 2, N), True),
    ((M, N), (M, K), False),
    ((M, M), (M, N), False),
    ((M, N), (M, N + 1), False),
    ((M,), (6,), False),
    ((M, N), (M * N // 2 * 2,), False),
    ((M, 0), (N, 0), True),
]


@pytest.mark.parametrize("size, its, same", SYMBOLIC, ids=str)
def test_symbolic_sizes(size, its, same):
    """One number where that is known of all values, else not."""
    for mine, other in ((size, its), (its, size)):
        found = place(call({"y": result("Y", *mine)}), (work("w", "Y", size=other),), ())
        if same:
            assert described(found)[0] == {"y": ["w"]}
        else:
            assert isinstance(found, Reason)
            assert (
                found.text
                == f"it has {sympy.prod(other)} elements, and 'y' has {sympy.prod(sympy.sympify(mine))}"
            )


def test_symbolic_sizes_tell_results_apart():
    two = call({"y": result("Y", M, N), "s": result("S", M)}, reach={("s", "y"): NOT_HELD})
    works = work("w1", "Y", "S", size=(N, M)), work("w2", "S", size=(M,)), work("w3", size=(M,))
    assert homes(two, *works) == {"y": ["w1"], "s": ["w2", "w3"]}


# What is written in place


def copy(buffer: str, at: Any, taken: Any, name: str = "copy", **more: Any) -> Work:
    """C at the place `taken`, into `buffer` at the place `at`."""
    written = target(buffer, at, {"C": taken}, {X: 24}, **more)
    return work(name, "C", target=written)


def updating(own: Any, made: Any = None, **tensors: Any) -> Call:
    """It reads q as `inout` c."""
    return call({"c": made or result("C", 6, 4, inout=True)}, {"c": own, **tensors})


ADDED = "in place to a tensor that it also reads"
EXISTS = "it writes into a tensor that exists already"
Q = tensor("q", 6, 4)
# A call, what copies its result, and None or words of the reason.
FREE = {
    "a tensor that nobody reads": (PRODUCT, copy("q", X, X), None),
    "in another order": (PRODUCT, copy("q", 23 - X, X), None),
    "in parts": (PRODUCT, copy("q", 100 + 7 * X, X), None),
    "scattered": (PRODUCT, copy("q", X, X, scattered=True), EXISTS),
    "what the kernel reads": (PRODUCT, copy("A", X, X), EXISTS),
    "a view of what the kernel reads": (PRODUCT, copy("v", X, X, of=["A"]), EXISTS),
    "what the kernel reads a view of": (call(PRODUCT.results, {"a": tensor("v", 6, 4, of=["q"])}), copy("q", X, X), EXISTS),
    "its inout": (updating(Q), copy("q", X, X), None),
    "its inout, read twice": (updating(Q, a=tensor("q", 6, 4)), copy("q", X, X), ADDED),
    "its inout, and a view of it": (updating(Q, a=tensor("v", 6, 8, of=["q"])), copy("q", X, X), ADDED),
    "its inout, and another": (updating(Q, a=tensor("other", 6, 8)), copy("q", X, X), None),
    "its inout as another dtype": (updating(tensor("v", 6, 4, of=["q"])), copy("q", X, X), EXISTS),
    "no inout, but of its name": (updating(Q, result("C", 6, 4)), copy("q", X, X), EXISTS),
    "another parameter's inout": (call({"c": result("C", 6, 4, inout=True)}, {"d": Q}), copy("q", X, X), EXISTS),
    "where it read another element": (updating(Q), copy("q", 23 - X, X), EXISTS),
    "where the next one is": (updating(Q), copy("q", X + 1, X), EXISTS),
    "scattered over its inout": (updating(Q), copy("q", sympy.Symbol("tmp0", integer=True), X, scattered=True), EXISTS),
    "something else than its result": (
        updating(Q),
        work("copy", "C", target=target("q", X, {"other": X}, {X: 24})),
        EXISTS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FREE)
def test_into_which_tensor(case):
    made, copying, words = FREE[case]
    found = place(made, (copying,), ())
    if words is None:
        assert described(found)[0] == {"c": ["copy"]}
    else:
        assert isinstance(found, Reason) and words in found.text


FLAT = {X: 24}
GRID = {U: 6, V: 4}
OPEN = {U: M, V: N}
# Of the tensor: its sizes, strides and offset. Of the loops: their ranges, where they write, and what of C they read.
PLACES = {
    "contiguous": ((6, 4), (4, 1), 0, GRID, 4 * U + V, 4 * U + V, True),
    "contiguous, in one loop": ((6, 4), (4, 1), 0, FLAT, X, X, True),
    "an offset": ((6, 4), (4, 1), 5, GRID, 5 + 4 * U + V, 4 * U + V, True),
    "an offset that is left out": ((6, 4), (4, 1), 5, GRID, 4 * U + V, 4 * U + V, False),
    "an offset, in one loop": ((6, 4), (4, 1), 5, FLAT, X + 5, X, True),
    "columns of a wider one": ((6, 4), (9, 1), 2, GRID, 2 + 9 * U + V, 4 * U + V, True),
    "columns, as if it were dense": ((6, 4), (9, 1), 0, GRID, 4 * U + V, 4 * U + V, False),
    "every second column": ((6, 4), (8, 2), 1, GRID, 1 + 8 * U + 2 * V, 4 * U + V, True),
    "the next columns": ((6, 4), (8, 2), 1, GRID, 8 * U + 2 * V, 4 * U + V, False),
    "transposed": ((6, 4), (1, 6), 0, GRID, U + 6 * V, 4 * U + V, True),
    "transposed, as if it were not": ((6, 4), (1, 6), 0, GRID, 4 * U + V, 4 * U + V, False),
    "transposed, and the wrong way": ((4, 4), (1, 4), 0, {U: 4, V: 4}, U + 4 * V, U + 4 * V, False),
    "the loops turned": ((6, 4), (4, 1), 0, {V: 4, U: 6}, 4 * U + V, 4 * U + V, True),
    "sliced rows": ((3, 4), (8, 1), 0, {U: 3, V: 4}, 8 * U + V, 4 * U + V, True),
    "an axis of one": ((1, 4), (77, 1), 3, {V: 4}, 3 + V, V, True),
    "a number": ((), (), 7, {}, 7, 0, True),
    "another number": ((), (), 7, {}, 6, 0, False),
    "three axes": ((2, 3, 4), (30, 5, 1), 0, {X: 2, U: 3, V: 4}, 30 * X + 5 * U + V, 12 * X + 4 * U + V, True),
    "two axes changed": ((2, 3, 4), (4, 8, 1), 0, {X: 2, U: 3, V: 4}, 4 * X + 8 * U + V, 12 * X + 4 * U + V, True),
    "open sizes": ((M, N), (N, 1), 0, OPEN, N * U + V, N * U + V, True),
    "open sizes, and an offset": ((M, N), (N, 1), K, OPEN, K + N * U + V, N * U + V, True),
    "open sizes, another offset": ((M, N), (N, 1), K, OPEN, M + N * U + V, N * U + V, False),
    "columns of open sizes": ((M, N), (K, 1), 0, OPEN, K * U + V, N * U + V, True),
    "columns of open sizes, the wrong step": ((M, N), (K, 1), 0, OPEN, M * U + V, N * U + V, False),
    "open sizes in one loop": ((M, N), (N, 1), 0, {X: M * N}, X, X, True),
}  # fmt: skip


@pytest.mark.parametrize("case", PLACES)
def test_to_which_places(case):
    """To the element that was read for the one that is copied, and to no other."""
    size, stride, offset, ranges, at, of, same = PLACES[case]
    made = updating(tensor("q", *size, stride=stride, offset=offset), result("C", *size, inout=True))
    copying = work("copy", "C", size=size, target=target("q", at, {"C": of}, ranges))
    found = place(made, (copying,), ())
    if same:
        assert described(found)[0] == {"c": ["copy"]}
    else:
        assert isinstance(found, Reason) and EXISTS in found.text


@pytest.mark.parametrize("stride", [(1, 6), (4, 1)], ids=str)
def test_a_result_that_is_laid_out_as_its_tensor(stride):
    """It is read in the order of its memory, which the tensor has, too."""
    made = updating(tensor("q", 6, 4, stride=stride, offset=9), result("C", 6, 4, stride=stride, inout=True))
    assert homes(made, copy("q", X + 9, X)) == {"c": ["copy"]}
    other = updating(tensor("q", 6, 4, stride=stride), result("C", 6, 4, stride=stride[::-1], inout=True))
    assert EXISTS in reason(other, copy("q", X, X)).text


def counted(made: Call, copying: Work) -> bool:
    """Whether each element goes where its own was, by going through all of them."""
    (own,), (out,), written = made.tensors.values(), made.results.values(), copying.target
    assert written is not None
    symbols = list(written.ranges)
    taken, put = (sympy.lambdify(symbols, where) for where in (written.places_read["C"], written.place))
    for index in itertools.product(*(range(int(written.ranges[symbol])) for symbol in symbols)):
        left, there = taken(*index), int(own.offset)
        for length, step, its in sorted(
            zip(out.size, own.stride, out.stride, strict=True), key=lambda axis: -axis[2]
        ):
            if length != 1:
                there += int(step) * (left // int(its))
                left %= int(its)
        if there != put(*index):
            return False
    return True


def test_places_against_counting():
    draw = random.Random(0)
    seen = set()
    for _ in range(120):
        size = [draw.choice([1, 2, 3, 5]) for _ in range(draw.randint(1, 3))]
        symbols = [U, V, X][: len(size)]

        def dense(order: list[int], extra: int = 0, size: list[int] = size) -> list[int]:
            steps, step = [0] * len(size), 1
            for axis in order:
                steps[axis] = step
                step = step * size[axis] + extra
            return steps

        axes = list(range(len(size)))
        order = draw.sample(axes, len(axes))
        stride = dense(order, draw.choice([0, 0, 3]))
        own = dense(draw.sample(axes, len(axes)) if draw.random() < 0.3 else axes[::-1])
        offset = draw.choice([0, 0, 4])
        written = stride if draw.random() < 0.7 else dense(axes[::-1])
        made = updating(
            tensor("q", *size, stride=stride, offset=offset), result("C", *size, stride=own, inout=True)
        )
        ranges = dict(zip(symbols, size, strict=True))
        at = sum(step * symbol for step, symbol in zip(written, symbols, strict=True))
        of = sum(step * symbol for step, symbol in zip(own, symbols, strict=True))
        copying = work(
            "copy",
            "C",
            size=size,
            target=target("q", at + draw.choice([offset, offset, 0]), {"C": of}, ranges),
        )
        found, same = place(made, (copying,), ()), counted(made, copying)
        assert isinstance(found, Placement) <= same, (size, stride, own, at, of)
        seen.add((isinstance(found, Placement), same))
    assert {(True, True), (False, False)} <= seen


# Who else reads what is written. It is q, which the call reads as its inout, or not at all.

BEHIND, IN_FRONT = "behind", "in front"
OTHERS = {
    "nobody": ([], [], None),
    "another tensor, behind": ([work("w", "C", "arg0")], [], None),
    "another tensor, in front": ([], [work("p", "arg0")], None),
    "the tensor, behind": ([work("w", "C", "q")], [], ADDED),
    "the tensor, in front": ([], [work("p", "q")], ADDED),
    "a view of it, behind": ([work("w", "C", read("v", of=["v", "q"]))], [], ADDED),
    "a view of it, in front": ([], [work("p", read("v", of=["v", "q"]))], ADDED),
    "it, under the name of an earlier write": ([work("w", "C", read("q1", of=["q"]))], [], ADDED),
    "it, as a later write left it": ([work("w", read("copy", of=["q"]))], [], None),
    "what a prologue made": ([], [work("p1", "arg0"), work("p2", read("p1", of=["p1"]))], None),
    "it, as a whole, in front": ([], [work("p", read("q", whole=True))], ADDED),
}


@pytest.mark.parametrize("inout", [False, True])
@pytest.mark.parametrize("case", OTHERS)
def test_who_else_reads_it(case, inout):
    behind, before, words = OTHERS[case]
    made = updating(Q) if inout else PRODUCT
    copying = copy("q", X, X)
    # What reads the old value comes before the write, what reads the new one after it.
    works = [*behind, copying] if words else [copying, *behind]
    for order in itertools.permutations(works) if words else [works]:
        found = place(made, tuple(order), tuple(before))
        if words is None:
            assert isinstance(found, Placement)
        else:
            assert isinstance(found, Reason) and words in found.text
    without = place(made, tuple(each for each in behind if each.makes != {"w"}), tuple(before))
    assert isinstance(without, Placement)


def test_the_work_itself_reads_what_it_writes():
    copying = work("add", "C", "q", target=target("q", X, {"C": X, "q": X}, {X: 24}))
    assert ADDED in reason(PRODUCT, copying).text
    other = work("add", "C", "r", target=target("q", X, {"C": X, "r": X}, {X: 24}))
    assert homes(PRODUCT, other) == {"c": ["add"]}


def test_a_chain_into_a_tensor():
    works = work("relu", "C"), work("copy", "relu", target=target("q", X, {"relu": X}, {X: 24}))
    assert homes(PRODUCT, *works) == {"c": ["relu", "copy"]}
    # Of its inout the result itself is asked for.
    assert EXISTS in reason(updating(Q), *works).text


@pytest.mark.parametrize("first", ["q", "r"])
def test_two_tensors_are_written(first):
    second = "r" if first == "q" else "q"
    works = [copy(first, X, X), copy(second, X, X, name="again")]
    assert homes(PRODUCT, *works) == {"c": ["copy", "again"]}
    assert ADDED in reason(PRODUCT, work("w", "C", "r"), *works).text
    assert ADDED in reason(PRODUCT, work("w", "C", "q"), *works).text
    assert homes(PRODUCT, work("w", "C", "s"), *works) == {"c": ["w", "copy", "again"]}


def test_two_inouts_are_written():
    tensors = {"c": tensor("q", 6, 4), "d": tensor("r", 6, 4)}
    results = {"c": result("C", 6, 4, inout=True), "d": result("D", 6, 4, inout=True)}
    both = call(results, tensors)
    own = work("own", "D", target=target("r", X, {"D": X}, {X: 24}))
    assert homes(both, copy("q", X, X), own) == {"c": ["copy"], "d": ["own"]}
    crossed = work("crossed", "D", target=target("q", X, {"D": X}, {X: 24}))
    assert EXISTS in reason(both, crossed).text
    same = call(results, {"c": tensor("q", 6, 4), "d": tensor("q", 6, 4, offset=24)})
    assert ADDED in reason(same, copy("q", X, X)).text


# Against a model: programs of a few works, and every way to lay them out


def program(draw: random.Random, *, distinct: bool) -> tuple[Call, list[Work]]:
    """`distinct`: no two results are of one size."""
    names = "abc"[: draw.randint(1, 3)]
    sizes = {
        name: number if distinct else draw.choice([2, 3])
        for name, number in zip(names, (2, 3, 5), strict=False)
    }
    reach = {
        each: draw.choice([HERE, HERE, HERE, NOT_HELD, ANOTHER_BLOCK])
        for each in itertools.permutations(names, 2)
    }
    made = call({name: result(name.upper(), size) for name, size in sizes.items()}, reach=reach)
    works: list[Work] = []
    for at in range(draw.randint(1, 5)):
        known = [*names.upper(), *(each.name for each in works)]
        reads = draw.sample(known, min(len(known), draw.choice([0, 1, 1, 2, 2, 3])))
        works.append(work(f"w{at}", *reads, size=(draw.choice([*sizes.values(), *sizes.values(), 7]),)))
    return made, works


def is_layout(made: Call, works: list[Work], homes: dict[str, str]) -> bool:
    """Whether each work has what it reads where it is, and the slots can be put in an order."""
    needs: set[tuple[str, str]] = set()
    stored = {out.buffer: param for param, out in made.results.items()}
    for each in works:
        home = homes[each.name]
        if sympy.prod(made.results[home].size) != each.numel:
            return False
        for name in [one.buffer for one in each.reads]:
            other = stored.get(name) or homes[name]
            if other != home and made.reach[home, other] is not HERE:
                return False
            if other != home and name in homes:
                needs.add((home, other))
    slots = set(made.results)
    while slots:
        ready = {slot for slot in slots if not any((slot, other) in needs for other in slots)}
        if not ready:
            return False
        slots -= ready
    return True


def layouts(made: Call, works: list[Work]) -> Iterator[dict[str, str]]:
    for chosen in itertools.product(made.results, repeat=len(works)):
        homes = {each.name: param for each, param in zip(works, chosen, strict=True)}
        if is_layout(made, works, homes):
            yield homes


def laid_out(found: Placement) -> dict[str, str]:
    return {each.name: param for param, behind in found.epilogues.items() for each in behind}


@pytest.mark.parametrize("distinct", [True, False])
def test_against_every_layout(distinct):
    draw = random.Random(1)
    seen = {True: 0, False: 0}
    for _ in range(300):
        made, works = program(draw, distinct=distinct)
        found = place(made, tuple(works), ())
        placed = isinstance(found, Placement)
        seen[placed] += 1
        if isinstance(found, Placement):
            assert is_layout(made, works, laid_out(found))
            check_reads(made, works, found)
        if distinct:
            # A work can go behind the result of its own size alone: there is no second choice.
            possible = list(layouts(made, works))
            assert placed <= bool(possible)
            if possible and not placed:
                # All that can be said against it: the result that it fits is not among what it reads.
                assert "elements, and" in found.text
    assert min(seen.values()) > 50


def check_reads(made: Call, works: list[Work], found: Placement) -> None:
    """What is said to be read of other slots is what the works there read, no more and no less."""
    homes = laid_out(found)
    stored = {out.buffer: param for param, out in made.results.items()}
    for param in made.results:
        names = {one.buffer for each in works if homes[each.name] == param for one in each.reads}
        assert found.results_read.get(param, frozenset()) == {
            stored[name] for name in names if name in stored
        } - {param}
        values = {name: homes[name] for name in names if name in homes and homes[name] != param}
        assert dict(found.values_read.get(param, {})) == values
    order = [each.name for each in works]
    for behind in found.epilogues.values():
        assert [order.index(each.name) for each in behind] == sorted(
            order.index(each.name) for each in behind
        )


def orders(works: list[Work]) -> Iterator[tuple[Work, ...]]:
    """Those in which each comes after what it reads."""
    for order in itertools.permutations(works):
        made = {name: at for at, each in enumerate(order) for name in each.makes}
        if all(made.get(one.buffer, -1) < at for at, each in enumerate(order) for one in each.reads):
            yield order


def test_the_order_of_what_is_independent_changes_nothing():
    draw = random.Random(2)
    several = 0
    for _ in range(150):
        made, works = program(draw, distinct=False)
        found = [place(made, order, ()) for order in orders(works)]
        several += len(found) > 1
        placements = [each for each in found if isinstance(each, Placement)]
        assert len(placements) in (0, len(found))
        for each in placements:
            assert laid_out(each) == laid_out(placements[0])
            assert described(each)[1:] == described(placements[0])[1:]
    assert several > 50


def test_a_part_of_what_goes_goes():
    """The scheduler fuses one work after the other: what went before goes where it went."""
    draw = random.Random(3)
    for _ in range(200):
        made, works = program(draw, distinct=False)
        found = place(made, tuple(works), ())
        for count in range(len(works)):
            part = place(made, tuple(works[:count]), ())
            if isinstance(found, Placement):
                assert isinstance(part, Placement)
                assert laid_out(part).items() <= laid_out(found).items()
            elif isinstance(part, Reason):
                assert part == found

"""Which prologues cost more in a kernel than apart from it: the arithmetic, its directions, and what a person reads."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tdsl.lower.inductor.fusion import cost
from tdsl.lower.inductor.fusion.cost import OPERAND, OPERATIONS, SPECIAL, costs_more_fused, estimate
from tdsl.lower.inductor.fusion.facts import Effort, Load
from tests.fusion.records import call

LANES = 132 * 128 * 1.7e9  # operations in a second
SIDE = 4096
ELEMENTS = SIDE * SIDE
BF16 = 2 * ELEMENTS  # bytes of a matrix


def loading(*loads, multiplies=True, moved=0):
    """A call with these loads: each a buffer and how many elements, or a record."""
    found = [each if isinstance(each, Load) else Load(buffer=each[0], elements=each[1]) for each in loads]
    return call({}, loads=found, multiplies=multiplies, moved=moved)


def effort(elements=ELEMENTS, read=BF16, written=BF16, buffer="B", **operations):
    return Effort(elements=elements, operations=operations, read=read, written={buffer: written})


# The numbers that the documents have


def documented():
    """The lines of the module's docstring: what, its operations, and the two costs in microseconds."""
    form = r"^ +(.+?) {2,}.*fused (\d+) us +apart (\d+) us +-> (\w+)$"
    return re.findall(form, cost.__doc__, re.MULTILINE)


WORKS = {
    "sigmoid(B)": (32, effort(sigmoid=1, load=1, store=1)),
    "q.to(bf16) * s": (32, effort(read=ELEMENTS, to_dtype=1, mul=1, load=2)),
    "the same, 16 rows of A: no element is loaded twice": (
        1,
        effort(read=ELEMENTS, to_dtype=1, mul=1, load=2),
    ),
}


@pytest.mark.parametrize("line", documented(), ids=lambda line: line[0])
def test_the_numbers_of_the_docstring(line):
    what, fused, apart, decision = line
    blocks, made = WORKS[what]
    loads = loading(("B", blocks * ELEMENTS))
    found = estimate(loads, made, "B")
    assert (f"{found.fused * 1e6:.0f}", f"{found.apart * 1e6:.0f}") == (fused, apart)
    assert (costs_more_fused(loads, made) is None) == (decision == "fused")


def test_the_docstring_has_every_work():
    assert [what for what, *_ in documented()] == list(WORKS)


@pytest.mark.parametrize(
    "row, made",
    [
        ("`relu(B)`, `B * scale`", effort(relu=1)),
        ("`q.to(bf16) * scale`, q int8", effort(read=ELEMENTS, to_dtype=1, mul=1)),
        ("`B + other`, a cast from float32", effort(read=2 * BF16, add=1)),
        ("`sigmoid(B)`", effort(sigmoid=1)),
    ],
)
def test_the_numbers_of_the_page(row, made):
    text = (Path(__file__).parents[2] / "docs" / "fusion.md").read_text(encoding="utf-8")
    (cells,) = [line.split("|")[2:5] for line in text.splitlines() if line.startswith(f"| {row} |")]
    for cell, blocks in zip(cells, (32, 4, 1), strict=True):
        loads = loading(("B", blocks * ELEMENTS))
        found, refused = estimate(loads, made, "B"), costs_more_fused(loads, made)
        decision = "fused" if refused is None else "apart"
        numbers = f"{found.fused * 1e6:.0f} us against {found.apart * 1e6:.0f}: {decision}"
        assert cell.strip() == (numbers if blocks > 1 else "fused")


# Operations


@pytest.mark.parametrize("name", ["load", "store", "output", "constant", "get_index", "masked"])
def test_what_is_no_operation(name):
    assert estimate(loading(("B", 8)), effort(4, **{name: 9}), "B").operations == 0


@pytest.mark.parametrize(
    "name, weight",
    [
        ("add", 1),
        ("one of tomorrow's", 1),
        ("exp", SPECIAL),
        ("truediv", SPECIAL),
        ("sigmoid", 2 * SPECIAL),
        ("pow", 4 * SPECIAL),
        ("randn", 8 * SPECIAL),
    ],
)
def test_what_operations_weigh(name, weight):
    found = estimate(loading(("B", 8)), effort(4, **{name: 3, "sub": 2}), "B")
    assert found.operations == 3 * weight + 2


def test_every_weight_counts():
    assert all(
        estimate(loading(("B", 2)), effort(1, **{name: 1}), "B").operations == weight
        for name, weight in OPERATIONS.items()
    )


# The arithmetic


@pytest.mark.parametrize("multiplies", [True, False])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_each_load_but_one_is_computed_again(multiplies, times):
    found = estimate(loading(("B", times * 1000), multiplies=multiplies), effort(1000, exp=1), "B")
    assert found.loaded == times
    once = 1000 * (SPECIAL + OPERAND * multiplies) / LANES
    assert found.fused == pytest.approx((times - 1) * once)


@pytest.mark.parametrize("elements", [0, 1, 999, 1000])
def test_what_is_loaded_at_most_once_costs_nothing(elements):
    made = effort(1000, read=10**12, written=1, randn=99)
    loads = loading(("B", elements))
    assert estimate(loads, made, "B").fused == 0
    assert costs_more_fused(loads, made) is None


def test_one_element():
    found = estimate(loading(("B", 10**9)), effort(1, read=4, written=4, exp=1), "B")
    assert (found.loaded, found.apart) == (10**9, pytest.approx(cost.LAUNCH + 8 / 3e12))
    assert costs_more_fused(loading(("B", 10**9)), effort(1, read=4, written=4, exp=1)) is not None


def test_several_loads_of_one_tensor_add_up():
    apart, together = loading(("B", 300), ("A", 77), ("B", 700)), loading(("B", 1000))
    made = effort(100, exp=2)
    assert estimate(apart, made, "B") == estimate(together, made, "B")
    assert estimate(apart, made, "B").loaded == 10


@pytest.mark.parametrize(
    "read, written, more", [(0, 8, 0), (8, 8, 0), (24, 8, 16), (8, 24, 0), (10**6, 0, 10**6)]
)
def test_bytes_that_are_read_instead_of_those_written(read, written, more):
    """As often as an element is loaded again; fewer are no gain."""
    found = estimate(loading(("B", 30)), effort(10, read=read, written=written, buffer="B"), "B")
    assert found.fused == pytest.approx(20 * OPERAND / LANES + 2 * more / 6e12)
    assert found.apart == pytest.approx(3e-6 + 2 * written / 3e12)
    assert (found.read, found.written) == (read, written)


@pytest.mark.parametrize("moved", [0, 10**6, 10**8, 10**12])
def test_what_waits_for_memory_hides_arithmetic(moved):
    made = effort(10**6, read=0, written=0, exp=3)
    computing = 9e6 * 3 * SPECIAL / LANES
    loads = loading(("B", 10**7), multiplies=False, moved=moved)
    assert estimate(loads, made, "B").fused == pytest.approx(max(0, computing - moved / 3e12 / 2))


def test_it_hides_no_reading():
    made = effort(10**6, read=10**7, written=0, exp=3)
    found = estimate(loading(("B", 10**7), multiplies=False, moved=10**15), made, "B")
    assert found.fused == pytest.approx(9 * 10**7 / 6e12)


@pytest.mark.parametrize("moved", [0, 10**15])
def test_a_product_hides_nothing(moved):
    found = estimate(loading(("B", 2 * 10**6), moved=moved), effort(10**6, add=1), "B")
    assert found.fused == pytest.approx(10**6 * (1 + OPERAND) / LANES)


# Directions: (what grows, how each side of the comparison may change)

BASE = {"loads": 4 * ELEMENTS, "exp": 2, "read": 2 * BF16, "written": BF16, "moved": BF16}


def side(multiplies, **changed):
    numbers = BASE | changed
    made = effort(read=numbers["read"], written=numbers["written"], exp=numbers["exp"])
    loads = loading(("B", numbers["loads"]), multiplies=multiplies, moved=numbers["moved"])
    return estimate(loads, made, "B"), costs_more_fused(loads, made)


@pytest.mark.parametrize("multiplies", [True, False], ids=["product", "no product"])
@pytest.mark.parametrize(
    "what, fused, apart",
    [("loads", 1, 0), ("exp", 1, 0), ("read", 1, 0), ("written", -1, 1), ("moved", -1, 0)],
)
def test_monotone(what, fused, apart, multiplies):
    grown = [side(multiplies, **{what: BASE[what] * factor // 4}) for factor in range(33)]
    for (less, refused), (more, still) in itertools.pairwise(grown):
        assert (more.fused - less.fused) * fused >= 0
        assert (more.apart - less.apart) * apart >= 0
        if fused == 1:
            assert refused is None or still is not None
        else:
            assert still is None or refused is not None
    ends = grown[0][0], grown[-1][0]
    changes = ends[0].fused != ends[1].fused, ends[0].apart != ends[1].apart
    assert changes == (what != "moved" or not multiplies, what == "written")


# Which of a work's tensors count


DEAR = {"exp": 20}
OFTEN = 32 * ELEMENTS


def test_a_tensor_that_the_call_does_not_load_costs_nothing():
    assert costs_more_fused(loading(("A", OFTEN)), effort(**DEAR)) is None
    assert costs_more_fused(loading(), effort(**DEAR)) is None
    assert costs_more_fused(loading(("B", OFTEN)), effort(**DEAR)) is not None


@pytest.mark.parametrize("always", [(False, True), (True, False), (True, True), (False, False)])
def test_one_of_its_points_that_says_fuse_is_enough(always):
    loads = [Load(buffer="B", elements=OFTEN, always=each) for each in always]
    assert (costs_more_fused(loading(*loads), effort(**DEAR)) is None) == any(always)


def test_fuse_speaks_of_one_tensor():
    says = Load(buffer="A", elements=OFTEN, always=True, text="load A[m, k] fuse")
    other = Load(buffer="B", elements=OFTEN, text="load B[k, n]")
    made = Effort(elements=ELEMENTS, operations=DEAR, read=BF16, written={"A": BF16, "B": BF16})
    found = costs_more_fused(loading(says, other), made)
    assert found is not None and found.help.startswith("'load B[k, n] fuse'")
    assert costs_more_fused(loading(says), made) is None


@pytest.mark.parametrize("order", [("A", "B"), ("B", "A")])
def test_any_tensor_that_costs_more_is_a_reason(order):
    made = Effort(elements=ELEMENTS, operations=DEAR, read=BF16, written=dict.fromkeys(order, BF16))
    loads = [
        Load(buffer="A", elements=ELEMENTS, text="load A[m, k]"),
        Load(buffer="B", elements=OFTEN, text="load B[k, n]"),
    ]
    found = costs_more_fused(loading(*loads), made)
    assert found is not None and "load B[k, n] fuse" in found.help


def test_a_tie_is_fused(monkeypatch):
    made = effort(10**6, read=0, written=0, add=1)
    loads = loading(("B", 3 * 10**6))
    fused = estimate(loads, made, "B").fused
    monkeypatch.setattr(cost, "LAUNCH", fused)
    assert costs_more_fused(loads, made) is None
    monkeypatch.setattr(cost, "LAUNCH", fused * 0.999)
    assert costs_more_fused(loads, made) is not None


# What a person reads


def test_the_text():
    loads = loading(
        Load(buffer="B", elements=OFTEN, text="load B[k, n]"),
        Load(buffer="B", elements=ELEMENTS, text="load B[n, k]"),
    )
    found = costs_more_fused(loads, effort(read=BF16, written=BF16, sigmoid=1, load=1, store=1))
    assert found is not None
    fused = 32 * ELEMENTS * (16 + 6) / LANES
    apart = 3e-6 + 2 * BF16 / 3e12
    assert found.text == (
        f"computing it there costs about {fused * 1e6:.0f} us, keeping it apart {apart * 1e6:.0f} us "
        "(each element is loaded 33 times; 16 operations on it, 33,554,432 bytes read, 33,554,432 written)"
    )
    assert found.help == "'load B[k, n] fuse' fuses it whatever it costs"


@pytest.mark.parametrize(
    "launch, shown", [(3e-6, "3.0 us"), (9.94e-6, "9.9 us"), (1e-5, "10 us"), (2.36e-5, "24 us")]
)
def test_few_microseconds_have_a_digit_more(monkeypatch, launch, shown):
    monkeypatch.setattr(cost, "LAUNCH", launch)
    found = costs_more_fused(loading(("B", 10**12)), effort(10, read=0, written=0, exp=1))
    assert found is not None and f"keeping it apart {shown} (" in found.text

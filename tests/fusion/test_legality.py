"""What work no kernel of a template takes, by its record alone."""

from __future__ import annotations

import itertools

import pytest

from tdsl.lower.inductor.fusion.legality import not_pointwise
from tests.fusion.records import work

# As they are asked for: the first of these that is among the works is the reason.
KINDS = {"template": "another template", "library": "a call of a library", "reduction": "it is a reduction"}
RELU = work("relu", "Y")


def said(*works):
    reason = not_pointwise(works)
    assert reason is not None and reason.text and reason.help
    return reason.text


@pytest.mark.parametrize("count", range(4))
def test_pointwise_work_may_move(count):
    assert not_pointwise([RELU] * count) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", range(3))
def test_one_of_several_is_enough(kind, at):
    works = [RELU, RELU]
    works.insert(at, work("other", "Y", kind=kind))
    assert KINDS[kind] in said(*works)


@pytest.mark.parametrize("kinds", list(itertools.permutations(KINDS)), ids="-".join)
def test_the_kind_goes_before_the_order(kinds):
    works = [work(kind, "Y", kind=kind) for kind in kinds]
    assert KINDS["template"] in said(*works)
    without = [each for each in works if each.kind != "template"]
    assert KINDS["library"] in said(*without)


@pytest.mark.parametrize("kind", ["other", "output"])
@pytest.mark.parametrize("what", ["ConcatKernel", "Sort"])
def test_what_is_nothing_of_these_is_named(kind, what):
    assert said(RELU, work("cat", "Y", kind=kind, what=what)) == f"it is not pointwise work ({what})"


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_goes_before_what_is_not_pointwise_and_what_is_lacking(kind):
    other = work("cat", kind="other", what="ConcatKernel")
    lacking = work("digamma", lacking="'digamma'")
    assert KINDS[kind] in said(other, lacking, work("last", kind=kind))


@pytest.mark.parametrize("lacking", ["'digamma'", "torch.float8_e8m0fnu"])
def test_what_is_lacking_is_named(lacking):
    assert (
        said(RELU, work("f", "Y", lacking=lacking))
        == f"it needs {lacking}, which kernels in Triton do not have"
    )


def test_of_what_is_not_pointwise_and_what_is_lacking_the_first_counts():
    other, lacking = work("cat", kind="other", what="ConcatKernel"), work("f", lacking="'frexp'")
    assert "ConcatKernel" in said(RELU, other, lacking)
    assert "'frexp'" in said(RELU, lacking, other)
    assert "'frexp'" in said(lacking, work("g", lacking="'digamma'"))


def test_one_reason_for_each():
    """So that a program's refusals can be told apart, and a person can look one up."""
    works = [
        *(work(kind, kind=kind) for kind in KINDS),
        work("cat", kind="other", what="ConcatKernel"),
        work("f", lacking="'frexp'"),
    ]
    assert len({said(each) for each in works}) == len(works)
    assert len({not_pointwise([each]).help for each in works}) == len(works)

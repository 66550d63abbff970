"""The stages together."""

from __future__ import annotations

import pytest

from tdsl import pipeline
from tdsl.diagnostics import TdslError
from tdsl.source import Source

COPY = "template {}(x: T[N]) -> y: T[N]:\n    for n in grid(N by 64):\n        store y[n] = load x[n]\n"


def test_each_stage_is_kept() -> None:
    stages = pipeline.run(Source("a.tdsl", COPY.format("one") + COPY.format("two")))
    assert [kernel.name for kernel in stages.kernels] == ["one", "two"]
    assert stages.template("two").name.name == "two"
    assert pipeline.run(Source("a.tdsl", COPY.format("one") + COPY.format("two"))) is stages


def test_load() -> None:
    both = Source("a.tdsl", COPY.format("one") + COPY.format("two"))
    assert pipeline.load(both, "two").name == "two"
    assert pipeline.load(Source("a.tdsl", COPY.format("one"))).name == "one"


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (COPY.format("one"), "ones", "a.tdsl has no template 'ones'\n"),
        (COPY.format("one") + COPY.format("two"), None, "a.tdsl has 2 templates: one, two"),
        ("", None, "a.tdsl has no template\n"),
    ],
)
def test_load_what_is_not_there(text: str, name: str | None, said: str) -> None:
    with pytest.raises(TdslError, match=said):
        pipeline.load(Source("a.tdsl", text), name)


def test_syntax_and_meaning_are_told_together() -> None:
    text = COPY.format("one").replace("x[n]", "z[n]") + COPY.format("two").replace("store", "stor")
    with pytest.raises(TdslError) as caught:
        pipeline.check_text(Source("a.tdsl", text))
    assert [each.code.value for each in caught.value.diagnostics] == ["unknown-name", "syntax"]


def test_a_helper_that_is_lost_is_not_missed() -> None:
    text = "def f(v): retur v\n" + COPY.format("one").replace("load x[n]", "f(load x[n])")
    with pytest.raises(TdslError) as caught:
        pipeline.check_text(Source("a.tdsl", text))
    assert [each.code.value for each in caught.value.diagnostics] == ["syntax"]

"""The names that cannot be bound are those that mean something."""

from __future__ import annotations

import pytest

from tdsl.check.names import FUNCTIONS
from tdsl.diagnostics import Code, TdslError
from tdsl.grammar import parse, reserved
from tdsl.source import Source

TEXTS = (
    "template f({name}: f32[M]):\n    pass\n",
    "template f(x: f32[{name}]):\n    pass\n",
    "template f(x: f32[M]):\n    let {name} = 1\n    pass\n",
    "template f(x: f32[M]):\n    {name} = 1\n",
    "template f(x: f32[M]):\n    for {name} in grid(M): pass\n",
    "template {name}(x: f32[M]):\n    pass\n",
    "def {name}(x): return x\n",
    "def f({name}): return {name}\n",
)
KEYWORDS = ("load", "store", "where", "by", "template", "class", "del", "while")


def test_the_checker_knows_the_same_functions() -> None:
    # 'where' is a keyword, too.
    assert {*reserved.FUNCTIONS, "where"} == FUNCTIONS.keys()


@pytest.mark.parametrize("text", TEXTS)
def test_no_such_name_can_be_bound(text: str) -> None:
    for name in (*reserved.RESERVED, *KEYWORDS):
        with pytest.raises(TdslError) as caught:
            parse(Source("<string>", text.format(name=name)))
        assert Code.RESERVED_NAME in {each.code for each in caught.value.diagnostics}, (
            f"{name}\n{caught.value}"
        )

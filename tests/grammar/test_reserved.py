"""The names that cannot be bound are those that mean something."""

from __future__ import annotations

import pytest

from tdsl import builtins
from tdsl.diagnostics import Code, TdslError
from tdsl.grammar import parse
from tdsl.grammar.parser import _grammar
from tdsl.grammar.reserved import RESERVED
from tdsl.source import Source

KEYWORDS = _grammar()[1].words  # the language's and Python's
FUNCTIONS = builtins.BUILTINS.keys() - KEYWORDS

VALUES = (  # only a call means a function
    "template f({name}: f32[M]):\n    pass\n",
    "template f({name}: const int):\n    pass\n",
    "template f(x: f32[{name}]):\n    pass\n",
    "template f(x: f32[M]):\n    let {name} = 1\n    pass\n",
    "template f(x: f32[M]):\n    {name} = 1\n",
    "template f(x: f32[M]):\n    for {name} in grid(M): pass\n",
)
CALLED = (
    "template f({name}: const dtype):\n    pass\n",
    "template {name}(x: f32[M]):\n    pass\n",
    "def {name}(x): return x\n",
    "def f({name}): return {name}\n",
)


@pytest.mark.parametrize("text", VALUES)
def test_a_value_may_be_called_like_a_function(text: str) -> None:
    for name in FUNCTIONS:
        parse(Source("<string>", text.format(name=name)))


@pytest.mark.parametrize("text", VALUES + CALLED)
def test_no_such_name_can_be_bound(text: str) -> None:
    # A dimension is any value, such as '2 * N': a keyword there is a mistake of another kind.
    for name in (*RESERVED, *(KEYWORDS if "[{name}]" not in text else ())):
        if text in VALUES and name in FUNCTIONS:
            continue
        with pytest.raises(TdslError) as caught:
            parse(Source("<string>", text.format(name=name)))
        assert Code.RESERVED_NAME in {each.code for each in caught.value.diagnostics}, (
            f"{name}\n{caught.value}"
        )

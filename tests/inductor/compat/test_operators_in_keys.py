from __future__ import annotations

from pathlib import Path

import torch
from torch._inductor.codecache import FxGraphHashDetails

from tests.inductor.compat.upstream import assert_wrong
from tests.inductor.test_cache import run

PROGRAM = """
import torch
from torch._inductor import decomposition
library = torch.library.Library("tdsl_test_keys", "FRAGMENT")
library.define("scaled(Tensor x) -> Tensor", tags=torch.Tag.pt2_compliant_tag)
op = torch.ops.tdsl_test_keys.scaled.default
library.impl("scaled", lambda x: x * FACTOR, "CompositeExplicitAutograd")
torch.library.register_fake("tdsl_test_keys::scaled", torch.empty_like, lib=library)
decomposition.register_decomposition([op])(lambda x: x * FACTOR)
print(torch.compile(lambda x: op(x))(torch.ones(9))[0].item())
"""


def test_an_operator_that_does_another_thing_has_the_same_key(tmp_path: Path):
    assert run(PROGRAM.replace("FACTOR", "2"), tmp_path)[0] == "2.0\n"
    out = run(PROGRAM.replace("FACTOR", "3"), tmp_path)[0]
    assert_wrong(out == "2.0\n", "compat/operators_in_keys.py")


def test_a_graph_without_one_has_the_key_that_it_had():
    from torch.fx.experimental.proxy_tensor import make_fx

    import tdsl

    text = (
        "template key(x: f32[N]) -> y: f32[N]:\n    for n in grid(N by 16):\n        store y[n] = load x[n]\n"
    )

    @tdsl.template(source=text, op="tdsl_test_keys::key")
    def key(x):
        return x * 1

    with torch._subclasses.FakeTensorMode():
        x = torch.ones(9)
        for program, said in ((torch.sin, False), (key.op, True)):
            details = FxGraphHashDetails(make_fx(program)(x), [x], {}, [])
            assert hasattr(details, "tdsl") == said

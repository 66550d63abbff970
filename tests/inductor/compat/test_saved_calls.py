from __future__ import annotations

from pathlib import Path

from tests.inductor.compat.upstream import assert_wrong
from tests.inductor.test_cache import run

DEFINE = """
import sys, torch
library = torch.library.Library("tdsl_test_saved", "FRAGMENT")
library.define(SCHEMA, tags=torch.Tag.pt2_compliant_tag)
library.impl("scaled", lambda x, *factor: x * sum(factor, 0.0), "CompositeExplicitAutograd")
torch.library.register_fake("tdsl_test_saved::scaled", lambda x, *factor: torch.empty_like(x), lib=library)
"""
SAVE = """
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.ops.tdsl_test_saved.scaled(x, 3.0)
torch.export.save(torch.export.export(Model(), (torch.ones(9),)), PATH)
"""
LOAD = "print(torch.export.load(PATH).module()(torch.ones(9))[0].item())"


def test_an_argument_that_an_operator_has_no_more_is_dropped(tmp_path: Path):
    path = repr(str(tmp_path / "saved.pt2"))
    define = DEFINE.replace("SCHEMA", "'scaled(Tensor x, float factor) -> Tensor'")
    assert run((define + SAVE + LOAD).replace("PATH", path), tmp_path)[0] == "3.0\n"
    define = DEFINE.replace("SCHEMA", "'scaled(Tensor x) -> Tensor'")
    out = run((define + LOAD).replace("PATH", path), tmp_path)[0]
    assert_wrong(out == "0.0\n", "compat/saved_calls.py")

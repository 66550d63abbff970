"""What each stage makes of small templates, byte for byte; and, for one torch, one kernel with all that is fused.

A case is a folder: `kernel.tdsl`, whose first line has the options of `tdsl show`, and what the stages print.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

import tdsl
from tdsl import cli, testing
from tdsl.golden import Golden

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parent.parent
PINNED = "2.13"  # what Inductor writes differs between releases


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("*/kernel.tdsl")))
def test_stages(case: str, golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    golden.owns(f"{case}/kernel.tdsl")
    path = GOLDEN / case / "kernel.tdsl"
    options = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# show:")
    for stage, arguments in (("ir", []), ("triton", shlex.split(options))):
        assert cli.run(["show", str(path), "--stage", stage, *arguments]) == 0
        golden(f"{case}/{stage}.txt", capsys.readouterr().out)


def test_the_founding_scenario_fused(golden: Golden, device: torch.device) -> None:
    name = "fused/relu_matmul_sigmoid_bias.txt"
    golden.owns(name)
    if not torch.__version__.startswith(PINNED) or device.type != "cpu":
        pytest.skip(f"the golden was made by torch {PINNED} without a GPU")
    # The README's own template; it shows this kernel.
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    source = text.partition("```tdsl\n")[2].partition("```")[0]
    matmul = tdsl.template(source=source, name="matmul")(lambda A, B: A @ B)
    args = (torch.randn(70, 90), torch.randn(90, 50), torch.randn(50))
    report = testing.assert_fused(lambda A, B, bias: torch.relu(matmul(A, torch.sigmoid(B))) * bias, args)
    golden(name, report.kernel_text)

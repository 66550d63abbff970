"""Every example: one kernel, with everything fused, and right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tdsl import testing
from tdsl.golden import Golden
from tests.test_golden import PINNED

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*/*.tdsl"))


@pytest.mark.parametrize("name", NAMES)
def test_is_one_kernel_and_right(name: str, golden: Golden, device: torch.device) -> None:
    """The kernels are shown in docs/examples.md, which `python -m pages` writes."""
    golden.owns(f"examples/{name}.txt")
    report = testing.load_module(EXAMPLES / name / f"{name}.py").main()
    assert report.kernels == report.triton == 1
    if torch.__version__.startswith(PINNED) and device.type == "cpu":
        golden(f"examples/{name}.txt", report.kernel_text)


@pytest.mark.parametrize(
    "name", [name if name == "matmul" else pytest.param(name, marks=pytest.mark.full) for name in NAMES]
)
def test_opcheck(name: str) -> None:
    """PyTorch's own check of an operator, with the arguments that the example's program gives it."""
    example = testing.load_module(EXAMPLES / name / f"{name}.py")
    seen: list[tuple[torch._ops.OpOverload, tuple[object, ...]]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func.namespace == "tdsl":
                seen.append((func, args))
            return func(*args, **(kwargs or {}))

    with Watch():
        example.program(*example.inputs())
    assert seen
    for op, args in seen:
        torch.library.opcheck(op, args)


def test_the_demo_shows_it_all() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tdsl", "demo", "matmul"], capture_output=True, text=True, check=True
    )
    for text in ("template matmul(", "def program(", "@triton.jit", "1 Triton kernel;", "error against"):
        assert text in done.stdout


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "axpy"])
def test_on_a_gpu_in_each_dtype(name: str, dtype: torch.dtype) -> None:
    example = testing.load_module(EXAMPLES / name / f"{name}.py")
    inputs = [value.to(dtype) if value.dtype == torch.bfloat16 else value for value in example.inputs()]
    testing.assert_fused(example.program, inputs)

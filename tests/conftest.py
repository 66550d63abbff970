"""Where there is no GPU, every test runs in Triton's interpreter; tests marked `gpu` are skipped. Those
marked `full` are run by `-m full`, or with all others by `-m "full or not full"`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

pytest_plugins = ["tdsl.testing", "pytester"]


def pytest_configure() -> None:
    # The processes that a test starts import this checkout, whichever is installed.
    root = str(Path(__file__).parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))

    from tdsl import testing  # not above: pytest rewrites a plugin's assertions as it imports it

    if testing.device().type == "cpu":
        # Every process of a test would start and end workers that have nothing to compile.
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        # C++ of one lane compiles in two thirds of the time, and no cache has to find out first, by six
        # compilations and as many imports of torch, which vectors there are. The fuzzer, by hand, has vectors.
        os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "0")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "full" not in config.option.markexpr:
        skip = pytest.mark.skip(reason="runs with -m full")
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(skip)
    skip = pytest.mark.skip(reason="needs a GPU")
    # What PyTorch, Triton and drivers advise on the settings of this or that GPU decides nothing.
    advice = pytest.mark.filterwarnings("default")
    for item in items:
        if torch.cuda.is_available():
            item.add_marker(advice)
        elif item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

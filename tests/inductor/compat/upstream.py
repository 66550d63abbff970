"""For tests that reproduce what is wrong upstream: each fails on a release that has mended it, and names what can go."""

from __future__ import annotations

import importlib.metadata

import torch

TRITON = tuple(map(int, importlib.metadata.version("triton").split(".")[:2]))


def assert_wrong(wrong: bool, workaround: str, *, needed: bool = True) -> None:
    """`wrong`: whether this release still does what `workaround` is for; `needed`: whether that says that it does."""
    release = f"torch {torch.__version__} with triton {importlib.metadata.version('triton')}"
    assert wrong or not needed, f"mended in {release}: the workaround can go, or say so ({workaround})"
    assert needed or not wrong, f"not mended in {release}, though its workaround says so ({workaround})"

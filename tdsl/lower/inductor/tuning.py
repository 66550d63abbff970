"""What a call may spend on tuning, and under which key the winner is kept.

Candidates that cannot fit are dropped before (`lower.budget`); the kernel's autotuner (`autotuner`) times
those that are left, at its first call, with what was fused. The winner is stored under the hash of the
kernel's module, so everything that it depends on must be in that text: the device, the template, and for
sizes that vary from call to call, the power of two above the likely one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from tdsl import ir
from tdsl.lower.facts.candidates import Budget
from tdsl.lower.inductor.compat.call_names import inductor_config
from tdsl.version import __version__

CANDIDATES, CANDIDATES_UNDER_MAX_AUTOTUNE = 8, 16
REGISTERS = 255  # of 32 bits, that a thread of a GPU of NVIDIA's can name; AMD's have 512
SMALLEST_BUCKET = 16


def budget_of(device: torch.device) -> Budget | None:
    """What the candidates of one call may use on `device`; None in the interpreter, which tunes nothing.

    Where results must be the same in every run, nothing is timed: the author's first candidate that fits.
    """
    if device.type == "cpu":
        return None
    most = CANDIDATES_UNDER_MAX_AUTOTUNE if inductor_config.max_autotune else CANDIDATES
    if inductor_config.deterministic or torch.are_deterministic_algorithms_enabled():
        most = 1
    return _budget(device, most)


@cache
def _budget(device: torch.device, most: int) -> Budget:
    properties = torch.cuda.get_device_properties(device)
    amd = torch.version.hip is not None
    shared = getattr(properties, "shared_memory_per_block_optin", None)
    return Budget(
        most=most,
        shared_memory=shared or (getattr(properties, "shared_memory_per_block", None) if amd else None),
        registers=2 * REGISTERS + 2 if amd else REGISTERS,
        warp_size=getattr(properties, "warp_size", None) or 32,
        asynchronous=not amd and (properties.major or 0) >= 9,
    )


def bucket(size: int) -> int:
    """The sizes that are tuned as one: those up to a power of two."""
    return max(SMALLEST_BUCKET, 1 << max(size - 1, 0).bit_length())


def tuning_key(device: torch.device, kernel: ir.Kernel, sizes: Mapping[str, int]) -> dict[str, Any]:
    """What a winner depends on and a kernel's text would not say. `sizes`: likely ones, by argument."""
    return {
        "tdsl": __version__,
        "template": template_key(kernel),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "sizes": {name: bucket(size) for name, size in sizes.items()},
    }


def template_key(kernel: ir.Kernel) -> str:
    """The template's name and a digest of its text."""
    template = hashlib.sha256(f"{kernel.source.text}\0{kernel.name}".encode("utf-8", "surrogatepass"))
    return f"{kernel.name} {template.hexdigest()[:16]}"

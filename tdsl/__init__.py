"""tdsl: a small language whose templates become fused Triton kernels under `torch.compile`.

`tdsl.template` makes a PyTorch operator of a template. It imports torch, and does so on first use: the
command line and editors start without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdsl.diagnostics import TdslError
from tdsl.refusal import Refusal, refusals
from tdsl.version import __version__

if TYPE_CHECKING:
    from tdsl.api import Template, template
    from tdsl.replacement.replacing import Replacement, replacements, replacing
    from tdsl.replacement.swapping import swap

__all__ = [
    "Refusal",
    "Replacement",
    "TdslError",
    "Template",
    "__version__",
    "refusals",
    "replacements",
    "replacing",
    "swap",
    "template",
]


def __getattr__(name: str) -> object:
    if name in ("Template", "template"):
        from tdsl import api

        return getattr(api, name)
    if name in ("Replacement", "replacements", "replacing"):
        from tdsl.replacement import replacing

        return getattr(replacing, name)
    if name == "swap":
        from tdsl.replacement.swapping import swap

        return swap
    raise AttributeError(f"module 'tdsl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

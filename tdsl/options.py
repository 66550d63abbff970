"""The launch options of a `config`, each written here and nowhere else: what it may be, and who reads it.

    config BLOCK=64, num_warps=8, persistent=1

No setting of an author's is called like one, and no expression can name one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Option:
    """`default`: what it is where a config does not say; None: nothing, the compiler decides. `launch`: Triton reads it; else the
    kernel's body does, as a constant."""

    values: tuple[int, ...]
    words: str  # for the values
    default: int | None
    launch: bool = False


def _switch() -> Option:
    return Option(values=(0, 1), words="0 or 1", default=0)


OPTIONS: Mapping[str, Option] = {
    "num_warps": Option(values=(1, 2, 4, 8, 16, 32), words="1, 2, 4, 8, 16 or 32", default=4, launch=True),
    "num_stages": Option(values=tuple(range(1, 17)), words="1 to 16", default=3, launch=True),
    "num_ctas": Option(values=(1, 2, 4, 8, 16), words="1, 2, 4, 8 or 16", default=1, launch=True),
    "maxnreg": Option(values=tuple(range(16, 257)), words="16 to 256", default=None, launch=True),
    "epilogue_subtile": Option(values=(1, 2, 4, 8), words="1, 2, 4 or 8", default=1),
    "persistent": _switch(),
    "tma": _switch(),
}
LAUNCH_OPTIONS = tuple(name for name, option in OPTIONS.items() if option.launch)

"""What is tuned over: one set of block sizes and launch options after the other.

    config BLOCK=64, num_warps=8 if N > 64    ->    BoundCandidate, if the condition holds    ->    Config, with its grid

And what a device has for one program, which not every candidate fits into.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tdsl.lower.facts.extents import Extent
from tdsl.options import OPTIONS

# The constant that says in how many parts a tile is stored; no setting of an author's is called like it.
SUBTILES = "epilogue_subtile_"
# And the one that says whether a program computes one tile of the grid or walks several.
PERSISTENT = "persistent_"
# And the one that says whether tiles are loaded through descriptors (TMA) where they can be.
TMA = "tma_"

Scalar = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class BoundCandidate:
    """A tuning candidate whose condition holds: its settings, `let`s among them, as numbers."""

    options: Mapping[str, int]
    settings: Mapping[str, Scalar]
    chosen: tuple[str, ...]  # the settings that vary between candidates

    def option(self, name: str) -> int:
        """A launch option that has a default, or that default."""
        default = OPTIONS[name].default
        assert default is not None, f"{name} has no default"
        return self.options.get(name, default)

    def describe(self) -> str:
        return " ".join(f"{name}={self.settings[name]}" for name in (*self.chosen, *self.options))


@dataclass(frozen=True, kw_only=True)
class Config:
    """One tuning candidate: values of the constexpr arguments, and Triton's launch options."""

    constants: tuple[tuple[str, int | float | bool], ...]  # ('BLOCK_M_', 128); same names in each config
    num_warps: int | None
    num_stages: int | None
    num_ctas: int | None
    maxnreg: int | None
    grid: Extent  # number of tiles, over size arguments, constants inlined
    persistent: bool  # a program for each multiprocessor, if there are as many tiles; else one for each tile


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a device gives to one program, and how many candidates may be compiled for it.

    `shared_memory` in bytes, `registers` in words of 32 bits a thread; None: not known, nothing is dropped
    for it. `asynchronous`: products read their operands from shared memory while the next loads arrive,
    so that each pipeline stage has a copy (WGMMA); else the last stage has none.
    """

    most: int
    shared_memory: int | None = None
    registers: int | None = None
    warp_size: int = 32
    asynchronous: bool = False

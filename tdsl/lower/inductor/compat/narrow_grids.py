"""Inductor's launcher in C++ cuts the number of programs off at 32 bits.

A grid of 2^32 programs, which no GPU takes, becomes one of none: nothing is launched, nothing is said, and what the
kernel should have written is whatever was there.

Seen: torch 2.12.0, 2.13.0, 2.14.1.
"""

from __future__ import annotations

MOST_PROGRAMS = 2**32 - 1  # that 32 bits hold; no GPU takes as many


def within_32_bits(programs: str) -> str:
    """A number of programs, in C++, that is still too many for a GPU if it was too many for 32 bits."""
    return f"std::min<int64_t>({programs}, {MOST_PROGRAMS})"

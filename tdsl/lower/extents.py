"""Arithmetic on sizes that are integers now, or text for later (see `binding.Extent`)."""

from __future__ import annotations

from collections.abc import Iterable

from tdsl.lower.binding import Extent


def multiply(left: Extent, right: Extent) -> Extent:
    if isinstance(left, int) and isinstance(right, int):
        return left * right
    if left == 0 or right == 0:
        return 0
    if left == 1:
        return right
    if right == 1:
        return left
    return f"{_atom(left)} * {_atom(right)}"


def product(extents: Iterable[Extent]) -> Extent:
    result: Extent = 1
    for extent in extents:
        result = multiply(result, extent)
    return result


def ceildiv(size: Extent, block: int) -> Extent:
    """How many blocks cover `size`; the text is exact for non-negative sizes in Python and in C++."""
    if isinstance(size, int):
        return -(-size // block)
    return size if block == 1 else f"({size} + {block - 1}) // {block}"


def _atom(extent: Extent) -> str:
    text = str(extent)
    return text if text.isidentifier() or text.isdigit() else f"({text})"

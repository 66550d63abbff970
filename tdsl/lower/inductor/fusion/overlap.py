"""Whether two strided views of one storage have an element in common.

    base[:, :33], base[:, 33:]      ->   no: each row's halves
    base[:100], base[50:150]        ->   yes: elements 50 to 99
    base.expand(4, 100)             ->   each of its elements is four (`overlaps_itself`)

Sizes may be symbolic. What has to be known of them is asked with guards, least first; where that does not
settle it, they become what they are now. What depends on data has no guards and no value now: it is taken for
large, and two regions that cannot be told apart for having an element in common. A search that grows too long
says yes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any

from torch.fx.experimental.symbolic_shapes import (
    GuardOnDataDependentSymNode,
    guard_or_false,
    guard_or_true,
)

LIMIT = 10_000  # steps of the search; what people write takes a few

Size = Any  # an integer, or a symbolic one

# A stride, and the least and the largest multiple of it: integers, or infinite.
Term = tuple[int, float, float]


@dataclass(frozen=True)
class Region:
    """Elements of a storage: of a tensor with these sizes and strides, from `offset` on."""

    offset: Size
    sizes: Sequence[Size]
    strides: Sequence[Size]

    def end(self) -> Size:
        """One more than the last element's place."""
        return self.offset + sum((n - 1) * step for n, step in zip(self.sizes, self.strides, strict=True)) + 1

    def is_empty(self) -> bool:
        return any(guard_or_false(size == 0) for size in self.sizes)

    def known(self, *, sizes: bool) -> Region:
        """With numbers for symbols."""
        return Region(
            int(self.offset),
            [int(size) for size in self.sizes] if sizes else self.sizes,
            [int(step) for step in self.strides],
        )


def overlap(a: Region, b: Region) -> bool:
    """Whether two regions of one storage have an element in common."""
    if (
        a.is_empty()
        or b.is_empty()
        or guard_or_false(a.end() <= b.offset)
        or guard_or_false(b.end() <= a.offset)
    ):
        return False
    numbers = (a.offset, b.offset, *a.strides, *b.strides)
    if all(isinstance(number, int) for number in numbers) and not _common(a, b):
        return False  # whatever the symbolic sizes are
    try:
        return _common(a.known(sizes=True), b.known(sizes=True))
    except GuardOnDataDependentSymNode:
        return True


def overlaps_itself(a: Region) -> bool:
    """Whether two elements of a tensor are one."""
    if a.is_empty():
        return False
    dims = [
        (step, size)
        for step, size in zip(a.strides, a.sizes, strict=True)
        if not (isinstance(size, int) and size == 1)
    ]
    dims.sort(key=cmp_to_key(_shorter))
    reach = 0
    for step, size in dims:
        if guard_or_true(step <= reach):
            break
        reach = reach + (size - 1) * step
    else:
        return False
    exact = sorted(((int(step), int(size)) for step, size in dims if size > 1), reverse=True)
    for index, (step, size) in enumerate(exact):
        rest = [(s, 1 - n, n - 1) for s, n in exact[index + 1 :]]
        if exact[-1][0] == 0 or _reaches([(step, 1, size - 1), *rest], 0):
            return True
    return False


def _shorter(one: tuple[Size, Size], other: tuple[Size, Size]) -> int:
    """Compares two dimensions by stride, and puts first what is a number where that cannot be known."""
    mine, its = one[0], other[0]
    if guard_or_false(mine < its):
        return -1
    if guard_or_false(mine >= its):
        return 0 if guard_or_false(mine == its) else 1
    return int(isinstance(its, int)) - int(isinstance(mine, int))


def _common(a: Region, b: Region) -> bool:
    ranges: dict[int, tuple[float, float]] = {}
    for region, sign in ((a, 1), (b, -1)):
        for size, step in zip(region.sizes, region.strides, strict=True):
            if step == 0:
                continue
            last = size - 1 if isinstance(size, int) else math.inf
            low, high = ranges.get(step, (0, 0))
            ranges[step] = (low, high + last) if sign == 1 else (low - last, high)
    terms = [(step, low, high) for step, (low, high) in sorted(ranges.items(), reverse=True)]
    return _reaches(terms, b.offset - a.offset)


def _reaches(terms: Sequence[Term], target: int) -> bool:
    """Whether multiples of the terms' strides, within their bounds, add up to the target."""
    below: list[tuple[float, float]] = [(0, 0)]  # what the terms from here on can add
    for step, low, high in reversed(terms):
        below.append((below[-1][0] + step * low, below[-1][1] + step * high))
    below.reverse()
    steps = 0
    open_ = [(0, target)]
    while open_:
        at, left = open_.pop()
        if at == len(terms):
            if left == 0:
                return True
            continue
        step, low, high = terms[at]
        least, most = below[at + 1]
        if math.isinf(least) or math.isinf(most):
            return True
        first, last = max(low, -((most - left) // step)), min(high, (left - least) // step)
        for multiple in range(int(first), int(last) + 1):
            steps += 1
            if steps > LIMIT:
                return True
            open_.append((at + 1, left - step * multiple))
    return False

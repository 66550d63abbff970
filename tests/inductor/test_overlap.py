"""Regions of memory, against counting their elements."""

from __future__ import annotations

import itertools
import random

from tdsl.lower.inductor.fusion.overlap import Region, overlap, overlaps_itself


def places(region):
    return [
        region.offset + sum(at * step for at, step in zip(index, region.strides, strict=True))
        for index in itertools.product(*map(range, region.sizes))
    ]


def test_against_counting():
    source = random.Random(0)
    seen = set()

    def region():
        rank = source.randint(0, 3)
        return Region(
            source.randint(0, 20),
            [source.randint(0, 5) for _ in range(rank)],
            [source.choice([0, 1, 1, 2, 3, 5, 6, 10, 12]) for _ in range(rank)],
        )

    for _ in range(5000):
        a, b = region(), region()
        common, itself = bool(set(places(a)) & set(places(b))), len(set(places(a))) < len(places(a))
        assert overlap(a, b) == common, (a, b)
        assert overlaps_itself(a) == itself, a
        seen.add((common, itself))
    assert len(seen) == 4


def test_large_ones_take_no_time():
    left, right = Region(0, [10**9, 1000], [2000, 1]), Region(1000, [10**9, 1000], [2000, 1])
    assert not overlap(left, right)
    assert overlap(left, Region(2**39 + 999, [10**9, 1000], [2000, 1]))
    assert not overlaps_itself(Region(0, [10**9, 1000], [2000, 1]))

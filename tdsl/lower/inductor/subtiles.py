"""One part of a tile that is stored in parts, so that what is fused behind it needs fewer registers at a time.

    tile_part(x, 1, 2)    ->    the right half of x[BLOCK_M, BLOCK_N]

A kernel's module imports it, compiled; `interpreter` has that of Triton's interpreter. A product of matrices
leaves neighbouring columns in one thread, which makes this a choice of registers and moves nothing.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def tile_part(tile, part: tl.constexpr, parts: tl.constexpr):  # type: ignore[no-untyped-def]
    if parts > 1:
        width: tl.constexpr = tile.shape[len(tile.shape) - 1]
        halves = tl.reshape(tile, [tile.numel // width, 2, width // 2])
        left, right = tl.split(tl.permute(halves, (0, 2, 1)))
        if part < parts // 2:
            tile = tile_part(left, part, parts // 2)
        else:
            tile = tile_part(right, part - parts // 2, parts // 2)
    return tile

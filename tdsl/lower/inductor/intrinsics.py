"""What a kernel's module imports for a GPU: an instruction or two a lane.

    nan_max(x, 1)         ->    tl.reduce(x, 1, the larger, or NaN)         Inductor's own compare, test and select
    as_stored(x)          ->    x                                           but nothing contracts across it
    absolute(x)           ->    |x|                                         in f32, wherever it is stored
    opaque(x)             ->    x                                           but nothing looks where it comes from
    tile_part(x, 1, 2)    ->    the right half of x[BLOCK_M, BLOCK_N]       what is stored in parts needs fewer registers

A product of matrices leaves neighbouring columns in one thread, which makes a part of a tile a choice of
registers and moves nothing. `interpreter` has these for Triton's interpreter, which contracts nothing. AMD's GPUs get
others in place of NVIDIA's instructions (`FOR_HIP`): which GPU it is cannot be asked in a kernel's text, since a
compile worker has none.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _larger(a, b):  # type: ignore[no-untyped-def]
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _smaller(a, b):  # type: ignore[no-untyped-def]
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def nan_max(x, dim):  # type: ignore[no-untyped-def]
    return tl.reduce(x, dim, _larger)


@triton.jit
def nan_min(x, dim):  # type: ignore[no-untyped-def]
    return tl.reduce(x, dim, _smaller)


@triton.jit
def as_stored(x):  # type: ignore[no-untyped-def]
    """x, of a float dtype, on both sides of a fusion as if it had been in memory between: a product that makes
    it is rounded, and no fma with a sum that it goes into. Adding -0.0 changes no number, and an instruction
    whose rounding is spelled out is not contracted (PTX ISA, `add`, `fma`). For NVIDIA's GPUs.
    """
    if x.dtype == tl.float64:
        rounded = tl.inline_asm_elementwise(
            "add.rn.f64 $0, $1, 0d8000000000000000;", "=d,d", [x], dtype=tl.float64, is_pure=True, pack=1
        )
    elif x.dtype == tl.float32:
        rounded = tl.inline_asm_elementwise(
            "add.rn.f32 $0, $1, 0f80000000;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    elif x.dtype == tl.float16:
        rounded = tl.inline_asm_elementwise(
            "{ .reg .b16 zero; mov.b16 zero, 0x8000; add.rn.f16 $0, $1, zero; }",
            "=h,h",
            [x],
            dtype=tl.float16,
            is_pure=True,
            pack=1,
        )
    else:
        # Before sm_90 there is no addition of these.
        rounded = tl.inline_asm_elementwise(
            "{ .reg .b16 one, zero; mov.b16 one, 0x3f80; mov.b16 zero, 0x8000; "
            "fma.rn.bf16 $0, $1, one, zero; }",
            "=h,h",
            [x],
            dtype=tl.bfloat16,
            is_pure=True,
            pack=1,
        )
    return rounded


@triton.jit
def absolute(x):  # type: ignore[no-untyped-def]
    """|x| of f32. LLVM moves Triton's own behind the cast to bf16 of a store, where the assembler (ptxas 12.8, for sm_90)
    drops the `and` of every second lane: a negative number is stored. An instruction that it cannot move is kept.
    """
    return tl.inline_asm_elementwise("abs.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def plain_absolute(x):  # type: ignore[no-untyped-def]
    return tl.abs(x)


@triton.jit
def opaque(x):  # type: ignore[no-untyped-def]
    """x of float64, an operand of a dot. Triton 3.7 lays operands out for the narrowest load that it finds behind
    them, and fails where those of a float64 dot began as 16 bits or fewer.
    """
    return tl.inline_asm_elementwise("mov.b64 $0, $1;", "=d,d", [x], dtype=tl.float64, is_pure=False, pack=1)


@triton.jit
def plain(x):  # type: ignore[no-untyped-def]
    return x


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


FOR_HIP = {"absolute": "plain_absolute", "opaque": "plain"}

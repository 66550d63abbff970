"""What a kernel's module imports for a GPU: an instruction or two a lane.

    nan_max(x, 1)         ->    tl.reduce(x, 1, the larger, or NaN)         Inductor's own compare, test and select
    nan_argmax(x, 1)      ->    tl.reduce((x, lanes), 1, the first larger)  the first NaN, or the first of the largest
    as_stored(x)          ->    x                                           but nothing contracts across it
    absolute(x)           ->    |x|                                         of f32, whatever is behind it
    as_i16(x)             ->    x                                           calculated in i16, whatever is behind it
    above(x, 0.5)         ->    x > 0.5                                     false of NaN, whatever x is; below, at_least
    floor_divided(a, b)   ->    a / b rounded down                          of f32 or f64, as PyTorch's
    floor_remainder(a, b) ->    what that leaves of a                       with the sign of b
    opaque(x)             ->    x                                           but nothing looks where it comes from
    tile_part(x, 1, 2)    ->    the right half of x[BLOCK_M, BLOCK_N]       what is stored in parts needs fewer registers

A product of matrices leaves neighbouring columns in one thread, which makes a part of a tile a choice of
registers and moves nothing. `interpreter` has these for Triton's interpreter, which contracts nothing. AMD's GPUs get
others in place of NVIDIA's instructions (`FOR_HIP` in `emit.functions`): which GPU it is cannot be asked in a kernel's
text, since a compile worker has none. `tdsl show --standalone` copies from here the functions that a kernel uses.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice


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
def _times(a, b):  # type: ignore[no-untyped-def]
    return a * b


@triton.jit
def product(x, dim):  # type: ignore[no-untyped-def]
    return tl.reduce(x, dim, _times)


@triton.jit
def _random_bits(seed, place):  # type: ignore[no-untyped-def]
    """Four u32 of Philox 4x32. Both arguments count as 64 bits, whatever a kernel calculates its indices in."""
    place = tl.to_tensor(place).to(tl.int64)
    low = place.to(tl.uint32)
    none = low * 0
    return tl.philox(tl.to_tensor(seed).to(tl.int64), low, (place >> 32).to(tl.uint32), none, none)


@triton.jit
def uniform(seed, place):  # type: ignore[no-untyped-def]
    bits, _, _, _ = _random_bits(seed, place)
    return tl.uint_to_uniform_float(bits)


@triton.jit
def normal(seed, place):  # type: ignore[no-untyped-def]
    first, second, _, _ = _random_bits(seed, place)
    number, _ = tl.pair_uniform_to_normal(tl.uint_to_uniform_float(first), tl.uint_to_uniform_float(second))
    return number


@triton.jit
def _first_larger(a, at, b, there):  # type: ignore[no-untyped-def]
    same = (a == b) | ((a != a) & (b != b))
    chosen = (a > b) | ((a != a) & (b == b)) | (same & (at < there))
    return tl.where(chosen, a, b), tl.where(chosen, at, there)


@triton.jit
def _first_smaller(a, at, b, there):  # type: ignore[no-untyped-def]
    same = (a == b) | ((a != a) & (b != b))
    chosen = (a < b) | ((a != a) & (b == b)) | (same & (at < there))
    return tl.where(chosen, a, b), tl.where(chosen, at, there)


@triton.jit  # type: ignore[untyped-decorator]
def _lanes(x, dim: tl.constexpr):  # type: ignore[no-untyped-def]
    lanes = tl.arange(0, x.shape[dim])
    for other in tl.static_range(len(x.shape)):
        if other != dim:
            lanes = tl.expand_dims(lanes, other)
    return tl.broadcast_to(lanes, x.shape)


@triton.jit  # type: ignore[untyped-decorator]
def nan_argmax(x, dim: tl.constexpr):  # type: ignore[no-untyped-def]
    """The first NaN of x, else the first of the largest. Lanes outside of a tile come last, so that those that hold the
    neutral element never are the first.
    """
    return tl.reduce((x, _lanes(x, dim)), dim, _first_larger)[1]


@triton.jit  # type: ignore[untyped-decorator]
def nan_argmin(x, dim: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.reduce((x, _lanes(x, dim)), dim, _first_smaller)[1]


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
    drops the `and` of every second lane: a negative number is stored. An instruction that LLVM cannot move is kept.
    """
    return tl.inline_asm_elementwise("abs.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def plain_absolute(x):  # type: ignore[no-untyped-def]
    return tl.abs(x)


@triton.jit
def as_i16(x):  # type: ignore[no-untyped-def]
    """x of i16, calculated. LLVM makes `0 - x` of -x, x * -1, x // -1 and ~x + 1, and the assembler (ptxas 12.8 and 13.1)
    takes that, or |x|, of -32768 for 32768 where it is widened, compared or divided. Here the sign is extended anew."""
    return tl.inline_asm_elementwise(
        "{ .reg .b32 wide; cvt.u32.u16 wide, $1; bfe.s32 wide, wide, 0, 16; cvt.u16.u32 $0, wide; }",
        "=h,h",
        [x],
        dtype=tl.int16,
        is_pure=True,
        pack=1,
    )


@triton.jit  # type: ignore[untyped-decorator]
def _compared(x, number, otherwise: tl.constexpr):  # type: ignore[no-untyped-def]
    """A comparison of a float of up to 32 bits with a number. Where the assembler (ptxas 12.8 and 13.1) knows between
    which numbers x lies, as with x * x or exp(y) + 1, it calculates >, >= and < from them and forgets NaN. What is
    false of NaN is the negation of what is true of it, which it does right."""
    instruction: tl.constexpr = (
        "{ .reg .pred p; setp." + otherwise + ".f32 p, $1, $2; selp.b32 $0, 0, 1, p; }"
    )
    arguments = [x.to(tl.float32), tl.cast(number, tl.float32)]  # f16 and bf16 meet a number in float32
    bit = tl.inline_asm_elementwise(instruction, "=r,f,f", arguments, dtype=tl.int32, is_pure=True, pack=1)
    return bit != 0


@triton.jit
def above(x, number):  # type: ignore[no-untyped-def]
    return _compared(x, number, "leu")


@triton.jit
def at_least(x, number):  # type: ignore[no-untyped-def]
    return _compared(x, number, "ltu")


@triton.jit
def below(x, number):  # type: ignore[no-untyped-def]
    return _compared(x, number, "geu")


@triton.jit
def plain_above(x, number):  # type: ignore[no-untyped-def]
    return x > number


@triton.jit
def plain_at_least(x, number):  # type: ignore[no-untyped-def]
    return x >= number


@triton.jit
def plain_below(x, number):  # type: ignore[no-untyped-def]
    return x < number


@triton.jit
def _quotient(a, b):  # type: ignore[no-untyped-def]
    """Rounded to nearest, as `/` of f32 is not."""
    if a.dtype == tl.float64:
        quotient = a / b
    else:
        quotient = tl.div_rn(a, b)
    return quotient


@triton.jit
def floor_divided(a, b):  # type: ignore[no-untyped-def]
    """The exact quotient rounded down, as PyTorch's: where a / b rounds up to a whole number, its floor is one too many."""
    rest = libdevice.fmod(a, b)
    whole = _quotient(a - rest, b)
    whole = tl.where((rest != 0) & ((b < 0) != (rest < 0)), whole - 1, whole)
    down = tl.floor(whole)
    down = tl.where(whole - down > 0.5, down + 1, down)
    ratio = _quotient(a, b)
    return tl.where(b == 0, ratio, tl.where(whole == 0, ratio * 0.0, down))


@triton.jit
def floor_remainder(a, b):  # type: ignore[no-untyped-def]
    """Exact, as PyTorch's. Triton's `%` has the sign of a, and is what a rounded quotient leaves."""
    rest = libdevice.fmod(a, b)
    return tl.where((rest != 0) & ((b < 0) != (rest < 0)), rest + b, rest)


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

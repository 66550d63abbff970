"""The lines of a kernel's body, with a placeholder of Inductor's where its code comes.

LoadSlot(B), fused        ->    _prologue_B_xindex = tl.zeros(...) + (k_[:, None] * N_ + n_[None, :])
                                <LOAD_INPUT_B>
                                B_tile = tl.broadcast_to(_prologue_B_result.to(tl.float16), [BLOCK_K_, BLOCK_N_])
StoreSlot(C), fused       ->    _kernel_val_0 = acc_.to(tl.float16)
                                <STORE_OUTPUT_0>
"""

from __future__ import annotations

import ast
from collections.abc import Sequence, Set

from tdsl import ir
from tdsl.lower.emit.frames import Frame, Row, block, block_shape, shape_text, wanted
from tdsl.lower.emit.functions import triton_dtype
from tdsl.lower.emit.syntax import assign, binary, call, quote
from tdsl.lower.emit.triton import LoadSlot, StoreSlot
from tdsl.types import DTYPES, converts_through_f32

# A line of a kernel at an indent: `else:` if it is None, or the place of a slot of Inductor's.
Written = ast.AST | str | None

# Operators of Inductor's on one dtype that Triton would not compile, or compiles to wrong numbers on a GPU: what does it
# instead (`runtime.intrinsics`).
INSTRUCTIONS = {
    ("abs", "f32"): "absolute({0})",
    ("abs", "i16"): "as_i16(tl.abs({0}))",
    ("neg", "i16"): "as_i16(-{0})",
    ("add", "i16"): "as_i16({0} + {1})",
    ("sub", "i16"): "as_i16({0} - {1})",
    ("mul", "i16"): "as_i16({0} * {1})",
    ("gt", "f32"): "above({0}, {1})",
    ("ge", "f32"): "at_least({0}, {1})",
    ("lt", "f32"): "below({0}, {1})",
}


def stored_value(of: str | int) -> str:
    """What the value of a store is called where work behind it reads it: by the number of Inductor's slot, or by the
    parameter where another result's slot reads it."""
    return f"_kernel_val_{of}"


def computed_value(buffer: str) -> str:
    """What a value that is computed behind one result is called behind another."""
    return f"_value_{buffer}"


def prologue_result(frame: Frame) -> str:
    """What a prologue's value is called."""
    return f"{frame.prefix}result"


def fused_load(frame: Frame, read: Set[str], *, padded: bool, on_nvidia: bool) -> list[Written]:
    """A load point with a prologue, which reads the names `read`. padded: it is 0 by itself in the lanes outside."""
    slot = frame.slot
    assert isinstance(slot, LoadSlot), "a prologue stands at a load point"
    lines = [assign(frame.flat, binary("+", frame.zero_index(slot.shape), slot.index))]
    if frame.flat not in frame.names:
        lines += frame.index_lines()
    lines += frame.mask_lines()
    value = quote("{0}.to({1})", prologue_result(frame), triton_dtype(slot.dtype))
    if not slot.multiplied:
        value = _as_stored(value, slot.dtype, on_nvidia)
    elif slot.dtype == "f64":
        value = call("opaque", value)
    if slot.shape:
        value = call("tl.broadcast_to", value, block_shape(slot.shape))
    else:
        value = quote("tl.reshape({0}, [])", value)
    written: list[Written] = [*wanted(lines, read), frame.hook, assign(slot.target, value)]
    if slot.neutral is not None and not padded:
        written.append(assign(slot.target, call("tl.where", slot.neutral, slot.target, slot.other)))
    return written


def fused_store(frame: Frame, number: int, read: Set[str], *, on_nvidia: bool) -> list[ast.Assign]:
    """Names for what the code behind a store point reads, of which it reads `read`: its value, mask and indices."""
    slot = frame.slot
    assert isinstance(slot, StoreSlot), "an epilogue stands at a store point"
    lines = frame.mask_lines()
    if not any(frame.names):
        lines.append(assign(frame.flat, frame.zero_index(slot.shape)))
    lines += frame.index_lines()
    return [assign(stored_value(number), as_read(slot, on_nvidia=on_nvidia)), *wanted(lines, read)]


def as_read(slot: StoreSlot, *, on_nvidia: bool) -> ast.expr:
    """The value of a store as what is fused behind it reads it, had it been stored."""
    if slot.computed is None:
        return block(slot.value, slot)
    computed, dtype = slot.computed
    value = _as_stored(computed, dtype, on_nvidia)
    if converts_through_f32(dtype, slot.dtype):
        value = quote("{0}.to(tl.float32)", value)
    if dtype != slot.dtype:
        value = quote("{0}.to({1})", value, triton_dtype(slot.dtype))
    return block(value, slot)


def _as_stored(value: ast.expr, dtype: str, on_nvidia: bool) -> ast.expr:
    """A value that crosses a fusion, to the last bit what it would be had it been stored and loaded. On an
    NVIDIA GPU the assembler makes one instruction of two, across it."""
    return call("as_stored", value) if on_nvidia and dtype in ("f16", "bf16", "f32", "f64") else value


# Texts that stand among Inductor's own


def whole_tile(frame: Frame, value: object) -> str:
    """One number, of whatever rank, as the frame's tile."""
    return f"tl.where({frame.flat} >= 0, {value}, {value})"


def over_tile(value: object, shape: Sequence[str]) -> str:
    return f"tl.broadcast_to({value}, {shape_text(shape)})"


def spread_row(value: object, row: Row, *, broadcast: bool) -> str:
    """What is loaded along some axes of a tile, with the tile's rank, or over all of it."""
    text = f"{value}{row.suffix}"
    return over_tile(text, row.shape) if broadcast else text


def spread_value(text: str, its: Sequence[ir.Tile], mine: Sequence[ir.Tile], shape: Sequence[str]) -> str:
    """A value of a block along the tiles `its`, over one along `mine`."""
    if not its:
        text = f"tl.reshape({text}, [{', '.join('1' for _ in mine) or '1'}])"
    elif len(its) < len(mine):
        text += f"[{', '.join(':' if tile in its else 'None' for tile in mine)}]"
    return over_tile(text, shape)


def converted(text: str, dtype: str) -> str:
    return f"{text}.to(tl.{DTYPES[dtype].triton})"


def pointer_to(argument: ast.expr, dtype: str) -> ast.expr:
    """A pointer, to elements of another dtype."""
    return quote("{0}.to(tl.pointer_type({1}))", argument, triton_dtype(dtype))

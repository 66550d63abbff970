"""The lines of a kernel's body, with a placeholder of Inductor's where its code comes.

LoadSlot(B), fused        ->    _prologue_B_xindex = tl.zeros(...) + (k_[:, None] * N_ + n_[None, :])
                                <LOAD_INPUT_B>
                                B_tile = tl.broadcast_to(_prologue_B_result.to(tl.float16), [BLOCK_K_, BLOCK_N_])
StoreSlot(C), fused       ->    _kernel_val_0 = acc_.to(tl.float16)
                                <STORE_OUTPUT_0>
"""

from __future__ import annotations

import ast
from collections.abc import Set

from tdsl.lower.emit.functions import triton_dtype
from tdsl.lower.emit.syntax import assign, binary, call, quote
from tdsl.lower.emit.triton import LoadSlot, StoreSlot
from tdsl.lower.inductor.kernel.frames import Frame, block_shape, wanted
from tdsl.lower.inductor.kernel.operators import as_read, as_stored
from tdsl.lower.inductor.module import Written


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


def fused_load(frame: Frame, read: Set[str], *, padded: bool) -> list[Written]:
    """A load point with a prologue, which reads the names `read`. padded: it is 0 by itself in the lanes outside."""
    slot = frame.slot
    assert isinstance(slot, LoadSlot), "a prologue stands at a load point"
    lines = [assign(frame.flat, binary("+", frame.nothing(slot.shape), slot.index))]
    if frame.flat not in frame.names:
        lines += frame.index_lines()
    lines += frame.mask_lines()
    value = quote("{0}.to({1})", prologue_result(frame), triton_dtype(slot.dtype))
    if not slot.multiplied:
        value = as_stored(value, slot.dtype)
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


def fused_store(frame: Frame, number: int, read: Set[str]) -> list[ast.Assign]:
    """Names for what the code behind a store point reads, of which it reads `read`: its value, mask and indices."""
    slot = frame.slot
    assert isinstance(slot, StoreSlot), "an epilogue stands at a store point"
    lines = frame.mask_lines()
    if not any(frame.names):
        lines.append(assign(frame.flat, frame.nothing(slot.shape)))
    lines += frame.index_lines()
    return [assign(stored_value(number), as_read(slot)), *wanted(lines, read)]

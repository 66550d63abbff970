"""What Triton's interpreter does not do as a GPU does, and `runtime/interpreter.py` does in its place."""

from __future__ import annotations

import operator

import numpy
import pytest
import torch
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from tests.inductor.compat.upstream import assert_wrong

BUILDER = InterpreterBuilder()
NARROW = {
    "bf16": (tl.bfloat16, torch.bfloat16, numpy.uint16),
    "f8e4m3": (tl.float8e4nv, torch.float8_e4m3fn, numpy.uint8),
    "f8e5m2": (tl.float8e5, torch.float8_e5m2, numpy.uint8),
}


@pytest.mark.parametrize("name", NARROW)
def test_narrow_floats_are_calculated_as_their_bits(name):
    kind, dtype, bits = NARROW[name]
    one, two = (
        torch.tensor([number], dtype=dtype).view(torch.uint8).numpy().view(bits) for number in (1.0, 2.0)
    )
    made = BUILDER.binary_op(TensorHandle(one, kind), TensorHandle(one, kind), operator.add)
    assert_wrong(made.data.tobytes() != two.tobytes(), "runtime/interpreter.py: Arithmetic, narrow floats")


@pytest.mark.parametrize("make, number", [("get_int8", 200), ("get_uint8", -1), ("get_int32", 2**31)])
def test_constants_do_not_wrap(make, number):
    try:
        getattr(BUILDER, make)(number)
        wrong = False
    except OverflowError:
        wrong = True
    assert_wrong(wrong, "runtime/interpreter.py: _constant")


def test_the_complement_of_unsigned_integers():
    try:
        BUILDER.get_all_ones_value(tl.uint8)
        wrong = False
    except OverflowError:
        wrong = True
    assert_wrong(
        wrong, "runtime/interpreter.py: Arithmetic.get_all_ones_value; emit/expressions.py: `~` of u8"
    )


def test_libdevice_is_not_there():
    tile = tl.tensor(TensorHandle(numpy.ones(4, numpy.float32), tl.float32), tl.block_type(tl.float32, [4]))
    wrong = libdevice.exp2(tile) is None  # as all of them, which a compiler fills in
    assert_wrong(wrong, "runtime/interpreter.py: Libdevice")


def test_overflow_is_looked_for_and_nobody_told():
    options = BUILDER.options
    assert_wrong(
        options.sanitize_overflow and not options.debug, "runtime/interpreter.py: Arithmetic.options"
    )

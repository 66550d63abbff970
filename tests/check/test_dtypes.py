from __future__ import annotations

import pytest

from tdsl.check.dtypes import DTypes
from tdsl.types import F32, WEAK_FLOAT, WEAK_INT, DType

DTYPES = DTypes(
    {"T": ("f16", "bf16", "f32"), "U": ("f32", "f64"), "I": ("i32", "i64"), "E": ("f16", "f8e4m3")}
)
T, U, INT = DType(("T",)), DType(("U",)), DType(("I",))


@pytest.mark.parametrize(
    ("operands", "result"),
    [
        ((T, WEAK_FLOAT), T),
        ((T, WEAK_INT), T),
        ((T, F32), F32),
        ((T, U), U),
        ((INT, T), T),
        ((INT, WEAK_FLOAT), F32),
        ((WEAK_INT, WEAK_FLOAT), WEAK_FLOAT),
        ((U, INT), U),
    ],
)
def test_promote(operands: tuple[DType, ...], result: DType) -> None:
    assert DTYPES.promote(*operands) == result


def test_accumulator() -> None:
    assert DTYPES.accumulator(T, T) == F32
    assert DTYPES.accumulator(U, U) == U
    assert str(DTYPES.accumulator(DType(("i8",)), DType(("i8",)))) == "i32"


def test_categories() -> None:
    assert DTYPES.categories(T) == {2}
    assert DTYPES.is_integer(INT) and DTYPES.is_integer(WEAK_INT)
    assert not DTYPES.is_integer(T)


def test_keeps() -> None:
    assert DTYPES.keeps(F32, T)
    assert not DTYPES.keeps(T, F32)
    assert DTYPES.keeps(T, WEAK_FLOAT)
    assert not DTYPES.keeps(INT, WEAK_FLOAT)


def test_narrow() -> None:
    assert DTYPES.narrow(DType(("E",))) == "f8e4m3"
    assert DTYPES.narrow(T) is None


def test_many_variables_take_no_long_time() -> None:
    names = [f"T{at}" for at in range(60)]
    dtypes = DTypes({name: ("f16", "bf16", "f32", "f64") for name in names})
    everything = dtypes.promote(*(DType((name,)) for name in names))
    assert dtypes.possible(everything) == {"f16", "bf16", "f32", "f64"}

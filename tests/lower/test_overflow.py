"""In how many bits a kernel calculates with indices: bounds hold every value, and 64 bits are taken where 32 do not."""

from __future__ import annotations

import itertools
import operator
from dataclasses import replace

import pytest

from tdsl.lower.facts.contiguous import contiguous
from tdsl.lower.facts.overflow import SIZE, _binary, wide_enough
from tdsl.pipeline import load
from tdsl.source import Source

TEXT = """
template rows(x: f32[K, N], like: f32[M, N], p: int) -> y: f32[M, N]
where K >= 1:
    config BLOCK=16
    config BLOCK=32
    for m, n in grid(M by BLOCK, N by 16):
        {before}
        store y[m, n] = load x[({subscript}) % K, n] + load like[m, n] + f32(p)
"""


def bits(subscript: str, before: str = "a = 0", **dims: int) -> int:
    kernel = load(Source("<test>", TEXT.format(subscript=subscript, before=before)), None)
    binding, _ = contiguous(kernel, dims=dims)
    return {"i32": 32, "i64": 64}[wide_enough(kernel, binding).index_dtype]


@pytest.mark.parametrize(
    "subscript, most",
    [
        # So many rows are the most of which 32 bits hold all that is calculated.
        ("m * 1048576", 2048),
        ("m * -1048576", 2049),
        ("-m * 1048576", 2049),
        ("m << 20", 2048),
        ("M - 1 - m * 1048576", 2048),
        ("m * 1048576 // 1048576", 2048),
        ("maximum(m * 1048576, 5)", 2048),
        ("abs(0 - m * 1048576)", 2048),
        ("where(m > 3, m * 1048576, 0)", 2048),
        ("m * m", 46341),
        ("m * 4 * (m % 8)", 76695845),
        ("m + 2147480000", 3648),
        ("m ** 3", 1291),
        ("m * BLOCK", 67108864),
    ],
)
def test_the_last_that_fits(subscript, most):
    assert bits(subscript, K=64, N=8, M=most) == 32
    assert bits(subscript, K=64, N=8, M=most + 1) == 64


@pytest.mark.parametrize(
    "subscript, expected",
    [
        ("m", 32),
        ("m // 8", 32),
        ("m + 1000", 32),
        (f"m + {2**31 - SIZE}", 32),
        (f"m + {2**31 - SIZE + 1}", 64),
        ("m * 2", 64),
        ("m % 1000 * 1000", 32),
        ("m & 1023", 32),
        ("minimum(m, 10) * 100", 64),  # a minimum is bounded as either side is
        ("M - m", 32),
        ("p", 32),
        ("p + m", 64),
        ("p % 7 + m % 7", 32),  # a scalar has the bits that it is passed in
    ],
)
def test_open_sizes(subscript, expected):
    """A size that is not known is as large as that of a tensor may be, and a scalar of any size."""
    assert bits(subscript) == expected


@pytest.mark.parametrize("factor, expected", [(1000, 32), (1 << 30, 64)])
def test_through_variables(factor, expected):
    """Whatever a variable may have been given."""
    assert bits("a", f"a = m * {factor}", K=64, N=8, M=1000) == expected
    assert bits("a + m", f"a = 3 * {factor}", K=64, N=8, M=1000) == expected


def test_what_python_calculates_takes_no_bits():
    assert bits("M * 1000000007 + m", K=64, N=8, M=20) == 64
    assert bits("M * 1000000007 % 5 + m", K=64, N=8, M=20) == 32


def test_64_bits_stay():
    kernel = load(Source("<test>", TEXT.format(subscript="m", before="a = 0")), None)
    binding, _ = contiguous(kernel, dims={"M": 2, "K": 2, "N": 2})
    wide = replace(binding, index_dtype="i64")
    assert wide_enough(kernel, wide) is wide
    assert wide_enough(kernel, binding) is binding


OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    ">>": operator.rshift,
    "<<": operator.lshift,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "**": operator.pow,
    "<": operator.lt,
    "==": operator.eq,
}
ENDS = [-7, -2, -1, 0, 1, 3, 8]
INTERVALS = [(low, high) for low in ENDS for high in ENDS if low <= high]


@pytest.mark.parametrize("op", OPERATORS)
def test_an_interval_holds_every_value(op):
    for left, right in itertools.product(INTERVALS, INTERVALS):
        low, high = _binary(op, left, right)
        for a, b in itertools.product(range(left[0], left[1] + 1), range(right[0], right[1] + 1)):
            if (op in ("//", "%") and b == 0) or (op in ("<<", ">>", "**") and b < 0):
                continue
            assert low <= OPERATORS[op](a, b) <= high, (a, b, left, right)


@pytest.mark.parametrize("op", ["+", "-", "*", "//", "<<", "&", "|"])
def test_an_interval_is_not_much_too_large(op):
    """Of what is not negative: else all would take 64 bits."""
    for left, right in itertools.product([(0, 5), (2, 9)], [(1, 3), (4, 4)]):
        _, high = _binary(op, left, right)
        values = [
            OPERATORS[op](a, b) for a in range(left[0], left[1] + 1) for b in range(right[0], right[1] + 1)
        ]
        assert high <= 4 * max(values) + 4

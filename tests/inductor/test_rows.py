"""What varies along one dimension of a stored tile is loaded once for the others, however it is indexed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tdsl import testing
from tdsl.testing import assert_fused, load_module

DEVICE = testing.device()
t = load_module(Path(__file__).with_name("templates.py"))


def whole_numbers(*shape, dtype=torch.float32):
    return torch.randint(-4, 5, shape).to(dtype).to(DEVICE)


def ab(m, n):
    return whole_numbers(m, 20), whole_numbers(20, n)


@pytest.mark.parametrize("m, n", [(64, 96), (37, 75)])
def test_rows_and_columns_are_vectors(m, n):
    def program(a, b, row, column):
        return t.mm(a, b) * row + column[:, None]

    report = assert_fused(program, (*ab(m, n), whole_numbers(n), whole_numbers(m)), exact=True)
    loads = re.findall(r"= tl\.load\(\w+ \+ \((x_epilogue0_\w+)\)", report.kernel_text)
    assert sorted(loads) == ["x_epilogue0_0_line", "x_epilogue0_1_line"]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.int8, torch.float64])
def test_of_any_dtype(dtype):
    def program(a, b, row, column):
        return t.mm(a, b) * row + column[:, None]

    row, column = whole_numbers(75, dtype=dtype), whole_numbers(37, dtype=dtype)
    assert_fused(program, (*ab(37, 75), row, column), exact=True)


@pytest.mark.parametrize("m, n", [(64, 96), (37, 75)])
def test_a_row_that_is_padded(m, n):
    def program(a, b, row):
        return t.mm(a, b) + F.pad(row, (3, 5))

    assert_fused(program, (*ab(m, n), whole_numbers(n - 8)), kernels=None, exact=True)


@pytest.mark.parametrize("m, n", [(64, 96), (37, 75)])
def test_a_row_whose_places_are_a_row(m, n):
    def program(a, b, table, places):
        return t.mm(a, b) + table[places]

    places = torch.randint(0, 9, (n,)).to(DEVICE)
    assert_fused(program, (*ab(m, n), whole_numbers(9), places), kernels=None, exact=True)


@pytest.mark.parametrize("m, n", [(64, 96), (36, 76)])
def test_a_part_of_an_index(m, n):
    def program(a, b, row, column):
        return t.mm(a, b) + row.repeat_interleave(4) - column.repeat(4)[:, None]

    assert_fused(program, (*ab(m, n), whole_numbers(n // 4), whole_numbers(m // 4)), kernels=None, exact=True)


def test_two_of_three_dimensions():
    def program(x, w, c, d, e):
        return t.ln(x, w, None, 1e-5)[0] * c + d.unsqueeze(-1) * e[:, None, None]

    args = [torch.randn(shape, device=DEVICE) for shape in ((3, 7, 40), (40,), (7, 40), (3, 7), (3,))]
    assert_fused(program, args)

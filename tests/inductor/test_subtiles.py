"""`epilogue_subtile`: a tile stored in parts is the same tile, whatever is fused behind it."""

from __future__ import annotations

import re

import pytest
import torch

import tdsl
from tdsl import testing
from tdsl.testing import assert_fused

DEVICE = testing.device()
TEXT = """
template mm(A: T[M, K], B: T[K, N]) -> C: T[M, N]
where T in (f16, bf16, f32):
    config BLOCK_M=32, BLOCK_N=64, BLOCK_K=32, num_warps=4, num_stages=2, epilogue_subtile=PARTS
    for m, n in grid(M by BLOCK_M, N by BLOCK_N, group=2):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc

template twice(x: T[B, M, N], w: T[N]) -> (y: T[B, M, N], z: T[B, M, N]):
    config BLOCK_B=2, BLOCK_M=8, BLOCK_N=32, num_warps=4, epilogue_subtile=PARTS
    for b, m, n in grid(B by BLOCK_B, M by BLOCK_M, N by BLOCK_N):
        v = load x[b, m, n]
        store y[b, m, n] = v * load w[n]
        store z[b, m, n] = v + 1

template centred(x: T[R..., N]) -> (y: T[R..., N], mean: f32[R...]):
    config BLOCK_R=4, num_warps=4, epilogue_subtile=PARTS
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load x[r, n])
        mu = sum(v, n) / N
        store y[r, n] = v - mu
        store mean[r] = mu

template turned(x: T[M, N]) -> y: T[N, M]:
    config BLOCK_M=16, BLOCK_N=32, num_warps=4, epilogue_subtile=PARTS
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        store y[n, m] = load x[m, n]

template swap(inout a: T[M, N], inout b: T[M, N]):
    config BLOCK_M=16, BLOCK_N=32, num_warps=4, epilogue_subtile=PARTS
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        x = load a[m, n]
        y = load b[m, n]
        store a[m, n] = y
        store b[m, n] = x
"""


def reference(name):
    def centred(x):
        mean = x.float().mean(-1)
        return (x.float() - mean[..., None]).to(x.dtype), mean

    def swap(a, b):
        old = a.clone()
        a.copy_(b)
        b.copy_(old)

    return {
        "mm": lambda A, B: A @ B,
        "twice": lambda x, w: (x * w, x + 1),
        "centred": centred,
        "turned": lambda x: x.t().contiguous(),
        "swap": swap,
    }[name]


def template(name, parts):
    return tdsl.template(source=TEXT.replace("PARTS", str(parts)), name=name)(reference(name))


def whole_numbers(*shape, dtype=torch.float32):
    return torch.randint(-4, 5, shape).to(dtype).to(DEVICE)


def assert_parts(report, loops):
    assert len(re.findall(r"in tl\.static_range\(epilogue_subtile_\)", report.kernel_text)) == loops


@pytest.mark.parametrize("parts", [2, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_with_a_row_a_column_and_a_tile(parts, dtype):
    mm = template("mm", parts)

    def program(a, b, row, column, tile):
        return torch.relu(mm(a, b) + row) * column[:, None] - tile

    def inputs(m, k, n):
        shapes = (m, k), (k, n), (n,), (m,), (m, n)
        return [whole_numbers(*shape, dtype=dtype) for shape in shapes]

    # The sums stay below 256, which bf16 still counts one by one.
    report = assert_fused(program, inputs(37, 2, 75), exact=True, also=[inputs(70, 3, 2), inputs(2, 2, 130)])
    assert_parts(report, 1)


def test_even_sizes_are_stored_without_a_mask():
    mm = template("mm", 4)
    args = whole_numbers(64, 32), whole_numbers(32, 128), whole_numbers(128)
    report = assert_fused(lambda a, b, c: mm(a, b) * c, args, exact=True)
    assert_parts(report, 1)
    assert "mask" not in report.kernel_text.split("def ")[-1]


def test_several_outputs_of_three_dimensions():
    twice = template("twice", 4)

    def program(x, w, c):
        y, z = twice(x, w)
        return torch.relu(y) + c, z * w, z

    args = whole_numbers(3, 13, 70), whole_numbers(70), whole_numbers(3, 13, 70)
    assert_parts(assert_fused(program, args, exact=True), 2)


def test_a_result_of_fewer_dimensions_is_stored_whole():
    centred = template("centred", 2)

    def program(x, c):
        y, mean = centred(x)
        return torch.relu(y) * c, mean + 1, y / (mean.abs().unsqueeze(-1) + 1)

    x = whole_numbers(3, 5, 64)
    # The quotient needs the mean where the parts of y are stored: a kernel of its own.
    report = assert_fused(program, (x, whole_numbers(64)), kernels=2)
    assert_parts(report, 1)
    assert any("leave out 'epilogue_subtile'" in refusal.help for refusal in report.refusals)


def test_the_parts_lie_along_the_last_dimension_of_the_result():
    turned = template("turned", 2)
    report = assert_fused(
        lambda x, c: turned(x) + c, (whole_numbers(37, 50), whole_numbers(50, 37)), exact=True
    )
    assert_parts(report, 1)
    assert "m_part[None, :]" in report.kernel_text


def test_results_in_place():
    swap = template("swap", 8)

    def program(a, b, c):
        swap(a, b)
        return a + c

    args = whole_numbers(37, 50), whole_numbers(37, 50), whole_numbers(50)
    assert_fused(program, args, kernels=None, exact=True)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_there_are_no_more_parts_than_lanes(n):
    centred = template("centred", 8)
    x = whole_numbers(5, n)
    assert_fused(lambda x: torch.relu(centred(x)[0]), (x,), kernels=None)


def test_parts_are_values_to_choose_from():
    text = TEXT.replace("epilogue_subtile=PARTS", "epilogue_subtile=3")
    with pytest.raises(tdsl.TdslError, match="'epilogue_subtile' is 1, 2, 4 or 8; not 3"):
        tdsl.template(source=text, name="mm")(reference("mm"))

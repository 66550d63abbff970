"""Dots of few lanes and of 8-bit operands: Triton takes no block of less than 16 lanes, of 8 bits none of less than 32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tdsl
from tdsl.testing import assert_fused

from .launch import NAMES, Launch
from .targets import compiled

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")
EIGHT = [torch.int8, torch.float8_e4m3fn, torch.float8_e5m2]
WHOLE = """
template product(a: T[M, {K}], b: T[{K}, N], d: A[M, N]) -> (y: A[M, N], z: A[M, N]):
    for m, n in grid(M by 16, N by 16):
        k = whole({K})
        store y[m, n] = dot(load a[m, k], load b[k, n])
        acc = load d[m, n]
        acc += dot(load a[m, k], load b[k, n])
        store z[m, n] = acc
"""
LOOP = """
template product(a: T[M, K], b: T[K, N], d: A[M, N]) -> (y: A[M, N], z: A[M, N]):
    let BLOCK = next_pow2(K)
    for m, n in grid(M by 16, N by 16):
        acc = zeros(m, n, dtype=A)
        more = load d[m, n]
        for k in K by BLOCK:
            acc += dot(load a[m, k], load b[k, n])
            more += dot(load a[m, k], load b[k, n])
        store y[m, n] = acc
        store z[m, n] = more
"""


def operands(dtype: torch.dtype, lanes: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(lanes)
    wide = torch.int32 if dtype == torch.int8 else torch.float32
    low, high = (-128, 128) if dtype == torch.int8 else (-8, 8)
    a, b = (torch.randint(low, high, shape, generator=generator) for shape in ((19, lanes), (lanes, 21)))
    return a.to(dtype), b.to(dtype), torch.randint(-9, 9, (19, 21), generator=generator).to(wide)


def typed(text: str, dtype: torch.dtype, lanes: object = "K") -> str:
    text = text.replace("{K}", str(lanes))
    return (
        text.replace("T[", f"{NAMES[dtype]}[")
        .replace("A[", "i32[" if dtype == torch.int8 else "f32[")
        .replace("=A", "=i32" if dtype == torch.int8 else "=f32")
    )


@pytest.mark.parametrize("lanes", [1, 12, 16, 20, 33])
@pytest.mark.parametrize("text", [WHOLE, LOOP], ids=["whole", "loop"])
@pytest.mark.parametrize("dtype", [*EIGHT, torch.float16], ids=str)
def test_few_lanes(tmp_path: Path, dtype: torch.dtype, text: str, lanes: int) -> None:
    a, b, d = operands(dtype, lanes)
    y, z = Launch(tmp_path)(typed(text, dtype), a=a, b=b, d=d)
    expected = (a.double() @ b.double()).to(d.dtype)
    assert torch.equal(y, expected) and torch.equal(z, expected + d)


@pytest.mark.parametrize("dtype", EIGHT, ids=str)
def test_compiles_where_8_bits_want_32_lanes(tmp_path: Path, dtype: torch.dtype) -> None:
    """What sm_80 and gfx942 have no instruction for is left out."""
    for lanes in (12, 33):
        compiled(typed(WHOLE, dtype, lanes), tmp_path, targets=("sm_90", "sm_100"))


@pytest.mark.parametrize("dynamic", [False, True])
def test_in_a_program(dynamic: bool) -> None:
    @tdsl.template(source=typed(WHOLE, torch.int8))
    def product(a, b, d):
        y = (a.double() @ b.double()).int()
        return y, y + d

    a, b, d = operands(torch.int8, 12)
    assert_fused(
        lambda a, b, d: tuple(y * 2 for y in product(a, b, d + 1)), (a, b, d), kernels=1, dynamic=dynamic
    )

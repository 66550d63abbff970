"""A number that a dtype does not hold wraps where it is cast, as PyTorch's does: literals, constants, sizes, arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tdsl
from tdsl.testing import assert_fused

from .launch import NAMES, Launch
from .targets import compiled

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")
INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64]
NUMBERS = [300, -1, 255, 128, -129, 70000, 2**31, 5000000000, -(2**31) - 1, 2**40 + 7, 0, 7]
TEXT = """
template cast(like: f32[N], many: f32[K], p: int, q: const int) -> (y: T[N], z: T[N], w: T[N], f: T[N], g: T[N], k: T[N]):
    for n in grid(N by 16):
        one = i32(load like[n]) * 0
        store y[n] = T(NUMBER) + T(one)
        store z[n] = T(p) + T(one)
        store w[n] = T(q) + T(one)
        store f[n] = full(n, value=NUMBER, dtype=T)
        store g[n] = full(n, value=p, dtype=T)
        store k[n] = where(load like[n] == 0, T(NUMBER), T(K - 500)) ^ T(n * 37 - 300)
"""


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_wrap(tmp_path: Path, dtype: torch.dtype, dynamic: bool) -> None:
    launch = Launch(tmp_path, dynamic=dynamic, index_dtype="i64")
    like, many = torch.zeros(21), torch.zeros(200)
    n = torch.arange(21) * 37 - 300
    for number in NUMBERS:
        text = (
            TEXT.replace("T[", f"{NAMES[dtype]}[")
            .replace("T(", f"{NAMES[dtype]}(")
            .replace("=T", f"={NAMES[dtype]}")
        )
        *results, k = launch(text.replace("NUMBER", str(number)), like=like, many=many, p=number, q=number)
        expected = torch.tensor(number).to(dtype)
        for result in results:
            assert torch.equal(result, expected.expand(21)), number
        assert torch.equal(k, expected ^ n.to(dtype)), number


def test_floats_are_cut(tmp_path: Path) -> None:
    text = """
template cut(like: f32[N]) -> (a: i8[N], b: u8[N], c: i32[N], d: f16[N]):
    for n in grid(N by 16):
        v = load like[n]
        store a[n] = i8(-2.9) + i8(v)
        store b[n] = u8(-1.5) + u8(v)
        store c[n] = i32(2.5e3) + i32(inf) + i32(v)
        store d[n] = f16(70000) + f16(v)
"""
    a, b, c, d = (each[0].item() for each in Launch(tmp_path)(text, like=torch.zeros(3)))
    assert (a, b, c, d) == (-2, 255, 2500, float("inf"))


@pytest.mark.parametrize("dynamic", [False, True])
def test_in_a_program(dynamic: bool) -> None:
    @tdsl.template(
        source="""
template wrapped(x: i8[N], p: int) -> (y: i8[N], z: i32[N]):
    for n in grid(N by 16):
        store y[n] = load x[n] + i8(300) - i8(p)
        store z[n] = i32(load x[n]) + i32(5000000000)
"""
    )
    def wrapped(x, p):
        number = torch.tensor([300, p, 5000000000])
        small = number.to(torch.int8)
        return x + small[0] - small[1], x.int() + number.int()[2]

    x = torch.arange(-20, 20).to(torch.int8)
    assert_fused(lambda x, p: tuple(y + 1 for y in wrapped(x * 2, p)), (x, 777), kernels=1, dynamic=dynamic)


def test_for_a_gpu(tmp_path: Path) -> None:
    for dtype in ("i8", "u8", "i32"):
        text = TEXT.replace("T[", f"{dtype}[").replace("T(", f"{dtype}(").replace("=T", f"={dtype}")
        compiled(
            text.replace("NUMBER", "5000000000").replace(", q: const int", ", q: const int = 300"),
            tmp_path,
            ("sm_90",),
        )


PROMOTED = """
template promoted(x: T[N]) -> (y: promote(T, f32)[N], z: T[N])
where T in {choices}:
    for n in grid(N by 16):
        acc = full(n, value=3, dtype=promote(T, f32))
        acc += load x[n]
        store y[n] = acc
        store z[n] = load x[n + 1] else 0
"""


@pytest.mark.parametrize("dtype", [torch.int32, torch.float64, torch.bfloat16, torch.uint8], ids=str)
def test_a_promoted_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    x = torch.arange(21).to(dtype)
    for choices in ("(i32, f64, bf16, u8)", f"({NAMES[dtype]})"):
        y, z = Launch(tmp_path)(PROMOTED.format(choices=choices), x=x)
        assert y.dtype == torch.promote_types(dtype, torch.float32)
        assert torch.equal(y, x.to(y.dtype) + 3) and torch.equal(z[:-1], x[1:]) and z[-1] == 0


FLOAT8 = """
template cast(x: A[N], e: A[], p: int) -> (y: B[N], z: B[N], k: B[N], l: B[N], q: B[N]):
    for n in grid(N by 16):
        v = load x[n]
        store y[n] = B(v)
        store z[n] = B(n)
        store k[n] = B(p)
        store l[n] = B(2.5)
        store q[n] = full(n, value=load e[], dtype=B)
"""


def _float8(start: str, end: str) -> str:
    text = FLOAT8.replace("A[", f"{start}[").replace("B[", f"{end}[")
    return text.replace("B(", f"{end}(").replace("=B", f"={end}")


@pytest.mark.parametrize("narrow", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_float8(tmp_path: Path, narrow: torch.dtype) -> None:
    """As PyTorch, through f32: twice rounded from f64."""
    others = [*INTEGERS, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64, torch.bfloat16]
    numbers = torch.tensor(
        [0, 1, 5, -3, 100, 1.0625 + 2**-40, -0.0, 0.3, 17, 18, 19, 20], dtype=torch.float64
    )
    for other in others:
        for start, end in ((narrow, other), (other, narrow)):
            x = numbers.float().to(start) if start != torch.float64 else numbers
            results = Launch(tmp_path)(_float8(NAMES[start], NAMES[end]), x=x, e=x[4], p=-17)
            given = [
                x,
                torch.arange(len(x)),
                *(torch.tensor(e).expand(len(x)) for e in (-17, 2.5)),
                x[4].expand(len(x)),
            ]
            for result, value in zip(results, given, strict=True):
                wanted = value.to(end).contiguous()
                assert torch.equal(result.view(torch.uint8), wanted.view(torch.uint8)), (start, end)


@pytest.mark.parametrize("narrow", ["f8e4m3", "f8e5m2"])
def test_float8_for_a_gpu(tmp_path: Path, narrow: str) -> None:
    for other in ("f64", "i64", "u8", "bool", "f8e5m2" if narrow == "f8e4m3" else "f8e4m3"):
        for start, end in ((narrow, other), (other, narrow)):
            compiled(_float8(start, end), tmp_path, ("sm_90",))

"""Shifts are PyTorch's: by a negative amount, or by as many bits as there are, nothing is left but a sign."""

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
AMOUNTS = [
    -128,
    -65,
    -64,
    -33,
    -32,
    -8,
    -1,
    0,
    1,
    6,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    62,
    63,
    64,
    65,
    100,
    127,
]
TEXT = """
template shifted(x: X[M], s: S[N], count: int) -> (l: X[M, N], r: X[M, N], p: X[M, N], q: X[M, N]):
    for m, n in grid(M by 4, N by 16):
        v = load x[m]
        t = load s[n]
        store l[m, n] = v << t
        store r[m, n] = v >> t
        store p[m, n] = (v << (n * 3 - 20)) ^ (v >> (n * 3 - 20))
        store q[m, n] = (v << count) ^ (v >> count) ^ (v << 7) ^ (v >> 40) ^ (v << 33) ^ (1 << (v & 3))

template ones(s: S[N], count: int) -> (o: S[N], k: i64[N]):
    for n in grid(N by 16):
        store o[n] = (1 << load s[n]) ^ (-5 >> load s[n])
        store k[n] = i64((1 << n) >> n) + (7 >> (count + 40))
"""


def shift(op: str, x: torch.Tensor, amount: torch.Tensor | int) -> torch.Tensor:
    """What PyTorch has for two of one dtype, by an amount of any."""
    bits = x.dtype.itemsize * 8
    amount = torch.as_tensor(amount).long()
    amount = torch.where((amount < 0) | (amount >= bits), bits, amount).to(x.dtype)
    return x << amount if op == "<<" else x >> amount


def shifted(x: torch.Tensor, s: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    v, n = x[:, None].expand(-1, len(s)), torch.arange(len(s)) * 3 - 20
    counted = shift("<<", v, count) ^ shift(">>", v, count)
    known = shift("<<", v, 7) ^ shift(">>", v, 40) ^ shift("<<", v, 33)
    return (
        shift("<<", v, s),
        shift(">>", v, s),
        shift("<<", v, n) ^ shift(">>", v, n),
        counted ^ known ^ shift("<<", torch.ones_like(v), v & 3),
    )


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("amount", INTEGERS, ids=str)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_by_any_amount(tmp_path: Path, dtype: torch.dtype, amount: torch.dtype, dynamic: bool) -> None:
    x = torch.tensor([0, 1, -1, 5, -6, 100, -128, 127]).to(dtype)
    x[-1] = torch.iinfo(dtype).max
    s = torch.tensor(AMOUNTS).to(amount)
    text = TEXT.replace("X[", f"{NAMES[dtype]}[").replace("S[", f"{NAMES[amount]}[")
    launch = Launch(tmp_path, dynamic=dynamic)
    for count in (3, -2, 90) if dtype == amount else (9,):
        found = launch(text, name="shifted", x=x, s=s, count=count)
        for each, wanted in zip(found, shifted(x, s, count), strict=True):
            assert torch.equal(each, wanted)
    o, _ = launch(text, name="ones", s=s, count=3)
    assert torch.equal(o, shift("<<", torch.ones_like(s), s) ^ shift(">>", torch.full_like(s, -5), s))


def test_of_indices(tmp_path: Path) -> None:
    """In 64 bits where 32 do not hold them."""
    text = TEXT.replace("X[", "i32[").replace("S[", "i32[")
    _, k = Launch(tmp_path, index_dtype="i64")(
        text, name="ones", s=torch.zeros(40, dtype=torch.int32), count=30
    )
    assert k.tolist() == [1] * 40


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("count", [3, 30, -90])
def test_of_scalars(tmp_path: Path, count: int, dynamic: bool) -> None:
    text = TEXT.replace("X[", "i32[").replace("S[", "i32[").replace("(7 >>", "(-7 >>")
    s = torch.zeros(2, dtype=torch.int32)
    _, k = Launch(tmp_path, dynamic=dynamic, index_dtype="i64")(text, name="ones", s=s, count=count)
    assert k.tolist() == [0, 0]  # 1 - 1


@pytest.mark.parametrize("dynamic", [False, True])
def test_in_a_program(dynamic: bool) -> None:
    @tdsl.template(
        source="""
template mixed(x: i32[M, N], s: i8[N], count: int) -> (y: i32[M, N], z: i32[M]):
    for m in grid(M by 4):
        n = whole(N)
        v = load x[m, n]
        store y[m, n] = (v << load s[n]) - (v >> count)
        store z[m] = sum((v + 1 >> load s[n]) + (v << (m * 9 - 9)), n)
"""
    )
    def mixed(x, s, count):
        m = torch.arange(x.shape[0])[:, None] * 9 - 9
        z = shift(">>", x + 1, s) + shift("<<", x, m)
        return shift("<<", x, s) - shift(">>", x, count), z.sum(1, dtype=torch.int32)

    x = torch.randint(-100, 100, (7, 25), generator=torch.Generator().manual_seed(0)).int()
    s = torch.tensor(AMOUNTS).to(torch.int8)
    for by in (2, 32, -7):
        assert_fused(
            lambda x, s, by: tuple(y + 1 for y in mixed(x * 2, s, by)),
            (x, s, by),
            kernels=1,
            dynamic=dynamic,
        )


def test_for_every_target(tmp_path: Path) -> None:
    for x, s in (("u8", "i64"), ("i8", "i16"), ("i64", "u8")):
        compiled(TEXT.replace("X[", f"{x}[").replace("S[", f"{s}["), tmp_path, ("sm_90",))


@pytest.mark.parametrize(
    "amount", ["n % 8 * 4", "n & 7", "load s[n] % 32", "load s[n] & 31", "31 - n % 32", "9"]
)
def test_an_amount_that_is_proven_takes_no_test(tmp_path: Path, amount: str) -> None:
    text = f"template f(x: i32[N], s: i32[N]) -> y: i32[N]:\n    for n in grid(N by 16):\n        store y[n] = load x[n] >> ({amount}) if true else load s[n]\n"
    launch = Launch(tmp_path)
    x, s = torch.arange(-1000, 1000, 80).int(), torch.arange(25).int() - 9
    launch(text, x=x, s=s)
    assert "inside" not in launch.text

"""`//` and `%` of floats are PyTorch's, sign by sign, by zero and by infinity; a constant comes to the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

import tdsl
from tdsl.pipeline import load
from tdsl.signature import Environment, evaluate
from tdsl.source import Source
from tdsl.testing import assert_fused

from .launch import NAMES, Launch
from .targets import compiled

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")
DTYPES = {name: dtype for dtype, name in NAMES.items()}
INF, NAN = float("inf"), float("nan")
EDGES = [
    NAN,
    INF,
    -INF,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    -0.1,
    0.3,
    3.0,
    -3.0,
    7.5,
    -7.5,
    1e4,
    -1e-4,
    2.5,
    59.0,
    0.7,
]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
TEXT = """
template both(a: T[M], b: T[N]) -> (q: T[M, N], r: T[M, N], s: T[M, N], t: T[M, N], u: T[M, N], z: T[M, N])
where T in (f16, bf16, f32, f64):
    for m, n in grid(M by 8, N by 16):
        x = load a[m]
        y = load b[n]
        store q[m, n] = x // y
        store r[m, n] = x % y
        store s[m, n] = 0.3 % y
        store t[m, n] = x // 0.3
        store u[m, n] = x % -0.7
        store z[m, n] = where(n % 2 == 0, x // 0.0, x % 0)
"""


def expected(a, b):
    """In float32 for narrow floats: PyTorch's own `floor_divide` of two of those differs from lane to lane."""
    wide = torch.float32 if a.dtype.itemsize < 4 else a.dtype
    x, y = a[:, None].to(wide), b[None, :].to(wide)
    even = torch.arange(len(b)) % 2 == 0
    results = (
        x // y,
        torch.remainder(a[:, None], b[None, :]),
        torch.remainder(0.3, b).expand(len(a), -1),
        torch.floor_divide(a, 0.3)[:, None].expand(-1, len(b)),
        torch.remainder(a, -0.7)[:, None].expand(-1, len(b)),
        torch.where(even, torch.floor_divide(a, 0.0)[:, None], torch.remainder(a, 0.0)[:, None]),
    )
    return tuple(each.to(a.dtype) for each in results)


def same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found.signbit() & ~found.isnan(), wanted.signbit() & ~wanted.isnan())


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_of_floats(tmp_path: Path, dtype: torch.dtype, dynamic: bool) -> None:
    drawn = torch.randn(40, generator=torch.Generator().manual_seed(1)) * 20
    x = torch.tensor([*EDGES, *drawn.tolist()]).to(dtype)
    for found, wanted in zip(Launch(tmp_path, dynamic=dynamic)(TEXT, a=x, b=x), expected(x, x), strict=True):
        same(found, wanted)


def test_of_constants() -> None:
    for left, right in itertools.product(EDGES, EDGES):
        for op, function in (("//", torch.floor_divide), ("%", torch.remainder)):
            a, b = (f"({x!r})" for x in (left, right))  # inf and nan are names of the language
            text = f"template f(x: f32[N]) -> y: f32[N]:\n    let c = {a} {op} {b}\n    for n in grid(N by 4):\n        store y[n] = load x[n] + f32(c)\n"
            value = evaluate(load(Source("<test>", text)).lets[0].value, Environment())
            sides = (torch.tensor(x, dtype=torch.float64) for x in (left, right))
            same(torch.tensor(value, dtype=torch.float64), function(*sides))


@pytest.mark.parametrize("dynamic", [False, True])
def test_in_a_program(dynamic: bool) -> None:
    @tdsl.template(
        source="""
template wrapped(x: f32[M, N], d: f32[N], step: float) -> (y: f32[M, N], z: f32[M]):
    for m in grid(M by 4):
        n = whole(N)
        v = load x[m, n]
        store y[m, n] = v // load d[n] + v % step + step // 0.0
        store z[m] = sum(v % load d[n] * 64 // 1, n)
"""
    )
    def wrapped(x, d, step):
        rest = torch.remainder(x, d)
        return x // d + torch.remainder(x, step) + INF, (rest * 64 // 1).sum(1)

    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-40, 40, (7, 21), generator=generator) / 4.0
    d = torch.tensor([0.5, -0.75, 3.0]).repeat(7)
    assert_fused(
        lambda x, d: tuple(r + 1 for r in wrapped(x * 2, d * 0.5, 1.5)),
        (x, d),
        kernels=1,
        dynamic=dynamic,
        exact=True,
    )


def test_for_every_target(tmp_path: Path) -> None:
    compiled(TEXT.replace("f16, bf16, f32, f64", "bf16, f32"), tmp_path)
    compiled(TEXT.replace("\nwhere T in (f16, bf16, f32, f64)", "").replace("T[", "f64["), tmp_path)


OF_INTEGERS = """
template quotients(x: X[M], d: S[N]) -> (q: P[M, N], r: P[M, N], c: P[M, N], k: X[M, N], f: X[M, N], s: X[M, N], a: X[M, N], o: i8[M, N]):
    for m, n in grid(M by 8, N by 8):
        v = load x[m]
        w = load d[n]
        store q[m, n] = v // w
        store r[m, n] = v % w
        store c[m, n] = cdiv(v, w)
        store k[m, n] = cdiv(v, 3)
        up = maximum(v, 0)
        store f[m, n] = cdiv(up, 3)
        store s[m, n] = up * up % 7 + (up + up) % 7
        store a[m, n] = abs(v) % 3
        store o[m, n] = i8(up) % 7
"""


def ends(dtype: torch.dtype) -> list[int]:
    info = torch.iinfo(dtype)
    signed = [-7, -1, -2, info.min + 1] if info.min else []
    return [info.max, info.max - 1, info.min or 200, 1, 2, 3, 5, *signed]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "pair", ["i8 i8", "u8 u8", "u8 i8", "i8 u8", "i16 i8", "i32 i32", "i32 u8", "i64 i32", "i64 i64"]
)
def test_of_integers(tmp_path: Path, pair: str, dynamic: bool) -> None:
    """Up to the least and the largest: no part overflows, and what wraps before is negative."""
    dtype, other = (DTYPES[name] for name in pair.split())
    both = torch.promote_types(dtype, other)
    x, d = [*ends(dtype), 0], ends(other)
    text = (
        OF_INTEGERS.replace("X[", f"{NAMES[dtype]}[")
        .replace("S[", f"{NAMES[other]}[")
        .replace("P[", f"{NAMES[both]}[")
    )
    found = Launch(tmp_path, dynamic=dynamic)(text, x=torch.tensor(x).to(dtype), d=torch.tensor(d).to(other))

    def wrapped(number: int, into: torch.dtype = dtype) -> int:
        info = torch.iinfo(into)
        return (number - info.min) % 2**info.bits + info.min

    for i, v in enumerate(x):
        up = max(v, 0)
        for j, w in enumerate(d):
            pairs = [wrapped(each, both) for each in (v // w, v % w, -(-v // w))]
            singles = [
                -(-v // 3),
                -(-up // 3),
                wrapped(up * up) % 7 + wrapped(up + up) % 7,
                wrapped(abs(v)) % 3,
            ]
            expected = [*pairs, *(wrapped(each) for each in singles), wrapped(up, torch.int8) % 7]
            assert [each[i, j].item() for each in found] == expected, (v, w)

"""The built-in functions, row by row, against PyTorch's of the same name: each dtype, special values, lanes outside,
constants. A new row is tested from the moment that it exists."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import softplus

import tdsl
from tdsl import builtins
from tdsl.builtins import BUILTINS
from tdsl.diagnostics import TdslError
from tdsl.pipeline import load
from tdsl.signature import Environment, evaluate
from tdsl.source import Source
from tdsl.testing import assert_fused

from .launch import NAMES, Launch

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")

NUMBERS = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
]
INF, NAN = float("inf"), float("nan")
SPECIAL = [
    NAN,
    INF,
    -INF,
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    1.0,
    -1.0,
    0.3,
    -0.3,
    20.5,
    25.0,
    -25.0,
    3e-5,
    60.0,
    7.75,
]
INTEGERS = [0, 1, -1, 2, -3, 7, 11, 100, -100]
TORCH = {  # what is not PyTorch's function of that name, with 1 for each further argument
    "softplus": softplus,
    # -2 is no u8: PyTorch makes 254 of it, and here it is what it is
    "clamp": lambda x: torch.clamp(x if x.is_floating_point() else x.long(), -2, 3).to(x.dtype),
    "fma": lambda x: x * x + 1,
}
CALLS = {"clamp": "clamp({x}, -2, 3)", "fma": "fma({x}, {x}, 1)"}
ELSEWHERE = ("rand", "randn", "cdiv", "next_pow2")  # tested below, and with the sizes
LANEWISE = [name for name in (*builtins.ELEMENTWISE, "clamp") if name not in ELSEWHERE]
BOOLS = [name for name in LANEWISE if name != "clamp" and builtins.ELEMENTWISE[name].gives == "bool"]
EXACT = [name for name in LANEWISE if name == "clamp" or builtins.ELEMENTWISE[name].gives != "float"]


def taking(names, dtype):
    """Those that take a dtype."""
    category = 2 if dtype.is_floating_point else int(dtype != torch.bool)
    return [name for name in names if category in BUILTINS[name].takes]


def reference(name, x):
    if name in TORCH:
        return TORCH[name](x)
    return getattr(torch, name)(x, *[torch.ones_like(x)] * (BUILTINS[name].arity[0] - 1))


def spelled(name, x):
    ones = ", 1" * (BUILTINS[name].arity[0] - 1)
    return CALLS.get(name, f"{name}({{x}}{ones})").format(x=x)


def gives(name, dtype):
    row = builtins.ELEMENTWISE.get(name)
    if row is not None and row.gives == "bool":
        return torch.bool
    if row is not None and row.gives == "float" and not dtype.is_floating_point:
        return torch.float32
    return dtype


def same(found, expected, name):
    assert found.dtype == expected.dtype, name
    exact = name in EXACT or not expected.is_floating_point()
    rtol = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 3e-6, torch.float64: 1e-13}.get(
        expected.dtype, 0
    )
    torch.testing.assert_close(
        found,
        expected,
        rtol=0 if exact else rtol,
        atol=0 if exact else rtol / 10,
        equal_nan=True,
        msg=lambda m: f"{name}: {m}",
    )
    if name in EXACT and expected.is_floating_point():
        number = ~expected.isnan()
        assert torch.equal(found.signbit()[number], expected.signbit()[number]), name


@pytest.mark.parametrize(
    "dtype",
    NUMBERS,
    ids=str,
)
def test_lane_by_lane(tmp_path: Path, dtype: torch.dtype) -> None:
    x = torch.tensor(SPECIAL if dtype.is_floating_point else INTEGERS).to(dtype)
    names = taking(LANEWISE, dtype)
    outputs = ", ".join(f"y_{name}: {NAMES[gives(name, dtype)]}[N]" for name in names)
    stores = "".join(f"        store y_{name}[n] = {spelled(name, 'v')}\n" for name in names)
    text = f"template f(x: {NAMES[dtype]}[N]) -> ({outputs}):\n    for n in grid(N by 16):\n        v = load x[n]\n{stores}"
    for name, found in zip(names, Launch(tmp_path)(text, x=x), strict=True):
        operand = x.float() if gives(name, dtype) == torch.float32 else x
        same(found, reference(name, operand).to(gives(name, dtype)), name)


def test_a_constant_comes_to_what_the_kernel_calculates(tmp_path: Path) -> None:
    for value in SPECIAL:
        written = {INF: "inf", -INF: "-inf"}.get(value, "nan" if value != value else repr(value))
        for name in taking(LANEWISE, torch.float64):
            kernel = load(
                Source(
                    "<test>",
                    f"template f(x: f32[N]) -> y: f32[N]:\n    let c = {spelled(name, f'({written})')}\n    for n in grid(N by 4):\n        store y[n] = load x[n] + (1.0 if c > 0 else 0.0)\n"
                    if name not in BOOLS
                    else f"template f(x: f32[N]) -> y: f32[N]:\n    let c = {name}({written})\n    for n in grid(N by 4):\n        store y[n] = load x[n] + (1.0 if c else 0.0)\n",
                )
            )
            result = evaluate(kernel.lets[0].value, Environment())
            found = torch.tensor(result, dtype=torch.float64 if isinstance(result, float) else None)
            expected = reference(name, torch.tensor(value, dtype=torch.float64))
            same(found.to(expected.dtype), expected, name)


# What goes along a tile, row by row: PyTorch's function where it has another name.
ALONG_TORCH = {"max": torch.amax, "min": torch.amin}


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.int64,
        torch.int8,
        torch.uint8,
        torch.bool,
    ],
    ids=str,
)
def test_each_row_along_a_tile(tmp_path: Path, dtype: torch.dtype) -> None:
    names = taking((*builtins.REDUCTIONS, *builtins.SCANS), dtype)
    # Exact in every dtype. In a block of 32 lanes there are 11 outside, which a row of one sign would show.
    x = torch.randint(-1, 2, (6, 21), generator=torch.Generator().manual_seed(5))
    x[1], x[2], x[3] = 2, -2, 1
    x[4, :9] = 1
    x = x.to(dtype)
    if dtype.is_floating_point:
        x[5, 7] = x[5, 9] = NAN

    outputs, stores = [], []
    for name in names:
        row = BUILTINS[name]
        index = isinstance(row, builtins.Reduction) and row.gives == "index"
        counts = isinstance(row, builtins.Scan) or row.gives == "number"
        result = "i32" if index or (counts and dtype == torch.bool) else NAMES[dtype]
        at, tile = ("M, N", "m, n") if isinstance(row, builtins.Scan) else ("M", "m")
        outputs.append(f"y_{name}: {result}[{at}]")
        stores.append(f"        store y_{name}[{tile}] = {name}(v, n)\n")
    text = f"template f(x: {NAMES[dtype]}[M, N]) -> ({', '.join(outputs)}):\n    for m in grid(M by 4):\n        n = whole(N)\n        v = load x[m, n]\n{''.join(stores)}"
    found = Launch(tmp_path)(text, x=x)
    for name, each in zip(names, found if len(names) > 1 else [found], strict=True):
        function = ALONG_TORCH[name] if name in ALONG_TORCH else getattr(torch, name)
        expected = function(x, 1).to(each.dtype)
        torch.testing.assert_close(
            each, expected, rtol=0, atol=0, equal_nan=True, msg=lambda m, name=name: f"{name}: {m}"
        )


ALONG = """
template along(x: T[M, N]) -> (p: T[M], q: T[M, N], some: bool[M], every: bool[M], u: i64[M]):
    for m in grid(M):
        n = whole(N)
        v = load x[m, n]
        store p[m] = prod(v, n)
        store q[m, n] = cumprod(v, n)
        store some[m] = any(v > 2, n)
        store every[m] = all(v > -3, n)
        store u[m] = i64(prod(v, n)) + i64(sum(v, n))
"""


@pytest.mark.parametrize(
    "dtype",
    NUMBERS,
    ids=str,
)
def test_along_a_tile(tmp_path: Path, dtype: torch.dtype) -> None:
    text = ALONG.replace("T[", f"{NAMES[dtype]}[")
    generator = torch.Generator().manual_seed(3)
    floats = torch.randn(6, 21, generator=generator)
    x = (floats if dtype.is_floating_point else (floats * 5).int() | 1).to(
        dtype
    )  # odd, so that products wrap
    x[1] = x[1].abs() + 3
    x[2] = -x[1]
    if dtype.is_floating_point:
        x[3, 4] = NAN
    p, q, some, every, u = Launch(tmp_path)(text, x=x)
    wide = x.float() if dtype.itemsize < 4 and dtype.is_floating_point else x
    tolerance = {
        "rtol": 2e-2 if dtype == torch.bfloat16 else 2e-3 if dtype == torch.float16 else 1e-5,
        "atol": 0,
        "equal_nan": True,
    }
    torch.testing.assert_close(p, wide.prod(1).to(dtype), **tolerance)
    torch.testing.assert_close(q, wide.cumprod(1).to(dtype), **tolerance)
    assert torch.equal(some, (x > 2).any(1)) and torch.equal(every, (x.double() > -3).all(1))
    if not dtype.is_floating_point:
        assert torch.equal(u, x.prod(1, dtype=dtype).long() + x.sum(1, dtype=dtype).long())


def test_along_a_tile_that_holds_nothing(tmp_path: Path) -> None:
    text = ALONG.replace("T[", "f32[")
    p, _, some, every, _ = Launch(tmp_path)(text, x=torch.zeros(2, 0))
    assert p.tolist() == [1, 1] and some.tolist() == [False, False] and every.tolist() == [True, True]


def philox(seed: int, place: int) -> list[int]:
    """Philox 4x32-10, as Salmon et al. have it."""
    mask = 2**32 - 1
    c = [place & mask, place >> 32 & mask, 0, 0]
    k = [seed & mask, seed >> 32 & mask]
    for _ in range(10):
        high, low = divmod(0xD2511F53 * c[0], 2**32)
        high2, low2 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high2 ^ c[1] ^ k[0], low2, high ^ c[3] ^ k[1], low]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def uniform(bits: int) -> torch.Tensor:
    signed = bits - 2**32 if bits >= 2**31 else bits
    return torch.tensor(-signed - 1 if signed < 0 else signed).int().float() * 4.6566127342e-10


@pytest.mark.parametrize("index_dtype", ["i32", "i64"])
@pytest.mark.parametrize("seed", [0, 42, -1, 2**40 + 7])
def test_random_numbers_are_philox(tmp_path: Path, seed: int, index_dtype: str) -> None:
    text = """
template noise(like: f32[M, N], s: i64[1], seed: int) -> (u: f32[M, N], w: f32[M, N]):
    for m in grid(M):
        n = whole(N)
        t = load like[m, n]
        store u[m, n] = rand(load s[0], m * N + n) + t
        store w[m, n] = randn(seed, m * N + n)
"""
    u, w = Launch(tmp_path, index_dtype=index_dtype)(
        text, like=torch.zeros(3, 21), s=torch.tensor([seed]), seed=seed
    )
    bits = [philox(seed, place) for place in range(63)]
    expected = torch.stack([uniform(each[0]) for each in bits]).reshape(3, 21)
    assert torch.equal(u, expected) and u.min() >= 0 and u.max() < 1
    first, second = (torch.stack([uniform(each[i]) for each in bits]).reshape(3, 21) for i in (0, 1))
    normal = (-2 * first.clamp(min=1e-7).log()).sqrt() * (6.283185307179586 * second).cos()
    torch.testing.assert_close(w, normal, rtol=1e-5, atol=1e-6)


COMPLETE = """
template f(x: T[M, N], seed: int) -> (y: T[M, N], b: bool[M, N], p: T[M], s: bool[M], r: f32[M, N], w: f64[M], z: f32[M])
where T in (bf16, f32):
    for m in grid(M by 4):
        n = whole(N)
        v = load x[m, n]
        store y[m, n] = SUM
        store b[m, n] = isnan(v) | isinf(v) | isnan(seed) | isnan(2.0)
        store p[m] = prod(v, n)
        store z[m] = REDUCED
        store s[m] = any(v > 0, n) & all(v > 0, n)
        store r[m, n] = rand(seed, m * N + n) + randn(7, n) + rand(7, 3)
        store w[m] = f64(m) + round(f64(m)) + trunc(f64(seed)) + atan2(f64(m), 1) + sign(f64(m)) + sign(seed)
"""


def test_compiles_for_every_target(tmp_path: Path) -> None:
    lanes = " + ".join(spelled(name, "v") for name in taking(LANEWISE, torch.float32) if name not in BOOLS)
    scalars = " + ".join(
        spelled(name, "seed") for name in ("round", "sign", "softplus", "tan", "atan2", "clamp")
    )
    scanned = " + ".join(f"{name}(v, n)" for name in taking(builtins.SCANS, torch.float32))
    reduced = " + ".join(f"f32({name}(v, n))" for name in taking(builtins.REDUCTIONS, torch.float32))
    file = tmp_path / "f.tdsl"
    file.write_text(COMPLETE.replace("SUM", f"{lanes} + {scalars} + {scanned}").replace("REDUCED", reduced))
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_targets.py")
    command = [sys.executable, str(script), str(file), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(results) == 8
    for result in results:
        assert "error" not in result, f"{result['target']}, {result['dtype']}:\n{result['error']}"


def test_every_built_in_is_complete() -> None:
    """One that works lane by lane is checked, lowered (above), calculated where all is known, and on the reference page."""
    page = (Path(tdsl.__file__).parents[1] / "docs" / "language.md").read_text(encoding="utf-8")
    rows = "\n".join(line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `"))
    words = {word for line in rows.splitlines() for word in re.findall(r"\w+", line)}
    missing = sorted(BUILTINS.keys() - words - {"whole"})
    assert not missing, f"no row of the table in docs/language.md has {missing}"
    for name, row in builtins.ELEMENTWISE.items():
        call = f"{name}({', '.join(['3'] * row.arity[0])})"
        text = f"template f(x: f32[N]) -> y: f32[N]:\n    let c = {call}\n    for n in grid(N by 4):\n        store y[n] = load x[n] + c\n"
        if row.value is None:
            with pytest.raises(TdslError) as caught:
                load(Source("<test>", text))
            assert [each.code.value for each in caught.value.diagnostics] == ["not-constant"]
        elif row.gives != "bool":
            assert isinstance(
                evaluate(load(Source("<test>", text)).lets[0].value, Environment()), int | float
            )


@pytest.mark.parametrize(
    "call, message",
    [
        ("any(v, n)", "'any' needs bools"),
        ("all(v, n)", "compare it: v != 0"),
        ("prod(v)", "prod(v, n)"),
        ("round(v > 0)", "'round' needs numbers"),
        ("isnan(load e[m, n])", "does not work on f8e4m3"),
        ("clamp(v, 0)", "'clamp' takes 3 arguments; this has 2"),
        ("rand(1.5, n)", "'rand' needs integers"),
        ("rand(1, v)", "'rand' needs integers"),
        ("randn(1)", "'randn' takes 2 arguments"),
    ],
)
def test_mistakes(call: str, message: str) -> None:
    text = f"template f(x: f32[M, N], e: f8e4m3[M, N]) -> y: f32[M, N]:\n    for m, n in grid(M by 4, N by 4):\n        v = load x[m, n]\n        store y[m, n] = {call}\n"
    with pytest.raises(TdslError) as caught:
        load(Source("<test>", text))
    assert message in str(caught.value)


FUSED = """
template noisy(x: f32[M, N]) -> (y: f32[M, N], p: f32[M]):
    for m in grid(M by 4):
        n = whole(N)
        v = load x[m, n]
        store y[m, n] = round(clamp(v, -2, 2.5)) + softplus(v) - log1p(abs(v)) + cumprod(v, n)
        store p[m] = where(any(isnan(v), n), -1.0, prod(v, n) + tan(1.0))
"""


@pytest.mark.parametrize("dynamic", [False, True])
def test_fused_with_what_is_around(dynamic: bool) -> None:
    @tdsl.template(source=FUSED)
    def noisy(x):
        y = x.clamp(-2, 2.5).round() + softplus(x) - x.abs().log1p() + x.cumprod(1)
        return y, torch.where(x.isnan().any(1), -1.0, x.prod(1) + math.tan(1.0))

    x = torch.randn(7, 21, generator=torch.Generator().manual_seed(1))
    x[2, 3], x[3, 1] = NAN, INF
    assert_fused(lambda x: tuple(y + 1 for y in noisy(torch.cos(x))), (x,), kernels=1, dynamic=dynamic)


@pytest.mark.parametrize("dynamic", [False, True])
def test_over_two_tiles_and_as_a_condition(tmp_path: Path, dynamic: bool) -> None:
    text = """
template found(x: i32[B, M, N], b: bool[B, M]) -> (p: i32[B], c: bool[B], y: i32[B, M], z: i32[B], k: i32[B, M]):
    for r in grid(B):
        m = whole(M)
        n = whole(N)
        v = load x[r, m, n]
        store p[r] = prod(v, m, n)
        some = any(v > 2, m, n)
        store c[r] = some
        store y[r, m] = i32(all(v > 0, n)) * 2 + i32(any(load b[r, m], m))
        t = 1
        if some:
            t = 2
        store z[r] = t + clamp(prod(v, m, n), -5, 5)
        store k[r, m] = sign(prod(v, n))
"""
    x = torch.randint(1, 3, (4, 5, 3), generator=torch.Generator().manual_seed(0)).int()
    x[1, 2, 1], x[2, 4, 2], x[3] = -4, 3, 7
    b = torch.zeros(4, 5, dtype=torch.bool)
    b[2, 4] = True
    p, c, y, z, k = Launch(tmp_path, dynamic=dynamic)(text, x=x, b=b)
    product = x.flatten(1).prod(1, dtype=torch.int32)
    some = (x > 2).flatten(1).any(1)
    assert torch.equal(p, product) and torch.equal(c, some)
    assert torch.equal(y, (x > 0).all(2).int() * 2 + b.any(1, keepdim=True).int())
    assert torch.equal(z, some.int() + 1 + product.clamp(-5, 5))
    assert torch.equal(k, x.prod(2, dtype=torch.int32).sign())


@pytest.mark.parametrize("dynamic", [False, True])
def test_random_numbers_of_a_compiled_program(dynamic: bool) -> None:
    source = """
template dropped(x: f32[M, N], seed: int) -> y: f32[M, N]:
    for m, n in grid(M by 4, N by 16):
        v = load x[m, n]
        store y[m, n] = where(rand(seed, m * N + n) < 0.25, 0.0, v)
"""

    @tdsl.template(source=source)
    def dropped(x, seed):
        places = range(x.shape[0] * x.shape[1])
        kept = torch.stack([uniform(philox(seed, place)[0]) for place in places]) >= 0.25
        return x * kept.view_as(x)

    x = torch.randn(7, 21)
    found = torch.compile(lambda x, seed: dropped(x * 2, seed) + 1, dynamic=dynamic)(x, 12)
    torch.testing.assert_close(found, dropped.reference(x * 2, 12) + 1, rtol=0, atol=0)

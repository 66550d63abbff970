"""Arithmetic of sizes means what Python's does: in a call's resolution, in the proof of bounds, in a launcher in Python
and in C++, and in the kernel, whether a size is known when that is compiled or an argument of it."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import tdsl
from tdsl import ir
from tdsl.check.bounds import Bounds, Facts
from tdsl.lower.emit.functions import integer
from tdsl.lower.emit.syntax import printed
from tdsl.lower.facts import extents
from tdsl.lower.facts.binding import Binding, TensorArg
from tdsl.lower.facts.bound import bind
from tdsl.lower.facts.extents import Signed
from tdsl.pipeline import load
from tdsl.signature import Environment, evaluate
from tdsl.source import Source
from tdsl.testing import assert_fused

from .integers import expressions, value
from .launch import Launch

NAMES = ("M", "N", "K", "p")
SIZES = [(4, 9, 3, -7), (9, 4, 5, 2), (2, 2, 11, 0), (16, 3, 2, -1), (3, 20, 4, 5)]
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")


def limited(texts: list[str]) -> list[str]:
    """Those that stay in 53 bits on the way, for the sizes that are tried."""
    return [text for text in dict.fromkeys(texts) if text.count("*") <= 4 and text.count("**") <= 1]


def template(texts: list[str]) -> str:
    body = "\n".join(f"        r = where(l == {at}, f64({text}), r)" for at, text in enumerate(texts))
    return f"""
template numbers(x: f32[M, N], w: f32[K], like: f64[L], p: int) -> y: f64[L]:
    for l in grid(L):
        r = f64(load x[0, 0] else 0) + f64(load w[0] else 0) + f64(p * 0) + load like[l]
{body}
        store y[l] = r
"""


def parsed(texts: list[str]) -> tuple[ir.Kernel, list[ir.Expr]]:
    kernel = load(Source("<test>", template(texts)), None)
    found: list[ir.Expr] = []
    for node in ir.walk(kernel):
        match node:
            case ir.Assign(
                value=ir.Elementwise(function="where", arguments=(_, ir.Cast(operand=operand), _))
            ):
                found.append(operand)
    assert len(found) == len(texts)
    return kernel, found


def tensors(m: int, n: int, k: int, count: int) -> tuple[torch.Tensor, ...]:
    return torch.zeros(m, n), torch.zeros(k), torch.zeros(count, dtype=torch.float64)


def test_a_call_and_a_proof():
    texts = limited(expressions(1, NAMES, 250))
    _, found = parsed(texts)
    for sizes in SIZES:
        values = dict(zip(NAMES, sizes, strict=True))
        environment = Environment(dims=values, params=values)
        polynomials = Bounds(Facts(guards=tuple(is_equal(name, values[name]) for name in NAMES)))
        for text, expr in zip(texts, found, strict=True):
            assert evaluate(expr, environment) == value(text, values), text
            with polynomials._region(()) as region:
                proven = region.polynomial(expr).value
            assert proven in (None, value(text, values)), text


def is_equal(name: str, number: int) -> ir.Expr:
    _, (left, right, whole) = parsed([name, str(abs(number)), f"{name} + {abs(number)}"])
    if number < 0:
        right = ir.Unary(span=right.span, type=right.type, op="-", operand=right)
    return ir.Binary(span=whole.span, type=whole.type, op="==", left=left, right=right)


def launched(texts: list[str]) -> list[extents.Extent]:
    kernel, found = parsed(texts)
    arg = {
        name: TensorArg(dtype=dtype, shape=shape, strides=(1,) * len(shape))
        for name, dtype, shape in [
            ("x", "f32", ("M", "N")),
            ("w", "f32", ("K",)),
            ("like", "f64", ("L",)),
            ("y", "f64", ("L",)),
        ]
    }
    bound = bind(kernel, Binding(tensors=arg, scalars={"p": Signed("p")}))
    return [bound.extent(expr, {}) for expr in found]


def test_a_launcher_in_python():
    texts = limited(expressions(2, NAMES, 300, launch=True))
    for text, extent in zip(texts, launched(texts), strict=True):
        for sizes in SIZES:
            values = dict(zip(NAMES, sizes, strict=True))
            expected = value(text, values)
            assert extents.evaluate(extent, values) == expected, text
            assert eval(extents.python(extent), {}, values) == expected, text
            # What a kernel calculates, with quotients that round down; in the next test they truncate.
            assert not extents.is_nonnegative(extent) or expected >= 0, text


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
def test_a_launcher_in_cpp(tmp_path: Path):
    texts = limited(expressions(3, NAMES, 150, launch=True))
    found = launched(texts)
    # Triton's text is C++'s but for the names: both truncate.
    as_triton = [
        printed(integer(extent))
        .replace("//", "/")
        .replace("tl.minimum", "least")
        .replace("tl.maximum", "most")
        for extent in found
    ]
    calls = "\n".join(
        f"    run({', '.join(f'{number}' for number in sizes)});"
        for sizes in [*SIZES, (2**20, 2**20, 2**20, 1)]
    )
    body = "\n".join(
        f"    std::cout << ({extents.cpp(extent)}) << ' ' << ({text}) << '\\n';"
        for extent, text in zip(found, as_triton, strict=True)
    )
    wide = extents.cpp(extents.product(["M", "N", "K"]))
    source = f"""
#include <algorithm>
#include <cstdint>
#include <iostream>
namespace c10 {{
template <typename T> T div_floor_integer(T a, T b) {{
  return a % b != 0 && (a < 0) != (b < 0) ? a / b - 1 : a / b;
}}
}}
using std::int64_t;
static int64_t least(int64_t a, int64_t b) {{ return std::min(a, b); }}
static int64_t most(int64_t a, int64_t b) {{ return std::max(a, b); }}
static void run(int M, int N, int K, int p) {{
{body}
    std::cout << {wide} << " 0\\n";
}}
int main() {{
{calls}
}}
"""
    path = tmp_path / "numbers.cpp"
    path.write_text(source)
    subprocess.run(["g++", "-std=c++17", "-O0", "-w", str(path), "-o", str(path.with_suffix(""))], check=True)
    lines = subprocess.run(
        [str(path.with_suffix(""))], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    step = len(texts) + 1
    for at, sizes in enumerate(SIZES):
        values = dict(zip(NAMES, sizes, strict=True))
        for text, line in zip(texts, lines[at * step :], strict=False):
            assert line == f"{value(text, values)} {value(text, values)}", text
    assert lines[-1] == f"{2**60} 0"  # a product of sizes takes 64 bits


@interpreted
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("index_dtype", ["i32", "i64"])
def test_a_kernel(dynamic, index_dtype, tmp_path):
    texts = limited(expressions(4, NAMES, 80))
    run = Launch(tmp_path, dynamic=dynamic, index_dtype=index_dtype)
    for sizes in SIZES[:3]:
        *shape, p = sizes
        x, w, like = tensors(*shape, len(texts))
        found = run(template(texts), x=x, w=w, like=like, p=p)
        check(found, texts, sizes)


def check(found: torch.Tensor, texts: list[str], sizes: tuple[int, ...]) -> None:
    values = dict(zip(NAMES, sizes, strict=True))
    wrong = {
        text: (got, value(text, values))
        for text, got in zip(texts, found.tolist(), strict=True)
        if got != value(text, values)
    }
    assert not wrong, wrong


@interpreted
def test_a_compiled_program():
    texts = limited([*SYMPTOMS, *expressions(5, NAMES, 40)])

    @tdsl.template(source=template(texts))
    def numbers(x, w, like, p):
        values = dict(zip(NAMES, (*x.shape, *w.shape, p), strict=True))
        return torch.tensor([float(value(text, values)) for text in texts], dtype=torch.float64) + 0 * like

    torch._dynamo.reset()
    compiled = torch.compile(lambda *args: numbers(*args).relu() - (-numbers(*args)).relu(), dynamic=True)
    for m, n, k, p in SIZES:
        args = *tensors(m, n, k, len(texts)), p
        check(numbers(*args), texts, (m, n, k, p))
        check(compiled(*args), texts, (m, n, k, p))


SYMPTOMS = ["(M - N) // 2", "(M - N) % 3", "cdiv(N - M, 2)", "(minimum(M, N) - 10) // 2", "p // 2 % 3"]

STRIDED = """
template strided(x: f32[H, W, C], s: int) -> y: f32[cdiv(H - 2, s), cdiv(W - 2, s), C]
where H >= 2, W >= 2, s >= 1:
    for h, w, c in grid(cdiv(H - 2, s), cdiv(W - 2, s), C by 4):
        store y[h, w, c] = load x[h * s, w * s, c]
"""


@interpreted
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_grid_and_a_shape_that_are_calculated(dynamic):
    @tdsl.template(source=STRIDED)
    def strided(x, s):
        h, w, _ = x.shape
        return x[: h - 2 : s, : w - 2 : s].clone()

    torch._dynamo.reset()
    compiled = torch.compile(lambda x, s: strided(x * 2, s).relu() + 1, dynamic=dynamic)
    for h, w, c, s in [(9, 11, 3, 2), (9, 11, 3, 3), (13, 8, 5, 2), (7, 7, 2, 1)]:
        x = torch.randn(h, w, c)
        torch.testing.assert_close(strided(x, s), strided.reference(x, s))
        torch.testing.assert_close(compiled(x, s), strided.reference(x * 2, s).relu() + 1)
    args = torch.randn(9, 11, 3), 2
    assert_fused(lambda x, s: strided(x * 2, s).relu() + 1, args, kernels=1, dynamic=dynamic)


@interpreted
@pytest.mark.parametrize("dynamic", [False, True])
def test_two_grid_dimensions_below_zero_are_no_programs(dynamic):
    """Their product is positive."""

    @tdsl.template(
        source="""
template most(x: f32[M, N]) -> y: f32[M]
where M >= 1:
    for m, n in grid(M - 5, N - 5):
        accumulate y[0] += load x[m, n]
"""
    )
    def most(x):
        y = torch.zeros(x.shape[0])
        y[0] = x[: max(x.shape[0] - 5, 0), : max(x.shape[1] - 5, 0)].sum()
        return y

    torch._dynamo.reset()
    ran = torch.compile(lambda x: most(x * 2) + 1, dynamic=dynamic)
    for m, n in [(2, 2), (3, 9), (9, 7)]:
        x = torch.ones(m, n)
        torch.testing.assert_close(most(x), most.reference(x))
        torch.testing.assert_close(ran(x), most.reference(x * 2) + 1)


@interpreted
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_loop_that_begins_below_zero(dynamic):
    @tdsl.template(
        source="""
template halves(x: f32[M, N], w: f32[K]) -> y: f64[M, N]:
    for m, n in grid(M by 4, N by 4):
        total = zeros(m, n, dtype=f64)
        for k in M - N to M:
            total = total + f64(k // 2) + f64(k % 3) + f64(load w[k] else 0)
        for j in M - N to M by 4:
            total = total + sum(f64(j // 2) + f64(load w[j] else 0), j)
        store y[m, n] = total + f64(load x[m, n])
"""
    )
    def halves(x, w):
        m, n = x.shape
        number = float(sum(2 * (i // 2) + i % 3 for i in range(m - n, m)))
        return number + 2 * w[max(m - n, 0) : m].double().sum() + x.double()

    torch._dynamo.reset()
    ran = torch.compile(lambda x, w: halves(x * 2, w) + 1, dynamic=dynamic)
    for m, n in [(4, 9), (3, 13), (9, 5)]:
        x, w = torch.randn(m, n), torch.arange(float(m) + 20)[10:-2]
        torch.testing.assert_close(halves(x, w), halves.reference(x, w))
        torch.testing.assert_close(ran(x, w), halves.reference(x * 2, w) + 1)


def test_a_compile_time_number_of_each_candidate():
    source = """
template sized(x: f32[M]) -> y: f64[M]:
    config BLOCK=16
    config BLOCK=64
    let HALF = minimum(BLOCK - 40, 8) // 7
    for m in grid(M by BLOCK):
        store y[m] = f64(load x[m]) + f64(HALF) + f64(next_pow2(BLOCK * 3)) + f64((maximum(BLOCK, 20) - 50) // 7)
"""
    kernel = load(Source("<test>", source), None)
    arg = TensorArg(dtype="f32", shape=(100,), strides=(1,))
    out = TensorArg(dtype="f64", shape=(100,), strides=(1,))
    from tdsl.lower import lower

    configs = lower(kernel, Binding(tensors={"x": arg, "y": out})).configs
    assert [dict(config.constants) for config in configs] == [
        {"BLOCK_": 16, "HALF_": -4, "NEXT_POW2": 64, "MAXIMUM": 20},
        {"BLOCK_": 64, "HALF_": 1, "NEXT_POW2": 256, "MAXIMUM": 64},
    ]


OPERATORS = ("+", "-", "*", "//", "%", "min", "max")
SMALL: list[extents.Extent] = [-2, -1, 0, 1, 2, "M", "N", Signed("p")]


def two_deep() -> list[extents.Extent]:
    """Every operator of every two, but for divisors that may be 0."""
    return [
        extents.combine(op, left, right)
        for op in OPERATORS
        for left, right in itertools.product(SMALL, SMALL)
        if op not in ("//", "%") or (right != 0 and not isinstance(right, Signed))
    ]


@pytest.mark.parametrize("op", OPERATORS)
def test_what_is_combined_is_what_was_meant(op):
    """And said to be no less than 0 only where it is."""
    values = [{"M": m, "N": n, "p": p} for m, n, p in itertools.product((1, 4), (1, 3), (-3, 0, 2))]
    calculate = {"min": min, "max": max}.get(op) or eval(f"lambda left, right: left {op} right")
    for left, right in [*itertools.product(two_deep(), SMALL), *itertools.product(SMALL, two_deep())]:
        found = extents.combine(op, left, right)
        for each in values:
            sides = extents.evaluate(left, each), extents.evaluate(right, each)
            if op in ("//", "%") and sides[1] == 0:
                continue
            number = extents.evaluate(found, each)
            assert number == calculate(*sides), (left, right, each)
            assert number >= 0 or not extents.is_nonnegative(found), (left, right, each)


def test_python_reads_what_is_printed():
    values = {"M": 4, "N": 3, "p": -5}
    for op, left, right in itertools.product(OPERATORS, two_deep()[::7], two_deep()[::7]):
        if op in ("//", "%") and extents.evaluate(right, values) == 0:
            continue
        found = extents.combine(op, left, right)
        assert eval(extents.python(found), {}, values) == extents.evaluate(found, values), found
        assert set(extents.names(found)) <= set(values)


@pytest.mark.parametrize(
    "op, left, right, expected",
    [
        ("+", "M", 0, "M"),
        ("+", 0, "M", "M"),
        ("-", "M", 0, "M"),
        ("*", "M", 1, "M"),
        ("*", 1, "M", "M"),
        ("*", "M", 0, 0),
        ("*", 0, Signed("p"), 0),
        ("//", "M", 1, "M"),
        ("%", Signed("p"), 1, 0),
        ("max", "M", 0, "M"),
        ("max", 0, "M", "M"),
        ("//", 7, -2, -4),
        ("%", 7, -2, -1),
    ],
)
def test_what_needs_no_calculation(op, left, right, expected):
    assert extents.combine(op, left, right) == expected


@pytest.mark.parametrize(
    "op, left, right",
    [
        ("max", Signed("p"), 0),
        ("max", 0, extents.combine("-", "M", 1)),
        ("//", 7, 0),
        ("%", 7, 0),
        ("-", 0, "M"),
        ("//", "M", 0),
        ("//", 0, Signed("p")),
    ],
)
def test_what_is_left_for_the_launch(op, left, right):
    """A division by zero is found where somebody divides."""
    assert extents.combine(op, left, right) == extents.Arithmetic(op, left, right)


@pytest.mark.parametrize("divisor", [-5, -1, 1, 2, 16, "N", Signed("p")])
@pytest.mark.parametrize("size", [-7, 0, 1, 31, 32, "M", Signed("q")])
def test_rounding_up(size, divisor):
    found = extents.ceildiv(size, divisor)
    for n, m, p, q in itertools.product((1, 3), (0, 9), (-2, 4), (-9, 8)):
        values = {"N": n, "M": m, "p": p, "q": q}
        exact = -(-extents.evaluate(size, values) // extents.evaluate(divisor, values))
        assert extents.evaluate(found, values) == exact


@interpreted
def test_a_quotient_of_real_numbers_that_are_not_negative():
    @tdsl.template(
        source="""
template floored(x: f32[M]) -> y: f32[M]:
    for m in grid(M by 16):
        store y[m] = abs(load x[m]) // 2.0 + maximum(load x[m], 0.5) % 2.0
"""
    )
    def floored(x):
        return x.abs() // 2 + x.clamp(0.5) % 2

    x = torch.arange(-20, 20) * 0.75
    torch.testing.assert_close(floored(x), floored.reference(x))

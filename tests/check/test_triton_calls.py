"""`tl.NAME(...)`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

import pytest

from tdsl.check import triton_names

Check = Callable[..., str]
Mistakes = Callable[..., list[str]]
HEAD = "v = load x[m, n]\n"
STORE = "\nstore y[m, n] = v"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("r = tl.clamp(v, 0.0, 6.0)", "r: T[m, n] = tl.clamp(v, 0.0, 6.0): T[m, n]"),
        ("r = tl.math.erf(f32(m))", "r: f32[m] = tl.math.erf(f32(m)): f32[m]"),
        ("r: f32[n, m] = tl.trans(v)", "r: f32[n, m] = tl.trans(v): f32[n, m]"),
        ("r: i32 = tl.cast(1, tl.int32)", "r: i32 = tl.cast(1, tl.int32): i32"),
        (
            "r = tl.fdiv(v, 2.0, ieee_rounding=true)",
            "r: T[m, n] = tl.fdiv(v, 2.0, ieee_rounding=true): T[m, n]",
        ),
    ],
)
def test_types(check: Check, line: str, text: str) -> None:
    assert text in check(HEAD + line + STORE)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("r = tl.sum(v, 1)", "bad-call: 'tl.sum' would see the lanes outside of a tile (use sum(x, n))"),
        ("r: f32[m] = tl.sum(v, 1)", "bad-call: 'tl.sum' would see the lanes outside of a tile"),
        ("r = tl.trans(v)", "bad-call: what 'tl.trans' returns varies over other tiles"),
        ("r = tl.atomic_add(v, v)", "bad-call: 'tl.atomic_add' writes to memory behind the compiler's back"),
        ("r = tl.program_id(0)", "bad-call: 'tl.program_id' cannot be called from a template"),
        ("r = tl.core._experimental(v)", "bad-call: 'tl.core._experimental' is Triton's own affair"),
        ("r = tl.exp()", "bad-call: 'tl.exp' lacks 'x'"),
        ("r = tl.exp(v, v)", "bad-call: 'tl.exp' takes x; this has 2 arguments"),
        ("r = tl.fdiv(v, 2.0, rounding=true)", "bad-call: 'tl.fdiv' has no 'rounding='"),
        ("r = tl.fdiv(v, 2.0, y=2.0)", "bad-call: 'tl.fdiv' has 'y=' twice"),
        ("r = tl.fma(v, y=2.0)", "bad-call: 'tl.fma' lacks 'z'"),
        (
            "r = tl.expp(v)",
            "unknown-name: Triton has no 'tl.expp' that a template can call (did you mean 'tl.exp'?)",
        ),
        ("r = tl.math.sigmoid(v)", "unknown-name: Triton has no 'tl.math.sigmoid' that a template can call"),
        ("r = tl.softplus(v)", "unknown-name: Triton has no 'tl.softplus' that a template can call"),
        (
            "r = tl.argtopk(v)",
            "unknown-name: Triton has no 'tl.argtopk' that a template can call (tdsl has its own 'argtopk')",
        ),
        (
            "r = tl.extra.cuda.libdevice.rinnt(f32(v))",
            "unknown-name: Triton has no 'tl.extra.cuda.libdevice.rinnt' that runs on every target "
            "(did you mean 'tl.extra.cuda.libdevice.rint'?)",
        ),
        (
            "r = tl.extra.libdevice.rint(v)",
            "dtype-mismatch: 'tl.extra.libdevice.rint' takes f32 or f64; this is T",
        ),
        ("r = tl.exp(v, 'rn')", "bad-call: 'tl.exp' takes x; this has 2 arguments"),
        ("r = tl.fdiv(v, 'rn')", "dtype-mismatch: 'tl.fdiv' takes no string as 'y'"),
        (
            "r: f32[m, n] = tl.cast(v, tl.floot32)",
            "unknown-name: Triton has no dtype 'tl.floot32' (did you mean 'tl.float32'?)",
        ),
        ("r = tl.cast(v, tl.float16)", "bad-call: the dtype of what 'tl.cast' returns is not known"),
        ("r = tl.split(v)", "bad-call: 'tl.split' returns several blocks"),
        (
            "r: T[m, n] = tl.sort(v)",
            "bad-call: 'tl.sort' would see the lanes outside of n "
            "(use sort(x, n), or say what they hold, such as padded(x, n, value=0))",
        ),
        ("r: T[m, n] = tl.sort(padded(v, m))", "bad-call: 'tl.sort' would see the lanes outside of n"),
        (
            "r: T[m, n] = tl.softmax(padded(f32(v), n))",
            "bad-call: 'tl.softmax' would see the lanes outside of m",
        ),
        ("r: T[m, n] = tl.ravel(padded(v, n))", "bad-call: 'tl.ravel' would see the lanes outside of m"),
        (
            "r: T[m, n] = tl.gather(v, i32(v), 1)",
            "bad-call: 'tl.gather' would see the lanes outside of n (use take(x, n, i), or say what they hold",
        ),
        ("r: T[m] = tl.topk(padded(v, n), 3)", "bad-value: 'tl.topk' gives a power of two of lanes, not 3"),
        ("r = tl.exp(v)", "dtype-mismatch: 'tl.exp' takes f32 or f64; this is T (cast it: f32(v))"),
        ("r = tl.umulhi(f32(v), 1)", "dtype-mismatch: 'tl.umulhi' takes i32 or i64; this is f32"),
        ("r: f32[k] = tl.exp(f32(v))", "unknown-name: there is no 'k' here"),
        ("r: f32[m, m] = tl.exp(f32(v))", "bad-tile: the annotation names a tile twice"),
        ("r: T[m, n] = v", "bad-value: only the result of a 'tl.' call is annotated"),
    ],
)
def test_wrong(mistakes: Mistakes, line: str, said: str) -> None:
    (found,) = mistakes(HEAD + line + STORE)
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("line", "guard"),
    [
        ("r: T[m, n] = tl.sort(padded(v, n, value=-inf))", ""),
        ("p = padded(v, n)\nr: T[m, n] = tl.sort(p, descending=true)", ""),
        ("r: T[m, n] = tl.sort(v)", "N % 64 == 0"),
        ("r: T[m, n] = tl.sort(v)", "N % 128 == 0"),
        ("r: f32[m, n] = tl.softmax(f32(v))", "M % 64 == 0"),
        ("r: T[m, n] = tl.cumprod(v, 1, reverse=true)", "N % 64 == 0"),
        ("w = whole(32)\nr: T[w] = tl.sort(load x[0, w] else 0)", "M >= 1"),
        (
            "a = padded(v, n)\ns = load x[n, m] else 0\nb = padded(s, n)\nr: f32[m] = tl.dot_scaled(a, a, 'e4m3', b, a, 'e5m2')",
            "",
        ),
    ],
)
def test_full_tiles(check: Check, line: str, guard: str) -> None:
    signature = "(x: T[M, N]) -> y: T[M, N]" + (f"\nwhere {guard}" if guard else "")
    assert "tl." in check(HEAD + line + STORE, signature)


def test_the_table_is_what_triton_has() -> None:
    language = pytest.importorskip("triton").language
    libdevices = [
        importlib.import_module(f"triton.language.extra.{kind}.libdevice") for kind in ("cuda", "hip")
    ]
    for name, function in triton_names.TRITON_FUNCTIONS.items():
        found = getattr(language, name)
        parameters = inspect.signature(getattr(found, "fn", found)).parameters.values()
        takes = [
            "*"
            if each.kind is each.VAR_POSITIONAL
            else each.name + ("=" if each.default is not each.empty else "")
            for each in parameters
            if not each.name.startswith("_")
        ]
        if name == "flip":
            takes = ["x", "dim"]
        assert list(function.takes) == takes, name
    # `core` and others are modules, and classes are dtypes and the like.
    known = {
        *triton_names.TRITON_FUNCTIONS,
        *triton_names.MEMORY,
        *triton_names.PROGRAM,
        *triton_names.REDUCTIONS,
    }
    known |= {*triton_names.SEVERAL}
    for name, member in inspect.getmembers(language):
        callable_ = (
            callable(member) and not inspect.isclass(member) and not isinstance(member, language.dtype)
        )
        if callable_ and not name.startswith(("_", "atomic_")):
            assert name in known, name
    for name in triton_names.MATH:
        assert hasattr(language.math, name), name
    for name in triton_names.DTYPES:
        assert isinstance(getattr(language, name), language.dtype), name
    interpreter = importlib.import_module("tdsl.lower.runtime.interpreter")
    for name in triton_names.LIBDEVICE:
        assert name in interpreter.LIBDEVICE_FUNCTIONS, name
        for libdevice in libdevices:
            assert hasattr(libdevice, name), f"{libdevice.__name__}.{name}"

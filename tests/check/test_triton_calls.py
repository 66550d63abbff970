"""`tl.NAME(...)`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
        ("r = tl.exp()", "bad-call: what 'tl.exp()' returns is not known"),
        ("r: f32[k] = tl.exp(v)", "unknown-name: there is no 'k' here"),
        ("r: f32[m, m] = tl.exp(v)", "bad-tile: the annotation names a tile twice"),
        ("r: T[m, n] = v", "bad-value: only the result of a 'tl.' call is annotated"),
    ],
)
def test_wrong(mistakes: Mistakes, line: str, said: str) -> None:
    (found,) = mistakes(HEAD + line + STORE)
    assert found.startswith(said)

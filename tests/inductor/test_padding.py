"""Lanes outside after a prologue: masked again where a dot or a sum sees them, and what they hold may not be zero."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import tdsl
from tdsl.lower.inductor.fusion.padding import PaddedLanes
from tdsl.testing import assert_fused, load_module

t = load_module(Path(__file__).with_name("templates.py"))

TEXT = """
template sums(x: T[M, N]) -> (rows: f32[M], largest: f32[M])
where T in (f16, bf16, f32):
    config BLOCK_M=4, BLOCK_N=16
    for m in grid(M by BLOCK_M):
        total = zeros(m)
        top = zeros(m) - inf
        for n in N by BLOCK_N:
            total += sum(load x[m, n], n)
        for n in N by BLOCK_N:
            top = maximum(top, max(f32(load x[m, n]), n))
        store rows[m] = total
        store largest[m] = top

template picked(ids: i64[R], A: f32[R, K], B: f32[V, N]) -> C: f32[K, N]:
    config BLOCK_K=16, BLOCK_N=16, BLOCK_R=16
    for k, n in grid(K by BLOCK_K, N by BLOCK_N):
        acc = zeros(k, n)
        for r in R by BLOCK_R:
            acc += dot(load A[r, k], load B[load ids[r], n] else 0)
        store C[k, n] = acc
"""


@tdsl.template(source=TEXT)
def sums(x):
    return x.float().sum(1), x.float().amax(1)


@tdsl.template(source=TEXT)
def picked(ids, A, B):
    inside = (ids >= 0) & (ids < B.shape[0])
    rows = torch.where(inside[:, None], B[ids.clamp(0, B.shape[0] - 1)], torch.zeros_like(B[:1]))
    return A.t() @ rows


M, K, N = 19, 37, 21
INF = float("inf")

# Of b [K, N]; c, of its size; k [K, 1]; n [N]; one []; q [K, N] of int8. 0 wherever what is loaded is.
ZERO: dict[str, Callable[..., torch.Tensor]] = {
    "relu": lambda b, c, k, n, one, q: b.relu(),
    "scaled": lambda b, c, k, n, one, q: b * -0.3,
    "halved": lambda b, c, k, n, one, q: b / 2,
    "negative": lambda b, c, k, n, one, q: -b,
    "absolute": lambda b, c, k, n, one, q: b.abs(),
    "square": lambda b, c, k, n, one, q: b.square(),
    "root": lambda b, c, k, n, one, q: b.abs().sqrt(),
    "cast": lambda b, c, k, n, one, q: b.to(torch.bfloat16).float(),
    "integers": lambda b, c, k, n, one, q: q.float(),
    "product": lambda b, c, k, n, one, q: b * c,
    "difference": lambda b, c, k, n, one, q: b - 2 * c,
    "rows scaled": lambda b, c, k, n, one, q: b * k,
    "rows dequantized": lambda b, c, k, n, one, q: q.float() * k,
    "rows alone": lambda b, c, k, n, one, q: k.expand(K, N) * 2.0,
    "silu": lambda b, c, k, n, one, q: F.silu(b),
    "swiglu": lambda b, c, k, n, one, q: F.silu(b) * c,
    "gelu": lambda b, c, k, n, one, q: F.gelu(c),  # of inf, eager's may be NaN
    "clamped": lambda b, c, k, n, one, q: b.clamp(-1, 2),
    "leaky": lambda b, c, k, n, one, q: F.leaky_relu(b, 0.5),
    "transposed": lambda b, c, k, n, one, q: (b.t().contiguous() * 2).t(),
}
UNKNOWN: dict[str, Callable[..., torch.Tensor]] = {
    "sigmoid": lambda b, c, k, n, one, q: b.sigmoid(),
    "cosine": lambda b, c, k, n, one, q: b.cos(),
    "biased": lambda b, c, k, n, one, q: b + 1,
    "at least one": lambda b, c, k, n, one, q: b.clamp(1, 2),
    "reciprocal": lambda b, c, k, n, one, q: 1 / b,
    "quotient": lambda b, c, k, n, one, q: b / c,
    "columns scaled": lambda b, c, k, n, one, q: b * n,
    "columns added": lambda b, c, k, n, one, q: b + n,
    "all scaled": lambda b, c, k, n, one, q: b * one,
    "columns dequantized": lambda b, c, k, n, one, q: q.float() * n,
    "huge": lambda b, c, k, n, one, q: b * 1e38 * 1e38,
    "zero point": lambda b, c, k, n, one, q: (q.float() - 3) * 0.5,
    "equal to zero": lambda b, c, k, n, one, q: (b == 0).float(),
    "signs": lambda b, c, k, n, one, q: torch.where(b > 0, 1.0, -1.0),
    "places": lambda b, c, k, n, one, q: b + torch.arange(K, device=b.device)[:, None],
    "shifted": lambda b, c, k, n, one, q: F.pad(b[1:], (0, 0, 0, 1), value=1.0),
    "gathered": lambda b, c, k, n, one, q: b[torch.arange(K, device=b.device) // 2] + 1,
    "overflow": lambda b, c, k, n, one, q: b / ((q + 16) * (q + 16)),
}


def operands(device: torch.device) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    b, c = (torch.randint(1, 4, (K, N), device=device).float() for _ in range(2))
    k, n = (torch.randint(1, 4, size, device=device).float() for size in ((K, 1), (N,)))
    b[3, 5], c[4, 6], b[5, 7], n[2], k[9] = INF, -INF, float("nan"), INF, INF
    one = torch.tensor(INF, device=device)
    return b, c, k, n, one, torch.randint(1, 4, (K, N), device=device).to(torch.int8)


@pytest.mark.parametrize("name", [*ZERO, *UNKNOWN])
def test_dot(name: str, device: torch.device) -> None:
    function = ZERO.get(name) or UNKNOWN[name]
    a = torch.randint(1, 4, (M, K), device=device).float()

    def program(a: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return t.mm(a, function(*rest))

    code = assert_fused(program, (a, *operands(device))).kernel_text
    assert "_prologue_B_result" in code, "the prologue is fused"
    again = "B_tile = tl.where(k_mask[:, None], B_tile, 0.0)"
    assert (again in code) == (name in UNKNOWN)
    if name in ZERO:
        fragment = code[code.index("_prologue_B_") : code.index("_prologue_B_result.to(")]
        loads = [line for line in fragment.splitlines() if "tl.load(" in line]
        assert loads and all("mask" in line and "other=0" in line for line in loads)


@pytest.mark.parametrize("name", ["relu", "columns scaled", "rows scaled", "sigmoid"])
def test_sum(name: str, device: torch.device) -> None:
    """The sum along the columns sees them; a maximum has its own neutral element, whatever was loaded."""
    function = {**ZERO, **UNKNOWN}[name]

    def program(*args: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return sums(function(*args))  # type: ignore[no-any-return]

    code = assert_fused(program, operands(device)).kernel_text
    assert code.count("_result.to(") == 2, "both points are fused"
    again = re.findall(r"^ *x_tile\w* = tl.where", code, re.MULTILINE)
    assert len(again) == (name in ("rows scaled", "sigmoid"))


def test_a_gather_reads_its_default_where_it_is_outside(device: torch.device) -> None:
    ids = torch.tensor([0, -1, 3, 7, 36, 37, 99], device=device)
    b, _, k, *_ = operands(device)
    a = torch.randint(1, 4, (7, M), device=device).float()

    def program(ids: torch.Tensor, a: torch.Tensor, b: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return picked(ids, a, b * k)  # type: ignore[no-any-return]

    code = assert_fused(program, (ids, a, b, k)).kernel_text
    assert re.search(r"^ *B_tile\w* = tl.where", code, re.MULTILINE)


def test_nothing_is_masked_where_blocks_are_full(device: torch.device) -> None:
    a, b = (torch.randn(64, 64, device=device) for _ in range(2))

    def program(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return t.mm(a, b.sigmoid() + 1) + 1  # type: ignore[no-any-return]

    code = assert_fused(program, (a, b)).kernel_text
    assert "_prologue_B_result" in code and "_mask" not in code and "tl.where" not in code


def test_what_is_known_of_numbers() -> None:
    """Between them and 0 is rounding: what is merely very small, or very large, is not known."""
    zeros = PaddedLanes([0])
    zeros.note_load("x", [0])
    for name, op, args in (
        ("h", "sigmoid", ["x"]),
        ("tiny", "mul", ["h", 1e-30]),
        ("large", "add", ["h", 1e30]),
        ("less", "sub", ["h", 0.5]),
        ("fine", "mul", ["x", "h"]),
        ("worse", "truediv", ["x", "tiny"]),
        ("worst", "truediv", ["x", "less"]),
    ):
        zeros.note(op, args, name, torch.float32)
    known = {
        name for name in ("x", "h", "tiny", "large", "less", "fine", "worse", "worst") if zeros.all_zero(name)
    }
    assert known == {"x", "fine"}

"""Work whose loops are those of a template's tensor merged, divided, or in another order, is in the template's kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tdsl
from tdsl.testing import assert_fused, load_module

t = load_module(Path(__file__).with_name("templates.py"))

TEXT = """
template heads(q: f32[B, H, S, D]) -> o: f32[B, H, S, D]:
    config BLOCK_S=8
    for b, h, s in grid(B, H, S by BLOCK_S):
        d = whole(D)
        store o[b, h, s, d] = load q[b, h, s, d] * 2

template half(x: f32[H, W]) -> y: f32[H // 2, W // 2]:
    config BLOCK_H=4, BLOCK_W=16
    for h, w in grid(H // 2 by BLOCK_H, W // 2 by BLOCK_W):
        store y[h, w] = load x[h * 2, w * 2]

template pick(x: f32[H, W, C], s: int) -> y: f32[cdiv(H - 2, s), cdiv(W - 2, s), C]
where H >= 2, W >= 2, s >= 1:
    for h, w, c in grid(cdiv(H - 2, s), cdiv(W - 2, s), C by 4):
        store y[h, w, c] = load x[h * s, w * s, c]
"""


@tdsl.template(source=TEXT)
def heads(q):
    return q * 2


@tdsl.template(source=TEXT)
def half(x):
    return x[: x.shape[0] // 2 * 2 : 2, : x.shape[1] // 2 * 2 : 2].clone()


@tdsl.template(source=TEXT)
def pick(x, s):
    h, w, _ = x.shape
    return x[: h - 2 : s, : w - 2 : s].clone()


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


def attention(z, bias):
    b, s, e = z.shape
    q = torch.sin(z).view(b, s, 3, e // 3).transpose(1, 2)
    return heads(q).transpose(1, 2).flatten(2).relu() + bias


def there_and_back(q):
    b, h, s, d = q.shape
    return (heads(q).transpose(1, 2).flatten(2).relu() + 1).view(b, s, h, d).transpose(1, 2)


def consumers(q, bias):
    o = heads(q)
    return o.transpose(1, 2).flatten(2).relu(), o.transpose(1, 2).flatten(2).sin() * bias, o + 1


def reordered(q):
    return heads(q).permute(3, 1, 0, 2).reshape(q.shape[3] * q.shape[1], -1).sin()


def divided(q):
    o = heads(q).transpose(1, 2)
    b, s, h, _ = o.shape
    whole = o.reshape(b, s, h, 2, 4).permute(0, 3, 1, 2, 4).relu()
    return whole, o.reshape(b, s, -1, 4).permute(0, 2, 1, 3) + 1, o.reshape(-1, 6, 4).sin()


def rows_divided(a, b):
    c = t.mm(a, b)
    return c.view(5, 14, 9, 10).permute(0, 2, 1, 3).reshape(45, 140).relu()


def computed(x):
    return half(x * 2).relu() + 1, half(x * 2).flatten().relu()


Q, OTHER = torch.randn(2, 3, 13, 8), torch.randn(3, 5, 9, 8)
MERGED = {
    "attention": (
        attention,
        (torch.randn(2, 13, 24), torch.randn(24)),
        1,
        (torch.randn(3, 9, 24), torch.randn(24)),
    ),
    "there and back": (there_and_back, (Q,), 1, (OTHER,)),
    "consumers": (consumers, (Q, torch.randn(24)), 1, (OTHER, torch.randn(40))),
    "reordered": (reordered, (Q,), 1, (OTHER,)),
    "divided": (divided, (Q,), 1, None),
    "rows divided": (rows_divided, (torch.randn(70, 50), torch.randn(50, 90)), 1, None),
    "computed dimensions": (computed, (torch.randn(37, 21),), 2, (torch.randn(11, 40),)),
}


@pytest.mark.parametrize(
    "name, dynamic",
    [(name, dynamic) for name, row in MERGED.items() for dynamic in (False, True) if not dynamic or row[3]],
)
def test_it_fuses(name, dynamic, device):
    program, args, kernels, other = MERGED[name]
    args = tuple(arg.to(device) for arg in args)
    other = tuple(arg.to(device) for arg in other) if other else None
    assert_fused(program, args, kernels=kernels, dynamic=dynamic, also=[other] if dynamic else ())


# Two sizes of `pick` are sums, cdiv(H - 2, 2) being -(-H // 2) - 1: of their product there is a short and a long spelling.
BEHIND_SUMS = {
    "as it lies": lambda y: y.relu() + 1,
    "merged": lambda y: y.flatten(1).relu(),
    "permuted": lambda y: y.permute(1, 0, 2).relu(),
    "permuted, then merged": lambda y: y.permute(1, 0, 2).flatten(1).relu(),
    "reversed, then merged": lambda y: y.permute(2, 1, 0).flatten(1).relu().exp(),
}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", BEHIND_SUMS)
def test_sizes_that_are_sums(name, dynamic, device):
    behind = BEHIND_SUMS[name]
    x, other = torch.randn(9, 11, 3, device=device), torch.randn(13, 8, 5, device=device)
    also = [(other,)] if dynamic else []
    assert_fused(lambda x: behind(pick(x * 2, 2)), (x,), dynamic=dynamic, also=also)


# Loops stay as they are for a call that the work does not come into the kernel of.
CLOSED = """
template closed(x: f32[M, N]) -> y: f32[M, N]:
    config BLOCK_M=16, BLOCK_N=16
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        v = load x[m, n] nofuse
        store y[m, n] = v + 1 nofuse

template open(x: f32[M, N]) -> y: f32[M, N]:
    config BLOCK_M=16, BLOCK_N=16
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        store y[m, n] = load x[m, n] + 1
"""


@tdsl.template(source=CLOSED)
def closed(x):
    return x + 1


@tdsl.template(source=CLOSED, name="open")
def opened(x):
    return x + 1


def result_is_closed(x, y):
    return opened(x) + closed(y).t()


def read_by_others(x, y):
    p = torch.sin(x)
    return closed(p), opened(p.t()), p + 1


def result_is_closed_to_a_chain(x, y):
    d = closed(x).t() + y
    return closed(d), d * 2


def needs_a_kernel_between(x, y):
    u = opened(y)
    s = torch.cumsum(u, 0)
    return opened(x) + u.t() * s.t(), s


@pytest.mark.parametrize(
    "program, kernels",
    [
        (result_is_closed, 2),
        (read_by_others, 3),
        (result_is_closed_to_a_chain, 3),
        (needs_a_kernel_between, 2),  # and a call of cumsum
    ],
)
def test_loops_are_kept_where_nothing_is_fused(program, kernels, device):
    x, y = torch.randn(37, 53, device=device), torch.randn(53, 37, device=device)
    if device.type == "cuda" and program is needs_a_kernel_between:
        kernels += 1  # a scan is one, too
    assert_fused(program, (x, y), kernels=kernels)


def merged_across(x):
    w = opened(x.flatten(0, 1)).view(x.shape)
    v = opened(w.flatten(1)).view(x.shape)
    return w.transpose(0, 1).reshape(-1) * 2, v.transpose(0, 1).reshape(-1) * 2


def test_loops_are_put_back_where_nothing_was_fused_after_all(device):
    """What stays apart is the same work twice, and so one kernel's code, as long as its loops are the same."""
    x, other = torch.randn(6, 10, 9, device=device), torch.randn(5, 4, 7, device=device)
    assert_fused(
        merged_across, (x,), kernels=3 if device.type == "cpu" else None, dynamic=True, also=[(other,)]
    )

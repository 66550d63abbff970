"""Candidates that cannot fit are dropped before any is compiled; never the last one."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from tdsl.lower import lower
from tdsl.lower.facts.candidates import Budget
from tdsl.lower.facts.contiguous import contiguous
from tdsl.pipeline import load
from tdsl.source import Source

HOPPER = Budget(most=8, shared_memory=232448, registers=255, asynchronous=True)
AMPERE = Budget(most=8, shared_memory=101376, registers=255)
BODY = """
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc
"""
SIZES = {"M": 4096, "N": 4096, "K": 4096}


def matmul(*configs: str) -> str:
    lines = "".join(f"    {line}\n" for line in configs)
    return f"template mm(A: T[M, K], B: T[K, N]) -> C: T[M, N]:\n{lines}{BODY.lstrip(chr(10))}"


def config(m: int, n: int, k: int, warps: int, stages: int) -> str:
    return f"config BLOCK_M={m}, BLOCK_N={n}, BLOCK_K={k}, num_warps={warps}, num_stages={stages}"


def kept(text: str, budget: Budget, **dims: int) -> list[tuple[object, ...]]:
    kernel = load(Source("<test>", text))
    binding, _ = contiguous(kernel, dims=dims)
    source = lower(kernel, replace(binding, budget=budget))
    return [
        (*(value for _, value in found.constants), found.num_warps, found.num_stages)
        for found in source.configs
    ]


def test_shared_memory():
    # f16: a stage of 128x256x64 is 16 + 32 KiB. Compiled for sm_90, four take 192 KiB, and five would 240.
    text = matmul(config(128, 256, 64, 8, 4), config(128, 256, 64, 8, 5))
    assert kept(text, HOPPER, **SIZES) == [(128, 256, 64, 8, 4)]
    # Compiled for sm_80 the last stage has no copy: three take 96 KiB of the 99 that there are.
    text = matmul(config(128, 256, 64, 8, 3), config(128, 256, 64, 8, 4))
    assert kept(text, AMPERE, **SIZES) == [(128, 256, 64, 8, 3)]
    # Too narrow for an asynchronous product, sm_90 does as sm_80.
    text = matmul(config(16, 512, 64, 8, 4), config(64, 512, 64, 8, 4))
    assert kept(text, HOPPER, **SIZES) == [(16, 512, 64, 8, 4)]


def test_registers():
    text = matmul(config(128, 256, 64, 4, 3), config(128, 256, 64, 8, 3), config(128, 128, 64, 4, 3))
    assert kept(text, HOPPER, **SIZES) == [(128, 256, 64, 8, 3), (128, 128, 64, 4, 3)]


def test_two_accumulators_need_twice_the_registers():
    text = """
template gate(A: T[M, K], B: T[K, N], G: T[K, N]) -> C: T[M, N]:
    config BLOCK_M=128, num_warps=4
    config BLOCK_M=128, num_warps=8
    config BLOCK_M=64, num_warps=4
    for m, n in grid(M by BLOCK_M, N by 128):
        up = zeros(m, n)
        gate = zeros(m, n)
        for k in K by 32:
            a = load A[m, k]
            up += dot(a, load B[k, n])
            gate += dot(a, load G[k, n])
        store C[m, n] = up * gate
"""
    assert kept(text, HOPPER, **SIZES) == [(128, 8, None), (64, 4, None)]


def test_a_row_that_no_thread_can_hold():
    text = """
template sm(x: T[R, N]) -> y: T[R, N]:
    tune BLOCK_R in (1,), num_warps in (4, 8, 16)
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load x[r, n])
        store y[r, n] = v / sum(v, n)
"""
    assert kept(text, HOPPER, R=10, N=1024) == [(1, 4, None), (1, 8, None), (1, 16, None)]
    assert kept(text, HOPPER, R=10, N=65536) == [(1, 16, None)]
    # None fits: the one that comes closest is kept.
    assert kept(text, HOPPER, R=10, N=1 << 19) == [(1, 16, None)]


def test_what_a_loop_does_not_load_again_is_not_staged():
    text = """
template attend(q: T[M, D], k: T[N, D], v: T[N, D]) -> o: T[M, D]:
    config BLOCK_N=64, num_stages=4, num_warps=8
    config BLOCK_N=128, num_stages=4, num_warps=8
    for m in grid(M by 128):
        d = whole(D)
        qt = load q[m, d]
        acc = zeros(m, d)
        for n in N by BLOCK_N:
            p = dot(qt, load k[n, d])
            acc += dot(T(p), load v[n, d])
        store o[m, d] = acc
"""
    # A stage of keys and values is 2 x 64 x 128 x 2 bytes, 32 KiB, and twice that.
    assert kept(text, HOPPER, M=4096, N=4096, D=128) == [(64, 8, 4)]
    assert kept(text, replace(HOPPER, shared_memory=131071), M=4096, N=4096, D=128) == [(64, 8, 4)]
    assert kept(text, replace(HOPPER, shared_memory=262144), M=4096, N=4096, D=128) == [
        (64, 8, 4),
        (128, 8, 4),
    ]


def test_blocks_larger_than_the_problem():
    text = matmul(
        config(128, 128, 64, 8, 3),
        config(64, 64, 64, 4, 3),
        config(16, 64, 64, 4, 3),
        config(32, 64, 64, 4, 3),
    )
    assert kept(text, HOPPER, M=16, N=4096, K=4096) == [(16, 64, 64, 4, 3)]
    assert kept(text, HOPPER, M=17, N=4096, K=4096) == [(16, 64, 64, 4, 3), (32, 64, 64, 4, 3)]
    # No block is as small as the problem: those with the least waste stay.
    text = matmul(config(128, 128, 64, 8, 3), config(64, 64, 64, 4, 3), config(64, 128, 64, 4, 3))
    assert kept(text, HOPPER, M=16, N=4096, K=4096) == [(64, 64, 64, 4, 3), (64, 128, 64, 4, 3)]
    # A size that is known at run time only drops nothing.
    assert len(kept(text, HOPPER, N=4096, K=4096)) == 3


def test_a_product_is_cut_in_the_authors_order(caplog):
    text = matmul("tune BLOCK_M in (64, 128), BLOCK_N in (64, 128), BLOCK_K in (32, 64), num_warps in (4, 8)")
    with caplog.at_level(logging.INFO, "tdsl"):
        found = kept(text, HOPPER, **SIZES)
    assert found[0] == (64, 64, 32, 4, None) and found[-1] == (64, 128, 64, 8, None) and len(found) == 8
    assert "16 candidates fit and the first 8 are tuned" in caplog.text
    assert len(kept(text, replace(HOPPER, most=16), **SIZES)) == 16
    assert kept(text, replace(HOPPER, most=1), **SIZES) == found[:1]


def test_a_drop_is_logged_with_its_reason(caplog):
    with caplog.at_level(logging.INFO, "tdsl"):
        kept(matmul(config(128, 256, 64, 4, 3), config(64, 64, 64, 4, 3)), HOPPER, **SIZES)
    assert "mm: dropped BLOCK_M=128 BLOCK_N=256 BLOCK_K=64" in caplog.text
    assert "needs 256 registers, of 255" in caplog.text


def test_masks_are_decided_by_the_candidates_that_are_left():
    kernel = load(Source("<test>", matmul(config(64, 64, 64, 4, 3), config(128, 128, 64, 4, 9))))
    binding, _ = contiguous(kernel, dims={"M": 64 * 33, "N": 64 * 33, "K": 64 * 33})
    assert "mask" in "\n".join(str(item) for item in lower(kernel, binding).body)
    source = lower(kernel, replace(binding, budget=HOPPER))
    assert all(slot.mask is None for slot in (*source.load_slots(), *source.store_slots()))


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_an_option_that_differs_is_a_constant_too(stages):
    # Inductor tells candidates apart by constants, warps and stages alone.
    text = matmul(
        "config BLOCK_M=64, BLOCK_N=64, BLOCK_K=32, maxnreg=128",
        f"config BLOCK_M=64, BLOCK_N=64, BLOCK_K=32, num_stages={stages}",
    )
    kernel = load(Source("<test>", text))
    binding, _ = contiguous(kernel, dims=SIZES)
    names = [dict(found.constants)["maxnreg_"] for found in lower(kernel, binding).configs]
    assert names == [128, 0]

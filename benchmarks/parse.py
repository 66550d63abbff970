"""Measures how long a template of 50 lines takes to parse and to check, and how long loading the grammar takes.

python -m benchmarks parse

Aim: parse and check in 10 ms, of which parsing takes at most 4.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

ROUNDS = 50

TEXT = '''\
# Attention in one pass over the keys, with a bias on the scores and a gate on the result.

def gated(x, g):
    return x * sigmoid(g)

template attention(q: T[B, H, M, D], k: T[B, H, N, D], v: T[B, H, N, D],
                   bias: T[M, N]?, gate: T[B, H, M, D]?,
                   scale: float, causal: const bool = false) -> (o: T[B, H, M, D], lse: f32[B, H, M])
where T in (f16, bf16, f32), D <= 256:
    """
    softmax(q @ k.T * scale + bias) @ v, and the logarithm of what each row was divided by.

    The maximum of a row is corrected as the walk over the keys finds larger ones.
    """

    config BLOCK_M=128, BLOCK_N=64, num_warps=8, num_stages=3
    config BLOCK_M=64, BLOCK_N=64, num_warps=4, num_stages=3
    config BLOCK_M=64, BLOCK_N=32, num_warps=4, num_stages=4 if D > 64

    for b, h, m in grid(B, H, M by BLOCK_M):
        d = whole(D)
        qt = load q[b, h, m, d]
        top = full(m, value=-inf)
        total = zeros(m)
        acc = zeros(m, d)

        # A tile of keys after the other; the causal mask ends the walk early.
        for n in 0 to (minimum(N, m.stop) if causal else N) by BLOCK_N:
            s = dot(qt, load k[b, h, n, d]) * scale
            if bias:
                s += f32(load bias[m, n])
            if causal:
                s = where(m >= n, s, -inf)

            new_top = maximum(top, max(s, n))
            p = exp(s - new_top)
            rescale = exp(top - new_top)
            total = total * rescale + sum(p, n)
            acc = acc * rescale + dot(T(p), load v[b, h, n, d])
            top = new_top

        # What was gathered, over what it was weighed with.
        result = acc / total
        if gate:
            result = gated(result, f32(load gate[b, h, m, d]))
        store o[b, h, m, d] = result
        store lse[b, h, m] = top + log(total)

# the end
'''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def milliseconds(work: Callable[[], object]) -> float:
    """The shortest of many runs."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def main(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    from tdsl.grammar import parse
    from tdsl.source import Source

    imported = time.perf_counter()
    source = Source("attention.tdsl", TEXT)
    file = parse(source)
    first = time.perf_counter()
    print(f"import {(imported - start) * 1e3:.0f} ms, first parse {(first - imported) * 1e3:.0f} ms")
    print(f"{len(TEXT.splitlines())} lines: parse {milliseconds(lambda: parse(source)):.1f} ms")

    from tdsl.check import check

    print(f"{len(TEXT.splitlines())} lines: check {milliseconds(lambda: check(file)):.1f} ms")
    return 0

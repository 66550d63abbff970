"""A kernel as text, and its verification."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tdsl import grammar, ir
from tdsl.ir_text import to_text
from tdsl.ir_verify import verify
from tdsl.pipeline import check_text, load
from tdsl.source import Source
from tdsl.types import WEAK_INT

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*/*.tdsl"))
TEXT = """
def twice(v): return v + v

template t(x: T[M, N], b: T[N]?, c: const bool = true) -> y: T[M, N]
where M % 8 == 0:
    'Adds a row.'
    let HALF = N // 2
    config BM=64, num_warps=4 if HALF > 8
    for m, n in grid(M by BM, N by 64, group=8):
        v = load x[m, n]
        if b:
            v += load b[n] nofuse
        elif not c:
            v = T(twice(v * 2)) ** 2 - (v - v)
        for k in 0 to (m.stop if c else M) by 16:
            w = load x[k, n + 1] else -1
        j = whole(N)
        u: f32[n, m] = tl.trans(input=v)
        store y[m, n] = -(v + 1) * 2 if c else max(load x[m, j], j)
"""
PRINTED = """\
kernel t
  # Adds a row.
  T in (f16, bf16, f32)
  dims M, N
  param x: T[M, N]
  param b: T[N]?
  param c: const bool = true
  output y: T[M, N]
  where M % 8 == 0
  let HALF: int = N // 2
  config BM=64, num_warps=4 if HALF > 8
  grid m: 0 to M by BM
  grid n: 0 to N by 64
  group 8
    v: T[m, n] = load x[m, n]
    if at compile time present(b)
      v = v + load b[n] nofuse
    elif at compile time not c
      v = T(twice{v_1: T[m, n] = v * 2; v_1 + v_1}) ** 2 - (v - v)
    for k: 0 to (m.stop if c else M) by 16
      w: T[k, n] = load x@x_1[k, n + 1?] else -1
    whole j: 0 to N
    u: f32[n, m] = tl.trans(input=v): f32[n, m]
    store y[m, n] = -(v + 1) * 2 if c else max(load x@x_2[m, j], j)
"""


def kernel() -> ir.Kernel:
    return load(Source("<test>", TEXT))


def test_text() -> None:
    assert to_text(kernel()) == PRINTED


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_keep_the_promises(path: Path) -> None:
    for made in check_text(grammar.read(path)):
        verify(made)
        assert to_text(made).startswith(f"kernel {made.name}\n")


def broken(made: ir.Kernel, body: tuple[ir.Statement, ...]) -> ir.Kernel:
    return replace(made, body=body)


def test_verify_tells_what_is_broken() -> None:
    made = kernel()
    verify(made)
    assert isinstance(made.body[0], ir.Assign)
    (loop,) = (node for node in made.body if isinstance(node, ir.For))
    with pytest.raises(AssertionError, match="'v' is used before it is assigned"):
        verify(broken(made, made.body[1:]))
    with pytest.raises(AssertionError, match="'y' is never written"):
        verify(broken(made, made.body[:-1]))
    zero = ir.Constant(span=made.span, type=ir.Type(dtype=WEAK_INT, constant=True), value=0)
    again = ir.Assign(span=made.span, name="v", type=made.body[0].type, value=zero, declares=True)
    with pytest.raises(AssertionError, match="'v' is declared twice"):
        verify(broken(made, (again, *made.body)))
    with pytest.raises(AssertionError, match="'k' is not in scope"):
        verify(broken(made, (*made.body[:2], *loop.body, *made.body[2:])))
    with pytest.raises(AssertionError, match="there is no dimension 'N'"):
        verify(replace(made, dims=("M",)))

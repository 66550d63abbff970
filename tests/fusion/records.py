"""Records of calls and works for tests: what a test does not speak of is filled in.

call({"y": result("Y", 6, 4), "mean": result("MEAN", 6)})     each has the other at hand
work("relu", "Y", size=(6, 4))                                reads Y, makes 'relu'
copy("Q", "C", place=x, read=x)                               writes C into Q
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import sympy
from torch._inductor.sizevars import SizeVarAllocator

from tdsl.lower.inductor.fusion.facts import Call, Kind, Load, Reach, Read, Result, Target, Tensor, Work
from tdsl.lower.inductor.fusion.placement import Placement, place
from tdsl.refusal import Reason

SIZES = SizeVarAllocator()  # that of Inductor: it knows of no graph, and of no symbol more than its name says
M, N, K = sympy.symbols("s0 s1 s2", integer=True, positive=True)
# Two loops, and one over both.
U, V, X = sympy.symbols("i0 i1 x0", integer=True, nonnegative=True)


def exact(size: Sequence[Any]) -> tuple[sympy.Expr, ...]:
    return tuple(map(sympy.sympify, size))


def contiguous(size: Sequence[Any]) -> tuple[sympy.Expr, ...]:
    strides, step = [], sympy.S.One
    for length in reversed(exact(size)):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


def result(
    buffer: str,
    *size: Any,
    stride: Sequence[Any] | None = None,
    inout: bool = False,
    closed: Reason | None = None,
) -> Result:
    strides = contiguous(size) if stride is None else exact(stride)
    return Result(buffer=buffer, size=exact(size), stride=strides, inout=inout, closed=closed)


def tensor(
    buffer: str, *size: Any, stride: Sequence[Any] | None = None, offset: Any = 0, of: Sequence[str] = ()
) -> Tensor:
    """`of`: the buffers that it is a view of."""
    return Tensor(
        buffer=buffer,
        memory=frozenset({buffer, *of}),
        size=exact(size),
        stride=contiguous(size) if stride is None else exact(stride),
        offset=sympy.sympify(offset),
    )


def call(
    results: Mapping[str, Result],
    tensors: Mapping[str, Tensor] | None = None,
    *,
    reach: Mapping[tuple[str, str], Reach] | None = None,
    loads: Sequence[Load] = (),
    **options: Any,
) -> Call:
    """`reach` says where a result is not at hand."""
    pairs = itertools.permutations([name for name in results if results[name].closed is None], 2)
    return Call(
        tensors=tensors or {},
        results=results,
        loads=tuple(loads),
        reach={pair: Reach.HERE for pair in pairs} | dict(reach or {}),
        sizes=SIZES,
        **options,
    )


def read(buffer: str, *, of: Sequence[str] = (), whole: bool = False) -> Read:
    return Read(buffer=buffer, memory=frozenset(of or {buffer}), whole=whole)


def work(
    name: str,
    *reads: str | Read,
    size: Sequence[Any] = (6, 4),
    kind: Kind = "pointwise",
    makes: str | None = None,
    target: Target | None = None,
    **more: Any,
) -> Work:
    """It makes one buffer, of its own name. With a `target`, it writes in place."""
    options: dict[str, Any] = {"in_place": target is not None} | more
    return Work(
        name=name,
        kind=kind,
        numel=sympy.prod(exact(size)),
        reads=tuple(read(each) if isinstance(each, str) else each for each in reads),
        makes=frozenset({name if makes is None else makes}),
        target=target,
        **options,
    )


def target(
    buffer: str,
    place: Any = 0,
    places_read: Mapping[str, Any] | None = None,
    ranges: Mapping[sympy.Symbol, Any] | None = None,
    *,
    scattered: bool = False,
    of: Sequence[str] = (),
) -> Target:
    return Target(
        buffer=buffer,
        memory=frozenset({buffer, *of}),
        scattered=scattered,
        place=sympy.sympify(place),
        places_read={name: sympy.sympify(at) for name, at in (places_read or {}).items()},
        ranges={symbol: sympy.sympify(length) for symbol, length in (ranges or {}).items()},
    )


def homes(call: Call, *works: Work, before: Sequence[Work] = ()) -> dict[str, list[str]]:
    """The names of the works behind each result; `before` are the prologues."""
    found = place(call, works, tuple(before))
    assert isinstance(found, Placement), found
    return {param: [each.name for each in behind] for param, behind in found.epilogues.items()}


def reason(call: Call, *works: Work, before: Sequence[Work] = ()) -> Reason:
    found = place(call, works, tuple(before))
    assert isinstance(found, Reason), found
    return found

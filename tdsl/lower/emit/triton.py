"""Triton source as data: lines of code, with a slot at each fusable load and store point.

What the lowering emits is one list of lines, each a syntax tree. A fusion point is a slot value in that list; it knows how
to spell itself unfused, and carries what a fused prologue or epilogue needs (index, mask, value). Only
`lower.inductor` spells a slot the other way, with Inductor's placeholders.

Names: every name an author wrote ends in one underscore here (`acc` -> `acc_`), and no name that tdsl or
Inductor makes does, so the two can never meet, nor meet a keyword of Python or Triton.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from tdsl.lower.emit.syntax import assign, quote
from tdsl.lower.facts.candidates import TMA, Config
from tdsl.source import Span


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of Triton. `indent` counts levels of four spaces inside the function body.

    A loop or a branch is a line without a body: the lines that follow are deeper. `code` None: `else:`.
    `accumulates`: the output that the line adds to; where nobody wants that output, nor is the line. `describes`:
    the load point whose descriptor it makes; likewise.
    """

    span: Span | None
    indent: int
    code: ast.stmt | None
    accumulates: str | None = None
    describes: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """A point's index along one dimension of its tensor; a scalar or broadcastable to the tile.

    `axes`: those of the tile along which it varies. `mask`: which of its lanes are in bounds, of the same
    kind; None: all. A dimension is in bounds without a look at the others.
    """

    index: ast.expr
    axes: frozenset[int]
    mask: ast.expr | None


@dataclass(frozen=True, kw_only=True)
class LoadSlot:
    """A load point: reads one tile of a tensor into the variable `target`.

    Unfused it is the line `target = <plain>`. Fused, a prologue computes the tile from `index`, the
    row-major flat index of each lane in the tensor's logical shape (or from that along each of its
    `dimensions`), for the lanes where `mask` holds, and the result is cast to `dtype`.

    `neutral` and `other`: where a consumer relies on what lanes outside hold, `neutral` is a mask and
    every lane where it is false must read `other`. The plain load does that by itself; after a
    prologue it takes `target = tl.where(neutral, target, other)`. None: nobody looks. `relied`: the axes
    of the tile outside which they look, if `other` is 0 and that is all there is to `neutral`.

    `described`: the load through a descriptor, None where there can be none. It wants the tensor's pointer
    divisible by 16 bytes.
    """

    span: Span | None
    indent: int
    point: str  # unique among the kernel's load points: 'A', or 'A_1' for its second point
    param: str  # the tensor parameter that it reads
    target: str
    dtype: str  # a tdsl dtype name: 'f16'
    shape: tuple[str, ...]  # the names of the tile's block sizes; () for a scalar
    index: ast.expr
    dimensions: tuple[Dimension, ...]
    mask: ast.expr | None  # None: every lane is in bounds
    plain: ast.expr
    described: ast.expr | None
    neutral: ast.expr | None
    relied: frozenset[int]
    other: ast.expr
    fusable: bool  # False for `nofuse`
    always: bool  # `fuse`: whatever it costs
    multiplied: bool  # by a dot, which is all that reads it
    elements: int  # about how many all programs load here together

    def unfused(self, *, aligned: bool) -> ast.stmt:
        """`target = <load>`. aligned: whether the pointer is divisible by 16 bytes."""
        load = self.plain
        if aligned and self.described is not None:
            load = quote("{0} if {1} else {2}", self.described, TMA, load)
        return assign(self.target, load)


@dataclass(frozen=True, kw_only=True)
class StoreSlot:
    """The store point of one output: `value`, already cast to `dtype`, for the lanes where `mask` holds.

    Unfused it is the line `<plain>`. Fused, an epilogue gets the index along each dimension of the output
    and decides itself what to store.
    """

    span: Span | None
    indent: int
    param: str  # the output, or the `inout` parameter
    value: ast.expr
    dtype: str
    shape: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    mask: ast.expr | None
    plain: ast.expr
    fusable: bool
    # The block that arithmetic made, and its dtype: what is added to it must not make one instruction with that. The
    # value itself, or what was cast to it; None if dots summed it up, or it was an integer.
    computed: tuple[ast.expr, str] | None


Slot = LoadSlot | StoreSlot
Item = Line | Slot


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """A pointer argument. `name` is its spelling in the source (`A_`), `param` the parameter's name."""

    name: str
    param: str
    dtype: str
    written: bool  # an output, or inout
    accumulated: bool  # must hold zeros before the launch


@dataclass(frozen=True, kw_only=True)
class TritonSource:
    """One emitted kernel: the body of a `@triton.jit` function and what a launch needs.

    Argument order is: `pointers`, then the size arguments that the binding names (whoever made
    the binding knows them), then one `tl.constexpr` per name in `configs[0].constants`.
    """

    name: str
    pointers: tuple[Pointer, ...]
    body: tuple[Item, ...]
    configs: tuple[Config, ...]  # at least one
    index_dtype: str  # in which it calculates with indices

    def load_slots(self) -> tuple[LoadSlot, ...]:
        return tuple(item for item in self.body if isinstance(item, LoadSlot))

    def store_slots(self) -> tuple[StoreSlot, ...]:
        return tuple(item for item in self.body if isinstance(item, StoreSlot))

    def store_positions(self, param: str) -> tuple[int, ...]:
        """Where in the body the store slots of a result are: one, or one in each branch of an `if`."""
        return tuple(
            at for at, item in enumerate(self.body) if isinstance(item, StoreSlot) and item.param == param
        )

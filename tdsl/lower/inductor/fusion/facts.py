"""What is known of a template call and of the work around it: all that a fusion is decided by.

    relu(matmul(A, B)) + bias      Call(tensors={A, B}, results={C}, ...), Work(kind="pointwise", numel=M * N, reads=(C, bias))

`recording` writes it down from the scheduler's nodes; `legality`, `placement` and `cost` read nothing else.
Compared by identity: a record of one node, in the state that it was in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Protocol

from tdsl.lower.inductor.compat.names import sympy
from tdsl.refusal import Reason

Kind = Literal["pointwise", "reduction", "library", "template", "output", "other"]


class Sizes(Protocol):
    """What is known of symbolic sizes. Inductor's `SizeVarAllocator` is one."""

    def statically_known_equals(self, left: Any, right: Any) -> bool:
        """Whether two expressions are surely one number."""

    def simplify_with_ranges(self, expr: Any, var_ranges: Any) -> Any:
        """`expr` in fewer words, for loops as long as `var_ranges` says."""


class Reach(Enum):
    """Whether the value that one store stores can be read where another is."""

    HERE = "lane by lane"
    NOT_HELD = "the program does not have it there"
    ANOTHER_BLOCK = "a loop or a branch has one of the stores and not the other"


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """What a call reads. Sizes and strides are in elements."""

    buffer: str
    # The buffers in whose memory it lies: its own, and those that this one is a view of.
    memory: frozenset[str]
    size: tuple[sympy.Expr, ...]
    stride: tuple[sympy.Expr, ...]
    offset: sympy.Expr


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a call makes: an output, or the new value of an `inout` parameter."""

    buffer: str
    size: tuple[sympy.Expr, ...]
    stride: tuple[sympy.Expr, ...]
    inout: bool
    closed: Reason | None = None  # why nothing may go behind it


@dataclass(frozen=True, kw_only=True, eq=False)
class Load:
    """A fusable load point."""

    buffer: str
    elements: int  # about how many all programs load here together
    always: bool = False  # the point says `fuse`
    text: str = "load"  # as the author wrote it


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """A call of a template."""

    tensors: Mapping[str, Tensor]  # by parameter, as the results are
    results: Mapping[str, Result]
    loads: tuple[Load, ...] = ()
    reach: Mapping[tuple[str, str], Reach] = field(default_factory=dict)  # (where it is read, what is read)
    subtiled: bool = False  # a tile is stored in parts
    multiplies: bool = False  # it has a dot
    moved: int = 0  # bytes of all its tensors, about
    sizes: Sizes

    def open_results(self) -> dict[str, str]:
        """The buffers behind which something may go, and their parameters."""
        return {result.buffer: param for param, result in self.results.items() if result.closed is None}


@dataclass(frozen=True, kw_only=True, eq=False)
class Read:
    """What one work reads of a buffer."""

    buffer: str
    # As of a tensor, by the names that buffers have first: each write in place gives one another name.
    memory: frozenset[str]
    whole: bool = False  # not element by element


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """Where a work writes in a buffer that exists already."""

    buffer: str
    memory: frozenset[str]  # as of a tensor
    scattered: bool  # to places that depend on data
    place: sympy.Expr
    # Of each buffer that is read at one place: which, in the same loops.
    places_read: Mapping[str, sympy.Expr]
    ranges: Mapping[sympy.Symbol, sympy.Expr]  # of the loops


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """What one of the scheduler's nodes does; of several that are fused, each is one."""

    name: str
    kind: Kind
    what: str = ""  # the kind in Inductor's words, for a message
    lacking: str | None = None  # what Triton, or its interpreter on a CPU, has not
    numel: sympy.Expr = sympy.S.Zero  # how many elements it works on
    reads: tuple[Read, ...] = ()
    makes: frozenset[str] = frozenset()
    in_place: bool = False  # it writes to memory that exists already
    target: Target | None = None  # None, too, where that is memory of an unknown kind


@dataclass(frozen=True, kw_only=True, eq=False)
class Effort:
    """What pointwise work costs that makes the tensors `written`; numbers are likely ones where sizes vary."""

    elements: int
    operations: Mapping[str, int]  # on each element, by the operator's name in Inductor
    read: int  # bytes, all elements together
    written: Mapping[str, int]  # bytes of each buffer

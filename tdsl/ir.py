"""The kernel: what a template means, with every name resolved, every value typed, every point proven.

`check` makes it and no later code asks again: tiles line up, dtypes promote, each subscript is either
proven in bounds or says what to do outside, and every output is stored exactly once. Helpers are
inlined. What is still open is what only a call knows: sizes, strides, the dtype behind `T`, constants,
which optional tensors are there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal

from tdsl.source import Source, Span
from tdsl.types import DType


@dataclass(frozen=True, kw_only=True)
class Node:
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Tile(Node):
    """A named range of indices: `start` to `stop`, of which one program sees `block` at a time.

    `name` is the author's; `key` is unique in the kernel (a name may be used again by a later loop) and
    is the tile's identity. For `grid` and `whole` tiles start is 0. The lanes inside are always the
    first ones of the block.
    """

    key: str
    name: str = field(compare=False)
    role: Literal["grid", "loop", "whole"] = field(compare=False)
    start: Expr = field(compare=False)
    stop: Expr = field(compare=False)
    block: Expr | None = field(compare=False)  # compile-time; None for `whole`: next_pow2(stop)
    scalar: bool = field(compare=False)  # one index at a time

    def __str__(self) -> str:
        return self.key


@dataclass(frozen=True, kw_only=True)
class Type:
    """A value's dtype and the tiles that it varies over (never a scalar tile); constant: known at
    compile time, once sizes and constants are."""

    dtype: DType
    tiles: tuple[Tile, ...] = ()
    constant: bool = False

    def __str__(self) -> str:
        tiles = f"[{', '.join(tile.key for tile in self.tiles)}]" if self.tiles else ""
        return f"{self.dtype}{tiles}"


# Expressions


@dataclass(frozen=True, kw_only=True)
class Typed(Node):
    type: Type


@dataclass(frozen=True, kw_only=True)
class Constant(Typed):
    """A literal; `inf`, `-inf` and `nan` as Python floats; a string or a dtype's name for const
    parameters and `tl.` arguments."""

    value: bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class DimRef(Typed):
    """The size of a dimension; of `R...`, the product of the leading sizes."""

    name: str


@dataclass(frozen=True, kw_only=True)
class ParamRef(Typed):
    """A run-time scalar or a const parameter."""

    name: str


@dataclass(frozen=True, kw_only=True)
class SettingRef(Typed):
    """A name bound by `let`, `config` or `tune`."""

    name: str


@dataclass(frozen=True, kw_only=True)
class VarRef(Typed):
    name: str  # unique in the kernel


@dataclass(frozen=True, kw_only=True)
class TileRef(Typed):
    """A tile as a value: its index vector; of a scalar tile, its index."""

    tile: Tile


@dataclass(frozen=True, kw_only=True)
class TileEdge(Typed):
    """`m.start`, or `m.stop`: the bounds of the current tile, never beyond the tile's range."""

    tile: Tile
    edge: Literal["start", "stop"]


@dataclass(frozen=True, kw_only=True)
class Present(Typed):
    """Whether an optional tensor was passed: `if bias:`. A compile-time bool."""

    param: str


@dataclass(frozen=True, kw_only=True)
class DTypeIn(Typed):
    """`T in (f16, bf16)` as a condition. A compile-time bool."""

    dtype: DType
    choices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Unary(Typed):
    """`-`, `~`, `not`. The operand has this node's dtype, but for `not` (bool)."""

    op: str
    operand: Expr


@dataclass(frozen=True, kw_only=True)
class Binary(Typed):
    """Elementwise on values lined up by tile. Arithmetic happens in this node's dtype; comparisons
    in the promotion of both sides. `/` is true division; `//` and `%` round towards -infinity, as in
    Python. `and`/`or` are for scalars."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, kw_only=True)
class Cast(Typed):
    operand: Expr


@dataclass(frozen=True, kw_only=True)
class Select(Typed):
    """`A if COND else B`: only the side that the compile-time condition picks exists."""

    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True, kw_only=True)
class Elementwise(Typed):
    """A built-in that works lane by lane: exp, where, maximum, cdiv, next_pow2, ... `where` has a
    bool first and two values of this node's dtype. Mathematical functions of f16 and bf16 are computed
    in f32 and rounded to this node's dtype."""

    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, kw_only=True)
class Reduce(Typed):
    """sum, prod, max, min, any, all, argmax or argmin over `tiles` (argmax and argmin: one tile; the result is the
    index along the dimension, i32)."""

    function: str
    operand: Expr
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class Scan(Typed):
    """cumsum or cumprod along `tile`."""

    function: str
    operand: Expr
    tile: Tile


@dataclass(frozen=True, kw_only=True)
class Along(Typed):
    """sort, argsort, topk, argtopk, flip, histogram, take or padded: what sees the lanes of `tile` together.

    `onto`: the tile that takes its place, for topk and argtopk (with no more lanes, proven) and histogram.
    `arguments`: of take the index, and what to read outside if the index is not proven; of padded, what the lanes
    outside hold."""

    function: str
    operand: Expr
    tile: Tile
    onto: Tile | None
    arguments: tuple[Expr, ...]
    descending: bool


@dataclass(frozen=True, kw_only=True)
class Dot(Typed):
    """Contracts `tile`, the one that both operands share. `precision` None: PyTorch's setting."""

    left: Expr
    right: Expr
    tile: Tile
    precision: str | None


@dataclass(frozen=True, kw_only=True)
class Fill(Typed):
    """zeros, full."""

    value: Expr


@dataclass(frozen=True, kw_only=True)
class TritonCall(Typed):
    """`tl.name(...)`. `by_lane`: its arguments line up by tile; else each is the block that its type says, and so is the
    result."""

    name: str
    by_lane: bool
    arguments: tuple[Expr, ...]
    keywords: tuple[tuple[str, Expr], ...]


@dataclass(frozen=True, kw_only=True)
class TritonName(Typed):
    name: str


@dataclass(frozen=True, kw_only=True)
class Inline(Typed):
    """A helper's call: bind each variable in order, then `result`."""

    helper: str
    bindings: tuple[tuple[str, Expr], ...]
    result: Expr


@dataclass(frozen=True, kw_only=True)
class Subscript(Node):
    """One index of a point. `in_bounds`: proven for every lane that is inside its tiles."""

    value: Expr
    in_bounds: bool


@dataclass(frozen=True, kw_only=True)
class Load(Typed):
    """A load point. `point` is unique in the kernel: the tensor's name, then `A_1`, `A_2`."""

    point: str
    param: str
    subscripts: tuple[Subscript, ...]  # one per declared dimension; `R...` counts as one
    otherwise: Expr | None  # what to read outside; a scalar
    unchecked: bool
    fuse: bool  # a prologue that can be fused is, whatever it costs
    nofuse: bool


Expr = (
    Constant
    | DimRef
    | ParamRef
    | SettingRef
    | VarRef
    | TileRef
    | TileEdge
    | Present
    | DTypeIn
    | Unary
    | Binary
    | Cast
    | Select
    | Elementwise
    | Reduce
    | Scan
    | Along
    | Dot
    | Fill
    | TritonCall
    | TritonName
    | Inline
    | Load
)


# Statements


@dataclass(frozen=True, kw_only=True)
class Assign(Node):
    """`name` keeps the type of its first assignment (`declares`); a later value is converted to it."""

    name: str
    type: Type
    value: Expr
    declares: bool


@dataclass(frozen=True, kw_only=True)
class Whole(Node):
    """`n = whole(N)`: from here on the tile exists."""

    tile: Tile


@dataclass(frozen=True, kw_only=True)
class For(Node):
    tile: Tile
    body: tuple[Statement, ...]


@dataclass(frozen=True, kw_only=True)
class If(Node):
    """Branches in order, then `orelse`. A constant condition picks its branch at compile time."""

    branches: tuple[tuple[Expr, tuple[Statement, ...]], ...]
    orelse: tuple[Statement, ...]


@dataclass(frozen=True, kw_only=True)
class Store(Node):
    """The store point of an output or an inout parameter; each element is written exactly once."""

    param: str
    subscripts: tuple[Subscript, ...]
    tiles: tuple[Tile, ...]  # of the stored value's lanes: every tile that the subscripts name
    value: Expr
    nofuse: bool


@dataclass(frozen=True, kw_only=True)
class Accumulate(Node):
    """An addition into an output. `skip`: adds nothing where a subscript is outside."""

    param: str
    subscripts: tuple[Subscript, ...]
    tiles: tuple[Tile, ...]
    value: Expr
    skip: bool
    unchecked: bool


Statement = Assign | Whole | For | If | Store | Accumulate


# The kernel


@dataclass(frozen=True, kw_only=True)
class RestDim(Node):
    """`R...`."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Tensor(Node):
    """A tensor parameter or an output. A dimension is an integer expression of names, or `R...`
    (first, at most once)."""

    name: str
    dtype: DType
    dims: tuple[Expr | RestDim, ...]
    optional: bool = False
    inout: bool = False


@dataclass(frozen=True, kw_only=True)
class Scalar(Node):
    name: str
    type: Literal["float", "int"]


@dataclass(frozen=True, kw_only=True)
class Const(Node):
    name: str
    type: Literal["bool", "int", "float", "dtype", "str"]
    default: bool | int | float | str | None


@dataclass(frozen=True, kw_only=True)
class Let(Node):
    name: str
    value: Expr


@dataclass(frozen=True, kw_only=True)
class Candidate(Node):
    """One `config`, or one point of a `tune` product. Options (num_warps, ...) are among the items."""

    items: tuple[tuple[str, Expr], ...]
    condition: Expr | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel(Node):
    """Compared by identity: what is kept of one is found without a look at all of it."""

    name: str
    source: Source = field(compare=False, repr=False)
    doc: str | None
    params: tuple[Tensor | Scalar | Const, ...]
    outputs: tuple[Tensor, ...]
    dtype_choices: tuple[tuple[str, tuple[str, ...]], ...]  # each dtype variable, in order of appearance
    dims: tuple[str, ...]  # every dimension's name, `R` of `R...` among them, in order of appearance
    guards: tuple[Expr, ...]  # compile-time or call-time bool expressions; dtype guards are choices
    lets: tuple[Let, ...]
    candidates: tuple[Candidate, ...]  # at least one; the same names in each
    grid: tuple[Tile, ...]
    group: Expr | None
    body: tuple[Statement, ...]

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @functools.cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All that there is to `walk`."""
        return tuple(walk(self))

    def tensor(self, name: str) -> Tensor:
        for item in (*self.params, *self.outputs):
            if isinstance(item, Tensor) and item.name == name:
                return item
        raise KeyError(name)

    def stores(self, param: str) -> tuple[Store, ...]:
        """The stores to an output, or an `inout` parameter, in the order of the text."""
        return tuple(node for node in self.nodes if isinstance(node, Store) and node.param == param)


def solved_for(dim: Expr | RestDim) -> tuple[str, int, int] | None:
    """(name, factor, offset) where a dimension is `factor * name + offset` with a factor of at least 1: then its
    size tells the name's."""
    match dim:
        case DimRef(name=name):
            return name, 1, 0
        case (
            Binary(op="+", left=left, right=Constant(value=int(number)))
            | Binary(op="+", left=Constant(value=int(number)), right=left)
        ):
            found, sign = solved_for(left), 1
        case Binary(op="-", left=left, right=Constant(value=int(number))):
            found, sign = solved_for(left), -1
        case (
            Binary(op="*", left=left, right=Constant(value=int(number)))
            | Binary(op="*", left=Constant(value=int(number)), right=left)
        ) if number >= 1:
            found = solved_for(left)
            return None if found is None else (found[0], found[1] * number, found[2] * number)
        case _:
            return None
    return None if found is None else (found[0], found[1], found[2] + sign * number)


def children(node: Node) -> Iterator[Node]:
    """The nodes directly inside `node`, in field order; tiles are followed nowhere but where they
    are made (`Whole`, `For`, `Kernel.grid`)."""
    for name in _inside(type(node)):  # type: ignore[arg-type]  # a class can be hashed
        yield from _nodes(getattr(node, name))


@functools.cache
def _inside(kind: type[Node]) -> tuple[str, ...]:
    """The fields of a class of nodes in which there may be others."""
    makes_tiles = issubclass(kind, Whole | For)
    left_out = {"span", "type", *(() if makes_tiles else ("tile", "tiles", "onto"))}
    return tuple(entry.name for entry in fields(kind) if entry.name not in left_out)


def _nodes(value: object) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _nodes(item)


def assignments(kernel: Kernel) -> dict[str, list[Expr]]:
    """What each variable may hold, the parameters of inlined helpers among them."""
    found: dict[str, list[Expr]] = {}
    for inner in kernel.nodes:
        match inner:
            case Assign(name=name, value=value):
                found.setdefault(name, []).append(value)
            case Inline(bindings=bindings):
                for name, value in bindings:
                    found.setdefault(name, []).append(value)
    return found


def walk(node: Node) -> Iterator[Node]:
    """`node` and every node inside it, before its children."""
    stack = [node]
    while stack:
        this = stack.pop()
        yield this
        stack.extend(reversed(list(children(this))))

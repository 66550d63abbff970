"""What an author can write: one frozen dataclass per construct, in grammar order.

Nothing here is checked beyond syntax. Every node carries the span of its whole text; names that a
diagnostic may point at carry their own (`Ident`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tdsl.source import Span


@dataclass(frozen=True, kw_only=True)
class Node:
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Ident(Node):
    name: str


@dataclass(frozen=True, kw_only=True)
class File(Node):
    templates: tuple[Template, ...]
    helpers: tuple[Helper, ...]


@dataclass(frozen=True, kw_only=True)
class Template(Node):
    """`template NAME(PARAMS) -> OUTPUTS where GUARDS: DOC DECLARATIONS BODY`."""

    name: Ident
    params: tuple[Param, ...]
    outputs: tuple[Output, ...]
    guards: tuple[Guard, ...]
    doc: str | None
    declarations: tuple[Declaration, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, kw_only=True)
class Helper(Node):
    """`def NAME(PARAMS): [assignments] return VALUE`, or the same on one line."""

    name: Ident
    params: tuple[Ident, ...]
    body: tuple[Statement, ...]
    result: Expr


# Signature


@dataclass(frozen=True, kw_only=True)
class TensorParam(Node):
    """`A: T[M, K]`, `bias: T[N]?`, `inout x: T[M, N]`."""

    name: Ident
    dtype: DTypeExpr
    dims: tuple[Dim, ...]
    optional: bool
    inout: bool


@dataclass(frozen=True, kw_only=True)
class ScalarParam(Node):
    """`eps: float`, `n: int`: a run-time scalar."""

    name: Ident
    type: Ident  # float, int


@dataclass(frozen=True, kw_only=True)
class ConstParam(Node):
    """`causal: const bool = false`: a compile-time parameter."""

    name: Ident
    type: Ident  # bool, int, float, dtype, str
    default: Expr | None


Param = TensorParam | ScalarParam | ConstParam


@dataclass(frozen=True, kw_only=True)
class Output(Node):
    name: Ident
    dtype: DTypeExpr
    dims: tuple[Dim, ...]


@dataclass(frozen=True, kw_only=True)
class DTypeName(Node):
    """A dtype (`f16`), a dtype variable (`T`), or a const parameter of type dtype."""

    name: str


@dataclass(frozen=True, kw_only=True)
class DTypePromote(Node):
    """`promote(T, U)`."""

    operands: tuple[DTypeExpr, ...]


DTypeExpr = DTypeName | DTypePromote


@dataclass(frozen=True, kw_only=True)
class RestDim(Node):
    """`R...`: any number of leading dimensions, seen as one."""

    name: Ident


@dataclass(frozen=True, kw_only=True)
class ExprDim(Node):
    """`M`, `3`, `K // 8`."""

    value: Expr


Dim = RestDim | ExprDim


@dataclass(frozen=True, kw_only=True)
class DTypeGuard(Node):
    """`T in (f16, bf16)`."""

    variable: Ident
    choices: tuple[DTypeName, ...]


@dataclass(frozen=True, kw_only=True)
class ExprGuard(Node):
    """`K % 32 == 0`."""

    value: Expr


Guard = DTypeGuard | ExprGuard


# Declarations


@dataclass(frozen=True, kw_only=True)
class Let(Node):
    name: Ident
    value: Expr


@dataclass(frozen=True, kw_only=True)
class ConfigItem(Node):
    """`BLOCK_M=128` in a config (one value), `num_warps in (4, 8)` in a tune (several)."""

    name: Ident
    values: tuple[Expr, ...]


@dataclass(frozen=True, kw_only=True)
class Config(Node):
    """`config BLOCK_M=128, num_warps=8 [if COND]`: one candidate."""

    items: tuple[ConfigItem, ...]
    condition: Expr | None


@dataclass(frozen=True, kw_only=True)
class Tune(Node):
    """`tune BLOCK_M in (64, 128), num_warps in (4, 8) [if COND]`: the product."""

    items: tuple[ConfigItem, ...]
    condition: Expr | None


Declaration = Let | Config | Tune


# Statements


@dataclass(frozen=True, kw_only=True)
class GridAxis(Node):
    """`M by BLOCK_M`, or `B` (a scalar index)."""

    size: Expr
    block: Expr | None


@dataclass(frozen=True, kw_only=True)
class Grid(Node):
    """`for m, n in grid(M by BLOCK_M, N by BLOCK_N, group=8):`."""

    targets: tuple[Ident, ...]
    axes: tuple[GridAxis, ...]
    group: Expr | None
    body: tuple[Statement, ...]


@dataclass(frozen=True, kw_only=True)
class For(Node):
    """`for k in K by BLOCK_K:`, `for n in 0 to m.stop by BLOCK_N:`, `for c in C:`; start None is 0."""

    target: Ident
    start: Expr | None
    stop: Expr
    block: Expr | None
    body: tuple[Statement, ...]


@dataclass(frozen=True, kw_only=True)
class IfBranch(Node):
    condition: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True, kw_only=True)
class If(Node):
    """`if/elif/else`; `orelse` is empty when there is none."""

    branches: tuple[IfBranch, ...]
    orelse: tuple[Statement, ...]


@dataclass(frozen=True, kw_only=True)
class TileType(Node):
    """`f32[m, n]`, the annotation of a result of `tl.NAME(...)`; no tiles: a scalar."""

    dtype: DTypeExpr
    tiles: tuple[Ident, ...]


@dataclass(frozen=True, kw_only=True)
class Assign(Node):
    """`x = value`, `x: f32[m, n] = tl.call(...)`, and `n = whole(N)`."""

    target: Ident
    annotation: TileType | None
    value: Expr


@dataclass(frozen=True, kw_only=True)
class AugAssign(Node):
    """`x += value`; `op` is `+`, `-`, `*`, ..."""

    target: Ident
    op: str
    value: Expr


@dataclass(frozen=True, kw_only=True)
class Store(Node):
    """`store C[m, n] = value [nofuse]`."""

    tensor: Ident
    subscripts: tuple[Expr, ...]
    value: Expr
    nofuse: bool


@dataclass(frozen=True, kw_only=True)
class Accumulate(Node):
    """`accumulate dw[n] += value`, with `else skip` or `unchecked` behind it."""

    tensor: Ident
    subscripts: tuple[Expr, ...]
    value: Expr
    skip: bool
    unchecked: bool


@dataclass(frozen=True, kw_only=True)
class Pass(Node):
    pass


Statement = Grid | For | If | Assign | AugAssign | Store | Accumulate | Pass


# Expressions


@dataclass(frozen=True, kw_only=True)
class Name(Node):
    """A variable, tile, dimension, parameter, or dtype used as a value; also `inf` and `nan`."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Literal(Node):
    """`12`, `1e-6`, `true`, `'text'`."""

    value: bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Unary(Node):
    """`op` is `-`, `+`, `~` or `not`."""

    op: str
    operand: Expr


@dataclass(frozen=True, kw_only=True)
class Binary(Node):
    """`op` is `+ - * / // % ** & | ^ << >>`, `== != < <= > >=`, `and` or `or`."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, kw_only=True)
class Membership(Node):
    """`T in (f16, bf16)` as a compile-time condition."""

    value: Expr
    choices: tuple[Expr, ...]


@dataclass(frozen=True, kw_only=True)
class Conditional(Node):
    """`A if COND else B`; COND is known at compile time."""

    then: Expr
    condition: Expr
    otherwise: Expr


@dataclass(frozen=True, kw_only=True)
class Keyword(Node):
    name: Ident
    value: Expr


@dataclass(frozen=True, kw_only=True)
class Call(Node):
    """A built-in, a helper, or a cast: `max(s, n)`, `silu(x)`, `f32(x)`, `whole(N)`."""

    function: Ident
    arguments: tuple[Expr, ...]
    keywords: tuple[Keyword, ...]


@dataclass(frozen=True, kw_only=True)
class TritonCall(Node):
    """`tl.NAME(...)`; `name` has no `tl.` (`math.erf` for `tl.math.erf`)."""

    name: str
    arguments: tuple[Expr, ...]
    keywords: tuple[Keyword, ...]


@dataclass(frozen=True, kw_only=True)
class TritonName(Node):
    """`tl.float32` and the like, as an argument of a `tl.` call."""

    name: str


@dataclass(frozen=True, kw_only=True)
class TileBound(Node):
    """`m.start`, `m.stop`."""

    tile: Ident
    bound: str


@dataclass(frozen=True, kw_only=True)
class Load(Node):
    """`load A[m, k] [else VALUE | unchecked] [fuse | nofuse]`."""

    tensor: Ident
    subscripts: tuple[Expr, ...]
    otherwise: Expr | None
    unchecked: bool
    fuse: bool
    nofuse: bool


Expr = (
    Name
    | Literal
    | Unary
    | Binary
    | Membership
    | Conditional
    | Call
    | TritonCall
    | TritonName
    | TileBound
    | Load
)

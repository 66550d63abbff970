"""What the rules of one template share: names in scope, mistakes found, and the kernel's growing facts.

    for k in K by BLOCK:      open a block, declare tile k
        x = load A[m, k]      declare variable x (key x)
    y = x                     x is gone: it belonged to the loop of k

Which names may be declared where is here; what statements and expressions mean is left to the rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tdsl import ast, ir
from tdsl.check.bounds import Bounds, Shortfall
from tdsl.check.dtypes import DTypes
from tdsl.diagnostics import Code, Diagnostic, Label, suggest
from tdsl.source import Span
from tdsl.types import DType

MAX_LANES = 1 << 20  # of one block, Triton's limit
MAX_MISTAKES = 100  # of a file, that are shown
MAX_EXPANSION = 500_000  # characters of helpers that the calls in a file may expand to
_MAX_PLACES = 3  # of a name that stands for nothing, beside the first
_MAX_KNOWN = 300  # names that a near one is looked for among


class Report:
    """The mistakes of a file; of several of one kind at one place, the first."""

    def __init__(self) -> None:
        self._found: dict[tuple[Code, int, int], Diagnostic] = {}
        # By where its owner starts, and name.
        self._missing: dict[tuple[int, str], tuple[Code, int, int]] = {}
        self.expanded = 0  # characters of helpers

    def add(self, diagnostic: Diagnostic) -> None:
        key = (diagnostic.code, diagnostic.span.start, diagnostic.span.end)
        self._found.setdefault(key, diagnostic)

    def add_missing(self, name: str, owner: Span, diagnostic: Diagnostic) -> None:
        """Of a name that stands for nothing in a template or a helper: one mistake, however often it is used."""
        key = (diagnostic.code, diagnostic.span.start, diagnostic.span.end)
        first = self._missing.setdefault((owner.start, name), key)
        if first == key:
            self.add(diagnostic)
            return
        found = self._found[first]
        here = Label(span=diagnostic.span, text="and here")
        places = [label.span for label in found.labels if label.text == here.text]
        if len(places) < _MAX_PLACES and here.span not in places:
            self._found[first] = replace(found, labels=(*found.labels, here))

    def __len__(self) -> int:
        return len(self._found)

    def in_order(self) -> list[Diagnostic]:
        """The first of them in the order of the file, and that there are more."""
        ordered = sorted(self._found.values(), key=lambda item: (item.span.start, item.span.end))
        if len(ordered) > MAX_MISTAKES:
            message = f"the file has more than {MAX_MISTAKES} mistakes; those from here on are not shown"
            rest = Diagnostic(code=Code.TOO_LARGE, message=message, span=ordered[MAX_MISTAKES].span)
            ordered[MAX_MISTAKES:] = [rest]
        return ordered


# What a name may stand for


@dataclass
class Parameter:
    """A parameter or an output. `broken`: its declaration has a mistake, so nothing is said about its uses."""

    node: ir.Tensor | ir.Scalar | ir.Const
    span: Span
    kind: Literal["input", "output"]
    broken: bool = False


@dataclass
class Dimension:
    """`broken`: no argument tells it, so nothing is said about its uses."""

    name: str
    span: Span
    broken: bool = False


@dataclass
class DTypeVariable:
    name: str
    span: Span


@dataclass
class Setting:
    """A `let`, or a name that each config sets. `values`: one per candidate, or one in all; None
    where a mistake hides it."""

    name: str
    span: Span
    kind: Literal["let", "config"]
    type: ir.Type | None
    values: tuple[ir.Expr | None, ...]


@dataclass
class TileName:
    """`tile` None: its declaration has a mistake."""

    name: str
    span: Span
    tile: ir.Tile | None


@dataclass
class Variable:
    """`type` None: its first value has a mistake."""

    name: str
    span: Span
    key: str
    type: ir.Type | None
    level: int  # number of open blocks where it was declared


@dataclass
class Alias:
    """A helper's parameter that needs no variable: a value, a dtype, or (neither) a mistake. The last is also what a
    name stands for that is given to two things."""

    value: ir.Expr | None
    dtype: DType | None = None


Symbol = Parameter | Dimension | DTypeVariable | Setting | TileName | Variable | Alias


@dataclass
class Block:
    kind: Literal["template", "grid", "for", "branch", "helper"]
    span: Span
    names: dict[str, Symbol] = field(default_factory=dict)
    tile: TileName | None = None
    shared: dict[str, Variable] = field(default_factory=dict)  # what earlier branches of an `if` began


@dataclass
class Gone:
    """A name whose block has ended."""

    symbol: Symbol
    block: Block


@dataclass(frozen=True)
class Branch:
    """One branch of an `if`: which `if`, which branch of it, and whether one branch is always taken."""

    statement: int
    index: int
    count: int
    complete: bool


@dataclass
class StorePoint:
    span: Span
    path: tuple[Branch, ...]
    subscripts: tuple[ir.Subscript, ...] | None  # None: there is a mistake in it


@dataclass
class LoadPoint:
    load: ir.Load
    path: tuple[Branch, ...]


@dataclass
class Context:
    """One template being checked."""

    report: Report
    helpers: Mapping[str, ast.Helper]
    recursive: frozenset[str]
    dtypes: DTypes = field(default_factory=lambda: DTypes({}))
    blocks: list[Block] = field(default_factory=list)
    gone: dict[str, Gone] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # parameters, settings and dimensions
    duplicated: set[str] = field(default_factory=set)  # it is not clear what these stand for
    meant: set[str] = field(default_factory=set)  # outputs that the store of an unknown one may be of
    is_unproven: bool = False  # a guard has a mistake: what it would have told is not known
    is_unnamed: bool = False  # the grid has dimensions without a name: what stands for nothing may be one
    keys: dict[str, int] = field(default_factory=dict)  # of variables and tiles; see `_fresh`
    points: dict[str, int] = field(default_factory=dict)
    candidates: int = 1
    block_sizes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)  # by tile, per candidate
    settings: dict[str, ir.Expr] = field(default_factory=dict)  # what `let` binds
    least: dict[str, int] = field(default_factory=dict)  # of config names: the least of their values
    assigned_once: frozenset[str] = frozenset()
    definitions: dict[str, ir.Expr] = field(default_factory=dict)  # of variables assigned once, by key
    loops: list[ir.Tile] = field(default_factory=list)  # grid and loop tiles around
    path: tuple[Branch, ...] = ()
    ifs: int = 0
    present: frozenset[str] = frozenset()  # optional tensors known to be there
    conditions: tuple[ir.Expr, ...] = ()  # what holds in this branch, and stays so
    stores: dict[str, list[StorePoint]] = field(default_factory=dict)
    accumulates: dict[str, list[Span]] = field(default_factory=dict)
    inout_loads: dict[str, list[LoadPoint]] = field(default_factory=dict)
    depth: int = 0
    calls: list[Span] = field(default_factory=list)  # of the helpers being inlined
    place: Literal["signature", "grid", "body", "helper"] = "signature"
    too_large: set[tuple[str, ...]] = field(default_factory=set)
    fits: set[tuple[ir.Tile, ...]] = field(default_factory=set)
    # Set by whoever puts the rules together: how to type a part of an expression, and a condition.
    value: Callable[[Context, ast.Expr], ir.Expr | None] = field(default=lambda ctx, node: None)
    condition: Callable[[Context, ast.Expr], ir.Expr | None] = field(default=lambda ctx, node: None)
    bounds: Bounds = field(init=False)

    # Mistakes

    def error(self, code: Code, span: Span, message: str, *labels: Label, help: str | None = None) -> None:
        if self.calls:
            labels = (*labels, Label(span=self.calls[0], text="called here"))
        self.report.add(Diagnostic(code=code, message=message, span=span, labels=labels, help=help))

    def missing(
        self, code: Code, span: Span, name: str, message: str, *labels: Label, help: str | None = None
    ) -> None:
        """Report a name that stands for nothing here, unless that is said already."""
        owner = next(block.span for block in reversed(self.blocks) if block.kind in ("helper", "template"))
        if not (self.is_unnamed and code is Code.UNKNOWN_NAME):
            diagnostic = Diagnostic(code=code, message=message, span=span, labels=labels, help=help)
            self.report.add_missing(name, owner, diagnostic)

    def suggest(self, name: str, known: Iterable[str]) -> str | None:
        """The known name nearest to `name`, if one is near; not in files with very many names or mistakes."""
        if len(self.report) > MAX_MISTAKES:
            return None
        return suggest(name, itertools.islice(known, _MAX_KNOWN))

    # Names

    def open(self, block: Block) -> None:
        self.blocks.append(block)

    def close(self) -> Block:
        block = self.blocks.pop()
        for name, symbol in block.names.items():
            self.gone[name] = Gone(symbol, block)
        return block

    def lookup(self, name: str) -> Symbol | None:
        for block in reversed(self.blocks):
            symbol = block.names.get(name)
            if symbol is not None:
                if isinstance(symbol, Parameter | Setting | Dimension):
                    self.used.add(name)
                return Alias(None) if name in self.duplicated and block.kind != "helper" else symbol
            if block.kind == "helper":
                return None
        return None

    def visible(self) -> Iterator[str]:
        for block in reversed(self.blocks):
            yield from block.names
            if block.kind == "helper":
                break

    def declare(self, ident: ast.Ident, symbol: Symbol) -> None:
        """Put a name into the innermost block; it must be free."""
        if not self.is_taken(ident):
            self.blocks[-1].names[ident.name] = symbol
            self.gone.pop(ident.name, None)

    def is_taken(self, ident: ast.Ident) -> bool:
        """Whether a name stands for something already, which is a mistake."""
        for block in reversed(self.blocks):
            symbol = block.names.get(ident.name)
            if symbol is not None:
                if ident.name in self.duplicated:
                    return True
                self.duplicated.add(ident.name)
                where = () if isinstance(symbol, Alias) else (Label(span=symbol.span, text="first here"),)
                self.error(
                    Code.DUPLICATE_NAME,
                    ident.span,
                    f"'{ident.name}' is {describe(symbol)} already",
                    *where,
                    help="give one of them another name",
                )
                return True
            if block.kind == "helper":
                break
        if ident.name in self.helpers:
            self.error(
                Code.DUPLICATE_NAME,
                ident.span,
                f"'{ident.name}' is a helper already",
                Label(span=self.helpers[ident.name].name.span, text="defined here"),
                help="give one of them another name",
            )
            return True
        return False

    def key(self, name: str) -> str:
        """`name`, or `name_1`, ...: not taken by another variable or tile of the kernel."""
        return _fresh(name, self.keys)

    def point(self, name: str) -> str:
        """As `key`, for the load points of the tensor `name`; no point is called as another tensor."""
        if name not in self.points:
            self.points[name] = 0
            return name
        return _fresh(name, self.points, self.blocks[0].names)

    # Values

    def tensor(self, param: str) -> ir.Tensor | None:
        symbol = self.blocks[0].names.get(param)
        return symbol.node if isinstance(symbol, Parameter) and isinstance(symbol.node, ir.Tensor) else None

    def shortfall(self, value: ir.Expr, size: ir.Expr) -> Shortfall | None:
        """None where `value` is proven to be an index of a dimension of that size here."""
        if self.is_unproven:
            return None
        return self.bounds.shortfall(value, size, self.loops, self.conditions)

    def is_telling(self) -> bool:
        """Whether a proof says something here: not while a guard has a mistake, nor where no call comes to."""
        return not self.is_unproven and not self.bounds.contradict(self.loops, self.conditions)

    def check_lanes(self, tiles: tuple[ir.Tile, ...], span: Span) -> bool:
        """Whether a block over `tiles` is one that Triton can hold, as far as literal sizes tell."""
        if len(tiles) < 2 or tiles in self.fits:
            return True
        names = tuple(sorted(tile.key for tile in tiles))
        for candidate in range(self.candidates):
            lanes = 1
            for tile in tiles:
                sizes = self.block_sizes.get(tile.key, (None,))
                lanes *= sizes[candidate if len(sizes) > 1 else 0] or 1
            if lanes > MAX_LANES:
                if names not in self.too_large:
                    self.too_large.add(names)
                    self.error(
                        Code.BAD_BLOCK,
                        span,
                        f"a block over {listing(tile.name for tile in tiles)} has {lanes:,} lanes; "
                        f"{MAX_LANES:,} are possible",
                        help="use smaller blocks",
                    )
                return False
        self.fits.add(tiles)
        return True


def _fresh(name: str, taken: dict[str, int], others: Container[str] = ()) -> str:
    """`taken` has, for each name in use, how often it was asked for again."""
    key = name
    while key in taken or key in others:
        taken[name] = taken.get(name, 0) + 1
        key = f"{name}_{taken[name]}"
    taken[key] = 0
    return key


def describe(symbol: Symbol) -> str:
    match symbol:
        case Parameter(kind="output"):
            return "an output"
        case Parameter():
            return "a parameter"
        case Dimension():
            return "a dimension"
        case DTypeVariable():
            return "a dtype variable"
        case Setting(kind="let"):
            return "bound by 'let'"
        case Setting():
            return "set by 'config'"
        case TileName():
            return "a tile"
        case Variable():
            return "a variable"
        case Alias():
            return "a parameter"


def listing(names: Iterable[str]) -> str:
    """`m`, `m and n`, `m, n and k`."""
    found = list(names)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def varies(tiles: Iterable[ir.Tile]) -> str:
    names = ", ".join(tile.name for tile in tiles)
    return f"varies over {names}" if names else "is a scalar"


def union(*groups: tuple[ir.Tile, ...]) -> tuple[ir.Tile, ...]:
    """The tiles of values lined up, in order of first appearance."""
    first = groups[0]
    for group in groups[1:]:
        if group is not first and group != first:
            first = (*first, *(tile for tile in group if tile not in first))
    return first


def quoted(node: ast.Expr) -> str:
    """An expression as a fix repeats it, if it is short."""
    text = node.span.text
    return text if len(text) <= 30 and "\n" not in text else "..."


def shown(node: ast.Expr) -> str:
    """An operand as a message calls it."""
    if isinstance(node, ast.Load):
        return f"{node.tensor.name}[{', '.join(item.span.text for item in node.subscripts)}]"
    text = node.span.text
    return f"'{text}'" if len(text) <= 30 and "\n" not in text else "this value"

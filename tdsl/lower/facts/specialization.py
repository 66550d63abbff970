"""A kernel and one binding, put together: what each dimension, dtype, constant and tile comes to."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tdsl import ir
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.lower.facts.binding import Binding, TensorArg
from tdsl.lower.facts.candidates import PERSISTENT, SUBTILES, TMA, Candidate, Config, Scalar
from tdsl.lower.facts.extents import Arithmetic, Extent, Signed, ceildiv, combine, multiply, product
from tdsl.lower.facts.extents import evaluate as evaluate_extent
from tdsl.options import LAUNCH_OPTIONS, OPTIONS
from tdsl.signature import Environment, evaluate
from tdsl.types import DTYPES, LEAST_DOT, DType

MAX_LANES = 1 << 20  # of one block, Triton's limit
ALIGNMENT = 16  # bytes: of a row that a descriptor describes
MAX_BOX = 256  # lanes along each dimension that one instruction loads through it


class Specialization:
    """Answers for one call: `dim`, `dtype`, `value`, `block`, `even`, `candidates`."""

    def __init__(self, kernel: ir.Kernel, binding: Binding) -> None:
        self.kernel = kernel
        self.binding = binding
        self.dims: dict[str, Extent] = {}
        self.rest: dict[str, tuple[Extent, ...]] = {}
        self.dtypes: dict[str, str] = {}
        # Arguments that are compile-time integers and not the same in each candidate, by name.
        self.calculated: dict[str, ir.Expr] = {}
        self.present = frozenset(
            item.name for item in kernel.params if isinstance(item, ir.Tensor) and binding.tensors[item.name]
        )
        self.dot_tiles = frozenset(
            tile.key
            for node in ir.walk(kernel)
            if isinstance(node, ir.Dot)
            for tile in (*node.left.type.tiles, *node.right.type.tiles)
        )
        self._solve()
        # A number is what it is in float64, where that is calculated with at all, and not rounded to float32 before.
        self.real = "f64" if any(map(self._is_double, ir.walk(kernel))) else "f32"
        self.candidates = tuple(self._candidates())
        self._check_blocks()

    def narrowed(self, candidates: Sequence[Candidate]) -> Specialization:
        """The same for some of its candidates."""
        made = copy.copy(self)
        made.candidates = tuple(candidates)
        return made

    @property
    def subtiled(self) -> bool:
        return any(self._subtiles(candidate) > 1 for candidate in self.candidates)

    @property
    def persistent(self) -> bool:
        return any(map(_is_persistent, self.candidates))

    @property
    def tma(self) -> bool:
        return any(map(_has_tma, self.candidates))

    def tensor(self, name: str) -> TensorArg:
        arg = self.binding.tensors[name]
        assert arg is not None, f"{name} is absent, yet the kernel touches it"
        return arg

    def split(self, name: str) -> tuple[tuple[tuple[Extent, ...], tuple[Extent, ...]], ...]:
        """Sizes and strides behind each declared dimension of a tensor; several only for `R...`."""
        arg = self.tensor(name)
        dims = self.kernel.tensor(name).dims
        leading = len(arg.shape) - len(dims) + 1
        groups = []
        at = 0
        for dim in dims:
            width = leading if isinstance(dim, ir.RestDim) else 1
            groups.append((arg.shape[at : at + width], arg.strides[at : at + width]))
            at += width
        return tuple(groups)

    def dtype(self, dtype: DType) -> str:
        return dtype.resolve(self.dtypes, self.binding.index_dtype, self.real)

    def _is_double(self, node: ir.Node) -> bool:
        dtype = (
            node.dtype
            if isinstance(node, ir.Tensor)
            else node.type.dtype
            if isinstance(node, ir.Typed)
            else None
        )
        return dtype is not None and "~str" not in dtype.names and dtype.resolve(self.dtypes) == "f64"

    def value(
        self, expr: ir.Expr, settings: Mapping[str, Scalar] | None = None, *, likely: bool = False
    ) -> Scalar:
        """What a compile-time expression comes to; `likely` takes a dynamic size's hint."""
        dims = {
            name: extent if isinstance(extent, int) else self._hint(extent)
            for name, extent in self.dims.items()
            if isinstance(extent, int) or likely
        }
        scalars = {k: v for k, v in self.binding.scalars.items() if isinstance(v, bool | int | float)}
        environment = Environment(
            dims=dims,
            params={**scalars, **self.binding.consts},
            settings=settings or {},
            present=self.present,
            dtypes=self.dtypes,
        )
        result = evaluate(expr, environment)
        assert isinstance(result, bool | int | float | str)
        return result

    def integer(self, expr: ir.Expr, settings: Mapping[str, Scalar] | None = None) -> int | None:
        """The value of an integer expression, or None where it is known only on the GPU."""
        try:
            value = self.value(expr, settings)
        except KeyError:
            return None
        assert isinstance(value, int)
        return value

    def block(self, tile: ir.Tile, candidate: Candidate) -> int:
        if tile.scalar:
            return 1
        if tile.role == "whole":
            size = self.value(tile.stop, candidate.settings)
            assert isinstance(size, int)
            least = LEAST_DOT if tile.key in self.dot_tiles else 1
            return max(least, 1 << max(size - 1, 0).bit_length())
        assert tile.block is not None, f"{tile} has no block"
        block = self.value(tile.block, candidate.settings)
        assert isinstance(block, int)
        return block

    def even(self, tile: ir.Tile) -> bool:
        """Whether the tile's blocks cover its range without a lane outside, in every candidate."""
        if tile.scalar:
            return True
        for candidate in self.candidates:
            block = self.block(tile, candidate)
            if not all(self._is_multiple(edge, block, candidate) for edge in (tile.start, tile.stop)):
                return False
            if tile.role == "whole" and self.integer(tile.stop) == 0:
                return False  # a block has a lane even where the dimension has none
        return True

    def _is_multiple(self, expr: ir.Expr, block: int, candidate: Candidate) -> bool:
        """Whether an edge of a tile is surely divisible by `block`: a number, or an edge of another tile."""
        value = self.integer(expr, candidate.settings)
        if value is not None:
            return value % block == 0
        match expr:
            case ir.TileEdge(tile=tile, edge=edge) if not tile.scalar and tile.role != "whole":
                return (
                    self.block(tile, candidate) % block == 0
                    and self._is_multiple(tile.start, block, candidate)
                    and (edge == "start" or self._is_multiple(tile.stop, block, candidate))
                )
            case ir.Select(condition=condition, then=then, otherwise=otherwise):
                chosen = then if self.value(condition) else otherwise
                return self._is_multiple(chosen, block, candidate)
            case ir.Elementwise(function="minimum" | "maximum", arguments=arguments):
                return all(self._is_multiple(argument, block, candidate) for argument in arguments)
        return False

    def configs(self) -> tuple[Config, ...]:
        # Whoever tells candidates apart looks at constants, warps and stages. No setting of an author's is
        # called like an option, so the names are free.
        also = [
            option
            for option in LAUNCH_OPTIONS
            if option not in ("num_warps", "num_stages")
            and len({candidate.options.get(option) for candidate in self.candidates}) > 1
        ]
        return tuple(
            Config(
                constants=self._constants(candidate, also),
                num_warps=candidate.options.get("num_warps"),
                num_stages=candidate.options.get("num_stages"),
                num_ctas=candidate.options.get("num_ctas"),
                maxnreg=candidate.options.get("maxnreg"),
                grid=self._tile_count(candidate),
                persistent=_is_persistent(candidate),
            )
            for candidate in self.candidates
        )

    def _constants(self, candidate: Candidate, also: Sequence[str]) -> tuple[tuple[str, int], ...]:
        found = [(f"{name}_", candidate.settings.get(name, 0)) for name in (*candidate.chosen, *also)]
        for name, expr in self.calculated.items():
            found.append((name, self.value(expr, candidate.settings)))
        if self.subtiled:
            found.append((SUBTILES, self._subtiles(candidate)))
        if self.persistent:
            found.append((PERSISTENT, int(_is_persistent(candidate))))
        if self.tma:
            found.append((TMA, int(_has_tma(candidate))))
        return tuple(found)  # type: ignore[arg-type]

    def subtiled_tile(self, store: ir.Store) -> ir.Tile | None:
        """The tile along which the block of `store` is stored in parts; what has fewer than two is stored whole."""
        return store.tiles[-1] if self.subtiled and len(store.tiles) > 1 else None

    def _subtiles(self, candidate: Candidate) -> int:
        """In how many parts blocks are stored: no more than the smallest has lanes along its last tile."""
        parts = candidate.option("epilogue_subtile")
        if parts == 1:
            return 1
        stores = (node for node in ir.walk(self.kernel) if isinstance(node, ir.Store))
        lanes = (self.block(store.tiles[-1], candidate) for store in stores if len(store.tiles) > 1)
        return min(parts, min(lanes, default=1))

    def has_descriptor(self, load: ir.Load) -> bool:
        """Whether some candidate can load a block with one instruction (TMA), which knows where the tensor ends:
        of a matrix whose rows begin at multiples of 16 bytes, and of a pointer that is one."""
        name, arg = load.param, self.tensor(load.param)
        split, dtype = self.split(name), self.dtype(load.type.dtype)
        tiles = load.type.tiles
        if not self.tma or self.binding.index_dtype != "i32" or dtype not in ("f16", "bf16", "f32"):
            return False
        if len(tiles) != 2 or len(split) != 2 or any(len(sizes) != 1 for sizes, _ in split):
            return False
        if self.kernel.tensor(name).inout or arg.dtype != dtype:
            return False
        lanes = ALIGNMENT * 8 // DTYPES[dtype].bits
        row, column = arg.strides
        if not isinstance(row, int) or not isinstance(arg.offset, int) or 0 in arg.shape:
            return False
        if column != 1 or row < 1 or row % lanes or arg.offset % lanes:
            return False
        for tile, subscript, (sizes, _) in zip(tiles, load.subscripts, split, strict=True):
            if not isinstance(subscript.value, ir.TileRef) or subscript.value.tile != tile:
                return False
            if not (self.even(tile) or self._ends(tile, sizes[0])):
                return False
        return all(
            all(self.block(tile, candidate) <= MAX_BOX for tile in tiles)
            and self.block(tiles[1], candidate) % lanes == 0
            and self._is_multiple(tiles[1].start, lanes, candidate)
            for candidate in self.candidates
            if _has_tma(candidate)
        )

    def _ends(self, tile: ir.Tile, size: Extent) -> bool:
        """Whether the tile's range surely ends where a dimension of that size does."""
        known = self.integer(tile.stop)
        if known is not None:
            return known == size
        return isinstance(tile.stop, ir.DimRef) and self.dims[tile.stop.name] == size

    def _tile_count(self, candidate: Candidate) -> Extent:
        counts: Extent = 1
        for tile in self.kernel.grid:
            size = self.extent(tile.stop, candidate.settings)
            # Two dimensions of fewer than no tiles are no programs, either.
            counts = multiply(counts, combine("max", ceildiv(size, self.block(tile, candidate)), 0))
        return counts

    def extent(self, expr: ir.Expr, settings: Mapping[str, Scalar]) -> Extent:
        """A size as an integer, or as arithmetic over size arguments."""
        known = self.integer(expr, settings)
        if known is not None:
            return known
        match expr:
            case ir.DimRef(name=name):
                return self.dims[name]
            case ir.ParamRef(name=name):
                value = self.binding.scalars[name]
                assert isinstance(value, int | str | Signed | Arithmetic)
                return value
            case ir.Unary(op="-", operand=operand):
                return combine("-", 0, self.extent(operand, settings))
            case ir.Binary(op=op, left=left, right=right) if op in ("+", "-", "*", "//", "%"):
                return combine(op, self.extent(left, settings), self.extent(right, settings))
            case ir.Elementwise(function="cdiv", arguments=(left, right)):
                return ceildiv(self.extent(left, settings), self.extent(right, settings))
            case ir.Elementwise(function="minimum" | "maximum" as function, arguments=(left, right)):
                return combine(function[:3], self.extent(left, settings), self.extent(right, settings))
            case ir.Elementwise(function="abs", arguments=(operand,)):
                size = self.extent(operand, settings)
                return combine("max", size, combine("-", 0, size))
            case _:
                raise TdslError(
                    [
                        Diagnostic(
                            code=Code.BAD_GRID,
                            message="the size of this dimension varies from call to call, and this is more "
                            "arithmetic than a launch can do",
                            span=expr.span,
                            help="use + - * // %, cdiv, minimum, maximum and abs, or compile with a static size",
                        )
                    ]
                )

    def _hint(self, extent: Extent) -> int:
        return evaluate_extent(extent, defaultdict(lambda: 4096, self.binding.hints))

    def _solve(self) -> None:
        for item in (*self.kernel.params, *self.kernel.outputs):
            if not isinstance(item, ir.Tensor) or self.binding.tensors[item.name] is None:
                continue
            arg = self.tensor(item.name)
            self._solve_dtype(item.dtype, arg.dtype)
            for dim, (sizes, _) in zip(item.dims, self.split(item.name), strict=True):
                match dim:
                    case ir.RestDim(name=name):
                        self.rest.setdefault(name, sizes)
                        self._solve_dim(name, product(sizes))
                    case ir.DimRef(name=name):
                        self._solve_dim(name, sizes[0])
        for item in self.kernel.params:
            if not isinstance(item, ir.Tensor) or self.binding.tensors[item.name] is None:
                continue
            for dim, (sizes, _) in zip(item.dims, self.split(item.name), strict=True):
                found = ir.solved_for(dim)
                if found is not None and found[0] not in self.dims:
                    name, factor, offset = found
                    self.dims[name] = combine("//", combine("-", sizes[0], offset), factor)
        for param in self.kernel.params:
            if isinstance(param, ir.Const) and param.type == "dtype":
                self.dtypes[param.name] = str(self.binding.consts[param.name])

    def _solve_dim(self, name: str, size: Extent) -> None:
        if name not in self.dims or (isinstance(size, int) and not isinstance(self.dims[name], int)):
            self.dims[name] = size

    def _solve_dtype(self, dtype: DType, name: str) -> None:
        match dtype.names:
            case (str(variable),) if dtype.variables():
                self.dtypes.setdefault(variable, name)

    def _candidates(self) -> Iterator[Candidate]:
        lets = {let.name: let.value for let in self.kernel.lets}
        conditions = []
        seen = []
        for candidate in self.kernel.candidates:
            settings: dict[str, Scalar] = {}
            for name, expr in candidate.items:
                settings[name] = self.value(expr, settings, likely=True)
            chosen = tuple(name for name in settings if name not in OPTIONS)
            options = {name: int(settings[name]) for name in settings if name in OPTIONS}
            for name, expr in lets.items():
                settings[name] = self.value(expr, settings)
            if candidate.condition is not None:
                conditions.append(candidate.condition)
                if not self.value(candidate.condition, settings, likely=True):
                    continue
            found = Candidate(options=options, settings=settings, chosen=chosen)
            if found not in seen:
                seen.append(found)
                yield found
        if not seen:
            raise TdslError(
                [
                    Diagnostic(
                        code=Code.BAD_CONFIG,
                        message="no config is left for this call: no condition holds",
                        span=conditions[0].span,
                        help="add a config without 'if'",
                    )
                ]
            )

    def _check_blocks(self) -> None:
        for tile in _tiles(self.kernel):
            for candidate in self.candidates:
                if tile.scalar:
                    continue
                block = self.block(tile, candidate)
                if block < 1 or block & (block - 1) or block > MAX_LANES:
                    size = (
                        f"the dimension, {self.value(tile.stop, candidate.settings)}, needs"
                        if tile.role == "whole"
                        else "this is"
                    )
                    raise TdslError(
                        [
                            Diagnostic(
                                code=Code.BAD_BLOCK,
                                message=f"tile '{tile.name}': {size} a block of {block}; a block is a power "
                                f"of two from 1 to {MAX_LANES}",
                                span=tile.span if tile.block is None else tile.block.span,
                            )
                        ]
                    )


def _is_persistent(candidate: Candidate) -> bool:
    return candidate.option("persistent") == 1


def _has_tma(candidate: Candidate) -> bool:
    return candidate.option("tma") == 1


def _tiles(kernel: ir.Kernel) -> Iterator[ir.Tile]:
    yield from kernel.grid
    for node in ir.walk(kernel):
        if isinstance(node, ir.For | ir.Whole):
            yield node.tile


def static_axes(kernel: ir.Kernel) -> tuple[tuple[str, int], ...]:
    """The tensor dimensions, as (parameter, declared axis), whose sizes must be known at compile time:
    those that a block, a `let`, a `whole` or a compile-time condition depends on. For `R...` it
    stands for every leading size."""
    roots: list[ir.Node] = [let.value for let in kernel.lets]
    for node in ir.walk(kernel):
        match node:
            case ir.Whole(tile=tile):
                roots.append(tile.stop)
            case ir.For(tile=tile) if tile.block is not None:
                roots.append(tile.block)
            case ir.If(branches=branches):
                roots.extend(condition for condition, _ in branches if condition.type.constant)
            case ir.Select(condition=condition):
                roots.append(condition)
            case ir.Elementwise(function="next_pow2"):
                roots.append(node)
    roots.extend(tile.block for tile in kernel.grid if tile.block is not None)
    names = {node.name for root in roots for node in ir.walk(root) if isinstance(node, ir.DimRef)}
    axes = []
    for param in kernel.params:
        if isinstance(param, ir.Tensor):
            for axis, dim in enumerate(param.dims):
                found = (dim.name, 1, 0) if isinstance(dim, ir.RestDim) else ir.solved_for(dim)
                if found is not None and found[0] in names:
                    axes.append((param.name, axis))
    return tuple(axes)

"""A kernel and the arguments of one call, put together: what each dimension, dtype and expression comes to.

    C = matmul(A: f16[M, K], B), M = 128, K = ks0    ->    dims={M: 128, K: "ks0"}, dtypes={T: "f16"}

What a size comes to may be a number, or arithmetic over arguments of the kernel. Blocks need a candidate's settings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from tdsl import ir
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.lower.facts.binding import Binding, TensorArg
from tdsl.lower.facts.candidates import BoundCandidate, Scalar
from tdsl.lower.facts.extents import Arithmetic, Extent, Signed, ceildiv, combine, product
from tdsl.lower.facts.extents import evaluate as evaluate_extent
from tdsl.signature import Environment, evaluate
from tdsl.types import LEAST_DOT, DType


@dataclass(frozen=True, kw_only=True)
class BoundKernel:
    """`dims` and `dtypes`: what the signature's names stand for; `rest`: the sizes behind each `R...`."""

    kernel: ir.Kernel
    binding: Binding
    dims: Mapping[str, Extent]
    rest: Mapping[str, tuple[Extent, ...]]
    dtypes: Mapping[str, str]

    @property
    def present(self) -> frozenset[str]:
        """The tensor parameters that the call has."""
        tensors = (item.name for item in self.kernel.params if isinstance(item, ir.Tensor))
        return frozenset(name for name in tensors if self.binding.tensors[name] is not None)

    @cached_property
    def real(self) -> str:
        """The dtype of Python's numbers: what they are in float64, where that is calculated with at all, and not rounded
        to float32 before."""
        return "f64" if any(map(self._is_double, self.kernel.nodes)) else "f32"

    @cached_property
    def _dot_tiles(self) -> frozenset[str]:
        return frozenset(
            tile.key
            for node in self.kernel.nodes
            if isinstance(node, ir.Dot)
            for tile in (*node.left.type.tiles, *node.right.type.tiles)
        )

    def tensor(self, name: str) -> TensorArg:
        arg = self.binding.tensors[name]
        assert arg is not None, f"{name} is absent, yet the kernel touches it"
        return arg

    def split(self, name: str) -> tuple[tuple[tuple[Extent, ...], tuple[Extent, ...]], ...]:
        """Sizes and strides behind each declared dimension of a tensor; several only for `R...`."""
        return _split(self.kernel.tensor(name), self.tensor(name))

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

    def block(self, tile: ir.Tile, candidate: BoundCandidate) -> int:
        if tile.scalar:
            return 1
        if tile.role == "whole":
            size = self.value(tile.stop, candidate.settings)
            assert isinstance(size, int)
            least = LEAST_DOT if tile.key in self._dot_tiles else 1
            return max(least, 1 << max(size - 1, 0).bit_length())
        assert tile.block is not None, f"{tile} has no block"
        block = self.value(tile.block, candidate.settings)
        assert isinstance(block, int)
        return block

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


def bind(kernel: ir.Kernel, binding: Binding) -> BoundKernel:
    """What the names of a kernel's signature stand for in one call, which fits it."""
    dims: dict[str, Extent] = {}
    rest: dict[str, tuple[Extent, ...]] = {}
    dtypes: dict[str, str] = {}

    def note(name: str, size: Extent) -> None:
        if name not in dims or (isinstance(size, int) and not isinstance(dims[name], int)):
            dims[name] = size

    tensors = [item for item in (*kernel.params, *kernel.outputs) if isinstance(item, ir.Tensor)]
    given = [(item, arg) for item in tensors if (arg := binding.tensors[item.name]) is not None]
    for item, arg in given:
        match item.dtype.names:
            case (str(variable),) if item.dtype.variables():
                dtypes.setdefault(variable, arg.dtype)
        for dim, (sizes, _) in zip(item.dims, _split(item, arg), strict=True):
            match dim:
                case ir.RestDim(name=name):
                    rest.setdefault(name, sizes)
                    note(name, product(sizes))
                case ir.DimRef(name=name):
                    note(name, sizes[0])
    for item, arg in given:
        if item in kernel.params:
            for dim, (sizes, _) in zip(item.dims, _split(item, arg), strict=True):
                found = ir.solved_for(dim)
                if found is not None and found[0] not in dims:
                    name, factor, offset = found
                    dims[name] = combine("//", combine("-", sizes[0], offset), factor)
    for param in kernel.params:
        if isinstance(param, ir.Const) and param.type == "dtype":
            dtypes[param.name] = str(binding.consts[param.name])
    return BoundKernel(kernel=kernel, binding=binding, dims=dims, rest=rest, dtypes=dtypes)


def _split(tensor: ir.Tensor, arg: TensorArg) -> tuple[tuple[tuple[Extent, ...], tuple[Extent, ...]], ...]:
    leading = len(arg.shape) - len(tensor.dims) + 1
    groups = []
    at = 0
    for dim in tensor.dims:
        width = leading if isinstance(dim, ir.RestDim) else 1
        groups.append((arg.shape[at : at + width], arg.strides[at : at + width]))
        at += width
    return tuple(groups)


@lru_cache(maxsize=1024)
def static_axes(kernel: ir.Kernel) -> tuple[tuple[str, int], ...]:
    """The tensor dimensions, as (parameter, declared axis), whose sizes must be known at compile time:
    those that a block, a `let`, a `whole` or a compile-time condition depends on. For `R...` it
    stands for every leading size."""
    roots: list[ir.Node] = [let.value for let in kernel.lets]
    for node in kernel.nodes:
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

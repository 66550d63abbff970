"""Makes a `Binding` of one call inside a compiled graph: sizes, strides and offsets of realized buffers.

    x: FixedLayout(size=[s0, 64], stride=[64, 1])     ->     TensorArg(shape=("ks0", 64), strides=(64, 1))
    with s0 a size that is known at run time only            and ks0 is passed as an argument: {s0: "ks0"}

Sums and products of sizes are calculated in the kernel. Anything else (a quotient, say) becomes one size of its own, which
Inductor computes on the host. The signature is checked elsewhere (`tdsl.signature`), and so is what a
kernel needs of its sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from tdsl.lower.facts.binding import TensorArg
from tdsl.lower.facts.extents import Extent, Signed, combine
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.compat.names import (
    UNBACKED,
    IRNode,
    Layout,
    V,
    fits_in_32_bits,
    size_hint,
    symbol_is_type,
    sympy,
    sympy_product,
)


class Sizes:
    """The size arguments of one kernel: which symbols it takes, and what each is called."""

    def __init__(self) -> None:
        self.arguments: dict[sympy.Expr, str] = {}
        self.hints: dict[str, int] = {}
        self._guarded: dict[sympy.Expr, int] = {}

    def scalar(self, value: int | sympy.Expr) -> Extent:
        """An integer that a caller passes, of any sign."""
        extent = self.extent(value)
        # Inductor's symbol for what it computes on the host is one of a size, and so never negative.
        expr = V.graph.sizevars.simplify(sympy.sympify(value))
        return (
            extent
            if isinstance(extent, int) or _is_polynomial(expr) or expr.is_nonnegative
            else _signed(extent)
        )

    def extent(self, value: int | sympy.Expr) -> Extent:
        """A size: the integer, or arithmetic over size arguments."""
        expr = V.graph.sizevars.simplify(sympy.sympify(value))
        expr = sympy.sympify(self._guarded.get(expr, expr))
        if expr.is_Integer:
            return int(expr)
        if not _is_polynomial(expr):
            if any(symbol_is_type(symbol, UNBACKED) for symbol in expr.free_symbols):
                # What Inductor computes on the host is computed first of all, before this number is known.
                return self._integer(expr)
            expr = V.graph.sizevars.lookup_precomputed_size(expr)
        for symbol in sorted(expr.free_symbols, key=str):
            self._integer(symbol)
        return self._arithmetic(expr)

    def guard(self, value: int | sympy.Expr) -> None:
        """Makes a size what it is now. Of a quotient, say, the graph's guard alone would leave the expression as it was."""
        number = V.graph.sizevars.guard_int(value)
        self._guarded[V.graph.sizevars.simplify(sympy.sympify(value))] = number

    def symbol(self, value: sympy.Symbol) -> str:
        """The name of an argument for a scalar that is known at run time only."""
        return self._argument(value)

    def _integer(self, value: sympy.Expr) -> str | Signed:
        name = self._argument(value)
        self.hints[name] = size_hint(value)
        return name if value.is_nonnegative else Signed(name)

    def _arithmetic(self, expr: sympy.Expr) -> Extent:
        if expr.is_Integer:
            return int(expr)
        if expr.is_Symbol:
            return self._integer(expr)
        op = "*" if expr.is_Mul else "+"
        return functools.reduce(functools.partial(combine, op), map(self._arithmetic, expr.args))

    def _argument(self, value: sympy.Expr) -> str:
        return self.arguments.setdefault(value, f"ks{len(self.arguments)}")

    def tensor(self, node: IRNode) -> TensorArg:
        layout = node.get_layout()
        return TensorArg(
            dtype=dtypes.NAMES[layout.dtype],
            shape=tuple(map(self.extent, layout.size)),
            strides=tuple(map(self.extent, layout.stride)),
            offset=self.extent(layout.offset),
        )


def _signed(extent: Extent) -> Extent:
    assert isinstance(extent, str | Signed), "what is no polynomial is one argument"
    return Signed(extent) if isinstance(extent, str) else extent


def index_dtype(layouts: Iterable[Layout]) -> str:
    """'i32' if every index into every tensor fits (a dynamic size is guarded to stay so), else 'i64'."""
    fits = all(
        fits_in_32_bits(size)
        for layout in layouts
        for size in (sympy_product(layout.size), layout.storage_size())
    )
    return "i32" if fits else "i64"


def _is_polynomial(expr: sympy.Expr) -> bool:
    return (
        expr.is_Symbol
        or expr.is_Integer
        or ((expr.is_Add or expr.is_Mul) and all(map(_is_polynomial, expr.args)))
    )

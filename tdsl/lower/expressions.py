"""Expressions: IR → Triton text.

    dot(load A[m, k], load B[k, n]) * scale
    A_tile = tl.load(A_ + m_[:, None] * 50 + k_[None, :], mask=...)      # written as a line
    tl.dot(A_tile, B_tile) * scale                                       # returned as text

Lines up blocks by tile, makes every conversion explicit, and puts a neutral element where a reduction or
a dot would see a lane outside. Loads are left to `points`, statements to `emission`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

from typing_extensions import assert_never

from tdsl import ir
from tdsl.builtins import FUNCTIONS
from tdsl.lower import lanes, values
from tdsl.lower.extents import Arithmetic, is_nonnegative
from tdsl.lower.functions import NAN_AWARE_REDUCTIONS, REDUCTIONS, neutral_text
from tdsl.lower.overflow import Intervals
from tdsl.lower.specialization import Specialization
from tdsl.lower.tiles import Tiles
from tdsl.lower.values import EVERYWHERE, Value, aligned, common_tiles, literal, permuted, zero_where_both
from tdsl.lower.writer import Writer
from tdsl.types import (
    DTYPES,
    LEAST_DOT,
    LEAST_DOT_8_BIT,
    NARROW_FLOATS,
    WEAK_FLOAT,
    WEAK_INT,
    DType,
    converts_through_f32,
    promote_names,
    wrapped,
)

_STRENGTH = {
    "or": values.OR,
    "and": values.AND,
    "|": values.BITOR,
    "^": values.BITXOR,
    "&": values.BITAND,
    "<<": values.SHIFT,
    ">>": values.SHIFT,
    "+": values.SUM,
    "-": values.SUM,
    "*": values.PRODUCT,
    "/": values.PRODUCT,
    "//": values.PRODUCT,
    "%": values.PRODUCT,
}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_FORGETFUL = {">": "above", ">=": "at_least", "<": "below"}  # of NaN: see `intrinsics`
_DOT_DTYPES = ("i8", "f8e4m3", "f8e5m2", "f16", "bf16", "f32", "f64")
_PRECISE = ("f32",)  # the dtypes that `input_precision` means something for


class Expressions:
    """`load` emits a load point; it is given by whoever knows points."""

    def __init__(
        self,
        specialization: Specialization,
        writer: Writer,
        tiles: Tiles,
        load: Callable[[ir.Load], Value],
        rely: Callable[[frozenset[str], ir.Tile], None],
    ) -> None:
        self.specialization = specialization
        self.writer = writer
        self.tiles = tiles
        self.variables: dict[str, Value] = {}
        self.reassigned: frozenset[str] = frozenset()
        self._load = load
        self._rely = rely
        self._intervals = Intervals(specialization)

    def emit(self, expr: ir.Expr) -> Value:
        match expr:
            case ir.Constant(value=value):
                assert not isinstance(value, str), "a string is no value"
                return literal(value)
            case ir.DimRef(name=name):
                return self.tiles.dimension(name)
            case ir.ParamRef(name=name):
                return self._parameter(name)
            case ir.SettingRef(name=name):
                return self.tiles.setting(name)
            case ir.VarRef(name=name):
                return self.variables[name]
            case ir.TileRef(tile=tile):
                return self.tiles.index(tile)
            case ir.TileEdge(tile=tile, edge=edge):
                return self.tiles.edge(tile, edge)
            case ir.Present() | ir.DTypeIn():
                return literal(self.specialization.value(expr))  # type: ignore[arg-type]
            case ir.Select(condition=condition, then=then, otherwise=otherwise):
                chosen = then if self.constant(condition) else otherwise
                return self.converted(self.emit(chosen), expr.type.dtype)
            case ir.Unary():
                return self._unary(expr)
            case ir.Binary():
                return self._binary(expr)
            case ir.Cast(operand=operand):
                return self.cast(self.emit(operand), self.dtype(expr))
            case ir.Elementwise():
                return self._elementwise(expr)
            case ir.Reduce():
                return self._reduce(expr)
            case ir.Scan():
                return self._scan(expr)
            case ir.Along():
                return lanes.along(self, expr)
            case ir.Dot():
                return self._dot(expr, None)
            case ir.Fill():
                return self._fill(expr)
            case ir.TritonCall():
                return self._triton_call(expr)
            case ir.TritonName(name=name):
                return Value(text=f"tl.{name}")
            case ir.Inline(bindings=bindings, result=result):
                for name, argument in bindings:
                    self.variables[name] = self._bound(self.emit(argument), name)
                return self.emit(result)
            case ir.Load():
                return self._load(expr)
            case _:
                assert_never(expr)

    def constant(self, expr: ir.Expr) -> bool | int | float | str:
        """The value of an expression that is known at compile time."""
        settings = self.specialization.candidates[0].settings
        return self.specialization.value(expr, settings)

    def _known(self, expr: ir.Expr) -> bool:
        """Whether Triton compiles a number, and not arithmetic on arguments: a size is constant for an author and
        may be an argument all the same."""
        try:
            self.constant(expr)
        except KeyError:
            return False
        return True

    def dtype(self, expr: ir.Expr) -> str:
        return self.specialization.dtype(expr.type.dtype)

    # Conversions

    def cast(self, value: Value, dtype: str) -> Value:
        """`value` as `dtype`, also when it is weak."""
        if value.dtype == dtype:
            return value
        value = self.settled(value)
        triton = f"tl.{DTYPES[dtype].triton}"
        if dtype == "u8" and value.dtype is not None and DTYPES[value.dtype].category == 2:
            value = self.cast(value, "i32")  # a negative number wraps, as PyTorch's does; Triton's is 0
        elif converts_through_f32(value.dtype or "a number", dtype):
            value = self.cast(value, "f32")
        if value.dtype is None and not value.tiles:
            text = f"tl.full((), {_fitted(value.text, dtype)}, {triton})"
        else:
            text = f"{value.inside(values.ATOM)}.to({triton})"
        nonnegative = value.nonnegative and (DTYPES[dtype].category != 1 or self._held(dtype, value))
        cast = replace(value, text=text, strength=values.ATOM, dtype=dtype, nonnegative=nonnegative)
        return _as_i16(cast) if value.dtype in ("i32", "i64") else cast

    def settled(self, value: Value) -> Value:
        """A bool as Triton's: of `not`, `and` and `or` the interpreter makes Python's."""
        if value.dtype != "bool" or value.strength not in (values.NOT, values.AND, values.OR):
            return value
        return value.named(f"tl.full((), {value.text}, tl.int1)")

    def converted(self, value: Value, dtype: DType) -> Value:
        """`value` as an operand of arithmetic in `dtype`. A weak scalar stays as it is, but wraps in an integer
        dtype, as the result does: Triton knows no literal that is outside, and makes the tile a wider one."""
        name = self.specialization.dtype(dtype)
        if value.dtype is not None:
            return self.cast(value, name)
        if dtype.weak or DTYPES[name].category != 1 or self._held(name, value):
            return value
        number = _number(value)
        if number is None:
            return value.named(f"tl.full((), {value.text}, tl.int64).to(tl.{DTYPES[name].triton})")
        return literal(wrapped(number, name))

    def _in_float64(self, expr: ir.Expr, value: Value) -> Value:
        """A number of `expr` that is known at run time alone, in float64 if the kernel calculates with that; Triton
        makes a float32 of an integer beside a literal, and of a variable."""
        if self.specialization.real != "f64" or value.dtype is not None or self._known(expr):
            return value
        if isinstance(expr, ir.VarRef) and expr.type.dtype == WEAK_FLOAT:
            return value  # as it was assigned
        return value.named(f"tl.full((), {value.text}, tl.float64)")

    def _exact(self, dtype: DType, *sides: tuple[ir.Expr, Value]) -> DType:
        """The dtype for an operation in `dtype` whose result, wrapped, is not that of wrapped operands: a quotient, a
        comparison. In it an index or a number that meets a tile is what it is."""
        name = self.specialization.dtype(dtype)
        if dtype.weak or DTYPES[name].category != 1:
            return dtype
        for expr, value in sides:
            if expr.type.dtype.weak and not self._held(name, value):
                number = _number(value)
                index = self.specialization.binding.index_dtype
                wide = index if number is None else "i32" if wrapped(number, "i32") == number else "i64"
                name = promote_names(name, wide)
        return DType((name,))

    def _held(self, name: str, value: Value) -> bool:
        """Whether an integer dtype holds what `value` may be."""
        number = _number(value)
        if number is not None:
            return wrapped(number, name) == number
        return promote_names(name, value.dtype or self.specialization.binding.index_dtype) == name

    def block(self, value: Value, tiles: tuple[ir.Tile, ...], dtype: str) -> Value:
        """`value` as a full block over `tiles`."""
        value = self.cast(value, dtype) if value.dtype is not None or dtype in NARROW_FLOATS else value
        if set(value.tiles) == set(tiles):
            return permuted(value, tiles) if value.dtype is not None else self.cast(value, dtype)
        shape = self.tiles.shape(tiles)
        if not value.tiles:
            text = f"tl.full({shape}, {_fitted(value.text, dtype)}, tl.{DTYPES[dtype].triton})"
        else:
            text = f"tl.broadcast_to({aligned(value, tiles).text}, {shape})"
        return replace(value, text=text, strength=values.ATOM, tiles=tiles, dtype=dtype)

    def lined_up(self, operands: list[Value]) -> tuple[list[Value], tuple[ir.Tile, ...]]:
        tiles = common_tiles(operands)
        return [aligned(operand, tiles) for operand in operands], tiles

    def neutralized(self, value: Value, tile: ir.Tile, neutral: str) -> Value:
        """`value` with `neutral` in the lanes outside `tile`."""
        if self.specialization.even(tile):
            return value
        points = value.zero_along(tile)
        if neutral == "0" and points is not None:
            self._rely(points, tile)
            return value
        mask = aligned(self.tiles.mask(tile), value.tiles)
        if neutral == "0" and value.dtype is not None and DTYPES[value.dtype].category == 2:
            neutral = "0.0"
        zero = {**value.zero, tile.key: frozenset[str]()} if neutral in ("0", "0.0") else {}
        text = f"tl.where({mask.text}, {value.text}, {neutral})"
        return replace(value, text=text, strength=values.ATOM, zero=zero)

    def _bound(self, value: Value, name: str) -> Value:
        """`value` under a name of its own, so that using it twice computes it once."""
        if value.text.isidentifier() or (value.dtype is None and not value.tiles):
            return value
        name = f"{name}_"
        self.writer.line(f"{name} = {value.text}")
        return value.named(name)

    def _bound_operand(self, value: Value) -> Value:
        """`value` as a text that may be repeated."""
        if value.dtype is None and not value.tiles:
            return value.named(value.inside(values.ATOM))
        return self._temporary(value, "operand")

    def _temporary(self, value: Value, base: str) -> Value:
        if value.text.isidentifier():
            return value
        name = self.writer.name(base)
        self.writer.line(f"{name} = {value.text}")
        return value.named(name)

    # Operators

    def _parameter(self, name: str) -> Value:
        binding = self.specialization.binding
        if name in binding.consts:
            constant = binding.consts[name]
            assert not isinstance(constant, str), f"const parameter {name} is no number"
            return literal(constant)
        value = binding.scalars[name]
        if isinstance(value, bool | int | float):
            return literal(value)
        params = self.specialization.kernel.params
        integers = [param.name for param in params if isinstance(param, ir.Scalar) and param.type == "int"]
        if name not in integers:
            return Value(text=str(value))
        text = self.specialization.wide(value)
        strength = values.SUM if isinstance(value, Arithmetic) and text == str(value) else values.ATOM
        return Value(text=text, strength=strength, nonnegative=is_nonnegative(value))

    def _unary(self, expr: ir.Unary) -> Value:
        if expr.op == "not" and self._known(expr):
            return literal(bool(self.constant(expr)))
        operand = self.emit(expr.operand)
        if expr.op == "not":
            return Value(text=f"not {operand.inside(values.NOT)}", strength=values.NOT, dtype="bool")
        operand = self.converted(operand, expr.type.dtype)
        zero = operand.zero if expr.op != "~" else {}
        if expr.op == "-" and operand.dtype is not None and DTYPES[operand.dtype].category == 2:
            # Triton's `-x` is `0 - x`, and so not -0.0 where x is 0.0.
            text = f"{operand.inside(values.PRODUCT)} * -1.0"
            return replace(operand, text=text, strength=values.PRODUCT, zero=zero)
        if expr.op == "~" and operand.dtype == "u8":
            # Triton's is an exclusive or with -1, which is no u8 in its interpreter.
            text = f"{operand.inside(values.BITXOR)} ^ 255"
            return replace(operand, text=text, strength=values.BITXOR, zero=zero)
        text = f"{expr.op}{operand.inside(values.UNARY)}"
        return _as_i16(replace(operand, text=text, strength=values.UNARY, zero=zero, nonnegative=False))

    def _binary(self, expr: ir.Binary) -> Value:
        if expr.op in ("and", "or"):
            if self._known(expr):
                return literal(bool(self.constant(expr)))
            strength = _STRENGTH[expr.op]
            sides = [self.emit(side).inside(strength + 1) for side in (expr.left, expr.right)]
            return Value(text=f" {expr.op} ".join(sides), strength=strength, dtype="bool")
        if expr.op == "+":
            fused = self._dot_plus(expr)
            if fused is not None:
                return fused
        left, right = self.emit(expr.left), self.emit(expr.right)
        if expr.op in _COMPARISONS:
            return self._comparison(expr, left, right)
        if expr.op == "**":
            return self._power(expr, left)
        shift = expr.op in ("<<", ">>")
        real = expr.op in ("//", "%") and DTYPES[self.dtype(expr)].category == 2
        if (shift or real) and expr.type.dtype.weak and self._known(expr):
            return self.tiles.calculated(expr, "number")  # Python's differ from ours
        if shift or real:
            return self._shift(expr, left, right) if shift else self._floored_real(expr, left, right)
        if expr.op in ("//", "%"):
            if expr.type.dtype.weak and self._known(expr):
                strength = values.PRODUCT
                text = f"{left.inside(strength)} {expr.op} {right.inside(values.UNARY)}"
                nonnegative = left.nonnegative and right.nonnegative
                return Value(text=text, strength=strength, nonnegative=nonnegative)  # Python calculates it
            common = self._exact(expr.type.dtype, (expr.left, left), (expr.right, right))
            left, right = self.converted(left, common), self.converted(right, common)
            return self._narrowed(_as_i16(self._rounded(expr.op, left, right, common)), expr.type.dtype)
        left, right = self.converted(left, expr.type.dtype), self.converted(right, expr.type.dtype)
        if expr.type.dtype == WEAK_FLOAT:
            left, right = self._in_float64(expr.left, left), self._in_float64(expr.right, right)
        if self._takes_f32(expr, left, right):
            # PyTorch calculates with the scalar itself, and rounds the result.
            left, right = (v if v.dtype is None else self.cast(v, "f32") for v in (left, right))
        (left, right), tiles = self.lined_up([left, right])
        dtype = self._result_dtype(expr, left, right)
        zero = self._binary_zero(expr.op, left, right)
        keeps = ("&", "|", "^") if not expr.type.dtype.weak else ("&", "|", "^", "+", "*")  # a sum may wrap
        nonnegative = expr.op in keeps and left.nonnegative and right.nonnegative
        strength = _STRENGTH[expr.op]
        text = f"{left.inside(strength)} {expr.op} {right.inside(strength + 1)}"
        value = Value(
            text=text, strength=strength, dtype=dtype, tiles=tiles, zero=zero, nonnegative=nonnegative
        )
        if dtype is not None and "f32" in (left.dtype, right.dtype) and dtype != "f32":
            return self.cast(replace(value, dtype="f32"), dtype)
        return self._divided(value) if expr.op == "/" else _as_i16(value)

    def _takes_f32(self, expr: ir.Binary, left: Value, right: Value) -> bool:
        """Whether f16 or bf16 meets a scalar that it does not hold."""
        if expr.op not in ("+", "-", "*", "/") or (left.dtype is None) == (right.dtype is None):
            return False
        weak = left if left.dtype is None else right
        dtype = self.dtype(expr)
        return dtype in ("f16", "bf16") and not _holds(dtype, weak.text)

    def _divided(self, value: Value) -> Value:
        """A quotient in its own dtype: Triton divides f16 and bf16 in f32, and leaves it at that."""
        if value.dtype not in ("f16", "bf16"):
            return value
        return self.cast(replace(value, dtype="f32"), value.dtype)

    def _narrowed(self, value: Value, dtype: DType) -> Value:
        """A result that was calculated in a wider dtype."""
        return value if value.dtype is None else self.cast(value, self.specialization.dtype(dtype))

    def _result_dtype(self, expr: ir.Expr, *operands: Value) -> str | None:
        if all(operand.dtype is None for operand in operands):
            return None
        return self.dtype(expr)

    @staticmethod
    def _binary_zero(op: str, left: Value, right: Value) -> dict[str, frozenset[str]]:
        if op in ("+", "-", "*", "|", "^", "&"):
            zero = dict(zero_where_both([left, right]))
        else:
            zero = {}
        # A finite, non-zero number scales zero to zero; a block might hold inf or NaN out there.
        for scaled, factor in ((left, right), (right, left)):
            if (op == "*" or (op == "/" and scaled is left)) and _finite_number(factor.text):
                zero |= scaled.zero
        return zero

    def _comparison(self, expr: ir.Binary, left: Value, right: Value) -> Value:
        common = self._exact(_common(expr.left, expr.right), (expr.left, left), (expr.right, right))
        (left, right), tiles = self.lined_up([self.converted(left, common), self.converted(right, common)])
        strength = values.COMPARE
        text = f"{left.inside(strength + 1)} {expr.op} {right.inside(strength + 1)}"
        dtype = None if left.dtype is None and right.dtype is None else "bool"
        number, other, op = right, left, expr.op
        if left.dtype is None:  # 2 < x is x > 2
            number, other, op = left, right, op.translate(str.maketrans("<>", "><"))
        if number.dtype is None and other.dtype in ("f16", "bf16", "f32") and op in _FORGETFUL:
            text, strength = f"{_FORGETFUL[op]}({other.text}, {number.text})", values.ATOM
        return Value(text=text, strength=strength, dtype=dtype, tiles=tiles)

    def _power(self, expr: ir.Binary, base: Value) -> Value:
        """A whole power by repeated squaring; a half by a root."""
        exponent = self.constant(expr.right)
        base = self.converted(base, expr.type.dtype)
        if exponent in (0.5, -0.5):
            return self._call("sqrt" if exponent == 0.5 else "rsqrt", [base], expr.type.dtype)
        assert isinstance(exponent, int), "check leaves whole exponents and halves"
        if base.dtype is None and self._known(expr):
            return replace(base, text=f"{base.inside(values.ATOM)} ** {exponent}", strength=values.POWER)
        if exponent == 0:
            return literal(1) if base.dtype is None else self.block(literal(1), base.tiles, base.dtype)
        base = self._temporary(base, "base")
        power = base
        for bit in bin(abs(exponent))[3:]:
            power = self._temporary(power, "power")
            text = f"{power.text} * {power.text}" + (f" * {base.text}" if bit == "1" else "")
            power = replace(power, text=text, strength=values.PRODUCT)
        if exponent < 0:
            text = f"1.0 / {power.inside(values.ATOM)}"
            return self._divided(replace(power, text=text, strength=values.PRODUCT, zero={}))
        return power

    def _rounded(self, op: str, left: Value, right: Value, common: DType) -> Value:
        """`//` and `%` of integers as Python has them, and `cdiv`; Triton truncates towards zero."""
        if right.dtype is not None:
            # Nobody sees the quotient outside, but dividing by zero is not defined even there.
            for tile in right.tiles:
                right = self.neutralized(right, tile, "1")
        (left, right), tiles = self.lined_up([_signed(left), _signed(right)])
        dtype = None if left.dtype is None and right.dtype is None else self.specialization.dtype(common)
        nonnegative = left.nonnegative and right.nonnegative
        value = Value(
            text="",
            dtype=dtype,
            tiles=tiles,
            zero=left.zero if _finite_number(right.text) else {},
            nonnegative=nonnegative,
        )
        if op != "cdiv" and (nonnegative or dtype == "u8"):
            text = f"{left.inside(values.PRODUCT)} {op} {right.inside(values.UNARY)}"
            return replace(value, text=text, strength=values.PRODUCT)  # the same either way
        if dtype in ("u8", "i8", "i16"):  # the name of a number would be an i32
            left, right = self.cast(left, dtype), self.cast(right, dtype)
        left, right = self._temporary(left, "dividend"), self._temporary(right, "divisor")
        rest = replace(value, text=f"{left.text} % {right.text}", strength=values.ATOM)
        rest = self._temporary(rest, "remainder")
        if op == "cdiv":
            apart = f"{rest.text} > 0"
            if not right.nonnegative:
                apart = f"({rest.text} != 0) & (({rest.text} < 0) == ({right.text} < 0))"
        else:
            apart = f"{rest.text} < 0"
            if not right.nonnegative:
                apart = f"({rest.text} != 0) & (({rest.text} < 0) != ({right.text} < 0))"
        if op == "%":
            text = f"tl.where({apart}, {rest.text} + {right.text}, {rest.text})"
            return replace(value, text=text, strength=values.ATOM, nonnegative=right.nonnegative)
        quotient = f"{left.text} // {right.text}"
        sign = "+" if op == "cdiv" else "-"
        if dtype is None:
            text = f"tl.where({apart}, {quotient} {sign} 1, {quotient})"
            return replace(value, text=text, strength=values.ATOM)
        text = f"{quotient} {sign} ({apart}).to(tl.{DTYPES[dtype].triton})"
        return replace(value, text=text, strength=values.SUM)

    def _is_within(self, amount: ir.Expr, last: int) -> bool:
        """Whether an amount is one of 0 to `last`, whatever is loaded."""
        match amount:
            case ir.Binary(op="%", right=ir.Constant(value=int(divisor))):
                return 0 < divisor <= last + 1
            case ir.Binary(op="&", right=ir.Constant(value=int(mask))):
                return 0 <= mask <= last
            case _ if amount.type.dtype == WEAK_INT:
                low, high = self._intervals.of(amount)
                return low >= 0 and high <= last
            case _:
                return False

    def _shift(self, expr: ir.Binary, left: Value, right: Value) -> Value:
        """As PyTorch's also by an amount that is negative or has no bits left: 0, or of `>>` the sign in every bit."""
        resolved, dtype = self.dtype(expr), self._result_dtype(expr, left, right)
        last = DTYPES[resolved].bits - 1
        left = self.converted(left, expr.type.dtype)
        strength = _STRENGTH[expr.op]
        plain = self._is_within(expr.right, last)
        whole = expr.op == ">>" and resolved != "u8"  # shifted by its last bit, it is what it is by more
        operands = [left, right]
        if not plain:
            right = self._temporary(right, "amount")
            inside = replace(right, text=f"({right.text} >= 0) & ({right.text} <= {last})", dtype="bool")
            inside = self._temporary(inside, "inside")
            # Where 0 is chosen outside, LLVM for NVPTX would take the low half of a 64-bit amount for all of it.
            amount = f"tl.where({inside.text}, {right.text}, {last})" if whole else f"{right.text} & {last}"
            right = replace(right, text=amount, strength=values.ATOM if whole else values.BITAND)
            operands = [left, right if dtype is None else self.cast(right, resolved), inside]
        (left, right, *test), tiles = self.lined_up(operands)
        text = f"{left.inside(strength)} {expr.op} {right.inside(strength + 1)}"
        nonnegative = expr.op == ">>" and left.nonnegative
        value = Value(
            text=text, strength=strength, dtype=dtype, tiles=tiles, zero=left.zero, nonnegative=nonnegative
        )
        if plain or whole:
            return value
        none = "0" if dtype is None else self.cast(literal(0), resolved).text
        return replace(value, text=f"tl.where({test[0].text}, {text}, {none})", strength=values.ATOM)

    def _floored_real(self, expr: ir.Binary, left: Value, right: Value) -> Value:
        """Of floats, calculated in f32 or f64. PyTorch rounds a number to the tensor's dtype first, but not a divisor of `//`."""
        dtype = self.dtype(expr)
        compute = "f64" if dtype == "f64" else "f32"
        zero = left.zero if _finite_number(right.text) else {}
        left = self.cast(self.cast(left, dtype), compute)
        if expr.op == "%" or right.dtype is not None:
            right = self.cast(right, dtype)
        right = self.cast(right, compute)
        (left, right), tiles = self.lined_up([left, right])
        function = "floor_divided" if expr.op == "//" else "floor_remainder"
        text = f"{function}({left.text}, {right.text})"
        value = Value(text=text, dtype=compute, tiles=tiles, zero=zero)
        return replace(value, dtype=None) if expr.type.dtype.weak else self.cast(value, dtype)

    # Functions

    def _elementwise(self, expr: ir.Elementwise) -> Value:
        if expr.type.dtype == WEAK_INT and self._known(expr):
            return self.tiles.calculated(expr, expr.function)  # by Triton it would be no constant
        arguments = [self.emit(argument) for argument in expr.arguments]
        if expr.function == "where":
            return self._where(expr, *arguments)
        function = FUNCTIONS[expr.function]
        if function.gives == "f32":  # of a seed and a place, which do not meet
            lined, tiles = self.lined_up(arguments)
            text = function.text.format(*(value.text for value in lined))
            return Value(text=text, dtype="f32", tiles=tiles)
        common = _common(*expr.arguments) if function.gives == "bool" else expr.type.dtype
        exact = self._exact(common, *zip(expr.arguments, arguments, strict=True))
        arguments = [self.converted(argument, exact) for argument in arguments]
        if expr.function == "cdiv" and not (common.weak and all(a.nonnegative for a in arguments)):
            left, right = arguments  # Triton's adds them first, which may wrap
            value = _as_i16(self._rounded("cdiv", left, right, exact))
        else:
            value = self._call(expr.function, arguments, exact)
        return value if exact == common else self._narrowed(value, common)

    def _where(self, expr: ir.Elementwise, condition: Value, then: Value, otherwise: Value) -> Value:
        dtype = self.dtype(expr)
        if then.dtype is None and otherwise.dtype is None:
            then = self.cast(then, dtype)
        then, otherwise = (self.converted(side, expr.type.dtype) for side in (then, otherwise))
        then, otherwise = self._strengthened([then, otherwise], dtype)
        zero = zero_where_both([then, otherwise])
        lined, tiles = self.lined_up([condition, then, otherwise])
        text = f"tl.where({', '.join(value.text for value in lined)})"
        return Value(text=text, dtype=dtype, tiles=tiles, zero=zero)

    def _strengthened(self, arguments: list[Value], dtype: str) -> list[Value]:
        """A function of Triton's makes an i32 or f32 of a number: not so where it meets another dtype."""
        if dtype in ("f32", "i32") or all(argument.dtype is None for argument in arguments):
            return arguments
        return [self.cast(argument, dtype) for argument in arguments]

    def _call(self, name: str, arguments: list[Value], common: DType) -> Value:
        """`common`: what the arguments promote to."""
        function = FUNCTIONS[name]
        dtype = self.specialization.dtype(common)
        category = DTYPES[dtype].category
        if category == 1 and not function.integer:
            return arguments[0]
        if category == 2 and "libdevice" in function.text:  # which has no rule for a number beside a block
            arguments = [self.cast(argument, dtype) for argument in arguments]
        elif category == 2 and all(argument.dtype is None for argument in arguments):
            arguments = [self.cast(arguments[0], dtype), *arguments[1:]]
        compute = "f32" if function.wide and category == 2 and DTYPES[dtype].bits < 32 else dtype
        arguments = [self.cast(a, compute) if a.dtype is not None else a for a in arguments]
        lined, tiles = self.lined_up(self._strengthened(arguments, compute))
        spellings = {"f32": function.f32, "f64": function.f64, "i16": function.i16}
        text = spellings.get(compute) or (function.floats if category == 2 else None) or function.text
        if text.count("{0}") > 1:
            lined = [self._bound_operand(value) for value in lined]
        value = Value(
            text=text.format(*(value.text for value in lined), dtype=DTYPES[compute].triton),
            dtype=None if all(a.dtype is None for a in lined) else compute,
            tiles=tiles,
            zero=zero_where_both(lined) if function.odd else {},
            nonnegative=all(a.nonnegative for a in lined)
            or (name == "abs" and common.weak)  # the least number of a dtype has no opposite
            or (name == "maximum" and any(a.nonnegative for a in lined)),
        )
        if function.gives == "bool":
            known = None if value.dtype is None else "bool"
            return replace(value, strength=values.COMPARE, dtype=known, nonnegative=False)
        if value.dtype == "bf16" and name in ("maximum", "minimum"):
            value = replace(value, dtype="f32")  # Triton compares bf16 in f32, and leaves it at that
        return value if value.dtype is None else self.cast(value, dtype)

    def _reduce(self, expr: ir.Reduce) -> Value:
        value = self.emit(expr.operand)
        dtype = self.dtype(expr)
        arg = expr.function in ("argmax", "argmin")
        assert value.dtype is not None, "a block has a dtype"
        compute = _accumulator(dtype if expr.function in ("sum", "prod") else value.dtype)
        value = self.cast(value, compute)
        for tile in expr.tiles:
            value = self.neutralized(value, tile, neutral_text(expr.function, compute))
        function = REDUCTIONS.get(expr.function, f"tl.{expr.function}")
        if DTYPES[compute].category == 2:
            function = NAN_AWARE_REDUCTIONS.get(expr.function, function)
        for tile in expr.tiles:
            axis = value.tiles.index(tile)
            left = tuple(other for other in value.tiles if other != tile)
            zero = {key: points for key, points in value.zero.items() if key != tile.key}
            value = Value(
                text=f"{function}({value.text}, {axis})",
                dtype="i32" if arg else value.dtype,
                tiles=left,
                zero=zero if expr.function == "sum" else {},
            )
            if arg:
                value = self.along_dimension(value, tile)
        return self.cast(value, dtype)

    def along_dimension(self, lane: Value, tile: ir.Tile) -> Value:
        """The index along the dimension, i32, of a lane of the block."""
        start = self.tiles.edge(tile, "start").text
        if start == "0":
            return lane
        if self.specialization.binding.index_dtype == "i64":
            start = f"tl.cast({start}, tl.int32)"
        return replace(lane, text=f"{lane.inside(values.SUM)} + {start}", strength=values.SUM)

    def _scan(self, expr: ir.Scan) -> Value:
        value = self.emit(expr.operand)
        dtype = self.dtype(expr)
        value = self.cast(value, _accumulator(dtype))
        # The lanes outside come last, so no lane inside sees them.
        text = f"tl.{expr.function}({value.text}, {value.tiles.index(expr.tile)})"
        return self.cast(replace(value, text=text, strength=values.ATOM, zero={}, nonnegative=False), dtype)

    def _fill(self, expr: ir.Fill) -> Value:
        value = self.emit(expr.value)
        dtype = self.dtype(expr)
        triton = f"tl.{DTYPES[dtype].triton}"
        tiles = expr.type.tiles
        shape = self.tiles.shape(tiles)
        zero = {EVERYWHERE: frozenset[str]()} if value.text in ("0", "0.0", "False") else {}
        exact = value.dtype is None and dtype not in NARROW_FLOATS
        number = _fitted(value.text, dtype) if exact else self.cast(value, dtype).text
        text = f"tl.zeros({shape}, {triton})" if zero and tiles else f"tl.full({shape}, {number}, {triton})"
        return Value(text=text, dtype=dtype, tiles=tiles, zero=zero)

    def _triton_call(self, expr: ir.TritonCall) -> Value:
        given = [("", argument) for argument in expr.arguments] + list(expr.keywords)
        emitted = [self._triton_argument(argument) for _, argument in given]
        tiles = expr.type.tiles
        if expr.by_lane:
            emitted, lined = self.lined_up(emitted)
            tiles = lined if set(lined) == set(tiles) else tiles
        texts = [
            f"{name}={value.text}" if name else value.text
            for (name, _), value in zip(given, emitted, strict=True)
        ]
        dtype = self.dtype(expr)
        name = expr.name
        if ".libdevice." not in f".{name}":
            name = f"tl.{name}"
        else:
            name = f"libdevice.{name.rsplit('.', 1)[-1]}"
        text = f"{name}({', '.join(texts)}).to(tl.{DTYPES[dtype].triton})"
        return Value(text=text, dtype=dtype, tiles=tiles)

    def _triton_argument(self, argument: ir.Expr) -> Value:
        """With its dimensions in the order that its type has."""
        if argument.type.dtype.names == ("~str",) and not isinstance(argument, ir.TritonName):
            return Value(text=repr(self.constant(argument)))
        return permuted(value := self.emit(argument), argument.type.tiles if value.tiles else ())

    # dot

    def _dot_plus(self, expr: ir.Binary) -> Value | None:
        """`acc + dot(x, y)` in one instruction, where acc is a block of the dot's shape and dtype."""
        dot, other = expr.right, expr.left
        if not isinstance(dot, ir.Dot):
            dot, other = other, dot
        if not isinstance(dot, ir.Dot) or isinstance(other, ir.Dot):
            return None
        if self.dtype(dot) != self.dtype(other) or set(dot.type.tiles) != set(other.type.tiles):
            return None
        if other.type.dtype.weak or not self._native(dot):
            return None
        return self._dot(dot, self.emit(other))

    def _native(self, expr: ir.Dot) -> bool:
        """Whether tl.dot can do it: two blocks of two dimensions and enough lanes, in a dtype that it multiplies."""
        return (
            len(expr.left.type.tiles) == 2
            and len(expr.right.type.tiles) == 2
            and len(expr.type.tiles) == 2
            and self._dot_dtype(expr) in _DOT_DTYPES
            and self._contracted(expr) >= LEAST_DOT
        )

    def _contracted(self, expr: ir.Dot) -> int:
        """The lanes of the smallest block that a dot contracts."""
        return min(self.specialization.block(expr.tile, each) for each in self.specialization.candidates)

    def _dot_dtype(self, expr: ir.Dot) -> str:
        return self.specialization.dtype(_common(expr.left, expr.right))

    def _dot(self, expr: ir.Dot, acc: Value | None) -> Value:
        dtype = self._dot_dtype(expr)
        result = self.dtype(expr)
        sides = []
        for side in (expr.left, expr.right):
            value = self.cast(self.emit(side), dtype)
            sides.append(self.neutralized(value, expr.tile, "0"))
        left, right = sides
        if not self._native(expr):
            return self._contraction(expr, left, right, result)
        (row,) = (tile for tile in left.tiles if tile != expr.tile)
        (column,) = (tile for tile in right.tiles if tile != expr.tile)
        left, right = permuted(left, (row, expr.tile)), permuted(right, (expr.tile, column))
        if DTYPES[dtype].bits == 8 and self._contracted(expr) < LEAST_DOT_8_BIT:
            # f16 holds every operand, and f32 every sum of so few products of i8.
            text = f"tl.dot({self.cast(left, 'f16').text}, {self.cast(right, 'f16').text})"
            value = self.cast(Value(text=text, dtype="f32", tiles=(row, column)), result)
            if acc is None:
                return value
            acc = permuted(acc, (row, column))
            text = f"{acc.inside(values.SUM)} + {value.text}"
            return replace(value, text=text, strength=values.SUM)
        if dtype == "f64":
            left, right = self._opaque(expr.left, left), self._opaque(expr.right, right)
        arguments = [left.text, right.text]
        if acc is not None:
            arguments.append(permuted(acc, (row, column)).text)
        if dtype in _PRECISE:
            precision = expr.precision or self.specialization.binding.f32_precision
            arguments.append(f'input_precision="{precision}"')
        if result != "f32":
            arguments.append(f"out_dtype=tl.{DTYPES[result].triton}")
        return Value(text=f"tl.dot({', '.join(arguments)})", dtype=result, tiles=(row, column))

    def _opaque(self, side: ir.Expr, value: Value) -> Value:
        """An operand of a dot in f64, if it is anything but a load in f64: see `intrinsics.opaque`."""
        if isinstance(side, ir.Load) and self.dtype(side) == "f64":
            return value
        return value.named(f"opaque({value.text})")

    def _contraction(self, expr: ir.Dot, left: Value, right: Value, result: str) -> Value:
        """A dot that tl.dot has no form for (a vector, i64, a block of few lanes): multiply and sum."""
        (left, right), tiles = self.lined_up([self.cast(left, result), self.cast(right, result)])
        product = f"{left.inside(values.PRODUCT)} * {right.inside(values.UNARY)}"
        rest = tuple(tile for tile in tiles if tile != expr.tile)
        return Value(text=f"tl.sum({product}, {tiles.index(expr.tile)})", dtype=result, tiles=rest)


def _as_i16(value: Value) -> Value:
    """A result of integers, for the assembler (`intrinsics`)."""
    if value.dtype != "i16":
        return value
    return replace(value, text=f"as_i16({value.text})", strength=values.ATOM)


def _common(*operands: ir.Expr) -> DType:
    """What operands promote to."""
    return DType(tuple(dict.fromkeys(name for operand in operands for name in operand.type.dtype.names)))


def _accumulator(dtype: str) -> str:
    """What a reduction or a scan is computed in: sums of small floats would lose digits, and Triton takes most
    of small integers in 32 bits whatever it is asked for."""
    if DTYPES[dtype].bits >= 32:
        return dtype
    return "f32" if DTYPES[dtype].category == 2 else "i32"


def _number(value: Value) -> int | None:
    """The number that an integer literal is."""
    try:
        return int(value.text.strip("()")) if value.dtype is None else None
    except ValueError:
        return None


def _signed(value: Value) -> Value:
    """A number as Triton may divide by it: a literal from 2**31 to 2**32 is an unsigned one to Triton."""
    number = _number(value)
    if number is None or wrapped(number, "i32") == number:
        return value
    return value.named(f"tl.full((), {number}, tl.int64)")


def _fitted(text: str, dtype: str) -> str:
    """A scalar without a dtype as one that `dtype` holds: an integer wraps, as PyTorch's does. Triton takes no literal
    that is outside."""
    if DTYPES[dtype].category != 1:
        return text
    try:
        number = int(float(text)) if "." in text or "e" in text else int(text.strip("()"))
    except ValueError:  # a name, an expression, a bool, infinity
        if text.startswith('float("'):
            return "0"
        return text if dtype == "i64" else f"tl.full((), {text}, tl.int64)"
    return str(wrapped(number, dtype))


def _holds(dtype: str, text: str) -> bool:
    """Whether a number is one of f16 or bf16; what is no literal may be any."""
    try:
        number = float(text)
        if dtype == "f16":
            return bool(struct.unpack("e", struct.pack("e", number))[0] == number)
        return (
            struct.pack(">f", number)[2:] == b"\0\0"
            and struct.unpack("f", struct.pack("f", number))[0] == number
        )
    except OverflowError:
        return False
    except ValueError:
        return text.startswith('float("')  # inf, nan


def _finite_number(text: str) -> bool:
    """Whether a text is a number other than zero, infinity and NaN."""
    try:
        number = float(text)
    except ValueError:
        return False
    return number != 0 and abs(number) < float("inf")

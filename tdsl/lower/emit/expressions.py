"""Expressions: IR → Triton code.

    dot(load A[m, k], load B[k, n]) * scale
    A_tile = tl.load(A_ + m_[:, None] * 50 + k_[None, :], mask=...)      # written as a line
    tl.dot(A_tile, B_tile) * scale                                       # returned as a value

Lines up blocks by tile, makes every conversion explicit, and puts a neutral element where a reduction or
a dot would see a lane outside. Loads are left to `points`, statements to `emission`.
"""

from __future__ import annotations

import ast
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

from typing_extensions import assert_never

from tdsl import ir
from tdsl.builtins import ELEMENTWISE, REDUCTIONS, SCANS, Elementwise
from tdsl.lower.emit import syntax
from tdsl.lower.emit.functions import integer, neutral_of, triton_dtype
from tdsl.lower.emit.syntax import binary, call, quote
from tdsl.lower.emit.tiles import Tiles
from tdsl.lower.emit.values import (
    EVERYWHERE,
    Value,
    aligned,
    common_tiles,
    literal,
    permuted,
    zero_where_both,
)
from tdsl.lower.emit.writer import Writer
from tdsl.lower.facts.extents import is_nonnegative
from tdsl.lower.facts.overflow import Intervals
from tdsl.lower.facts.specialization import Specialization
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

_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_FORGETFUL = {">": "above", ">=": "at_least", "<": "below"}  # of NaN: see `intrinsics`
_DOT_DTYPES = ("i8", "f8e4m3", "f8e5m2", "f16", "bf16", "f32", "f64")
_SCALAR = syntax.tupled(())  # the shape of one
_PRECISE = ("f32",)  # the dtypes that `input_precision` means something for


class Expressions:
    """`load` emits a load point, `along` what sees lanes together; they are given by whoever knows of those."""

    def __init__(
        self,
        specialization: Specialization,
        writer: Writer,
        tiles: Tiles,
        *,
        load: Callable[[ir.Load], Value],
        rely: Callable[[frozenset[str], ir.Tile], None],
        along: Callable[[ir.Along], Value],
    ) -> None:
        self.specialization = specialization
        self.writer = writer
        self.tiles = tiles
        self.variables: dict[str, Value] = {}
        self.reassigned: frozenset[str] = frozenset()
        self._load = load
        self._rely = rely
        self._along = along
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
                return self._along(expr)
            case ir.Dot():
                return self._dot(expr, None)
            case ir.Fill():
                return self._fill(expr)
            case ir.TritonCall():
                return self._triton_call(expr)
            case ir.TritonName(name=name):
                return Value(code=quote(f"tl.{name}"))
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
        if dtype == "u8" and value.dtype is not None and DTYPES[value.dtype].category == 2:
            value = self.cast(value, "i32")  # a negative number wraps, as PyTorch's does; Triton's is 0
        elif converts_through_f32(value.dtype or "a number", dtype):
            value = self.cast(value, "f32")
        if value.dtype is None and not value.tiles:
            made = _full(_SCALAR, _fitted(value, dtype), dtype)
        else:
            made = quote("{0}.to({1})", value.code, triton_dtype(dtype))
        nonnegative = value.nonnegative and (DTYPES[dtype].category != 1 or self._held(dtype, value))
        cast = replace(value, code=made, dtype=dtype, nonnegative=nonnegative)
        return _as_i16(cast) if value.dtype in ("i32", "i64") else cast

    def settled(self, value: Value) -> Value:
        """A bool as Triton's: of `not`, `and` and `or` the interpreter makes Python's."""
        match value.code:
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()) if value.dtype == "bool":
                return value.of(_full(_SCALAR, value.code, "bool"))
        return value

    def converted(self, value: Value, dtype: DType) -> Value:
        """`value` as an operand of arithmetic in `dtype`. A weak scalar stays as it is, but wraps in an integer
        dtype, as the result does: Triton knows no literal that is outside, and makes the tile a wider one."""
        name = self.specialization.dtype(dtype)
        if value.dtype is not None:
            return self.cast(value, name)
        if dtype.weak or DTYPES[name].category != 1 or self._held(name, value):
            return value
        number = _integer(value)
        if number is None:
            return value.of(quote("{0}.to({1})", _full(_SCALAR, value.code, "i64"), triton_dtype(name)))
        return literal(wrapped(number, name))

    def _in_float64(self, expr: ir.Expr, value: Value) -> Value:
        """A number of `expr` that is known at run time alone, in float64 if the kernel calculates with that; Triton
        makes a float32 of an integer beside a literal, and of a variable."""
        if self.specialization.real != "f64" or value.dtype is not None or self._known(expr):
            return value
        if isinstance(expr, ir.VarRef) and expr.type.dtype == WEAK_FLOAT:
            return value  # as it was assigned
        return value.of(_full(_SCALAR, value.code, "f64"))

    def _exact(self, dtype: DType, *sides: tuple[ir.Expr, Value]) -> DType:
        """The dtype for an operation in `dtype` whose result, wrapped, is not that of wrapped operands: a quotient, a
        comparison. In it an index or a number that meets a tile is what it is."""
        name = self.specialization.dtype(dtype)
        if dtype.weak or DTYPES[name].category != 1:
            return dtype
        for expr, value in sides:
            if expr.type.dtype.weak and not self._held(name, value):
                number = _integer(value)
                index = self.specialization.binding.index_dtype
                wide = index if number is None else "i32" if wrapped(number, "i32") == number else "i64"
                name = promote_names(name, wide)
        return DType((name,))

    def _held(self, name: str, value: Value) -> bool:
        """Whether an integer dtype holds what `value` may be."""
        number = _integer(value)
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
            made = _full(shape, _fitted(value, dtype), dtype)
        else:
            made = call("tl.broadcast_to", aligned(value, tiles).code, shape)
        return replace(value, code=made, tiles=tiles, dtype=dtype)

    def lined_up(self, operands: list[Value]) -> tuple[list[Value], tuple[ir.Tile, ...]]:
        tiles = common_tiles(operands)
        return [aligned(operand, tiles) for operand in operands], tiles

    def neutralized(self, value: Value, tile: ir.Tile, neutral: ast.expr | int | float) -> Value:
        """`value` with `neutral` in the lanes outside `tile`."""
        if self.specialization.even(tile):
            return value
        points = value.zero_along(tile)
        if neutral == 0 and points is not None:
            self._rely(points, tile)
            return value
        mask = aligned(self.tiles.mask(tile), value.tiles)
        if neutral == 0 and value.dtype is not None and DTYPES[value.dtype].category == 2:
            neutral = 0.0
        zero = {**value.zero, tile.key: frozenset[str]()} if neutral == 0 else {}
        return replace(value, code=call("tl.where", mask.code, value.code, neutral), zero=zero)

    def _bound(self, value: Value, name: str) -> Value:
        """`value` under a name of its own, so that using it twice computes it once."""
        if value.is_named or (value.dtype is None and not value.tiles):
            return value
        name = f"{name}_"
        self.writer.assign(name, value.code)
        return value.of(name)

    def _bound_operand(self, value: Value) -> Value:
        """`value` as code that may be repeated."""
        if value.dtype is None and not value.tiles:
            return value
        return self.writer.named(value, "operand")

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
            return Value(code=integer(value))
        return Value(code=self.tiles.wide(value), nonnegative=is_nonnegative(value))

    def _unary(self, expr: ir.Unary) -> Value:
        if expr.op == "not" and self._known(expr):
            return literal(bool(self.constant(expr)))
        operand = self.emit(expr.operand)
        if expr.op == "not":
            return Value(code=quote("not {0}", operand.code), dtype="bool")
        operand = self.converted(operand, expr.type.dtype)
        zero = operand.zero if expr.op != "~" else {}
        if expr.op == "-" and operand.dtype is not None and DTYPES[operand.dtype].category == 2:
            # Triton's `-x` is `0 - x`, and so not -0.0 where x is 0.0.
            return replace(operand, code=quote("{0} * -1.0", operand.code), zero=zero)
        if expr.op == "~" and operand.dtype == "u8":
            # Triton's is an exclusive or with -1, which is no u8 in its interpreter.
            return replace(operand, code=quote("{0} ^ 255", operand.code), zero=zero)
        opposite = quote(f"{expr.op}{{0}}", operand.code)
        return _as_i16(replace(operand, code=opposite, zero=zero, nonnegative=False))

    def _binary(self, expr: ir.Binary) -> Value:
        if expr.op in ("and", "or"):
            if self._known(expr):
                return literal(bool(self.constant(expr)))
            return Value(
                code=binary(expr.op, self.emit(expr.left).code, self.emit(expr.right).code), dtype="bool"
            )
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
                nonnegative = left.nonnegative and right.nonnegative
                python = binary(expr.op, left.code, right.code)
                return Value(code=python, nonnegative=nonnegative)  # Python calculates it
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
        made = binary(expr.op, left.code, right.code)
        value = Value(code=made, dtype=dtype, tiles=tiles, zero=zero, nonnegative=nonnegative)
        if dtype is not None and "f32" in (left.dtype, right.dtype) and dtype != "f32":
            return self.cast(replace(value, dtype="f32"), dtype)
        return self._divided(value) if expr.op == "/" else _as_i16(value)

    def _takes_f32(self, expr: ir.Binary, left: Value, right: Value) -> bool:
        """Whether f16 or bf16 meets a scalar that it does not hold."""
        if expr.op not in ("+", "-", "*", "/") or (left.dtype is None) == (right.dtype is None):
            return False
        weak = left if left.dtype is None else right
        dtype = self.dtype(expr)
        return dtype in ("f16", "bf16") and not _holds(dtype, weak.number)

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
            if (op == "*" or (op == "/" and scaled is left)) and _is_finite(factor):
                zero |= scaled.zero
        return zero

    def _comparison(self, expr: ir.Binary, left: Value, right: Value) -> Value:
        common = self._exact(_common(expr.left, expr.right), (expr.left, left), (expr.right, right))
        (left, right), tiles = self.lined_up([self.converted(left, common), self.converted(right, common)])
        made = binary(expr.op, left.code, right.code)
        dtype = None if left.dtype is None and right.dtype is None else "bool"
        number, other, op = right, left, expr.op
        if left.dtype is None:  # 2 < x is x > 2
            number, other, op = left, right, op.translate(str.maketrans("<>", "><"))
        if number.dtype is None and other.dtype in ("f16", "bf16", "f32") and op in _FORGETFUL:
            made = call(_FORGETFUL[op], other.code, number.code)
        return Value(code=made, dtype=dtype, tiles=tiles)

    def _power(self, expr: ir.Binary, base: Value) -> Value:
        """A whole power by repeated squaring; a half by a root."""
        exponent = self.constant(expr.right)
        base = self.converted(base, expr.type.dtype)
        if exponent in (0.5, -0.5):
            return self._call("sqrt" if exponent == 0.5 else "rsqrt", [base], expr.type.dtype)
        assert isinstance(exponent, int), "check leaves whole exponents and halves"
        if base.dtype is None and self._known(expr):
            return base.of(binary("**", base.code, exponent))
        if exponent == 0:
            return literal(1) if base.dtype is None else self.block(literal(1), base.tiles, base.dtype)
        base = self.writer.named(base, "base")
        power = base
        for bit in bin(abs(exponent))[3:]:
            power = self.writer.named(power, "power")
            text = "{0} * {0} * {1}" if bit == "1" else "{0} * {0}"
            power = power.of(quote(text, power.code, base.code))
        if exponent < 0:
            return self._divided(replace(power, code=binary("/", 1.0, power.code), zero={}))
        return power

    def _rounded(self, op: str, left: Value, right: Value, common: DType) -> Value:
        """`//` and `%` of integers as Python has them, and `cdiv`; Triton truncates towards zero."""
        if right.dtype is not None:
            # Nobody sees the quotient outside, but dividing by zero is not defined even there.
            for tile in right.tiles:
                right = self.neutralized(right, tile, 1)
        (left, right), tiles = self.lined_up([_signed(left), _signed(right)])
        dtype = None if left.dtype is None and right.dtype is None else self.specialization.dtype(common)
        nonnegative = left.nonnegative and right.nonnegative
        zero = left.zero if _is_finite(right) else {}
        value = replace(left, dtype=dtype, tiles=tiles, zero=zero, nonnegative=nonnegative)
        if op != "cdiv" and (nonnegative or dtype == "u8"):
            return value.of(binary(op, left.code, right.code))  # the same either way
        if dtype in ("u8", "i8", "i16"):  # the name of a number would be an i32
            left, right = self.cast(left, dtype), self.cast(right, dtype)
        left, right = self.writer.named(left, "dividend"), self.writer.named(right, "divisor")
        rest = self.writer.named(value.of(binary("%", left.code, right.code)), "remainder")
        if op == "cdiv":
            apart = "{0} > 0" if right.nonnegative else "({0} != 0) & (({0} < 0) == ({1} < 0))"
        else:
            apart = "{0} < 0" if right.nonnegative else "({0} != 0) & (({0} < 0) != ({1} < 0))"
        moved = quote(apart, rest.code, right.code)
        if op == "%":
            found = quote("tl.where({0}, {1} + {2}, {1})", moved, rest.code, right.code)
            return replace(value, code=found, nonnegative=right.nonnegative)
        quotient, sign = binary("//", left.code, right.code), "+" if op == "cdiv" else "-"
        if dtype is None:
            return value.of(call("tl.where", moved, binary(sign, quotient, 1), quotient))
        return value.of(binary(sign, quotient, quote("{0}.to({1})", moved, triton_dtype(dtype))))

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
        plain = self._is_within(expr.right, last)
        whole = expr.op == ">>" and resolved != "u8"  # shifted by its last bit, it is what it is by more
        operands = [left, right]
        if not plain:
            right = self.writer.named(right, "amount")
            within = quote("({0} >= 0) & ({0} <= {1})", right.code, last)
            inside = self.writer.named(replace(right, code=within, dtype="bool"), "inside")
            # Where 0 is chosen outside, LLVM for NVPTX would take the low half of a 64-bit amount for all of it.
            amount = "tl.where({0}, {1}, {2})" if whole else "{1} & {2}"
            right = right.of(quote(amount, inside.code, right.code, last))
            operands = [left, right if dtype is None else self.cast(right, resolved), inside]
        (left, right, *test), tiles = self.lined_up(operands)
        shifted = binary(expr.op, left.code, right.code)
        nonnegative = expr.op == ">>" and left.nonnegative
        value = Value(code=shifted, dtype=dtype, tiles=tiles, zero=left.zero, nonnegative=nonnegative)
        if plain or whole:
            return value
        none = literal(0) if dtype is None else self.cast(literal(0), resolved)
        return value.of(call("tl.where", test[0].code, shifted, none.code))

    def _floored_real(self, expr: ir.Binary, left: Value, right: Value) -> Value:
        """Of floats, calculated in f32 or f64. PyTorch rounds a number to the tensor's dtype first, but not a divisor of `//`."""
        dtype = self.dtype(expr)
        compute = "f64" if dtype == "f64" else "f32"
        zero = left.zero if _is_finite(right) else {}
        left = self.cast(self.cast(left, dtype), compute)
        if expr.op == "%" or right.dtype is not None:
            right = self.cast(right, dtype)
        right = self.cast(right, compute)
        (left, right), tiles = self.lined_up([left, right])
        function = "floor_divided" if expr.op == "//" else "floor_remainder"
        value = Value(code=call(function, left.code, right.code), dtype=compute, tiles=tiles, zero=zero)
        return replace(value, dtype=None) if expr.type.dtype.weak else self.cast(value, dtype)

    # Functions

    def _elementwise(self, expr: ir.Elementwise) -> Value:
        if expr.type.dtype == WEAK_INT and self._known(expr):
            return self.tiles.calculated(expr, expr.function)  # by Triton it would be no constant
        arguments = [self.emit(argument) for argument in expr.arguments]
        if expr.function == "where":
            return self._where(expr, *arguments)
        function = ELEMENTWISE[expr.function]
        if function.gives == "f32":  # of a seed and a place, which do not meet
            lined, tiles = self.lined_up(arguments)
            drawn = quote(function.triton, *(value.code for value in lined))
            return Value(code=drawn, dtype="f32", tiles=tiles)
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
        chosen = call("tl.where", *(value.code for value in lined))
        return Value(code=chosen, dtype=dtype, tiles=tiles, zero=zero)

    def _strengthened(self, arguments: list[Value], dtype: str) -> list[Value]:
        """A function of Triton's makes an i32 or f32 of a number: not so where it meets another dtype."""
        if dtype in ("f32", "i32") or all(argument.dtype is None for argument in arguments):
            return arguments
        return [self.cast(argument, dtype) for argument in arguments]

    def _call(self, name: str, arguments: list[Value], common: DType) -> Value:
        """`common`: what the arguments promote to."""
        function = ELEMENTWISE[name]
        dtype = self.specialization.dtype(common)
        category = DTYPES[dtype].category
        if category == 1 and not function.integer:
            return arguments[0]
        if category == 2 and "libdevice" in function.triton:  # which has no rule for a number beside a block
            arguments = [self.cast(argument, dtype) for argument in arguments]
        elif category == 2 and all(argument.dtype is None for argument in arguments):
            arguments = [self.cast(arguments[0], dtype), *arguments[1:]]
        compute = "f32" if function.wide and category == 2 and DTYPES[dtype].bits < 32 else dtype
        arguments = [self.cast(a, compute) if a.dtype is not None else a for a in arguments]
        lined, tiles = self.lined_up(self._strengthened(arguments, compute))
        spellings = {"f32": function.f32, "f64": function.f64, "i16": function.i16}
        text = spellings.get(compute) or (function.floats if category == 2 else None) or function.triton
        if syntax.holes(text, 0) > 1:
            lined = [self._bound_operand(value) for value in lined]
        value = Value(
            code=quote(text, *(value.code for value in lined), triton_dtype(compute)),
            dtype=None if all(a.dtype is None for a in lined) else compute,
            tiles=tiles,
            zero=zero_where_both(lined) if function.keeps_zero else {},
            nonnegative=_is_nonnegative(function, lined, common),
        )
        if function.gives == "bool":
            known = None if value.dtype is None else "bool"
            return replace(value, dtype=known, nonnegative=False)
        if value.dtype == "bf16" and name in ("maximum", "minimum"):
            value = replace(value, dtype="f32")  # Triton compares bf16 in f32, and leaves it at that
        return value if value.dtype is None else self.cast(value, dtype)

    def _reduce(self, expr: ir.Reduce) -> Value:
        row, value = REDUCTIONS[expr.function], self.emit(expr.operand)
        dtype = self.dtype(expr)
        assert value.dtype is not None, "a block has a dtype"
        compute = _accumulator(dtype if row.gives == "number" else value.dtype)
        value = self.cast(value, compute)
        for tile in expr.tiles:
            value = self.neutralized(value, tile, neutral_of(row, compute))
        function = (row.floats if DTYPES[compute].category == 2 else None) or row.triton
        for tile in expr.tiles:
            axis = value.tiles.index(tile)
            left = tuple(other for other in value.tiles if other != tile)
            zero = {key: points for key, points in value.zero.items() if key != tile.key}
            value = Value(
                code=call(function, value.code, axis),
                dtype="i32" if row.gives == "index" else value.dtype,
                tiles=left,
                zero=zero if expr.function == "sum" else {},
            )
            if row.gives == "index":
                value = self.along_dimension(value, tile)
        return self.cast(value, dtype)

    def along_dimension(self, lane: Value, tile: ir.Tile) -> Value:
        """The index along the dimension, i32, of a lane of the block."""
        edge = self.tiles.edge(tile, "start")
        if edge.number == 0:
            return lane
        wide = self.specialization.binding.index_dtype == "i64"
        start = quote("tl.cast({0}, tl.int32)", edge.code) if wide else edge.code
        return lane.of(binary("+", lane.code, start))

    def _scan(self, expr: ir.Scan) -> Value:
        value = self.emit(expr.operand)
        dtype = self.dtype(expr)
        value = self.cast(value, _accumulator(dtype))
        # The lanes outside come last, so no lane inside sees them.
        scanned = call(SCANS[expr.function].triton, value.code, value.tiles.index(expr.tile))
        return self.cast(replace(value, code=scanned, zero={}, nonnegative=False), dtype)

    def _fill(self, expr: ir.Fill) -> Value:
        value = self.emit(expr.value)
        dtype = self.dtype(expr)
        tiles = expr.type.tiles
        shape = self.tiles.shape(tiles)
        zero = {EVERYWHERE: frozenset[str]()} if value.number == 0 else {}
        if zero and tiles:
            made = call("tl.zeros", shape, triton_dtype(dtype))
        else:
            exact = value.dtype is None and dtype not in NARROW_FLOATS
            made = _full(shape, _fitted(value, dtype) if exact else self.cast(value, dtype).code, dtype)
        return Value(code=made, dtype=dtype, tiles=tiles, zero=zero)

    def _triton_call(self, expr: ir.TritonCall) -> Value:
        given = [("", argument) for argument in expr.arguments] + list(expr.keywords)
        emitted = [self._triton_argument(argument) for _, argument in given]
        tiles = expr.type.tiles
        if expr.by_lane:
            emitted, lined = self.lined_up(emitted)
            tiles = lined if set(lined) == set(tiles) else tiles
        plain = [value.code for (name, _), value in zip(given, emitted, strict=True) if not name]
        named = {name: value.code for (name, _), value in zip(given, emitted, strict=True) if name}
        dtype = self.dtype(expr)
        name = expr.name
        if ".libdevice." not in f".{name}":
            name = f"tl.{name}"
        else:
            name = f"libdevice.{name.rsplit('.', 1)[-1]}"
        made = quote("{0}.to({1})", call(name, *plain, **named), triton_dtype(dtype))
        return Value(code=made, dtype=dtype, tiles=tiles)

    def _triton_argument(self, argument: ir.Expr) -> Value:
        """With its dimensions in the order that its type has."""
        if argument.type.dtype.names == ("~str",) and not isinstance(argument, ir.TritonName):
            return Value(code=ast.Constant(value=self.constant(argument)))
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
            sides.append(self.neutralized(value, expr.tile, 0))
        left, right = sides
        if not self._native(expr):
            return self._contraction(expr, left, right, result)
        (row,) = (tile for tile in left.tiles if tile != expr.tile)
        (column,) = (tile for tile in right.tiles if tile != expr.tile)
        left, right = permuted(left, (row, expr.tile)), permuted(right, (expr.tile, column))
        if DTYPES[dtype].bits == 8 and self._contracted(expr) < LEAST_DOT_8_BIT:
            # f16 holds every operand, and f32 every sum of so few products of i8.
            dot = call("tl.dot", self.cast(left, "f16").code, self.cast(right, "f16").code)
            value = self.cast(Value(code=dot, dtype="f32", tiles=(row, column)), result)
            if acc is None:
                return value
            return value.of(binary("+", permuted(acc, (row, column)).code, value.code))
        if dtype == "f64":
            left, right = self._opaque(expr.left, left), self._opaque(expr.right, right)
        precision = expr.precision or self.specialization.binding.f32_precision
        dot = call(
            "tl.dot",
            *(left.code, right.code),
            *([permuted(acc, (row, column)).code] if acc is not None else []),
            input_precision=ast.Constant(value=precision) if dtype in _PRECISE else None,
            out_dtype=triton_dtype(result) if result != "f32" else None,
        )
        return Value(code=dot, dtype=result, tiles=(row, column))

    def _opaque(self, side: ir.Expr, value: Value) -> Value:
        """An operand of a dot in f64, if it is anything but a load in f64: see `intrinsics.opaque`."""
        if isinstance(side, ir.Load) and self.dtype(side) == "f64":
            return value
        return value.of(call("opaque", value.code))

    def _contraction(self, expr: ir.Dot, left: Value, right: Value, result: str) -> Value:
        """A dot that tl.dot has no form for (a vector, i64, a block of few lanes): multiply and sum."""
        (left, right), tiles = self.lined_up([self.cast(left, result), self.cast(right, result)])
        rest = tuple(tile for tile in tiles if tile != expr.tile)
        total = call("tl.sum", binary("*", left.code, right.code), tiles.index(expr.tile))
        return Value(code=total, dtype=result, tiles=rest)


def _as_i16(value: Value) -> Value:
    """A result of integers, for the assembler (`intrinsics`)."""
    if value.dtype != "i16":
        return value
    return value.of(call("as_i16", value.code))


def _full(shape: ast.expr, number: ast.expr, dtype: str) -> ast.expr:
    """`tl.full`: a number in each lane."""
    return call("tl.full", shape, number, triton_dtype(dtype))


def _common(*operands: ir.Expr) -> DType:
    """What operands promote to."""
    return DType(tuple(dict.fromkeys(name for operand in operands for name in operand.type.dtype.names)))


def _is_nonnegative(function: Elementwise, arguments: Sequence[Value], common: DType) -> bool:
    """Whether what a function gives, calculated in `common`, is known to be no negative integer."""
    match function.nonnegative:
        case "any":
            return any(argument.nonnegative for argument in arguments)
        case "unwrapped" if common.weak:  # the least number of a dtype has no opposite
            return True
        case "all" | "unwrapped":
            return all(argument.nonnegative for argument in arguments)
        case _:
            return False


def _accumulator(dtype: str) -> str:
    """What a reduction or a scan is computed in: sums of small floats would lose digits, and Triton takes most
    of small integers in 32 bits whatever it is asked for."""
    if DTYPES[dtype].bits >= 32:
        return dtype
    return "f32" if DTYPES[dtype].category == 2 else "i32"


def _integer(value: Value) -> int | None:
    """The number that an integer literal is."""
    number = value.number
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _signed(value: Value) -> Value:
    """A number as Triton may divide by it: a literal from 2**31 to 2**32 is an unsigned one to Triton."""
    number = _integer(value)
    if number is None or wrapped(number, "i32") == number:
        return value
    return value.of(_full(_SCALAR, syntax.number(number), "i64"))


def _fitted(value: Value, dtype: str) -> ast.expr:
    """A scalar without a dtype as one that `dtype` holds: an integer wraps, as PyTorch's does. Triton takes no literal
    that is outside."""
    number = value.number
    if DTYPES[dtype].category != 1:
        return value.code
    if number is None or isinstance(
        number, bool
    ):  # known on the GPU alone, or neither too large nor too small
        return value.code if dtype == "i64" else _full(_SCALAR, value.code, "i64")
    return syntax.number(wrapped(int(number), dtype) if math.isfinite(number) else 0)


def _holds(dtype: str, number: bool | int | float | None) -> bool:
    """Whether a number is one of f16 or bf16; what is no literal may be any."""
    if number is None or isinstance(number, bool):
        return False
    if not math.isfinite(number):
        return True
    try:
        if dtype == "f16":
            return bool(struct.unpack("e", struct.pack("e", number))[0] == number)
        single = struct.pack(">f", number)
        return single[2:] == b"\0\0" and struct.unpack(">f", single)[0] == number
    except OverflowError:
        return False


def _is_finite(value: Value) -> bool:
    """Whether it is a number other than zero, infinity and NaN."""
    number = value.number
    if number is None or isinstance(number, bool):
        return False
    return number != 0 and math.isfinite(number)

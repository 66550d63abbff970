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
from tdsl.lower import values
from tdsl.lower.functions import FUNCTIONS, NAN_AWARE, NAN_AWARE_REDUCTIONS, neutral_text
from tdsl.lower.specialization import Specialization
from tdsl.lower.tiles import Tiles
from tdsl.lower.values import EVERYWHERE, Value, aligned, common_tiles, literal, permuted, zero_where_both
from tdsl.lower.writer import Writer
from tdsl.types import DTYPES, DType

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

    def dtype(self, expr: ir.Expr) -> str:
        return self.specialization.dtype(expr.type.dtype)

    # Conversions

    def cast(self, value: Value, dtype: str) -> Value:
        """`value` as `dtype`, also when it is weak."""
        if value.dtype == dtype:
            return value
        triton = f"tl.{DTYPES[dtype].triton}"
        if dtype == "u8" and value.dtype is not None and DTYPES[value.dtype].category == 2:
            value = self.cast(value, "i32")  # a negative number wraps, as PyTorch's does; Triton's is 0
        if value.dtype is None and not value.tiles:
            text = f"tl.full((), {value.text}, {triton})"
        else:
            text = f"{value.inside(values.ATOM)}.to({triton})"
        return replace(value, text=text, strength=values.ATOM, dtype=dtype)

    def converted(self, value: Value, dtype: DType) -> Value:
        """`value` as an operand of arithmetic in `dtype`. A weak scalar stays as it is, but wraps in a narrow
        integer, as PyTorch's do: Triton knows no literal that is outside, and makes the tile a wider one."""
        if value.dtype is not None:
            return self.cast(value, self.specialization.dtype(dtype))
        if dtype.weak or (name := self.specialization.dtype(dtype)) not in ("u8", "i8", "i16"):
            return value
        try:
            number = int(value.text.strip("()"))
        except ValueError:
            return value.named(f"tl.full((), {value.text}, tl.int64).to(tl.{DTYPES[name].triton})")
        span = 2 ** DTYPES[name].bits
        wrapped = number % span - (span if name != "u8" and number % span >= span // 2 else 0)
        return value if wrapped == number else literal(wrapped)

    def block(self, value: Value, tiles: tuple[ir.Tile, ...], dtype: str) -> Value:
        """`value` as a full block over `tiles`."""
        value = self.cast(value, dtype) if value.dtype is not None else value
        if set(value.tiles) == set(tiles):
            return permuted(value, tiles) if value.dtype is not None else self.cast(value, dtype)
        shape = self.tiles.shape(tiles)
        if not value.tiles:
            text = f"tl.full({shape}, {value.text}, tl.{DTYPES[dtype].triton})"
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
            value = binding.consts[name]
            assert not isinstance(value, str), f"const parameter {name} is no number"
            return literal(value)
        value = binding.scalars[name]
        if not isinstance(value, str):
            return literal(value)
        params = self.specialization.kernel.params
        integers = [param.name for param in params if isinstance(param, ir.Scalar) and param.type == "int"]
        return Value(text=self.specialization.wide(value) if name in integers else value)

    def _unary(self, expr: ir.Unary) -> Value:
        if expr.type.constant and expr.op == "not":
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
        return replace(operand, text=text, strength=values.UNARY, zero=zero, nonnegative=False)

    def _binary(self, expr: ir.Binary) -> Value:
        if expr.op in ("and", "or"):
            if expr.type.constant:
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
        given = right
        left, right = self.converted(left, expr.type.dtype), self.converted(right, expr.type.dtype)
        if expr.op in ("//", "%") and given.dtype is None and right.text == "0":
            right = given  # a divisor that wraps to 0 is Triton's error, as it is PyTorch's, and no number
        if self._takes_f32(expr, left, right):
            # PyTorch calculates with the scalar itself, and rounds the result.
            left, right = (v if v.dtype is None else self.cast(v, "f32") for v in (left, right))
        if expr.op in ("//", "%") and right.dtype is not None and DTYPES[right.dtype].category < 2:
            # Nobody sees the quotient outside, but dividing by zero is not defined even there.
            for tile in right.tiles:
                right = self.neutralized(right, tile, "1")
        (left, right), tiles = self.lined_up([left, right])
        if expr.op in ("//", "%"):
            return self._floored(expr, left, right, tiles)
        dtype = self._result_dtype(expr, left, right)
        zero = self._binary_zero(expr.op, left, right)
        nonnegative = expr.op in ("+", "*", "&", "|", "^", ">>") and left.nonnegative and right.nonnegative
        strength = _STRENGTH[expr.op]
        text = f"{left.inside(strength)} {expr.op} {right.inside(strength + 1)}"
        value = Value(
            text=text, strength=strength, dtype=dtype, tiles=tiles, zero=zero, nonnegative=nonnegative
        )
        if dtype is not None and "f32" in (left.dtype, right.dtype) and dtype != "f32":
            return self.cast(replace(value, dtype="f32"), dtype)
        return self._divided(value) if expr.op == "/" else value

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

    def _result_dtype(self, expr: ir.Expr, *operands: Value) -> str | None:
        if all(operand.dtype is None for operand in operands):
            return None
        return self.dtype(expr)

    @staticmethod
    def _binary_zero(op: str, left: Value, right: Value) -> dict[str, frozenset[str]]:
        if op in ("+", "-", "*", "|", "^", "&"):
            zero = dict(zero_where_both([left, right]))
        elif op in ("<<", ">>"):
            zero = dict(left.zero)
        else:
            zero = {}
        # A finite, non-zero number scales zero to zero; a block might hold inf or NaN out there.
        for scaled, factor in ((left, right), (right, left)):
            if (op == "*" or (op == "/" and scaled is left)) and _finite_number(factor.text):
                zero |= scaled.zero
        return zero

    def _comparison(self, expr: ir.Binary, left: Value, right: Value) -> Value:
        names = (*expr.left.type.dtype.names, *expr.right.type.dtype.names)
        common = DType(tuple(dict.fromkeys(names)))
        (left, right), tiles = self.lined_up([self.converted(left, common), self.converted(right, common)])
        strength = values.COMPARE
        text = f"{left.inside(strength + 1)} {expr.op} {right.inside(strength + 1)}"
        dtype = None if left.dtype is None and right.dtype is None else "bool"
        return Value(text=text, strength=strength, dtype=dtype, tiles=tiles)

    def _power(self, expr: ir.Binary, base: Value) -> Value:
        """A whole power by repeated squaring; a half by a root."""
        exponent = self.constant(expr.right)
        base = self.converted(base, expr.type.dtype)
        if exponent in (0.5, -0.5):
            return self._call("sqrt" if exponent == 0.5 else "rsqrt", expr, [base])
        assert isinstance(exponent, int), "check leaves whole exponents and halves"
        if expr.type.constant:
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

    def _floored(self, expr: ir.Binary, left: Value, right: Value, tiles: tuple[ir.Tile, ...]) -> Value:
        """`//` and `%` as Python has them; Triton truncates towards zero."""
        dtype = self._result_dtype(expr, left, right)
        plain = Value(
            text=f"{left.inside(values.PRODUCT)} {expr.op} {right.inside(values.UNARY)}",
            strength=values.PRODUCT,
            dtype=dtype,
            tiles=tiles,
            zero=left.zero if _finite_number(right.text) else {},
            nonnegative=left.nonnegative and right.nonnegative,
        )
        if expr.type.constant or plain.nonnegative or dtype == "u8":
            return plain  # a number that Python calculates, or the same either way
        if DTYPES[self.dtype(expr)].category == 2:
            ratio = f"tl.floor({left.inside(values.PRODUCT)} / {right.inside(values.UNARY)})"
            if expr.op == "//":
                return self._divided(replace(plain, text=ratio, strength=values.ATOM))
            left, right = self._temporary(left, "dividend"), self._temporary(right, "divisor")
            text = f"{left.text} - tl.floor({left.text} / {right.text}) * {right.text}"
            return self._divided(replace(plain, text=text, strength=values.SUM))
        left, right = self._temporary(left, "dividend"), self._temporary(right, "divisor")
        rest = self._temporary(
            replace(plain, text=f"{left.text} % {right.text}", strength=values.ATOM), "remainder"
        )
        if right.nonnegative:
            wrong = f"({rest.text} < 0)"
        else:
            wrong = f"(({rest.text} != 0) & (({rest.text} < 0) != ({right.text} < 0)))"
        if expr.op == "%":
            text = f"tl.where({wrong[1:-1]}, {rest.text} + {right.text}, {rest.text})"
            return replace(plain, text=text, strength=values.ATOM, nonnegative=right.nonnegative)
        if dtype is None:
            quotient = f"{left.text} // {right.text}"
            text = f"tl.where({wrong[1:-1]}, {quotient} - 1, {quotient})"
            return replace(plain, text=text, strength=values.ATOM)
        triton = DTYPES[dtype].triton
        return replace(
            plain, text=f"{left.text} // {right.text} - {wrong}.to(tl.{triton})", strength=values.SUM
        )

    # Functions

    def _elementwise(self, expr: ir.Elementwise) -> Value:
        if expr.function == "next_pow2":
            return literal(self.constant(expr))  # type: ignore[arg-type]
        arguments = [self.emit(argument) for argument in expr.arguments]
        if expr.function == "where":
            return self._where(expr, *arguments)
        if expr.function == "cdiv" and not all(argument.nonnegative for argument in arguments):
            return self._cdiv(expr, *arguments)
        return self._call(expr.function, expr, [self.converted(a, expr.type.dtype) for a in arguments])

    def _cdiv(self, expr: ir.Elementwise, left: Value, right: Value) -> Value:
        """Rounded up also where something is negative, which Triton's is not: -(-left // right)."""
        quotient = ir.Binary(
            span=expr.span, type=expr.type, op="//", left=expr.arguments[0], right=expr.arguments[1]
        )
        negative = replace(
            left, text=f"-{left.inside(values.UNARY)}", strength=values.UNARY, nonnegative=False
        )
        (negative, right), tiles = self.lined_up(
            [self.converted(side, expr.type.dtype) for side in (negative, right)]
        )
        value = self._floored(quotient, negative, right, tiles)
        return replace(value, text=f"-{value.inside(values.ATOM)}", strength=values.UNARY)

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

    def _call(self, name: str, expr: ir.Expr, arguments: list[Value]) -> Value:
        function = FUNCTIONS[name]
        dtype = self.dtype(expr)
        category = DTYPES[dtype].category
        if category == 1 and name in ("floor", "ceil"):
            return arguments[0]
        if all(argument.dtype is None for argument in arguments) and category == 2:
            arguments = [self.cast(arguments[0], dtype), *arguments[1:]]
        compute = "f32" if function.wide and category == 2 and DTYPES[dtype].bits < 32 else dtype
        arguments = [self.cast(a, compute) if a.dtype is not None else a for a in arguments]
        lined, tiles = self.lined_up(self._strengthened(arguments, compute))
        text = {"f32": function.f32, "f64": function.f64}.get(compute) or function.text
        if category == 2:
            text = NAN_AWARE.get(name, text)
        value = Value(
            text=text.format(*(value.text for value in lined)),
            dtype=None if all(a.dtype is None for a in lined) else compute,
            tiles=tiles,
            zero=zero_where_both(lined) if function.odd else {},
            nonnegative=all(a.nonnegative for a in lined) or name == "abs",
        )
        if value.dtype == "bf16" and name in ("maximum", "minimum"):
            value = replace(value, dtype="f32")  # Triton compares bf16 in f32, and leaves it at that
        return value if value.dtype is None else self.cast(value, dtype)

    def _reduce(self, expr: ir.Reduce) -> Value:
        value = self.emit(expr.operand)
        dtype = self.dtype(expr)
        arg = expr.function in ("argmax", "argmin")
        assert value.dtype is not None, "a block has a dtype"
        # Sums of small floats would lose digits; small numbers are compared in a wider dtype anyway.
        compute = dtype if expr.function == "sum" else value.dtype
        if DTYPES[compute].bits < 32 and (DTYPES[compute].category == 2 or expr.function != "sum"):
            compute = "f32" if DTYPES[compute].category == 2 else "i32"
        value = self.cast(value, compute)
        for tile in expr.tiles:
            value = self.neutralized(value, tile, neutral_text(expr.function, compute))
        function = f"tl.{expr.function}"
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
            if arg and tile.role != "whole":
                start = self.tiles.edge(tile, "start")
                value = replace(value, text=f"{value.text} + {start.text}", strength=values.SUM, dtype="i32")
        return self.cast(value, dtype)

    def _scan(self, expr: ir.Scan) -> Value:
        value = self.emit(expr.operand)
        dtype = self.dtype(expr)
        value = self.cast(value, "f32" if DTYPES[dtype].category == 2 and DTYPES[dtype].bits < 32 else dtype)
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
        text = (
            f"tl.zeros({shape}, {triton})" if zero and tiles else f"tl.full({shape}, {value.text}, {triton})"
        )
        return Value(text=text, dtype=dtype, tiles=tiles, zero=zero)

    def _triton_call(self, expr: ir.TritonCall) -> Value:
        arguments = [self.emit(argument) for argument in expr.arguments]
        keywords = [(name, self.emit(value)) for name, value in expr.keywords]
        lined, tiles = self.lined_up([*arguments, *(value for _, value in keywords)])
        texts = [value.text for value in lined[: len(arguments)]]
        texts += [
            f"{name}={value.text}" for (name, _), value in zip(keywords, lined[len(arguments) :], strict=True)
        ]
        if expr.type.tiles and set(expr.type.tiles) != set(tiles):
            tiles = expr.type.tiles
        elif not expr.type.tiles:
            tiles = ()
        dtype = self.dtype(expr)
        text = f"tl.{expr.name}({', '.join(texts)}).to(tl.{DTYPES[dtype].triton})"
        return Value(text=text, dtype=dtype, tiles=tiles)

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
        """Whether tl.dot can do it: two blocks of two dimensions, in a dtype that it multiplies."""
        return (
            len(expr.left.type.tiles) == 2
            and len(expr.right.type.tiles) == 2
            and len(expr.type.tiles) == 2
            and self._dot_dtype(expr) in _DOT_DTYPES
        )

    def _dot_dtype(self, expr: ir.Dot) -> str:
        names = (*expr.left.type.dtype.names, *expr.right.type.dtype.names)
        return self.specialization.dtype(DType(tuple(dict.fromkeys(names))))

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
        """A dot that tl.dot has no form for (a vector, i64): multiply and sum."""
        (left, right), tiles = self.lined_up([self.cast(left, result), self.cast(right, result)])
        product = f"{left.inside(values.PRODUCT)} * {right.inside(values.UNARY)}"
        rest = tuple(tile for tile in tiles if tile != expr.tile)
        return Value(text=f"tl.sum({product}, {tiles.index(expr.tile)})", dtype=result, tiles=rest)


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

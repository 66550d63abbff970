"""Names: what each stands for as a value or as a dtype, and what to say of one that stands for nothing.

    N        DimRef(N): int            x        VarRef(x): f32[m, n]
    f32      a dtype                   colour   there is no 'colour' here; did you mean 'color'?

Which names may be declared where is left to `scope`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from tdsl import ast, ir
from tdsl.check.dtypes import STRING
from tdsl.check.scope import (
    Alias,
    Context,
    Dimension,
    DTypeVariable,
    Parameter,
    Setting,
    Symbol,
    TileName,
    Variable,
    describe,
)
from tdsl.diagnostics import Code, Label
from tdsl.source import Span
from tdsl.types import DTYPES, WEAK_BOOL, WEAK_FLOAT, WEAK_INT, DType

# The built-in functions: how many positional arguments each takes, least and most.
FUNCTIONS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("zeros", "full"), (0, 99)),
    **dict.fromkeys(("sum", "max", "min"), (2, 99)),
    **dict.fromkeys(("argmax", "argmin", "cumsum", "dot", "maximum", "minimum", "cdiv"), (2, 2)),
    **dict.fromkeys(("exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf"), (1, 1)),
    **dict.fromkeys(("sigmoid", "abs", "floor", "ceil", "next_pow2", "whole"), (1, 1)),
    **dict.fromkeys(("where", "fma"), (3, 3)),
    "promote": (1, 99),
}


def literal(node: ast.Literal) -> ir.Constant:
    return constant(node.span, node.value)


def constant(span: Span, literal: bool | int | float | str) -> ir.Constant:
    if isinstance(literal, bool):
        dtype = WEAK_BOOL
    elif isinstance(literal, int):
        dtype = WEAK_INT
    elif isinstance(literal, float):
        dtype = WEAK_FLOAT
    else:
        dtype = STRING
    return ir.Constant(span=span, type=ir.Type(dtype=dtype, constant=True), value=literal)


def name(ctx: Context, node: ast.Name) -> ir.Expr | None:
    if node.name in ("inf", "nan"):
        return constant(node.span, math.inf if node.name == "inf" else math.nan)
    symbol = ctx.lookup(node.name)
    if symbol is None:
        if node.name in DTYPES:
            ctx.error(
                Code.BAD_VALUE, node.span, f"'{node.name}' is a dtype", help=f"a cast is '{node.name}(x)'"
            )
        else:
            undefined(ctx, node.span, node.name)
        return None
    return _symbol(ctx, node, symbol)


def _symbol(ctx: Context, node: ast.Name, symbol: Symbol) -> ir.Expr | None:
    span, name = node.span, node.name
    match symbol:
        case Variable(type=None) | TileName(tile=None) | Setting(type=None) | Parameter(broken=True):
            return None
        case Variable(key=key, type=ir.Type() as type):
            return ir.VarRef(span=span, type=type, name=key)
        case TileName(tile=ir.Tile() as tile):
            tiles = () if tile.scalar else (tile,)
            return ir.TileRef(span=span, type=ir.Type(dtype=WEAK_INT, tiles=tiles), tile=tile)
        case Dimension():
            return ir.DimRef(span=span, type=_SIZE, name=name)
        case Setting(type=ir.Type() as type):
            return ir.SettingRef(span=span, type=type, name=name)
        case Parameter(node=ir.Scalar(type=kind)):
            dtype = WEAK_FLOAT if kind == "float" else WEAK_INT
            return ir.ParamRef(span=span, type=ir.Type(dtype=dtype), name=name)
        case Parameter(node=ir.Const(type="dtype")) | DTypeVariable():
            ctx.error(Code.BAD_VALUE, span, f"'{name}' is a dtype", help=f"a cast is '{name}(x)'")
            return None
        case Parameter(node=ir.Const(type=const)):
            dtype = {"bool": WEAK_BOOL, "int": WEAK_INT, "float": WEAK_FLOAT, "str": STRING}[const]
            return ir.ParamRef(span=span, type=ir.Type(dtype=dtype, constant=True), name=name)
        case Parameter(node=ir.Tensor() as tensor, kind="output") if not tensor.inout:
            ctx.error(Code.BAD_POINT, span, f"'{name}' is an output; it cannot be read")
            return None
        case Parameter(node=ir.Tensor() as tensor):
            dims = ", ".join(
                dim.name if isinstance(dim, ir.RestDim) else dim.span.text for dim in tensor.dims
            )
            help = f"read it with 'load {name}[...]', one subscript for each of [{dims}]"
            ctx.error(Code.BAD_VALUE, span, f"'{name}' is a tensor, not a value", help=help)
            return None
        case Alias(value=aliased, dtype=None):
            return aliased
        case Alias():
            ctx.error(Code.BAD_VALUE, span, f"'{name}' is a dtype", help=f"a cast is '{name}(x)'")
            return None
        case _:
            raise AssertionError(f"{name} is {describe(symbol)}")


_SIZE = ir.Type(dtype=WEAK_INT, constant=True)


def undefined(ctx: Context, span: Span, name: str) -> None:
    """Report a name that stands for nothing here."""
    gone = ctx.gone.get(name) if not _in_helper(ctx) else None
    if gone is not None and gone.block.kind in ("for", "grid"):
        label = (
            (Label(span=gone.symbol.span, text="it exists from here"),)
            if not isinstance(gone.symbol, Alias)
            else ()
        )
        loop = gone.block.tile.name if gone.block.tile else "the grid"
        if isinstance(gone.symbol, TileName):
            message, help = f"'{name}' is a tile, and its loop has ended", f"use '{name}' inside its loop"
        else:
            message = f"'{name}' belongs to the loop of {loop}, which has ended"
            help = f"to keep it, declare it before the loop: {name} = zeros(...)"
        ctx.error(Code.ESCAPED_VALUE, span, message, *label, help=help)
    elif gone is not None and gone.block.kind == "branch":
        label = (
            (Label(span=gone.symbol.span, text="it exists from here"),)
            if not isinstance(gone.symbol, Alias)
            else ()
        )
        message = f"'{name}' is not there in every case: it belongs to a branch of an 'if'"
        help = f"declare '{name}' before the 'if', or alike in every branch"
        ctx.error(Code.UNKNOWN_NAME, span, message, *label, help=help)
    elif name in ctx.helpers:
        ctx.error(Code.BAD_VALUE, span, f"'{name}' is a helper", help=f"call it: '{name}(...)'")
    elif name in FUNCTIONS:
        ctx.error(Code.BAD_VALUE, span, f"'{name}' is a built-in function", help=f"call it: '{name}(...)'")
    else:
        near = ctx.suggest(name, itertools.chain(("inf", "nan"), ctx.visible()))
        # One of these was meant, so that it is not unused.
        ctx.used.update(
            [near] if near else [name for name, symbol in ctx.blocks[0].names.items() if _is_scalar(symbol)]
        )
        advice = f"did you mean '{near}'?" if near else None
        ctx.error(Code.UNKNOWN_NAME, span, f"there is no '{name}' here", help=advice)


def _is_scalar(symbol: Symbol) -> bool:
    return isinstance(symbol, Parameter) and not isinstance(symbol.node, ir.Tensor)


def _in_helper(ctx: Context) -> bool:
    return bool(ctx.blocks) and ctx.blocks[-1].kind == "helper"


# Dtypes


def dtype_named(ctx: Context, name: str) -> DType | None:
    """The dtype that a name stands for: `f16`, a variable, or a const parameter of type dtype."""
    if name in DTYPES:
        return DType((name,))
    match ctx.lookup(name):
        case DTypeVariable() | Parameter(node=ir.Const(type="dtype")):
            return DType((name,))
        case Alias(dtype=DType() as dtype):
            return dtype
        case _:
            return None


_FOREIGN = {
    **{f"float{bits}": f"f{bits}" for bits in (16, 32, 64)},
    **{f"fp{bits}": f"f{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
    **dict.fromkeys(("bfloat16", "bfloat"), "bf16"),
    **dict.fromkeys(("half",), "f16"),
    **dict.fromkeys(("float", "single"), "f32"),
    **dict.fromkeys(("double",), "f64"),
    **dict.fromkeys(("uint8", "byte"), "u8"),
    **dict.fromkeys(("int",), "i32"),
    **dict.fromkeys(("long",), "i64"),
    **dict.fromkeys(("int1", "boolean"), "bool"),
    **dict.fromkeys(("float8_e4m3fn", "fp8e4m3", "fp8", "f8"), "f8e4m3"),
    **dict.fromkeys(("float8_e5m2", "fp8e5m2"), "f8e5m2"),
}


def unknown_dtype(ctx: Context, span: Span, name: str, variables: tuple[str, ...] = ()) -> None:
    near = _FOREIGN.get(name) or ctx.suggest(name, [*DTYPES, *variables])
    help = f"did you mean '{near}'?" if near else f"dtypes are {', '.join(DTYPES)}"
    ctx.error(Code.UNKNOWN_DTYPE, span, f"'{name}' is no dtype", help=help)


def dtype(ctx: Context, node: ast.DTypeExpr | ast.Expr) -> DType | None:
    """The dtype that an annotation or a `dtype=` spells, reported where it spells none."""
    match node:
        case ast.DTypeName(name=name) | ast.Name(name=name):
            found = dtype_named(ctx, name)
            if found is None:
                unknown_dtype(ctx, node.span, name, tuple(ctx.dtypes.choices))
            return found
        case ast.DTypePromote(operands=operands):
            return _promoted(ctx, operands)
        case ast.Call(function=ast.Ident(name="promote"), arguments=arguments, keywords=()) if arguments:
            return _promoted(ctx, arguments)
        case _:
            ctx.error(Code.UNKNOWN_DTYPE, node.span, "this is no dtype", help="write a dtype, such as f32")
            return None


def _promoted(ctx: Context, operands: tuple[ast.DTypeExpr, ...] | tuple[ast.Expr, ...]) -> DType | None:
    found = [dtype(ctx, operand) for operand in operands]
    strong = [each for each in found if each is not None]
    return ctx.dtypes.promote(*strong) if len(strong) == len(found) else None

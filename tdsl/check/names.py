"""Names: what each stands for as a value or as a dtype, and what to say of one that stands for nothing.

    N        DimRef(N): int            x        VarRef(x): f32[m, n]
    f32      a dtype                   colour   there is no 'colour' here; did you mean 'color'?

Which names may be declared where is left to `scope`.
"""

from __future__ import annotations

import itertools

from tdsl import ast, foreign, ir
from tdsl.builtins import BUILTINS, CONSTANTS
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
    if node.name in CONSTANTS:
        return constant(node.span, CONSTANTS[node.name])
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
        case Variable(type=None) | TileName(tile=None) | Setting(type=None):
            return None
        case Parameter(broken=True) | Dimension(broken=True):
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
        ctx.missing(Code.ESCAPED_VALUE, span, name, message, *label, help=help)
    elif gone is not None and gone.block.kind == "branch":
        label = (
            (Label(span=gone.symbol.span, text="it exists from here"),)
            if not isinstance(gone.symbol, Alias)
            else ()
        )
        message = f"'{name}' is not there in every case: it belongs to a branch of an 'if'"
        help = f"declare '{name}' before the 'if', or alike in every branch"
        ctx.missing(Code.UNKNOWN_NAME, span, name, message, *label, help=help)
    elif name in ctx.helpers:
        ctx.error(Code.BAD_VALUE, span, f"'{name}' is a helper", help=f"call it: '{name}(...)'")
    elif name in BUILTINS:
        ctx.error(Code.BAD_VALUE, span, f"'{name}' is a built-in function", help=f"call it: '{name}(...)'")
    else:
        near = ctx.suggest(name, itertools.chain(CONSTANTS, ctx.visible()))
        # One of these was meant, so that it is not unused.
        ctx.used.update(name for name, symbol in ctx.blocks[0].names.items() if _is_scalar(symbol))
        advice = foreign.VALUES.get(name) or (f"did you mean '{near}'?" if near else None)
        ctx.missing(Code.UNKNOWN_NAME, span, name, f"there is no '{name}' here", help=advice)


def _is_scalar(symbol: Symbol) -> bool:
    return isinstance(symbol, Setting) or (
        isinstance(symbol, Parameter) and not isinstance(symbol.node, ir.Tensor)
    )


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


def unknown_dtype(ctx: Context, span: Span, name: str, variables: tuple[str, ...] = ()) -> None:
    if name in ctx.duplicated:
        return
    help = foreign.dtype(name)
    if help is None:
        near = ctx.suggest(name, [*DTYPES, *variables])
        help = f"did you mean '{near}'?" if near else f"dtypes are {', '.join(DTYPES)}"
    ctx.missing(Code.UNKNOWN_DTYPE, span, name, f"'{name}' is no dtype", help=help)


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
            help = foreign.dtype(node.name) if isinstance(node, ast.TritonName) else None
            message = "this is no dtype"
            ctx.error(Code.UNKNOWN_DTYPE, node.span, message, help=help or "write a dtype, such as f32")
            return None


def _promoted(ctx: Context, operands: tuple[ast.DTypeExpr, ...] | tuple[ast.Expr, ...]) -> DType | None:
    found = [dtype(ctx, operand) for operand in operands]
    strong = [each for each in found if each is not None]
    return ctx.dtypes.promote(*strong) if len(strong) == len(found) else None

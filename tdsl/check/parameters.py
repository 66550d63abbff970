"""The signature: parameters, outputs, dimensions, dtype variables, guards.

    (A: T[M, K], Q: i32[K // 8, N]) -> C: T[M, N] where K % 8 == 0
    dims M, K, N; T one of f16, bf16, f32; K from A, N from Q; a guard

Every name in it must be one that a call settles. What a call then does is `signature` of the package.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from typing_extensions import assert_never

from tdsl import ast, ir
from tdsl.builtins import BUILTINS, CONST_TYPES, SCALAR_TYPES
from tdsl.check import names
from tdsl.check.bounds import Bounds, Facts
from tdsl.check.dtypes import DTypes
from tdsl.check.scope import Context, Dimension, DTypeVariable, Parameter
from tdsl.diagnostics import Code, Label
from tdsl.source import Span
from tdsl.types import DEFAULT_CHOICES, DTYPES, DType

_OPERATORS = ("+", "-", "*", "//", "%")


@dataclass
class Signature:
    params: list[ir.Tensor | ir.Scalar | ir.Const] = field(default_factory=list)
    outputs: list[ir.Tensor] = field(default_factory=list)
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dims: dict[str, Span] = field(default_factory=dict)  # in order of appearance
    guards: list[ir.Expr] = field(default_factory=list)
    written: dict[str, Span] = field(default_factory=dict)  # outputs and inout parameters
    inputs: dict[str, Span] = field(default_factory=dict)  # what must be used


def check_signature(ctx: Context, template: ast.Template) -> Signature:
    made = Signature()
    _find_dtypes(ctx, template, made)
    _declare_scalars(ctx, template, made)
    _declare_dims(ctx, template, made)
    _check_tensors(ctx, template, made)
    _check_solvable(ctx, template, made)
    mistakes = len(ctx.report)
    _check_guards(ctx, template, made)
    ctx.is_unproven = len(ctx.report) > mistakes
    if not made.written:
        ctx.error(
            Code.NOT_STORED,
            template.name.span,
            f"'{template.name.name}' writes nothing: it has no output and no 'inout' parameter",
            help="declare an output: '-> y: T[N]'",
        )
    order = {param.name.name: at for at, param in enumerate(template.params)}
    made.params.sort(key=lambda param: order[param.name])
    ctx.bounds = Bounds(_facts(ctx, made))
    return made


# Dtypes


def _find_dtypes(ctx: Context, template: ast.Template, made: Signature) -> None:
    """Every dtype variable and what it may be."""
    consts = {
        param.name.name: param
        for param in template.params
        if isinstance(param, ast.ConstParam) and param.type.name == "dtype"
    }
    for const in consts:
        made.choices[const] = tuple(DTYPES)
    spelled: list[ast.DTypeName] = []
    for item in (*template.params, *template.outputs):
        if isinstance(item, ast.TensorParam | ast.Output):
            spelled.extend(_dtype_names(item.dtype))
    for node in spelled:
        if node.name in DTYPES or node.name in consts or node.name in made.choices:
            continue
        if node.name[0].isupper():
            made.choices[node.name] = DEFAULT_CHOICES
            ctx.blocks[0].names[node.name] = DTypeVariable(node.name, node.span)
        else:
            names.unknown_dtype(ctx, node.span, node.name, tuple(made.choices))
    guarded: dict[str, Span] = {}
    for guard in template.guards:
        if not isinstance(guard, ast.DTypeGuard) or guard.variable.name not in made.choices:
            continue
        name = guard.variable.name
        if name in guarded:
            label = Label(span=guarded[name], text="first here")
            ctx.error(Code.BAD_GUARD, guard.span, f"there is a guard for {name} already", label)
            continue
        guarded[name] = guard.span
        choices = []
        for choice in guard.choices:
            if choice.name in DTYPES:
                choices.append(choice.name)
            else:
                names.unknown_dtype(ctx, choice.span, choice.name)
        if choices:
            made.choices[name] = tuple(dict.fromkeys(choices))
    ctx.dtypes = DTypes(made.choices)


def _dtype_names(node: ast.DTypeExpr) -> list[ast.DTypeName]:
    match node:
        case ast.DTypeName():
            return [node]
        case ast.DTypePromote(operands=operands):
            return [name for operand in operands for name in _dtype_names(operand)]
        case _:
            assert_never(node)


# Scalars and constants


def _declare_scalars(ctx: Context, template: ast.Template, made: Signature) -> None:
    defaulted: Span | None = None
    for param in template.params:
        errors = len(ctx.report)
        node: ir.Scalar | ir.Const
        match param:
            case ast.TensorParam():
                if defaulted is not None:
                    _report_order(ctx, param, defaulted)
                continue
            case ast.ScalarParam(type=type):
                if type.name not in SCALAR_TYPES:
                    _report_scalar(ctx, param)
                if defaulted is not None:
                    _report_order(ctx, param, defaulted)
                kind = "int" if type.name == "int" else "float"
                node = ir.Scalar(span=param.span, name=param.name.name, type=kind)  # type: ignore[arg-type]
            case ast.ConstParam(type=type, default=default):
                if type.name not in CONST_TYPES:
                    near = ctx.suggest(type.name, CONST_TYPES)
                    ctx.error(
                        Code.BAD_PARAM,
                        type.span,
                        f"a const parameter is one of {', '.join(CONST_TYPES)}; not '{type.name}'",
                        help=f"did you mean '{near}'?" if near else None,
                    )
                    kind, value = "int", None
                else:
                    kind, value = type.name, None if default is None else _default(ctx, param, default)
                if default is not None:
                    defaulted = param.span
                elif defaulted is not None:
                    _report_order(ctx, param, defaulted)
                node = ir.Const(span=param.span, name=param.name.name, type=kind, default=value)  # type: ignore[arg-type]
            case _:
                assert_never(param)
        ctx.declare(param.name, Parameter(node, param.span, "input", len(ctx.report) > errors))
        made.params.append(node)
        made.inputs.setdefault(param.name.name, param.name.span)


def _report_order(ctx: Context, param: ast.Param, defaulted: Span) -> None:
    ctx.error(
        Code.BAD_PARAM,
        param.span,
        f"'{param.name.name}' has no default and follows a parameter that has one",
        Label(span=defaulted, text="has a default"),
        help="put parameters with a default last",
    )


def _report_scalar(ctx: Context, param: ast.ScalarParam) -> None:
    name, type = param.name.name, param.type.name
    if (type in DTYPES and type != "bool") or type[0].isupper():
        help = f"a tensor has dimensions: '{name}: {type}[N]'"
    elif type in ("bool", "str", "dtype"):
        help = f"'{name}: const {type}' is known at compile time"
    else:
        near = ctx.suggest(type, SCALAR_TYPES)
        help = f"did you mean '{near}'?" if near else f"a tensor has dimensions: '{name}: {type}[N]'"
    ctx.error(
        Code.BAD_PARAM, param.type.span, f"a run-time scalar is 'float' or 'int', not '{type}'", help=help
    )


def _default(ctx: Context, param: ast.ConstParam, node: ast.Expr) -> bool | int | float | str | None:
    kind = param.type.name
    value: bool | int | float | str | None = None
    match node:
        case ast.Literal(value=value):
            pass
        case ast.Unary(op="-", operand=ast.Literal(value=int() | float() as number)) if not isinstance(
            number, bool
        ):
            value = -number
        case ast.Name(name="inf" | "nan" as name) | ast.Unary(op="-", operand=ast.Name(name="inf" as name)):
            value = float(name) if isinstance(node, ast.Name) else -float(name)
        case ast.Name(name=name) if kind == "dtype":
            if name in DTYPES:
                return name
            names.unknown_dtype(ctx, node.span, name)
            return None
    fits = {
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "str": isinstance(value, str),
        "dtype": False,
    }[kind]
    if not fits:
        ctx.error(
            Code.BAD_PARAM,
            node.span,
            f"the default of '{param.name.name}' is not a constant of type {kind}",
            help={"dtype": "such as f32", "bool": "true or false"}.get(kind),
        )
        return None
    return float(value) if kind == "float" and isinstance(value, int) else value


# Dimensions


def _declare_dims(ctx: Context, template: ast.Template, made: Signature) -> None:
    for item in (*template.params, *template.outputs):
        if not isinstance(item, ast.TensorParam | ast.Output):
            continue
        for dim in item.dims:
            found = [dim.name] if isinstance(dim, ast.RestDim) else _names_in(dim.value)
            for ident in found:
                symbol = ctx.blocks[0].names.get(ident.name)
                if ident.name in made.dims or isinstance(symbol, Parameter):
                    continue
                made.dims[ident.name] = ident.span
                ctx.declare(ident, Dimension(ident.name, ident.span))


def _names_in(node: ast.Expr) -> list[ast.Ident]:
    match node:
        case ast.Name(name=name):
            return [ast.Ident(span=node.span, name=name)]
        case ast.Unary(operand=operand):
            return _names_in(operand)
        case ast.Binary(left=left, right=right):
            return [*_names_in(left), *_names_in(right)]
        case ast.Call(arguments=arguments):
            return [name for argument in arguments for name in _names_in(argument)]
        case _:
            return []


def _plain(node: ast.Expr) -> ast.Expr:
    """A dimension with `min(M, N)` for what values call `minimum(M, N)`."""
    match node:
        case ast.Binary(left=left, right=right):
            return replace(node, left=_plain(left), right=_plain(right))
        case ast.Call(function=function, arguments=arguments):
            if function.name in ("min", "max"):
                function = replace(function, name=f"{function.name}imum")
            return replace(node, function=function, arguments=tuple(map(_plain, arguments)))
        case _:
            return node


def _check_tensors(ctx: Context, template: ast.Template, made: Signature) -> None:
    for item in (*template.params, *template.outputs):
        if not isinstance(item, ast.TensorParam | ast.Output):
            continue
        written = isinstance(item, ast.Output) or item.inout
        errors = len(ctx.report)
        dtype = names.dtype(ctx, item.dtype) if _is_known(item.dtype, made) else None
        dims = tuple(_dim(ctx, dim, at) for at, dim in enumerate(item.dims))
        optional = isinstance(item, ast.TensorParam) and item.optional
        if optional and written:
            ctx.error(
                Code.BAD_PARAM,
                item.span,
                f"'{item.name.name}' is optional and 'inout'; what is written is always there",
                help="leave one of them out",
            )
        node = ir.Tensor(
            span=item.span,
            name=item.name.name,
            dtype=dtype or DType(("f32",)),
            dims=dims,
            optional=optional,
            inout=isinstance(item, ast.TensorParam) and item.inout,
        )
        kind = "output" if isinstance(item, ast.Output) else "input"
        broken = dtype is None or len(ctx.report) > errors
        ctx.declare(item.name, Parameter(node, item.span, kind, broken))  # type: ignore[arg-type]
        if isinstance(item, ast.Output):
            made.outputs.append(node)
        else:
            made.params.append(node)
            if not item.inout:
                made.inputs.setdefault(item.name.name, item.name.span)
        if written:
            made.written.setdefault(item.name.name, item.name.span)


def _is_known(node: ast.DTypeExpr, made: Signature) -> bool:
    return all(name.name in DTYPES or name.name in made.choices for name in _dtype_names(node))


def _dim(ctx: Context, dim: ast.Dim, at: int) -> ir.Expr | ir.RestDim:
    if isinstance(dim, ast.RestDim):
        if at > 0:
            ctx.error(
                Code.BAD_DIM,
                dim.span,
                f"'{dim.name.name}...' stands for leading dimensions and comes first",
            )
        elif isinstance(ctx.lookup(dim.name.name), Parameter):
            ctx.error(Code.BAD_DIM, dim.span, f"'{dim.name.name}' is a parameter, not a number of dimensions")
        return ir.RestDim(span=dim.span, name=dim.name.name)
    value = ctx.value(ctx, _plain(dim.value))
    if value is None:
        return _stand_in(dim)  # so that the rank stays right
    for node in ir.walk(value):
        match node:
            case ir.DimRef():
                pass
            case ir.Constant(value=bool() | float() | str()):
                return _bad_dim(ctx, dim)
            case ir.Constant() | ir.ParamRef(type=ir.Type(dtype=DType(names=("~int",)))):
                pass
            case ir.Binary(op=op) if op in _OPERATORS:
                pass
            case ir.Elementwise(function=function) if BUILTINS[function].sizes:
                pass
            case _:
                return _bad_dim(ctx, dim)
    if isinstance(value, ir.Constant) and isinstance(value.value, int) and value.value < 1:
        ctx.error(Code.BAD_DIM, dim.span, f"a dimension of size {value.value} holds nothing")
    return value


def _stand_in(dim: ast.ExprDim) -> ir.Expr:
    return names.constant(dim.span, 1)


def _bad_dim(ctx: Context, dim: ast.ExprDim) -> ir.Expr:
    ctx.error(
        Code.BAD_DIM,
        dim.span,
        "a dimension is made of names and integers with + - * // %, cdiv, next_pow2, min and max",
    )
    return _stand_in(dim)


def told(tensor: ir.Tensor) -> set[str]:
    """The names whose sizes the shape of a tensor tells."""
    found = {dim.name for dim in tensor.dims if isinstance(dim, ir.RestDim)}
    return found | {solved[0] for dim in tensor.dims if (solved := ir.solved_for(dim)) is not None}


def _check_solvable(ctx: Context, template: ast.Template, made: Signature) -> None:
    """Each dimension and dtype variable must be one that the arguments of a call settle."""
    dims: set[str] = set()
    dtypes = {param.name for param in made.params if isinstance(param, ir.Const) and param.type == "dtype"}
    maybe: set[str] = set()
    for param in made.params:
        if not isinstance(param, ir.Tensor):
            continue
        alone = told(param)
        if param.optional:
            maybe |= alone
        else:
            dims |= alone
        if not param.optional or all(param.dtype != output.dtype for output in made.outputs):
            dtypes |= {str(name) for name in param.dtype.names if len(param.dtype.names) == 1}
    for name, span in made.dims.items():
        symbol = ctx.blocks[0].names.get(name)
        if name in dims or not isinstance(symbol, Dimension):
            continue
        if name in maybe:
            message = f"only an optional tensor tells '{name}'"
            help = "a tensor that is always there must have it as a dimension"
        else:
            message = f"no tensor tells '{name}'"
            near = ctx.suggest(name, dims)
            help = (
                f"did you mean '{near}'?"
                if near
                else f"a parameter must have '{name}' as a dimension, alone or as in '{name} + 1' or '2 * {name}', "
                f"or it is a parameter: '{name}: int'"
            )
        ctx.error(Code.UNBOUND_DIM, span, message, help=help)
        symbol.broken = True
        for tensor in ctx.blocks[0].names.values():
            if isinstance(tensor, Parameter) and isinstance(tensor.node, ir.Tensor):
                nodes = (node for dim in tensor.node.dims for node in ir.walk(dim))
                tensor.broken |= any(isinstance(n, ir.DimRef | ir.RestDim) and n.name == name for n in nodes)
    for item in (*template.params, *template.outputs):
        if isinstance(item, ast.TensorParam | ast.Output):
            for node in _dtype_names(item.dtype):
                if node.name in made.choices and node.name not in dtypes:
                    known = [name for name in made.choices if name in dtypes]
                    near = ctx.suggest(node.name, known)
                    ctx.error(
                        Code.UNKNOWN_DTYPE,
                        node.span,
                        f"no argument tells '{node.name}'",
                        help=f"did you mean '{near}'?"
                        if near
                        else f"give a tensor that dtype, or declare '{node.name}: const dtype'",
                    )


# Guards


def _check_guards(ctx: Context, template: ast.Template, made: Signature) -> None:
    for guard in template.guards:
        node: ast.Expr
        match guard:
            case ast.DTypeGuard(variable=variable, choices=choices):
                if variable.name in made.choices:
                    continue
                symbol = ctx.blocks[0].names.get(variable.name)
                if symbol is None or variable.name in DTYPES:
                    what = (
                        "is a dtype, not a dtype variable"
                        if variable.name in DTYPES
                        else "is no dtype variable here"
                    )
                    near = ctx.suggest(variable.name, made.choices)
                    ctx.error(
                        Code.BAD_GUARD,
                        variable.span,
                        f"'{variable.name}' {what}",
                        help=f"did you mean '{near}'?" if near else None,
                    )
                    continue
                node = ast.Membership(
                    span=guard.span,
                    value=ast.Name(span=variable.span, name=variable.name),
                    choices=tuple(ast.Name(span=choice.span, name=choice.name) for choice in choices),
                )
            case ast.ExprGuard(value=node):
                pass
            case _:
                assert_never(guard)
        checked = ctx.condition(ctx, node)
        if checked is None:
            continue
        wrong = next((part for part in ir.walk(checked) if not _is_fixed(part)), None)
        if wrong is not None:
            ctx.error(
                Code.BAD_GUARD,
                wrong.span,
                "a guard is about dimensions, dtypes and parameters, which a call settles; this is not",
            )
            continue
        if not any(
            isinstance(part, ir.DimRef | ir.ParamRef | ir.DTypeIn | ir.Present) for part in ir.walk(checked)
        ):
            ctx.error(Code.BAD_GUARD, guard.span, "this guard is about nothing that a call settles")
            continue
        made.guards.append(checked)


def _is_fixed(node: ir.Node) -> bool:
    return isinstance(
        node,
        ir.Constant
        | ir.DimRef
        | ir.ParamRef
        | ir.Present
        | ir.DTypeIn
        | ir.Unary
        | ir.Binary
        | ir.Cast
        | ir.Select
        | ir.Elementwise,
    )


def _facts(ctx: Context, made: Signature) -> Facts:
    tensors = [param for param in made.params if isinstance(param, ir.Tensor) and not param.optional]
    dims = [
        dim for tensor in (*tensors, *made.outputs) for dim in tensor.dims if not isinstance(dim, ir.RestDim)
    ]
    divisors = [
        divisor for part in (*dims, *made.guards) for node in ir.walk(part) for divisor in _divisor(node)
    ]
    return Facts(
        guards=tuple(made.guards),
        sizes=frozenset(dim.name for dim in dims if isinstance(dim, ir.ParamRef)),
        nonnegative=tuple(dim for dim in dims if not isinstance(dim, ir.DimRef | ir.ParamRef | ir.Constant)),
        divisors=tuple(divisors),
        settings=ctx.settings,
        least=ctx.least,
        variables=ctx.definitions,
    )


def _divisor(node: ir.Node) -> list[ir.Expr]:
    match node:
        case ir.Binary(op="//" | "%", right=right) | ir.Elementwise(function="cdiv", arguments=(_, right)):
            return [] if isinstance(right, ir.Constant) else [right]
        case _:
            return []

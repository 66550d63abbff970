"""A kernel as text, the same for the same kernel: what goldens hold and `tdsl show --stage ir` prints.

    kernel matmul
      T in (f16, bf16, f32)
      param A: T[M, K]
      output C: T[M, N]
      config BLOCK_M=128, num_warps=8
      grid m: 0 to M by BLOCK_M
        store C[m] = sum(load A[m, k], k)

Names are the kernel's own (`n_1` for the second tile called n); a subscript that is not proven in bounds is
followed by `?`.
"""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import assert_never

from tdsl import ir

# How tightly each operator binds, as in Python.
_TIGHT = {
    "or": 1,
    "and": 2,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 4),
    "|": 5,
    "^": 6,
    "&": 7,
    **dict.fromkeys(("<<", ">>"), 8),
    **dict.fromkeys(("+", "-"), 9),
    **dict.fromkeys(("*", "/", "//", "%"), 10),
    "**": 12,
}
_CONDITIONAL, _NOT, _SIGN, _ATOM = 0, 3, 11, 13


def to_text(kernel: ir.Kernel) -> str:
    """The kernel as lines of text, the last one ended."""
    return "".join(f"{line}\n" for line in _kernel(kernel))


def _kernel(kernel: ir.Kernel) -> Iterator[str]:
    yield f"kernel {kernel.name}"
    if kernel.doc is not None:
        for line in kernel.doc.splitlines():
            yield f"  # {line}".rstrip()
    for name, choices in kernel.dtype_choices:
        yield f"  {name} in ({', '.join(choices)})"
    if kernel.dims:
        yield f"  dims {', '.join(kernel.dims)}"
    for param in kernel.params:
        yield f"  param {_param(param)}"
    for output in kernel.outputs:
        yield f"  output {_param(output)}"
    for guard in kernel.guards:
        yield f"  where {expression(guard)}"
    for let in kernel.lets:
        yield f"  let {let.name}: {let.value.type} = {expression(let.value)}"
    for candidate in kernel.candidates:
        items = ", ".join(f"{name}={expression(value)}" for name, value in candidate.items)
        condition = "" if candidate.condition is None else f" if {expression(candidate.condition)}"
        yield f"  config {items}{condition}".rstrip()
    for tile in kernel.grid:
        yield f"  grid {_tile(tile)}"
    if kernel.group is not None:
        yield f"  group {expression(kernel.group)}"
    yield from _block(kernel.body, "    ")


def _param(param: ir.Tensor | ir.Scalar | ir.Const) -> str:
    match param:
        case ir.Tensor():
            dims = ", ".join(
                f"{dim.name}..." if isinstance(dim, ir.RestDim) else expression(dim) for dim in param.dims
            )
            prefix, suffix = "inout " if param.inout else "", "?" if param.optional else ""
            return f"{prefix}{param.name}: {param.dtype}[{dims}]{suffix}"
        case ir.Scalar():
            return f"{param.name}: {param.type}"
        case ir.Const():
            default = "" if param.default is None else f" = {_number(param.default)}"
            return f"{param.name}: const {param.type}{default}"
        case _:
            assert_never(param)


def _tile(tile: ir.Tile) -> str:
    block = "" if tile.block is None else f" by {expression(tile.block)}"
    return f"{tile.key}: {_inside(tile.start, 1)} to {_inside(tile.stop, 1)}{block}"


# Statements


def _block(body: tuple[ir.Statement, ...], indent: str) -> Iterator[str]:
    if not body:
        yield f"{indent}pass"
    for statement in body:
        yield from _statement(statement, indent)


def _statement(node: ir.Statement, indent: str) -> Iterator[str]:
    inner = indent + "  "
    match node:
        case ir.Assign(name=name, type=type, value=value, declares=declares):
            annotation = f": {type}" if declares else ""
            yield f"{indent}{name}{annotation} = {expression(value)}"
        case ir.Whole(tile=tile):
            yield f"{indent}whole {_tile(tile)}"
        case ir.For(tile=tile, body=body):
            yield f"{indent}for {_tile(tile)}"
            yield from _block(body, inner)
        case ir.If(branches=branches, orelse=orelse):
            word = "if"
            for condition, body in branches:
                constant = " at compile time" if condition.type.constant else ""
                yield f"{indent}{word}{constant} {expression(condition)}"
                yield from _block(body, inner)
                word = "elif"
            if orelse:
                yield f"{indent}else"
                yield from _block(orelse, inner)
        case ir.Store(param=param, subscripts=subscripts, value=value, nofuse=nofuse):
            option = " nofuse" if nofuse else ""
            yield f"{indent}store {param}[{_subscripts(subscripts)}] = {expression(value)}{option}"
        case ir.Accumulate(param=param, subscripts=subscripts, value=value, skip=skip, unchecked=unchecked):
            option = " else skip" if skip else " unchecked" if unchecked else ""
            yield f"{indent}accumulate {param}[{_subscripts(subscripts)}] += {expression(value)}{option}"
        case _:
            assert_never(node)


# Expressions


def expression(node: ir.Expr) -> str:
    return _expression(node)[0]


def _inside(node: ir.Expr, tightness: int) -> str:
    text, own = _expression(node)
    return text if own >= tightness else f"({text})"


def _arguments(nodes: tuple[ir.Expr, ...]) -> str:
    return ", ".join(map(expression, nodes))


def _subscripts(subscripts: tuple[ir.Subscript, ...]) -> str:
    return ", ".join(f"{expression(item.value)}{'' if item.in_bounds else '?'}" for item in subscripts)


def _number(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _expression(node: ir.Expr) -> tuple[str, int]:
    """The text, and how tightly its outermost operator binds."""
    match node:
        case ir.Constant(value=value):
            text = _number(value)
            return text, _SIGN if text.startswith("-") else _ATOM
        case ir.DimRef(name=name) | ir.ParamRef(name=name) | ir.SettingRef(name=name) | ir.VarRef(name=name):
            return name, _ATOM
        case ir.TileRef(tile=tile):
            return tile.key, _ATOM
        case ir.TileEdge(tile=tile, edge=edge):
            return f"{tile.key}.{edge}", _ATOM
        case ir.Present(param=param):
            return f"present({param})", _ATOM
        case ir.DTypeIn(dtype=dtype, choices=choices):
            return f"{dtype} in ({', '.join(choices)})", _TIGHT["=="]
        case ir.Unary(op="not", operand=operand):
            return f"not {_inside(operand, _NOT)}", _NOT
        case ir.Unary(op=op, operand=operand):
            return f"{op}{_inside(operand, _SIGN)}", _SIGN
        case ir.Binary(op=op, left=left, right=right):
            tight = _TIGHT[op]
            left_text = _inside(left, tight + 1 if op in ("**", "==", "!=", "<", "<=", ">", ">=") else tight)
            return f"{left_text} {op} {_inside(right, tight if op == '**' else tight + 1)}", tight
        case ir.Cast(operand=operand):
            return f"{node.type.dtype}({expression(operand)})", _ATOM
        case ir.Select(condition=condition, then=then, otherwise=otherwise):
            parts = (_inside(part, _CONDITIONAL + 1) for part in (then, condition))
            text = " if ".join(parts)
            return f"{text} else {_inside(otherwise, _CONDITIONAL)}", _CONDITIONAL
        case ir.Elementwise(function=function, arguments=arguments):
            return f"{function}({_arguments(arguments)})", _ATOM
        case ir.Reduce(function=function, operand=operand, tiles=tiles):
            return f"{function}({expression(operand)}, {', '.join(tile.key for tile in tiles)})", _ATOM
        case ir.Scan(function=function, operand=operand, tile=tile):
            return f"{function}({expression(operand)}, {tile.key})", _ATOM
        case ir.Along(function=function, operand=operand, tile=tile, onto=onto, arguments=arguments):
            items = [expression(operand), tile.key, *([] if onto is None else [onto.key])]
            items += [*map(expression, arguments), *(["descending"] if node.descending else [])]
            return f"{function}({', '.join(items)})", _ATOM
        case ir.Dot(left=left, right=right, tile=tile, precision=precision):
            option = "" if precision is None else f", precision={precision!r}"
            return f"dot({expression(left)}, {expression(right)}, over {tile.key}{option})", _ATOM
        case ir.Fill(value=value):
            return f"full({expression(value)}, {node.type})", _ATOM
        case ir.TritonCall(name=name, arguments=arguments, keywords=keywords):
            items = [*map(expression, arguments), *(f"{key}={expression(value)}" for key, value in keywords)]
            return f"tl.{name}({', '.join(items)}): {node.type}", _CONDITIONAL
        case ir.TritonName(name=name):
            return f"tl.{name}", _ATOM
        case ir.Inline(helper=helper, bindings=bindings, result=result):
            items = [f"{name}: {value.type} = {expression(value)}" for name, value in bindings]
            return f"{helper}{{{'; '.join([*items, expression(result)])}}}", _ATOM
        case ir.Load(point=point, subscripts=subscripts, otherwise=otherwise):
            name = node.param if point == node.param else f"{node.param}@{point}"
            text = f"load {name}[{_subscripts(subscripts)}]"
            if otherwise is not None:
                text += f" else {_inside(otherwise, _SIGN)}"
            if node.unchecked:
                text += " unchecked"
            if node.fuse:
                text += " fuse"
            if node.nofuse:
                text += " nofuse"
            return text, _ATOM
        case _:
            assert_never(node)

"""Statements: the grid, loops, tiles, branches, assignments.

    for m in grid(M by BLOCK):       Tile(m: 0 to M by BLOCK, grid)
        n = whole(N)                 Whole(n: 0 to N)
        x = load A[m, n]             Assign(x: T[m, n], declares)

A name lives until its block ends; one that every branch of an `if` begins alike lives on. Points are left to
`points`, values to `expressions`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from typing_extensions import assert_never

from tdsl import ast, ir
from tdsl.check import assignment, declarations, names, points, triton_calls
from tdsl.check.dtypes import STRING
from tdsl.check.expressions import implied, negated
from tdsl.check.scope import Alias, Block, Branch, Context, TileName, Variable, describe, varies
from tdsl.diagnostics import Code, Label
from tdsl.source import Span
from tdsl.types import BOOL, WEAK_BOOL

# The grid


def check_body(
    ctx: Context, template: ast.Template
) -> tuple[tuple[ir.Tile, ...], ir.Expr | None, tuple[ir.Statement, ...]] | None:
    """The grid's tiles, its `group`, and its body; None where a mistake hides the grid."""
    counts = Counter(_targets(template.body))
    ctx.assigned_once = frozenset(name for name, count in counts.items() if count == 1)
    grids = [statement for statement in template.body if isinstance(statement, ast.Grid)]
    if not grids:
        ctx.error(
            Code.BAD_GRID,
            template.name.span,
            f"'{template.name.name}' has no grid",
            help="its outermost loop says which programs run: 'for m in grid(M by BLOCK):'",
        )
        return None
    for statement in template.body:
        if statement is grids[0]:
            continue
        if isinstance(statement, ast.Grid):
            label = Label(span=_head(grids[0]), text="the first one")
            ctx.error(Code.BAD_GRID, _head(statement), "a template has one grid", label)
        else:
            where = "before" if statement.span.start < grids[0].span.start else "after"
            ctx.error(
                Code.BAD_GRID,
                _head(statement),
                f"nothing runs {where} the grid",
                help="move it into the loop of the grid, or bind a constant with 'let'",
            )
    return _grid(ctx, grids[0])


def _targets(statements: tuple[ast.Statement, ...]) -> Iterator[str]:
    for statement in statements:
        match statement:
            case ast.Assign(target=target) | ast.AugAssign(target=target):
                yield target.name
            case ast.For(body=body) | ast.Grid(body=body):
                yield from _targets(body)
            case ast.If(branches=branches, orelse=orelse):
                for branch in branches:
                    yield from _targets(branch.body)
                yield from _targets(orelse)


def _head(statement: ast.Statement) -> Span:
    """The first line of a statement."""
    span = statement.span
    line = span.text.split("\n", 1)[0].rstrip()
    return Span(span.source, span.start, span.start + len(line))


def _grid(
    ctx: Context, grid: ast.Grid
) -> tuple[tuple[ir.Tile, ...], ir.Expr | None, tuple[ir.Statement, ...]]:
    if len(grid.targets) != len(grid.axes):
        a, b = len(grid.targets), len(grid.axes)
        ctx.error(
            Code.BAD_GRID,
            _head(grid),
            f"the grid has {b} dimension{'' if b == 1 else 's'} for {a} name{'' if a == 1 else 's'}",
        )
        ctx.is_unnamed = a < b
    ctx.place = "grid"
    tiles: list[ir.Tile | None] = []
    for ident, axis in zip(grid.targets, grid.axes, strict=False):
        tiles.append(_tile(ctx, ident, "grid", None, axis.size, axis.block))
    group = None if grid.group is None else _group(ctx, grid, grid.group)
    ctx.place = "body"
    ctx.open(Block("grid", grid.span))
    for ident, tile in zip(grid.targets, tiles, strict=False):
        ctx.declare(ident, TileName(ident.name, ident.span, tile))
    for ident in grid.targets[len(tiles) :]:
        ctx.declare(ident, TileName(ident.name, ident.span, None))
    known = tuple(tile for tile in tiles if tile is not None)
    ctx.loops.extend(known)
    body = statements(ctx, grid.body)
    ctx.loops.clear()
    ctx.close()
    return known, group, body


def _group(ctx: Context, grid: ast.Grid, node: ast.Expr) -> ir.Expr | None:
    value = ctx.value(ctx, node)
    if value is None:
        return None
    if not value.type.constant:
        ctx.error(Code.NOT_CONSTANT, node.span, "'group' is known at compile time; this is not")
        return None
    if not ctx.dtypes.is_integer(value.type.dtype) or (
        isinstance(value, ir.Constant) and int(value.value) < 1
    ):
        ctx.error(Code.BAD_GRID, node.span, "'group' is a positive integer")
        return None
    if sum(axis.block is not None for axis in grid.axes) < 2:
        ctx.error(
            Code.BAD_GRID,
            node.span,
            "'group' orders the programs of two dimensions with 'by'; this grid has fewer",
        )
        return None
    return value


# Tiles


def _tile(
    ctx: Context,
    ident: ast.Ident,
    role: str,
    start: ast.Expr | None,
    stop: ast.Expr,
    block: ast.Expr | None,
) -> ir.Tile | None:
    first = _bound(ctx, start) if start is not None else names.constant(ident.span, 0)
    end = _bound(ctx, stop)
    checked = None if block is None else declarations.check_block(ctx, block)
    if first is None or end is None or (block is not None and checked is None):
        return None
    key = ctx.key(ident.name)
    if checked is not None:
        ctx.block_sizes[key] = checked[1]
    elif role == "whole" and isinstance(end, ir.Constant):
        ctx.block_sizes[key] = (1 << max(int(end.value) - 1, 0).bit_length(),)
    return ir.Tile(
        span=ident.span,
        key=key,
        name=ident.name,
        role=role,  # type: ignore[arg-type]
        start=first,
        stop=end,
        block=None if checked is None else checked[0],
        scalar=block is None and role != "whole",
    )


def _bound(ctx: Context, node: ast.Expr) -> ir.Expr | None:
    value = ctx.value(ctx, node)
    if value is None:
        return None
    if not ctx.dtypes.is_integer(value.type.dtype):
        ctx.error(
            Code.BAD_TILE,
            node.span,
            f"the range of a tile is an integer; this is {ctx.dtypes.why(value.type.dtype, {0, 2})}",
        )
        return None
    if value.type.tiles:
        ctx.error(
            Code.AXIS_MISMATCH,
            node.span,
            f"the range of a tile is a scalar; this {varies(value.type.tiles)}",
            help="the bounds of a tile are its 'start' and its 'stop'"
            if isinstance(value, ir.TileRef)
            else None,
        )
        return None
    return value


def _whole(ctx: Context, node: ast.Assign, call: ast.Call) -> ir.Statement | None:
    if node.annotation is not None:
        ctx.error(Code.BAD_TILE, node.annotation.span, "a tile has no annotation")
    tile = None
    if len(call.arguments) != 1 or call.keywords:
        ctx.error(
            Code.BAD_CALL,
            call.span,
            f"'whole' takes one dimension; this has {len(call.arguments) + len(call.keywords)}",
        )
    elif ctx.is_taken(node.target):
        return None
    else:
        (size,) = call.arguments
        tile = _tile(ctx, node.target, "whole", None, size, None)
        if tile is not None and not tile.stop.type.constant:
            ctx.error(
                Code.NOT_CONSTANT,
                size.span,
                "'whole' covers a size that is known at compile time; this is not",
                help="walk it with a loop: 'for n in N by BLOCK:'",
            )
            tile = None
    ctx.declare(node.target, TileName(node.target.name, node.target.span, tile))
    return None if tile is None else ir.Whole(span=node.span, tile=tile)


# Statements


def statements(ctx: Context, nodes: tuple[ast.Statement, ...]) -> tuple[ir.Statement, ...]:
    made = (_statement(ctx, node) for node in nodes)
    return tuple(statement for statement in made if statement is not None)


def _statement(ctx: Context, node: ast.Statement) -> ir.Statement | None:
    match node:
        case ast.Assign(value=ast.Call(function=ast.Ident(name="whole")) as call):
            return _whole(ctx, node, call)
        case ast.Assign():
            return _assign(ctx, node)
        case ast.AugAssign():
            return _augmented(ctx, node)
        case ast.Store():
            return points.store(ctx, node)
        case ast.Accumulate():
            return points.accumulate(ctx, node)
        case ast.For():
            return _for(ctx, node)
        case ast.If():
            return _if(ctx, node)
        case ast.Grid():
            ctx.error(
                Code.BAD_GRID,
                _head(node),
                "the grid is the outermost loop",
                help="inside of it, a loop is 'for k in K by BLOCK:'",
            )
            return None
        case ast.Pass():
            return None
        case _:
            assert_never(node)


def _for(ctx: Context, node: ast.For) -> ir.Statement | None:
    tile = _tile(ctx, node.target, "loop", node.start, node.stop, node.block)
    name = TileName(node.target.name, node.target.span, tile)
    ctx.open(Block("for", node.span, tile=name))
    ctx.declare(node.target, name)
    if tile is not None:
        ctx.loops.append(tile)
    body = statements(ctx, node.body)
    if tile is not None:
        ctx.loops.pop()
    ctx.close()
    return None if tile is None else ir.For(span=node.span, tile=tile, body=body)


def _if(ctx: Context, node: ast.If) -> ir.Statement | None:
    ctx.ifs += 1
    number, path, before, known = ctx.ifs, ctx.path, ctx.present, ctx.conditions
    count = len(node.branches) + bool(node.orelse)
    shared: dict[str, Variable] = {}
    blocks: list[Block] = []
    made: list[tuple[ir.Expr, tuple[ir.Statement, ...]]] = []
    good = True

    def branch(index: int, span: Span, body: tuple[ast.Statement, ...]) -> tuple[ir.Statement, ...]:
        ctx.path = (*path, Branch(number, index, count, bool(node.orelse)))
        ctx.open(Block("branch", span, shared=shared))
        checked = statements(ctx, body)
        block = ctx.close()
        blocks.append(block)
        for name, symbol in block.names.items():
            if isinstance(symbol, Variable):
                shared.setdefault(name, symbol)
        return checked

    others = before
    for index, part in enumerate(node.branches):
        ctx.present = others
        condition = ctx.condition(ctx, part.condition)
        if condition is not None and condition.type.constant:
            ctx.present = others | implied(condition, True)
            others |= implied(condition, False)
        elif condition is None:
            # What it would have told is not known; no need to complain about that too.
            ctx.present = others | _mentioned(ctx, part.condition)
        earlier = ctx.conditions
        if condition is not None:
            ctx.conditions = (*earlier, condition)
        body = branch(index, part.span, part.body)
        ctx.conditions = earlier if condition is None else (*earlier, negated(condition))
        if condition is None:
            good = False
        else:
            made.append((condition, body))
    ctx.present = others
    orelse = branch(len(node.branches), node.span, node.orelse) if node.orelse else ()
    ctx.path, ctx.present, ctx.conditions = path, before, known
    if node.orelse:
        _keep_common(ctx, blocks)
    return ir.If(span=node.span, branches=tuple(made), orelse=orelse) if good else None


def _mentioned(ctx: Context, node: ast.Expr) -> frozenset[str]:
    return frozenset(name.name for name in declarations.names_in(node))


def _keep_common(ctx: Context, blocks: list[Block]) -> None:
    """Variables that every branch begins alike live on."""
    for name, symbol in blocks[0].names.items():
        found = [block.names.get(name) for block in blocks]
        if not all(isinstance(each, Variable) for each in found):
            continue
        variables = [each for each in found if isinstance(each, Variable)]
        if any(variable.type is None for variable in variables):
            kept = replace(variables[0], type=None, level=len(ctx.blocks))
        elif len({variable.key for variable in variables}) == 1:
            kept = replace(variables[0], level=len(ctx.blocks))
        else:
            continue
        assert isinstance(symbol, Variable), "one of the variables"
        ctx.blocks[-1].names[name] = kept
        ctx.gone.pop(name, None)


# Assignments


def _assign(ctx: Context, node: ast.Assign) -> ir.Statement | None:
    if node.annotation is not None:
        value = triton_calls.annotated(ctx, node.annotation, node.value)
    else:
        value = ctx.value(ctx, node.value)
    if value is not None and value.type.dtype == STRING:
        ctx.error(Code.DTYPE_MISMATCH, node.value.span, "a variable cannot hold a string")
        value = None
    old = ctx.lookup(node.target.name)
    if not isinstance(old, Variable):
        return _begin(ctx, node, value)
    if value is None or not assignment.fits(ctx, old, node.value, value, node.target.span):
        return None
    assert old.type is not None, "fits is false for an unknown type"
    return ir.Assign(span=node.span, name=old.key, type=old.type, value=value, declares=False)


def _begin(ctx: Context, node: ast.Assign, value: ir.Expr | None) -> ir.Statement | None:
    name = node.target.name
    if ctx.is_taken(node.target):
        return None
    type = None
    if value is not None:
        type = replace(value.type, constant=False) if value.type.constant else value.type
        if type.dtype == WEAK_BOOL and name not in ctx.assigned_once:
            type = replace(type, dtype=BOOL)
            value = ir.Cast(span=value.span, type=type, operand=value)
    alike = ctx.blocks[-1].shared.get(name)
    key = alike.key if alike is not None and type is not None and alike.type == type else ctx.key(name)
    variable = Variable(name, node.target.span, key, type, len(ctx.blocks))
    ctx.blocks[-1].names[name] = variable
    ctx.gone.pop(name, None)
    if value is None or type is None:
        return None
    if name in ctx.assigned_once:
        ctx.definitions[key] = value
    return ir.Assign(span=node.span, name=key, type=type, value=value, declares=True)


def _augmented(ctx: Context, node: ast.AugAssign) -> ir.Statement | None:
    old = ctx.lookup(node.target.name)
    if old is None:
        ctx.value(ctx, node.value)
        names.undefined(ctx, node.target.span, node.target.name)
        return None
    if not isinstance(old, Variable):
        ctx.value(ctx, node.value)
        if not (isinstance(old, TileName) and old.tile is None) and not isinstance(old, Alias):
            ctx.error(
                Code.DUPLICATE_NAME,
                node.target.span,
                f"'{node.target.name}' is {describe(old)}; only a variable can change",
            )
        return None
    errors = len(ctx.report)
    left = ast.Name(span=node.target.span, name=node.target.name)
    value = ctx.value(ctx, ast.Binary(span=node.span, op=node.op, left=left, right=node.value))
    if value is None or old.type is None or len(ctx.report) > errors:
        return None
    assert isinstance(value, ir.Binary), "an operation of two"
    fits = (
        assignment.fits(ctx, old, node.value, value.right, node.target.span)
        if value.right.type.tiles
        else True
    )
    if not fits or not assignment.fits(ctx, old, node.value, value, node.target.span):
        return None
    return ir.Assign(span=node.span, name=old.key, type=old.type, value=value, declares=False)

"""Helpers: each call is expanded where it stands.

    def silu(x): return x * sigmoid(x)
    silu(a + b)     Inline(bind x = a + b, then x * sigmoid(x))

A helper sees its parameters and nothing of the template; names, numbers, tiles and dtypes are put in for a
parameter as they are, any other argument is bound to a variable once. A later assignment to a name makes a
new variable, so that each is bound once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tdsl import ast, foreign, ir
from tdsl.builtins import BUILTINS
from tdsl.check import assignment, names, triton_calls
from tdsl.check.dtypes import STRING
from tdsl.check.scope import MAX_EXPANSION, Alias, Block, Context, Report, TileName, Variable
from tdsl.diagnostics import Code, Diagnostic, Label
from tdsl.types import DTYPES

_Simple = (
    ir.Constant | ir.VarRef | ir.TileRef | ir.TileEdge | ir.DimRef | ir.ParamRef | ir.SettingRef | ir.Present
)


def expand(ctx: Context, node: ast.Call) -> ir.Expr | None:
    helper = ctx.helpers[node.function.name]
    aliases: dict[str, Alias] = {}
    bindings: list[tuple[str, ir.Expr]] = []
    bound: dict[str, Variable] = {}
    complete = True
    if len(node.arguments) != len(helper.params) or node.keywords:
        count = len(helper.params)
        ctx.error(
            Code.BAD_CALL,
            node.keywords[0].span if node.keywords else node.span,
            f"'{helper.name.name}' takes {count} argument{'' if count == 1 else 's'} without names; "
            f"this has {len(node.arguments) + len(node.keywords)}"
            if not node.keywords
            else f"the arguments of '{helper.name.name}' have no names",
            Label(span=helper.name.span, text="defined here"),
        )
        complete = False
    for param, argument in zip(helper.params, node.arguments, strict=False):
        alias = _alias(ctx, argument)
        if alias is None:
            value = ctx.value(ctx, argument)
            if value is None or isinstance(value, _Simple):
                alias = Alias(value)
            else:
                key = ctx.key(param.name)
                type = replace(value.type, constant=False) if value.type.constant else value.type
                bindings.append((key, value))
                bound[param.name] = Variable(param.name, param.span, key, type, 0)
                continue
        aliases[param.name] = alias
    if not complete or helper.name.name in ctx.recursive or not _has_room(ctx, node, helper):
        return None
    block = Block("helper", helper.span, {**aliases, **bound})
    place, blocks = ctx.place, len(ctx.blocks)
    ctx.open(block)
    ctx.calls.append(node.span)
    ctx.place = "helper"
    for statement in helper.body:
        _statement(ctx, block, statement, bindings)
    result = ctx.value(ctx, helper.result)
    ctx.place = place
    ctx.calls.pop()
    ctx.blocks.pop()
    assert len(ctx.blocks) == blocks, "helpers open nothing that stays open"
    if result is None:
        return None
    if not bindings:
        return result
    return ir.Inline(
        span=node.span,
        type=replace(result.type, constant=False) if result.type.constant else result.type,
        helper=helper.name.name,
        bindings=tuple(bindings),
        result=result,
    )


def _alias(ctx: Context, argument: ast.Expr) -> Alias | None:
    if not isinstance(argument, ast.Name):
        return None
    dtype = names.dtype_named(ctx, argument.name)
    if dtype is not None:
        return Alias(None, dtype)
    symbol = ctx.lookup(argument.name)
    if isinstance(symbol, TileName) and symbol.tile is None:
        return Alias(None)
    return symbol if isinstance(symbol, Alias) else None


def _has_room(ctx: Context, node: ast.Call, helper: ast.Helper) -> bool:
    ctx.report.expanded += helper.span.end - helper.span.start
    if ctx.report.expanded <= MAX_EXPANSION:
        return True
    ctx.error(
        Code.TOO_LARGE,
        (ctx.calls or [node.span])[0],
        f"the helpers called here expand to more than {MAX_EXPANSION:,} characters",
    )
    return False


def _statement(
    ctx: Context, block: Block, statement: ast.Statement, bindings: list[tuple[str, ir.Expr]]
) -> None:
    match statement:
        case ast.Assign(target=target, annotation=annotation, value=node):
            value = triton_calls.annotated(ctx, annotation, node) if annotation else ctx.value(ctx, node)
        case ast.AugAssign(target=target, op=op, value=node):
            left = ast.Name(span=target.span, name=target.name)
            value = ctx.value(ctx, ast.Binary(span=statement.span, op=op, left=left, right=node))
        case _:
            raise AssertionError(f"the parser lets no {type(statement).__name__} into a helper")
    old = block.names.get(target.name)
    if isinstance(old, Alias) and old.value is not None and value is not None:
        old = Variable(target.name, target.span, "", old.value.type, len(ctx.blocks))
    if value is not None and value.type.dtype == STRING:
        ctx.error(Code.DTYPE_MISMATCH, node.span, "a variable cannot hold a string")
        value = None
    if value is not None and isinstance(old, Variable) and old.type is not None:
        value = _converted(ctx, old, node, value, target)
    key = ctx.key(target.name)
    kept = None if value is None else replace(value.type, constant=False)
    block.names[target.name] = Variable(target.name, target.span, key, kept, len(ctx.blocks))
    if value is not None:
        bindings.append((key, value))


def _converted(
    ctx: Context, old: Variable, node: ast.Expr, value: ir.Expr, target: ast.Ident
) -> ir.Expr | None:
    """A later value of a name, in the dtype of the first."""
    if not assignment.fits(ctx, old, node, value, target.span):
        return None
    assert old.type is not None, "fits is false for an unknown type"
    if set(value.type.tiles) != set(old.type.tiles):
        ctx.error(
            Code.AXIS_MISMATCH,
            target.span,
            f"in a helper, a later value of '{target.name}' has the tiles of the first",
            Label(span=old.span, text="first here"),
            help="give the new value a name of its own",
        )
        return None
    if value.type.dtype == old.type.dtype:
        return value
    return ir.Cast(
        span=value.span, type=replace(value.type, dtype=old.type.dtype, constant=False), operand=value
    )


# Helpers by themselves


def check_helpers(report: Report, file: ast.File) -> tuple[Mapping[str, ast.Helper], frozenset[str]]:
    """Every helper by name, and those that are recursive; with their mistakes that no call is needed for."""
    helpers: dict[str, ast.Helper] = {}
    for helper in file.helpers:
        first = helpers.setdefault(helper.name.name, helper)
        if first is not helper:
            report.add(
                Diagnostic(
                    code=Code.DUPLICATE_NAME,
                    message=f"there is a helper '{helper.name.name}' already",
                    span=helper.name.span,
                    labels=(Label(span=first.name.span, text="first here"),),
                    help="give one of them another name",
                )
            )
    calls = {name: frozenset(_called(helper)) & helpers.keys() for name, helper in helpers.items()}
    for helper in file.helpers:
        _check_names(report, helper, helpers)
    return helpers, _check_recursion(report, helpers, calls)


def _check_recursion(
    report: Report, helpers: Mapping[str, ast.Helper], calls: Mapping[str, frozenset[str]]
) -> frozenset[str]:
    recursive: set[str] = set()
    for name in helpers:
        if name in recursive:
            continue
        cycle = _cycle(name, calls)
        if cycle:
            recursive.update(cycle)
            way = (
                " calls ".join(f"'{each}'" for each in (*cycle, name))
                if len(cycle) > 1
                else f"'{name}' calls itself"
            )
            report.add(
                Diagnostic(
                    code=Code.RECURSION,
                    message=f"{way}; a helper is expanded where it is called, so this has no end",
                    span=helpers[name].name.span,
                )
            )
    return frozenset(recursive)


def _cycle(start: str, calls: Mapping[str, frozenset[str]]) -> list[str]:
    """A shortest way from `start` back to itself through calls; empty if there is none."""
    came: dict[str, str] = {}
    front = [start]
    while front:
        following: list[str] = []
        for name in front:
            for called in sorted(calls[name]):
                if called == start:
                    way = [name]
                    while way[-1] != start:
                        way.append(came[way[-1]])
                    return way[::-1]
                if called not in came:
                    came[called] = name
                    following.append(called)
        front = following
    return []


def _nodes(node: ast.Node) -> Iterator[ast.Node]:
    """`node` and what is inside it, in the order of the text."""
    stack: list[object] = [node]
    while stack:
        this = stack.pop()
        if isinstance(this, tuple):
            stack.extend(reversed(this))
        elif isinstance(this, ast.Node):
            yield this
            stack.extend(reversed([value for key, value in vars(this).items() if key != "span"]))


def _called(helper: ast.Helper) -> Iterator[str]:
    for part in (*helper.body, helper.result):
        for node in _nodes(part):
            if isinstance(node, ast.Call):
                yield node.function.name


def _check_names(report: Report, helper: ast.Helper, helpers: Mapping[str, ast.Helper]) -> None:
    ctx = Context(report=report, helpers=helpers, recursive=frozenset())
    ctx.open(Block("helper", helper.span))
    known: dict[str, ast.Ident] = {}
    for param in helper.params:
        if param.name in known:
            ctx.error(
                Code.DUPLICATE_NAME,
                param.span,
                f"'{param.name}' is a parameter already",
                Label(span=known[param.name].span, text="first here"),
            )
        elif param.name in helpers:
            ctx.error(Code.DUPLICATE_NAME, param.span, f"'{param.name}' is a helper already")
        known.setdefault(param.name, param)
    for statement in helper.body:
        assert isinstance(statement, ast.Assign | ast.AugAssign), "the parser lets nothing else into a helper"
        if isinstance(statement, ast.AugAssign) and statement.target.name not in known:
            _unknown(ctx, statement.target, known)
        if isinstance(statement, ast.Assign) and statement.annotation is not None:
            for tile in statement.annotation.tiles:
                if tile.name not in known:
                    _unknown(ctx, tile, known)
        _check_expression(ctx, statement.value, known)
        if statement.target.name in helpers:
            ctx.error(
                Code.DUPLICATE_NAME, statement.target.span, f"'{statement.target.name}' is a helper already"
            )
        known.setdefault(statement.target.name, statement.target)
    _check_expression(ctx, helper.result, known)


def _unknown(ctx: Context, node: ast.Ident | ast.Name, known: Mapping[str, ast.Ident]) -> None:
    if node.name in BUILTINS or node.name in DTYPES or node.name in ctx.helpers:
        return  # what it is used for is the mistake; a call of the helper tells
    help = foreign.VALUES.get(node.name)
    if help is None and (near := ctx.suggest(node.name, [*known, "inf", "nan", "true", "false"])):
        help = f"did you mean '{near}'?"
    help = help or "a helper knows its parameters and nothing of the template"
    ctx.missing(Code.UNKNOWN_NAME, node.span, node.name, f"there is no '{node.name}' here", help=help)


def _check_expression(ctx: Context, expr: ast.Expr, known: Mapping[str, ast.Ident]) -> None:
    for node in _nodes(expr):
        match node:
            case ast.Name(name=name) if name not in known and name not in ("inf", "nan"):
                _unknown(ctx, node, known)
            case ast.TileBound(tile=tile) if tile.name not in known:
                _unknown(ctx, tile, known)
            case ast.Load():
                ctx.error(
                    Code.BAD_POINT,
                    node.span,
                    "a helper has no load points",
                    help="load in the template, and hand the value over",
                )
            case ast.Call(function=function) if function.name not in known:
                name = function.name
                if name not in BUILTINS and name not in DTYPES and name not in ctx.helpers:
                    help = foreign.function(name)
                    if help is None and (near := ctx.suggest(name, [*BUILTINS, *ctx.helpers, *DTYPES])):
                        help = f"did you mean '{near}'?"
                    help = help or "a dtype variable is a parameter here: def f(x, T)"
                    message = f"there is no function '{name}'"
                    ctx.missing(Code.UNKNOWN_NAME, function.span, name, message, help=help)

"""Declarations: let, config, tune, and the blocks that they give to `by`.

    config BLOCK=128, num_warps=4                    two candidates that set BLOCK and num_warps
    config BLOCK=64, num_warps=2
    tune BLOCK in (64, 128), num_warps in (2, 4)     four

A value of a config is made of numbers, dimensions and const parameters; a `let` may use what configs set.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tdsl import ast, ir
from tdsl.check.dtypes import STRING
from tdsl.check.scope import MAX_LANES, Context, Setting, listing
from tdsl.diagnostics import Code, Label
from tdsl.options import OPTIONS
from tdsl.source import Span

_MAX_CANDIDATES = 1000


def check_declarations(
    ctx: Context, template: ast.Template
) -> tuple[tuple[ir.Let, ...], tuple[ir.Candidate, ...]]:
    configs = [node for node in template.declarations if isinstance(node, ast.Config | ast.Tune)]
    lets = [node for node in template.declarations if isinstance(node, ast.Let)]
    settable = {item.name.name for config in configs for item in config.items}
    settable |= {let.name.name for let in lets}
    points = [_points(ctx, config, settable) for config in configs]
    _check_count(ctx, configs, points)
    _check_names(ctx, configs)
    _declare(ctx, configs, points)
    made = tuple(let for let in (_let(ctx, node) for node in lets) if let is not None)
    candidates: list[ir.Candidate] = []
    for config, choices in zip(configs, points, strict=True):
        condition = None if config.condition is None else _condition(ctx, config.condition)
        for items in choices:
            candidates.append(
                ir.Candidate(
                    span=config.span,
                    items=tuple((name, value) for name, value in items.items() if value is not None),
                    condition=condition,
                )
            )
    if not configs:
        candidates.append(ir.Candidate(span=template.name.span, items=(), condition=None))
    return made, tuple(candidates)


_Point = dict[str, ir.Expr | None]


def _points(ctx: Context, config: ast.Config | ast.Tune, settable: set[str]) -> list[_Point]:
    """The candidates of one declaration: a value for each name."""
    columns: dict[str, list[ir.Expr | None]] = {}
    for item in config.items:
        name = item.name.name
        if name in columns:
            ctx.error(Code.BAD_CONFIG, item.name.span, f"'{name}' is set twice")
            continue
        columns[name] = [_value(ctx, name, value, settable) for value in item.values]
    count = math.prod(len(values) for values in columns.values())
    if count > _MAX_CANDIDATES:
        _report_count(ctx, config, count)
        return [{name: values[0] for name, values in columns.items()}]
    return [dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values())]


def _check_count(ctx: Context, configs: list[ast.Config | ast.Tune], points: list[list[_Point]]) -> None:
    total = 0
    for config, choices in zip(configs, points, strict=True):
        total += len(choices)
        if total > _MAX_CANDIDATES:
            _report_count(ctx, config, total)
            del choices[1:]


def _report_count(ctx: Context, config: ast.Config | ast.Tune, count: int) -> None:
    ctx.error(
        Code.BAD_CONFIG,
        config.span,
        f"this makes {count:,} candidates; {_MAX_CANDIDATES:,} are possible",
        help="leave some values out, or leave combinations out with several 'tune' lines",
    )


def _value(ctx: Context, name: str, node: ast.Expr, settable: set[str]) -> ir.Expr | None:
    for used in names_in(node):
        if used.name in settable:
            ctx.used.add(used.name)
            ctx.error(
                Code.BAD_CONFIG,
                used.span,
                f"a value of a config cannot use '{used.name}', which is a setting itself",
                help="it is made of numbers, dimensions and const parameters",
            )
            return None
    value = ctx.value(ctx, node)
    if value is None:
        return None
    if not value.type.constant:
        _report_not_constant(ctx, node, f"'{name}'")
        return None
    if value.type.dtype == STRING or (name in OPTIONS and not ctx.dtypes.is_integer(value.type.dtype)):
        kind = "an integer" if name in OPTIONS else "a number"
        ctx.error(Code.BAD_CONFIG, node.span, f"'{name}' is {kind}")
        return None
    if name in OPTIONS and isinstance(value, ir.Constant) and value.value not in OPTIONS[name].values:
        ctx.error(Code.BAD_CONFIG, node.span, f"'{name}' is {OPTIONS[name].words}; not {value.value}")
        return None
    return value


def names_in(node: ast.Expr) -> Iterator[ast.Name]:
    stack: list[object] = [node]
    while stack:
        this = stack.pop()
        if isinstance(this, ast.Name):
            yield this
        elif isinstance(this, tuple):
            stack.extend(this)
        elif isinstance(this, ast.Node):
            stack.extend(value for key, value in vars(this).items() if key != "span")


def _report_not_constant(ctx: Context, node: ast.Expr, who: str) -> None:
    ctx.error(
        Code.NOT_CONSTANT,
        node.span,
        f"{who} is known at compile time; this is not",
        help="it is made of numbers, dimensions, const parameters and settings",
    )


def _check_names(ctx: Context, configs: list[ast.Config | ast.Tune]) -> None:
    """That every config sets the same names. A name that is spelled otherwise in a few is missing in those."""
    first: dict[str, Span] = {}
    counts: Counter[str] = Counter()
    for config in configs:
        own = {item.name.name: item.name.span for item in config.items if item.name.name not in OPTIONS}
        first = {**own, **first}
        counts.update(own.keys())
    usual = [name for name in first if 2 * counts[name] >= len(configs)]
    explained: set[str] = set()
    for config in configs:
        own = {item.name.name: item.name.span for item in config.items if item.name.name not in OPTIONS}
        missing = [name for name in usual if name not in own and name not in explained]
        others = [name for name in own if counts[name] < len(configs) and name not in explained]
        if missing:
            word = "config" if isinstance(config, ast.Config) else "tune"
            near = ctx.suggest(missing[0], [name for name in others if counts[name] < counts[missing[0]]])
            ctx.error(
                Code.BAD_CONFIG,
                config.span,
                f"this {word} does not set {listing(repr(name) for name in missing)}",
                Label(span=first[missing[0]], text="set here"),
                help=f"did you mean '{missing[0]}' where it sets '{near}'?"
                if near
                else "every config sets the same names",
            )
            ctx.used.update(missing)
            explained.update(others)
        for name in others:
            if name not in usual and name not in explained:
                explained.add(name)
                message = f"most configs do not set '{name}'"
                ctx.error(Code.BAD_CONFIG, own[name], message, help="every config sets the same names")
    ctx.used |= explained


def _declare(ctx: Context, configs: list[ast.Config | ast.Tune], points: list[list[_Point]]) -> None:
    flat = [point for choices in points for point in choices]
    ctx.candidates = max(len(flat), 1)
    seen: set[str] = set()
    for config in configs:
        for item in config.items:
            name = item.name.name
            if name in OPTIONS or name in seen:
                continue
            seen.add(name)
            values = tuple(point.get(name) for point in flat)
            known = [value for value in values if value is not None]
            type = None
            if len(known) == len(values):
                type = ir.Type(
                    dtype=ctx.dtypes.promote(*(value.type.dtype for value in known)), constant=True
                )
            setting = Setting(name, item.name.span, "config", type, values)
            ctx.declare(item.name, setting)
            numbers = [value.value for value in known if isinstance(value, ir.Constant)]
            if numbers and len(numbers) == len(values) and all(_is_int(number) for number in numbers):
                ctx.least[name] = min(int(number) for number in numbers)


def _is_int(value: bool | int | float | str) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _let(ctx: Context, node: ast.Let) -> ir.Let | None:
    value = ctx.value(ctx, node.value)
    if value is not None and value.type.dtype == STRING:
        ctx.error(Code.BAD_VALUE, node.value.span, "'let' binds a number, not a string")
        value = None
    if value is not None and not value.type.constant:
        _report_not_constant(ctx, node.value, f"'{node.name.name}'")
        value = None
    type = None if value is None else replace(value.type, constant=True)
    ctx.declare(node.name, Setting(node.name.name, node.name.span, "let", type, (value,)))
    if value is None:
        return None
    ctx.settings.setdefault(node.name.name, value)
    return ir.Let(span=node.span, name=node.name.name, value=value)


def _condition(ctx: Context, node: ast.Expr) -> ir.Expr | None:
    value = ctx.condition(ctx, node)
    if value is not None and not value.type.constant:
        _report_not_constant(ctx, node, "the condition of a config")
        return None
    return value


# Blocks


def check_block(ctx: Context, node: ast.Expr) -> tuple[ir.Expr, tuple[int | None, ...]] | None:
    """What follows `by`: a compile-time power of two; and its size per candidate, as far as written."""
    if isinstance(node, ast.Name) and ctx.lookup(node.name) is None and node.name not in ctx.gone:
        settings = [name for name, symbol in ctx.blocks[0].names.items() if isinstance(symbol, Setting)]
        near = ctx.suggest(node.name, settings)
        ctx.used.update(settings)  # one of them was meant, so that it is not unused
        help = (
            f"did you mean '{near}'?"
            if near
            else f"set it: 'config {node.name}=64', or 'let {node.name} = ...'"
        )
        ctx.missing(
            Code.UNKNOWN_NAME, node.span, node.name, f"there is no block size '{node.name}'", help=help
        )
        return None
    value = ctx.value(ctx, node)
    if value is None:
        return None
    if not value.type.constant:
        _report_not_constant(ctx, node, "a block size")
        return None
    if not ctx.dtypes.is_integer(value.type.dtype):
        ctx.error(Code.BAD_BLOCK, node.span, f"a block size is an integer; this is {value.type.dtype}")
        return None
    sizes: list[int | None] = []
    good = True
    for written in _written(ctx, node, value):
        if not isinstance(written, ir.Constant) or not isinstance(written.value, int):
            sizes.append(None)
            continue
        size = written.value
        if size < 1 or size & (size - 1) or size > MAX_LANES:
            below = 1 << max(size.bit_length() - 1, 0)
            near = f"use {below} or {2 * below}" if 1 < size < MAX_LANES else None
            ctx.error(
                Code.BAD_BLOCK,
                written.span,
                f"a block is a power of two from 1 to {MAX_LANES}; this is {size}",
                *(() if written is value else (Label(span=node.span, text="used here"),)),
                help=near,
            )
            good = False
        sizes.append(size)
    return (value, tuple(sizes)) if good else None


def _written(ctx: Context, node: ast.Expr, value: ir.Expr) -> tuple[ir.Expr | None, ...]:
    """The expressions behind a block size, one per candidate or one in all."""
    while isinstance(value, ir.SettingRef):
        symbol = ctx.blocks[0].names.get(value.name)
        assert isinstance(symbol, Setting), "a reference to a setting"
        if symbol.kind == "config":
            return symbol.values
        (inner,) = symbol.values
        if inner is None:
            return (None,)
        value = inner
    return (value,)


def check_used(ctx: Context, template: ast.Template) -> None:
    """Settings that nothing uses."""
    for node in template.declarations:
        idents = [node.name] if isinstance(node, ast.Let) else [item.name for item in node.items]
        for ident in idents:
            symbol = ctx.blocks[0].names.get(ident.name)
            if not isinstance(symbol, Setting) or symbol.span != ident.span or ident.name in ctx.used:
                continue
            near = ctx.suggest(ident.name, OPTIONS) if symbol.kind == "config" else None
            ctx.error(
                Code.BAD_CONFIG,
                ident.span,
                f"'{ident.name}' is not used",
                help=f"did you mean '{near}'?" if near else "use it after 'by', or leave it out",
            )

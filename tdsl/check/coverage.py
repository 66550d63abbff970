"""Every output is stored exactly once; what is read of an `inout` parameter is read before its own store.

    if fast:                       one store in each branch counts as one store
        store C[m, n] = a
    else:
        store C[m, n] = b

That a single store covers its tensor is left to `points`.
"""

from __future__ import annotations

from tdsl import ast, ir
from tdsl.check.scope import Branch, Context, StorePoint
from tdsl.diagnostics import Code, Label
from tdsl.source import Span


def check_stores(ctx: Context, template: ast.Template, written: dict[str, Span]) -> None:
    """`written`: the outputs and `inout` parameters, and where each is declared."""
    for name, span in written.items():
        if name in ctx.duplicated:
            continue
        stores = ctx.stores.get(name, [])
        added = ctx.accumulates.get(name, [])
        if stores and added:
            ctx.error(
                Code.STORED_TWICE,
                added[0],
                f"'{name}' is stored and accumulated",
                Label(span=stores[0].span, text="stored here"),
                help="an output is either stored or accumulated",
            )
        elif not stores and not added and name in ctx.meant:
            continue
        elif not stores and not added:
            ctx.error(
                Code.NOT_STORED, span, f"'{name}' is never stored", help=f"add 'store {name}[...] = ...'"
            )
        elif stores and _check_once(ctx, name, stores, 0):
            for point in ctx.inout_loads.get(name, ()):
                for store in stores:
                    if not _exclude(point.path, store.path):
                        _check_order(ctx, name, point.load, store)


def _check_once(ctx: Context, name: str, stores: list[StorePoint], depth: int) -> bool:
    """Whether these stores, all in one branch down to `depth`, count as one."""
    groups: dict[object, list[StorePoint]] = {}
    for store in stores:
        key: object = store.path[depth].statement if len(store.path) > depth else ("here", store.span.start)
        groups.setdefault(key, []).append(store)
    first, *more = groups.values()
    if more:
        ctx.error(
            Code.STORED_TWICE,
            more[0][0].span,
            f"'{name}' is stored already",
            Label(span=first[0].span, text="stored here"),
            help="an output has one store; 'if' and 'else' may have one each",
        )
        return False
    if len(first[0].path) == depth:
        return True
    branch: Branch = first[0].path[depth]
    by_branch: dict[int, list[StorePoint]] = {}
    for store in first:
        by_branch.setdefault(store.path[depth].index, []).append(store)
    if not branch.complete or len(by_branch) < branch.count:
        ctx.error(
            Code.PARTIAL_STORE,
            first[0].span,
            f"'{name}' is stored in some branches of an 'if' and not in others",
            help="store it in every branch, 'else' among them, or after the 'if'",
        )
        return False
    return all([_check_once(ctx, name, group, depth + 1) for group in by_branch.values()])


def _exclude(a: tuple[Branch, ...], b: tuple[Branch, ...]) -> bool:
    return any(x.statement == y.statement and x.index != y.index for x in a for y in b)


def _check_order(ctx: Context, name: str, load: ir.Load, store: StorePoint) -> None:
    if store.subscripts is None:
        return
    label = Label(span=store.span, text="written here")
    if tuple(item.value for item in load.subscripts) != tuple(item.value for item in store.subscripts):
        here = ", ".join(item.span.text for item in store.subscripts)
        ctx.error(
            Code.INOUT_RACE,
            load.span,
            f"this reads '{name}' at another place than is stored; another program may have written it already",
            label,
            help=f"of an 'inout' parameter, read what you store: load {name}[{here}]",
        )
    elif load.span.start > store.span.start and not (store.span.start <= load.span.start < store.span.end):
        ctx.error(
            Code.INOUT_RACE,
            load.span,
            f"this reads '{name}' after it was stored",
            label,
            help="load it before the store and keep the value in a variable",
        )

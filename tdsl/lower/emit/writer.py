"""The growing body of a kernel: lines and slots at an indent, unique names, and lines that may turn out
unneeded."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tdsl.lower.emit import syntax
from tdsl.lower.emit.triton import Item, Line
from tdsl.lower.emit.values import Value
from tdsl.source import Span

Deferred = Callable[[], Item | None]  # asked once, after everything is written


class Writer:
    def __init__(self) -> None:
        self.indent = 0
        self.span: Span | None = None
        self._items: list[Item | Deferred] = []
        self._taken: set[str] = set()

    def name(self, base: str) -> str:
        """A name that nothing else in the kernel has: `base`, or `base` and a number. Never ends in
        an underscore, so it never is an author's."""
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}{count}"
        self._taken.add(name)
        return name

    def line(self, statement: ast.stmt | None) -> None:
        self._items.append(Line(span=self.span, indent=self.indent, code=statement))

    def assign(self, name: str, value: syntax.Part) -> None:
        self.line(syntax.assign(name, value))

    def named(self, value: Value, base: str) -> Value:
        """`value` under a name, so that using it twice computes it once."""
        if value.is_named:
            return value
        name = self.name(base)
        self.assign(name, value.code)
        return value.of(name)

    def add(self, item: Item | Deferred) -> None:
        self._items.append(item)

    def line_if(self, wanted: Callable[[], bool], statement: ast.stmt) -> None:
        """A line that is there only if, in the end, it is wanted."""
        line = Line(span=self.span, indent=self.indent, code=statement)
        self._items.append(lambda: line if wanted() else None)

    @contextmanager
    def block(self) -> Iterator[None]:
        """An indented block; an empty one gets `pass`."""
        self.indent += 1
        before = len(self._items)
        yield
        if len(self._items) == before:
            self.line(ast.Pass())
        self.indent -= 1

    def finish(self) -> tuple[Item, ...]:
        # Last first: a deferred line asks whether anything after it needed its name.
        items: list[Item] = []
        for item in reversed(self._items):
            settled = item() if callable(item) else item
            if settled is not None:
                items.append(settled)
        return tuple(reversed(items))

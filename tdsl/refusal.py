"""What was not fused into a template's kernel, and why: a record that a person can ask for.

    torch.compile(program)(a, b)
    print(tdsl.refusals())

    model.tdsl:9: matmul: sigmoid is kept out of load B, 32 times: computing it at the point costs about 370 us ...

A model has a layer many times over, so what is alike is one, with its first place and how often it was. `lower.inductor`
decides and records; here is only what is kept. Each is a line of the logger `tdsl.fusion`, too, the first time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from tdsl.source import Span

LIMIT = 1000  # so many that differ are kept, the newest ones: a process may compile for days
_log = logging.getLogger("tdsl.fusion")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What was in the way of fusing one thing with another, and what to do about it: a clause each."""

    text: str
    help: str


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Work around one point of a template that is not in the template's kernel, though it could have been.

    `nodes`: the work, by the names that it has in the graph, such as 'sigmoid' or 'mul_1', where it was met first.
    `targets`: the operators that those call, such as 'aten.sigmoid.default'. `span`: the load or store point. `count`: how
    often the same work was kept out of the same point for the same reason.
    """

    template: str
    kind: Literal["prologue", "epilogue"]
    point: str  # the load point ('A', 'A_1') or the output
    span: Span
    nodes: tuple[str, ...]
    targets: tuple[str, ...]
    reason: str
    help: str
    count: int = 1

    @property
    def sort(self) -> tuple[Any, ...]:
        """What those have in common that are counted as one."""
        return self.template, self.kind, self.point, self.span, self.targets, self.reason, self.help

    @property
    def brief(self) -> str:
        """What is kept out of which point."""
        work = ", ".join(self.nodes[:4]) + (", ..." if len(self.nodes) > 4 else "")
        way = "load" if self.kind == "prologue" else "store"
        times = f", {self.count} times" if self.count > 1 else ""
        return f"{work or 'what is there'} is kept out of {way} {self.point}{times}"

    def __str__(self) -> str:
        line, _ = self.span.source.position(self.span.start)
        place = f"{self.span.source.name}:{line}: {self.template}"
        return f"{place}: {self.brief}: {self.reason}; {self.help}"


class Refusals(tuple[Refusal, ...]):
    """Printed, a line for each."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    __repr__ = __str__


_kept: dict[tuple[Any, ...], Refusal] = {}
_watching: list[list[Refusal]] = []


def refusals() -> Refusals:
    """What compilations in this process kept out of templates' kernels, each once, with how often it was (`count`). What was
    met again last comes last.

    A graph that comes out of a cache on disk was compiled by another process and adds nothing; its code has
    the same lines as comments (`TORCH_LOGS=output_code`). At most 1000 that differ are kept.
    """
    return Refusals(_kept.values())


def grouped(found: Iterable[Refusal]) -> Refusals:
    """Those that differ, in their order, each counted."""
    groups: dict[tuple[Any, ...], Refusal] = {}
    for refusal in found:
        _count(groups, refusal)
    return Refusals(groups.values())


def _count(groups: dict[tuple[Any, ...], Refusal], refusal: Refusal) -> None:
    first = groups.get(refusal.sort)
    groups[refusal.sort] = replace(first, count=first.count + refusal.count) if first else refusal


def record(refusal: Refusal) -> None:
    """Keeps `refusal`, and logs it the first time."""
    for seen in _watching:
        seen.append(refusal)
    if refusal.sort not in _kept:
        _log.info("%s", refusal)
    _count(_kept, refusal)
    _kept[refusal.sort] = _kept.pop(refusal.sort)
    while len(_kept) > LIMIT:
        del _kept[next(iter(_kept))]


@contextmanager
def watch() -> Iterator[list[Refusal]]:
    """What is recorded meanwhile, one by one, seen before or not."""
    seen: list[Refusal] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching[:] = [other for other in _watching if other is not seen]

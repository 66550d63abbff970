"""What was not fused into a template's kernel, and why: a record that a person can ask for.

    torch.compile(program)(a, b)
    print(*tdsl.refusals(), sep="\n")

    model.tdsl:9: matmul: sigmoid is kept out of load B: computing it at the point costs about 370 us ...

`lower.inductor` decides and records; here is only what is kept. Each is a line of the logger `tdsl.fusion`, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from tdsl.source import Span

LIMIT = 1000  # so many are kept, the newest ones: a process may compile for days
_log = logging.getLogger("tdsl.fusion")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What was in the way of fusing one thing with another, and what to do about it: a clause each."""

    text: str
    help: str


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Work around one point of a template that is not in the template's kernel, though it could have been.

    `nodes`: the work, by the names that it has in the graph, such as 'sigmoid' or 'mul_1'. `targets`: the
    operators that those call, such as 'aten.sigmoid.default'. `span`: the load or store point.
    """

    template: str
    kind: Literal["prologue", "epilogue"]
    point: str  # the load point ('A', 'A_1') or the output
    span: Span
    nodes: tuple[str, ...]
    targets: tuple[str, ...]
    reason: str
    help: str

    def __str__(self) -> str:
        line, _ = self.span.source.position(self.span.start)
        work = ", ".join(self.nodes[:4]) + (", ..." if len(self.nodes) > 4 else "")
        way = "load" if self.kind == "prologue" else "store"
        return (
            f"{self.span.source.name}:{line}: {self.template}: {work or 'what is there'} is kept out of "
            f"{way} {self.point}: {self.reason}; {self.help}"
        )


_kept: dict[Refusal, None] = {}
_watching: list[list[Refusal]] = []


def refusals() -> tuple[Refusal, ...]:
    """What compilations in this process kept out of templates' kernels, oldest first, each once.

    A graph that comes out of a cache on disk was compiled by another process and adds nothing; its code has
    the same lines as comments (`TORCH_LOGS=output_code`). At most 1000 are kept.
    """
    return tuple(_kept)


def record(refusal: Refusal) -> None:
    """Keeps `refusal`, and logs it the first time."""
    for seen in _watching:
        seen.append(refusal)
    if refusal not in _kept:
        _log.info("%s", refusal)
    _kept.pop(refusal, None)
    _kept[refusal] = None
    while len(_kept) > LIMIT:
        del _kept[next(iter(_kept))]


@contextmanager
def watch() -> Iterator[list[Refusal]]:
    """What is recorded meanwhile, seen before or not."""
    seen: list[Refusal] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching[:] = [other for other in _watching if other is not seen]

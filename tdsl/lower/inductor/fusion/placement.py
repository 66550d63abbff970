"""Which slot of a kernel each fused work goes into, or that there is none for it.

    y, mean, rstd = ln(x, ...)         y.relu()     -> behind y
    (all stored in one block)          y / rstd     -> behind y, once rstd is known too
                                       mean + col   -> behind mean

The scheduler has compared what is written with what is read, element by element; here it is asked whether
the kernel has the values at hand. What is refused becomes a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tdsl.lower.inductor.compat.names import ModularIndexing, sympy_product
from tdsl.lower.inductor.fusion.facts import Call, Reach, Result, Target, Tensor, Work
from tdsl.lower.inductor.fusion.legality import not_pointwise
from tdsl.refusal import Reason

_IN_PLACE = Reason(
    text="it writes into a tensor that exists already or is made in parts ('copy_', 'index_put', 'cat'), and not "
    "into the very one that the kernel has read",
    help="write it out of place, or pass the tensor itself as 'inout'",
)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where everything is. Results are named by their parameters."""

    epilogues: Mapping[str, Sequence[Work]] = field(default_factory=dict)  # behind each result, in order
    results_read: Mapping[str, frozenset[str]] = field(default_factory=dict)  # behind each: the other results
    # Behind each: the buffers that are computed behind other results, and behind which.
    values_read: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def place(call: Call, epilogues: Sequence[Work], prologues: Sequence[Work]) -> Placement | Reason:
    """Where the works around `call` go, or why the first of them that can go nowhere cannot."""
    results = call.open_results()
    closed = {result.buffer: result.closed for result in call.results.values() if result.closed is not None}
    # Behind which results each buffer is at hand.
    home = {buffer: {param} for buffer, param in results.items()}
    behind: dict[str, list[Work]] = {}
    results_read: dict[str, set[str]] = {}
    values_read: dict[str, dict[str, str]] = {}
    written: list[Target] = []
    for work in epilogues:
        if work.kind == "output":
            continue
        if (reason := not_pointwise([work])) is not None:
            return reason
        names = sorted({read.buffer for read in work.reads})
        for name in names:
            if name in closed:
                return closed[name]
        if any(read.whole for read in work.reads):
            return Reason(
                text="it reads a tensor as a whole, not element by element",
                help="only pointwise work can go behind a store",
            )
        sources = set().union(*(home[name] for name in names if name in home))
        param = _home(call, sources, work)
        if isinstance(param, Reason):
            return param
        values = {name: next(iter(home[name])) for name in names if name in home and name not in results}
        values = {name: other for name, other in values.items() if other != param}
        for other in values.values():
            if param in _needed(values_read, other):
                return Reason(
                    text=f"it goes behind '{param}', and reads what is computed behind '{other}', "
                    f"which needs what is computed behind '{param}'",
                    help=f"compute it from '{other}' itself",
                )
        behind.setdefault(param, []).append(work)
        stored = {results[name] for name in names if name in results}
        results_read.setdefault(param, set()).update(stored - {param})
        values_read.setdefault(param, {}).update(values)
        home |= {name: {param} for name in work.makes}
        if work.in_place:
            target = _written_in_place(call, work, param)
            if isinstance(target, Reason):
                return target
            written.append(target)
    if (reason := _other_reader(call, written, [*epilogues, *prologues])) is not None:
        return reason
    return Placement(
        epilogues=behind,
        results_read={param: frozenset(others) for param, others in results_read.items()},
        values_read=values_read,
    )


def _home(call: Call, sources: set[str], work: Work) -> str | Reason:
    """The result in whose slot a work has all that it reads: the one of its own size. One that reads none, and came
    here with one that does, can go behind any."""
    sized = []
    for param in sorted(sources) or call.open_results().values():
        if call.sizes.statically_known_equals(sympy_product(call.results[param].size), work.numel):
            if all(call.reach[param, other] is Reach.HERE for other in sources - {param}):
                return param
            sized.append(param)
    if sized:
        reach = {other: call.reach[sized[0], other] for other in sorted(sources - {sized[0]})}
        others = [other for other, its in reach.items() if its is not Reach.HERE]
        why = Reach.ANOTHER_BLOCK if Reach.ANOTHER_BLOCK in reach.values() else Reach.NOT_HELD
        return Reason(
            text=f"it needs {', '.join(map(repr, others))} where '{sized[0]}' is stored, and {why.value}",
            help="leave out 'epilogue_subtile': a tile that is stored in parts has no other result beside it"
            if call.subtiled
            else "store both in one block, with the same leading subscripts",
        )
    known = " and ".join(
        f"'{name}' has {sympy_product(call.results[name].size)}" for name in sorted(sources) or call.results
    )
    return Reason(
        text=f"it has {work.numel} elements, and {known}",
        help="only work on as many elements as are stored goes in: slice, pad or expand behind it",
    )


def _needed(values_read: Mapping[str, Mapping[str, str]], param: str) -> set[str]:
    """The results behind which something is computed that is read behind `param`, and so on."""
    direct = set(values_read.get(param, {}).values())
    return direct.union(*(_needed(values_read, other) for other in direct))


# Results that are copied back to what they were made from


def _written_in_place(call: Call, work: Work, param: str) -> Target | Reason:
    """Where `work` copies a result to, if the kernel reads that nowhere, or it is the very tensor that the
    kernel read as `inout`: then each element is written by whoever read it."""
    target, result = work.target, call.results[param]
    if target is None:
        return _IN_PLACE
    if not _readers(call, target) and not target.scattered:
        return target
    tensor = call.tensors.get(param)
    if not result.inout or tensor is None or target.buffer != tensor.buffer:
        return _IN_PLACE
    read = target.places_read.get(result.buffer)
    if read is None:
        return _IN_PLACE
    # Where the element is that was read, for the place in the result that the work copies from.
    same = any(
        call.sizes.simplify_with_ranges(there - target.place, target.ranges) == 0
        for there in _places(tensor, result, read)
    )
    return target if same else _IN_PLACE


def _places(tensor: Tensor, result: Result, read: object) -> list[object]:
    """The element of `tensor` for the element `read` of a result of the same sizes, spelled in each way that may do."""
    through = tensor.offset + sum(
        step * ModularIndexing(read, its_step, size)
        for step, its_step, size in zip(tensor.stride, result.stride, result.size, strict=True)
        if size != 1
    )
    return [through, *([tensor.offset + read] if tensor.stride == result.stride else [])]


def _other_reader(call: Call, written: Sequence[Target], works: Sequence[Work]) -> Reason | None:
    """Who else in the kernel reads what it writes to."""
    made = set().union(*(work.makes for work in works))  # new values, read from registers
    for target in written:
        others = [
            read
            for work in works
            for read in work.reads
            if read.buffer not in made and not read.memory.isdisjoint(target.memory)
        ]
        if others or _readers(call, target) > 1:
            return Reason(
                text="the kernel would write in place to a tensor that it also reads, and not as its 'inout' alone",
                help="pass a clone for one of the two, or only the tensor itself, as 'inout'",
            )
    return None


def _readers(call: Call, target: Target) -> int:
    """How many of the tensors that a call reads lie in the memory that is written."""
    return sum(not tensor.memory.isdisjoint(target.memory) for tensor in call.tensors.values())

"""Finds, in one graph, what templates can take the place of, and says of what comes near why they cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from tdsl import ir
from tdsl.diagnostics import TdslError
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.compat.names import sympy
from tdsl.operators import check_call
from tdsl.replacement import patterns
from tdsl.replacement.patterns import Attempt, Comparison, Kind, Pattern
from tdsl.replacement.recording import Reading, Recorder, Value
from tdsl.replacement.rewriting import Match
from tdsl.replacement.terms import REDUCTIONS, Term, Terms, parts, shown

MOST_PROOFS = 8  # at one place
NEAR = 0.6  # so much of a reference has to be there for what is left to be worth a word
_HEAVY = frozenset({"mm", "bmm", *REDUCTIONS})
_VIEWS = frozenset(
    [
        "view",
        "_unsafe_view",
        "reshape",
        "permute",
        "transpose",
        "t",
        "unsqueeze",
        "squeeze",
        "expand",
        "slice",
        "select",
        "detach",
        "alias",
        "clone",
    ]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spelling:
    """One way to write what a template means."""

    name: str
    function: Callable[..., Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """A template that may take the place of each of its spellings."""

    kernel: ir.Kernel
    op: torch._ops.OpOverload
    spellings: Sequence[Spelling]
    defaults: Mapping[str, Any]
    casts: bool  # whether autocast would cast its arguments


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """`match` is None for what only came near: `why` it did not."""

    wanted: Wanted
    spelling: str
    node: fx.Node
    match: Match | None = None
    why: str = ""
    share: float = 1.0  # of the reference that is there
    term: Term | None = None

    def left(self, why: str) -> Found:
        """The same, as what only came near."""
        return replace(self, match=None, why=why)


class Finding:
    """`found`, of a graph that was read."""

    def __init__(self, reading: Reading, wanted: Sequence[Wanted]) -> None:
        self.reading, self.wanted = reading, wanted
        self.recorder: Recorder = reading.recorder
        self.terms: Terms = reading.recorder.terms
        self.found: list[Found] = []
        self._patterns: dict[Any, Pattern | None] = {}
        self._dtypes = {
            dtypes.NAMES[v.term.dtype] for v in self.recorder.values if v.term.dtype in dtypes.NAMES
        }
        self._taken: set[Value] = set()
        values = self.recorder.values
        self._by_term: dict[tuple[Term, torch.device, bool], Value] = {}  # gradients are on, or off
        self._by_base: dict[tuple[Term, torch.device, bool], Value] = {}
        self._alike: dict[Term, list[Term]] = {}
        self._readers: dict[Value, list[Value | None]] = {}
        for value in values:
            device = value.tensor.device
            for term, stopped in (
                (value.term, False),
                (value.term, True),
                (self.terms.attached(value.term), True),
            ):
                self._by_term.setdefault((term, device, stopped), value)
                self._by_base.setdefault((_bare(term), device, stopped), value)
            if self._by_term[value.term, device, False] is value:
                for term in dict.fromkeys((value.term, self.terms.attached(value.term))):
                    self._alike.setdefault(patterns.core(self.terms, term), []).append(term)
            for used in _used(value):
                self._readers.setdefault(used, []).append(value)
        for used in reading.used:
            self._readers.setdefault(used, []).append(None)
        output = reading.nodes[-1]
        for node in output.all_input_nodes:
            result = reading.results.get(node)
            if isinstance(result, torch.Tensor):
                self._readers.setdefault(self.recorder.value(result), []).append(None)
        # What is calculated last comes first, so that the whole is found before its parts.
        for value in reversed(values):
            if value.made_by is not None and value not in self._taken and not _is_view(value):
                self._try(value)
        for each in wanted:
            if not any(found.wanted is each for found in self.found):
                self.found += self._begun(each)
        # What is a multiple, or a view, of what was replaced is not near to it.
        cores = {
            patterns.core(self.terms, each.term)
            for each in self.found
            if each.match is not None and each.term
        }
        self.found = [
            each
            for each in self.found
            if each.match is not None
            or each.term is None
            or patterns.core(self.terms, each.term) not in cores
        ]

    def _try(self, value: Value) -> None:
        while (
            first := next((v for v in _used(value) if _bare(v.term) is _bare(value.term)), None)
        ) is not None:
            if first.made_by is None or _is_view(first):
                break
            value = first  # `value` is a copy
        near: list[Found] = []
        for wanted in self.wanted:
            for index, output in enumerate(wanted.kernel.outputs):
                for found in self._of(value, wanted, index, output):
                    if found.match is not None:
                        self.found.append(found)
                        self._take(found.match)
                        return
                    near.append(found)
        if near:
            self.found.append(max(near, key=lambda each: each.share))

    def _of(self, value: Value, wanted: Wanted, index: int, output: ir.Tensor) -> Iterator[Found]:
        term = self.terms.attached(_bare(value.term)) if value.stopped else _bare(value.term)
        if term.dtype not in dtypes.NAMES:
            return
        device = value.tensor.device
        best: Attempt | None = None
        node = self.reading.nodes[value.at]
        name = dtypes.NAMES[term.dtype]
        kinds = [*patterns.kinds(wanted.kernel, output, term.shape, name, self._dtypes)]
        if value.term.op == "view":
            kinds += patterns.kinds(wanted.kernel, output, value.term.shape, name, self._dtypes)
        # A pattern of made-up sizes is read once for all; one of the sizes at hand is needed where some are 1, say.
        for general, kind in [(k.of_any_size(), k) for k in kinds]:
            for spelling in wanted.spellings:
                for each in (general, kind):
                    pattern = self._pattern(wanted, spelling, each, device)
                    if pattern is None:
                        continue
                    root = pattern.roots[index]
                    if root.op != term.op or root.dtype != term.dtype:
                        break
                    comparison = Comparison(pattern, self._alike, self.terms)
                    tries = 0
                    for binding in comparison.bindings(root, term):
                        tries += 1
                        if tries > MOST_PROOFS:
                            break
                        found = self._prove(value, term, wanted, spelling, pattern, index, binding)
                        yield found
                        if found.match is not None:
                            return
                    attempt = comparison.attempt
                    share = attempt.matched / patterns.size_of(root)
                    if not tries and share >= NEAR and (best is None or attempt.matched > best.matched):
                        best = attempt
                        yield Found(
                            wanted=wanted,
                            spelling=spelling.name,
                            node=node,
                            why=attempt.difference,
                            share=share,
                            term=term,
                        )

    def _begun(self, wanted: Wanted) -> Iterator[Found]:
        """Where a graph begins as a reference does, with its last reduction or product, and goes on otherwise."""
        for key, pattern in list(self._patterns.items()):
            if key[0] is not wanted or pattern is None:
                continue
            begun = next((term for term in _inner(pattern.roots[0]) if term.op in _HEAVY), None)
            if begun is None:
                continue
            for value in self.recorder.values:
                term = patterns.core(self.terms, value.term)
                if value.made_by is None or _is_view(value) or value in self._taken or term.op != begun.op:
                    continue
                if next(Comparison(pattern, self._alike, self.terms).bindings(begun, term), None) is None:
                    continue
                last = value
                for _ in range(patterns.size_of(pattern.roots[0])):
                    readers = [reader for reader in self._readers.get(last, ()) if reader is not None]
                    last = readers[0] if len(readers) == 1 else last
                why = f"the reference has {shown(pattern.roots[0], 5)} where the graph has {shown(last.term, 5)}"
                yield Found(
                    wanted=wanted, spelling=key[1].name, node=self.reading.nodes[last.at], why=why, share=NEAR
                )
                return

    def _pattern(
        self, wanted: Wanted, spelling: Spelling, kind: Kind, device: torch.device
    ) -> Pattern | None:
        key = (wanted, spelling, kind, device)
        if key not in self._patterns:
            self._patterns[key] = patterns.read(
                wanted.kernel, spelling.function, kind, self.terms, self.reading.fake_mode, device
            )
        return self._patterns[key]

    def _prove(
        self,
        value: Value,
        term: Term,
        wanted: Wanted,
        spelling: Spelling,
        pattern: Pattern,
        index: int,
        binding: Mapping[str, Any],
    ) -> Found:
        node = self.reading.nodes[value.at]

        def near(why: str) -> Found:
            return Found(wanted=wanted, spelling=spelling.name, node=node, why=why, term=term)

        consts = dict(pattern.kind.consts)
        known: list[tuple[torch.Tensor, Term]] = []
        arguments: dict[str, Any] = {}
        given: list[Any] = []
        for param in wanted.kernel.params:
            name = param.name
            if isinstance(param, ir.Tensor):
                if param.optional and name not in pattern.kind.present:
                    arguments[name] = None
                    given.append(None)
                    continue
                if name not in binding:
                    return near(f"nothing says what '{name}' is")
                tensor = self._tensor(binding[name], value)
                if tensor is None:
                    return near(f"what would be '{name}' is no tensor of the graph: {shown(binding[name])}")
                tensor = tensor.detach()  # nothing is differentiated
                known.append((tensor, binding[name]))
                arguments[name] = binding[name]
                given.append(tensor)
            else:
                number = binding.get(name, consts.get(name, wanted.defaults.get(name)))
                if number is None or (
                    name in pattern.numbers and name not in binding and number == pattern.numbers[name]
                ):
                    number = wanted.defaults.get(name)
                if number is None:
                    return near(f"nothing says what '{name}' is")
                arguments[name] = number
                number = self._plain(param, number)
                if number is None:
                    return near(f"'{name}' is no number of the graph")
                is_dtype = isinstance(param, ir.Const) and param.type == "dtype"
                given.append(dtypes.TORCH[number] if is_dtype else number)
        try:
            results = patterns.results_of(
                spelling.function, given, self.terms, known, self.reading.fake_mode, value.tensor.device
            )
        except Exception as error:
            return near(f"the reference cannot be run on what is there: {type(error).__name__}: {error}")
        if results[index] is not term:
            return near(patterns.difference(results[index], term))
        by_name = dict(zip(arguments, given, strict=True))
        try:
            with torch.no_grad(), self.reading.fake_mode:
                check_call(
                    wanted.op,
                    {
                        n: dtypes.NAMES.get(v, v) if isinstance(v, torch.dtype) else v
                        for n, v in by_name.items()
                    },
                )
        except TdslError as error:
            return near(str(error.diagnostics[0].message))
        if value.stopped:
            results = tuple(map(self.terms.detached, results))
        roots = [self._root(result) if at != index else value for at, result in enumerate(results)]
        at = min(root.at for root in roots if root is not None)
        match = Match(
            op=wanted.op,
            arguments=arguments,
            roots=tuple(roots),
            at=at,
            device=value.tensor.device,
            stopped=value.stopped,
        )
        if wanted.casts and self.reading.casting[at]:
            return near(
                "autocast is on there, and would cast the arguments of a template that has 'autocast='"
            )
        if any(root.at in self.recorder.writing for root in roots if root is not None):
            return near("what it is a part of writes to its arguments")
        if (escaped := self._escaping(match)) is not None:
            return near(
                f"'{self.reading.nodes[escaped.at]}', which it calculates on the way, is used elsewhere, too"
            )
        return Found(wanted=wanted, spelling=spelling.name, node=node, match=match, term=term)

    def _plain(self, param: Any, number: Any) -> Any:
        """A number as a reference takes it: a symbolic one is that of the graph."""
        if isinstance(number, sympy.Basic):
            if number.is_number:
                return int(number) if number.is_Integer else float(number)
            node = self.reading.numbers.get(number)
            return None if node is None else self.reading.results[node]
        if param.type == "float" and isinstance(number, int):
            return float(number)
        return number

    def _tensor(self, term: Term, root: Value) -> torch.Tensor | None:
        """A fake tensor of the term's sizes that is calculated in the graph, or a view of one, where `root` is."""
        where = root.tensor.device, root.stopped
        value = self._by_term.get((term, *where))
        if value is not None:
            return value.tensor
        value = self._by_term.get((_bare(term), *where)) or self._by_base.get((_bare(term), *where))
        with torch.no_grad(), self.reading.fake_mode:
            if value is not None:
                sizes = [self._size(size) for size in term.shape]
                return None if any(size is None for size in sizes) else torch.reshape(value.tensor, sizes)
            if term.op == "permute":
                inner = self._tensor(term.args[0], root)
                return None if inner is None else torch.permute(inner, list(term.args[1]))
        return None

    def _size(self, size: Any) -> Any:
        if isinstance(size, int):
            return size
        env = self.reading.fake_mode.shape_env
        return None if env is None else env.create_symintnode(size, hint=None)

    def _root(self, term: Term) -> Value | None:
        """The first value of the graph that is another output of a template."""
        for value in self.recorder.values:
            if _bare(value.term) is term and value.made_by is not None and not _is_view(value):
                return value
        return None

    def _inside(self, match: Match) -> set[Value]:
        """What is calculated on the way from a match's arguments to its results."""
        ends = {
            _bare(self.terms.attached(argument))
            for argument in match.arguments.values()
            if isinstance(argument, Term)
        }
        inside: set[Value] = set()
        todo = [root for root in match.roots if root is not None]
        while todo:
            value = todo.pop()
            term = _bare(self.terms.attached(value.term))
            if value in inside or (term in ends and value not in match.roots):
                continue
            inside.add(value)
            todo += _used(value)
        return inside

    def _escaping(self, match: Match) -> Value | None:
        """A product or a reduction inside that others need, too: it would be calculated twice."""
        inside = self._inside(match)
        for value in inside - set(match.roots):
            term = self.terms.coefficient(self.terms.attached(value.term))[1]
            term = term.args[0] if term.op == "view" else term
            heavy = term.op in _HEAVY and value.made_by is not None and not _is_view(value)
            readers = self._readers.get(value, ()) if heavy else ()
            if any(self._is_needed(reader, inside, set()) for reader in readers):
                return value
        return None

    def _is_needed(self, reader: Value | None, inside: set[Value], seen: set[Value]) -> bool:
        if reader is None:
            return True
        if reader in inside or reader in seen:
            return False
        seen.add(reader)
        return any(self._is_needed(other, inside, seen) for other in self._readers.get(reader, ()))

    def _take(self, match: Match) -> None:
        self._taken |= self._inside(match)


def _bare(term: Term) -> Term:
    return term.args[0] if term.op == "view" else term


def _inner(root: Term) -> Iterator[Term]:
    """A term, and those within it, from the outside in."""
    todo, seen = [root], {root}
    while todo:
        term = todo.pop(0)
        yield term
        new = [part for part in parts(term) if part not in seen]
        seen.update(new)
        todo += new


def _used(value: Value) -> list[Value]:
    if value.made_by is None:
        return []
    found: list[Value] = []

    def visit(part: Any) -> None:
        if isinstance(part, Value):
            found.append(part)
        elif isinstance(part, list | tuple):
            for each in part:
                visit(each)
        elif isinstance(part, dict):
            visit(list(part.values()))

    visit(value.made_by[1:])
    return found


def _is_view(value: Value) -> bool:
    assert value.made_by is not None
    name = str(value.made_by[0]).removeprefix("aten.").partition(".")[0]
    return name in _VIEWS

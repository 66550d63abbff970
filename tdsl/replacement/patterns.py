"""Where a graph holds what a template's reference means.

A reference is read on tensors of made-up sizes (`Pattern`), and compared with the graph loosely, to find which values could be
its arguments. Then it is read again on those very values: only what makes the same term as the graph is replaced. So the
first step may guess, and the second proves.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tdsl import ir
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.compat.names import sympy
from tdsl.replacement.recording import Recorder, recording
from tdsl.replacement.terms import SYMMETRIC, Term, Terms, parts, shown
from tdsl.signature import Environment, evaluate

# Numbers that no program has by chance, for the scalars of a reference.
FLOAT, INT = 0.31415926, -7919
SIZES = tuple(16 * prime for prime in (13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73))
_fake_log = logging.getLogger("torch._subclasses.fake_tensor")
MOST_STEPS = 2000  # of one comparison


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a reference is read for: dtypes of the template's variables, how many sizes `R...` stands for, which
    optional tensors there are, constants, and the sizes that are known."""

    dtypes: tuple[tuple[str, str], ...]
    ranks: tuple[tuple[str, int], ...]
    present: frozenset[str]
    consts: tuple[tuple[str, Any], ...]
    sizes: tuple[tuple[str, int], ...]

    def of_any_size(self) -> Kind:
        """With made-up sizes."""
        return replace(self, sizes=())


@dataclass(frozen=True, kw_only=True, eq=False)
class Pattern:
    """`roots`: the terms of the reference's results. `params`: the tensor parameter that a leaf stands for."""

    kind: Kind
    roots: tuple[Term, ...]
    params: Mapping[Term, str]
    numbers: Mapping[str, Any]  # the made-up value of each scalar
    count: int = 0  # of terms in each root


@dataclass(eq=False)
class Attempt:
    """How far a comparison got."""

    matched: int = 0
    difference: str = ""
    steps: int = 0


Binding = Mapping[str, Any]  # parameter -> the term or the number in the graph


def kinds(
    kernel: ir.Kernel, output: ir.Tensor, shape: Sequence[Any], dtype: str, known: Set[str]
) -> Iterator[Kind]:
    """The ways in which `kernel` can make an output of this shape and dtype of tensors of dtypes that are `known`."""
    rest = [
        dim.name
        for param in kernel.params
        if isinstance(param, ir.Tensor)
        for dim in param.dims
        if isinstance(dim, ir.RestDim)
    ]
    rest = list(dict.fromkeys(rest))
    ranks: list[dict[str, int]] = [{}]
    leading = [dim.name for dim in output.dims if isinstance(dim, ir.RestDim)]
    if len(shape) < len(output.dims) - len(leading) or (not leading and len(output.dims) != len(shape)):
        return
    for name in rest:
        choices = [len(shape) - len(output.dims) + 1] if name in leading else [0, 1, 2, 3]
        ranks = [{**each, name: rank} for each in ranks for rank in choices if rank >= 0]
    sizes: dict[str, int] = {}
    own = [dim for dim in output.dims if not isinstance(dim, ir.RestDim)]
    for dim, size in zip(own, shape[len(shape) - len(own) :], strict=True):
        if isinstance(dim, ir.DimRef) and isinstance(size, int):
            sizes[dim.name] = size
    if leading:
        for at, size in enumerate(shape[: len(shape) - len(own)]):
            if isinstance(size, int):
                sizes[f"{leading[0]}.{at}"] = size
    variables = [name for name, _ in kernel.dtype_choices]
    optional = [p.name for p in kernel.params if isinstance(p, ir.Tensor) and p.optional]
    consts = [p for p in kernel.params if isinstance(p, ir.Const)]
    for picked in itertools.product(
        *([c for c in choices if c in known] for _, choices in kernel.dtype_choices)
    ):
        names = dict(zip(variables, picked, strict=True))
        for values in itertools.product(*map(_values, consts)):
            given = {const.name: value for const, value in zip(consts, values, strict=True)}
            try:
                made = output.dtype.resolve(
                    {**names, **{n: v for n, v in given.items() if isinstance(v, str)}}
                )
            except KeyError:
                continue
            if made != dtype:
                continue
            for each in ranks:
                for count in range(len(optional), -1, -1):
                    for present in itertools.combinations(optional, count):
                        yield Kind(
                            dtypes=tuple(names.items()),
                            ranks=tuple(each.items()),
                            present=frozenset(present),
                            consts=tuple(given.items()),
                            sizes=tuple(sizes.items()),
                        )


def _values(const: ir.Const) -> list[Any]:
    match const.type:
        case "bool":
            return [False, True]
        case "dtype":
            return ["f32", "f16", "bf16"] if const.default is None else [const.default]
        case "float":
            return [FLOAT]
        case "int":
            return [INT, *([const.default] if const.default is not None else [2])]
    return [] if const.default is None else [const.default]


def read(
    kernel: ir.Kernel,
    function: Callable[..., Any],
    kind: Kind,
    terms: Terms,
    fake_mode: Any,
    device: torch.device,
) -> Pattern | None:
    """`function` on made-up tensors of a kind; None where it cannot be run on them."""
    for others in (False, True):
        found = _read(kernel, function, kind, terms, fake_mode, device, leading=others)
        if found is not None or not kind.ranks:
            return found
    return None


def _read(
    kernel: ir.Kernel,
    function: Callable[..., Any],
    kind: Kind,
    terms: Terms,
    fake_mode: Any,
    device: torch.device,
    *,
    leading: bool,
) -> Pattern | None:
    """`leading`: what `R...` stands for is as large as the first dimensions of the first output."""
    names = iter(SIZES)
    sizes = dict(kind.sizes)
    dims = {name: sizes.get(name) or next(names) for name in kernel.dims if name not in dict(kind.ranks)}
    ranks = dict(kind.ranks)
    rest = {
        name: tuple(sizes.get(f"{name}.{at}") or next(names) for at in range(rank))
        for name, rank in ranks.items()
    }
    if leading:
        first = [dims.get(dim.name, 1) for dim in kernel.outputs[0].dims if isinstance(dim, ir.DimRef)]
        rest = {
            name: tuple(first[: len(its)]) if len(its) <= len(first) else its for name, its in rest.items()
        }
    params: dict[Term, str] = {}
    numbers: dict[str, Any] = {}
    consts = dict(kind.consts)
    recorder = Recorder(terms)
    arguments: list[Any] = []
    _fake_log.disabled = True  # PyTorch logs what fails on made-up sizes
    try:
        with recording(recorder, fake_mode):
            for param in kernel.params:
                match param:
                    case ir.Tensor(optional=True) if param.name not in kind.present:
                        arguments.append(None)
                    case ir.Tensor():
                        shape: list[int] = []
                        for dim in param.dims:
                            if isinstance(dim, ir.RestDim):
                                shape += rest[dim.name]
                            else:
                                environment = Environment(dims=dims, params=consts)
                                shape.append(int(evaluate(dim, environment)))
                        dtype = dtypes.TORCH[param.dtype.resolve(dict(kind.dtypes))]
                        tensor = torch.empty(shape, dtype=dtype, device=device)
                        params[recorder.note(tensor, recorder.opaque(tensor)).term] = param.name
                        arguments.append(tensor)
                    case ir.Scalar():
                        numbers[param.name] = (
                            FLOAT * (1 + len(numbers)) if param.type == "float" else INT - len(numbers)
                        )
                        arguments.append(numbers[param.name])
                    case ir.Const():
                        value = consts[param.name]
                        if param.type in ("int", "float"):
                            numbers[param.name] = value
                        arguments.append(dtypes.TORCH[value] if param.type == "dtype" else value)
            returned = _call(function, arguments, device)
            results = returned if isinstance(returned, tuple | list) else (returned,)
            roots = tuple(_bare(recorder.value(result).term) for result in results)
    except Exception:
        return None
    finally:
        _fake_log.disabled = False
    if len(roots) != len(kernel.outputs) or any(root in params for root in roots):
        return None
    return Pattern(kind=kind, roots=roots, params=params, numbers=numbers)


def _call(function: Callable[..., Any], arguments: Sequence[Any], device: torch.device) -> Any:
    with torch.autocast(device.type, enabled=False), torch.enable_grad():
        return function(*arguments)


def results_of(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    terms: Terms,
    known: Sequence[tuple[torch.Tensor, Term]],
    fake_mode: Any,
    device: torch.device,
) -> tuple[Term, ...]:
    """The terms of what `function` returns for tensors of the graph, whose terms are `known`; without views around them."""
    recorder = Recorder(terms)
    with recording(recorder, fake_mode):
        for tensor, term in known:
            recorder.note(tensor, term)
        returned = _call(function, arguments, device)
        results = returned if isinstance(returned, tuple | list) else (returned,)
        return tuple(_bare(recorder.value(result).term) for result in results)


def _bare(term: Term) -> Term:
    return term.args[0] if term.op == "view" else term


def core(terms: Terms, term: Term) -> Term:
    """What a term is a view of a multiple of."""
    return _bare(terms.coefficient(_bare(term))[1])


def size_of(term: Term) -> int:
    """Of how many different terms one is made."""
    seen: set[int] = set()
    todo = [term]
    while todo:
        each = todo.pop()
        if each.id not in seen:
            seen.add(each.id)
            todo += parts(each)
    return len(seen)


@dataclass
class Comparison:
    """Of one pattern's root with one term of the graph. `alike`: by its `core`, the graph's terms that have it."""

    pattern: Pattern
    alike: Mapping[Term, Sequence[Term]]
    terms: Terms
    attempt: Attempt = field(default_factory=Attempt)

    def bindings(self, root: Term, term: Term) -> Iterator[Binding]:
        """What the parameters could be, for `term` to be what the root means."""
        yield from self._solve([(root, term)], {})

    def _solve(self, goals: list[tuple[Any, Any]], binding: dict[str, Any]) -> Iterator[Binding]:
        self.attempt.steps += 1
        if self.attempt.steps > MOST_STEPS:
            return
        if not goals:
            yield binding
            return
        (mine, its), rest = goals[-1], goals[:-1]
        if isinstance(mine, Term) and mine in self.pattern.params:
            yield from self._bind(self.pattern.params[mine], mine, its, rest, binding)
            return
        if not isinstance(mine, Term) or not isinstance(its, Term):
            yield from self._numbers(mine, its, rest, binding)
            return
        if mine.op == "view" and its.op != "view":
            yield from self._solve([*rest, (mine.args[0], its)], binding)
            return
        if its.op == "view" and mine.op != "view":
            its = its.args[0]
        if mine.op != its.op or (mine.op not in ("view",) and mine.dtype != its.dtype):
            self._differ(mine, its, len(binding))
            return
        self.attempt.matched = max(self.attempt.matched, len(binding) + 1)
        match mine.op:
            case "add" | "mul":
                yield from self._unordered(mine, its, rest, binding)
            case op if op in SYMMETRIC and len(mine.args) == 2:
                for order in (its.args, its.args[::-1]):
                    yield from self._solve([*rest, *zip(mine.args, order, strict=True)], binding)
            case "view":
                yield from self._solve([*rest, (mine.args[0], its.args[0])], binding)
            case _:
                if len(mine.args) != len(its.args):
                    self._differ(mine, its, len(binding))
                    return
                yield from self._solve([*rest, *zip(mine.args, its.args, strict=True)], binding)

    def _bind(
        self, name: str, mine: Term, its: Any, rest: list[tuple[Any, Any]], binding: dict[str, Any]
    ) -> Iterator[Binding]:
        if not isinstance(its, Term) or its.dtype != mine.dtype:
            self._differ(mine, its, len(binding))
            return
        known = binding.get(name)
        if known is not None:
            if known is its or its in self._multiples(known) or known in self._multiples(its):
                yield from self._solve(rest, binding)
            else:
                self._differ(known, its, len(binding))
            return
        choices = [its, *([its.args[0]] if its.op == "view" else []), *self._multiples(its)]
        choices = [choice for choice in dict.fromkeys(choices) if len(choice.shape) == len(mine.shape)]
        for choice in choices:
            yield from self._solve(rest, {**binding, name: choice})
        if not choices:
            self._differ(mine, its, len(binding))

    def _multiples(self, term: Term) -> Sequence[Term]:
        return self.alike.get(core(self.terms, term), ())

    def _numbers(
        self, mine: Any, its: Any, rest: list[tuple[Any, Any]], binding: dict[str, Any]
    ) -> Iterator[Binding]:
        """Numbers may differ, that is for the proof to see; one that stands for a scalar is its value."""
        if isinstance(mine, tuple) and isinstance(its, tuple):
            if len(mine) == len(its):
                yield from self._solve([*rest, *zip(mine, its, strict=True)], binding)
            return
        if isinstance(mine, Term) and mine.op == "number":
            mine = mine.args[0]
        if isinstance(its, Term) and its.op == "number":
            its = its.args[0]
        if isinstance(mine, Term) or isinstance(its, Term):
            self._differ(mine, its, len(binding))
            return
        if not isinstance(mine, int | float) or isinstance(mine, bool):
            if mine == its:
                yield from self._solve(rest, binding)
            else:
                self._differ(mine, its, len(binding))
            return
        for name, number in self.pattern.numbers.items():
            value = _solved(mine, number, its)
            if value is not None and name not in binding:
                yield from self._solve(rest, {**binding, name: value})
                return
        yield from self._solve(rest, binding)

    def _unordered(
        self, mine: Term, its: Term, rest: list[tuple[Any, Any]], binding: dict[str, Any]
    ) -> Iterator[Binding]:
        """Sums and products: each of mine with one of its; one of mine that stands for a tensor may be several of its."""
        number = (mine.args[0], its.args[0])
        # What has most to say comes first, so that a tensor is known by then.
        order = sorted(mine.args[1], key=lambda part: (part[0] in self.pattern.params, -size_of(part[0])))
        left = list(its.args[1])
        if len(left) < len(order):
            self._differ(mine, its, len(binding))
            return
        yield from self._pair(mine, order, left, [*rest, number], binding)

    def _pair(
        self,
        whole: Term,
        mine: Sequence[tuple[Any, Any]],
        its: list[tuple[Any, Any]],
        rest: list[tuple[Any, Any]],
        binding: dict[str, Any],
    ) -> Iterator[Binding]:
        if not mine:
            if not its:
                yield from self._solve(rest, binding)
            return
        (term, number), others = mine[0], mine[1:]
        name = self.pattern.params.get(term)
        bound = binding.get(name) if name is not None else None
        if bound is not None and bound.op == whole.op and len(bound.args[1]) > 1:
            left = _without(its, bound.args[1], number, whole.op)
            if left is not None:
                yield from self._pair(whole, others, left, rest, binding)
                return
        if not others and len(its) > 1:
            if name is not None and all(_divides(number, each) for _, each in its):
                make = self.terms.add if whole.op == "add" else self.terms.mul
                several = make([(t, _quotient(n, number)) for t, n in its], its[0][0].shape, whole.dtype)
                yield from self._solve([*rest, (term, several)], binding)
            else:
                self._differ(whole, "more operands", len(binding))
            return
        found = False
        for at, (candidate, its_number) in enumerate(its):
            if whole.op == "mul" and number != its_number:
                continue
            if (
                term not in self.pattern.params
                and term.op not in (candidate.op, "view")
                and candidate.op != "view"
            ):
                continue
            found = True
            goals = [(term, candidate), *([(number, its_number)] if whole.op == "add" else [])]
            remaining = [*its[:at], *its[at + 1 :]]
            for partly in self._solve(goals, binding):
                yield from self._pair(whole, others, remaining, rest, dict(partly))
        if not found:
            self._differ(term, whole.op, len(binding))

    def _differ(self, mine: Any, its: Any, matched: int) -> None:
        if matched + 1 >= self.attempt.matched or not self.attempt.difference:
            self.attempt.difference = f"the reference has {shown(mine)} where the graph has {shown(its)}"


def _divides(number: Any, other: Any) -> bool:
    return number == 1 or (isinstance(number, int) and isinstance(other, int) and other % number == 0)


def _quotient(other: Any, number: Any) -> Any:
    return other if number == 1 else other // number


def _without(
    its: Sequence[tuple[Any, Any]], parts: Sequence[tuple[Any, Any]], number: Any, op: str
) -> list[tuple[Any, Any]] | None:
    """What is left of a sum or a product without another, times `number` or to the power of it; None if it is not all
    there."""
    left = dict(its)
    for term, each in parts:
        if term not in left:
            return None
        rest = left.pop(term) - each * number
        if rest != 0:
            if op == "add":
                return None
            left[term] = rest
    return list(left.items())


def _solved(mine: Any, number: Any, its: Any) -> Any:
    """The scalar for which `mine`, which was made with `number` in its place, would be `its`."""
    if isinstance(its, bool | str) or its is None:
        return None
    if mine == number:
        return its
    if isinstance(number, float) and isinstance(its, int | float | sympy.Basic):
        if math.isclose(mine, -number, rel_tol=1e-9):
            return -its
        if math.isclose(mine, 1 / number, rel_tol=1e-9) and its != 0:
            return 1 / its
        if math.isclose(mine, number * number, rel_tol=1e-9) and isinstance(its, int | float) and its >= 0:
            return math.sqrt(its)
    return None


def difference(mine: Any, its: Any) -> str:
    """Where two terms begin to differ, in words."""
    while isinstance(mine, Term) and isinstance(its, Term) and mine.op == its.op:
        if len(mine.args) != len(its.args):
            break
        mine_parts, its_parts = parts(mine), parts(its)
        if len(mine_parts) != len(its_parts):
            break
        unlike = [(a, b) for a, b in zip(mine_parts, its_parts, strict=True) if a is not b]
        if len(unlike) != 1:
            break
        ((mine, its),) = unlike
    return f"the reference has {shown(mine)} where the graph has {shown(its)}"

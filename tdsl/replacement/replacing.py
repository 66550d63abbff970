"""One line that puts templates into a model: `torch.compile(model, options=tdsl.replacing(rms_norm, swiglu))`.

Inductor calls a pass of its user's with each graph before autograd splits it; so in training it is the template's gradient
that is used.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import fx

from tdsl.api import Template, replacing_templates
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.identity import own_digest
from tdsl.lower.inductor.compat.call_names import CustomGraphPass, inductor_options
from tdsl.replacement.checking import check_spelling
from tdsl.replacement.finding import Finding, Found, Spelling, Wanted
from tdsl.replacement.recording import Reading, Recorder
from tdsl.replacement.rewriting import CannotWriteError, Rewriting, problem
from tdsl.replacement.terms import Terms

LIMIT = 1000
_log = logging.getLogger("tdsl.replacement")


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What a template took the place of; or, where `why` is given, came near to and did not.

    `spelling`: the function that the graph means the same as. `where`: the line of the model, 'file.py:12, in forward'.
    `graph`: the number of the compiled graph in this process.
    """

    template: str
    spelling: str
    where: str
    graph: int
    why: str | None = None

    def __str__(self) -> str:
        if self.why is None:
            return f"{self.where}: {self.template} takes the place of what '{self.spelling}' means"
        return f"{self.where}: {self.template} does not take the place of what is nearly '{self.spelling}': {self.why}"


_kept: list[Replacement] = []
_graphs = 0


def replacements() -> tuple[Replacement, ...]:
    """What compilations in this process replaced by templates, and what nearly matched, oldest first; the last 1000."""
    return tuple(_kept)


class Replacing(dict[str, Any]):
    """Options for `torch.compile`, and a context in which all that Inductor compiles is done with them. See `replacing`."""

    def __init__(self, templates: Sequence[Template], at_least: Mapping[Template, int]) -> None:
        self.templates = tuple(templates)
        self.at_least = dict(at_least)
        self.counts: Counter[Template] = Counter()  # of places: a graph that is compiled again has the same
        self._places: set[Any] = set()
        self.wanted = [_wanted(template) for template in self.templates]
        super().__init__(inductor_options(_Pass(self)))
        self._patches: list[Any] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy counts for itself."""
        return Replacing, (self.templates, self.at_least)

    def __enter__(self) -> Replacing:
        self._patches.append(torch._inductor.config.patch(dict(self)))
        self._patches[-1].__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patches.pop().__exit__(kind, error, trace)
        if error is None:
            self.check()

    def check(self) -> None:
        """Raises TdslError where a template was put in fewer places than `at_least` asks for."""
        for template, count in self.at_least.items():
            if self.counts[template] < count:
                raise _missing(template, count, self.counts[template])

    def apply(self, module: fx.GraphModule) -> int:
        """Replaces in the graph of `module`, a traced or exported one, and in those within it. Returns how many calls
        there are now that were not there before."""
        if not isinstance(module, fx.GraphModule):
            raise TypeError(
                f"apply() takes an fx.GraphModule, such as an exported program's; got a {type(module).__name__}"
            )
        count = 0
        for child in module.children():
            if isinstance(child, fx.GraphModule):
                count += self.apply(child)
        return count + self._replace(module, compiled=False)

    def _replace(self, module: fx.GraphModule, *, compiled: bool = True) -> int:
        global _graphs
        fake_mode = _fake_mode(module)
        if fake_mode is None:
            return 0
        _graphs += 1
        env = fake_mode.shape_env
        # Sizes that are known only when it runs are made anew wherever a node is run to look at its result.
        with nullcontext() if env is None else env.ignore_fresh_unbacked_symbols():
            found = _rewrite(module, self.wanted, fake_mode)
        for each in found:
            record = Replacement(
                template=each.wanted.kernel.name,
                spelling=each.spelling,
                where=_where(each.node),
                graph=_graphs,
                why=None if each.match is not None else each.why,
            )
            _kept.append(record)
            _log.info("%s", record)
        del _kept[:-LIMIT]
        for template, wanted in zip(self.templates, self.wanted, strict=True):
            mine = [each for each in found if each.wanted is wanted]
            places: Counter[Any] = Counter()
            for node in (each.node for each in mine if each.match is not None):
                place = template, node.meta.get("stack_trace"), str(node.meta.get("nn_module_stack"))
                places[place] += 1
                key = (*place, places[place], None if compiled else _graphs)
                self.counts[template] += key not in self._places
                self._places.add(key)
            if not self.counts[template]:
                near = max(mine, key=lambda each: each.share, default=None)
                nearest = f"; the nearest, at {_where(near.node)}: {near.why}" if near is not None else ""
                warnings.warn(
                    f"{template.template.name} takes the place of nothing in this graph{nearest}. tdsl.replacements() has more",
                    stacklevel=2,
                )
        return sum(each.match is not None for each in found)


def replacing(*templates: Template, at_least: Mapping[Template, int] | None = None) -> Replacing:
    """Puts `templates` where a compiled model does what their references mean, or what `@template.replaces` says does the same.

        torch.compile(model, options=tdsl.replacing(rms_norm, swiglu))
        with tdsl.replacing(rms_norm, at_least={rms_norm: 5}):      # all that is compiled in here
            compiled(x)

    Without templates: all that were made with `replaces=True`. Other options go beside these: `{**tdsl.replacing(t), ...}`.
    A call takes the place of work where it makes the same results: of operands that commute, in another order; of numbers
    of a narrow dtype, without roundings between; but casts have to be where the reference has them. What was replaced, and
    what nearly was, is told by `tdsl.replacements()`; a template that finds nothing is warned of.

    at_least: how often a template has to be put in. The context raises TdslError at its end, if it was fewer times; with
    `options=`, so does `replacing(...).check()`.

    Raises TdslError for a template that has neither reference nor spelling, or one whose spelling gives other numbers.
    """
    chosen = templates or replacing_templates()
    for template in (*chosen, *(at_least or {})):
        if not isinstance(template, Template):
            raise TypeError(f"replacing() takes templates; got {template!r}")
    for template, count in (at_least or {}).items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise TypeError(f"at_least= says how often; got {count!r} for {template!r}")
    if not chosen:
        raise TypeError(
            "replacing() without templates takes those made with replaces=True, and there are none"
        )
    return Replacing(list(dict.fromkeys((*chosen, *(at_least or {})))), at_least or {})


class _Pass(CustomGraphPass):
    def __init__(self, replacing: Replacing) -> None:
        self.replacing = replacing

    def __call__(self, graph: fx.Graph) -> None:
        module = graph.owning_module
        assert module is not None
        self.replacing._replace(module)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Pass:
        """Itself: PyTorch copies its options where it compiles, and what is counted there belongs here."""
        return self

    def uuid(self) -> str:
        parts = [own_digest(), *(str(template.op) for template in self.replacing.templates)]
        for wanted in self.replacing.wanted:
            parts += [_digest(spelling.function) for spelling in wanted.spellings]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digest(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return repr((function, code and (code.co_code, code.co_consts, code.co_names)))


def _wanted(template: Template) -> Wanted:
    spellings = [*([template.reference] if template.reference is not None else []), *template.spellings]
    if not spellings:
        raise TdslError(
            [
                Diagnostic(
                    code=Code.BAD_PARAM,
                    message=f"'{template.template.name}' says nowhere what it means in PyTorch, so nothing can be replaced by it",
                    span=template.template.span,
                    help="write it as the body of its function, or decorate a function with "
                    f"@{template.template.name}.replaces",
                )
            ]
        )
    for spelling in template.spellings:
        check_spelling(template, spelling)
    written = [param for param in template.template.params if getattr(param, "inout", False)]
    if written:
        raise TdslError(
            [
                Diagnostic(
                    code=Code.BAD_PARAM,
                    message=f"'{template.template.name}' writes to '{written[0].name}', and cannot take the place of anything",
                    span=written[0].span,
                )
            ]
        )
    return Wanted(
        kernel=template.template,
        op=template.op,
        spellings=[Spelling(name=getattr(each, "__name__", str(each)), function=each) for each in spellings],
        defaults=template.defaults,
        casts=template.casts,
    )


def _missing(template: Template, count: int, got: int) -> TdslError:
    message = f"'{template.template.name}' was to take the place of something at least {count} times, and did {got} times"
    near = [each for each in _kept if each.template == template.template.name and each.why is not None]
    help = str(near[-1]) if near else "nothing came near; tdsl.replacements() tells what was replaced"
    return TdslError(
        [Diagnostic(code=Code.BAD_ARGUMENT, message=message, span=template.template.span, help=help)]
    )


def _rewrite(module: fx.GraphModule, wanted: Sequence[Wanted], fake_mode: Any) -> list[Found]:
    """Changes the graph, if it is right afterwards; what was found, and what nearly was."""
    env = fake_mode.shape_env
    recorder = Recorder(Terms(env.simplify if env is not None else lambda expr: expr), stopping=False)
    reading = Reading(module, recorder, fake_mode)
    try:
        reading.read()
        found = Finding(reading, wanted).found
    except Exception as error:
        message = f"a graph is left as it is, for it could not be searched: {type(error).__name__}: {error}"
        warnings.warn(message, stacklevel=2)
        return []
    why = ""
    keep_strides = False
    while matches := [each.match for each in found if each.match is not None]:
        rewriting = Rewriting(reading, keep_strides=keep_strides)
        try:
            rewriting.put(matches)
            why = problem(reading, rewriting)
        except CannotWriteError as error:
            rewriting.undo()
            found = [each.left(str(error)) if each.match is error.match else each for each in found]
            continue
        if not why:
            rewriting.finish()
            module.graph.lint()
            return found
        rewriting.undo()
        if keep_strides:
            _log.info("a graph was left as it was: %s", why)
            return [each.left(why) if each.match is not None else each for each in found]
        keep_strides = True
    return found


def _fake_mode(module: fx.GraphModule) -> Any:
    """That of the tensors that the graph was traced with."""
    for node in module.graph.nodes:
        value = node.meta.get("example_value", node.meta.get("val"))
        if isinstance(value, torch._subclasses.FakeTensor):
            return value.fake_mode
    return None


def _where(node: fx.Node) -> str:
    """The line of the model that a node comes from."""
    trace = node.meta.get("stack_trace") or ""
    frames = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    if not frames:
        return f"'{node}'"
    file, line, *name = frames[-1].removeprefix("File ").split(", ")
    return f"{file.strip(chr(34))}:{line.removeprefix('line ')}" + (f", {name[0]}" if name else "")

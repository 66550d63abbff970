"""Every construct of the language and every situation that it can be in, and which pairs a drawn plan has.

    met(plan)        ->    {("built-in cumsum", "in a loop"), ...}, of what the parser and the checker say is there
    CONSTRUCTS       ->    every production, node, built-in, operator and option, from the grammar and the checker
    impossible(c, s) ->    why the pair cannot exist, or None

Nothing here lists constructs by hand: a new one is in the table as soon as the language has it, and the test fails
until it is drawn in each situation, or `NEVER` says in a sentence why it cannot be, or `NOT_YET` that it should be.
"""

from __future__ import annotations

import ast as python
import inspect
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from lark import Token

from tdsl import ir
from tdsl.builtins import BUILTINS
from tdsl.grammar import parser
from tdsl.grammar.reader import normalize
from tdsl.grammar.scanner import scan
from tdsl.options import OPTIONS
from tdsl.pipeline import run
from tdsl.source import Source
from tdsl.types import DTYPES
from tests.fuzz.programs import Call, Plan, plan
from tests.fuzz.ruled import RULES

PLACES = ("in a loop", "in a run-time branch", "in a branch not taken")
RUNS = (
    *("static", "dynamic", "unbacked", "eager", "gradient", "autocast", "NaN", "empty", "64 bits"),
    *("prologue", "prologues", "epilogue", "epilogues"),
)
BELOW = "sizes below zero"
SITUATIONS = (*RUNS, *PLACES, BELOW, *DTYPES)

OPERATORS = (
    *("+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", ">>", "~", "==", "!=", "<", "<=", ">", ">="),
    *("and", "or", "not"),
)
DECORATIONS = ("backward ", "autocast= ")
BACKWARDS = ("of its inputs", "of its outputs", "that calls a template")
POINTS = ("else", "unchecked", "fuse", "nofuse", "nofuse of a store")


def _productions() -> list[str]:
    """What a tree of the grammar has names for; those that always stand for their only child never show."""
    lark, _ = parser._grammar()
    names = {str(rule.origin.name): rule.options.expand1 for rule in lark.rules if rule.options}
    return sorted(name for name, hidden in names.items() if not name.startswith("_") and not hidden)


def _nodes() -> list[str]:
    found = [
        name
        for name, made in vars(ir).items()
        if inspect.isclass(made) and issubclass(made, ir.Node) and made not in (ir.Node, ir.Typed)
    ]
    return sorted(found)


CONSTRUCTS = (
    *(f"production {name}" for name in _productions()),
    *(f"node {name}" for name in _nodes()),
    *(f"built-in {name}" for name in BUILTINS),
    *(f"operator {name}" for name in OPERATORS),
    *(f"point {name}" for name in POINTS),
    *(f"launch {name}" for name in (*OPTIONS, "group")),
    *(f"backward {name}" for name in BACKWARDS),
    *(f"autocast= {name}" for name in RULES),
)


# What cannot be

DECORATOR = "it belongs to the decorator, not to the text"
SIGNATURE = "it belongs to the signature or the settings, where there is no loop and no branch"
OUTERMOST = "it is the outermost statement, or made by it"
HEADERS = frozenset(
    """production template, production helper, production params, production tensor_param, production scalar_param,
    production const_param, production outputs, production output, production dims, production rest_dim,
    production guards, production doc, production let, production config, production config_item, production tune,
    production tune_item, production return, production start, node RestDim, node Tensor, node Scalar, node Const,
    node Let, node Candidate, node Kernel, built-in promote""".replace("\n", " ").split(", ")
)
HEADERS = frozenset(name.strip() for name in HEADERS)
NEVER: list[tuple[str, str, str]] = [  # patterns of a construct and of a situation, and why
    ("production broken", ".*", "no sound file has one"),
    ("production (grid|axis)|node Kernel", "in .*", OUTERMOST),
    ("launch .*", "in .*", SIGNATURE),
    ("(backward|autocast=) .*", "in .*", DECORATOR),
    (
        r"(?!production (operation|group|call)$|node (Constant|DimRef|Binary|Unary|Elementwise)$|operator "
        r"|built-in (cdiv|minimum|maximum)$).*",
        BELOW,
        "sizes are calculated with operators, cdiv, minimum and maximum; the rest takes what they give",
    ),
    ("operator /", BELOW, "a true quotient is a float, and no size"),
]

# What can be and is not drawn yet, in 21,000 plans: beside what a rule casts, a template has seldom another narrow dtype.
NOT_YET: list[tuple[str, str]] = [
    ("autocast= (f16|lower)", "64 bits|f8e4m3|f8e5m2|i16|i8|u8"),
    ("autocast= (f32|promote)", "i16|i8"),
]


def matches(first: str, second: str, construct: str, situation: str) -> bool:
    return bool(re.fullmatch(first, construct) and re.fullmatch(second, situation))


@cache
def impossible(construct: str, situation: str) -> str | None:
    if construct in HEADERS and situation in PLACES:
        return SIGNATURE
    for first, second, why in NEVER:
        if matches(first, second, construct, situation):
            return why
    return None


def wanted() -> set[tuple[str, str]]:
    return {
        pair
        for pair in itertools.product(CONSTRUCTS, SITUATIONS)
        if impossible(*pair) is None and not any(matches(*each, *pair) for each in NOT_YET)
    }


# The census: numbers of plans that together have every pair, found once, and drawn again by the test


CENSUS = Path(__file__).parent / "census.json"
SEED = 0


def recorded() -> list[int]:
    found: list[int] = json.loads(CENSUS.read_text(encoding="utf-8"))
    return found


def record(limit: int) -> set[tuple[str, str]]:
    """Draws plans until every pair was met, first those that were kept, and keeps the numbers of those that met one
    first; what is left."""
    left, kept = wanted(), []
    before = recorded()
    for index in (*before, *sorted({*range(limit)} - {*before})):
        drawn = plan(SEED, index)
        decorations = {name for call in drawn.templates for name in _decorations(call)}
        if all(name.startswith(DECORATIONS) and name not in decorations for name, _ in left):
            continue
        here = met(drawn) & left
        if here:
            kept.append((index, here))
            left -= here
        if not left:
            break
    pairs: set[tuple[str, str]] = set()
    needed = []
    for index, _ in reversed(kept):  # the later ones have what is rare, and much else
        new = met(plan(SEED, index)) & wanted()
        if new - pairs:
            needed.append(index)
            pairs |= new
    CENSUS.write_text(json.dumps(sorted(needed)) + "\n", encoding="utf-8")
    return left


# What a plan has


def met(drawn: Plan) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for call in drawn.templates:
        for arguments, results, at in _calls(drawn, call.name):
            source = Source(f"{call.name}.tdsl", call.text)
            kernel = run(source).kernels[0]
            values = _values(drawn, kernel, arguments)
            whole = {*_run(drawn, arguments, results, at), *_dtypes(call.text, call.reference)}
            found |= {(construct, situation) for construct in _decorations(call) for situation in whole}
            for construct, places in _constructs(source, kernel, values):
                found |= {(construct, situation) for situation in (*whole, *places)}
    return found


def _decorations(call: Call) -> Iterator[str]:
    """What the decorators of a template say; of a backward, what it starts from."""
    if call.autocast is not None:
        yield f"autocast= {call.autocast}"
    if call.backward:
        helper, _, function = call.backward.rpartition("\n@")
        for name, there in zip(
            BACKWARDS, ("inputs." in function, "outputs." in function, helper), strict=True
        ):
            if there:
                yield f"backward {name}"


def _calls(plan: Plan, name: str) -> Iterator[tuple[list[str], list[str], int]]:
    for at, line in enumerate(plan.lines):
        made = re.fullmatch(rf"(?:([\w, ]+) = )?k\.{name}\((.*)\)", line)
        if made:
            yield made[2].split(", "), (made[1] or "").split(", "), at


def _run(plan: Plan, arguments: list[str], results: list[str], at: int) -> Iterator[str]:
    yield "static" if plan.dynamic is False else "dynamic"
    for name in ("eager", "unbacked", "gradient", "autocast"):
        if getattr(plan, name):
            yield name
    if any("special" in spec.get("values", ()) for spec in plan.inputs.values()):
        yield "NaN"
    if any(0 in run.values() for run in plan.runs):
        yield "empty"
    scalars = [plan.inputs[name]["scalar"][0] for name in arguments if "scalar" in plan.inputs.get(name, ())]
    scalars += [int(word) for word in arguments if re.fullmatch(r"-?\d+", word)]
    if any(spec.get("huge") for spec in plan.inputs.values()) or any(abs(value) > 2**31 for value in scalars):
        yield "64 bits"
    made_of = {line.split(" = ")[0]: line.split(" = ")[1] for line in plan.lines if " = " in line}
    before = [name for name in arguments if _is_work(made_of.get(name, ""))]
    after = [
        line
        for line in plan.lines[at + 1 :]
        if _is_work(line.split(" = ")[-1]) and set(re.findall(r"v\d+", line)) & set(results)
    ]
    yield from ("prologue", "prologues")[: len(before)]
    yield from ("epilogue", "epilogues")[: len(after)]


def _is_work(text: str) -> bool:
    """Whether a line calculates something element by element."""
    return bool(text) and not re.match(
        r"k\.|x?v?\d*\[|\w+\.(t|transpose|view|expand|unsqueeze|permute)\(", text
    )


def _dtypes(text: str, reference: str) -> set[str]:
    """Those that are spelled in the signature, or that the reference says stand for its variable."""
    head = text[re.search(r"^template ", text, re.MULTILINE).start() :]  # type: ignore[union-attr]
    head = head.partition(":\n")[0].partition("\nwhere ")[0]
    return {name for name in DTYPES if re.search(rf"\b{name}\b", head) or f"D.{name}" in reference}


def _values(plan: Plan, kernel: ir.Kernel, arguments: list[str]) -> dict[str, Any]:
    """Of scalars and constants; of tensors, whether they are there."""
    found: dict[str, Any] = {}
    for at, param in enumerate(kernel.params):
        given = arguments[at] if at < len(arguments) else None
        if isinstance(param, ir.Tensor):
            found[param.name] = given != "None"
        elif given is None:
            found[param.name] = param.default if isinstance(param, ir.Const) else None
        elif given in plan.inputs:
            found[param.name] = plan.inputs[given]["scalar"][0]
        else:
            found[param.name] = None if ".shape[" in given else python.literal_eval(given)
    return found


def _constructs(
    source: Source, kernel: ir.Kernel, values: Mapping[str, Any]
) -> Iterator[tuple[str, set[str]]]:
    regions = list(_regions(kernel.body, values))
    below = [(node.span.start, node.span.end) for node in _below(kernel)]

    def places(start: int) -> set[str]:
        found = {place for place, first, last in regions if first <= start < last}
        if any(first <= start < last for first, last in below):
            found.add(BELOW)
        return found

    for name, start in _syntax(source.text):
        yield name, places(start)
    for node in ir.walk(kernel):
        here = places(node.span.start)
        yield f"node {type(node).__name__}", here
        if isinstance(node, ir.For):
            yield "node Tile", here
        yield from ((name, here) for name in _parts(node))
    yield "node Tile", set()
    for candidate in kernel.candidates:
        for name, _ in candidate.items:
            if name in OPTIONS:
                yield f"launch {name}", set()
    if kernel.group is not None:
        yield "launch group", set()
    for param in (*kernel.params, *kernel.outputs):
        yield f"node {type(param).__name__}", set()


def _parts(node: ir.Node) -> Iterator[str]:
    match node:
        case ir.Binary(op=op) | ir.Unary(op=op):
            yield f"operator {op}"
        case ir.Elementwise(function=name) | ir.Reduce(function=name) | ir.Scan(function=name):
            yield f"built-in {name}"
        case ir.Load():
            for name, there in (
                ("else", node.otherwise is not None),
                ("unchecked", node.unchecked),
                ("fuse", node.fuse),
                ("nofuse", node.nofuse),
            ):
                if there:
                    yield f"point {name}"
        case ir.Store(nofuse=True):
            yield "point nofuse of a store"


@lru_cache(maxsize=512)
def _syntax(text: str) -> tuple[tuple[str, int], ...]:
    """The productions of a text and the built-ins that it calls, and where."""
    source = normalize(Source("text.tdsl", text))
    lark, vocabulary = parser._grammar()
    tree = parser._read(lark, scan(source, vocabulary))
    assert tree is not None
    found = []
    for each in tree.iter_subtrees():
        start = getattr(each.meta, "start_pos", 0)
        found.append((f"production {each.data}", start))
        first = each.children[0] if each.children else None
        if each.data in ("call", "dtype") and isinstance(first, Token) and first in BUILTINS:
            found.append((f"built-in {first}", start))
    return tuple(found)


def _regions(body: tuple[ir.Statement, ...], values: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    for statement in body:
        if isinstance(statement, ir.For):
            yield "in a loop", statement.body[0].span.start, statement.span.end
            yield from _regions(statement.body, values)
        elif isinstance(statement, ir.If):
            done = False
            for condition, branch in (*statement.branches, (None, statement.orelse)):
                if not branch:
                    continue
                first, last = branch[0].span.start, branch[-1].span.end
                known = True if condition is None else _known(condition, values)
                if done or known is False:
                    yield "in a branch not taken", first, last
                if not all(other.type.constant for other, _ in statement.branches):
                    yield "in a run-time branch", first, last
                done = done or known is True
                yield from _regions(branch, values)


def _known(expr: ir.Expr, values: Mapping[str, Any]) -> Any:
    match expr:
        case ir.Constant(value=value):
            return value
        case ir.ParamRef(name=name) | ir.Present(param=name):
            return values.get(name)
        case ir.Unary(op="not", operand=operand):
            known = _known(operand, values)
            return None if known is None else not known
        case ir.Cast(operand=operand):
            return _known(operand, values)
        case ir.Binary(op=op, left=left, right=right):
            a, b = _known(left, values), _known(right, values)
            if a is None or b is None or isinstance(a, str) or isinstance(b, str):
                return None
            return _evaluated(op, a, b)
    return None


def _evaluated(op: str, a: Any, b: Any) -> Any:
    try:
        return eval(f"a {op} b", {}, {"a": a, "b": b})
    except (ZeroDivisionError, ValueError, TypeError):
        return None


def _below(kernel: ir.Kernel) -> Iterator[ir.Node]:
    """The whole expressions of sizes that have a negative number somewhere on the way, for some small sizes."""
    for node in ir.walk(kernel):
        if isinstance(node, (ir.Binary, ir.Elementwise, ir.Unary)) and any(
            isinstance(inner, ir.DimRef) for inner in ir.walk(node)
        ):
            for m, n in ((3, 8), (8, 3)):
                sizes = {name: (m, n)[at % 2] for at, name in enumerate(kernel.dims)}
                if any(_is_negative(inner, sizes) for inner in ir.walk(node)):
                    yield node
                    break


def _is_negative(node: ir.Node, sizes: Mapping[str, int]) -> bool:
    if not isinstance(node, (ir.Binary, ir.Unary, ir.Elementwise)):
        return False
    value = _size(node, sizes)
    return value is not None and value < 0 and any(isinstance(inner, ir.DimRef) for inner in ir.walk(node))


def _size(node: Any, sizes: Mapping[str, int]) -> Any:
    match node:
        case ir.Constant(value=int(value)):
            return value
        case ir.DimRef(name=name):
            return sizes[name]
        case ir.Unary(op="-", operand=operand):
            value = _size(operand, sizes)
            return None if value is None else -value
        case ir.Binary(op=op, left=left, right=right):
            a, b = _size(left, sizes), _size(right, sizes)
            return None if a is None or b is None else _evaluated(op, a, b)
        case ir.Elementwise(function=name, arguments=arguments):
            found = [_size(each, sizes) for each in arguments]
            if None in found:
                return None
            return {"minimum": min, "maximum": max, "cdiv": lambda a, b: -(-a // b)}.get(
                name, lambda *_: None
            )(*found)
    return None

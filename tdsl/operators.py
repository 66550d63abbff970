"""The operator of a template: what PyTorch's dispatcher, tracer and autograd are told of it.

    operator_of(kernel, f, f, {})                              ->   torch.ops.tdsl.matmul.d3f9...
    operator_of(kernel, f, f, {}, name=("mylib::matmul", 1))   ->   torch.ops.mylib.matmul.v1

Of the first kind each text, reference and mode has an operator of its own. One of the second kind keeps its name
whatever is edited, so that a saved program finds it; what it is now, PyTorch's caches are told (`_described`).

Its schema has the template's parameters, its meta function is the template's signature, its derivative is
its own backward (`gradients`) or the reference's. Eagerly it runs the kernel unfused on a GPU (and on a CPU whose Triton is interpreted), else
the reference. Under `torch.compile` a call is lowered by `lower.inductor`.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, guard_or_true
from typing_extensions import assert_never

from tdsl import ir
from tdsl.autocast import Rule, cast, cast_dtypes
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.gradients import Backward, Like
from tdsl.identity import meaning, own_digest
from tdsl.lower import static_axes
from tdsl.lower.facts.sharding import independent_dims
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.compat.call_names import (
    call_functional,
    forget_shardings,
    has_tangent,
    in_transform,
    is_operator,
    register_autocast,
    register_sharding,
    without_mutation,
    without_wrappers,
)
from tdsl.lower.inductor.compat.libraries_at_exit import keep_forever
from tdsl.lower.inductor.compat.operators_in_keys import watch_keys
from tdsl.lower.inductor.compat.saved_calls import SavedCall, watch_saved_calls
from tdsl.lower.inductor.fusion.overlap import Region, overlap, overlaps_itself
from tdsl.lower.inductor.launch import launch, static_sizes
from tdsl.lower.inductor.registration import (
    accumulates,
    call_below_autograd,
    f32_precision,
    interpreted,
    register_operator,
    runs_without_python,
)
from tdsl.signature import Resolution, TensorInfo, resolve
from tdsl.types import BOOL, WEAK_BOOL

Reference = Callable[..., Any]

_lock = threading.RLock()
_operators: dict[str, list[_Operator]] = {}  # name and digest -> one for each reference
_named: dict[str, dict[int, _Operator]] = {}  # the author's name -> one for each version
_by_op: dict[object, _Operator] = {}
_functional: dict[object, _Operator] = {}  # those that stand in graphs for one that writes to its arguments

TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.flexible_layout)


class _Operator:
    """What the functions registered for one operator look up."""

    def __init__(
        self,
        kernel: ir.Kernel,
        function: Reference,
        reference: Reference | None,
        defaults: Mapping[str, Any],
        backward: Backward | None,
        name: str,
        overload: str,
        meaning: str,
        autocast: Rule | None,
    ) -> None:
        self.name = name  # with its namespace
        self.overload = overload
        self.names = tuple(param.name for param in kernel.params)
        self.defaults = _trailing(self.names, defaults)
        # The positions of the parameters that are written to.
        self.written = tuple(
            index for index, param in enumerate(kernel.params) if isinstance(param, ir.Tensor) and param.inout
        )
        self.casts = False  # whether something is registered for autocast
        self.define(kernel, function, reference, backward, meaning, autocast)

    def define(
        self,
        kernel: ir.Kernel,
        function: Reference,
        reference: Reference | None,
        backward: Backward | None,
        meaning: str,
        autocast: Rule | None,
    ) -> None:
        """What the operator does from now on; its schema stays."""
        self.kernel = kernel
        self.function = function
        self.reference = reference
        self.backward = backward
        self.meaning = meaning
        self.autocast = autocast

    @property
    def qualified(self) -> str:
        return f"{self.name}.{self.overload}"

    def is_of(self, function: Reference, backward: Backward | None) -> bool:
        """Whether these are this operator's reference and backward, or those functions defined once more."""
        if self.backward is None or backward is None:
            return self.backward is backward and _is_again(self.function, function)
        return (
            _is_again(self.function, function)
            and _is_again(self.backward.function, backward.function)
            and self.backward.saves == backward.saves
        )

    def arguments(self, args: tuple[Any, ...]) -> dict[str, Any]:
        """By name. The dispatcher leaves out those that are as their defaults."""
        missing = len(self.names) - len(args)
        return dict(zip(self.names, (*args, *self.defaults[len(self.defaults) - missing :]), strict=True))

    def written_values(self, arguments: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
        """The arguments that are written to."""
        return tuple([arguments[self.names[index]] for index in self.written])

    def shaped(self, outputs: tuple[torch.Tensor, ...]) -> Any:
        """As the schema returns them: nothing, one tensor, or a tuple."""
        if not outputs:
            return None
        return outputs[0] if len(outputs) == 1 else outputs

    def parameters(self, *, functional: bool = False) -> list[tuple[str, str]]:
        """The kind and the name of each, as a schema has them."""
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        found = []
        for param in self.kernel.params:
            match param:
                case ir.Tensor():
                    mark = f"({next(letters)}!)" if param.inout and not functional else ""
                    kind = f"Tensor{mark}{'?' if param.optional else ''}"
                case ir.Scalar():
                    kind = {"float": "float", "int": "SymInt"}[param.type]
                case ir.Const():
                    kind = {"bool": "bool", "int": "int", "float": "float", "dtype": "str", "str": "str"}[
                        param.type
                    ]
                case _:
                    assert_never(param)
            found.append((kind, param.name))
        return found

    def returned(self, *, functional: bool = False) -> int:
        """How many tensors a call returns."""
        return len(self.kernel.outputs) + (len(self.written) if functional else 0)

    def schema(self, *, functional: bool = False) -> str:
        """`functional`: of the operator that writes to nothing, and returns what would have been written."""
        first = len(self.names) - len(self.defaults)
        parts = [
            f"{kind} {name}" + (f"={_literal(self.defaults[index - first])}" if index >= first else "")
            for index, (kind, name) in enumerate(self.parameters(functional=functional))
        ]
        return f"({', '.join(parts)}) -> {_tensors(self.returned(functional=functional))}"


def _tensors(count: int) -> str:
    return "Tensor" if count == 1 else f"({', '.join(['Tensor'] * count)})"


def _is_again(mine: Callable[..., Any], function: Callable[..., Any]) -> bool:
    return mine is function or (
        mine.__code__ == function.__code__
        and mine.__module__ == function.__module__
        and not mine.__closure__
        and not function.__closure__
    )


def _trailing(names: tuple[str, ...], defaults: Mapping[str, Any]) -> tuple[Any, ...]:
    """The defaults of the last parameters; a schema can have no others."""
    found: list[Any] = []
    for name in reversed(names):
        if name not in defaults or (isinstance(defaults[name], float) and not math.isfinite(defaults[name])):
            break
        found.insert(0, defaults[name])
    return tuple(found)


def _literal(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else str(value)


def operator_of(
    kernel: ir.Kernel,
    function: Reference,
    reference: Reference | None,
    defaults: Mapping[str, Any],
    backward: Backward | None = None,
    *,
    name: tuple[str, int] | None = None,
    autocast: Rule | None = None,
) -> torch._ops.OpOverload:
    """The operator of a template that decorates `function`: a known one, or one that is registered now.

    `reference` is the function, or None if it says nothing; `defaults` are the parameters' by name. `name`: what the
    author calls the operator, with its namespace, and the version. `autocast`: what casts the arguments under autocast.

    Raises TdslError if the name is another operator's, or its version has had another schema in this process.
    """
    text = _meaning(kernel, function, backward, autocast)
    with _lock:
        if name is not None:
            return _named_operator(kernel, function, reference, backward, text, autocast, *name)
        digest = _digest(text)
        known = _operators.setdefault(f"{kernel.name}.{digest}", [])
        for operator in known:
            if operator.is_of(function, backward):
                operator.reference, operator.backward = reference, backward
                return _registered(operator)
        overload = f"d{digest}" + (f"_{len(known) + 1}" if known else "")
        operator = _Operator(
            kernel, function, reference, defaults, backward, f"tdsl::{kernel.name}", overload, text, autocast
        )
        known.append(operator)
        return _define(operator)


def _named_operator(
    kernel: ir.Kernel,
    function: Reference,
    reference: Reference | None,
    backward: Backward | None,
    text: str,
    autocast: Rule | None,
    name: str,
    version: int,
) -> torch._ops.OpOverload:
    # No defaults: a graph spells every argument, and a saved one keeps its own where a default has changed.
    operator = _Operator(kernel, function, reference, {}, backward, name, f"v{version}", text, autocast)
    versions = _named.get(name, {})
    before = versions.get(version)
    if before is None:
        if not versions and is_operator(name):
            raise _unusable(
                kernel, f"there is an operator '{name}' already, which is no template's", _OTHER_NAME
            )
        op = _define(operator)
        _named.setdefault(name, {})[version] = operator
        watch_keys(_described)
        watch_saved_calls(_check_saved_call)
        return op
    if (where := _where(before.function)) != _where(function):
        message = f"'{name}' of version {version} is the operator of {where[0]}.{where[1]} already"
        raise _unusable(kernel, message, f"{_OTHER_NAME}, or another version")
    if before.schema() != operator.schema():
        message = (
            f"version {version} of '{name}' was {before.schema()} in this process, and is {operator.schema()}"
        )
        raise _unusable(kernel, message, f"give it version={version + 1}, or start the process again")
    if before.meaning != text or not before.is_of(function, backward):
        before.define(kernel, function, reference, backward, text, autocast)
        _register_autocast(_registered(before), before)
        # What this process has compiled holds what the operator was.
        torch.compiler.reset()
        forget_shardings()
    before.reference = reference
    return _registered(before)


def _check_saved_call(call: SavedCall) -> None:
    """Raises TdslError if a call in a saved program is of an operator that is another one now."""
    versions = _named.get(call.name)
    if not versions:
        return
    version, _, functional = call.overload.partition("_")
    operator = next((each for each in versions.values() if each.overload == version), None)
    if operator is None:
        newest = versions[max(versions)]
        are = " and ".join(each.overload for each in versions.values())
        message = f"the program was saved with {version} of '{call.name}', and there is {are}"
        help = f"keep a template of version={version[1:]} beside it, or export the program again"
        raise _unusable(newest.kernel, message, help)
    parameters = operator.parameters(functional=bool(functional))
    outputs = operator.returned(functional=bool(functional))
    fits = len(call.arguments) == len(parameters) and call.outputs == outputs
    # By name: in another order they are the same.
    kinds = {name: kind for kind, name in parameters}
    if not fits or not all(name in kinds and _takes(kinds[name], kind) for kind, name in call.arguments):
        was = ", ".join(f"{kind} {name}" for kind, name in call.arguments)
        message = (
            f"the program was saved when '{call.name}' of {version} was called as ({was}) -> {_tensors(call.outputs)}; "
            f"it is {operator.schema(functional=bool(functional))}"
        )
        help = (
            f"give the changed template version={int(version[1:]) + 1} and keep one of the old signature as "
            f"version={version[1:]}, or export the program again"
        )
        raise _unusable(operator.kernel, message, help)


def _takes(kind: str, saved: str) -> bool:
    """Whether a parameter of a kind, as the schema has it, takes what was saved."""
    bare = kind.partition("(")[0]
    return saved == bare or saved in {
        "Tensor?": ("Tensor", "None"),
        "SymInt": ("int",),
        "float": ("int",),
    }.get(kind, ())


_OTHER_NAME = "give op= another name"


def _where(function: Reference) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _unusable(kernel: ir.Kernel, message: str, help: str) -> TdslError:
    return TdslError([replace(_wrong(message, kernel, Code.BAD_PARAM), help=help)])


def _define(operator: _Operator) -> torch._ops.OpOverload:
    library, qualified = _library(operator.name.partition("::")[0]), operator.qualified
    local = qualified.partition("::")[2]

    def run(*args: Any) -> Any:
        arguments = operator.arguments(args)
        _check_inference(operator.written_values(arguments))
        with _autocast_named(operator, args):
            return operator.shaped(_run(operator, _check_written(operator, arguments)))

    def meta(*args: Any) -> Any:
        arguments = operator.arguments(args)
        _check_written(operator, arguments)
        _make_static(operator.kernel, arguments)
        return operator.shaped(
            _empty(_resolve(operator.kernel, arguments), _device(operator.kernel, arguments))
        )

    library.define(f"{local}{operator.schema()}", tags=TAGS)
    library.impl(local, run, "CompositeExplicitAutograd")
    torch.library.register_fake(qualified, meta, lib=library)
    op = _registered(operator)
    library.impl(local, _autograd(op, operator), "Autograd", with_keyset=True)
    if operator.written:
        functional = _define_functional(operator)

        def functionalize(*args: Any) -> Any:
            inner = without_wrappers(args)
            _check_written(operator, operator.arguments(tuple(inner)))
            return operator.shaped(call_functional(functional, args, inner, operator.written))

        def batch(info: Any, in_dims: Any, *args: Any) -> Any:
            kernel = operator.kernel
            raise argument_error(kernel, f"'{kernel.name}' writes to its arguments, and cannot be vmapped")

        library.impl(local, functionalize, "Functionalize")
    else:

        def batch(info: Any, in_dims: Any, *args: Any) -> Any:
            calls = [op(*_entry(args, in_dims, index)) for index in range(max(info.batch_size, 1))]
            if isinstance(calls[0], torch.Tensor):
                return torch.stack(calls)[: info.batch_size], 0
            outputs = tuple(torch.stack(each)[: info.batch_size] for each in zip(*calls, strict=True))
            return outputs, (0,) * len(outputs)

        register_operator(op, lambda: operator.kernel, lambda args: _compiled(operator, args))
    torch.library.register_vmap(qualified, batch, lib=library)
    register_sharding(op, lambda ranks: _cuts(operator, ranks), operator.written)
    _by_op[op] = operator
    _register_autocast(op, operator)
    return op


def _register_autocast(op: torch._ops.OpOverload, operator: _Operator) -> None:
    """Without a rule nothing is registered: the user may do so."""
    if operator.autocast is None or operator.casts:
        return
    operator.casts = True

    def arguments(args: Sequence[Any], device: str) -> Sequence[Any]:
        rule = operator.autocast
        if rule is None:
            return args
        whole = operator.arguments(tuple(args))
        return cast(operator.kernel, list(whole.values()), rule, device)

    library = _library(operator.name.partition("::")[0])
    register_autocast(library, op, operator.qualified.partition("::")[2], arguments)


def _cuts(operator: _Operator, ranks: dict[int, int]) -> list[tuple[dict[int, int], list[int]]]:
    """Along which dimensions of the arguments and outputs a call may be split among processes.

    ranks: the number of dimensions of each tensor argument, by position.
    """
    kernel = operator.kernel
    tensors = {at: kernel.tensor(operator.names[at]) for at in ranks}
    leading: dict[str, int] = {}  # how many sizes each `R...` stands for
    for at, tensor in tensors.items():
        if tensor.dims and isinstance(tensor.dims[0], ir.RestDim):
            leading[tensor.dims[0].name] = ranks[at] - len(tensor.dims) + 1

    def dimension(tensor: ir.Tensor, place: int, index: int) -> int:
        first = tensor.dims[0]
        if not isinstance(first, ir.RestDim):
            return place
        return place - 1 + leading[first.name] if place else index

    return [
        (
            {
                at: dimension(tensor, places[tensor.name], index)
                for at, tensor in tensors.items()
                if tensor.name in places
            },
            [dimension(output, places[output.name], index) for output in kernel.outputs],
        )
        for name, places in independent_dims(kernel).items()
        for index in range(leading.get(name, 1))
    ]


def _entry(args: Sequence[Any], in_dims: Sequence[int | None], index: int) -> list[Any]:
    """The arguments of one entry of a batch; of an empty batch, some of the same shapes."""
    entry = []
    for value, dim in zip(args, in_dims, strict=True):
        if dim is None:
            entry.append(value)
        elif value.shape[dim]:
            entry.append(value.select(dim, index))
        else:
            entry.append(value.new_zeros(value.movedim(dim, 0).shape[1:]))
    return entry


def _define_functional(operator: _Operator) -> torch._ops.OpOverload:
    """The operator that stands in graphs for one that writes to its arguments: it writes to none, and
    returns their new values after the outputs."""
    library, qualified = _library(operator.name.partition("::")[0]), f"{operator.qualified}_functional"
    local = qualified.partition("::")[2]

    def run(*args: Any) -> Any:
        arguments = _unshared(operator, operator.arguments(args))
        return operator.shaped((*_run(operator, arguments), *operator.written_values(arguments)))

    def meta(*args: Any) -> Any:
        arguments = operator.arguments(args)
        _make_static(operator.kernel, arguments)
        outputs = _empty(_resolve(operator.kernel, arguments), _device(operator.kernel, arguments))
        return operator.shaped((*outputs, *map(torch.empty_like, operator.written_values(arguments))))

    library.define(f"{local}{operator.schema(functional=True)}", tags=TAGS)
    library.impl(local, run, "CompositeExplicitAutograd")
    torch.library.register_fake(qualified, meta, lib=library)
    op = _overload(qualified)
    library.impl(local, _autograd(op, operator), "Autograd", with_keyset=True)
    register_operator(op, lambda: operator.kernel, lambda args: _compiled(operator, args))
    _functional[op] = operator
    return op


def _unshared(operator: _Operator, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with copies of those that are written to."""
    return arguments | {
        operator.names[index]: arguments[operator.names[index]].clone() for index in operator.written
    }


def _make_static(kernel: ir.Kernel, arguments: dict[str, Any]) -> None:
    """Fixes the sizes that the kernel's text must know, while the graph is traced: what was made before the
    call then has them too, and an export with such a size left open fails here, not in another process."""
    if _device(kernel, arguments).type == "cpu" and not interpreted():
        return
    for name, axis in static_axes(kernel):
        if arguments[name] is not None:
            tensor = kernel.tensor(name)
            behind_rest = any(isinstance(dim, ir.RestDim) for dim in tensor.dims[:axis])
            place = axis - len(tensor.dims) if behind_rest else axis
            for size in static_sizes(tensor, axis, arguments[name].shape):
                with _known(
                    tensor,
                    f"a size of '{name}' is known only when the program runs, and the kernel's text needs it "
                    "('whole', 'let', a block or a compile-time condition)",
                    f"torch._check({name}.shape[{place}] == 64), before the call, says which number it is",
                ):
                    int(size)


@contextmanager
def _known(node: ir.Node, message: str, help_: str) -> Iterator[None]:
    """What is asked inside of sizes has an answer, or else this is the error: of PyTorch's kind, at which a graph that may
    be broken is."""
    try:
        yield
    except GuardOnDataDependentSymNode as error:
        said = TdslError([Diagnostic(code=Code.BAD_ARGUMENT, message=message, span=node.span, help=help_)])
        raise GuardOnDataDependentSymNode(error.cond, f"{said}\n{error.cond}") from None


def _answered(expr: ir.Expr) -> AbstractContextManager[None]:
    """Of a guard or a size of a signature."""
    guard = expr.type.dtype in (BOOL, WEAK_BOOL)
    what = f"whether '{expr.span.text}' holds" if guard else f"what '{expr.span.text}' comes to"
    return _known(
        expr,
        f"{what} is known only when the program runs",
        f"torch._check(...), before the call, says {'that it does' if guard else 'what decides it'}: "
        "of the sizes as the program has them",
    )


def _registered(operator: _Operator) -> torch._ops.OpOverload:
    return _overload(operator.qualified)


def _overload(qualified: str) -> torch._ops.OpOverload:
    namespace, _, name = qualified.partition("::")
    packet, _, overload = name.partition(".")
    op: torch._ops.OpOverload = getattr(getattr(getattr(torch.ops, namespace), packet), overload)
    return op


@cache
def refusing_operator() -> torch._ops.OpOverload:
    """An operator that does nothing but raise what is wrong with a call."""

    def refuse(op: str, message: str, parameter: str) -> None:
        kernel = next(operator.kernel for known, operator in _by_op.items() if str(known) == op)
        raise argument_error(kernel, message, parameter)

    library = _library("tdsl")
    library.define("refuse(str op, str message, str parameter) -> ()", tags=torch.Tag.pt2_compliant_tag)
    library.impl("refuse", refuse, "CompositeExplicitAutograd")
    torch.library.register_fake("tdsl::refuse", refuse, lib=library)
    op: torch._ops.OpOverload = torch.ops.tdsl.refuse.default
    return op


@cache
def _library(namespace: str) -> torch.library.Library:
    library = torch.library.Library(namespace, "FRAGMENT")
    keep_forever(library)
    return library


def _meaning(kernel: ir.Kernel, function: Reference, backward: Backward | None, autocast: Rule | None) -> str:
    """All that decides what a compiled call does, as text: a compiled graph holds the kernel, the reference where that
    runs or is differentiated, and what the backward calls."""
    parts = (
        kernel.source.text,
        kernel.name,
        own_digest(),
        "interpreted" if interpreted() else "",
        "" if autocast is None else str(autocast),
        *meaning(function),
        *(() if backward is None else ("backward", *sorted(backward.saves), *meaning(backward.function))),
    )
    return "\0".join(("", *parts, ""))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _described(ops: Iterable[object]) -> list[str]:
    """Of the operators that a graph calls, what the names of those of tdsl's do not say: of each that an author has
    named, and of each such one in a reference, its digest."""
    waiting = [
        operator
        for op in ops
        for known in (op.op_overloads() if isinstance(op, torch._ops.OpOverloadPacket) else [op])
        if (operator := _by_op.get(known) or _functional.get(known)) is not None
    ]
    named = [operator for versions in _named.values() for operator in versions.values()]
    seen: dict[str, _Operator] = {}
    while waiting:
        operator = waiting.pop()
        if operator.qualified not in seen:
            seen[operator.qualified] = operator
            waiting += [other for other in named if _mentions(operator.meaning, other.name)]
    return sorted(
        f"{name} {_digest(operator.meaning)}" for name, operator in seen.items() if operator in named
    )


def _mentions(text: str, name: str) -> bool:
    """Whether what a reference means has an operator in it: a template, an operator, or `torch.ops.` and the names."""
    namespace, _, local = name.partition("::")
    return f"{namespace}.{local}" in text or (f"\0{namespace}\0" in text and f"\0{local}\0" in text)


def reference_of(op: object) -> Reference | None:
    """What an operator of tdsl's means, in PyTorch: takes the operator's arguments and checks nothing.

    None for any other operator, and for a template without a reference.
    """
    operator = _by_op.get(op)
    if operator is None or operator.reference is None:
        return None
    return lambda *args: _reference(operator, operator.arguments(args))


def has_backward(op: object) -> bool:
    """Whether an operator is one of tdsl's that has a backward of its own."""
    return (operator := _by_op.get(op)) is not None and operator.backward is not None


def check_call(op: torch._ops.OpOverload, arguments: dict[str, Any]) -> None:
    """Raises TdslError if an operator of tdsl's cannot be called with the arguments, by name."""
    operator = _by_op[op]
    _resolve(operator.kernel, arguments)
    _check_written(operator, arguments)


# Running


def _run(operator: _Operator, arguments: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    kernel = operator.kernel
    resolution = _resolve(kernel, arguments)
    device = _device(kernel, arguments).type
    if (device == "cpu" and not interpreted()) or _is_ruled_out(operator, device):
        return _refer(operator, arguments, resolution)
    return launch(kernel, arguments, resolution, f32_precision(device))


def _compiled(operator: _Operator, args: tuple[Any, ...]) -> Any:
    """What a call becomes in a graph before it is lowered: the reference, where that is what runs."""
    arguments = operator.arguments(args)
    kernel = operator.kernel
    on_cpu = _device(kernel, arguments).type == "cpu"
    if not on_cpu or (interpreted() and not (runs_without_python() and operator.reference is not None)):
        return NotImplemented
    if not operator.written:
        return operator.shaped(_refer(operator, arguments, _resolve(kernel, arguments)))

    def functional(*args: Any) -> Any:
        arguments = _unshared(operator, operator.arguments(args))
        outputs = _refer(operator, arguments, _resolve(kernel, arguments))
        return operator.shaped((*outputs, *operator.written_values(arguments)))

    return without_mutation(functional, args)


def _is_ruled_out(operator: _Operator, device: str) -> bool:
    """Whether the kernel's result would differ from run to run, and who asked that none does has a reference
    to run instead. Without one it is as PyTorch has it: an error, or a warning."""
    if device == "cpu" or not torch.are_deterministic_algorithms_enabled():
        return False
    if not accumulates(operator.kernel):
        return False
    if operator.reference is not None:
        return True
    message = (
        f"template '{operator.kernel.name}' accumulates in no fixed order and has no reference to run instead, "
        "but torch.use_deterministic_algorithms(True) asks for results that are the same in every run"
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, stacklevel=2)
    return False


def _refer(
    operator: _Operator, arguments: dict[str, Any], resolution: Resolution, *, own: bool = True
) -> tuple[torch.Tensor, ...]:
    """The reference's outputs, as the operator promises them: of the declared sizes and dtypes, contiguous,
    and sharing memory with nothing.

    own: False for tensors of a `torch.func` transform, which cannot say what memory they have.
    """
    kernel = operator.kernel
    if operator.reference is None:
        message = f"'{kernel.name}' has no reference, and a CPU runs kernels only with TRITON_INTERPRET=1"
        help = (
            "set it before Triton is imported, or write what the template means as the body of its function"
        )
        raise TdslError([replace(_wrong(message, kernel), help=help)])
    versions = {name: _version(value) for name, value in arguments.items()}
    returned = _reference(operator, arguments)
    for param in kernel.params if not operator.written else ():  # a view of what is written counts with it
        if _version(arguments[param.name]) != versions[param.name]:
            raise TdslError([_wrong(f"the reference writes to '{param.name}', which is not inout", param)])
    outputs = returned if isinstance(returned, tuple | list) else (returned,)
    if not kernel.outputs:
        # `return y.add_(x)` returns what was written to.
        written = operator.written_values(arguments)
        outputs = [value for value in outputs if not (value is None or any(value is it for it in written))]
    if len(outputs) != len(kernel.outputs):
        message = (
            f"the reference of '{kernel.name}' returned {len(outputs)} values, not {len(kernel.outputs)}"
        )
        raise TdslError([_wrong(message, kernel)])
    taken = {_storage(value) for value in arguments.values() if own and isinstance(value, torch.Tensor)}
    made = []
    for output, value, declared in zip(kernel.outputs, outputs, resolution.outputs, strict=True):
        found = _info(value) if isinstance(value, torch.Tensor) else None
        if found is None or found.dtype != declared.dtype or tuple(found.shape) != tuple(declared.shape):
            shown = f"{found.dtype}{list(found.shape)}" if found else repr(value)
            message = f"the reference returned {shown} for '{output.name}', not {declared.dtype}{list(declared.shape)}"
            raise TdslError([_wrong(message, output)])
        if not own:
            made.append(value.clone(memory_format=torch.contiguous_format))
            continue
        value = value.detach().contiguous() if not torch.is_grad_enabled() else value.contiguous()
        made.append(value.clone() if _storage(value) in taken else value)
        taken.add(_storage(made[-1]))
    return tuple(made)


def _version(value: Any) -> int | None:
    """How often a tensor was written to, where that is known."""
    return value._version if isinstance(value, torch.Tensor) and not value.is_inference() else None


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _reference(operator: _Operator, arguments: Mapping[str, Any]) -> Any:
    """What the reference returns."""
    assert operator.reference is not None, "a call without one was refused before"
    kernel = operator.kernel
    with _without_autocast(_device(kernel, arguments)):
        return operator.reference(*_as_known(kernel, arguments).values())


def _as_known(kernel: ir.Kernel, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are there, in order, a dtype as the one that a reference's author knows."""
    return {
        param.name: dtypes.TORCH[arguments[param.name]]
        if isinstance(param, ir.Const) and param.type == "dtype"
        else arguments[param.name]
        for param in kernel.params
        if param.name in arguments
    }


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A reference means what the template says, whose dtypes are not autocast's to change."""
    if not torch.amp.is_autocast_available(device.type):  # of a meta tensor, say
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def _autocasts(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _check_written(operator: _Operator, arguments: dict[str, Any]) -> dict[str, Any]:
    """Raises TdslError where the values written would depend on the order of writing.

    Returns the arguments, with a copy of each that shares elements with one that is written to and is only
    read: reading it means its old values.
    """
    if not operator.written:
        return arguments
    written = [operator.names[index] for index in operator.written]
    copies: dict[str, Any] = {}
    for position, name in enumerate(written):
        tensor = arguments[name]
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            continue  # refused later
        if tensor.is_neg():
            raise TdslError([_cannot_write(operator, name, "it is the negative of what its memory holds")])
        if overlaps_itself(_region(tensor)):
            raise TdslError(
                [_cannot_write(operator, name, "several of its elements are one (an expanded tensor)")]
            )
        for other, value in arguments.items():
            if other == name or other in written[:position] or not _share(tensor, value):
                continue
            if other in written:
                raise TdslError(
                    [_cannot_write(operator, name, f"it shares elements with '{other}', which is too")]
                )
            copies[other] = value.clone()
    return arguments | copies


def _check_inference(written: tuple[torch.Tensor, ...]) -> None:
    """Refuses to write where PyTorch's own operators do, in their words."""
    if not torch.is_inference_mode_enabled() and any(tensor.is_inference() for tensor in written):
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed. "
            "You can make a clone to get a normal tensor before doing inplace update."
        )


def _cannot_write(operator: _Operator, name: str, why: str) -> Diagnostic:
    param = operator.kernel.tensor(name)
    return _wrong(f"'{name}' is written to, and {why}; pass a clone of it", param)


def _share(a: torch.Tensor, b: Any) -> bool:
    if not isinstance(b, torch.Tensor) or b.layout != torch.strided or _storage(a) != _storage(b):
        return False
    if a.dtype.itemsize != b.dtype.itemsize:
        a, b = a.view(torch.uint8), b.view(torch.uint8)
    return overlap(_region(a), _region(b))


def _region(tensor: torch.Tensor) -> Region:
    return Region(tensor.storage_offset(), tensor.shape, tensor.stride())


def _resolve(kernel: ir.Kernel, arguments: Mapping[str, Any]) -> Resolution:
    for param in kernel.params:
        value = arguments.get(param.name)
        if isinstance(value, torch.Tensor) and (value.is_nested or value.layout != torch.strided):
            kind = "nested" if value.is_nested else str(value.layout).removeprefix("torch.").strip("_")
            raise TdslError([_wrong(f"'{param.name}' must be a strided tensor; got a {kind} one", param)])
    return resolve(kernel, _infos(arguments), _answered, _holds)


def _infos(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _info(value) if isinstance(value, torch.Tensor) else value for name, value in arguments.items()
    }


@contextmanager
def _autocast_named(operator: _Operator, args: tuple[Any, ...]) -> Iterator[None]:
    """Names the rule for autocast, if one is what a call lacks that is wrong."""
    try:
        yield
    except TdslError as error:
        rule = _rule_that_helps(operator.kernel, operator.arguments(args))
        if rule is None:
            raise
        help = f"autocast is on, and casts no template's arguments unless asked to: autocast={rule!r} on the decorator does"
        raise TdslError([replace(each, help=each.help or help) for each in error.diagnostics]) from None


def _rule_that_helps(kernel: ir.Kernel, arguments: Mapping[str, Any]) -> str | None:
    given = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    devices = {value.device.type for value in given.values()}
    if len(devices) != 1 or not _autocasts(device := devices.pop()):
        return None
    infos = _infos(arguments)
    with suppress(TdslError):
        resolve(kernel, infos, _answered, _holds)
        return None  # something else was wrong
    for rule in ("lower", "promote"):
        targets = cast_dtypes(kernel, {name: value.dtype for name, value in given.items()}, rule, device)
        cast_infos = {
            name: replace(info, dtype=dtypes.NAMES[targets[name]]) if name in targets else info
            for name, info in infos.items()
        }
        with suppress(TdslError):
            resolve(kernel, cast_infos, _answered, _holds)
            return rule
    return None


def _holds(condition: Any) -> bool:
    """Also where it is known only when the graph runs, which then says so itself."""
    if not guard_or_true(condition):
        return False
    if isinstance(condition, torch.SymBool):
        torch._check(condition)
    return True


def _info(tensor: torch.Tensor) -> TensorInfo:
    return TensorInfo(dtypes.NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))


def _device(kernel: ir.Kernel, arguments: Mapping[str, Any]) -> torch.device:
    """The one device of all tensors."""
    first: tuple[str, torch.device] | None = None
    for param in kernel.params:
        value = arguments.get(param.name)
        if isinstance(value, torch.Tensor):
            if first is None:
                first = (param.name, value.device)
            elif value.device != first[1]:
                message = f"'{param.name}' must be on {first[1]}, as '{first[0]}' is; got {value.device}"
                raise TdslError([_wrong(message, param)])
    assert first is not None, "an operator without a tensor was refused at its decoration"
    return first[1]


def _empty(resolution: Resolution, device: torch.device) -> tuple[torch.Tensor, ...]:
    return tuple(
        torch.empty(info.shape, dtype=dtypes.TORCH[info.dtype], device=device) for info in resolution.outputs
    )


def argument_error(kernel: ir.Kernel, message: str, parameter: str = "") -> TdslError:
    """`parameter`: the one that the mistake is about, if it is about one."""
    return TdslError([_wrong(message, next((p for p in kernel.params if p.name == parameter), kernel))])


def _wrong(message: str, node: ir.Node, code: Code = Code.BAD_ARGUMENT) -> Diagnostic:
    return Diagnostic(code=code, message=message, span=node.span)


# Gradients


def _autograd(op: torch._ops.OpOverload, operator: _Operator) -> Callable[..., Any]:
    """What a call is where gradients are taken: a node of the graph, whose derivative is the operator's own
    backward, or the reference's."""
    writes = [argument.is_write for argument in op._schema.arguments]

    class Call(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, keyset: Any, *args: Any) -> Any:
            with _autocast_named(operator, args):
                result = call_below_autograd(op, keyset, args)
            _save(operator, ctx, args, result)
            return result

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return None, *_backward(operator, ctx, grads)

    Call.__name__ = Call.__qualname__ = operator.kernel.name

    def call(keyset: Any, *args: Any) -> Any:
        kernel = operator.kernel
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        forward = has_tangent(tensors)
        if wanted or forward:
            if operator.written:
                raise TdslError([_no_gradient(kernel, "it writes to its arguments")])
            by_reference = forward or in_transform()
            if operator.reference is None and (by_reference or operator.backward is None):
                why = "it has no reference to differentiate"
                if operator.backward is not None:
                    why += ", as forward mode and torch.func do in place of its backward"
                help = (
                    "write what it means in PyTorch as the body of its function"
                    f"{'' if operator.backward else f', give it a gradient (@{kernel.name}.backward)'}, "
                    "or call it under torch.no_grad()"
                )
                raise TdslError([_no_gradient(kernel, why, help)])
            if by_reference:
                # Another kind of derivative: PyTorch has it of all that the reference calls.
                arguments = operator.arguments(args)
                device = _device(kernel, arguments).type
                if in_transform() and _autocasts(device):
                    # Below a transform's wrappers autocast is as it was at this call, whatever is set here.
                    why = "autocast is on, and torch.func would have the reference calculate in another dtype"
                    help = f"take the derivative under torch.autocast('{device}', enabled=False)"
                    raise TdslError([_no_gradient(kernel, why, help)])
                return operator.shaped(_refer(operator, arguments, _resolve(kernel, arguments), own=False))
            return Call.apply(keyset, *args)  # type: ignore[no-untyped-call]
        with _autocast_named(operator, args):  # seen here and not below, where a graph is traced
            result = call_below_autograd(op, keyset, args)
        if operator.written:
            # Whoever saved a written tensor for a gradient must notice.
            written = [
                value
                for value, write in zip(args, writes, strict=False)
                if write and not value.is_inference()
            ]
            torch.autograd.graph.increment_version(written)
        return result

    return call


_by_reference = False


@contextmanager
def reference_gradients() -> Iterator[None]:
    """The derivative of a template that is called inside is its reference's, also where it has a backward of
    its own: for tests, to compare the two. Where it has no reference it is its own all the same."""
    global _by_reference
    before, _by_reference = _by_reference, True
    try:
        yield
    finally:
        _by_reference = before


def _save(operator: _Operator, ctx: Any, args: tuple[Any, ...], result: Any) -> None:
    arguments = operator.arguments(args)
    own = operator.backward
    if _by_reference and operator.reference is not None:
        own = None
    tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    kept = dict(tensors)
    if own is not None:
        outputs = (result,) if isinstance(result, torch.Tensor) else result
        kept |= {output.name: value for output, value in zip(operator.kernel.outputs, outputs, strict=True)}
        kept = {name: value for name, value in kept.items() if name in own.saves}
    ctx.save_for_backward(*kept.values())
    ctx.own, ctx.kept, ctx.given = own, tuple(kept), len(args)
    ctx.plain = {name: value for name, value in arguments.items() if name not in tensors}
    ctx.likes = {name: Like.of(value) for name, value in tensors.items()}


def _backward(operator: _Operator, ctx: Any, grads: tuple[Any, ...]) -> list[Any]:
    """The gradient of each argument of a call, or None."""
    again = torch.is_grad_enabled()  # is the gradient to be differentiated, too?
    kernel, own = operator.kernel, ctx.own
    names = operator.names[: ctx.given]
    wanted = [name for name, needed in zip(names, ctx.needs_input_grad[1:], strict=True) if needed]
    values = ctx.plain | dict(zip(ctx.kept, ctx.saved_tensors, strict=True))
    if own is None or again:
        if own is not None:
            _check_second(operator, own, values)
        found = _reference_gradients(operator, values, grads, wanted, again)
    else:
        with _without_autocast(ctx.likes[wanted[0]].device):
            known = _as_known(kernel, values) | {
                output.name: values[output.name] for output in kernel.outputs if output.name in values
            }
            found = own.gradients(known, grads, ctx.likes, wanted, _holds)
    return [found.get(name) for name in names]


def _check_second(operator: _Operator, own: Backward, values: Mapping[str, Any]) -> None:
    """Raises TdslError where the reference, whose derivative is differentiable, cannot be recomputed."""
    kernel = operator.kernel
    what = f"a second derivative of '{kernel.name}' (create_graph=True) is one of its reference, not of its backward"
    if operator.reference is None:
        help = "write what the template means in PyTorch as the body of its function"
        raise own.error(f"{what}, and it has none", kernel, help)
    for param in kernel.params:
        if param.name not in values:
            help = f"add '{param.name}' to saves="
            raise own.error(f"{what}, which needs '{param.name}'", param, help)


def _reference_gradients(
    operator: _Operator,
    arguments: Mapping[str, Any],
    grads: tuple[Any, ...],
    wanted: Sequence[str],
    again: bool,
) -> dict[str, torch.Tensor | None]:
    """Recomputes the reference and differentiates it; again differentiable."""
    with torch.enable_grad():
        # A view is a node of the graph of its own: differentiating stops here, and can go on later.
        arguments = {
            name: arguments[name].view_as(arguments[name]) if name in wanted else arguments[name]
            for name in operator.names
        }
        returned = _reference(operator, arguments)
        outputs = returned if isinstance(returned, tuple | list) else (returned,)
        pairs = [
            (output, grad)
            for output, grad in zip(outputs, grads, strict=True)
            if grad is not None and output.requires_grad
        ]
        if not pairs:
            return {}
        with _without_autocast(arguments[wanted[0]].device):
            found = torch.autograd.grad(
                [output for output, _ in pairs],
                [arguments[name] for name in wanted],
                [grad for _, grad in pairs],
                allow_unused=True,
                create_graph=again,
            )
    return dict(zip(wanted, found, strict=True))


def _no_gradient(
    kernel: ir.Kernel, why: str, help: str = "call it under torch.no_grad(), or detach the argument"
) -> Diagnostic:
    return Diagnostic(
        code=Code.BAD_ARGUMENT,
        message=f"'{kernel.name}' cannot be differentiated, and an argument requires a gradient: {why}",
        span=kernel.span,
        help=help,
    )

"""From Python: the decorator that makes a template a PyTorch operator.

    @tdsl.template("matmul.tdsl")
    def matmul(A, B):                 ->   torch.ops.tdsl.matmul.d3f9..., with .op .template .reference
        return A @ B

The operator's parameters are the template's, its meta function is the template's signature, its autograd
formula is the reference's. Eagerly it runs the kernel unfused on a GPU (and on a CPU whose Triton is
interpreted), else the reference. Under `torch.compile` a call is lowered by `lower.inductor`.
"""

from __future__ import annotations

import ctypes
import dis
import hashlib
import inspect
import json
import math
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache, update_wrapper
from pathlib import Path
from typing import Any

import torch
from torch import SymFloat, SymInt, Tensor
from torch.compiler import is_compiling
from typing_extensions import assert_never

from tdsl import ir, pipeline
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.identity import meaning
from tdsl.lower import static_axes
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.caches import stored
from tdsl.lower.inductor.launch import launch, static_sizes
from tdsl.lower.inductor.overlap import Region, overlap, overlaps_itself
from tdsl.lower.inductor.private import (
    call_functional,
    has_tangent,
    in_transform,
    without_mutation,
    without_wrappers,
)
from tdsl.lower.inductor.registration import (
    accumulates,
    call_below_autograd,
    f32_precision,
    interpreted,
    register_operator,
    runs_without_python,
)
from tdsl.signature import Resolution, TensorInfo, resolve
from tdsl.source import Source

Reference = Callable[..., Any]


def template(
    path: str | os.PathLike[str] | None = None, *, source: str | None = None, name: str | None = None
) -> Callable[[Reference], Template]:
    """Makes an operator of the template in the file `path`, or in the text `source`.

    A relative path is beside the module of the decorated function. `name` is the template's name in the
    file, the function's own unless given. The function's parameters are the template's, by name and in
    order; its body is the reference: what the template means, in PyTorch, or `...` for none.

    Raises TdslError if the template is wrong or disagrees with the function.
    """
    if callable(path):
        raise TypeError("template() needs a path, or source=: write @tdsl.template('file.tdsl')")
    if (path is None) == (source is None):
        raise TypeError("template() takes a path or source=, one of the two")

    def decorate(function: Reference) -> Template:
        text = _read(path, function) if path is not None else Source("<string>", str(source))
        wanted = name or function.__name__
        key = (_own_digest(), sys.version, text.name, text.text, wanted)
        return Template(stored(key, lambda: pipeline.load(text, wanted)), function)

    return decorate


class Template:
    """A template as an operator. Call it with the template's arguments.

    `op` is the operator (`torch.ops.tdsl.NAME`, an overload for each text of the template), `template` the
    checked kernel, `reference` the decorated function, or None if its body is `...`.
    """

    op: torch._ops.OpOverload
    template: ir.Kernel
    reference: Reference | None

    def __init__(self, kernel: ir.Kernel, function: Reference) -> None:
        _compare(kernel, function)
        self.template = kernel
        self.reference = None if _is_empty(function) else function
        update_wrapper(self, function)
        self._parameters = tuple(param.name for param in kernel.params)
        self._defaults = _defaults(kernel, function)
        # One letter for each parameter: torch.compile guards whatever a call reads, at every call.
        self._kinds = "".join(map(_kind, kernel.params))
        # PyTorch makes what it is given of these what its schema says; of tensors it does not.
        self._plain = tuple((at, kind) for at, kind in enumerate(self._kinds) if kind not in "?t")
        self.op = _operator(self)
        self._name, self._refusal = str(self.op), _refusal()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Runs the template.

        Raises TdslError, naming the parameter, for an argument that is missing, of a wrong rank, dtype,
        size or device, or against a guard.
        """
        kinds = self._kinds
        if kwargs or len(args) != len(kinds) or "d" in kinds:
            args = self._arrange(args, kwargs)
        compiling = is_compiling()
        for index, kind in enumerate(kinds) if compiling else self._plain:
            if not _accepts(args[index], kind):
                wanted, got = _KINDS[kind], _described(args[index])
                self._refuse(f"'{self._parameters[index]}' must be {wanted}; got {got}")
        if compiling:
            return self.op(*args)
        try:
            return self.op(*args)
        except (RuntimeError, TypeError, ValueError):
            # PyTorch's own words for an argument of a wrong kind name a schema, not the template.
            self._check(args)
            raise

    def _arrange(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """The arguments in the template's order."""
        if len(args) > len(self._parameters):
            self._refuse(f"{self.template.name} takes {len(self._parameters)} arguments; got {len(args)}")
        given = dict(zip(self._parameters, args, strict=False))
        for name, value in kwargs.items():
            if name not in self._parameters:
                known = ", ".join(self._parameters)
                self._refuse(f"{self.template.name} has no parameter '{name}'; it has {known}")
            if name in given:
                self._refuse(f"'{name}' is given twice")
            given[name] = value
        for name in self._parameters:
            if name not in given:
                if name not in self._defaults:
                    self._refuse(f"'{name}' is missing")
                given[name] = self._defaults[name]
        for name, kind in zip(self._parameters, self._kinds, strict=True):
            if kind == "d" and isinstance(given[name], torch.dtype):
                given[name] = dtypes.NAMES.get(given[name], str(given[name]))
        return tuple([given[name] for name in self._parameters])

    def _refuse(self, message: str) -> None:
        if is_compiling():
            # Dynamo cannot raise our error, but shows the one that an operator raises.
            self._refusal(self._name, message)
        raise _refused(self.template, message)

    def _check(self, args: tuple[Any, ...]) -> None:
        """Raises TdslError if the arguments do not fit the template."""
        arguments = dict(zip(self._parameters, args, strict=True))
        _resolve(self.template, arguments)
        _check_written(_by_op[self.op], arguments)

    def __repr__(self) -> str:
        return f"<template {self.template.name}: {self.op}>"


def reference_of(op: object) -> Reference | None:
    """What an operator of tdsl's means, in PyTorch: takes the operator's arguments and checks nothing.

    None for any other operator, and for a template without a reference.
    """
    operator = _by_op.get(op)
    if operator is None or (reference := operator.reference) is None:
        return None
    return lambda *args: reference(*_for_reference(operator.kernel, operator.arguments(args)))


_KINDS = {"t": "a tensor", "b": "a bool", "i": "an int", "f": "a float", "d": "a dtype", "s": "a string"}


def _kind(param: ir.Tensor | ir.Scalar | ir.Const) -> str:
    """A letter of `_KINDS`; '?' for a tensor that may be None."""
    if isinstance(param, ir.Tensor):
        return "?" if param.optional else "t"
    return param.type[0]


def _accepts(value: Any, kind: str) -> bool:
    """Whether an argument is of a kind of parameter. Dynamo reads this."""
    if kind == "t":
        return isinstance(value, Tensor)
    if kind == "?":
        return True
    if kind == "b":
        return isinstance(value, bool)
    if kind == "d" or kind == "s":
        return isinstance(value, str)
    if isinstance(value, bool | str | Tensor):
        return False  # PyTorch takes a number out of a tensor when nothing is compiled, and only then
    if kind == "i":
        return isinstance(value, int | SymInt) or hasattr(value, "__index__")
    return isinstance(value, int | float | SymInt | SymFloat) or hasattr(value, "__float__")


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "a tensor; for a number that is one, declare 'f32[]' and 'load' it with '[]'"
    if is_compiling() and isinstance(value, int | float) and not isinstance(value, bool):
        return "an int" if isinstance(value, int) else "a float"  # which one may not be known
    return repr(value)


def _refused(kernel: ir.Kernel, message: str) -> TdslError:
    return TdslError([Diagnostic(code=Code.BAD_ARGUMENT, message=message, span=kernel.span)])


@cache
def _refusal() -> torch._ops.OpOverload:
    """An operator that does nothing but raise what is wrong with a call."""

    def refuse(op: str, message: str) -> None:
        raise _refused(
            next(known.kernel for known in _by_op.values() if str(_registered(known)) == op), message
        )

    library = _library()
    library.define("refuse(str op, str message) -> ()", tags=torch.Tag.pt2_compliant_tag)
    library.impl("refuse", refuse, "CompositeExplicitAutograd")
    torch.library.register_fake("tdsl::refuse", refuse, lib=library)
    op: torch._ops.OpOverload = torch.ops.tdsl.refuse.default
    return op


# What a template and a function must agree on


def _compare(kernel: ir.Kernel, function: Reference) -> None:
    code = function.__code__
    where = f"{code.co_filename}:{code.co_firstlineno}"
    parameters = list(inspect.signature(function).parameters.values())

    def refuse(message: str, node: ir.Node) -> None:
        help = f"the decorated function is '{function.__name__}' at {where}"
        raise TdslError([Diagnostic(code=Code.BAD_PARAM, message=message, span=node.span, help=help)])

    for index, parameter in enumerate(parameters):
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            refuse(
                f"the function's '{parameter}' is no parameter of a template: those have a position", kernel
            )
        if index >= len(kernel.params):
            refuse(f"the function has a parameter '{parameter.name}' that the template lacks", kernel)
        param = kernel.params[index]
        if parameter.name != param.name:
            refuse(
                f"parameter {index + 1} is '{param.name}' here and '{parameter.name}' in the function", param
            )
        if isinstance(param, ir.Const):
            default = None if parameter.default is parameter.empty else parameter.default
            default = dtypes.NAMES.get(default, default) if isinstance(default, torch.dtype) else default
            if default != param.default or type(default) is not type(param.default):
                refuse(
                    f"'{param.name}' is {_shown(param.default)} by default here and {_shown(default)} in the function",
                    param,
                )
    if len(parameters) < len(kernel.params):
        param = kernel.params[len(parameters)]
        refuse(f"'{param.name}' is no parameter of the function", param)
    if not any(isinstance(param, ir.Tensor) and not param.optional for param in kernel.params):
        refuse(f"{kernel.name} has no tensor parameter that says on which device to run", kernel)


def _shown(default: object) -> str:
    return "nothing" if default is None else repr(default)


def _defaults(kernel: ir.Kernel, function: Reference) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for param, parameter in zip(kernel.params, inspect.signature(function).parameters.values(), strict=True):
        if isinstance(param, ir.Const):
            if param.default is not None:
                defaults[param.name] = param.default
        elif parameter.default is not parameter.empty:
            defaults[param.name] = parameter.default
        elif isinstance(param, ir.Tensor) and param.optional:
            defaults[param.name] = None
    return defaults


def _is_empty(function: Reference) -> bool:
    """Whether the body is `...` (or nothing but a docstring)."""
    skipped = {"RESUME", "NOP", "COPY_FREE_VARS", "CACHE"}
    steps = [step for step in dis.get_instructions(function) if step.opname not in skipped]
    return all(
        step.opname in ("LOAD_CONST", "RETURN_CONST", "RETURN_VALUE")
        and (step.opname == "RETURN_VALUE" or step.argval is None)
        for step in steps
    )


def _read(path: str | os.PathLike[str], function: Reference) -> Source:
    from tdsl.grammar import read

    file = function.__globals__.get("__file__")
    return read(Path(file).parent / path if file else Path(path))


# The operator

_lock = threading.RLock()
_operators: dict[str, list[_Operator]] = {}  # name and digest -> one for each reference
_by_op: dict[object, _Operator] = {}

TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.flexible_layout)


class _Operator:
    """What the functions registered for one operator look up."""

    def __init__(self, template: Template, overload: str) -> None:
        self.kernel = template.template
        self.reference = template.reference
        self.function: Reference = template.__wrapped__  # type: ignore[attr-defined]
        self.overload = overload
        self.names = tuple(param.name for param in self.kernel.params)
        self.defaults = _trailing(self.names, template._defaults)
        # The positions of the parameters that are written to.
        self.written = tuple(
            index
            for index, param in enumerate(self.kernel.params)
            if isinstance(param, ir.Tensor) and param.inout
        )

    def is_of(self, function: Reference) -> bool:
        """Whether `function` is this operator's reference, or that function defined once more."""
        mine = self.function
        return mine is function or (
            mine.__code__ == function.__code__
            and mine.__module__ == function.__module__
            and not mine.__closure__
            and not function.__closure__
        )

    def arguments(self, args: tuple[Any, ...]) -> dict[str, Any]:
        """By name. The dispatcher leaves out those that are as their defaults."""
        missing = len(self.names) - len(args)
        return dict(zip(self.names, (*args, *self.defaults[len(self.defaults) - missing :]), strict=True))

    def news(self, arguments: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
        """The arguments that are written to."""
        return tuple([arguments[self.names[index]] for index in self.written])

    def shaped(self, outputs: tuple[torch.Tensor, ...]) -> Any:
        """As the schema returns them: nothing, one tensor, or a tuple."""
        if not outputs:
            return None
        return outputs[0] if len(outputs) == 1 else outputs

    def schema(self, *, functional: bool = False) -> str:
        """`functional`: of the operator that writes to nothing, and returns what would have been written."""
        first = len(self.names) - len(self.defaults)
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        parts = []
        for index, param in enumerate(self.kernel.params):
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
            default = f"={_literal(self.defaults[index - first])}" if index >= first else ""
            parts.append(f"{kind} {param.name}{default}")
        returned = ", ".join("Tensor" for _ in (*self.kernel.outputs, *(self.written if functional else ())))
        return f"({', '.join(parts)}) -> " + (returned if returned == "Tensor" else f"({returned})")


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


def _operator(template: Template) -> torch._ops.OpOverload:
    kernel = template.template
    function = template.__wrapped__  # type: ignore[attr-defined]
    digest = _digest(kernel, function)
    with _lock:
        known = _operators.setdefault(f"{kernel.name}.{digest}", [])
        for operator in known:
            if operator.is_of(function):
                operator.reference = template.reference
                return _registered(operator)
        overload = f"d{digest}" + (f"_{len(known) + 1}" if known else "")
        operator = _Operator(template, overload)
        known.append(operator)
        return _define(operator)


def _define(operator: _Operator) -> torch._ops.OpOverload:
    kernel, library = operator.kernel, _library()
    qualified = f"{kernel.name}.{operator.overload}"

    def run(*args: Any) -> Any:
        arguments = operator.arguments(args)
        return operator.shaped(_run(operator, _check_written(operator, arguments)))

    def meta(*args: Any) -> Any:
        arguments = operator.arguments(args)
        _check_written(operator, arguments)
        _make_static(kernel, arguments)
        return operator.shaped(_empty(_resolve(kernel, arguments), _device(kernel, arguments)))

    library.define(f"{qualified}{operator.schema()}", tags=TAGS)
    library.impl(qualified, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"tdsl::{qualified}", meta, lib=library)
    op = _registered(operator)
    library.impl(qualified, _autograd(op, operator), "Autograd", with_keyset=True)
    if operator.written:
        functional = _define_functional(operator)

        def functionalize(*args: Any) -> Any:
            inner = without_wrappers(args)
            _check_written(operator, operator.arguments(tuple(inner)))
            return operator.shaped(call_functional(functional, args, inner, operator.written))

        def batch(info: Any, in_dims: Any, *args: Any) -> Any:
            raise _refused(kernel, f"'{kernel.name}' writes to its arguments, and cannot be vmapped")

        library.impl(qualified, functionalize, "Functionalize")
    else:

        def batch(info: Any, in_dims: Any, *args: Any) -> Any:
            calls = [op(*_entry(args, in_dims, index)) for index in range(max(info.batch_size, 1))]
            if isinstance(calls[0], torch.Tensor):
                return torch.stack(calls)[: info.batch_size], 0
            outputs = tuple(torch.stack(each)[: info.batch_size] for each in zip(*calls, strict=True))
            return outputs, (0,) * len(outputs)

        register_operator(op, kernel, lambda args: _compiled(operator, args))
    torch.library.register_vmap(f"tdsl::{qualified}", batch, lib=library)
    _by_op[op] = operator
    return op


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
    kernel, library = operator.kernel, _library()
    overload = f"{operator.overload}_functional"
    qualified = f"{kernel.name}.{overload}"

    def run(*args: Any) -> Any:
        arguments = _unshared(operator, operator.arguments(args))
        return operator.shaped((*_run(operator, arguments), *operator.news(arguments)))

    def meta(*args: Any) -> Any:
        arguments = operator.arguments(args)
        _make_static(kernel, arguments)
        outputs = _empty(_resolve(kernel, arguments), _device(kernel, arguments))
        return operator.shaped((*outputs, *map(torch.empty_like, operator.news(arguments))))

    library.define(f"{qualified}{operator.schema(functional=True)}", tags=TAGS)
    library.impl(qualified, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"tdsl::{qualified}", meta, lib=library)
    op: torch._ops.OpOverload = getattr(getattr(torch.ops.tdsl, kernel.name), overload)
    library.impl(qualified, _autograd(op, operator), "Autograd", with_keyset=True)
    register_operator(op, kernel, lambda args: _compiled(operator, args))
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
            for size in static_sizes(kernel.tensor(name), axis, arguments[name].shape):
                int(size)


def _registered(operator: _Operator) -> torch._ops.OpOverload:
    op: torch._ops.OpOverload = getattr(getattr(torch.ops.tdsl, operator.kernel.name), operator.overload)
    return op


@cache
def _library() -> torch.library.Library:
    library = torch.library.Library("tdsl", "FRAGMENT")
    # PyTorch takes a library's operators away when Python exits; a thread that still calls one would end
    # the process with an abort. Freed with the modules, later still, it aborts where an operator is already
    # gone: it is never freed.
    for reference in weakref.getweakrefs(library):
        if isinstance(callback := getattr(reference, "__callback__", None), weakref.finalize):
            callback.atexit = False
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))
    return library


def _digest(kernel: ir.Kernel, reference: Callable[..., Any]) -> str:
    """Of all that decides what a compiled call does: a compiled graph is cached under the operator's name,
    and holds the reference where that runs or is differentiated."""
    parts = (
        kernel.source.text,
        kernel.name,
        _own_digest(),
        "interpreted" if interpreted() else "",
        *meaning(reference),
    )
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@cache
def _own_digest() -> str:
    """Of tdsl itself: its version, and for whoever works on it, its text."""
    whole = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*")):
        if file.suffix in (".py", ".lark"):
            whole.update(file.read_bytes())
    return whole.hexdigest()


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
        return operator.shaped((*outputs, *operator.news(arguments)))

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
        raise TdslError([_wrong(message, kernel)])
    versions = {name: _version(value) for name, value in arguments.items()}
    returned = operator.reference(*_for_reference(kernel, arguments))
    for param in kernel.params if not operator.written else ():  # a view of what is written counts with it
        if _version(arguments[param.name]) != versions[param.name]:
            raise TdslError([_wrong(f"the reference writes to '{param.name}', which is not inout", param)])
    outputs = returned if isinstance(returned, tuple | list) else (returned,)
    if not kernel.outputs:
        # `return y.add_(x)` returns what was written to.
        written = operator.news(arguments)
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


def _for_reference(kernel: ir.Kernel, arguments: Mapping[str, Any]) -> list[Any]:
    """The arguments in order; a dtype parameter as the dtype that the reference's author knows."""
    return [
        dtypes.TORCH[arguments[param.name]]
        if isinstance(param, ir.Const) and param.type == "dtype"
        else arguments[param.name]
        for param in kernel.params
    ]


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
    return resolve(
        kernel,
        {
            name: _info(value) if isinstance(value, torch.Tensor) else value
            for name, value in arguments.items()
        },
    )


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


def _wrong(message: str, node: ir.Node) -> Diagnostic:
    return Diagnostic(code=Code.BAD_ARGUMENT, message=message, span=node.span)


# Gradients


def _autograd(op: torch._ops.OpOverload, operator: _Operator) -> Callable[..., Any]:
    """What a call is where gradients are taken: a node of the graph, whose derivative is the reference's."""
    kernel = operator.kernel
    writes = [argument.is_write for argument in op._schema.arguments]

    class Call(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, keyset: Any, *args: Any) -> Any:
            _save(operator, ctx, args)
            return call_below_autograd(op, keyset, args)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return None, *_backward(operator, ctx, grads)

    Call.__name__ = Call.__qualname__ = kernel.name

    def call(keyset: Any, *args: Any) -> Any:
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        forward = has_tangent(tensors)
        if wanted or forward:
            if operator.written:
                raise TdslError([_no_gradient(kernel, "it writes to its arguments")])
            if operator.reference is None:
                raise TdslError([_no_gradient(kernel, "it has no reference to differentiate")])
            if forward or in_transform():
                # Another kind of derivative: PyTorch has it of all that the reference calls.
                arguments = operator.arguments(args)
                return operator.shaped(_refer(operator, arguments, _resolve(kernel, arguments), own=False))
            return Call.apply(keyset, *args)  # type: ignore[no-untyped-call]
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


def _save(operator: _Operator, ctx: Any, inputs: tuple[Any, ...]) -> None:
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, torch.Tensor)))
    ctx.rest = tuple(None if isinstance(value, torch.Tensor) else value for value in inputs)
    ctx.places = tuple(isinstance(value, torch.Tensor) for value in inputs)


def _backward(operator: _Operator, ctx: Any, grads: tuple[Any, ...]) -> tuple[Any, ...]:
    """Recomputes the reference and differentiates it; again differentiable."""
    again = torch.is_grad_enabled()
    saved = iter(ctx.saved_tensors)
    wanting = ctx.needs_input_grad[1:]
    assert operator.reference is not None, "a call without one was refused in the forward pass"
    with torch.enable_grad():
        inputs = [next(saved) if here else rest for here, rest in zip(ctx.places, ctx.rest, strict=True)]
        # A view is a node of the graph of its own: differentiating stops here, and can go on later.
        inputs = [
            value.view_as(value) if here and needed else value
            for value, here, needed in zip(inputs, ctx.places, wanting, strict=True)
        ]
        kernel = operator.kernel
        returned = operator.reference(*_for_reference(kernel, operator.arguments(tuple(inputs))))
        outputs = returned if isinstance(returned, tuple | list) else (returned,)
        pairs = [
            (output, grad)
            for output, grad in zip(outputs, grads, strict=True)
            if grad is not None and output.requires_grad
        ]
        wanted = [value for value, needed in zip(inputs, wanting, strict=True) if needed]
        found: tuple[Any, ...] = (None,) * len(wanted)
        if pairs:
            found = torch.autograd.grad(
                [output for output, _ in pairs],
                wanted,
                [grad for _, grad in pairs],
                allow_unused=True,
                create_graph=again,
            )
    results = iter(found)
    return tuple(next(results) if needed else None for needed in wanting)


def _no_gradient(kernel: ir.Kernel, why: str) -> Diagnostic:
    return Diagnostic(
        code=Code.BAD_ARGUMENT,
        message=f"'{kernel.name}' cannot be differentiated, and an argument requires a gradient: {why}",
        span=kernel.span,
        help="call it under torch.no_grad(), or detach the argument",
    )

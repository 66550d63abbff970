"""From Python: the decorator that makes a template a PyTorch operator.

    @tdsl.template("matmul.tdsl")
    def matmul(A, B):                 ->   torch.ops.tdsl.matmul.d3f9..., with .op .template .reference
        return A @ B

What a template and its function must agree on is checked here, and what kind an argument is; what the operator does
is in `operators`.
"""

from __future__ import annotations

import dis
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import update_wrapper
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import SymFloat, SymInt, Tensor
from torch.compiler import is_compiling

from tdsl import ir
from tdsl.autocast import Rule, rule_of
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.gradients import Backward
from tdsl.identity import own_digest
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.caches import stored
from tdsl.operators import Reference, argument_error, check_call, operator_of, refusing_operator
from tdsl.packaged import kernel_of
from tdsl.signature import shown, wanted
from tdsl.source import Source

BackwardFunction = TypeVar("BackwardFunction", bound=Callable[..., Any])
Spelling = TypeVar("Spelling", bound=Callable[..., Any])


def template(
    path: str | os.PathLike[str] | None = None,
    *,
    source: str | None = None,
    name: str | None = None,
    op: str | None = None,
    version: int | None = None,
    autocast: str | torch.dtype | None = None,
    replaces: bool = False,
) -> Callable[[Reference], Template]:
    """Makes an operator of the template in the file `path`, or in the text `source`.

    A relative path is beside the module of the decorated function. `name` is the template's name in the
    file, the function's own unless given. The function's parameters are the template's, by name and in
    order; its body is the reference: what the template means, in PyTorch, or `...` (or `pass`) for none.
    `replaces`: `tdsl.replacing()` puts it where a model does what the reference means.

    `op` is a name for the operator, such as "mylib::matmul", that stays when the template is edited: a program that
    was saved with it (`torch.export.save`) loads where a module that has the template is imported. Its overload is the
    `version`, 1 unless given: `torch.ops.mylib.matmul.v1`. Raise it with the signature. Without `op` each text of the
    template has an operator of its own. The same function, decorated again, redefines a named operator: what was
    compiled in this process is compiled anew.

    `autocast` is what becomes of the arguments under `torch.autocast`, as of those of PyTorch's own operators: "lower"
    casts to autocast's dtype (as for matmul), "promote" to the widest of theirs (as for cat), a dtype such as
    torch.float32, or "f32", to that one (as for softmax). Floating tensors are cast whose dtype the template leaves open,
    except float64 and float8; outside autocast nothing is. None: they are taken as they are.

    Raises TdslError if the template is wrong or disagrees with the function, and if `op` is the name of another
    operator, or of this one with another signature.
    """
    if callable(path):
        raise TypeError("template() needs a path, or source=: write @tdsl.template('file.tdsl')")
    if (path is None) == (source is None):
        raise TypeError("template() takes a path or source=, one of the two")
    if path is not None and "\n" in os.fspath(path):
        raise TypeError("template() takes a path first: write @tdsl.template(source=TEXT)")
    if source is not None and source.endswith(".tdsl") and "\n" not in source:
        raise TypeError(f"source= is the text of a template: write @tdsl.template({source!r})")
    if op is None and version is not None:
        raise TypeError("version= is a named operator's: write op='mylib::name', too")
    if op is not None and (_NAME.fullmatch(op) is None or op.partition("::")[0] in _RESERVED):
        raise TypeError(f"op= is a name in a namespace of yours, such as 'mylib::name'; got {op!r}")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 1):
        raise TypeError(f"version= is an integer from 1; got {version!r}")
    rule = rule_of(autocast)

    def decorate(function: Reference) -> Template:
        text = _read(path, function) if path is not None else Source("<string>", str(source))
        wanted = name or function.__name__
        kernel = kernel_of(text, wanted, function.__globals__)
        if kernel is None:
            key = (own_digest(), sys.version, text.name, text.text, wanted)
            kernel = stored(key, lambda: _load(text, wanted))
        made = Template(kernel, function, op=None if op is None else (op, version or 1), autocast=rule)
        if replaces:
            _replacing[made.__module__, made.__qualname__] = made
        return made

    return decorate


_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*::[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = ("tdsl", "aten", "prim", "prims")
_replacing: dict[tuple[str, str], Template] = {}


def replacing_templates() -> tuple[Template, ...]:
    """Those that were made with `replaces=True`, the latest of each name."""
    return tuple(_replacing.values())


class Template:
    """A template as an operator. Call it with the template's arguments.

    `op` is the operator (`torch.ops.tdsl.NAME`, an overload for each text of the template, its reference and its
    backward, or the one of the name that the decorator was given), `template` the checked kernel, `reference` the
    decorated function, or None if its body is `...`.
    """

    op: torch._ops.OpOverload
    template: ir.Kernel
    reference: Reference | None
    __qualname__: str

    def __init__(
        self,
        kernel: ir.Kernel,
        function: Reference,
        *,
        op: tuple[str, int] | None = None,
        autocast: Rule | None = None,
    ) -> None:
        _compare(kernel, function)
        if autocast is not None:
            _check_castable(kernel)
        self.template = kernel
        self.reference = None if _is_empty(function) else function
        update_wrapper(self, function)
        self._parameters = tuple(param.name for param in kernel.params)
        self._wanted = {param.name: wanted(param) for param in kernel.params}
        self._defaults = _defaults(kernel, function)
        # One letter for each parameter: torch.compile guards whatever a call reads, at every call.
        self._kinds = "".join(map(_kind, kernel.params))
        # PyTorch makes what it is given of these what its schema says; of tensors it does not.
        self._plain = tuple((at, kind) for at, kind in enumerate(self._kinds) if kind not in "?t")
        self._function, self._op_name, self._autocast = function, op, autocast
        self.spellings: list[Reference] = []
        self.known = False  # by another template's reference or backward, as it is now
        self.op = self._operator(None)
        self._name, self._refusal = str(self.op), refusing_operator()

    def _operator(self, backward: Backward | None) -> torch._ops.OpOverload:
        return operator_of(
            self.template,
            self._function,
            self.reference,
            self._defaults,
            backward,
            name=self._op_name,
            autocast=self._autocast,
        )

    @overload
    def backward(self, function: BackwardFunction, /) -> BackwardFunction: ...

    @overload
    def backward(self, /, *, saves: Iterable[str]) -> Callable[[BackwardFunction], BackwardFunction]: ...

    def backward(self, function: Any = None, /, *, saves: Iterable[str] | None = None) -> Any:
        """Decorates the function that computes the template's gradients, in place of the reference's derivative.

            @softmax.backward                    # or @softmax.backward(saves=("y",))
            def softmax_backward(grads, inputs, outputs):
                return {"x": softmax_grad(grads.y, outputs.y)}

        `grads` has the gradient of each output by its name, of the output's shape and dtype, in any strides; zeros
        if nobody used that output. `inputs` has the arguments, `outputs` what the call returned. `saves` names the
        tensors among them that are kept for the backward, all unless given; numbers are always there. It returns
        the gradients by parameter, each of its argument's shape and dtype, or a tuple with one for each tensor
        parameter, or one tensor if there is one. An argument that requires a gradient must get one, or None:
        it has none.

        The function is PyTorch, and usually calls templates. It runs without autocast. Under `torch.compile` what
        it calls is in the backward graph. Second derivatives (`create_graph=True`), forward mode and `torch.func`
        take the reference's derivative: without a reference, or without the arguments that it needs in `saves`,
        they are an error.

        `op` is another operator afterwards. Decorate again to replace the function. Raises TdslError if the
        template writes to its arguments, lacks what `saves` names, or was used by another template's function before.
        """
        if function is None:
            return lambda function: self._differentiate(function, saves)
        return self._differentiate(function, saves)

    @property
    def casts(self) -> bool:
        """Whether autocast casts the arguments of a call."""
        return self._autocast is not None

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The parameters that may be left out, and what they are then."""
        return self._defaults

    def replaces(self, function: Spelling, /) -> Spelling:
        """Says that `function` means the same as the template, for `tdsl.replacing` to find it in models.

            @rms_norm.replaces
            def llama_norm(x, w, eps):
                v = x.float()
                return w * (v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)

        It takes the template's arguments in their order, and returns what the reference returns. It may round
        elsewhere: `replacing` compares the two on random tensors, and refuses one that gives other numbers.
        """
        self.spellings.append(function)
        return function

    def _differentiate(self, function: Any, saves: Iterable[str] | None) -> Any:
        made = Backward.of(self.template, function, saves)
        known = self.known
        op = self._operator(made)
        self.known = known  # a backward may call its own template
        if known and op is not self.op:
            # Compiled graphs of the other are on disk under what this one was.
            message = f"another template, decorated before, uses '{self.template.name}' without this backward"
            help = f"move the backward to right below '{self.template.name}', and run both again"
            raise made.error(message, self.template, help)
        self.op, self._name = op, str(op)
        return function

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
                name, got = self._parameters[index], _described(args[index])
                self._refuse(f"'{name}' must be {self._wanted[name]}; got {got}", name)
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
            known = ", ".join(self._parameters)
            count = len(self._parameters)
            self._refuse(f"{self.template.name} takes {count} arguments, {known}; got {len(args)}")
        given = dict(zip(self._parameters, args, strict=False))
        for name, value in kwargs.items():
            if name not in self._parameters:
                known = ", ".join(self._parameters)
                self._refuse(f"{self.template.name} has no parameter '{name}'; it has {known}")
            if name in given:
                self._refuse(f"'{name}' is given twice", name)
            given[name] = value
        for name in self._parameters:
            if name not in given:
                if name not in self._defaults:
                    self._refuse(f"'{name}' is missing; it is {self._wanted[name]}", name)
                given[name] = self._defaults[name]
        for name, kind in zip(self._parameters, self._kinds, strict=True):
            if kind == "d" and isinstance(given[name], torch.dtype):
                given[name] = dtypes.NAMES.get(given[name], str(given[name]))
        return tuple([given[name] for name in self._parameters])

    def _refuse(self, message: str, parameter: str = "") -> None:
        if is_compiling():
            # Dynamo cannot raise our error, but shows the one that an operator raises.
            self._refusal(self._name, message, parameter)
        raise argument_error(self.template, message, parameter)

    def _check(self, args: tuple[Any, ...]) -> None:
        """Raises TdslError if the arguments do not fit the template."""
        check_call(self.op, dict(zip(self._parameters, args, strict=True)))

    def __reduce__(self) -> str:
        """Pickled and copied as a function is: by its name."""
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<template {self.template.name}: {self.op}>"


def _kind(param: ir.Tensor | ir.Scalar | ir.Const) -> str:
    """The first letter of a kind: tensor, bool, int, float, dtype, str; '?' for a tensor that may be None."""
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
    return repr(value) if is_compiling() else shown(value)


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


def _check_castable(kernel: ir.Kernel) -> None:
    for param in kernel.params:
        if isinstance(param, ir.Tensor) and param.inout:
            message = f"'{param.name}' is written in place: autocast cannot cast it, and {kernel.name} has an autocast="
            help = "leave autocast= out, and cast where it is called"
            raise TdslError([Diagnostic(code=Code.BAD_PARAM, message=message, span=param.span, help=help)])


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


def _load(source: Source, name: str) -> ir.Kernel:
    from tdsl.pipeline import load  # which imports the parser

    return load(source, name)


def _read(path: str | os.PathLike[str], function: Reference) -> Source:
    from tdsl.grammar import read

    file = function.__globals__.get("__file__")
    return read(Path(file).parent / path if file else Path(path))

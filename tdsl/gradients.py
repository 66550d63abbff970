"""A template's own backward: a function of its author's in place of the reference's derivative.

    @softmax.backward
    def softmax_backward(grads, inputs, outputs):    ->   the gradient of each tensor argument that wants one,
        return {"x": ...}                                 checked against that argument

When it is called, and when the reference is differentiated all the same, is in `operators`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

import torch

from tdsl import ir
from tdsl.diagnostics import Code, Diagnostic, TdslError, suggest
from tdsl.lower.inductor import dtypes


class Like(NamedTuple):
    """What a gradient has of its argument."""

    shape: Sequence[Any]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Like:
        return cls(tensor.shape, tensor.dtype, tensor.device)

    def __str__(self) -> str:
        dtype = dtypes.NAMES.get(self.dtype, str(self.dtype))
        return f"{dtype}[{', '.join(map(str, self.shape))}]"


class Values:
    """Values of a call, each an attribute: `inputs.x`."""

    __slots__ = ("__missing", "__values")

    def __init__(self, values: Mapping[str, Any], missing: Callable[[str], Exception]) -> None:
        self.__values, self.__missing = values, missing

    def __getattr__(self, name: str) -> Any:
        if name in self.__values:
            return self.__values[name]
        if name.startswith("__"):  # what Python asks of any object
            raise AttributeError(name)
        raise self.__missing(name)

    def __dir__(self) -> list[str]:
        return sorted(self.__values)


@dataclass(frozen=True)
class Backward:
    """`saves`: the names of the tensors that are kept from a call, of its inputs and outputs."""

    kernel: ir.Kernel
    function: FunctionType
    saves: frozenset[str]

    @classmethod
    def of(cls, kernel: ir.Kernel, function: object, saves: Iterable[str] | None) -> Backward:
        """Raises TypeError for what is no such function, TdslError for what does not fit the template."""
        if not isinstance(function, FunctionType):
            raise TypeError(f"the backward of '{kernel.name}' must be a function; got {function!r}")
        try:
            inspect.signature(function).bind(None, None, None)
        except TypeError:
            raise TypeError(
                f"the backward of '{kernel.name}' is called with (grads, inputs, outputs), but "
                f"'{function.__name__}' takes {inspect.signature(function)}"
            ) from None
        if isinstance(saves, str):
            raise TypeError(f"saves= takes names, such as ({saves!r},)")
        tensors = {item.name for item in (*kernel.params, *kernel.outputs) if isinstance(item, ir.Tensor)}
        made = cls(kernel, function, frozenset(tensors if saves is None else saves))
        if any(isinstance(param, ir.Tensor) and param.inout for param in kernel.params):
            raise made.error(f"'{kernel.name}' writes to its arguments, and has no gradient", kernel)
        for name in sorted(made.saves - tensors):
            if any(param.name == name for param in kernel.params):
                raise made.error(
                    f"'{name}' is no tensor: it is always there, and not in saves=", made.node(name)
                )
            raise made.error(f"{kernel.name} has no '{name}' to save{_known(name, tensors)}", kernel)
        return made

    def gradients(
        self,
        values: Mapping[str, Any],
        grads: Sequence[torch.Tensor],
        likes: Mapping[str, Like],
        wanted: Collection[str],
        holds: Callable[[Any], bool],
    ) -> dict[str, torch.Tensor | None]:
        """What the function returns for the arguments `wanted`.

        values: by name what was kept, and each argument that is no tensor. likes: of each tensor argument.
        holds: whether a condition of sizes is true, as far as it is known.
        """
        inputs = [param.name for param in self.kernel.params]
        outputs = [output.name for output in self.kernel.outputs]

        def missing(what: str, names: Sequence[str]) -> Callable[[str], Exception]:
            def error(name: str) -> Exception:
                if name in names:
                    saves = ", ".join(
                        repr(each) for each in (*inputs, *outputs) if each in self.saves | {name}
                    )
                    return self.error(
                        f"'{name}' is not saved for the backward of '{self.kernel.name}'",
                        self.node(name),
                        f"write @{self.kernel.name}.backward(saves=({saves},))",
                    )
                return self.error(f"'{what}' has no '{name}'{_known(name, names)}", self.kernel)

            return error

        returned = self.function(
            Values(dict(zip(outputs, grads, strict=True)), missing("grads", outputs)),
            Values({name: values[name] for name in inputs if name in values}, missing("inputs", inputs)),
            Values({name: values[name] for name in outputs if name in values}, missing("outputs", outputs)),
        )
        found = self._by_name(returned)
        for name in wanted:
            if name not in found:
                raise self.error(
                    f"the backward returned no gradient of '{name}', which requires one",
                    self.node(name),
                    f"return one, or None for '{name}' if it has none",
                )
        return {name: self._checked(name, found[name], likes[name], holds) for name in wanted}

    def _by_name(self, returned: Any) -> Mapping[str, Any]:
        tensors = [param.name for param in self.kernel.params if isinstance(param, ir.Tensor)]
        if isinstance(returned, Mapping):
            for name in returned:
                if name not in tensors:
                    raise self.error(
                        f"the backward returned a gradient of '{name}', which is no tensor parameter"
                        f"{_known(str(name), tensors)}",
                        self.kernel,
                    )
            return returned
        if isinstance(returned, torch.Tensor) and len(tensors) == 1:
            return {tensors[0]: returned}
        if isinstance(returned, tuple | list) and len(returned) == len(tensors):
            return dict(zip(tensors, returned, strict=True))
        if isinstance(returned, tuple | list):
            what = f"{len(returned)} gradients"
        else:
            what = "one tensor" if isinstance(returned, torch.Tensor) else repr(returned)
        shape = ", ".join(f"{name!r}: ..." for name in tensors)
        raise self.error(
            f"the backward returned {what} for the tensor parameters {', '.join(tensors)}",
            self.kernel,
            f"return {{{shape}}}, or a gradient for each in this order",
        )

    def _checked(self, name: str, grad: Any, like: Like, holds: Callable[[Any], bool]) -> torch.Tensor | None:
        if grad is None:
            return None
        fits = isinstance(grad, torch.Tensor) and (
            grad.dtype == like.dtype
            and grad.device == like.device
            and grad.dim() == len(like.shape)
            and all(holds(size == other) for size, other in zip(grad.shape, like.shape, strict=True))
        )
        if fits:
            return grad  # type: ignore[no-any-return]
        got = repr(grad)
        if isinstance(grad, torch.Tensor):
            got = str(Like.of(grad)) + (f" on {grad.device}" if grad.device != like.device else "")
        where = f" on {like.device}" if isinstance(grad, torch.Tensor) and grad.device != like.device else ""
        raise self.error(
            f"the backward returned {got} for the gradient of '{name}', which must be {like}{where}, as '{name}' is",
            self.node(name),
        )

    def node(self, name: str) -> ir.Node:
        return next(item for item in (*self.kernel.params, *self.kernel.outputs) if item.name == name)

    def error(self, message: str, node: ir.Node, help: str | None = None) -> TdslError:
        code = self.function.__code__
        where = f"the backward is '{self.function.__name__}' at {code.co_filename}:{code.co_firstlineno}"
        return TdslError(
            [
                Diagnostic(
                    code=Code.BAD_ARGUMENT,
                    message=message,
                    span=node.span,
                    help=f"{help}; {where}" if help else where,
                )
            ]
        )


def _known(name: str, names: Iterable[str]) -> str:
    near = suggest(name, names)
    return f"; did you mean '{near}'?" if near else f"; it has {', '.join(sorted(names))}"

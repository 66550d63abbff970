"""Whole modules of a model, taken over by a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn


class Swap:
    """What `swap` did: a context, whose end undoes it, or call `undo`."""

    def __init__(self, swapped: list[tuple[nn.Module, Any]]) -> None:
        self.modules = tuple(module for module, _ in swapped)
        self._before = [before for _, before in swapped]
        self._mine = [module.__dict__["forward"] for module in self.modules]

    def undo(self) -> None:
        """Gives each module back the `forward` that it had.

        Raises RuntimeError, and changes nothing, where a module has been given another one since.
        """
        for module, mine in zip(self.modules, self._mine, strict=True):
            if module.__dict__.get("forward") is not mine:
                raise RuntimeError(
                    f"a {type(module).__name__} was given another 'forward' after this swap; undo that first"
                )
        for module, before in zip(self.modules, self._before, strict=True):
            if before is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = before
        self.modules, self._before, self._mine = (), [], []

    def __enter__(self) -> Swap:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"<{len(self.modules)} modules swapped>"


class Swapped:
    """The `forward` of one module: the function, called with the module in front. Pickled, and copied, with the module."""

    def __init__(self, function: Callable[..., Any], module: nn.Module) -> None:
        self.function, self.module = function, module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self.module, *args, **kwargs)


def swap(model: nn.Module, functions: Mapping[type[nn.Module], Callable[..., Any]]) -> Swap:
    """Has `functions[class]` called in place of `forward` of each module of `model` that is of that class.

        def mlp(self, x):
            return self.down_proj(swiglu(x, self.gate_proj.weight.T, self.up_proj.weight.T))

        swapped = tdsl.swap(model, {LlamaMLP: mlp})     # swapped.undo() gives the old ones back

    The function has the module, then what `forward` has. Only this model changes: its parameters, its `state_dict`
    and its hooks stay. It can be pickled where the function can.

    Raises ValueError for a class of which the model has no module, TypeError for what is no class or no function.
    """
    for kind, given in dict(functions).items():
        if not isinstance(kind, type) or not callable(given):
            raise TypeError(f"swap() takes a function for each class of modules; got {given!r} for {kind!r}")
    found: list[tuple[nn.Module, Any]] = []
    for kind in functions:
        if not any(type(module) is kind for module in model.modules()):
            known = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
            raise ValueError(f"the model has no {kind.__name__}; it has {known}")
    for module in model.modules():
        function = functions.get(type(module))
        if function is not None:
            found.append((module, module.__dict__.get("forward")))
            module.__dict__["forward"] = Swapped(function, module)
    return Swap(found)

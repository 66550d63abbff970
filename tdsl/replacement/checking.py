"""Whether another spelling of a template gives the numbers of its reference, on random tensors."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tdsl import ir
from tdsl.api import Template
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.lower.inductor import dtypes
from tdsl.signature import Environment, evaluate

# Relative to the largest number: roundings in other places are fine.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}
_checked: set[tuple[str, Callable[..., Any]]] = set()


def check_spelling(template: Template, spelling: Callable[..., Any]) -> None:
    """Runs both on random tensors, in each dtype, with each rank, constant and set of optional tensors that a graph could have,
    once a process.

    Raises TdslError where they, or their gradients, differ by more than roundings, or cannot be run. What fails for another
    rank, say, is fine, for then it cannot be read for that rank either.
    """
    kernel, reference = template.template, template.reference
    key = (str(template.op), spelling)
    if reference is None or key in _checked:
        return
    name = getattr(spelling, "__name__", str(spelling))

    def refuse(message: str) -> TdslError:
        help = (
            "a spelling takes the template's parameters in their order, and returns what its reference does"
        )
        return TdslError([Diagnostic(code=Code.BAD_PARAM, message=message, span=kernel.span, help=help)])

    try:
        inspect.signature(spelling).bind(*kernel.params)
    except TypeError as error:
        raise refuse(f"the spelling '{name}' of '{kernel.name}': {error}") from error
    except ValueError:
        pass  # a function that says nothing of its parameters
    compared, problem = 0, ""
    for picked in itertools.product(*(choices for _, choices in kernel.dtype_choices)):
        names = {name: dtype for (name, _), dtype in zip(kernel.dtype_choices, picked, strict=True)}
        wide = all(dtypes.TORCH[each] not in (torch.float16, torch.bfloat16) for each in picked)
        for at, (size, variant) in enumerate(itertools.product((6, 16), _variants(kernel))):
            arguments = _arguments(kernel, names, size, variant)
            if arguments is None:
                continue
            try:
                expected = _results(reference(*_copies(arguments)))
            except Exception as error:  # the reference may not take these sizes
                problem = f"{type(error).__name__}: {error}"
                continue
            try:
                found = _results(spelling(*_copies(arguments)))
            except Exception as error:
                if at:
                    continue
                raise refuse(
                    f"the spelling '{name}' of '{kernel.name}' fails where its reference does not: {error}"
                ) from error
            if len(found) != len(expected):
                raise refuse(
                    f"the spelling '{name}' of '{kernel.name}' returns {len(found)} values, its reference {len(expected)}"
                )
            who = f"the spelling '{name}' of '{kernel.name}'"
            for output, its, want in zip(kernel.outputs, found, expected, strict=True):
                _compare(refuse, who, output.name, its, want)
            if wide and (gradients := _gradients(reference, arguments)) is not None:
                its_gradients = _gradients(spelling, arguments) or [None] * len(gradients)
                for param, its, want in zip(kernel.params, its_gradients, gradients, strict=True):
                    if want is not None:
                        _compare(refuse, f"{who} has another gradient: it", param.name, its, want)
            compared += 1
    if not compared:
        raise refuse(
            f"the spelling '{name}' of '{kernel.name}' could not be compared with its reference: {problem}"
        )
    _checked.add(key)


def _compare(refuse: Callable[[str], TdslError], who: str, output: str, its: Any, want: Any) -> None:
    if not isinstance(its, torch.Tensor) or its.dtype != want.dtype or its.shape != want.shape:
        got = f"{its.dtype}{list(its.shape)}" if isinstance(its, torch.Tensor) else repr(its)
        raise refuse(f"{who} returns {got} for '{output}', its reference {want.dtype}{list(want.shape)}")
    if not want.dtype.is_floating_point:
        if not torch.equal(its, want):
            raise refuse(f"{who} returns other numbers for '{output}' than its reference, on random tensors")
        return
    scale = float(want.double().abs().nan_to_num(0, 0, 0).max()) if want.numel() else 0.0
    tolerance = TOLERANCE.get(want.dtype, 0.1)
    if not torch.allclose(
        its.double(), want.double(), rtol=tolerance, atol=tolerance * scale, equal_nan=True
    ):
        error = float((its.double() - want.double()).abs().nan_to_num(0).max())
        raise refuse(
            f"{who} returns other numbers for '{output}' than its reference, on random {want.dtype} tensors: "
            f"by {error:.3g}, where the largest is {scale:.3g}"
        )


@dataclass(frozen=True)
class _Variant:
    rest: tuple[int, ...]  # the sizes that `R...` stands for
    consts: Mapping[str, Any]
    present: frozenset[str]  # of the optional tensors


def _variants(kernel: ir.Kernel) -> Iterator[_Variant]:
    """The usual one first."""
    tensors = [param for param in kernel.params if isinstance(param, ir.Tensor)]
    optional = [param.name for param in tensors if param.optional]
    consts = [param for param in kernel.params if isinstance(param, ir.Const)]
    has_rest = any(isinstance(dim, ir.RestDim) for param in tensors for dim in param.dims)
    for values in itertools.product(*map(_values, consts)):
        given = {const.name: value for const, value in zip(consts, values, strict=True)}
        for count in range(len(optional), -1, -1):
            for present in itertools.combinations(optional, count):
                for rest in ((2, 3), (2,), (), (2, 3, 4)) if has_rest else ((),):
                    yield _Variant(rest, given, frozenset(present))


def _values(const: ir.Const) -> list[Any]:
    match const.type:
        case "bool":
            return [True, False]
        case "dtype" if const.default is None:
            return ["f32", "f16", "bf16"]
    if const.default is not None:
        return [const.default]
    return [{"int": 2, "float": 0.5}.get(const.type)]


def _gradients(function: Callable[..., Any], arguments: list[Any]) -> list[torch.Tensor | None] | None:
    """Of some sum of the results, of each argument; None where there are none."""
    given = _copies(arguments)
    wanted = [each for each in given if isinstance(each, torch.Tensor) and each.is_floating_point()]
    for each in wanted:
        each.requires_grad_()
    try:
        total = sum(
            (
                each.double() * torch.linspace(0.5, 1.5, each.numel(), dtype=torch.float64).view(each.shape)
            ).sum()
            for each in _results(function(*given))
            if each.is_floating_point() and each.requires_grad
        )
        if not isinstance(total, torch.Tensor):
            return None
        found = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
    except Exception:
        return None
    by_id = dict(zip(map(id, wanted), found, strict=True))
    return [by_id.get(id(each)) for each in given]


def _arguments(kernel: ir.Kernel, names: dict[str, str], size: int, variant: _Variant) -> list[Any] | None:
    """Scalars, and how large the numbers are, depend on the size."""
    small = size < 10
    dims: dict[str, int] = {name: size * (at + 1) for at, name in enumerate(kernel.dims)}
    consts: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(0)
    made: list[Any] = []
    for param in kernel.params:
        match param:
            case ir.Const():
                value = variant.consts[param.name]
                if value is None:
                    return None
                consts[param.name] = value
                made.append(dtypes.TORCH[str(value)] if param.type == "dtype" else value)
            case ir.Scalar():
                made.append((0.1 if small else 0.7) if param.type == "float" else (2 if small else 3))
            case ir.Tensor() if param.optional and param.name not in variant.present:
                made.append(None)
            case ir.Tensor():
                shape: list[int] = []
                for dim in param.dims:
                    if isinstance(dim, ir.RestDim):
                        shape += variant.rest
                    else:
                        try:
                            shape.append(int(evaluate(dim, Environment(dims=dims, params=consts))))
                        except KeyError:
                            return None
                dtype = dtypes.TORCH[param.dtype.resolve(names)]
                if dtype == torch.bool:
                    made.append(torch.rand(shape, generator=generator) > 0.5)
                elif dtype.is_floating_point:
                    numbers = torch.randn(shape, generator=generator) * (1 if small else 5)
                    made.append(numbers.to(dtype))
                else:
                    made.append(torch.randint(0, size, shape, generator=generator).to(dtype))
    return made


def _copies(arguments: list[Any]) -> list[Any]:
    return [each.clone() if isinstance(each, torch.Tensor) else each for each in arguments]


def _results(returned: Any) -> list[Any]:
    return list(returned) if isinstance(returned, tuple | list) else [returned]

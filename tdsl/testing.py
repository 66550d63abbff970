"""What the tests of a template need: fused against reference, gradients, kernel counts, and goldens.

    from tdsl import testing

    def test_layer():
        testing.assert_fused(layer, (x, w, bias), kernels=1)

`assert_fused` compiles a program, counts its kernels and compares its result with PyTorch's. For the
`golden` fixture put `pytest_plugins = ["tdsl.testing"]` into the top `conftest.py`; all else works without pytest.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tdsl.refusal import Refusal, grouped, watch

pytest_plugins = ["tdsl.golden"]  # pytest reads it where this module is named as a plugin

Program = Callable[..., Any]
_FLOATS = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float32)


def device() -> torch.device:
    """The GPU if there is one, else the CPU with Triton's interpreter switched on.

    Triton reads the switch as it is imported: call this before anything is compiled.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("TRITON_INTERPRET") != "1":
        if "triton" in sys.modules:
            raise RuntimeError("Triton is imported already: set TRITON_INTERPRET=1 before")
        os.environ["TRITON_INTERPRET"] = "1"
    return torch.device("cpu")


def load_module(path: str | os.PathLike[str]) -> ModuleType:
    """The module in a file, executed afresh, whether or not its folder is on the import path."""
    path = Path(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, f"{path} is no Python file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Kernels


class Counted(NamedTuple):
    """What a compiled program returned, and what it was compiled to."""

    result: Any
    kernels: int  # Triton kernels and, on a CPU, C++ kernels
    code: tuple[str, ...]  # Inductor's output, one text per graph


def count_kernels(fn: Program, *args: Any, **kwargs: Any) -> Counted:
    """Run `fn`, which torch.compile made, from scratch; count the kernels that it is compiled to.

    Calls of libraries (an ATen matmul, a copy) are not counted.
    """
    from tdsl.lower.inductor.compat.call_names import functorch_config, inductor_config, run_and_get_code

    # A graph that comes out of a cache brings no code to count.
    with inductor_config.patch(fx_graph_cache=False), functorch_config.patch(enable_autograd_cache=False):
        result, code = run_and_get_code(fn, *args, **kwargs)
    return Counted(result, len(_kernel_names(code)), tuple(code))


_TRITON = re.compile(r"^@triton\.jit\n(?:@.*\n)*def (\w+)", re.MULTILINE)
_CPP = re.compile(r"^(\w+) = async_compile\.cpp\w*\(", re.MULTILINE)
_TRITON_TEXT = re.compile(r"^@triton\.jit\ndef .*\n(?:[ \t].*\n|\n)*", re.MULTILINE)


def _kernel_names(code: Sequence[str]) -> list[str]:
    names = [f"Triton {name}" for text in code for name in _TRITON.findall(text)]
    return names + [f"C++ {name}" for text in code for name in _CPP.findall(text)]


# Fused against reference


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `assert_fused` saw. Errors are the largest absolute ones over all results."""

    result: Any
    kernels: int
    triton: int
    code: tuple[str, ...] = field(repr=False)
    difference: float  # from PyTorch in the same dtypes
    error: float  # from PyTorch in float64
    eager_error: float  # of PyTorch in the same dtypes, from PyTorch in float64
    refusals: tuple[Refusal, ...] = ()  # what was not fused, and why

    @property
    def kernel_text(self) -> str:
        """The Triton kernels alone, without what launches them."""
        found = (kernel for text in self.code for kernel in _TRITON_TEXT.findall(text))
        return "\n\n".join(kernel.rstrip() + "\n" for kernel in found)

    def __str__(self) -> str:
        cpp = self.kernels - self.triton
        parts = [_count(self.triton, "Triton kernel")] if self.triton or not cpp else []
        parts += [_count(cpp, "C++ kernel")] if cpp else []
        return (
            f"{' and '.join(parts)}; largest difference from eager {self.difference:.2g}; "
            f"error against float64 {self.error:.2g} (eager's own: {self.eager_error:.2g})"
        )


def assert_fused(
    fn: Program,
    args: Sequence[Any] = (),
    *,
    kernels: int | None = 1,
    exact: bool = False,
    reference: Program | None = None,
    dynamic: bool | None = None,
    also: Sequence[Sequence[Any]] = (),
) -> Report:
    """Compile `fn` as one graph, run it, and compare what it returns and what it writes with PyTorch.

    kernels: how many it must be compiled to; None: any number.
    exact: every element must equal PyTorch's. For integer-valued inputs whose sums are exact. Otherwise
        the error against float64 may be at most twice that of PyTorch in the root mean square, four times
        at its largest, and one rounding more. Where PyTorch's own is less by luck, as that of a sum that is
        one number, it may be what sqrt(n) float32 roundings of the result and of each argument make of it,
        n the elements of all arguments for one of the result.
    reference: the same program in PyTorch; without it, `fn` with each template replaced by its reference.
    dynamic: as for torch.compile.
    also: arguments of other sizes, which the program must take as it was compiled for `args`: compared as
        those are. Without `dynamic`, the sizes in which they differ from `args` are the dynamic ones.

    With each set of arguments the program runs twice, the second time over memory that was filled with NaN, and
    must return the same bits. Arguments keep their strides and what memory they share, and are not written to. Raises
    AssertionError with what differs, where it does first, and by how much, or with the kernels and what was
    not fused; and where a template is called but its reference was compiled, as on a CPU without the interpreter.
    """
    if isinstance(args, torch.Tensor):
        raise TypeError("args is a tensor: it takes all arguments together, such as (x,)")
    compiled = torch.compile(fn, fullgraph=True, dynamic=dynamic)
    first_args = copy_arguments(args)
    if dynamic is None:
        _mark_what_differs(first_args, also)
    with watch() as kept_out:
        result, found, code = count_kernels(compiled, *first_args)
    refusals = grouped(kept_out)
    actual = _Outcome.snapshot(result, first_args)
    _poison(result)
    names = _kernel_names(code)
    triton = sum(name.startswith("Triton") for name in names)
    on_gpu = any(isinstance(value, torch.Tensor) and value.is_cuda for _, value in _leaves("", args))
    uninterpreted = not on_gpu and os.environ.get("TRITON_INTERPRET") != "1"
    if names and not triton and uninterpreted and _calls_templates(fn, args):
        raise AssertionError(
            "no template's kernel ran: on a CPU the reference is compiled in its place, unless TRITON_INTERPRET=1; "
            "set it, or call tdsl.testing.device(), before Triton is imported"
        )
    if kernels is not None and found != kernels:
        listed = "".join(f"\n  {line}" for line in [*names, *refusals])
        raise AssertionError(f"expected {_count(kernels, 'kernel')}, compiled to {found}:{listed}")
    reference = reference or fn
    worst = _compare(reference, args, actual, _run_again(compiled, args), exact=exact)
    for others in also:
        runs = [_run_again(compiled, others) for _ in range(2)]
        found_there = _compare(reference, others, *runs, exact=exact)
        worst = [max(pair) for pair in zip(worst, found_there, strict=True)]
    difference, error, eager_error = worst
    return Report(
        result=actual.result,
        kernels=found,
        triton=triton,
        code=code,
        difference=difference,
        error=error,
        eager_error=eager_error,
        refusals=refusals,
    )


# A backward of one's own


@dataclass(frozen=True, kw_only=True)
class GradientReport:
    """What `assert_gradient` saw. Errors are the largest absolute ones over all gradients and runs."""

    difference: float  # from the reference's derivative in the same dtypes
    error: float  # from the reference's derivative in float64
    eager_error: float  # of the reference's derivative in the same dtypes, from that in float64
    runs: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{_count(len(self.runs), 'backward')}; largest difference from the reference's derivative "
            f"{self.difference:.2g}; error against float64 {self.error:.2g} "
            f"(the reference's own: {self.eager_error:.2g})"
        )


def assert_gradient(
    template: Any,
    inputs: Sequence[Any],
    *,
    reference: Program | None = None,
    dynamic: bool | None = None,
    seed: int = 0,
) -> GradientReport:
    """Compare what a template's own backward returns with the derivative of its reference.

    inputs: the arguments of a call. Gradients are taken of those that require one; if none does, of every float
        tensor. They are not written to.
    reference: what the template means in PyTorch, for one whose function says nothing.
    dynamic: as for torch.compile.
    seed: of the gradients of the outputs, which are random.

    The backward runs eagerly and compiled: with the gradient of every output, with one that is expanded as `sum()`
    leaves it, with one that is not contiguous, and with that of each output alone. Each must be as near to the
    derivative in float64 as `assert_fused` asks of a result, where eager PyTorch is the reference's derivative in the
    inputs' dtypes, and the roundings of arguments are those of these dtypes. Raises AssertionError with the gradient that differs, in which run, where first and by how much.
    """
    from tdsl.operators import has_backward

    if not has_backward(template.op):
        raise AssertionError(
            f"'{template.template.name}' has no backward of its own (@{template.template.name}.backward)"
        )
    if template.reference is None and reference is None:
        raise AssertionError(
            f"'{template.template.name}' has no reference: say what is right with reference="
        )
    inputs = copy_arguments(inputs)
    names = [param.name for param in template.template.params][: len(inputs)]
    floats = [value for value in inputs if isinstance(value, torch.Tensor) and value.dtype in _DIFFERENTIABLE]
    if not floats:
        raise AssertionError("no input is a float tensor, of which a gradient could be taken")
    if not any(value.requires_grad for value in floats):
        for value in floats:
            value.requires_grad_()
    # A backward may start from what the call returned, which has been rounded to its dtype.
    rounding = max(torch.finfo(value.dtype).eps for value in floats)
    compiled = torch.compile(_alone(lambda *args: template(*args)), fullgraph=True, dynamic=dynamic)
    outputs = [output.name for output in template.template.outputs]
    worst, runs = [0.0, 0.0, 0.0], []
    for title, grads in _output_gradients(template, inputs, outputs, seed):
        args = [*inputs, *grads]
        right = functools.partial(_gradients, reference or template, names)
        expected, truth = (_Outcome.of(right, args, float64=wide) for wide in (False, True))
        # Each element of an expanded gradient is rounded by itself.
        alone = [*inputs, *(None if grad is None else grad.contiguous() for grad in grads)]
        floors = functools.cache(functools.partial(_floors, right, alone, truth, rounding))
        for way, fn in (("eager", template), ("compiled", compiled)):
            actual = _Outcome.snapshot(_gradients(fn, names, *copy_arguments(args)), ())
            comparison = _Comparison(f"the {way} backward, given {title},", actual, _Outcome(expected.result))
            found = comparison.require_close(_Outcome(truth.result), floors)
            worst = [max(pair) for pair in zip(worst, found, strict=True)]
            runs.append(f"{way}, given {title}")
    return GradientReport(difference=worst[0], error=worst[1], eager_error=worst[2], runs=tuple(runs))


_DIFFERENTIABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _alone(function: Any) -> Program:
    """The function with code that no other has: Dynamo counts recompilations of a code object, whatever its closure."""
    return FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def _gradients(fn: Program, names: Sequence[str], *args: Any) -> Mapping[str, torch.Tensor]:
    """Of the arguments that require one, zeros where there is none. `args`: those of `fn`, then the gradients of
    its outputs, None for one that is not used."""
    inputs, grads = args[: len(names)], args[len(names) :]
    returned = fn(*inputs)
    outputs = returned if isinstance(returned, tuple | list) else (returned,)
    pairs = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if grad is not None]
    wanted = {
        name: value
        for name, value in zip(names, inputs, strict=True)
        if isinstance(value, torch.Tensor) and value.requires_grad
    }
    found = torch.autograd.grad(
        [output for output, _ in pairs],
        list(wanted.values()),
        [grad.to(output.dtype) for output, grad in pairs],
        allow_unused=True,
    )
    return {
        f"gradient of {name}": torch.zeros_like(value) if grad is None else grad
        for (name, value), grad in zip(wanted.items(), found, strict=True)
    }


def _output_gradients(
    template: Any, inputs: Sequence[Any], names: Sequence[str], seed: int
) -> Iterator[tuple[str, list[torch.Tensor | None]]]:
    """Gradients of the outputs, in words and for each of them; None for an output that is not used."""
    returned = template(*copy_arguments(inputs))
    outputs = returned if isinstance(returned, tuple | list) else (returned,)
    used = [name for name, output in zip(names, outputs, strict=True) if output.requires_grad]
    generator = torch.Generator().manual_seed(seed)

    def random(shape: Sequence[int], output: torch.Tensor) -> torch.Tensor:
        return torch.randn(tuple(shape), generator=generator).to(output.device, output.dtype)

    every = [output if name in used else None for name, output in zip(names, outputs, strict=True)]
    yield (
        "random gradients of all outputs",
        [None if output is None else random(output.shape, output) for output in every],
    )
    yield (
        "expanded gradients of all outputs",
        [None if output is None else random((), output).expand(output.shape) for output in every],
    )
    yield (
        "gradients of all outputs that are not contiguous",
        [
            None
            if output is None
            else random((*output.shape[::-1], 2), output)[..., 0].permute([*reversed(range(output.dim()))])
            for output in every
        ],
    )
    for alone in used if len(used) > 1 else ():
        yield (
            f"a gradient of '{alone}' alone",
            [
                random(output.shape, output) if name == alone else None
                for name, output in zip(names, outputs, strict=True)
            ],
        )


def _calls_templates(fn: Program, args: Sequence[Any]) -> bool:
    calls = _Calls()  # type: ignore[no-untyped-call]
    with torch.no_grad(), calls:
        fn(*copy_arguments(args))
    return calls.any


class _Calls(TorchDispatchMode):
    """Whether a template is called."""

    any = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.any |= isinstance(func, torch._ops.OpOverload) and func.namespace == "tdsl"
        return func(*args, **(kwargs or {}))


def _run_again(compiled: Program, args: Sequence[Any]) -> _Outcome:
    copied = copy_arguments(args)
    # The reference is not run under this stance: `while_loop` and its like compile as they run eagerly.
    with torch.compiler.set_stance("fail_on_recompile"):
        result = compiled(*copied)
    outcome = _Outcome.snapshot(result, copied)
    _poison(result)
    return outcome


def _compare(
    reference: Program, args: Sequence[Any], actual: _Outcome, again: _Outcome, *, exact: bool
) -> list[float]:
    """Two runs with `args` against PyTorch: the largest difference, error, and error of PyTorch's own."""
    eager = _Outcome.of(reference, args, float64=False)
    _Comparison("the second run", again, actual).require_same_bits()
    comparison = _Comparison("the compiled program", actual, eager)
    if exact:
        return [comparison.require_equal()] * 3
    truth = _Outcome.of(reference, args, float64=True)
    return list(comparison.require_close(truth, functools.cache(lambda: _floors(reference, args, truth))))


def _floors(
    reference: Program,
    args: Sequence[Any],
    truth: _Outcome,
    step: float = torch.finfo(torch.float32).eps,
) -> Mapping[str, torch.Tensor]:
    """For each element of the truth, an error that any right program may have, however exact eager is.

    A sum of n numbers is the exact sum of numbers each of which is off by about sqrt(n) roundings, whatever its
    order. So each float argument is moved by a rounding of its own, up or down, and what becomes of the truth is
    taken sqrt(n) times. To both sides of the arguments, since a jump at them (`x < 3` of a 3) is no rounding:
    there the mean of both sides is as far from the truth as they are from each other.

    step: a rounding, of a number by itself.
    """
    middle = truth.tensors()
    moved: dict[str, torch.Tensor] = {}
    for seed in range(8):  # one direction may by luck leave the truth where it is
        above, below = (
            _Outcome.of(reference, args, float64=True, nudge=(seed, side)).tensors() for side in (step, -step)
        )
        for path, exact in middle.items():
            if isinstance(exact, torch.Tensor) and exact.is_floating_point():
                up, down = (side[path].detach() - exact.detach() for side in (above, below))
                smooth = ((up - down).abs() - (up + down).abs()) / 2
                smooth = torch.where(smooth.isfinite(), smooth, 0)
                moved[path] = torch.maximum(moved.get(path, torch.zeros_like(smooth)), smooth)
    total = sum(value.numel() for _, value in _leaves("", args) if isinstance(value, torch.Tensor))
    return {
        path: math.sqrt(max(total / max(far.numel(), 1), 1)) * (far + step * middle[path].detach().abs())
        for path, far in moved.items()
    }


def _mark_what_differs(args: Sequence[Any], also: Sequence[Sequence[Any]]) -> None:
    for others in also:
        for mine, its in zip(args, others, strict=True):
            if isinstance(mine, torch.Tensor):
                for dim, (size, other) in enumerate(zip(mine.shape, its.shape, strict=True)):
                    if size != other:
                        torch._dynamo.maybe_mark_dynamic(mine, dim)


def assert_same_bits(actual: Any, expected: Any) -> None:
    """Both (tensors, or nested tuples, lists and dicts of them) hold the same bits; any NaN is the same.

    For 'fused equals unfused'.
    """
    _Comparison("the result", _Outcome(actual), _Outcome(expected)).require_same_bits()


def copy_arguments(args: Sequence[Any]) -> list[Any]:
    """Copies with the same strides and offsets; what shared memory still does."""
    return _copies(args, float64=False)


def _copies(args: Sequence[Any], *, float64: bool) -> list[Any]:
    storages: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def copy(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            dtype = torch.float64 if float64 and value.is_floating_point() else value.dtype
            storage = value.untyped_storage()
            key = (storage.data_ptr(), dtype)
            with torch.no_grad():
                if key not in storages:
                    flat = torch.empty(0, dtype=value.dtype, device=value.device)
                    flat.set_(storage)
                    storages[key] = flat.to(dtype, copy=True)
                whole, offset = storages[key], value.storage_offset()
                if value._is_view():
                    new = whole.as_strided(value.shape, value.stride(), offset)
                else:
                    new = torch.empty(0, dtype=dtype, device=value.device)
                    new.set_(whole.untyped_storage(), offset, value.shape, value.stride())
            return new.requires_grad_(value.requires_grad)
        if isinstance(value, tuple | list):
            return type(value)(copy(item) for item in value)
        if isinstance(value, dict):
            return {key: copy(item) for key, item in value.items()}
        return value

    return [copy(value) for value in args]


class _PyTorch(TorchDispatchMode):
    """Runs each template's reference in its place; `float64`: whatever would be a narrower float is a float64."""

    supports_higher_order_operators = True

    def __init__(self, *, float64: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.float64 = float64

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        from tdsl.operators import reference_of

        kwargs = dict(kwargs or {})
        if isinstance(func, torch._ops.HigherOrderOperator):
            return func(*map(self._inside, args), **{name: self._inside(arg) for name, arg in kwargs.items()})
        reference = reference_of(func)
        if reference is not None:
            with self:
                return reference(*args, **kwargs)
        if isinstance(func, torch._ops.OpOverload) and func.namespace == "tdsl":
            raise AssertionError(
                f"'{func._schema.name.removeprefix('tdsl::')}' has no reference: say what is right with reference="
            )
        if self.float64:
            args = tuple(torch.float64 if isinstance(a, torch.dtype) and a in _FLOATS else a for a in args)
            if kwargs.get("dtype") in _FLOATS:
                kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)

    def _inside(self, value: Any) -> Any:
        """What `while_loop` and its like call, which they want to do without a mode, calls by here."""
        if not callable(value):
            return value

        def inside(*args: Any) -> Any:
            with self:
                return value(*args)

        return inside


@dataclass(frozen=True)
class _Outcome:
    """What one run returned, and its arguments after it."""

    result: Any
    args: Sequence[Any] = ()

    @classmethod
    def of(
        cls, fn: Program, args: Sequence[Any], *, float64: bool, nudge: tuple[int, float] | None = None
    ) -> _Outcome:
        from tdsl.operators import reference_gradients

        args = _copies(args, float64=float64)
        if nudge is not None:
            _nudge(args, *nudge)
        default = torch.get_default_dtype()
        if float64:
            torch.set_default_dtype(torch.float64)
        try:
            with reference_gradients(), _PyTorch(float64=float64):
                return cls(fn(*args), args)
        finally:
            torch.set_default_dtype(default)

    @classmethod
    def snapshot(cls, result: Any, args: Sequence[Any]) -> _Outcome:
        copied = copy_arguments([result, *args])
        return cls(copied[0], copied[1:])

    def tensors(self) -> Mapping[str, Any]:
        leaves = dict(_leaves("result", self.result))
        for index, value in enumerate(self.args):
            leaves.update(_leaves(f"argument {index}", value))
        return leaves


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _leaves(f"{path}[{index}]", item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(f"{path}[{key!r}]", item)
    else:
        yield path, value


def _nudge(args: Sequence[Any], seed: int, step: float) -> None:
    """Move each float64 by `step` of itself, up or down as the seed has it."""
    generator = torch.Generator().manual_seed(seed)
    storages = {
        value.untyped_storage().data_ptr(): value
        for _, value in _leaves("", args)
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel()
    }
    with torch.no_grad():
        for value in storages.values():
            flat = torch.empty(0, dtype=value.dtype, device=value.device).set_(value.untyped_storage())
            signs = torch.randint(0, 2, flat.shape, generator=generator, dtype=torch.float64) * 2 - 1
            flat.mul_((1 + step * signs).to(value.device))


def _poison(result: Any) -> None:
    """Fill what was returned with NaN, or with ones in every bit: allocators hand it out again."""
    with torch.no_grad():
        for _, value in _leaves("", result):
            if isinstance(value, torch.Tensor) and value.numel():
                storage = value.detach().untyped_storage()
                torch.empty(0, dtype=torch.uint8, device=value.device).set_(storage).fill_(0xFF)


class _Comparison:
    """`actual` against `expected`, leaf by leaf; both must have the same structure, shapes and dtypes."""

    def __init__(self, who: str, actual: _Outcome, expected: _Outcome) -> None:
        self.who = who
        self.actual = actual.tensors()
        self.expected = expected.tensors()
        if self.actual.keys() != self.expected.keys():
            raise AssertionError(
                f"{who} returns {', '.join(self.actual)}; expected {', '.join(self.expected)}"
            )
        for path, value in self.actual.items():
            want = self.expected[path]
            if not isinstance(value, torch.Tensor) or not isinstance(want, torch.Tensor):
                if value is not want and value != want:
                    raise AssertionError(f"{path} of {who} is {value!r}; expected {want!r}")
                continue
            for name in ("dtype", "device", "shape"):
                got, wanted = getattr(value, name), getattr(want, name)
                if got != wanted:
                    raise AssertionError(f"{path} of {who} has {name} {got}; expected {wanted}")

    def pairs(self) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        for path, value in self.actual.items():
            if isinstance(value, torch.Tensor):
                yield path, value.detach(), self.expected[path].detach()

    def require_same_bits(self) -> None:
        for path, actual, expected in self.pairs():
            same = _equal(actual, expected)
            if actual.is_floating_point():
                signs = torch.signbit(_wide(actual)) == torch.signbit(_wide(expected))
                same &= signs | _wide(actual).isnan()
            self._require(path, actual, expected, ~same, "the same bits are required")

    def require_equal(self) -> float:
        for path, actual, expected in self.pairs():
            self._require(path, actual, expected, ~_equal(actual, expected), "equal values are required")
        return 0.0

    def require_close(
        self, truth: _Outcome, floors: Callable[[], Mapping[str, torch.Tensor]]
    ) -> tuple[float, float, float]:
        """The largest difference from `expected`, error from `truth`, and error of `expected`.

        `floors`: errors that are right in any case, for each element; asked for where all else is less.
        """
        worst = [0.0, 0.0, 0.0]
        truths = truth.tensors()
        for path, actual, expected in self.pairs():
            exact = truths[path].detach()
            if not (actual.is_floating_point() or actual.is_complex()):
                self._require(path, actual, expected, ~_equal(actual, expected), "equal values are required")
                continue
            finite = exact.isfinite() & _wide(expected).isfinite()
            same = _equal(actual, expected)
            self._require(path, actual, expected, ~(same | finite), "infinities and NaN must be the same")
            error = torch.where(finite, (_wide(actual) - exact).abs(), 0)
            eager = torch.where(finite, (_wide(expected) - exact).abs(), 0)
            largest = _largest(torch.where(finite, exact, 0).abs())
            rounding = max(torch.finfo(actual.dtype).eps, 8 * torch.finfo(torch.float32).eps) * largest
            allowed = 4 * _largest(eager) + rounding
            typical, usual = _root_mean_square(error), _root_mean_square(eager)
            typical_allowed = 2 * usual + rounding / 4
            rule = "four times eager's largest and a rounding"
            # Not 'error > allowed': a NaN must not pass.
            if not (_largest(error) <= allowed and typical <= typical_allowed) and path in floors():
                floor = torch.where(finite, floors()[path], 0)
                if _largest(floor) > allowed:
                    allowed, rule = _largest(floor), "what roundings of the arguments make of it"
                typical_allowed = max(typical_allowed, _root_mean_square(floor))
            rule = f"the error against float64 may be {allowed:.3g}, {rule}"
            self._require(path, actual, exact, ~(error <= allowed), rule)
            if typical > typical_allowed:
                raise AssertionError(
                    f"{path} of {self.who} has a root mean square error of {typical:.3g} against float64, "
                    f"more than twice eager's own, {usual:.3g}"
                )
            difference = torch.where(finite, (_wide(actual) - _wide(expected)).abs(), 0)
            found = [_largest(difference), _largest(error), _largest(eager)]
            worst = [max(pair) for pair in zip(worst, found, strict=True)]
        return worst[0], worst[1], worst[2]

    def _require(
        self, path: str, actual: torch.Tensor, expected: torch.Tensor, wrong: torch.Tensor, rule: str
    ) -> None:
        count = int(wrong.sum())
        if not count:
            return
        where = tuple(int(index) for index in wrong.nonzero()[0])
        difference = (_wide(actual) - _wide(expected)).abs()
        largest = _largest(difference.nan_to_num(nan=float("inf"), posinf=float("inf")))
        raise AssertionError(
            f"{path} of {self.who} differs in {count:,} of {wrong.numel():,} elements, first at "
            f"{list(where)}: {actual[where].item()!r}, expected {expected[where].item()!r}; "
            f"largest difference {largest:.3g}; {rule}"
        )


def _equal(actual: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    actual, expected = _wide(actual), _wide(expected)
    return (actual == expected) | (actual.isnan() & expected.isnan())


def _wide(value: torch.Tensor) -> torch.Tensor:
    return value.to(torch.float64) if value.is_floating_point() else value


def _largest(values: torch.Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def _root_mean_square(values: torch.Tensor) -> float:
    return float(values.double().square().mean().sqrt()) if values.numel() else 0.0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

"""What the tests of a template need: fused against reference, kernel counts, and goldens.

    from tdsl import testing

    def test_layer():
        testing.assert_fused(layer, (x, w, bias), kernels=1)

`assert_fused` compiles a program, counts its kernels and compares its result with PyTorch's. For the
`golden` fixture put `pytest_plugins = ["tdsl.testing"]` into the top `conftest.py`.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tdsl.refusal import Refusal, watch

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
    from tdsl.lower.inductor.private import functorch_config, inductor_config, run_and_get_code

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
        at its largest, and one rounding more.
    reference: the same program in PyTorch; without it, `fn` with each template replaced by its reference.
    dynamic: as for torch.compile.
    also: arguments of other sizes, which the program must take as it was compiled for `args`: compared as
        those are. Without `dynamic`, the sizes in which they differ from `args` are the dynamic ones.

    With each set of arguments the program runs twice, the second time over memory that was filled with NaN, and
    must return the same bits. Arguments keep their strides and what memory they share, and are not written to. Raises
    AssertionError with what differs, where it does first, and by how much, or with the kernels and what was
    not fused.
    """
    compiled = torch.compile(fn, fullgraph=True, dynamic=dynamic)
    first_args = copy_arguments(args)
    if dynamic is None:
        _mark_what_differs(first_args, also)
    with watch() as kept_out:
        result, found, code = count_kernels(compiled, *first_args)
    refusals = tuple(dict.fromkeys(kept_out))
    actual = _Outcome.snapshot(result, first_args)
    _poison(result)
    names = _kernel_names(code)
    if kernels is not None and found != kernels:
        lines = [*names, *refusals]
        if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
            lines.append(
                "on a CPU the reference is compiled, and no template's kernel, unless TRITON_INTERPRET=1"
            )
        listed = "".join(f"\n  {line}" for line in lines)
        raise AssertionError(f"expected {_count(kernels, 'kernel')}, compiled to {found}:{listed}")
    reference = reference or fn
    with torch.compiler.set_stance("fail_on_recompile"):
        again_args = copy_arguments(args)
        again = _Outcome(compiled(*again_args), again_args)
        worst = _compare(reference, args, actual, again, exact=exact)
        for others in also:
            runs = []
            for _ in range(2):
                copied = copy_arguments(others)
                result = compiled(*copied)
                runs.append(_Outcome.snapshot(result, copied))
                _poison(result)
            found_there = _compare(reference, others, *runs, exact=exact)
            worst = [max(pair) for pair in zip(worst, found_there, strict=True)]
    difference, error, eager_error = worst
    return Report(
        result=actual.result,
        kernels=found,
        triton=sum(name.startswith("Triton") for name in names),
        code=code,
        difference=difference,
        error=error,
        eager_error=eager_error,
        refusals=refusals,
    )


def _compare(
    reference: Program, args: Sequence[Any], actual: _Outcome, again: _Outcome, *, exact: bool
) -> list[float]:
    """Two runs with `args` against PyTorch: the largest difference, error, and error of PyTorch's own."""
    eager = _Outcome.of(reference, args, float64=False)
    _Comparison("the second run", again, actual).require_same_bits()
    comparison = _Comparison("the compiled program", actual, eager)
    if exact:
        return [comparison.require_equal()] * 3
    return list(comparison.require_close(_Outcome.of(reference, args, float64=True)))


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

    def __init__(self, *, float64: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.float64 = float64

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        from tdsl.operators import reference_of

        kwargs = dict(kwargs or {})
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


@dataclass(frozen=True)
class _Outcome:
    """What one run returned, and its arguments after it."""

    result: Any
    args: Sequence[Any] = ()

    @classmethod
    def of(cls, fn: Program, args: Sequence[Any], *, float64: bool) -> _Outcome:
        args = _copies(args, float64=float64)
        default = torch.get_default_dtype()
        if float64:
            torch.set_default_dtype(torch.float64)
        try:
            with _PyTorch(float64=float64):
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

    def require_close(self, truth: _Outcome) -> tuple[float, float, float]:
        """The largest difference from `expected`, error from `truth`, and error of `expected`."""
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
            rule = (
                f"the error against float64 may be {allowed:.3g}, four times eager's largest and a rounding"
            )
            # Not 'error > allowed': a NaN must not pass.
            self._require(path, actual, exact, ~(error <= allowed), rule)
            typical, usual = _root_mean_square(error), _root_mean_square(eager)
            if typical > 2 * usual + rounding / 4:
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


# Goldens


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files that tests compare with"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-golden") and os.environ.get("CI"):
        raise pytest.UsageError(
            "--update-golden is refused where CI is set: goldens are reviewed, then committed"
        )
    config.pluginmanager.register(_GoldenOwners(config), "tdsl-golden-owners")


class Golden:
    """The `golden` fixture: texts compared, byte for byte, with files in `golden/` beside the test's file."""

    def __init__(self, folder: Path, update: bool, owned: set[str]) -> None:
        self.folder = folder
        self._update = update
        self._owned = owned

    def __call__(self, name: str, text: str) -> None:
        """Compare `text` with the file `name` (`CASE/triton.py`), or write it under --update-golden."""
        self.owns(name)
        path = self.folder / name
        data = text.encode()
        if self._update:
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return
        if not path.is_file():
            pytest.fail(f"{path} does not exist; run pytest --update-golden, and read what it writes", False)
        golden = path.read_bytes()
        if golden == data:
            return
        lines = difflib.unified_diff(
            golden.decode().splitlines(), text.splitlines(), "golden", "now", lineterm="", n=2
        )
        diff = "\n".join(lines) or "(only line ends differ)"
        pytest.fail(f"{path} differs; run pytest --update-golden if it should\n{diff}", False)

    def owns(self, *names: str) -> None:
        """Say that these files belong to the test, where it may be skipped before it compares them."""
        self._owned.update(str(self.folder / name) for name in names)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares texts with golden files; see `Golden`."""
    owners = request.config.pluginmanager.get_plugin("tdsl-golden-owners")
    assert isinstance(owners, _GoldenOwners), "pytest_configure registers it"
    folder = request.path.parent / "golden"
    owners.folders.add(str(folder))
    return Golden(folder, request.config.getoption("--update-golden"), owners.owned)


class _GoldenOwners:
    """Fails a whole run that leaves a golden file unowned. With xdist, workers hand in what they saw."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.folders: set[str] = set()
        self.owned: set[str] = set()
        self.partial = False
        self.unowned: list[str] = []

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.partial = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output["tdsl_golden"] = (sorted(self.folders), sorted(self.owned), self.partial)
            return
        if exitstatus != pytest.ExitCode.OK or self.partial:
            return
        roots = [Path(argument) for argument in self.config.args if "::" not in argument]
        roots = [(self.config.invocation_params.dir / root).resolve() for root in roots]
        for folder in map(Path, sorted(self.folders)):
            # Who runs one file of a folder's tests has not run the owners of all its goldens.
            if any(root.is_dir() and folder.resolve().is_relative_to(root) for root in roots):
                files = (str(path) for path in sorted(folder.rglob("*")) if path.is_file())
                self.unowned += [path for path in files if path not in self.owned]
        if self.unowned:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        folders, owned, partial = getattr(node, "workeroutput", {}).get("tdsl_golden", ((), (), True))
        self.folders.update(folders)
        self.owned.update(owned)
        self.partial |= partial

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for path in self.unowned:
            terminalreporter.write_line(f"FAILED {path}: no test owns this golden file", red=True)

"""Runs one case: the compiled program against the same program with each template's reference in its place.

    check(CASE, device)    ->    Statistics, or Failure with what differs and where

This file needs torch and tdsl only, and is printed whole at the end of every script that reproduces a failure.
What a case looks like is below, in `Case`; who makes cases is `programs`' business.
"""

from __future__ import annotations

import dis
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it when it is imported, which is later

GUARD = 1 << 16  # bytes of poison before and after every tensor
FLOATS = ("f16", "bf16", "f32", "f64")
DTYPES = {
    "f64": torch.float64,
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "u8": torch.uint8,
    "bool": torch.bool,
    "f8e4m3": torch.float8_e4m3fn,
    "f8e5m2": torch.float8_e5m2,
}


class Dtypes(SimpleNamespace):
    """`D.f32` is torch.float32; while the truth is computed, every float is float64."""


D = Dtypes(**DTYPES)


class Failure(Exception):
    """`kind` is 'mismatch', 'refused', 'crash', 'unfused', 'reason' or 'pytorch'; the text says where."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


@dataclass(frozen=True)
class Statistics:
    kernels: int  # of all kinds
    templates: int  # kernels of templates
    compiles: int  # graphs compiled for all runs together
    calls: int  # template calls that had to become kernels


@dataclass(frozen=True)
class Case:
    """A program, its inputs and how it is run. `inputs` is in the order of the program's parameters.

    An input has `shape` (expressions over the sizes of a run), `dtype`, `values`, `order` (dimensions from the
    slowest to the fastest in memory), `step` and `gap` (elements between neighbours, and after each row),
    `shift` (elements before the first), `expanded` (dimensions of stride 0), `dynamic` (dimensions to mark); or it is
    a `scalar`, a Python number for each run. `exact`: zero tolerance, else a bound on the error against float64.
    """

    templates: Mapping[str, Any]
    program: Callable[..., Any]
    inputs: Mapping[str, Mapping[str, Any]]
    runs: Sequence[Mapping[str, int]]
    exact: bool = True
    signed: bool = False  # the sign of a zero is compared, too
    dynamic: bool | None = None
    eager: bool = False  # also run uncompiled, through the eager launch
    again: bool = True  # once more the first run, on memory that is full of poison again
    unbacked: bool = False  # some sizes are known only when the program runs
    gradient: bool = False  # what it says of every float input is compared, too
    autocast: bool = False  # called where PyTorch would take float32 for bfloat16: not in a template
    rules: Mapping[str, tuple[str, Sequence[int]]] = field(
        default_factory=dict
    )  # `autocast=`, and what it casts
    calls: int = 1
    tolerance: float = 1.0
    notes: Mapping[str, Any] = field(default_factory=dict)

    def floats(self) -> list[str]:
        """The float dtypes of its inputs."""
        given = [str(spec["dtype"]) for spec in self.inputs.values() if spec.get("dtype") in FLOATS]
        cast = {"lower": "bf16", "promote": "bf16"}
        return [*given, *(cast.get(rule, rule) for rule, _ in self.rules.values() if self.autocast)]

    def references(self) -> SimpleNamespace:
        """What stands for the templates where what is right is calculated."""
        return SimpleNamespace(**{name: self.reference(name) for name in self.templates})

    def reference(self, name: str) -> Callable[..., Any]:
        reference: Callable[..., Any] = self.templates[name].reference
        if not (self.autocast and self.rules):
            return reference
        rule, places = self.rules.get(name, ("", ()))

        def called(*args: Any) -> Any:
            device = next(x.device.type for x in args if isinstance(x, torch.Tensor))
            there = [at for at in places if at < len(args) and args[at] is not None]
            cast = dict(zip(there, cast_as(rule, [args[at] for at in there]), strict=True))
            with torch.autocast(device, enabled=False):
                return reference(*(cast.get(at, x) for at, x in enumerate(args)))

        return called


# What autocast does with arguments


def cast_as(rule: str, tensors: Sequence[Any]) -> list[Any]:
    """Tensors as PyTorch's operators of a kind take them where autocast is on: those themselves are asked."""
    ones = [torch.ones((1, 1), dtype=x.dtype, device=x.device) for x in tensors]
    match rule:
        case "lower":
            found = [(one @ one).dtype for one in ones]
        case "promote":
            found = [torch.cat(ones).dtype] * len(ones)
        case "f32":
            found = [torch.nn.functional.mse_loss(one, one).dtype for one in ones]
        case _:
            found = [x.dtype if x.dtype == torch.float64 else DTYPES[rule] for x in tensors]
    return [x.to(dtype) for x, dtype in zip(tensors, found, strict=True)]


def autograd_of(reference: Callable[..., Any], inputs: Sequence[Any], grads: Sequence[Any]) -> list[Any]:
    """What the gradients of a reference's outputs make of its inputs, in their order; None for what has none."""
    floats = [at for at, x in enumerate(inputs) if isinstance(x, torch.Tensor) and x.is_floating_point()]
    with torch.enable_grad():
        values = [x.detach().requires_grad_() if at in floats else x for at, x in enumerate(inputs)]
        outputs = leaves(reference(*values))
        pairs = [(y, g) for y, g in zip(outputs, grads, strict=True) if y.requires_grad]
        wanted = [values[at] for at in floats]
        found = (
            torch.autograd.grad([y for y, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True)
            if pairs
            else [None] * len(wanted)
        )
    by_place = dict(zip(floats, found, strict=True))
    return [by_place.get(at) for at in range(len(inputs))]


# References


def wide(x: torch.Tensor) -> torch.Tensor:
    """In which references calculate: exactly."""
    if x.dtype == torch.bool:
        return x
    return x.double() if x.is_floating_point() else x.long()


def at(x: torch.Tensor, have: str, want: str) -> torch.Tensor:
    """A tensor whose dimensions are the letters of `have`, to broadcast with one of `want`."""
    x = wide(x).permute([have.index(letter) for letter in want if letter in have])
    return x[tuple(slice(None) if letter in have else None for letter in want)]


def axis(size: int, letter: str, want: str, like: torch.Tensor) -> torch.Tensor:
    """The indices along the dimension `letter` of `want`."""
    return torch.arange(size, device=like.device)[
        tuple(slice(None) if other == letter else None for other in want)
    ]


def full(x: Any, sizes: Sequence[int], have: str, want: str, dtype: torch.dtype) -> torch.Tensor:
    """A value over the letters of `have`, as a tensor over `want`."""
    x = x if isinstance(x, torch.Tensor) else torch.tensor(x)
    keep = [have.index(letter) for letter in want]
    sizes_of = dict(zip(have, sizes, strict=True))
    if x.ndim == 0:
        x = x.reshape([1] * len(have))
    for letter in have:
        if letter not in want:
            x = x.select(have.index(letter), 0).unsqueeze(have.index(letter))
    x = x.permute([*keep, *(i for i in range(len(have)) if i not in keep)]).reshape(
        [x.shape[i] for i in keep]
    )
    # A copy: what the program writes into later is not the argument.
    return x.expand([sizes_of[letter] for letter in want]).to(dtype, copy=True).contiguous()


def over(function: Callable[..., Any], x: torch.Tensor, want: str, letter: str, size: int) -> torch.Tensor:
    """A reduction (or a running sum) along one letter; `x` may have one element there that stands for all."""
    d = want.index(letter)
    x = x.expand([size if i == d else n for i, n in enumerate(x.shape)])
    if function in (torch.cumsum, torch.cumprod):
        return function(x, d)
    return function(x, d, keepdim=True)


def along(function: Callable[..., Any], x: torch.Tensor, want: str, letter: str, size: int) -> torch.Tensor:
    """What has an element for each along one letter: another order of them, or places."""
    d = want.index(letter)
    return function(x.expand([size if i == d else n for i, n in enumerate(x.shape)]), (d,))


def ascending(x: torch.Tensor, d: tuple[int]) -> torch.Tensor:
    return x.sort(dim=d[0], stable=True)[0]


def descending(x: torch.Tensor, d: tuple[int]) -> torch.Tensor:
    return x.sort(dim=d[0], stable=True, descending=True)[0]


def places(x: torch.Tensor, d: tuple[int]) -> torch.Tensor:
    return x.sort(dim=d[0], stable=True)[1]


def places_down(x: torch.Tensor, d: tuple[int]) -> torch.Tensor:
    return x.sort(dim=d[0], stable=True, descending=True)[1]


def taken(x: torch.Tensor, want: str, letter: str, size: int, index: Any, other: Any) -> torch.Tensor:
    """The elements of `x` at an index along one letter, or `other` where there is none."""
    d = want.index(letter)
    x = x.expand([size if i == d else n for i, n in enumerate(x.shape)])
    edge = torch.full_like(x.sum(d, keepdim=True), other).to(x.dtype)
    index = torch.as_tensor(index, device=x.device)
    inside = (index >= 0) & (index < size)
    index = torch.where(inside, index, size)
    index = index.reshape([1] * (x.ndim - index.ndim) + list(index.shape))
    rows = torch.broadcast_shapes(
        x.sum(d, keepdim=True).shape, [1 if i == d else n for i, n in enumerate(index.shape)]
    )
    x = torch.cat([x, edge], d)
    x = x.expand([x.shape[d] if i == d else n for i, n in enumerate(rows)])
    return x.gather(d, index.expand([index.shape[d] if i == d else n for i, n in enumerate(rows)]))


def seven(x: torch.Tensor, want: str, letter: str, size: int, other: Any = 1) -> torch.Tensor:
    """The first seven along one letter, `other` where there are fewer."""
    d = want.index(letter)
    index = torch.arange(7, device=x.device).reshape([7 if i == d else 1 for i in range(x.ndim)])
    return taken(x, want, letter, size, index, other)


def weighed(x: torch.Tensor, want: str, letter: str) -> torch.Tensor:
    """Once the first along a letter, twice the second, three times the third."""
    d = want.index(letter)
    return sum(x.narrow(d, i, 1) * (i + 1) for i in range(3))


def counted(x: torch.Tensor, want: str, letter: str, size: int) -> torch.Tensor:
    """At every third place from 0 how many do not hold, from 1 how many do, from 2 nothing."""
    d = want.index(letter)
    x = x.expand([size if i == d else n for i, n in enumerate(x.shape)]).long()
    there = x.sum(d, keepdim=True)
    at = (torch.arange(size, device=x.device) % 3).reshape([size if i == d else 1 for i in range(x.ndim)])
    return torch.where(at == 0, size - there, torch.where(at == 1, there, 0))


def least_common(function: Callable[..., Any], x: Any, y: Any) -> Any:
    """torch.maximum and torch.minimum, of numbers too."""
    x, y = torch.broadcast_tensors(
        torch.as_tensor(x, device=y.device if isinstance(y, torch.Tensor) else None),
        torch.as_tensor(y, device=x.device if isinstance(x, torch.Tensor) else None),
    )
    return function(x, y)


def shifted(x: torch.Tensor, have: str, want: str, letter: str, by: int | None, fill: Any) -> torch.Tensor:
    """Along `letter`, the element `by` further on (None: counted from the end), or `fill` where there is none."""
    x = at(x, have, want)
    d = want.index(letter)
    size = x.shape[d]
    if size == 0:
        return x
    index = torch.arange(size, device=x.device)
    index = size - 1 - index if by is None else index + by
    inside = (index >= 0) & (index < size)
    shape = [size if i == d else 1 for i in range(x.ndim)]
    return torch.where(inside.reshape(shape), x.index_select(d, index.clamp(0, size - 1)), fill).to(x.dtype)


def gathered(table: torch.Tensor, ids: torch.Tensor, fill: Any) -> torch.Tensor:
    """Row `ids[r]` of the table, or `fill` where it has none."""
    ids = ids.long()
    inside = (ids >= 0) & (ids < table.shape[0])
    if table.shape[0] == 0:
        return torch.full((ids.shape[0], table.shape[1]), fill, device=table.device).to(wide(table).dtype)
    rows = wide(table)[ids.clamp(0, table.shape[0] - 1)]
    return torch.where(inside[:, None], rows, fill).to(rows.dtype)


def chosen(conditions: Sequence[Any], values: Sequence[Any]) -> Any:
    """What the first condition that holds says, or the last value: of numbers, or element by element."""
    found = values[-1]
    for condition, value in reversed(list(zip(conditions, values, strict=False))):
        if isinstance(condition, torch.Tensor):
            found = torch.where(condition, value, found)
        elif condition:
            found = value
    return found


def picked(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """`x[rows, columns]`, or 0 where it has no such element."""
    x = torch.nn.functional.pad(wide(x), (0, 1, 0, 1))  # so that there is one
    rows, columns = torch.broadcast_tensors(rows, columns)
    inside = (rows >= 0) & (rows < x.shape[0] - 1) & (columns >= 0) & (columns < x.shape[1] - 1)
    return torch.where(inside, x[rows.clamp(0, x.shape[0] - 1), columns.clamp(0, x.shape[1] - 1)], 0).to(
        x.dtype
    )


def scattered(x: torch.Tensor, ids: torch.Tensor, size: int) -> torch.Tensor:
    """Sums of the elements of `x` that have the same number, for each number that is inside."""
    inside = (ids >= 0) & (ids < size)
    zeros = torch.zeros(size, dtype=x.dtype, device=x.device)
    return zeros.index_add(0, ids.long().clamp(0, size - 1), torch.where(inside, x, 0))


# Memory


def poison(dtype: torch.dtype) -> Any:
    if dtype.is_floating_point:
        return math.nan
    return (
        True
        if dtype == torch.bool
        else {1: 0x5A, 2: 0x5A5A, 4: 0x5A5A5A5A, 8: 0x5A5A5A5A5A5A}[dtype.itemsize]
    )


def poisoned(elements: int, dtype: torch.dtype, device: Any) -> torch.Tensor:
    return torch.full((elements,), poison(dtype), dtype=dtype, device=device)


class Allocations:
    """Stands for the allocators of compiled code: what it hands out is full of poison and lies between guards."""

    def __init__(self) -> None:
        self.made: list[tuple[torch.Tensor, int, int]] = []

    def __call__(self, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype, device: str) -> Any:
        extent = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else 0
        guard = GUARD // dtype.itemsize
        flat = poisoned(extent + 2 * guard, dtype, device)
        self.made.append((flat, guard, extent))
        return flat.as_strided(size, stride, guard)

    def check(self) -> None:
        for flat, guard, extent in self.made:
            for name, band in (("before", flat[:guard]), ("after", flat[guard + extent :])):
                want = poisoned(1, flat.dtype, flat.device)
                same = band.isnan() if flat.dtype.is_floating_point else band == want
                if not bool(same.all()):
                    place = int((~same).nonzero()[0])
                    raise Failure(
                        "mismatch", f"memory {name} an allocated tensor of {extent} was written, at {place}"
                    )
        self.made.clear()


ALLOCATIONS = Allocations()


@contextmanager
def watched_allocations() -> Iterator[None]:
    """Compiled code that is loaded inside allocates from `ALLOCATIONS`."""
    guards = torch._C._dynamo.guards
    names = {"_empty_strided_cpu": "cpu", "_empty_strided_cuda": "cuda"}
    before = {name: getattr(guards, name) for name in names}
    for name, device in names.items():
        setattr(
            guards, name, lambda size, stride, dtype, device=device: ALLOCATIONS(size, stride, dtype, device)
        )
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(guards, name, function)


@dataclass
class Input:
    value: Any
    flat: torch.Tensor | None = None  # the memory around it

    def bare(self) -> torch.Tensor | None:
        """The memory around it, with nothing in its place."""
        if self.flat is None:
            return None
        self.value.detach().zero_()
        return self.flat


def number_of(text: Any, run: Mapping[str, int]) -> int:
    return int(eval(str(text), {}, dict(run)))


def make_input(name: str, spec: Mapping[str, Any], at_run: int, run: Mapping[str, int], device: Any) -> Input:
    if "scalar" in spec:
        return Input(spec["scalar"][at_run % len(spec["scalar"])])
    dtype = DTYPES[spec["dtype"]]
    size = [number_of(text, run) for text in spec["shape"]]
    expanded = tuple(spec.get("expanded", ()))
    seed = zlib.crc32(f"{name} {at_run} {spec.get('seed', 0)}".encode())
    generator = torch.Generator().manual_seed(seed)
    stored = [1 if d in expanded else n for d, n in enumerate(size)]
    values = draw(spec["values"], stored, dtype, run, generator).to(device)
    if spec.get("huge"):
        # More than 2^31 elements lie between rows; hardly any page of it is ever touched.
        step = (1 << 30) + 16
        flat = torch.empty(((size[0] - 1) * step + size[1] + (1 << 31) + 4096,), dtype=dtype, device=device)
        view = flat.as_strided(size, (step, 1), (1 << 31) + 64)
        for row in range(size[0]):
            low = (1 << 31) + 64 + row * step
            flat[low - 64 : low + size[1] + 64].fill_(poison(dtype))
        view.copy_(values)
        return Input(view)
    stride = [0] * len(size)
    order = spec.get("order") or range(len(size))
    extent = spec.get("step", 1)
    for d in reversed(list(order)):
        if d not in expanded:
            stride[d] = extent
            extent = extent * max(size[d], 1) + spec.get("gap", 0)
    guard = GUARD // dtype.itemsize
    flat = poisoned(extent + 2 * guard, dtype, device)
    # The tensor's storage begins behind the guard: where a storage begins is nothing that a program sees.
    inner = torch.from_dlpack(flat[guard : guard + max(extent, 1) + spec.get("shift", 0)])
    inner.as_strided(stored, stride, spec.get("shift", 0)).copy_(values)
    view = inner.as_strided(size, stride, spec.get("shift", 0))
    if spec.get("plain"):
        view = values.clone()  # exactly as allocated: no storage around it
        return Input(view.expand(size), None)
    return Input(view, flat)


def draw(
    values: Any, size: Sequence[int], dtype: torch.dtype, run: Mapping[str, int], generator: Any
) -> torch.Tensor:
    """('ints', lo, hi), ('bits',), ('count', n): so many ones, ('normal', scale), ('special', lo, hi): with NaN,
    infinities and zeros of both signs."""
    kind, *rest = values
    if kind == "bits":
        return torch.randint(0, 2, size, generator=generator).to(dtype)
    if kind == "count":
        ones = torch.zeros(size, dtype=torch.int64)
        ones[torch.randperm(size[0], generator=generator)[: number_of(rest[0], run)]] = 1
        return ones.to(dtype)
    if kind == "normal":
        return (torch.randn(size, generator=generator, dtype=torch.float64) * rest[0]).to(dtype)
    low, high = (number_of(part, run) for part in rest[:2])
    found = torch.randint(low, max(high, low) + 1, size, generator=generator).to(dtype)
    if kind == "special":
        odd = torch.tensor([math.inf, math.nan, -math.inf, -0.0, 0.0, -0.0]).to(dtype)
        kinds, share = (*rest[2:], *(len(odd), 0.06)[len(rest) - 2 :])
        picked = odd[torch.randint(0, kinds, size, generator=generator)]
        return torch.where(torch.rand(size, generator=generator) < share, picked, found)
    if kind == "zeros":
        return torch.where(torch.rand(size, generator=generator) < 0.3, torch.tensor(-0.0).to(dtype), found)
    return found


# Comparing


def leaves(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, tuple | list) else [value]


def largest(x: torch.Tensor) -> float:
    return float(x.max()) if x.numel() else 0.0


def compare(where: str, actual: Any, expected: Any, case: Case, truth: Any) -> None:
    if not isinstance(actual, torch.Tensor):
        if actual != expected:
            raise Failure("mismatch", f"{where} is {actual!r}, expected {expected!r}")
        return
    for name in ("dtype", "shape"):
        got, wanted = getattr(actual, name), getattr(expected, name)
        if got != wanted:
            raise Failure("mismatch", f"{where} has {name} {got}, expected {wanted}")
    if actual.dtype.itemsize == 1 and actual.is_floating_point():
        actual, expected = actual.float(), expected.float()  # PyTorch compares no float8
    if case.exact or not actual.is_floating_point():
        wrong = actual != expected
        if actual.is_floating_point():
            wrong &= ~(actual.isnan() & expected.isnan())
            if case.signed:
                wrong |= (actual == 0) & (torch.signbit(actual) != torch.signbit(expected))
        rule = "every element must be equal"
        want = expected
    else:
        want = truth.double()
        finite = want.isfinite()
        scale = largest(torch.where(finite, want, 0).abs())
        unit = torch.finfo(actual.dtype).eps
        usual = torch.where(finite & expected.isfinite(), (expected.double() - want).abs(), 0)
        # What is rounded on the way, to a narrower float, may by luck be no error of eager's; inputs are about one.
        narrow = max(torch.finfo(DTYPES[name]).eps for name in {"f64", *case.floats()})
        bound = max(64 * unit, 2e-5) * max(scale, 1e-3) + 2 * largest(usual)
        allowed = case.tolerance * (bound if narrow <= unit else bound + narrow)
        error = (actual.double() - want).abs()
        ok = torch.where(
            finite, error <= allowed, (actual.double() == want) | (actual.isnan() & want.isnan())
        )
        wrong = ~ok
        rule = f"the error against float64 may be {allowed:.3g}"
    count = int(wrong.sum())
    if count:
        place = tuple(int(i) for i in wrong.nonzero()[0])
        raise Failure(
            "mismatch",
            f"{where} differs in {count} of {wrong.numel()} elements, first at {list(place)}: "
            f"{actual[place].item()!r}, expected {want[place].item()!r}; {rule}",
        )


# One case


def check(case: Case, device: Any) -> Statistics:
    """Runs the case; raises Failure, of the kind 'pytorch' if PyTorch alone gets it wrong, too."""
    try:
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=case.unbacked):
            return _check(case, torch.device(device))
    except Failure as failure:
        if failure.kind == "mismatch" and _is_wrong_without_templates(case, torch.device(device)):
            raise Failure("pytorch", failure.message) from failure
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}".strip()
        refused = "TdslError" in type(error).__name__ or "TdslError" in text or "error[" in text
        ours = refused and not (case.unbacked and "data-dependent" in text)
        if not ours and _is_wrong_without_templates(case, torch.device(device), refused=text):
            raise Failure("pytorch", text[:300]) from error
        # Inductor's own words come first, what it wraps in the middle, and advice at the end.
        raise Failure("refused" if refused else "crash", text[:3000]) from error


def _is_wrong_without_templates(case: Case, device: torch.device, *, refused: str = "") -> bool:
    """Whether the compiled program differs from eager also with a reference in place of each template, or is refused for
    the reason that the text `refused` gives.

    PyTorch 2.13 moves what reads a view behind a write in place to it (`reorder_for_locality`, on a CPU).
    It rounds here like eager: else its own epilogues, unrounded by default, would excuse a template's.
    """
    references = case.references()
    compiled = torch.compile(
        lambda *args: case.program(references, *args),
        dynamic=case.dynamic,
        fullgraph=bool(refused),  # as it was asked of the program that was refused
        options={"emulate_precision_casts": True},
    )
    if case.rules:
        compiled = in_autocast(case, device, compiled)
    torch._dynamo.reset()
    try:
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=case.unbacked):
            for at_run, run in enumerate(case.runs):
                expected = expected_of(case, references, at_run, run, device)
                _run(case, compiled, at_run, run, device, expected, "without templates: ")
    except Failure as failure:
        return failure.kind == "mismatch" and not refused
    except Exception as error:
        return bool(_reasons(refused) & _reasons(f"{type(error).__name__}: {error}"))
    return False


def _reasons(text: str) -> set[str]:
    """What two refusals of one program have in common: a size that nobody knows, or the class of an error, which Inductor
    wraps in others."""
    classes = set(re.findall(r"\b(\w+(?:Error|Exception|Unsupported))\b:", text))
    wrappers = {"InductorError", "LoweringException", "TorchRuntimeError"}
    return (classes - wrappers) | ({"data-dependent"} if "data-dependent" in text else set())


def in_autocast(case: Case, device: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function where autocast is on, if the case asks for that."""

    def called(*args: Any) -> Any:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=case.autocast):
            return function(*args)

    return called


def _check(case: Case, device: torch.device) -> Statistics:
    from tdsl import refusal
    from tdsl.testing import count_kernels

    references = case.references()
    kernels = SimpleNamespace(**case.templates)

    wanted = [expected_of(case, references, at_run, run, device) for at_run, run in enumerate(case.runs)]
    if case.eager:
        for at_run, run in enumerate(case.runs[:1]):
            with eager_allocations():
                _run(
                    case,
                    in_autocast(case, device, lambda *args: case.program(kernels, *args)),
                    at_run,
                    run,
                    device,
                    wanted[at_run],
                    "eager: ",
                )

    def program(*args: Any) -> Any:
        return case.program(kernels, *args)

    compiled = in_autocast(case, device, torch.compile(program, fullgraph=True, dynamic=case.dynamic))
    prepared = [inputs_of(case, at_run, run, device, mark=True) for at_run, run in enumerate(case.runs)]

    def every_run() -> None:
        for at_run, run in enumerate(case.runs):
            _run(case, compiled, at_run, run, device, wanted[at_run], "", prepared[at_run])

    with watched_allocations(), refusal.watch() as refusals:
        counted = count_kernels(every_run)
        ALLOCATIONS.check()
        if case.again:
            _run(case, compiled, 0, case.runs[0], device, wanted[0], "again: ")
            ALLOCATIONS.check()
    text = "\n".join(
        line for code in counted.code for line in code.splitlines() if not line.lstrip().startswith("#")
    )
    for each in refusals:
        check_reason(each, case)
    made = text.count("custom_kernel=True")
    empty = any(0 in run.values() for run in case.runs)
    if not empty:
        if "torch.ops.tdsl." in text:
            raise Failure("unfused", "a template stayed a call of its operator")
        graphs = 1 if case.gradient else max(1, len(counted.code))  # a graph of gradients has no templates
        if made < case.calls * graphs and case.calls:
            raise Failure("unfused", f"{case.calls} calls of templates became {made} kernels")
    return Statistics(kernels=counted.kernels, templates=made, compiles=len(counted.code), calls=case.calls)


VIEWS = {
    "t",
    "transpose",
    "permute",
    "view",
    "reshape",
    "expand",
    "unsqueeze",
    "flip",
    "squeeze",
    "contiguous",
}


def check_reason(refusal: Any, case: Case) -> None:
    """Whether what is said to be in the way is there: in the template, in the graph's operators, in the program."""
    text = refusal.reason
    operators = [name for name in refusal.targets if name.startswith(("aten.", "prims."))]
    if "nofuse" in text and "nofuse" not in refusal.span.source.text:
        why = "the template says nothing like it"
    elif re.search("as a whole|reduction|not pointwise|elements of more than one block", text) and all(
        is_pointwise(name) for name in operators
    ):
        why = f"it is pointwise: {', '.join(operators)}"
    elif re.search("transposed|slice of", text) and not (case.gradient or has_views(case.program)):
        why = "the program has no view"
    else:
        return
    raise Failure("reason", f"'{text}' is said of {', '.join(refusal.nodes)} at {refusal.point}; {why}")


def is_pointwise(name: str) -> bool:
    found = torch.ops
    for part in name.split("."):
        found = getattr(found, part)
    return torch.Tag.pointwise in found.tags or name.startswith(("prims.convert", "aten.full", "aten.clone"))


def has_views(program: Callable[..., Any]) -> bool:
    """Whether a program has anything that changes the order or the number of elements."""
    code = list(dis.get_instructions(program))
    return any(step.argval in VIEWS or "SUBSCR" in step.opname or "SLICE" in step.opname for step in code)


@contextmanager
def eager_allocations() -> Iterator[None]:
    """torch.empty hands out poison."""
    before = torch.empty

    def empty(*size: Any, **kwargs: Any) -> Any:
        made = before(*size, **kwargs)
        return made.fill_(poison(made.dtype)) if made.numel() < 1 << 24 else made

    torch.empty = empty
    try:
        yield
    finally:
        torch.empty = before


def inputs_of(
    case: Case, at_run: int, run: Mapping[str, int], device: Any, *, mark: bool = False
) -> list[Input]:
    made = [make_input(name, spec, at_run, run, device) for name, spec in case.inputs.items()]
    if mark:
        for item, spec in zip(made, case.inputs.values(), strict=True):
            for d in spec.get("dynamic", ()):
                if item.value.shape[d] > 1:
                    torch._dynamo.maybe_mark_dynamic(item.value, d)
    return made


@dataclass
class Expected:
    result: list[Any]
    inputs: list[Any]
    bare: list[Any]
    truth: list[Any]
    truth_inputs: list[Any]


def expected_of(case: Case, references: Any, at_run: int, run: Mapping[str, int], device: Any) -> Expected:
    inputs = inputs_of(case, at_run, run, device)

    def program(*args: Any) -> Any:
        return case.program(references, *args)

    if case.rules:
        program = in_autocast(case, device, program)
    result = [copy_of(leaf) for leaf in outcome(case, program, [item.value for item in inputs])]
    values = [copy_of(item.value) for item in inputs]
    truth: list[Any] = [None] * len(result)
    truth_inputs: list[Any] = [None] * len(values)
    if not case.exact:
        inputs_64 = [
            value.double().clone()
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype.itemsize > 1
            else copy_of(value)
            for value in (item.value for item in inputs_of(case, at_run, run, device))
        ]
        with float64():
            truth = [copy_of(leaf) for leaf in outcome(case, program, inputs_64)]
        truth_inputs = inputs_64
    return Expected(result, values, [item.bare() for item in inputs], truth, truth_inputs)


def outcome(case: Case, function: Callable[..., Any], inputs: Sequence[Any]) -> list[Any]:
    """What a program returns, and what a sum over it changes with each float input, if that is asked."""
    if not case.gradient:
        return leaves(function(*inputs))
    floats = [
        x for x in inputs if isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype.itemsize > 1
    ]
    for x in floats:
        x.requires_grad_()
    result = leaves(function(*inputs))
    sums = [
        (leaf.double() * (torch.arange(leaf.numel(), device=leaf.device) % 7 - 2).reshape(leaf.shape)).sum()
        for leaf in result
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.requires_grad
    ]
    # A reference may read none of them for these sizes, where a template's call depends on all that it was given.
    found = torch.autograd.grad(sum(sums), floats, allow_unused=True) if sums else [None] * len(floats)
    grads = [torch.zeros_like(x) if grad is None else grad for x, grad in zip(floats, found, strict=True)]
    return [leaf.detach() if isinstance(leaf, torch.Tensor) else leaf for leaf in [*result, *grads]]


def copy_of(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


@contextmanager
def float64() -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    for name in FLOATS:
        setattr(D, name, torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)
        for name in FLOATS:
            setattr(D, name, DTYPES[name])


def _run(
    case: Case,
    function: Callable[..., Any],
    at_run: int,
    run: Mapping[str, int],
    device: Any,
    expected: Expected,
    prefix: str,
    inputs: list[Input] | None = None,
) -> None:
    inputs = inputs or inputs_of(case, at_run, run, device, mark=not prefix)
    result = outcome(case, function, [item.value for item in inputs])
    prefix = f"{prefix}run {at_run}: " if len(case.runs) > 1 else prefix
    if len(result) != len(expected.result):
        raise Failure("mismatch", f"{prefix}{len(result)} results, expected {len(expected.result)}")
    for index, (actual, want, truth) in enumerate(zip(result, expected.result, expected.truth, strict=True)):
        compare(f"{prefix}result {index}", actual, want, case, truth)
    for name, item, want, truth in zip(
        case.inputs, inputs, expected.inputs, expected.truth_inputs, strict=True
    ):
        value = item.value.detach() if isinstance(item.value, torch.Tensor) else item.value
        compare(f"{prefix}argument {name} afterwards", value, want, case, truth)
    for name, item, want in zip(case.inputs, inputs, expected.bare, strict=True):
        bare = item.bare()
        if bare is not None and not torch.equal(bits(bare), bits(want)):
            raise Failure("mismatch", f"{prefix}memory around argument {name} was written")


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.view(torch.uint8)


def reproduce(case: Case) -> None:
    """What a printed script does: exits with 1 and says what differs, or says that nothing does."""
    device = "cuda" if torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1" else "cpu"
    try:
        found = check(case, device)
    except Failure as failure:
        raise SystemExit(str(failure)) from failure
    print(f"no difference; {found}")

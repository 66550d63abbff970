"""Random programs around templates: pointwise work and views before and after, several consumers, mutation.

    plan(seed, index)    ->    Plan: templates, lines, inputs, sizes; the same for the same two numbers
    plan.script()        ->    a program that anyone with torch and tdsl can run

A plan is data, so that `reduction` can make it smaller. What a template can be is `templates`' business, how a case
is run and compared is `harness`'s.
"""

from __future__ import annotations

import functools
import math
import pprint
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.fuzz import harness
from tests.fuzz.examples import example
from tests.fuzz.graded import derived, graded
from tests.fuzz.harness import Case, number_of
from tests.fuzz.ruled import ruled
from tests.fuzz.scenes import affine, scene
from tests.fuzz.templates import LONGEST, Param, Template, fits, is_float, promoted, smooth, template

HARNESS = Path(harness.__file__)
FLOAT8 = ("f8e4m3", "f8e5m2")
EAGER = {"edited", "resized"}  # what can be wrong there that cannot elsewhere
COST = 40  # programs of one launch, about

# Numbers that a program calculates from a size, of either sign; all but the first are computed on the host.
HOST_SIZES = [
    "3 - {0}",
    *("({0} - 9) // 2", "(9 - {0}) // 2", "({0} - 30) // 4", "{0} // -5"),
    *("(5 - {0}) % 4", "({0} - 30) % -7", "{0} % -3"),
]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A template of a plan, as text."""

    name: str
    text: str
    reference: str
    backward: str = ""
    autocast: str | None = None
    cast: tuple[int, ...] = ()

    def written(self) -> str:
        rule = "" if self.autocast is None else f", autocast={self.autocast!r}"
        made = f'@tdsl.template(source="""\n{self.text}"""{rule})\n{self.reference}'
        return f"{made}\n\n{self.backward}" if self.backward else made


@dataclass(frozen=True, kw_only=True)
class Plan:
    label: str
    templates: tuple[Call, ...]
    lines: tuple[str, ...]  # of the program, each `name = ...` or a mutation
    returned: tuple[str, ...]
    inputs: Mapping[str, Mapping[str, Any]]
    runs: tuple[Mapping[str, int], ...]
    exact: bool = True
    signed: bool = False
    dynamic: bool | None = None
    eager: bool = False
    again: bool = True
    unbacked: bool = False  # the rows of some inputs are as many as a tensor says
    gradient: bool = False
    autocast: bool = False
    tolerance: float = 1.0
    families: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    def text(self) -> str:
        """The case as Python, to be executed where `harness`'s names are known."""
        parts = []
        for call in self.templates:
            parts.append(call.written())
        names = ", ".join(["k", *self.inputs])
        body = "\n    ".join(
            [*self.lines, f"return {', '.join(self.returned)}{',' if len(self.returned) == 1 else ''}"]
        )
        parts.append(f"def program({names}):\n    {body}\n")
        templates = ", ".join(f"{call.name!r}: {call.name}" for call in self.templates)
        calls = len(re.findall(r" = k\.", "\n".join(self.live(strict=True))))
        inputs = pprint.pformat(dict(self.inputs), width=110, sort_dicts=False)
        rules = {call.name: (call.autocast, call.cast) for call in self.templates if call.autocast}
        parts.append(
            f"CASE = Case(\n    templates={{{templates}}},\n    program=program,\n    inputs={inputs},\n"
            f"    runs={[dict(run) for run in self.runs]!r},\n    exact={self.exact}, signed={self.signed}, "
            f"dynamic={self.dynamic}, eager={self.eager}, again={self.again}, calls={1 if calls else 0}, tolerance={self.tolerance},\n"
            f"    unbacked={self.unbacked}, gradient={self.gradient}, autocast={self.autocast},\n    rules={rules!r},\n)\n"
        )
        return "\n\n".join(parts)

    def saved(self, why: str) -> str:
        """What is kept of a failure, for `read_case`."""
        return f"{quoted(f'{self.label}: {why}')}\n\n{self.text()}"

    def script(self, why: str) -> str:
        """A program of its own: says what differs, and exits with 1, or says that nothing does."""
        source = HARNESS.read_text(encoding="utf-8").split('"""', 2)[2]
        return "\n".join(
            [
                quoted(f"{self.label}: {why}"),
                source.rstrip(),
                "",
                "",
                "# The case",
                "",
                "import tdsl  # noqa: E402",
                "",
                self.text(),
                'if __name__ == "__main__":',
                "    reproduce(CASE)",
                "",
            ]
        )

    def live(self, *, strict: bool = False) -> list[str]:
        """The lines that something that is seen may depend on. `strict`: that it surely does."""
        if strict and any(re.search(r"\.fill_\(", line) for line in self.lines):
            return []  # what was computed before may be lost
        wanted = {word for text in self.returned for word in re.findall(r"\w+", text)}
        kept: list[str] = []
        for line in reversed(self.lines):
            name = re.match(r"([\w, ]+) = ", line)
            made = set(re.findall(r"\w+", name.group(1))) if name else set()
            seen = not strict or bool(set(re.findall(r"\b[xv]\d+\b", line)) & (wanted | set(self.inputs)))
            if made & wanted or (not name and seen):
                kept.append(line)
                wanted |= set(re.findall(r"\b[xv]\d+\b", line))
        return kept[::-1]

    def case(self) -> Case:
        return case_of(self.text(), self.label)


def quoted(text: str) -> str:
    """A module's docstring."""
    first = text.partition("\nSet TORCHDYNAMO")[0].strip()
    return '"""' + first.replace("\\", "/").replace('"""', "'''") + '\n"""'


def case_of(text: str, label: str) -> Case:
    """The case that a text describes, as `Plan.text` spells one."""
    import tdsl

    # Dynamo looks a function's module up by its name.
    module = ModuleType(f"tests.fuzz.case_{re.sub('[^0-9a-z]+', '_', label)}")
    names = {name: value for name, value in vars(harness).items() if not name.startswith("__")}
    module.__dict__.update(names, tdsl=tdsl)
    sys.modules[module.__name__] = module
    exec(compile(text, f"<{label}>", "exec"), module.__dict__)
    found: Case = module.CASE
    return found


def read_case(path: Path) -> Case:
    """A case that failed once."""
    return case_of(path.read_text(encoding="utf-8"), path.stem)


@dataclass(kw_only=True, eq=False)
class Value:
    name: str
    dims: tuple[str, ...]
    dtype: str
    bound: float
    places: int = 0
    rounded: bool = False
    root: int = 0
    writable: bool = False


UNARY = [
    ("(-{})", lambda b, p: (b, p)),
    ("{}.abs()", lambda b, p: (b, p)),
    ("torch.relu({})", lambda b, p: (b, p)),
    ("({} + 1)", lambda b, p: (b + 1, p)),
    ("({} - 2)", lambda b, p: (b + 2, p)),
    ("({} * 2)", lambda b, p: (b * 2, p)),
    ("({} * -3)", lambda b, p: (b * 3, p)),
    ("(3 - {})", lambda b, p: (b + 3, p)),
    ("{}.clamp(-2, 5)", lambda b, p: (5, p)),
    ("torch.where({0} > 1, {0}, -1)", lambda b, p: (max(b, 1), p)),
    ("torch.square({})", lambda b, p: (b * b, 2 * p)),
    ("torch.sign({})", lambda b, p: (1, 0)),
    ("({}.clamp(-9, 9) % 3)", lambda b, p: (3, p)),
]
KEEPS = ("(-{})", "{}.abs()", "torch.relu({})")  # exact whatever the value is
SMOOTH = [
    "torch.sigmoid({})",
    "torch.tanh({})",
    "({} * 0.5)",
    "({} + 1)",
    "torch.sin({})",
    "torch.exp(-{}.abs())",
    "({0} * torch.sigmoid({0}))",
    "torch.erf({})",
    "(-{})",
]
# Not zero where lanes outside are, behind whatever came before.
NOT_ZERO = ("torch.sigmoid({})", "torch.exp(-{}.abs())", "torch.cos({})")
MOVED = ("({} + 1)", "(1 - {})")
# Not '-x': Triton's is '0 - x', which makes zero of zero.
SIGNED = ["{}.abs()", "({} * 2)", "({} * -1)", "({} * -2)"]
MUTATIONS = [
    ("{}.relu_()", lambda b: b),
    ("{}.add_(1)", lambda b: b + 1),
    ("{}.mul_(2)", lambda b: b * 2),
    ("{}.neg_()", lambda b: b),
    ("{}.clamp_(-3, 4)", lambda b: min(b, 4)),
    ("{}[..., :1].add_(2)", lambda b: b + 2),
    ("{}.fill_(3)", lambda b: max(b, 3)),
]


class Builder:
    """Draws one program."""

    def __init__(self, rng: random.Random, label: str) -> None:
        self.rng = rng
        self.label = label
        self.inputs: dict[str, dict[str, Any]] = {}
        self.values: list[Value] = []
        self.raw: list[Value] = []  # what templates returned
        self.lines: list[str] = []
        self.symbols: dict[str, list[int]] = {}
        self.fixed: set[str] = set()
        self.known: set[str] = set()
        self.templates: list[Template] = []
        self.features: set[str] = set()
        self.count = 0
        self.roots = 0
        self.mutations = 0
        self.dynamic = rng.random() < 0.2
        self.runs = rng.choice([2, 2, 3]) if self.dynamic else 1
        self.ones = not self.dynamic or rng.random() < 0.15  # a size of one is a graph of its own
        self.exact = rng.random() < 0.8
        self.mode = "plain"
        if self.exact:
            self.mode = rng.choices(["plain", "special", "signed"], [0.85, 0.1, 0.05])[0]
        # An infinity among positive numbers stays one in a sum, where a NaN would hide what else is wrong.
        self.positive = self.mode == "special" and rng.random() < 0.7
        # More than 2^31 elements from the first to the last of an input.
        self.huge = self.mode == "plain" and self.exact and not self.dynamic and rng.random() < 0.03
        self.mutating = rng.random() < 0.3 and self.mode == "plain" and self.exact
        self.used_inout = False
        # What decorates templates is drawn beside the rest: who has none of it is the graph that it was without.
        self.decorating = random.Random(label)
        # Templates that autocast casts the arguments of, where it is on.
        self.casting = self.decorating.random() < 0.1

    # Sizes

    def symbol(self, block: int, *, nonempty: bool, multiple: int = 1, limit: int = 4) -> str:
        name = "MNKPQRSUVWXYZABCDEFGHIJLOT"[len(self.symbols)]
        around = [1, block - 1, block, block + 1, 2 * block, 2 * block + 3, 3 * block + 5]
        if block == 1:
            around = [1, 2, 3]
        around = [size for size in around if 0 < size <= min(LONGEST, limit * block)] or [1]
        if self.huge:
            around = [3]
        if not self.ones:
            around = [size for size in around if size > 1] or [2, 3]
        sizes: list[int] = []
        for _ in range(self.runs):
            # More often than not there is more than one block.
            size = max(self.rng.choice(around), self.rng.choice(around) if self.rng.random() < 0.4 else 0)
            if self.rng.random() < 0.03 and not nonempty and not self.dynamic and multiple == 1:
                size = 0
            sizes.append(max(multiple, size // multiple * multiple) if multiple > 1 else size)
        self.symbols[name] = sizes
        return name

    def sizes(self, dim: str) -> list[int]:
        return [number_of(dim, {name: s[at] for name, s in self.symbols.items()}) for at in range(self.runs)]

    def size_text(self, dim: str) -> str | None:
        """How the program says how long a dimension is, whatever the size of the run."""
        if dim.isdigit():
            return dim
        for name, spec in self.inputs.items():
            if "shape" in spec and dim in spec["shape"]:
                return f"{name}.shape[{list(spec['shape']).index(dim)}]"
        return None

    # Values

    def define(self, text: str, value: Value, *, view_of: Value | None = None) -> Value:
        self.count += 1
        value.name = f"v{self.count}"
        self.lines.append(f"{value.name} = {text}")
        if view_of is None:
            self.roots += 1
            value.root = self.roots
            value.writable = True
        else:
            value.root = view_of.root
        self.values.append(value)
        return value

    def like(self, value: Value, **changes: Any) -> Value:
        made = Value(
            name="",
            dims=value.dims,
            dtype=value.dtype,
            bound=value.bound,
            places=value.places,
            rounded=value.rounded,
        )
        for name, new in changes.items():
            setattr(made, name, new)
        return made

    def fresh(
        self,
        dims: Sequence[str],
        dtype: str,
        bound: float,
        *,
        kind: str = "tensor",
        rows: str = "",
        least: float | None = None,
        layout: bool = True,
    ) -> Value:
        """An input of the program, laid out somehow."""
        rng = self.rng
        name = f"x{len(self.inputs)}"
        spec: dict[str, Any] = {"shape": list(dims), "dtype": dtype}
        low = -int(bound) if least is None else int(least)
        if kind == "ids":
            spec["values"] = ("ints", -2, f"{rows} + 1")
        elif dtype == "bool":
            spec["values"] = ("bits",)
        elif not self.exact and is_float(dtype):
            spec["values"] = ("normal", 1.0 if bound > 0.5 else bound)
        elif dtype == "u8":
            spec["values"] = ("ints", 0, int(bound))
        elif self.mode == "special" and is_float(dtype):
            spec["values"] = ("special", 1, int(bound), 2) if self.positive else ("special", low, int(bound))
        elif self.mode == "signed" and is_float(dtype):
            spec["values"] = ("zeros", low, int(bound))
        elif rng.random() < 0.1 and is_float(dtype):
            spec["values"] = ("ints", -int(bound), -1)  # a maximum of these is not zero
        else:
            spec["values"] = ("ints", low, int(bound))
        writable = True
        if layout and dims:
            chance = rng.random()
            if self.huge and len(dims) == 2 and dtype in ("i8", "u8") and max(self.sizes(dims[0])) <= 3:
                spec["huge"] = True
                self.features.add("huge")
            elif chance < 0.25:
                spec["plain"] = True
            else:
                if len(dims) > 1 and rng.random() < 0.3:
                    spec["order"] = rng.sample(range(len(dims)), len(dims))
                if rng.random() < 0.12:
                    spec["step"] = rng.choice([2, 3])
                if rng.random() < 0.25:
                    spec["gap"] = rng.choice([1, 3, 8])
                if rng.random() < 0.25:
                    spec["shift"] = rng.choice([1, 4, 7])
                # A row of one number has no variance: its rounding error is all that is left of it.
                if len(dims) > 1 and rng.random() < 0.08 and self.exact:
                    spec["expanded"] = [rng.randrange(len(dims))]
                    writable = False
        self.inputs[name] = spec
        self.roots += 1
        value = Value(
            name=name, dims=tuple(dims), dtype=dtype, bound=bound, root=self.roots, writable=writable
        )
        self.values.append(value)
        return value

    def viewed(self, dims: Sequence[str], dtype: str, bound: float, *, steps: int = 0, **more: Any) -> Value:
        """An input of which a view has the dimensions that are wanted; `steps` of pointwise work before the view."""
        rng = self.rng
        options = ["plain"] * 5
        plain_dims = all(dim.isidentifier() for dim in dims)
        if len(dims) == 2:
            options += ["transpose"] * 2
        if dims and plain_dims:
            options += ["slice", "step", "flip", "offset", "unsqueeze", "narrow"]
        if len(dims) == 2 and plain_dims:
            options += ["flatten", "expand", "columns", "gather", "permute3"]
        choice = rng.choice(options)
        if self.huge:
            choice = "plain"
        if self.mode == "signed" and choice not in ("transpose", "slice", "step", "offset"):
            choice = "plain"
        d = rng.randrange(len(dims)) if dims else 0
        grown = list(dims)
        cut = [":"] * len(dims)

        def made(text: str, base: Value) -> Value:
            self.features.add(choice)
            for _ in range(steps):
                base = self.grow(base, before=True)
                self.features.add("view of work")
            return self.define(text.format(base.name), self.like(base, dims=tuple(dims)), view_of=base)

        match choice:
            case "transpose":
                base = self.fresh(dims[::-1], dtype, bound, **more)
                found = made(rng.choice(["{}.t()", "{}.transpose(0, 1)"]), base)
            case "slice":
                grown[d] = f"{dims[d]} + 3"
                cut[d] = "1:-2"
                base = self.fresh(grown, dtype, bound, **more)
                found = made(f"{{}}[{', '.join(cut)}]", base)
            case "offset":
                grown[d] = f"{dims[d]} + 2"
                cut[d] = "2:"
                base = self.fresh(grown, dtype, bound, **more)
                found = made(f"{{}}[{', '.join(cut)}]", base)
            case "step":
                grown[d] = f"{dims[d]} * 2"
                cut[d] = "::2"
                base = self.fresh(grown, dtype, bound, **more)
                found = made(f"{{}}[{', '.join(cut)}]", base)
            case "flip":
                base = self.fresh(dims, dtype, bound, **more)
                self.features.add(choice)
                found = self.define(f"{base.name}.flip({d})", self.like(base))
            case "unsqueeze":
                base = self.fresh(dims, dtype, bound, **more)
                found = made("{}.unsqueeze(0)[0]", base)
            case "narrow":
                base = self.fresh(["3", *dims], dtype, bound, **more)
                found = made(f"{{}}[{rng.choice([0, 1, 2])}]", base)
            case "flatten":
                text = self.size_text(dims[1])
                base = self.fresh([f"{dims[0]} * {dims[1]}"], dtype, bound, **more, layout=False)
                if text is None or 0 in self.sizes(dims[0]) or 0 in self.sizes(dims[1]):
                    self.values.remove(base)
                    del self.inputs[base.name]
                    return self.fresh(dims, dtype, bound, **more)
                found = made(f"{{}}.view(-1, {text})", base)
            case "expand" | "columns":
                text = self.size_text(dims[0 if choice == "expand" else 1])
                if text is None:
                    return self.fresh(dims, dtype, bound, **more)
                if choice == "expand":
                    base = self.fresh(["1", dims[1]], dtype, bound, **more)
                    found = made(f"{{}}.expand({text}, -1)", base)
                else:
                    base = self.fresh(dims[:1], dtype, bound, **more)
                    found = made(f"{{}}[:, None].expand(-1, {text})", base)
                found.writable = False
                return found
            case "gather":
                index = self.fresh([dims[0]], "i64", 0, least=0)
                self.inputs[index.name]["values"] = ("ints", 0, 4)
                base = self.fresh(["5", dims[1]], dtype, bound, **more)
                self.features.add(choice)
                found = self.define(f"{base.name}[{index.name}]", self.like(base, dims=tuple(dims)))
            case "permute3":
                base = self.fresh([dims[1], "2", dims[0]], dtype, bound, **more)
                found = made("{}.permute(2, 1, 0)[:, 1]", base)
            case _:
                return self.fresh(dims, dtype, bound, **more)
        found.writable = (base.writable and found.root == base.root) or found.root != base.root
        return found

    # Pointwise work

    def fitted(self, value: Value, dtype: str, bound: float, least: float | None = None) -> Value:
        """The value as what a parameter takes: of its dtype, whole, and no larger."""
        if (
            value.dtype == dtype
            and value.bound <= bound
            and not value.places
            and not value.rounded
            and least is None
        ):
            return value
        if not self.exact:
            text = value.name if value.dtype == dtype else f"{value.name}.to(D.{dtype})"
            return self.define(text, self.like(value, dtype=dtype))
        text = value.name
        limit = int(bound) if bound > 2**24 or self.rng.random() < 0.3 else int(min(bound, 4))
        low = -limit if least is None else int(least)
        if dtype == "bool":
            return self.define(
                f"({text} > 0)", self.like(value, dtype=dtype, bound=1, places=0, rounded=False)
            )
        if value.dtype == "bool":
            text, made = f"{text}.to(D.{dtype})", self.like(value, dtype=dtype, bound=1)
            return self.define(text, made)
        if is_float(value.dtype) and (value.places or value.rounded):
            text = f"torch.floor({text})"
        if value.bound > bound or value.rounded or least is not None:
            text = f"{text}.clamp({low}, {limit})"
            size = float(max(abs(low), limit))
        else:
            size = value.bound
        if value.dtype != dtype:
            if self.mode != "plain" and is_float(value.dtype) and not is_float(dtype):
                text = f"torch.nan_to_num({text}, 0, 1, -1)"
            text = f"{text}.to(D.{dtype})"
        return self.define(text, self.like(value, dtype=dtype, bound=size, places=0, rounded=False))

    def grow(self, value: Value, *, before: bool = False) -> Value:
        """One step of pointwise work on a value; the value itself where nothing fits."""
        rng = self.rng
        if self.mode == "signed":
            if value.rounded or not is_float(value.dtype):
                return value
            text = rng.choice(SIGNED)
            bound = value.bound * (2 if "2)" in text else 1)
            if not fits(value.dtype, bound, value.places):
                return value
            return self.define(text.format(value.name), self.like(value, bound=bound))
        kind = rng.random()
        if value.dtype == "bool":
            if rng.random() < 0.3:
                return self.define(f"~{value.name}", self.like(value))
            dtype = rng.choice(["f32", "i32"])
            return self.define(f"{value.name}.to(D.{dtype})", self.like(value, dtype=dtype))
        if value.dtype in ("i8", "u8", "i16", *FLOAT8):
            dtype = rng.choice(["f32", "i32"]) if value.dtype not in FLOAT8 else "f32"
            return self.define(f"{value.name}.to(D.{dtype})", self.like(value, dtype=dtype))
        if not self.exact and is_float(value.dtype):
            if kind < 0.55:
                return self.define(rng.choice(SMOOTH).format(value.name), self.like(value))
            return self.binary(value, before)
        if value.rounded:
            if kind < 0.5:
                return self.define(rng.choice(KEEPS).format(value.name), self.like(value))
            wider = {"f16": "f32", "bf16": "f32", "f32": "f64"}.get(value.dtype)
            if wider is None or not fits(wider, value.bound, value.places):
                return value
            return self.define(f"{value.name}.to(D.{wider})", self.like(value, dtype=wider, rounded=False))
        if kind < 0.4:
            text, rule = rng.choice(UNARY)
            bound, places = rule(value.bound, value.places)
            if fits(value.dtype, bound, places):
                return self.define(text.format(value.name), self.like(value, bound=bound, places=places))
            return value
        if kind < 0.5:
            return self.cast(value)
        if kind < 0.6 and value.dims:
            return self.positional(value)
        return self.binary(value, before)

    def cast(self, value: Value) -> Value:
        rng = self.rng
        options = [d for d in ("f32", "f64", "f16", "bf16", "i32", "i64") if d != value.dtype]
        dtype = rng.choice(options)
        if (not is_float(dtype) and (value.places or self.mode == "special")) or not fits(
            dtype, value.bound, value.places
        ):
            return value
        return self.define(f"{value.name}.to(D.{dtype})", self.like(value, dtype=dtype))

    def positional(self, value: Value) -> Value:
        """Work that depends on where an element is."""
        rng = self.rng
        x = value.name
        options = ["arange"]
        if len(value.dims) == 2:
            options += ["triu", "tril", "column"]
        choice = rng.choice(options)
        if choice in ("triu", "tril"):
            self.features.add("positional")
            return self.define(f"torch.{choice}({x}, {rng.choice([-1, 0, 1])})", self.like(value))
        d = -2 if choice == "column" else -1
        longest = max(self.sizes(value.dims[d]))
        index = f"torch.arange({x}.shape[{d}], device={x}.device)" + ("[:, None]" if d == -2 else "")
        if rng.random() < 0.5:
            self.features.add("positional")
            return self.define(f"torch.where({index} % 3 == 1, {x}, 0)", self.like(value))
        bound = value.bound + longest
        if not fits(value.dtype, bound, value.places):
            return value
        self.features.add("positional")
        return self.define(f"({x} + {index}.to(D.{value.dtype}))", self.like(value, bound=bound))

    def partner(self, value: Value, before: bool) -> Value:
        """Something to calculate with: of the same dimensions, or to be broadcast."""
        rng = self.rng
        known = [
            other
            for other in self.values
            if (other.dims == value.dims or (other.dims and broadcasts(other.dims, value.dims)))
            and other is not value
            and other.dtype not in ("bool", *FLOAT8)
            and not other.rounded
        ]
        columns = [
            other
            for other in self.values
            if len(value.dims) > 1
            and other.dims == value.dims[:-1]
            and other.dtype not in ("bool", *FLOAT8)
            and not other.rounded
        ]
        if columns and rng.random() < 0.4:
            other = rng.choice([c for c in columns if c in self.raw] or columns)
            text = rng.choice(["{}[..., None]", "{}.unsqueeze(-1)"]).format(other.name)
            return self.define(text, self.like(other, dims=(*other.dims, "1")), view_of=other)
        same = [other for other in known if other.dims == value.dims]
        if rng.random() < 0.55 and (same or known):
            return rng.choice(same or known) if rng.random() < 0.7 else rng.choice(known)
        shapes: list[tuple[str, ...]] = [value.dims, ()]
        if len(value.dims) == 1:
            shapes += [("1",)]
        if len(value.dims) >= 2:
            shapes += [value.dims[-1:], (*value.dims[:-1], "1"), ("1", value.dims[-1])] * 2
        dims = rng.choice(shapes)
        dtype = value.dtype if rng.random() < 0.75 else rng.choice(["f32", "f16", "i32", "f64"])
        if not self.exact and not is_float(dtype):
            dtype = value.dtype
        bound = 2 if dtype == "bf16" else 3
        return (
            self.fresh(dims, dtype, bound)
            if before or rng.random() < 0.5
            else self.viewed(dims, dtype, bound)
        )

    def binary(self, value: Value, before: bool) -> Value:
        rng = self.rng
        other = self.partner(value, before)
        if not self.exact and not is_float(other.dtype):
            return value  # a function of integers is float32
        if not other.dims and value.dims:
            # A 0-dim tensor takes part in promotion only if it is of a higher kind.
            if is_float(other.dtype) and not is_float(value.dtype):
                return value
            dtype = value.dtype
        else:
            dtype = promoted(value.dtype, other.dtype)
        for side in (value, other):
            if not fits(dtype, side.bound, side.places) and self.exact:
                return value
        a, b = (value, other) if rng.random() < 0.7 else (other, value)
        if not self.exact:
            text = rng.choice(["({} + {})", "({} - {})", "({} * torch.tanh({}))"])
            return self.define(text.format(a.name, b.name), self.like(value, dtype=dtype))
        bound, places = max(a.bound, b.bound), max(a.places, b.places)
        op = rng.choice(["+", "-", "*", "maximum", "where", "compare", "add"])
        if before and self.positive and rng.random() < 0.5:
            op = "*"
        match op:
            case "+" | "-":
                text, bound = f"({a.name} {op} {b.name})", a.bound + b.bound
            case "*":
                text, bound, places = f"({a.name} * {b.name})", a.bound * b.bound, a.places + b.places
            case "maximum":
                # Of 0-dim tensors of another dtype, torch.maximum promotes like the operators.
                text = f"torch.{rng.choice(['maximum', 'minimum'])}({a.name}, {b.name})"
            case "where":
                test = rng.choice(["<", ">=", "=="])
                text = f"torch.where({a.name} {test} {b.name}, {a.name}, {b.name})"
            case "compare":
                test = rng.choice(["<", ">=", "!="])
                text = f"({a.name} {test} {b.name})"
                if rng.random() < 0.6:
                    return self.define(
                        f"{text}.to(D.{dtype})", self.like(value, dtype=dtype, bound=1, places=0)
                    )
                return self.define(text, self.like(value, dtype="bool", bound=1, places=0))
            case _:
                text, bound = f"torch.add({a.name}, {b.name}, alpha=2)", a.bound + 2 * b.bound
                if not is_float(dtype) and (is_float(a.dtype) or is_float(b.dtype)):
                    return value
        if not fits(dtype, bound, places):
            return value
        return self.define(text, self.like(value, dtype=dtype, bound=bound, places=places, rounded=False))

    def view(self, value: Value) -> Value:
        """A view of something that was made, or a copy in another order."""
        rng = self.rng
        x = value.name
        if not value.dims:
            return value
        options = [f"{x}.flip(-1)", f"{x}.unsqueeze(0)[0]"]
        if len(value.dims) == 2:
            options += [f"{x}.t()", f"{x}.t().contiguous()", f"{x}.reshape(-1)", f"{x}.unsqueeze(1)[:, 0]"]
        if all(size > 2 for size in self.sizes(value.dims[-1])):
            options += [f"{x}[..., 1:]", f"{x}[..., ::2]"]
        text = rng.choice(options)
        last = value.dims[-1]
        dims = value.dims
        if ".t()" in text:
            dims = dims[::-1]
        elif "reshape" in text:
            dims = (f"({dims[0]}) * ({dims[1]})",)
        elif "1:]" in text:
            dims = (*dims[:-1], f"({last}) - 1")
        elif "::2" in text:
            dims = (*dims[:-1], f"(({last}) + 1) // 2")
        self.features.add("view after")
        copied = "flip" in text or "contiguous" in text
        found = self.define(text, self.like(value, dims=dims), view_of=None if copied else value)
        found.writable = copied or (value.writable and "reshape" not in text)
        return found

    # Calls

    def call(self, made: Template) -> bool:
        """Adds a call; False if it does not fit to what is there."""
        rng = self.rng
        self.templates.append(made)
        binding: dict[str, tuple[str, ...]] = {}
        tensors = [p for p in made.params if p.kind in ("tensor", "ids")]
        if self.raw and rng.random() < 0.6:
            self.bind_to(rng.choice(self.raw + self.values[-3:]), rng.choice(tensors), made, binding)
        for param in tensors:
            for dim in param.dims:
                if dim not in binding and not dim.isdigit() and not re.search(r"[ /*]", dim):
                    binding[dim] = self.dimension(dim, made)
        for output in made.outputs:
            for dim in output.dims:
                if dim in made.computed:
                    text = made.computed[dim]
                    binding[dim] = (
                        "(" + re.sub(r"[A-Z]", lambda found: binding[found.group()][0], text) + ")",
                    )
                elif dim.isdigit():
                    binding[dim] = (dim,)
                assert dim in binding, (dim, made.text)
        self.fixed |= {
            name
            for dim in made.fixed
            for token in binding.get(dim, ())
            for name in re.findall(r"[A-Z]", token)
        }
        self.known |= {
            name
            for dim in made.known
            for token in binding.get(dim, ())
            for name in re.findall(r"[A-Z]", token)
        }
        given: list[tuple[Param, Value | str]] = []
        overlapping = self.overlapping(made, binding) if rng.random() < 0.8 else {}
        for param in made.params:
            if param.name in overlapping:
                given.append((param, overlapping[param.name]))
            elif param.kind in ("float", "int"):
                given.append((param, self.scalar(param)))
            elif param.kind == "const":
                given.append((param, repr(param.value)))
            elif param.kind == "default":
                continue
            elif param.optional and rng.random() < 0.45:
                given.append((param, "None"))
            else:
                given.append((param, self.argument(param, binding, made)))
        # What is written in place may be read, too: its old values are meant.
        sharing = bool(overlapping) or rng.random() < 0.5
        written = {value.root for param, value in given if param.inout and isinstance(value, Value)}
        arguments = []
        for param, value in given:
            if isinstance(value, Value) and not param.inout and value.root in written and not sharing:
                text = f"~(~{value.name})" if value.dtype == "bool" else f"({value.name} * 1)"
                value = self.define(text, self.like(value))
            arguments.append(value if isinstance(value, str) else value.name)
        results = []
        for output in made.outputs:
            dims = tuple(token for dim in output.dims for token in binding[dim])
            value = Value(
                name="",
                dims=dims,
                dtype=output.dtype,
                bound=output.bound,
                places=output.places,
                rounded=output.rounded,
                writable=True,
            )
            self.count += 1
            self.roots += 1
            value.name, value.root = f"v{self.count}", self.roots
            results.append(value)
        text = f"k.{made.name}({', '.join(arguments)})"
        names = ", ".join(value.name for value in results)
        self.lines.append(f"{names} = {text}" if results else text)
        self.values += results
        self.raw += results
        return True

    def scalar(self, param: Param) -> str:
        shaped = [value for value in self.values[-4:] if value.dims]
        if param.free and shaped and self.rng.random() < 0.4:
            size = f"{self.rng.choice(shaped).name}.shape[-1]"
            return self.rng.choice(HOST_SIZES).format(size)
        if self.rng.random() < 0.6 or not isinstance(param.value, int | float):
            return repr(param.value)
        name = f"x{len(self.inputs)}"
        values = [param.value] * self.runs
        if self.runs > 1 and self.rng.random() < 0.6 and abs(param.value) > 1 and abs(param.value) < 1000:
            values = [param.value] + [type(param.value)(param.value - (1 if param.value > 0 else -1))] * (
                self.runs - 1
            )
        self.inputs[name] = {"scalar": values}
        return name

    def bind_to(
        self, value: Value, param: Param, made: Template, binding: dict[str, tuple[str, ...]]
    ) -> None:
        rest = [dim for dim in param.dims if "..." in dim]
        if len(value.dims) < len(param.dims) - len(rest) or (not rest and len(value.dims) != len(param.dims)):
            return
        found: dict[str, tuple[str, ...]] = {}
        lead = len(value.dims) - len(param.dims) + len(rest)
        tokens = list(value.dims)
        for dim in param.dims:
            took = tuple(tokens[: lead if dim in rest else 1])
            tokens = tokens[len(took) :]
            if found.setdefault(dim, took) != took:
                return
        for dim, took in found.items():
            if dim.isdigit() or re.search(r"[ /*]", dim):
                return
            for token in took:
                sizes = self.sizes(token)
                if (
                    max(sizes) > LONGEST
                    or (0 in sizes and dim in made.nonempty)
                    or any(s % made.multiples.get(dim, 1) for s in sizes)
                ):
                    return
                if self.too_many(dim, sizes, made):
                    return
        binding.update(found)

    def too_many(self, dim: str, sizes: Sequence[int], made: Template) -> bool:
        return max(sizes) > self.limit(made) * made.blocks.get(dim, 32)

    def limit(self, made: Template) -> int:
        counted = max(1, len([block for block in made.blocks.values() if block]))
        return {1: 8, 2: 4, 3: 3}.get(counted, 3)

    def dimension(self, dim: str, made: Template) -> tuple[str, ...]:
        rng = self.rng
        nonempty = dim in made.nonempty
        multiple = made.multiples.get(dim, 1)
        if "..." in dim:
            return tuple(
                self.symbol(made.blocks.get(dim, 2) if at == 0 else 1, nonempty=nonempty)
                for at in range(rng.choice([0, 1, 1, 2]))
            )
        known = [
            name
            for name, sizes in self.symbols.items()
            if (not nonempty or 0 not in sizes)
            and not any(s % multiple for s in sizes)
            and not self.too_many(dim, sizes, made)
        ]
        if known and rng.random() < 0.35:
            return (rng.choice(known),)
        block = made.blocks.get(dim, rng.choice([4, 16, 32]))
        return (self.symbol(block, nonempty=nonempty, multiple=multiple, limit=self.limit(made)),)

    def argument(self, param: Param, binding: Mapping[str, tuple[str, ...]], made: Template) -> Value:
        rng = self.rng
        dims: list[str] = []
        for dim in param.dims:
            if dim in binding:
                dims += binding[dim]
            else:
                words = re.sub(r"[A-Z]", lambda found: "(" + binding[found.group()][0] + ")", dim)
                dims.append(words)
        if param.kind == "ids":
            rows = binding["V"][0]
            found = self.fresh(dims, param.dtype, 100, kind="ids", rows=rows)
            if rng.random() < 0.2:
                found = self.define(f"({found.name} + 1)", self.like(found))
            return found
        if param.inout:
            return self.mutated(param, tuple(dims))
        if param.dtype in FLOAT8:
            return self.fresh(dims, param.dtype, param.bound)  # PyTorch has no more than casts of these
        known = [
            value for value in self.values if value.dims == tuple(dims) and self.convertible(value, param)
        ]
        steps = 0
        if known and rng.random() < 0.6:
            value = rng.choice(known)
        else:
            dtype, bound = param.dtype, param.bound
            if (
                self.mode == "plain"
                and self.exact
                and is_float(dtype)
                and param.least is None
                and rng.random() < 0.15
            ):
                dtype = rng.choice(["f32", "f16", "i32"])
                bound = min(bound, 8)
            steps = rng.choice([1, 1, 2]) if param.least is None and rng.random() < 0.2 else 0
            value = self.viewed(dims, dtype, bound, least=param.least, steps=steps)
        if self.positive and len(dims) == 2 and is_float(value.dtype) and rng.random() < 0.8:
            # A scale per row or column: infinite where the lanes along the other dimension are outside.
            scale = self.fresh(rng.choice([(dims[1],), (dims[0], "1")]), value.dtype, 2)
            self.inputs[scale.name]["values"] = ("special", 1, 2, 1, 0.2)
            bound = value.bound * scale.bound
            if fits(value.dtype, bound, value.places):
                return self.fitted(
                    self.define(f"({value.name} * {scale.name})", self.like(value, bound=bound)),
                    param.dtype,
                    param.bound,
                )
        if param.dtype in ("i8", "u8") and value.dtype == param.dtype and rng.random() < 0.5:
            return value
        more = rng.choice([0, 0, 1, 1, 2, 3]) if param.least is None else 0
        if steps and rng.random() < 0.5:
            more = 0  # the view itself is what the template is given
        for _ in range(more):
            value = self.grow(value, before=True)
        if not self.exact and is_float(value.dtype) and param.least is None and rng.random() < 0.3:
            value = self.define(rng.choice(NOT_ZERO).format(value.name), self.like(value, bound=1))
        elif self.exact and self.movable(value) and param.least is None and rng.random() < 0.15:
            value = self.define(rng.choice(MOVED).format(value.name), self.like(value, bound=value.bound + 1))
        value = self.fitted(
            value,
            param.dtype,
            param.bound,
            param.least if value.root and value.name not in self.inputs else None,
        )
        if rng.random() < 0.08 and len(value.dims) == 2:
            self.features.add("flip")
            value = self.define(f"{value.name}.flip({rng.choice([0, 1])})", self.like(value))
        return value

    def movable(self, value: Value) -> bool:
        """Whether one more or less is exact."""
        narrow = value.dtype in ("bool", "i8", "u8", "i16", *FLOAT8)
        plain = self.mode == "plain" and not value.rounded and not narrow
        return plain and fits(value.dtype, value.bound + 1, value.places)

    def convertible(self, value: Value, param: Param) -> bool:
        if {value.dtype, param.dtype} & {*FLOAT8} and value.dtype != param.dtype:
            return False
        if param.least is not None or (self.mode == "signed" and value.dtype != param.dtype):
            return False
        if param.dtype == "u8":
            return value.dtype == "u8"
        if self.mode == "signed":
            return value.bound <= param.bound and not value.places and not value.rounded
        if not self.exact:
            return is_float(value.dtype) and is_float(param.dtype)
        return True

    def mutated(self, param: Param, dims: tuple[str, ...]) -> Value:
        """A tensor to be written in place: an input, a view of one, or something that was made."""
        rng = self.rng
        known = [
            value
            for value in self.values
            if value.dims == dims
            and value.dtype == param.dtype
            and value.writable
            and not value.places
            and not value.rounded
            and value.bound <= param.bound
            and value.root not in self.written
        ]
        if known and rng.random() < 0.4:
            value = rng.choice(known)
        elif rng.random() < 0.5:
            value = self.fresh(dims, param.dtype, param.bound)
        else:
            value = self.viewed(dims, param.dtype, param.bound)
        if not value.writable or rng.random() < 0.3:
            value = self.define(f"({value.name} * 1)", self.like(value))
        self.used_inout = True
        self.written.add(value.root)
        for other in self.values:
            if other.root == value.root:
                other.bound = max(other.bound, param.bound)
        return value

    @functools.cached_property
    def written(self) -> set[int]:
        return set()

    def overlapping(self, made: Template, binding: Mapping[str, tuple[str, ...]]) -> dict[str, Value]:
        """A tensor that is written in place and one that is read, which share some of their elements, or all."""
        rng = self.rng
        pairs = [
            (written, read)
            for written in made.params
            for read in made.params
            if written.inout
            and read.kind == "tensor"
            and not read.inout
            and read.dtype == written.dtype
            and read.least is None
            and written.dims == read.dims
            and all(len(binding.get(dim, ())) == 1 for dim in written.dims)
        ]
        if not pairs or not self.exact or self.mode != "plain":
            return {}
        written, read = rng.choice(pairs)
        dims = [binding[dim][0] for dim in written.dims]
        if not dims or not all(dim.isidentifier() for dim in dims):
            return {}
        d = rng.randrange(len(dims))
        grown = [f"{dim} + 2" if at == d else dim for at, dim in enumerate(dims)]
        base = self.fresh(grown, written.dtype, min(written.bound, read.bound))
        if not base.writable:
            return {}
        self.features.add("overlapping")
        found = {}
        cuts = rng.sample(["2:", "1:-1", ":-2"], 2)
        if rng.random() < 0.4:
            cuts[1] = cuts[0]
        for param, cut in zip((written, read), cuts, strict=True):
            text = ", ".join(cut if at == d else ":" for at in range(len(dims)))
            value = self.like(base, dims=tuple(dims))
            found[param.name] = self.define(f"{base.name}[{text}]", value, view_of=base)
        self.used_inout = True
        self.written.add(base.root)
        for other in self.values:
            if other.root == base.root:
                other.bound = max(other.bound, written.bound)
        return found

    def mutate(self) -> None:
        rng = self.rng
        known = [
            v
            for v in self.values
            if v.writable and v.dims and v.dtype not in ("bool", "i8", "u8", "i16", *FLOAT8) and not v.rounded
        ]
        if not known:
            return
        value = rng.choice(known)
        text, rule = rng.choice(MUTATIONS)
        if "[" in text and (not value.dims):
            return
        if "relu" in text and not is_float(value.dtype):
            return
        bound = rule(value.bound)
        family = [other for other in self.values if other.root == value.root]
        if not all(fits(other.dtype, bound, other.places) for other in family):
            return
        self.lines.append(text.format(value.name))
        self.features.add("mutation")
        for other in family:
            other.bound = max(other.bound, bound)

    # The program

    def build(self) -> Plan:
        rng = self.rng
        wanted = rng.choices([1, 2, 3], [0.6, 0.3, 0.1])[0]
        for at in range(wanted):
            name = f"t{at}"
            if self.templates and rng.random() < 0.1 and not self.dynamic:
                again = rng.choice(self.templates)
                self.templates.pop() if self.call(again) else None
                continue
            self.call(self.draw(name))
            for value in list(self.raw):
                for _ in range(rng.choice([0, 1, 1, 2])):
                    value = self.grow(value)
                if rng.random() < 0.12:
                    self.view(value)
            if self.mutating and rng.random() < 0.6:
                self.mutate()
        for value in list(self.raw):
            for _ in range(rng.choice([0, 1, 2, 3])):
                value = self.grow(value)
        if self.mutating and rng.random() < 0.4:
            self.mutate()
        made = [value for value in self.values if value.name.startswith("v")]
        consumed = {word for line in self.lines for word in re.findall(r"\bv\d+\b", line.split(" = ", 1)[-1])}
        ends = [value for value in made if value.name not in consumed]
        returned = [value.name for value in ends if rng.random() < 0.85]
        returned += [value.name for value in self.raw if rng.random() < 0.3]
        returned += [value.name for value in made if rng.random() < 0.06]
        if not returned:
            returned = [made[-1].name] if made else [self.values[0].name]
        for name, spec in self.inputs.items():
            if self.dynamic and "shape" in spec and not spec.get("huge"):
                marked = [
                    d
                    for d, dim in enumerate(spec["shape"])
                    if re.search(r"[A-Z]", dim)
                    and not set(re.findall(r"[A-Z]", dim)) & self.fixed
                    and rng.random() < 0.9
                ]
                if marked:
                    spec["dynamic"] = marked
            del name
        for name in self.fixed:
            if name in self.symbols:
                self.symbols[name] = self.symbols[name][:1] * self.runs
        runs = tuple({name: sizes[at] for name, sizes in self.symbols.items()} for at in range(self.runs))
        unique = {made.name: made for made in self.templates}
        families = tuple(made.family for made in unique.values())
        if self.dynamic:
            self.features.add("dynamic")
        exact = self.exact
        dtypes = [spec.get("dtype") for spec in self.inputs.values()] + [value.dtype for value in self.values]
        narrow = not {"f16", "bf16"}.isdisjoint(dtypes)
        affine = any(
            made.family == "affine" for made in self.templates
        )  # its reference is what autocast changes
        own = any(made.backward for made in self.templates)
        gradient = not exact and not self.used_inout and rng.random() < (0.7 if affine or own else 0.2)
        # On a GPU autocast changes what PyTorch's own functions say of float16 and bfloat16: `exp` and `square` give float32.
        autocast = not narrow and rng.random() < (0.08 if exact else 0.8 if affine else 0.3)
        rules = any(made.autocast for made in self.templates)
        if rules:
            autocast = self.casting
        unbacked = self.unbacked() if rng.random() < 0.13 else False
        for name, there in (
            ("gradient", gradient),
            ("autocast", autocast),
            ("unbacked", unbacked),
            ("own backward", own),
            ("autocast=", rules),
        ):
            if there:
                self.features.add(name)
        return Plan(
            label=self.label,
            templates=tuple(
                Call(
                    name=t.name,
                    text=t.text,
                    reference=t.reference,
                    backward=t.backward,
                    autocast=t.autocast,
                    cast=t.cast,
                )
                for t in unique.values()
            ),
            lines=tuple(self.lines),
            returned=tuple(dict.fromkeys(returned)),
            inputs=self.inputs,
            runs=runs,
            exact=self.exact,
            signed=self.mode == "signed",
            dynamic=None if self.dynamic else False,
            eager="overlapping" in self.features or not EAGER.isdisjoint(families) or rng.random() < 0.12,
            again=rng.random() < 0.3 or any("accumulate" in made.text for made in self.templates),
            tolerance=max(t.tolerance for t in unique.values()) * 4,
            unbacked=unbacked,
            gradient=gradient,
            autocast=autocast,
            families=families,
            features=tuple(sorted(self.features)),
        )

    def unbacked(self) -> bool:
        """Some inputs lose rows, as many as another tensor says; False where nothing can."""
        given = {name: spec for name, spec in self.inputs.items() if "shape" in spec}
        text = {name: [*map(str, spec["shape"]), str(spec["values"])] for name, spec in given.items()}
        found = []
        for symbol, sizes in self.symbols.items():
            rows = [
                name for name, words in text.items() if words[0] == symbol and not given[name].get("huge")
            ]
            others = [word for name, words in text.items() for word in words[name in rows :]]
            elsewhere = any(re.search(rf"\b{symbol}\b", word) for word in others)
            if rows and min(sizes) > 1 and symbol not in self.fixed | self.known and not elsewhere:
                found.append((symbol, rows))
        if not found:
            return False
        symbol, rows = self.rng.choice(found)
        which = f"x{len(self.inputs)}"
        self.inputs[which] = {"shape": [f"{symbol} + 3"], "dtype": "i32", "values": ("count", symbol)}
        lines = [f"v900 = {which}.nonzero().squeeze(1)"]
        for at, name in enumerate(rows):
            self.inputs[name]["shape"][0] = f"{symbol} + 3"
            lines.append(f"v{901 + at} = {name}[v900]")
            self.lines = [re.sub(rf"\b{name}\b", f"v{901 + at}", line) for line in self.lines]
        self.lines = [*lines, *self.lines]
        return True

    def draw(self, name: str) -> Template:
        """A template, perhaps with a backward of its own, perhaps one that autocast casts the arguments of."""
        rng = self.decorating
        if not self.exact and rng.random() < 0.1:
            made = graded(rng, name)
        else:
            made = self.drawn(name)
        if self.casting:
            for _ in range(20):
                found = ruled(rng, made)
                if found is not None:
                    made = found
                    break
                made = self.drawn(name)
        elif rng.random() < 0.04 and (found := ruled(rng, made)) is not None:
            made = replace(
                made, autocast=found.autocast, cast=found.cast
            )  # where autocast is off: as without
        if not made.backward and rng.random() < (0.05 if self.exact else 0.3):
            made = derived(rng, made)
        return made

    def drawn(self, name: str) -> Template:
        rng = self.rng
        if not self.exact:
            which = rng.choices(["example", "smooth", "scene", "affine"], [0.45, 0.15, 0.25, 0.15])[0]
            if which == "scene":
                return scene(rng, name, exact=False)
            if which == "affine":
                return affine(rng, name)
            return example(rng, name, exact=False) if which == "example" else smooth(rng, name)
        if self.huge:
            while True:
                found = template(rng, name, "elementwise")
                first = found.params[0]
                if (
                    first.dtype in ("i8", "u8")
                    and first.dims[:1] == ("M",)
                    and len(first.dims) == 2
                    and not first.inout
                ):
                    return found
        if rng.random() < 0.12 and self.mode == "plain":
            return example(rng, name, exact=True)
        if self.mode == "special" and rng.random() < 0.5:
            return scene(rng, name, odd=True)
        for _ in range(60):
            made = template(rng, name)
            if self.mode == "signed" and (made.family != "elementwise" or not sign_safe(made)):
                continue
            if self.mode == "special" and not special_safe(made):
                continue
            return made
        return plain_copy(rng, name)


def sign_safe(made: Template) -> bool:
    """Whether a zero has one sign whoever calculates it: no sum, no maximum."""
    body = made.text.split("for ", 1)[1]
    return not re.search(
        r"maximum|minimum|[^,(] [+-] |==|floor|where| < | > ",
        body.replace("n - ", "").replace("m - ", "").replace("- n", ""),
    )


def special_safe(made: Template) -> bool:
    """Whether NaN and infinities have one meaning: no conversion to integers, no place of a maximum."""
    if made.special is not None:
        return made.special
    if made.family not in ("elementwise", "rows", "product"):
        return False
    return not re.search(r"arg|i32\(|i64\(|//|%|cumsum|count|atomic|: i", made.text) and any(
        p.dtype in ("f16", "bf16", "f32", "f64") for p in made.params
    )


def plain_copy(rng: random.Random, name: str) -> Template:
    """A template that only doubles."""
    from tests.fuzz.templates import Draft

    draft = Draft(rng, name, "elementwise")
    draft.letters = "mn"
    draft.dim_of = {"m": "M", "n": "N"}
    grid = f"for m, n in grid(M by {draft.block('M', [4, 8])}, N by {draft.block('N', [16, 32])}):"
    draft.indent = 1
    a = draft.tensor(["M", "N"], rng.choice(["f32", "f16", "f64"]), 8)
    load = draft.load(a, "mn")
    draft.store(replace(load, dsl=f"({load.dsl}) * 2.0", ref=f"({load.ref} * 2)", bound=16), "mn", a.dtype)
    return draft.finish(grid)


def broadcasts(dims: Sequence[str], to: Sequence[str]) -> bool:
    if len(dims) > len(to):
        return False
    return all(mine in (its, "1") for mine, its in zip(reversed(dims), reversed(to), strict=False))


def plan(seed: int, index: int) -> Plan:
    """The case `index` of a seed. Deterministic, whatever was drawn before."""
    rng = random.Random(seed * 1_000_003 + index)
    return Builder(rng, f"--seed {seed} --only {index}").build()


def cost(run: Mapping[str, int]) -> int:
    return math.prod(run.values())

"""Random templates: the text of each, and beside it a reference in PyTorch that is made of the same choices.

    rng    ->    Template(text="template t0(a: T[M, N], ...) ...", reference="def t0(a, ...): ...", params, outputs)

Each expression is written twice as it is drawn, once in the language and once in PyTorch (float64 and int64 of
whole tensors): nothing of tdsl takes part. Each carries a bound and the number of its binary places, so that
every value that a program can meet is exact in its dtype. Which tensors go in is `programs`' business.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from tests.fuzz.harness import DTYPES

DIGITS = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}
LARGEST = {
    "i8": 127,
    "u8": 255,
    "i16": 32767,
    "i32": 2**31 - 1,
    "i64": 2**53,
    "bool": 1,
    "f8e4m3": 16,
    "f8e5m2": 8,
}
LONGEST = 80  # no dimension that something is summed along is longer
OPTIONS = ("num_warps", "num_stages")
SELDOM = {"num_ctas": 1, "maxnreg": 128, "epilogue_subtile": 2, "persistent": 1, "tma": 1}
NAMES = "adefghijloruwx"  # of parameters; tiles have others


class Redraw(Exception):
    """What was drawn is no template; nothing is wrong with that."""


def is_float(dtype: str) -> bool:
    return dtype in DIGITS


def fits(dtype: str, bound: float, places: int) -> bool:
    """Whether every multiple of 2^-places up to the bound is a number of the dtype."""
    if is_float(dtype):
        return (
            bound * 2**places <= 2 ** DIGITS[dtype]
            and places <= 10
            and bound <= (60000 if dtype == "f16" else 1e15)
        )
    return places == 0 and bound <= LARGEST[dtype]


def promoted(*dtypes: str) -> str:
    found = dtypes[0]
    names = {dtype: name for name, dtype in DTYPES.items()}
    for dtype in dtypes[1:]:
        found = names[torch.promote_types(DTYPES[found], DTYPES[dtype])]
    return found


@dataclass(frozen=True, kw_only=True)
class Expr:
    """One value in both languages. `ref` has a dimension for each letter of the template's tiles."""

    dsl: str
    ref: str
    tiles: frozenset[str]
    dtype: str
    bound: float
    places: int = 0

    def ok(self) -> bool:
        return fits(self.dtype, self.bound, self.places)


@dataclass(frozen=True, kw_only=True)
class Param:
    name: str
    dims: tuple[str, ...] = ()
    dtype: str = "f32"
    bound: float = 1  # the largest magnitude that may come in
    kind: str = "tensor"  # 'tensor', 'ids', 'float', 'int', 'const'; 'default': a constant that no call gives
    optional: bool = False
    inout: bool = False
    value: object = None  # of a scalar or a constant
    declared: str = ""  # its spelling in the signature
    least: float | None = None  # the least value that may come in
    free: bool = False  # any int of a thousand or less will do, and a program may calculate it from sizes


@dataclass(frozen=True, kw_only=True)
class Output:
    name: str
    dims: tuple[str, ...]
    dtype: str
    bound: float
    places: int = 0
    rounded: bool = False  # some values were rounded to the dtype


@dataclass(kw_only=True)
class Template:
    name: str
    family: str
    text: str
    reference: str
    params: list[Param]
    outputs: list[Output]
    blocks: dict[str, int]  # dimension -> the block that runs; 1 for a scalar index
    fixed: set[str] = field(default_factory=set)  # dimensions that cannot be dynamic
    known: set[str] = field(default_factory=set)  # dimensions that a kernel is compiled for, each size anew
    nonempty: set[str] = field(default_factory=set)  # dimensions that are at least 1
    multiples: dict[str, int] = field(default_factory=dict)
    exact: bool = True
    smooth: bool = False  # nothing in it jumps
    special: bool | None = (
        None  # whether NaN and infinities mean in it what they do in PyTorch, if that is known
    )
    computed: dict[str, str] = field(
        default_factory=dict
    )  # dimensions of outputs that are calculated -> in Python
    tolerance: float = 1.0
    backward: str = ""  # what decorates it with one, and the templates that this calls, as Python
    autocast: str | None = None
    cast: tuple[int, ...] = ()  # the parameters that autocast casts


class Draft:
    """Collects one template while it is drawn."""

    def __init__(self, rng: random.Random, name: str, family: str) -> None:
        self.rng = rng
        self.name = name
        self.family = family
        self.letters = ""  # of all tiles, in the order of the reference's dimensions
        self.dim_of: dict[str, str] = {}
        self.params: list[Param] = []
        self.outputs: list[Output] = []
        self.output_dtypes: list[str] = []
        self.guards: list[str] = []
        self.lines: list[str] = []
        self.ref: list[str] = []
        self.settings: dict[str, list[int]] = {}
        self.blocks: dict[str, int] = {}
        self.fixed: set[str] = set()
        self.nonempty: set[str] = set()
        self.indent = 0
        self.variable: tuple[str, str] | None = None
        self.concrete = False  # no dtype variable
        self.count = 0

    # Lines

    def dsl(self, line: str) -> None:
        self.lines.append("    " * (self.indent + 1) + line)

    def fresh(self, base: str = "v") -> str:
        self.count += 1
        return f"{base}{self.count}"

    def named(self, expr: Expr) -> Expr:
        """The expression as a variable of its own, in both languages."""
        name = self.fresh()
        self.dsl(f"{name} = {expr.dsl}")
        self.ref.append(f"{name} = {expr.ref}")
        return replace(expr, dsl=name, ref=name)

    def maybe_named(self, expr: Expr) -> Expr:
        return self.named(expr) if self.rng.random() < 0.4 else expr

    # Signature

    def dtype(self, choices: Sequence[str]) -> str:
        return self.rng.choice(list(choices))

    def spelled(self, dtype: str) -> str:
        """A dtype, or the variable T that stands for it."""
        if (
            self.variable is None
            and dtype not in ("bool", "i16", "f8e4m3", "f8e5m2")
            and not self.concrete
            and self.rng.random() < 0.6
        ):
            alike = [("f16", "bf16", "f32"), ("f64", "f32"), ("i32", "i64"), ("i8", "u8"), ("u8", "i8")]
            others = next((some for some in alike if dtype in some), (dtype,))
            self.variable = ("T", dtype)
            self.guards.append(f"T in ({', '.join(dict.fromkeys([dtype, *others]))})")
            return "T"
        if self.variable is not None and self.variable[1] == dtype and self.rng.random() < 0.8:
            return self.variable[0]
        return dtype

    def next_name(self) -> str:
        if len(self.params) == len(NAMES):
            raise Redraw
        return NAMES[len(self.params)]

    def tensor(self, dims: Sequence[str], dtype: str, bound: float, **more: object) -> Param:
        name = self.next_name()
        # The variable's dtype must come from a tensor that is there.
        kind = dtype if more.get("optional") else self.spelled(dtype)
        param = Param(name=name, dims=tuple(dims), dtype=dtype, bound=bound, **more)  # type: ignore[arg-type]
        declared = f"{'inout ' if param.inout else ''}{name}: {kind}[{', '.join(dims)}]{'?' if param.optional else ''}"
        self.params.append(replace(param, declared=declared))
        return self.params[-1]

    def scalar(self, kind: str, value: float, *, free: bool = False) -> Param:
        name = self.next_name()
        declared = f"{name}: {kind}"
        self.params.append(
            Param(name=name, kind=kind, value=value, declared=declared, bound=abs(value), free=free)
        )
        return self.params[-1]

    def constant(self, kind: str, value: object) -> Param:
        name = self.next_name()
        self.params.append(Param(name=name, kind="const", value=value, declared=f"{name}: const {kind}"))
        return self.params[-1]

    def block(self, dim: str, choices: Sequence[int]) -> str:
        """A block size for a dimension: a setting, or a number."""
        chosen = self.rng.choice(list(choices))
        self.blocks[dim] = chosen
        if self.rng.random() < 0.15 and not any(name.endswith(dim) for name in self.settings):
            return str(chosen)
        name = f"BLOCK_{dim}"
        others = [self.rng.choice(list(choices)) for _ in range(2)]
        self.settings[name] = [chosen, *others]
        return name

    # Leaves

    def load(self, param: Param, tiles: str) -> Expr:
        subscripts = ", ".join(tiles)
        return Expr(
            dsl=f"load {param.name}[{subscripts}]",
            ref=f"at({param.name}, {tiles!r}, W)",
            tiles=frozenset(tiles),
            dtype=param.dtype,
            bound=param.bound,
        )

    def shifted(self, param: Param, tiles: str, letter: str) -> Expr:
        """A load beside the tile, and what is read outside."""
        by = self.rng.choice([-2, -1, 1, 3])
        fill = (
            self.rng.choice([0, 1, 2])
            if param.dtype in ("u8", "bool")
            else self.rng.choice([-3, -1, 0, 1, 2])
        )
        fill = (
            int(bool(fill)) if param.dtype == "bool" else max(-int(param.bound), min(int(param.bound), fill))
        )
        reverse = self.rng.random() < 0.3
        dim = self.dim_of[letter]
        index = f"{dim} - 1 - {letter}" if reverse else f"{letter} {'+' if by > 0 else '-'} {abs(by)}"
        subscripts = ", ".join(index if tile == letter else tile for tile in tiles)
        shown = fill if param.dtype[0] in "iub" else float(fill)
        other = ("true" if fill else "false") if param.dtype == "bool" else str(shown)
        return Expr(
            dsl=f"(load {param.name}[{subscripts}]{'' if reverse else f' else {other}'})",  # the reverse is inside
            ref=f"shifted({param.name}, {tiles!r}, W, {letter!r}, {'None' if reverse else by}, {shown})",
            tiles=frozenset(tiles),
            dtype=param.dtype,
            bound=max(param.bound, abs(fill)),
        )

    def index(self, letter: str) -> Expr:
        return Expr(
            dsl=letter,
            ref=f"axis({self.size(letter)}, {letter!r}, W, {self.params[0].name})",
            tiles=frozenset(letter),
            dtype="i32",
            bound=LONGEST,
        )

    def size(self, letter: str) -> str:
        return self.dim_of[letter]

    # Operators

    def cast(self, expr: Expr, dtype: str) -> Expr:
        if expr.dtype == dtype:
            return expr
        spelled = "T" if self.variable == ("T", dtype) and self.rng.random() < 0.5 else dtype
        made = replace(expr, dsl=f"{spelled}({expr.dsl})", dtype=dtype)
        if expr.dtype == "bool":
            made = replace(made, ref=f"{expr.ref}.long()")
        if is_float(dtype) and not is_float(expr.dtype):
            made = replace(made, ref=f"{made.ref}.double()")
        if not is_float(dtype) and is_float(expr.dtype):
            made = replace(made, ref=f"{expr.ref}.long()", places=0)
        return made

    def calculable(self, expr: Expr) -> Expr:
        """Narrow integers and masks are widened before anything is calculated."""
        if expr.dtype.startswith("f8"):
            return self.cast(expr, "f32")
        return (
            self.cast(expr, self.rng.choice(["i32", "f32"]))
            if expr.dtype in ("i8", "u8", "i16", "bool")
            else expr
        )

    def binary(self, left: Expr, right: Expr) -> Expr | None:
        left, right = self.calculable(left), self.calculable(right)
        dtype = promoted(left.dtype, right.dtype)
        for side, other in ((left, right), (right, left)):
            # Converting an integer must be exact, too.
            if side.dtype != dtype and not fits(dtype, side.bound, side.places):
                return None
            del other
        ops = ["+", "-", "*", "maximum", "minimum", "where", "where", "//", "%"]
        if not is_float(dtype):
            ops += ["&", "|", "^", "cdiv"]
        op = self.rng.choice(ops)
        tiles = left.tiles | right.tiles
        places = max(left.places, right.places)
        bound = max(left.bound, right.bound)
        match op:
            case "+" | "-":
                text = f"({left.dsl} {op} {right.dsl})", f"({left.ref} {op} {right.ref})"
                bound = left.bound + right.bound
            case "*":
                text = f"({left.dsl} * {right.dsl})", f"({left.ref} * {right.ref})"
                bound, places = left.bound * right.bound, left.places + right.places
            case "maximum" | "minimum":
                text = f"{op}({left.dsl}, {right.dsl})", f"least_common(torch.{op}, {left.ref}, {right.ref})"
            case "where":
                test = self.rng.choice(["<", "<=", ">", ">=", "==", "!="])
                text = (
                    f"where({left.dsl} {test} {right.dsl}, {left.dsl}, {right.dsl})",
                    f"torch.where({left.ref} {test} {right.ref}, {left.ref}, {right.ref})",
                )
            case "&" | "|" | "^":
                text = f"({left.dsl} {op} {right.dsl})", f"({left.ref} {op} {right.ref})"
                bound = 2 ** (int(bound).bit_length() + 1)
            case _:
                real = is_float(left.dtype)
                divisor = self.rng.choice([2, 3, 5, -3, *([0.5, -1.5] if real else [])])
                shown = f"({left.dsl} {op} {divisor})"
                rounded = f"torch.div({left.ref}, {divisor}, rounding_mode='floor')"
                if op == "cdiv":
                    shown = f"cdiv({left.dsl}, {divisor})"
                    rounded = f"(-torch.div(-{left.ref}, {divisor}, rounding_mode='floor'))"
                text = shown, rounded if op != "%" else f"torch.remainder({left.ref}, {divisor})"
                tiles, bound, dtype = left.tiles, max(left.bound, 5), left.dtype
                if real:
                    bound, places = 2 * bound + 1, 0 if op == "//" else max(left.places, 1)
                else:
                    places = left.places
        if is_float(dtype):
            text = text[0], f"{text[1]}.double()"
        made = Expr(dsl=text[0], ref=text[1], tiles=tiles, dtype=dtype, bound=bound, places=places)
        return made if made.ok() else None

    def unary(self, expr: Expr) -> Expr | None:
        expr = self.calculable(expr)
        options: list[Callable[[], Expr]] = []
        number = self.rng.choice([1, 2, 3, -2])
        shown = f"{number}.0" if is_float(expr.dtype) else str(number)

        def made(dsl: str, ref: str, bound: float, places: int = expr.places) -> Callable[[], Expr]:
            return lambda: replace(expr, dsl=dsl, ref=ref, bound=bound, places=places)

        x, y = expr.dsl, expr.ref
        options += [
            made(f"(-{x})", f"(-{y})", expr.bound),
            made(f"abs({x})", f"{y}.abs()", expr.bound),
            made(f"({x} + {shown})", f"({y} + {number})", expr.bound + abs(number)),
            made(f"({x} - {shown})", f"({y} - {number})", expr.bound + abs(number)),
            made(f"({shown} - {x})", f"({number} - {y})", expr.bound + abs(number)),
            made(
                f"{x} * {shown}" if x.isidentifier() else f"({x}) * {shown}",
                f"({y} * {number})",
                expr.bound * abs(number),
            ),
            made(
                f"maximum({x}, {shown})",
                f"least_common(torch.maximum, {y}, {number})",
                max(expr.bound, abs(number)),
            ),
        ]
        if is_float(expr.dtype):
            options.append(made(f"({x}) * 0.5", f"({y} * 0.5)", expr.bound, expr.places + 1))
            if expr.places:
                options.append(made(f"{self.rng.choice(['floor', 'ceil'])}({x})", "", expr.bound + 1, 0))
        else:
            options.append(made(f"(({x}) << 2)", f"({y} << 2)", expr.bound * 4))
            options.append(made(f"(({x}) >> 1)", f"({y} >> 1)", expr.bound))
            options.append(made(f"(({x}) >> 63)", f"({y} >> 63)", 1))
            options.append(
                made(f"(({x}) >> (({x}) & 1) * -5)", f"torch.where({y} & 1 == 1, {y} >> 63, {y})", expr.bound)
            )
            if expr.dtype == "i32":
                options.append(
                    made(f"(({x}) << (({x}) & 1) * 40)", f"torch.where({y} & 1 == 1, 0, {y})", expr.bound)
                )
        if expr.tiles and self.rng.random() < 0.3:
            letter = self.rng.choice(sorted(expr.tiles))
            index = self.index(letter)
            limit = self.rng.choice([3, 17, 40])
            other = self.rng.choice(["0", str(number)])
            zero = f"{other}.0" if is_float(expr.dtype) else other
            options = [
                made(
                    f"where({letter} {test} {limit}, {x}, {zero})",
                    f"torch.where({index.ref} {test} {limit}, {y}, {other})",
                    max(expr.bound, abs(number)),
                )
                for test in ("<", ">=", "!=")
            ]
        found = self.rng.choice(options)()
        if not found.ref:
            found = replace(found, ref=f"torch.{found.dsl.split('(')[0]}({y})")
        if is_float(expr.dtype):
            found = replace(found, ref=f"{found.ref}.double()")
        return found if found.ok() else None

    def grow(self, expr: Expr, leaves: Sequence[Expr], steps: int, *, named: bool = True) -> Expr:
        """A random expression of what is there, which contains `expr`."""
        for _ in range(steps):
            if leaves and self.rng.random() < 0.6:
                other = self.rng.choice(list(leaves))
                pair = (expr, other) if self.rng.random() < 0.7 else (other, expr)
                found = self.binary(*pair)
                if found is not None and not expr.tiles <= found.tiles:
                    found = None
            else:
                found = self.unary(expr)
            if found is not None:
                if len(found.dsl) > 300:
                    return self.named(found) if named else found
                expr = self.maybe_named(found) if named else found
        return expr

    def sum(self, expr: Expr, letter: str) -> Expr | None:
        expr = self.summable(expr)
        found = replace(
            expr,
            dsl=f"sum({expr.dsl}, {letter})",
            ref=f"over(torch.sum, {expr.ref}, W, {letter!r}, {self.size(letter)})",
            tiles=expr.tiles - {letter},
            bound=expr.bound * LONGEST,
        )
        return found if found.ok() else None

    def summable(self, expr: Expr) -> Expr:
        expr = self.calculable(expr)
        return self.cast(expr, "f32") if expr.dtype in ("f16", "bf16") else expr

    # The end

    def output(self, expr: Expr, tiles: str, dims: Sequence[str] | None = None) -> None:
        """Stores a value into a new output."""
        choices = [expr.dtype]
        if expr.dtype == "f32":
            choices += ["f16", "bf16"] if expr.bound < 60000 else ["bf16"]
            choices += ["f64"]
            if self.variable is not None and is_float(self.variable[1]):
                choices += [self.variable[1]] * 2
        elif expr.dtype == "i32":
            choices += ["i64", "i64"]
        elif expr.dtype == "f64":
            choices += ["f32", "f64"]
        choices = [c for c in choices if not (c == "f16" and expr.bound >= 60000)]
        dtype = self.rng.choice(choices)
        self.store(expr, tiles, dtype, dims)

    def store(self, expr: Expr, tiles: str, dtype: str, dims: Sequence[str] | None = None) -> None:
        name = "yzstpq"[len(self.outputs)]
        dims = tuple(dims or (self.dim_of[letter] for letter in tiles))
        rounded = not fits(dtype, expr.bound, expr.places)
        self.outputs.append(
            Output(name=name, dims=dims, dtype=dtype, bound=expr.bound, places=expr.places, rounded=rounded)
        )
        spelled = "T" if self.variable == ("T", dtype) and self.rng.random() < 0.7 else dtype
        if self.rng.random() < 0.08:
            spelled = f"promote({spelled}, {'f16' if dtype in ('f32', 'f64') else dtype})"
        self.output_dtypes.append(spelled)
        self.dsl(f"store {name}[{', '.join(tiles)}] = {expr.dsl}")
        sizes = ", ".join(self.size(letter) for letter in self.letters)
        self.ref.append(f"{name} = full({expr.ref}, [{sizes}], W, {tiles!r}, D.{dtype})")

    def finish(self, grid: str) -> Template:
        rng = self.rng
        configs = []
        for at in range(rng.choice([1, 1, 2, 3]) if self.settings else rng.choice([0, 1])):
            items = [f"{name}={values[at % len(values)]}" for name, values in self.settings.items()]
            items += [f"{name}={rng.choice([2, 4])}" for name in OPTIONS if rng.random() < 0.6]
            items += [f"{name}={value}" for name, value in SELDOM.items() if rng.random() < 0.12]
            if items:
                configs.append("    config " + ", ".join(items))
        if not configs and self.settings:
            configs.append(
                "    config " + ", ".join(f"{name}={values[0]}" for name, values in self.settings.items())
            )
        if self.rng.random() < 0.3 and self.settings and len(configs) == 1:
            (first, values), *rest = self.settings.items()
            head = "".join(
                f", {name} in ({v[0]}, {v[1]})" if v[0] != v[1] else f", {name} in ({v[0]},)"
                for name, v in rest
            )
            if all(v[0] != v[1] for _, v in rest):
                configs = [f"    tune {first} in ({', '.join(map(str, dict.fromkeys(values)))}){head}"]
        written = "\n".join(self.lines)
        for param in list(self.params):
            if param.kind == "tensor" and not re.search(rf"\bload {param.name}\[", written):
                if param is self.params[0] or param.inout:
                    raise Redraw
                self.params.remove(param)
            elif param.kind in ("float", "int", "const") and not re.search(rf"\b{param.name}\b", written):
                self.params.remove(param)
        if self.variable is not None and not any(": T[" in param.declared for param in self.params):
            raise Redraw
        declared = ", ".join(param.declared for param in self.params)
        outs = [
            f"{output.name}: {dtype}[{', '.join(output.dims)}]"
            for output, dtype in zip(self.outputs, self.output_dtypes, strict=True)
        ]
        arrow = (
            ""
            if not outs
            else f" -> {outs[0]}"
            if len(outs) == 1 and rng.random() < 0.9
            else f" -> ({', '.join(outs)})"
        )
        where = f"\nwhere {', '.join(self.guards)}" if self.guards else ""
        doc = ['    "What it means."'] if rng.random() < 0.1 else []
        text = "\n".join(
            [
                f"template {self.name}({declared}){arrow}{where}:",
                *doc,
                *configs,
                f"    {grid}",
                *self.lines,
                "",
            ]
        )
        names = ", ".join(
            f"{param.name}={param.value!r}" if param.kind == "default" else param.name
            for param in self.params
        )
        defaults = [f"def {self.name}({names}):"]
        sizes = []
        seen: set[str] = set()
        rest = any("..." in dim for param in self.params for dim in param.dims)
        first = next(param for param in self.params if param.kind in ("tensor", "ids"))
        if rest:
            defaults.append(
                f"lead = {first.name}.shape[:-{len(first.dims) - 1}]"
                if len(first.dims) > 1
                else f"lead = {first.name}.shape"
            )
        for param in self.params:
            if param.kind not in ("tensor", "ids"):
                continue
            if param.inout:
                defaults.append(f"whole_{param.name} = {param.name}")
            if any("..." in dim for dim in param.dims):
                keep = len(param.dims) - 1
                tail = f", *{param.name}.shape[{param.name}.ndim - {keep}:]" if keep else ""
                defaults.append(f"{param.name} = {param.name}.reshape(math.prod(lead){tail})")
            for place, dim in enumerate(param.dims):
                dim = dim.removesuffix("...")
                if dim not in seen and dim.isidentifier() and not param.optional:
                    seen.add(dim)
                    sizes.append(f"{dim} = {param.name}.shape[{place}]")
        body = [*defaults[1:], *sizes, f"W = {self.letters!r}", *self.ref]
        returned = [
            f"{output.name}.reshape([*lead, *{output.name}.shape[1:]])"
            if "..." in output.dims[0]
            else output.name
            for output in self.outputs
            if output.dims
        ]
        if self.outputs:
            body.append(f"return {', '.join(returned)}")
        reference = "\n    ".join([defaults[0], *body]) + "\n"
        return Template(
            name=self.name,
            family=self.family,
            text=text,
            reference=reference,
            params=self.params,
            outputs=self.outputs,
            blocks=self.blocks,
            fixed=self.fixed,
            nonempty=self.nonempty,
        )


# Families

NUMBERS = {
    "f16": 8,
    "bf16": 4,
    "f32": 16,
    "f64": 1000,
    "i32": 100,
    "i64": 1000,
    "i8": 100,
    "u8": 100,
    "i16": 500,
    "f8e4m3": 4,
    "f8e5m2": 4,
}


def magnitude(rng: random.Random, dtype: str) -> int:
    """How large the integers of a tensor may be."""
    if dtype == "bool":
        return 1
    large = {"f64": 2**35, "i64": 2**40, "i32": 2**20, "f32": 3000}
    if dtype in large and rng.random() < (0.6 if dtype == "f64" else 0.25):
        return large[dtype]
    return NUMBERS[dtype]


def elementwise(rng: random.Random, name: str) -> Template:
    """One to three tensors, some of them broadcast, some at several points; one or two outputs."""
    draft = Draft(rng, name, "elementwise")
    rank = rng.choice([1, 2, 2, 2, 2, 3])
    draft.letters = {1: "n", 2: "mn", 3: "bmn"}[rank]
    draft.dim_of = {"b": "B", "m": "M", "n": "N"}
    square = rank == 2 and rng.random() < 0.2
    if square:
        draft.dim_of["n"] = "M"
    rest = rank == 2 and not square and rng.random() < 0.2
    inout = rng.random() < 0.25
    axes = []
    for letter in draft.letters:
        dim = draft.dim_of[letter]
        if letter == "b" and rng.random() < 0.6:
            axes.append(dim)
            draft.blocks[dim] = 1
        else:
            choices = [16, 32, 64] if letter == "n" else [4, 8, 16] if rank == 2 else [2, 4]
            if rank == 1:
                choices = [16, 32, 64, 128]
            if square and letter == "n":
                axes.append(f"M by {draft.block('N', [16])}")
                draft.blocks.pop("N")
            else:
                axes.append(f"{dim} by {draft.block(dim, choices)}")
    group = f", group={rng.choice([1, 2, 3])}" if len(axes) > 1 and rng.random() < 0.4 else ""
    grid = f"for {', '.join(draft.letters)} in grid({', '.join(axes)}{group}):"
    draft.indent = 1

    dims = ["R..." if rest and letter == "m" else draft.dim_of[letter] for letter in draft.letters]
    if rest:
        draft.dim_of["m"] = "R"
        grid = grid.replace("M by", "R by")
        draft.blocks["R..."] = draft.blocks.pop("M")
    family = rng.choice(
        [
            ["f32", "f16"],
            ["f32", "bf16"],
            ["f32"],
            ["f64"],
            ["f16"],
            ["bf16"],
            ["i32", "i64"],
            ["i32", "i8"],
            ["f32", "u8"],
            ["f64", "f32"],
            ["i32", "i16"],
            ["i32", "u8"],
            ["f32", "f8e4m3"],
            ["f32", "f8e5m2"],
        ]
    )
    dtype = rng.choice(family) if not family[-1].startswith("f8") else family[0]
    with_bias = draft.concrete = rng.random() < 0.25  # what is added to a variable must fit into its dtype
    first = draft.tensor(dims, dtype, magnitude(rng, dtype), inout=inout)
    leaves = [draft.load(first, draft.letters)]
    expr = draft.calculable(leaves[0])
    if square and not inout and rng.random() < 0.8:
        leaves.append(draft.load(first, "nm"))
    elif rng.random() < 0.25 and not inout and not rest:
        leaves.append(draft.shifted(first, draft.letters, rng.choice(draft.letters)))
    for _ in range(rng.choice([0, 1, 1, 2])):
        kind = rng.choice(family)
        tiles = (
            draft.letters if rng.random() < 0.5 else "".join(x for x in draft.letters if rng.random() < 0.5)
        )
        if rest and "m" in tiles and "n" not in tiles:
            shape = ["R..."]
        else:
            shape = ["R..." if rest and letter == "m" else draft.dim_of[letter] for letter in tiles]
        if not tiles:
            continue
        if len(tiles) > 1 and rng.random() < 0.2 and not rest:
            tiles, shape = tiles[::-1], shape[::-1]
        second = draft.tensor(shape, kind, magnitude(rng, kind))
        leaves.append(draft.load(second, tiles))
        if rng.random() < 0.2 and not rest:
            leaves.append(draft.shifted(second, tiles, rng.choice(tiles)))
    scalar = None
    if rng.random() < 0.25:
        scalar = (
            draft.scalar("float", rng.choice([2.0, -1.0, 0.5, 3.0]))
            if is_float(expr.dtype)
            else draft.scalar("int", rng.choice([3, 7, -2, 2**31 + 5 if expr.dtype == "i64" else 11]))
        )
    mask = draft.tensor(dims, "bool", 1) if rng.random() < 0.15 else None
    flag = draft.constant("bool", rng.random() < 0.5) if rng.random() < 0.15 else None
    bias = None
    if with_bias:
        bias = draft.tensor([draft.dim_of["n"]], rng.choice(family), NUMBERS.get(family[0], 4), optional=True)
    if inout and rng.random() < 0.3 and not bias:
        other = draft.tensor(dims, dtype, first.bound, inout=True)
    else:
        other = None

    expr = draft.grow(expr, leaves, rng.choice([1, 2, 3, 4]))
    for leaf in leaves:
        if leaf.dsl not in "\n".join(draft.lines) + expr.dsl:
            # A parameter that is never loaded is of no use to anybody.
            found = next(
                (
                    made
                    for _ in range(6)
                    if (made := draft.binary(expr, leaf)) is not None and expr.tiles <= made.tiles
                ),
                None,
            )
            expr = found or expr
    if scalar is not None:
        value = float(scalar.value)  # type: ignore[arg-type]
        made = replace(
            expr,
            dsl=f"({expr.dsl}) * {scalar.name}",
            ref=f"({expr.ref} * {scalar.name})",
            bound=expr.bound * abs(value),
            places=expr.places + (1 if value == 0.5 else 0),
        )
        expr = made if made.ok() else expr
    if mask is not None:
        test = draft.load(mask, draft.letters)
        number = rng.choice([0, 1, -1])
        expr = replace(
            expr,
            dsl=f"where({test.dsl}, {expr.dsl}, {number}{'.0' if is_float(expr.dtype) else ''})",
            ref=f"torch.where({test.ref}, {expr.ref}, {number})"
            + (".double()" if is_float(expr.dtype) else ""),
            tiles=expr.tiles | test.tiles,
            bound=max(expr.bound, 1),
        )
    if flag is not None:
        other_way = draft.unary(expr)
        if other_way is not None and other_way.dtype == expr.dtype and other_way.tiles == expr.tiles:
            expr = replace(
                other_way,
                dsl=f"({other_way.dsl} if {flag.name} else {expr.dsl})",
                ref=f"({other_way.ref} if {flag.name} else {expr.ref})",
                bound=max(expr.bound, other_way.bound),
                places=max(expr.places, other_way.places),
            )
    if bias is not None:
        load = draft.cast(draft.load(bias, "n"), expr.dtype)
        total = replace(expr, bound=expr.bound + bias.bound)
        if total.ok() and fits(expr.dtype, bias.bound, 0):
            expr = draft.named(expr)
            draft.dsl(f"if {bias.name}:")
            draft.dsl(f"    {expr.dsl} += {load.dsl}")
            draft.ref.append(f"if {bias.name} is not None:")
            draft.ref.append(f"    {expr.ref} = {expr.ref} + {load.ref}")
            expr = replace(total, dsl=expr.dsl, ref=expr.ref)
    if frozenset(draft.letters) - expr.tiles:
        expr = replace(expr, tiles=frozenset(draft.letters))
    if not inout or rng.random() < 0.2:
        draft.output(expr, draft.letters, dims)
    if rng.random() < 0.25:
        extra = draft.grow(
            draft.calculable(leaves[0]) if not inout else expr, leaves if not inout else [], 2, named=False
        )
        if rng.random() < 0.3:
            test = rng.choice(["<", ">="])
            number = rng.choice([0, 1])
            shown = f"{number}.0" if is_float(extra.dtype) else str(number)
            extra = replace(
                extra,
                dsl=f"{extra.dsl} {test} {shown}",
                ref=f"({extra.ref} {test} {number})",
                dtype="bool",
                bound=1,
                places=0,
            )
        if extra.tiles == frozenset(draft.letters):
            draft.output(extra, draft.letters, dims)
    if inout:
        _update(draft, first, expr)
        if other is not None:
            second_expr = draft.load(first, draft.letters)
            # What was read before the first store.
            draft.dsl(f"store {other.name}[{', '.join(draft.letters)}] = old")
            draft.lines.insert(0, "        old = " + second_expr.dsl)
            draft.ref.append(f"whole_{other.name}.copy_(old.reshape(whole_{other.name}.shape))")
            draft.ref.insert(0, f"old = {first.name}.clone()")
    return draft.finish(grid)


def _update(draft: Draft, param: Param, expr: Expr) -> None:
    """Stores into an `inout` parameter a value that still may come in."""
    value = expr
    if not fits(param.dtype, value.bound, value.places) or value.bound > param.bound or value.places:
        limit = int(min(param.bound, 3))
        wide_enough = value.dtype
        shown = f"{limit}.0" if is_float(wide_enough) else str(limit)
        low = f"-{shown}"
        if is_float(wide_enough):
            value = replace(value, dsl=f"floor({value.dsl})", ref=f"torch.floor({value.ref})")
        value = replace(
            value,
            dsl=f"minimum(maximum({value.dsl}, {low}), {shown})",
            ref=f"{value.ref}.clamp(-{limit}, {limit})",
            bound=limit,
            places=0,
        )
    tiles = draft.letters
    draft.dsl(f"store {param.name}[{', '.join(tiles)}] = {value.dsl}")
    sizes = ", ".join(draft.size(letter) for letter in tiles)
    kept = f"full({value.ref}, [{sizes}], W, {tiles!r}, D.{param.dtype})"
    draft.ref.append(f"whole_{param.name}.copy_({kept}.reshape(whole_{param.name}.shape))")


def neighbours(rng: random.Random, name: str) -> Template:
    """Written in place, from what lies beside it in another tensor: whose memory may be the same."""
    draft = Draft(rng, name, "neighbours")
    draft.concrete = True
    draft.letters = rng.choice(["n", "mn"])
    draft.dim_of = {"m": "M", "n": "N"}
    blocks = {"m": [2, 4], "n": [4, 8, 16]}
    dims = [draft.dim_of[letter] for letter in draft.letters]
    axes = [
        f"{dim} by {draft.block(dim, blocks[letter])}"
        for dim, letter in zip(dims, draft.letters, strict=True)
    ]
    draft.indent = 1
    dtype = rng.choice(["f32", "f16", "f64", "i32"])
    written = draft.tensor(dims, dtype, 4, inout=True)
    beside = draft.shifted(draft.tensor(dims, dtype, 4), draft.letters, rng.choice(draft.letters))
    expr = draft.binary(draft.load(written, draft.letters), beside)
    if expr is None:
        raise Redraw
    _update(draft, written, expr)
    return draft.finish(f"for {', '.join(draft.letters)} in grid({', '.join(axes)}):")


def edited(rng: random.Random, name: str) -> Template:
    """What its author has changed since, in the same process: one name, one signature, another body."""
    draft = Draft(rng, name, "edited")
    draft.concrete = True
    draft.letters = "mn"
    draft.dim_of = {"m": "M", "n": "N"}
    grid = f"for m, n in grid(M by {draft.block('M', [4])}, N by {draft.block('N', [16])}):"
    draft.indent = 1
    load = draft.load(draft.tensor(["M", "N"], "f32", 4), "mn")
    by = rng.choice([2, 3, -1])
    draft.store(replace(load, dsl=f"{load.dsl} * {by}.0", ref=f"({load.ref} * {by})", bound=12), "mn", "f32")
    return draft.finish(grid)


def rows(rng: random.Random, name: str) -> Template:
    """Sums, extrema and their places along rows, of a whole tile or in a loop; outputs of two ranks."""
    draft = Draft(rng, name, "rows")
    draft.letters = "mn"
    draft.dim_of = {"m": "M", "n": "N"}
    rest = rng.random() < 0.3
    if rest:
        draft.dim_of["m"] = "R"
    dims = ["R..." if rest else "M", "N"]
    whole = rng.random() < 0.5
    size = draft.dim_of["m"]
    block = draft.block("R..." if rest else "M", [1, 2, 4, 8]).replace("BLOCK_R...", "BLOCK_R")
    draft.settings = {key.replace("...", ""): value for key, value in draft.settings.items()}
    scalar_rows = whole and rng.random() < 0.2 and not any("BLOCK" in key for key in draft.settings)
    grid = f"for m in grid({size}{'' if scalar_rows else f' by {block}'}):"
    draft.indent = 1
    family = rng.choice(
        [["f32", "f16"], ["f32"], ["bf16"], ["f16"], ["f64"], ["i32"], ["i32", "i8"], ["f32", "bf16"]]
    )
    dtype = rng.choice(family)
    draft.concrete = not whole  # what is carried has one dtype
    places = ["argmax", "argmin"]
    function = rng.choice(["sum", "sum", "max", "max", "min", "count", *(places if whole else places * 2)])
    # Of few values the largest is in the first block already.
    many = {"f32": 3000, "f64": 3000, "i32": 3000, "f16": 200, "bf16": 100}
    x = draft.tensor(dims, dtype, many.get(dtype, 100) if function in places else NUMBERS[dtype])
    others = []
    if rng.random() < 0.5:
        kind = rng.choice(family)
        others.append((draft.tensor(["N"], kind, NUMBERS[kind]), "n"))
    if rng.random() < 0.2:
        kind = rng.choice(family)
        others.append((draft.tensor(["R..." if rest else "M"], kind, NUMBERS[kind]), "m"))
    mask = draft.tensor(dims, "bool", 1) if rng.random() < 0.2 else None
    flips = rng.random() < 0.15 and not rest

    def leaves() -> list[Expr]:
        found = [draft.load(x, "mn"), *(draft.load(param, tiles) for param, tiles in others)]
        if flips:
            found.append(draft.shifted(x, "mn", "n"))
        return found

    def body(steps: int) -> Expr:
        found = leaves()
        expr = draft.grow(draft.summable(found[0]), found[1:], steps)
        if mask is not None:
            test = draft.load(mask, "mn")
            expr = replace(
                expr,
                dsl=f"where({test.dsl}, {expr.dsl}, {'0.0' if is_float(expr.dtype) else '0'})",
                ref=f"torch.where({test.ref}, {expr.ref}, 0)" + (".double()" if is_float(expr.dtype) else ""),
            )
        return draft.summable(expr)

    if function in ("max", "min", "argmax", "argmin"):
        draft.nonempty.add("N")
    if whole:
        draft.dsl("n = whole(N)")
        draft.fixed.add("N")
        expr = draft.named(body(rng.choice([0, 1, 2])))
        if rng.random() < 0.15:
            scanned = replace(
                expr,
                dsl=f"cumsum({expr.dsl}, n)",
                ref=f"over(torch.cumsum, {expr.ref}, W, 'n', N)",
                bound=expr.bound * LONGEST,
            )
            expr = draft.named(scanned) if scanned.ok() else expr
        stat = _reduced(draft, expr, function)
        stat = draft.named(stat)
        if rng.random() < 0.7:
            joined = next(
                (
                    made
                    for _ in range(6)
                    if (made := draft.binary(expr, stat)) is not None and made.tiles == expr.tiles
                ),
                expr,
            )
            draft.output(joined, "mn", dims)
            if rng.random() < 0.6:
                draft.output(stat, "m", dims[:1])
        else:
            draft.output(stat, "m", dims[:1])
        return draft.finish(grid)
    # In a loop.
    chunk = draft.block("N", [16, 32])
    carried = draft.fresh("carry")
    line = len(draft.lines)
    draft.dsl("pass")
    draft.dsl(f"for n in N by {chunk}:")
    draft.indent = 2
    expr = body(rng.choice([0, 1, 2]))
    place = None
    if function in ("argmax", "argmin"):
        expr = draft.named(expr)
        place = Expr(
            dsl=draft.fresh("place"),
            ref=_reduced(draft, expr, function).ref,
            tiles=frozenset("m"),
            dtype="i32",
            bound=LONGEST,
        )
        function = function[3:]
    start = "zeros(m)"
    stat = _reduced(draft, expr, function)
    if function in ("max", "min"):
        start = f"full(m, value={'-' if function == 'max' else ''}inf)"
        if not is_float(expr.dtype):
            start = f"full(m, value={'-' if function == 'max' else ''}100000, dtype={stat.dtype})"
            if stat.bound > 100000:
                start = f"full(m, value={'-' if function == 'max' else ''}{2**31 - 1}, dtype={stat.dtype})"
        update = f"{carried} = {function}imum({carried}, {stat.dsl})"
    else:
        update = f"{carried} += {stat.dsl}"
    if stat.dtype != "f32" and "dtype" not in start:
        start = start[:-1] + f", dtype={stat.dtype})"
    draft.lines[line] = f"        {carried} = {start}"
    if place is not None:
        draft.lines.insert(line, f"        {place.dsl} = zeros(m, dtype=i32)")
        further = f"{stat.dsl} {'>' if function == 'max' else '<'} {carried}"
        draft.dsl(f"{place.dsl} = where({further}, arg{function}({expr.dsl}, n), {place.dsl})")
    draft.dsl(update)
    draft.ref.append(f"{carried} = {stat.ref}")
    draft.indent = 1
    stat = replace(stat, dsl=carried, ref=carried)
    done = False
    if rng.random() < 0.5:
        draft.dsl(f"for n in N by {chunk}:")
        draft.indent = 2
        again = body(rng.choice([0, 1]))
        joined = next(
            (
                made
                for _ in range(6)
                if (made := draft.binary(again, stat)) is not None and made.tiles == again.tiles
            ),
            None,
        )
        draft.output(joined or again, "mn", dims)
        draft.indent = 1
        done = True
    if not done or rng.random() < 0.6:
        draft.output(stat, "m", dims[:1])
    if place is not None:
        draft.output(place, "m", dims[:1])
    return draft.finish(grid)


def _reduced(draft: Draft, expr: Expr, function: str) -> Expr:
    size = draft.size("n")
    if function == "sum":
        found = draft.sum(expr, "n")
        if found is not None:
            return found
        function = "count"
    if function == "count":
        return Expr(
            dsl=f"sum(i32({expr.dsl} > 0), n)",
            ref=f"over(torch.sum, ({expr.ref} > 0).long(), W, 'n', {size})",
            tiles=frozenset("m"),
            dtype="i32",
            bound=LONGEST,
        )
    if function in ("argmax", "argmin"):
        draft.nonempty.add("N")
        return Expr(
            dsl=f"{function}({expr.dsl}, n)",
            ref=f"over(torch.{function}, {expr.ref}, W, 'n', {size})",
            tiles=frozenset("m"),
            dtype="i32",
            bound=LONGEST,
        )
    draft.nonempty.add("N")
    return replace(
        expr,
        dsl=f"{function}({expr.dsl}, n)",
        ref=f"over(torch.a{function}, {expr.ref}, W, 'n', {size})",
        tiles=expr.tiles - {"n"},
    )


def columns(rng: random.Random, name: str) -> Template:
    """Atomic sums down the columns, and perhaps an output of the whole size beside them."""
    draft = Draft(rng, name, "columns")
    draft.letters = "mn"
    draft.dim_of = {"m": "M", "n": "N"}
    grid = f"for m, n in grid(M by {draft.block('M', [4, 8, 16])}, N by {draft.block('N', [16, 32])}):"
    draft.indent = 1
    dtype = rng.choice(["f32", "f16", "i32", "bf16", "f64", "i64"])
    x = draft.tensor(["M", "N"], dtype, NUMBERS[dtype])
    leaves = [draft.load(x, "mn")]
    if rng.random() < 0.5:
        leaves.append(draft.load(draft.tensor(["M"], dtype, NUMBERS[dtype]), "m"))
    expr = draft.grow(draft.summable(leaves[0]), leaves[1:], rng.choice([0, 1, 2]))
    expr = draft.named(draft.summable(expr))
    total = _summed_columns(draft, expr)
    draft.outputs.append(
        Output(name="y", dims=("N",), dtype=total.dtype, bound=total.bound, places=total.places)
    )
    draft.output_dtypes.append(total.dtype)
    draft.dsl(f"accumulate y[n] += {total.dsl}")
    draft.ref.append(f"y = full({total.ref}, [M, N], W, 'n', D.{total.dtype})")
    if rng.random() < 0.5:
        draft.output(expr, "mn")
    return draft.finish(grid)


def _summed_columns(draft: Draft, expr: Expr) -> Expr:
    found = draft.sum(expr, "m")
    if found is not None:
        return found
    return Expr(
        dsl=f"sum(i32({expr.dsl} < 0), m)",
        ref="over(torch.sum, (" + expr.ref + " < 0).long(), W, 'm', M)",
        tiles=frozenset("n"),
        dtype="i32",
        bound=LONGEST,
    )


def product(rng: random.Random, name: str) -> Template:
    """Matrix products: ragged K, transposed operands, work before the dot and after it, several accumulators."""
    draft = Draft(rng, name, "product")
    batched = rng.random() < 0.2
    draft.letters = ("b" if batched else "") + "mnk"
    draft.dim_of = {"b": "B", "m": "M", "n": "N", "k": "K"}
    dtype = rng.choice(["f32", "f16", "f32", "bf16", "f16", "f64", "i8"])
    bound = {"f32": 4, "f16": 3, "bf16": 2, "f64": 1000, "i8": 10}[dtype]
    blocks = [16, 32]
    m = draft.block("M", [16])
    n = draft.block("N", blocks)
    k = draft.block("K", [32] if dtype == "i8" else blocks)
    group = f", group={rng.choice([1, 2, 3])}" if rng.random() < 0.6 else ""
    axes = ["B"] if batched else []
    if batched:
        draft.blocks["B"] = 1
    grid = (
        f"for {'b, ' if batched else ''}m, n in grid({', '.join([*axes, f'M by {m}', f'N by {n}'])}{group}):"
    )
    draft.indent = 1
    lead = ["B"] if batched else []
    front = "b" if batched else ""

    def side(rows: str, columns: str) -> tuple[Param, str]:
        tiles = rows + columns
        if rng.random() < 0.25:
            tiles = columns + rows
        return draft.tensor([*lead, *(draft.dim_of[t] for t in tiles)], dtype, bound), front + tiles

    a, a_tiles = side("m", "k")
    pairs = [side("k", "n")]
    if rng.random() < 0.25:
        pairs.append(side("k", "n"))
    scale = draft.tensor(["K"], dtype, 2) if rng.random() < 0.25 and dtype != "i8" else None
    bias = (
        draft.tensor(["N"], rng.choice(["f32", dtype]), 5, optional=rng.random() < 0.6)
        if rng.random() < 0.4
        else None
    )
    result = {"f64": "f64", "i8": "i32"}.get(dtype, "f32")
    spelled = "" if result == "f32" else f", dtype={result}"
    names = [draft.fresh("acc") for _ in pairs]
    for acc in names:
        draft.dsl(f"{acc} = zeros(m, n{spelled})")
    draft.dsl(f"for k in K by {k}:")
    draft.indent = 2
    left = draft.load(a, a_tiles)
    if dtype != "i8" and rng.random() < 0.4:
        changed = draft.unary(left)
        if changed is not None and changed.dtype == dtype and changed.bound <= 8 and changed.places == 0:
            left = changed
    if scale is not None:
        by = draft.load(scale, "k")
        left = replace(
            left, dsl=f"({left.dsl}) * {by.dsl}", ref=f"({left.ref} * {by.ref})", bound=left.bound * by.bound
        )
    left = draft.named(left) if len(pairs) > 1 or rng.random() < 0.5 else left
    made = []
    for acc, (param, tiles) in zip(names, pairs, strict=True):
        right = draft.load(param, tiles)
        if dtype != "i8" and rng.random() < 0.3:
            changed = draft.unary(right)
            if changed is not None and changed.dtype == dtype and changed.bound <= 8 and changed.places == 0:
                right = changed
        draft.dsl(f"{acc} += dot({left.dsl}, {right.dsl})")
        draft.ref.append(f"{acc} = over(torch.sum, ({left.ref} * {right.ref}), W, 'k', K)")
        total = Expr(
            dsl=acc,
            ref=acc,
            tiles=frozenset(front + "mn"),
            dtype=result,
            bound=left.bound * right.bound * LONGEST,
        )
        assert total.ok(), total
        made.append(total)
    draft.indent = 1
    out = made[0]
    if len(made) > 1 and rng.random() < 0.6:
        total = draft.binary(made[0], made[1])
        out = total if total is not None and total.tiles == out.tiles else out
    out = draft.grow(out, [], rng.choice([0, 0, 1]))
    if bias is not None and not (result == "i32" and is_float(bias.dtype)):
        load = draft.cast(draft.load(bias, "n"), result)
        total = replace(out, bound=out.bound + bias.bound)
        if total.ok() and bias.optional:
            out = draft.named(out)
            draft.dsl(f"if {bias.name}:")
            draft.dsl(f"    {out.dsl} += {load.dsl}")
            draft.ref += [f"if {bias.name} is not None:", f"    {out.ref} = {out.ref} + {load.ref}"]
            out = replace(total, dsl=out.dsl, ref=out.ref)
        elif total.ok():
            out = replace(total, dsl=f"({out.dsl} + {load.dsl})", ref=f"({out.ref} + {load.ref})")
    draft.output(out, front + "mn")
    if len(made) > 1:
        draft.output(made[1], front + "mn")
    return draft.finish(grid)


def gather(rng: random.Random, name: str) -> Template:
    """Rows of a table by number, some of which are outside."""
    draft = Draft(rng, name, "gather")
    draft.letters = "mn"
    draft.dim_of = {"m": "R", "n": "N"}
    ids_dtype = rng.choice(["i64", "i32"])
    draft.params.append(
        Param(name="a", dims=("R",), dtype=ids_dtype, kind="ids", declared=f"a: {ids_dtype}[R]")
    )
    dtype = rng.choice(["f32", "f16", "i8", "i32", "bf16", "f64"])
    table = draft.tensor(["V", "N"], dtype, NUMBERS[dtype])
    scalar_rows = rng.random() < 0.3
    axis_m = "R" if scalar_rows else f"R by {draft.block('R', [2, 4, 8])}"
    if scalar_rows:
        draft.blocks["R"] = 1
    grid = f"for m, n in grid({axis_m}, N by {draft.block('N', [16, 32])}):"
    draft.indent = 1
    fill = rng.choice([0, 1, 3]) if dtype == "u8" else rng.choice([0, -2, 1, 3])
    shown = float(fill) if is_float(dtype) else fill
    expr = Expr(
        dsl=f"(load {table.name}[load a[m], n] else {shown})",
        ref=f"gathered({table.name}, a, {fill})",
        tiles=frozenset("mn"),
        dtype=dtype,
        bound=max(table.bound, abs(fill)),
    )
    expr = draft.named(draft.calculable(expr)) if rng.random() < 0.5 else draft.calculable(expr)
    leaves = []
    if rng.random() < 0.4:
        leaves.append(draft.load(draft.tensor(["N"], dtype, NUMBERS[dtype]), "n"))
    expr = draft.grow(expr, leaves, rng.choice([0, 1, 2]))
    draft.output(expr, "mn")
    return draft.finish(grid)


def running(rng: random.Random, name: str) -> Template:
    """One program walks single indices of a dimension, and carries several variables."""
    draft = Draft(rng, name, "running")
    draft.letters = "cn"
    draft.dim_of = {"c": "C", "n": "N"}
    grid = f"for n in grid(N by {draft.block('N', [16, 32, 64])}):"
    draft.blocks["C"] = 1
    draft.indent = 1
    dtype = rng.choice(["f32", "f16", "i32", "f64"])
    draft.concrete = True
    x = draft.tensor(["C", "N"], dtype, 5)
    w = draft.tensor(["C"], dtype, 3) if rng.random() < 0.5 else None
    wide_dtype = {"f16": "f32"}.get(dtype, dtype)
    draft.dsl(f"total = zeros(n, dtype={wide_dtype})")
    draft.dsl("seen = zeros(n, dtype=i32)")
    draft.dsl("for c in C:")
    draft.indent = 2
    value = draft.summable(draft.load(x, "cn"))
    value = draft.grow(value, [], rng.choice([0, 1]), named=False)
    if w is not None:
        by = draft.load(w, "c")
        value = replace(
            value, dsl=f"({value.dsl}) * {by.dsl}", ref=f"({value.ref} * {by.ref})", bound=value.bound * 3
        )
    draft.dsl(f"v = {value.dsl}")
    draft.ref.append(f"v = {value.ref}")
    if rng.random() < 0.5:
        draft.dsl(
            f"total += where(v > {'1.0' if is_float(wide_dtype) else '1'}, v, {'0.0' if is_float(wide_dtype) else '0'})"
        )
        draft.ref.append("total = over(torch.sum, torch.where(v > 1, v, 0), W, 'c', C)")
    else:
        draft.dsl("total += v")
        draft.ref.append("total = over(torch.sum, v, W, 'c', C)")
    draft.dsl(f"seen += i32(v < {'0.0' if is_float(wide_dtype) else '0'})")
    draft.ref.append("seen = over(torch.sum, (v < 0).long(), W, 'c', C)")
    draft.indent = 1
    total = Expr(
        dsl="total",
        ref="total",
        tiles=frozenset("n"),
        dtype=wide_dtype,
        bound=value.bound * LONGEST,
        places=value.places,
    )
    seen = Expr(dsl="seen", ref="seen", tiles=frozenset("n"), dtype="i32", bound=LONGEST)
    draft.output(total, "n")
    draft.output(seen, "n")
    return draft.finish(grid)


def smooth(rng: random.Random, name: str) -> Template:
    """Transcendental functions, with a bound on the error."""
    draft = Draft(rng, name, "smooth")
    draft.concrete = True
    draft.letters = "mn"
    draft.dim_of = {"m": "M", "n": "N"}
    grid = f"for m, n in grid(M by {draft.block('M', [4, 8])}, N by {draft.block('N', [16, 32])}):"
    draft.indent = 1
    dtype = rng.choice(["f32", "f32", "f16", "bf16", "f64"])
    a = draft.tensor(["M", "N"], dtype, 1)
    b = draft.tensor(["N"], dtype, 1)
    dsl, ref = f"f32(load {a.name}[m, n])", f"at({a.name}, 'mn', W)"
    if dtype == "f64":
        dsl = f"load {a.name}[m, n]"
    other, other_ref = f"load {b.name}[n]", f"at({b.name}, 'n', W)"
    for _ in range(rng.choice([1, 2, 3])):
        match rng.choice(["sigmoid", "tanh", "exp", "sin", "cos", "erf", "square", "div", "sqrt", "add"]):
            case "sigmoid" | "tanh" | "sin" | "cos" | "erf" as function:
                dsl, ref = f"{function}({dsl})", f"torch.{function}({ref})"
            case "exp":
                dsl, ref = f"exp(-abs({dsl}))", f"torch.exp(-({ref}).abs())"
            case "square":
                dsl, ref = f"tanh({dsl}) ** 2", f"torch.tanh({ref}) ** 2"
            case "div":
                wide = other if dtype == "f64" else f"f32({other})"  # 2 + f16 would be rounded to f16
                dsl, ref = f"({dsl}) / (2 + abs({wide}))", f"({ref}) / (2 + {other_ref}.abs())"
            case "sqrt":
                dsl, ref = f"sqrt(1 + abs({dsl}))", f"torch.sqrt(1 + ({ref}).abs())"
            case "add":
                dsl, ref = f"({dsl} + {other})", f"({ref} + {other_ref})"
    expr = Expr(dsl=dsl, ref=ref, tiles=frozenset("mn"), dtype="f32" if dtype != "f64" else "f64", bound=1)
    draft.store(expr, "mn", rng.choice([dtype, expr.dtype]))
    made = draft.finish(grid)
    made.exact = False
    made.smooth = True
    return made


FAMILIES: dict[str, tuple[float, Callable[[random.Random, str], Template]]] = {
    "elementwise": (5, elementwise),
    "rows": (4, rows),
    "product": (3.5, product),
    "columns": (1, columns),
    "gather": (1.3, gather),
    "running": (0.8, running),
    "neighbours": (1, neighbours),
    "edited": (1, edited),
}  # `scenes` adds its own


def template(rng: random.Random, name: str, family: str | None = None) -> Template:
    """One of a family, or of any."""
    families = list(FAMILIES)
    weights = [FAMILIES[family][0] for family in families]
    chosen = family or rng.choices(families, weights)[0]
    while True:
        try:
            return FAMILIES[chosen][1](rng, name)
        except Redraw:
            continue

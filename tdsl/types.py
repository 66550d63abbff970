"""dtypes, tiles, and how they combine.

A template is checked once for every dtype it may be called with, so a `DType` is symbolic: a set of
names whose promotion it stands for. `T` is `DType(('T',))`; `x * y` with x: T and y: U is
`DType(('T', 'U'))`. The names `~bool`, `~int` and `~float` are *weak*: a literal, a dimension or a
run-time scalar adapts to what it meets (`x * 2` keeps x's dtype) and raises its category only
(`i * 0.5` with i: i32 is f32), which is PyTorch's rule for Python scalars.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DTypeInfo:
    """One row of the dtype table. `category`: 0 bool, 1 integer, 2 float."""

    name: str
    category: int
    bits: int
    triton: str  # as in tl.float32
    torch: str  # as in torch.float32


_ROWS = (
    DTypeInfo("bool", 0, 8, "int1", "bool"),
    DTypeInfo("u8", 1, 8, "uint8", "uint8"),
    DTypeInfo("i8", 1, 8, "int8", "int8"),
    DTypeInfo("i16", 1, 16, "int16", "int16"),
    DTypeInfo("i32", 1, 32, "int32", "int32"),
    DTypeInfo("i64", 1, 64, "int64", "int64"),
    DTypeInfo("f8e4m3", 2, 8, "float8e4nv", "float8_e4m3fn"),
    DTypeInfo("f8e5m2", 2, 8, "float8e5", "float8_e5m2"),
    DTypeInfo("bf16", 2, 16, "bfloat16", "bfloat16"),
    DTypeInfo("f16", 2, 16, "float16", "float16"),
    DTypeInfo("f32", 2, 32, "float32", "float32"),
    DTypeInfo("f64", 2, 64, "float64", "float64"),
)
DTYPES: Mapping[str, DTypeInfo] = {row.name: row for row in _ROWS}
WEAK = ("~bool", "~int", "~float")  # by category
LEAST_DOT, LEAST_DOT_8_BIT = 16, 32  # lanes that a matrix instruction contracts, and one of 8-bit operands
NARROW_FLOATS = frozenset({"f8e4m3", "f8e5m2"})
DEFAULT_CHOICES = ("f16", "bf16", "f32")  # a dtype variable without a guard


def promote_names(left: str, right: str) -> str:
    """The dtype that holds both, as torch.promote_types has it.

    float8 promotes with nothing but itself in PyTorch; here it gives way to any wider float.
    """
    if left == right:
        return left
    a, b = DTYPES[left], DTYPES[right]
    if a.category != b.category:
        return left if a.category > b.category else right
    if {left, right} in ({"f16", "bf16"}, {"f8e4m3", "f8e5m2"}):
        return "f32"
    if {left, right} == {"u8", "i8"}:
        return "i16"
    return left if a.bits > b.bits else right


def converts_through_f32(start: str, end: str) -> bool:
    """Whether PyTorch converts one dtype to another through f32, and Triton not at all: float8 from and to what is no float
    of 16 or 32 bits."""
    names = {start, end}
    return (
        len(names) == 2 and not names.isdisjoint(NARROW_FLOATS) and names.isdisjoint(("f16", "bf16", "f32"))
    )


# Of integers; of a bool, the least and the greatest of what stands for it.
LEAST = {"i8": -(2**7), "i16": -(2**15), "i32": -(2**31), "i64": -(2**63), "u8": 0, "bool": 0}
GREATEST = {"i8": 2**7 - 1, "i16": 2**15 - 1, "i32": 2**31 - 1, "i64": 2**63 - 1, "u8": 255, "bool": 1}


def wrapped(number: int, name: str) -> int:
    """What an integer dtype makes of a number."""
    least = 0 if name == "u8" else -(1 << DTYPES[name].bits - 1)
    return (number - least) % (1 << DTYPES[name].bits) + least


def accumulator_name(name: str) -> str:
    """The dtype in which `dot` returns: f64 for f64, f32 for other floats, i32 for integers."""
    if DTYPES[name].category < 2:
        return "i32"
    return "f64" if name == "f64" else "f32"


@dataclass(frozen=True)
class Accumulator:
    """The dtype of a dot over operands of dtype `of`."""

    of: DType

    def __str__(self) -> str:
        return f"dot({self.of})"


@dataclass(frozen=True)
class DType:
    """The promotion of `names`: concrete dtypes, dtype variables, weak names, accumulators."""

    names: tuple[str | Accumulator, ...]

    @property
    def weak(self) -> bool:
        return all(name in WEAK for name in self.names)

    @property
    def concrete(self) -> str | None:
        """The dtype's name where no variable is involved and it is not weak."""
        if len(self.names) == 1 and self.names[0] in DTYPES:
            return str(self.names[0])
        return None

    def variables(self) -> frozenset[str]:
        found: set[str] = set()
        for name in self.names:
            if isinstance(name, Accumulator):
                found |= name.of.variables()
            elif name not in DTYPES and name not in WEAK:
                found.add(name)
        return frozenset(found)

    def resolve(self, dtypes: Mapping[str, str], index: str = "i32", real: str = "f32") -> str:
        """The concrete dtype once each variable has one; a weak integer alone is an `index`, a weak float a `real`."""
        strong: str | None = None
        category = -1
        for name in self.names:
            if name in WEAK:
                category = max(category, WEAK.index(str(name)))
                continue
            if isinstance(name, Accumulator):
                this = accumulator_name(name.of.resolve(dtypes, index))
            else:
                this = name if name in DTYPES else dtypes[name]
            strong = this if strong is None else promote_names(strong, this)
        if strong is not None and DTYPES[strong].category >= category:
            return strong
        return ("bool", index, real)[category]

    def __str__(self) -> str:
        if len(self.names) == 1:
            return str(self.names[0]).removeprefix("~")
        return f"promote({', '.join(str(name).removeprefix('~') for name in self.names)})"


BOOL, I32, F32 = DType(("bool",)), DType(("i32",)), DType(("f32",))
WEAK_BOOL, WEAK_INT, WEAK_FLOAT = (DType((name,)) for name in WEAK)


def promote(operands: Iterable[DType], choices: Mapping[str, tuple[str, ...]]) -> DType:
    """The dtype of an elementwise operation, in its shortest form.

    `choices` has what each dtype variable may be; a promotion that comes to the same dtype, or to the
    same variable, whatever they are is that dtype or variable.
    """
    names: dict[str | Accumulator, None] = {}
    for operand in operands:
        names.update(dict.fromkeys(operand.names))
    return simplify(DType(tuple(sorted(names, key=str))), choices)


def simplify(dtype: DType, choices: Mapping[str, tuple[str, ...]]) -> DType:
    """`dtype` in its shortest form; see `promote`."""
    if len(dtype.names) == 1 and not isinstance(dtype.names[0], Accumulator):
        return dtype
    if dtype.weak:
        return DType((WEAK[max(WEAK.index(str(name)) for name in dtype.names)],))
    variables = sorted(dtype.variables())
    cases = [
        dict(zip(variables, case, strict=True))
        for case in itertools.product(*(choices[name] for name in variables))
    ]
    results = [dtype.resolve(case) for case in cases]
    if len(set(results)) == 1:
        return DType((results[0],))
    for name in variables:
        if results == [case[name] for case in cases]:
            return DType((name,))
    return dtype


def categories(dtype: DType, choices: Mapping[str, tuple[str, ...]]) -> frozenset[int]:
    """The categories (0 bool, 1 integer, 2 float) that `dtype` may have."""
    if dtype.weak:
        return frozenset({max(WEAK.index(str(name)) for name in dtype.names)})
    variables = sorted(dtype.variables())
    return frozenset(
        DTYPES[dtype.resolve(dict(zip(variables, case, strict=True)))].category
        for case in itertools.product(*(choices[name] for name in variables))
    )

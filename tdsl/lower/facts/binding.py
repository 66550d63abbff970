"""What a kernel is specialised to: the sizes, strides, dtypes and constants of one call.

An `Extent` is an integer that is known now, or arithmetic over size arguments of the emitted kernel (`ks0`,
`ks0 * 4`). Whoever makes the binding passes those arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

from tdsl.lower.facts.candidates import Budget
from tdsl.lower.facts.extents import Arithmetic, Extent, Signed


@dataclass(frozen=True, kw_only=True)
class TensorArg:
    """One tensor of a call, with the rank that the caller passed (`R...` not yet collapsed).

    Strides and offset count elements; `offset` is added to the pointer that the kernel gets.
    """

    dtype: str  # a tdsl dtype name: 'bf16'
    shape: tuple[Extent, ...]
    strides: tuple[Extent, ...]
    offset: Extent = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Binding:
    """All that varies between two calls of one template. Two are equal if nothing in them differs, no number's type and
    no zero's sign either.

    `tensors` has every tensor parameter and output by name; None for an optional one that is absent.
    `scalars` has run-time scalars: a literal to inline, or of what kernel arguments they are made; text is the name
    of one, of an integer that is not negative or of a float. `consts` has `const` parameters. `hints` gives a likely
    value for each size argument (tuning only). `budget`
    decides which candidates are kept; None: all.
    """

    tensors: Mapping[str, TensorArg | None]
    scalars: Mapping[str, int | float | bool | str | Signed | Arithmetic] = field(default_factory=dict)
    consts: Mapping[str, int | float | bool | str] = field(default_factory=dict)
    hints: Mapping[str, int] = field(default_factory=dict)
    index_dtype: str = "i32"  # 'i64' where an offset may pass 2**31
    f32_precision: str = "ieee"  # of `dot` on f32 operands: 'ieee', 'tf32' or 'tf32x3'
    budget: Budget | None = None

    @cached_property
    def _exact(self) -> object:
        return tuple(exact(getattr(self, entry.name)) for entry in fields(self))

    def __eq__(self, other: object) -> bool:
        return self._exact == other._exact if isinstance(other, Binding) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._exact)


def exact(value: object) -> object:
    """What equals that of another value only if a kernel with the one in its text has the other: 1, True and 1.0 are
    three values, 0.0 and -0.0 are two, and NaN is one."""
    match value:
        case Mapping():
            return tuple((name, exact(each)) for name, each in value.items())
        case float():
            return float, repr(value)
    return type(value), value

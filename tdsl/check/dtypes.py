"""Which dtypes a symbolic dtype may come to, for one template; promotion with a memory.

    promote(T, ~float) with T in (f16, f32)  →  T;  possible(T)  →  {f16, f32}

The rules of promotion are in `types`; what an operation does with them is left to its own module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tdsl.types import (
    DTYPES,
    NARROW_FLOATS,
    WEAK,
    WEAK_BOOL,
    Accumulator,
    DType,
    accumulator_name,
    promote_names,
    simplify,
)

_MAX_CASES = 1000
STRING = DType(("~str",))  # of const parameters, and of arguments of `tl.` calls


class DTypes:
    """`choices`: what each dtype variable of the template may be."""

    def __init__(self, choices: Mapping[str, tuple[str, ...]]) -> None:
        self.choices = choices
        self._promoted: dict[tuple[DType, ...], DType] = {}
        self._possible: dict[DType, frozenset[str]] = {}
        self._categories: dict[DType, frozenset[int]] = {}
        self._narrow: dict[DType, str | None] = {}

    def promote(self, *operands: DType) -> DType:
        found = self._promoted.get(operands)
        if found is None:
            names = dict.fromkeys(name for operand in operands for name in operand.names)
            found = self._shortest(DType(tuple(sorted(names, key=str))))
            self._promoted[operands] = found
        return found

    def accumulator(self, *operands: DType) -> DType:
        """The dtype of a dot."""
        return self._shortest(DType((Accumulator(self.promote(*operands)),)))

    def _shortest(self, dtype: DType) -> DType:
        """As `types.simplify`, but for so many variables that trying every case would take long."""
        cases = math.prod(len(self.choices[name]) for name in dtype.variables())
        return simplify(dtype, self.choices) if cases <= _MAX_CASES else dtype

    def possible(self, dtype: DType) -> frozenset[str]:
        """The names of the dtypes that `dtype` may be; of a weak one, its weak name."""
        found = self._possible.get(dtype)
        if found is None:
            found = self._possible[dtype] = self._find(dtype)
        return found

    def _find(self, dtype: DType) -> frozenset[str]:
        if dtype.weak:
            return frozenset({WEAK[max(WEAK.index(str(name)) for name in dtype.names)]})
        if dtype == STRING:
            return frozenset(dtype.names)  # type: ignore[arg-type]
        results: set[str] = set()
        least = -1
        for name in dtype.names:
            if isinstance(name, Accumulator):
                these = {accumulator_name(of) for of in self.possible(name.of)}
            elif name in WEAK:
                least = max(least, WEAK.index(name))
                continue
            else:
                these = set(self.choices.get(name, (name,)))
            results = {promote_names(a, b) for a in results for b in these} if results else these
        raised = ("bool", "i32", "f32")[least]
        return frozenset(name if DTYPES[name].category >= least else raised for name in results)

    def categories(self, dtype: DType) -> frozenset[int]:
        """0 bool, 1 integer, 2 float; empty for strings."""
        found = self._categories.get(dtype)
        if found is None:
            found = self._categories[dtype] = frozenset(
                WEAK.index(name) if name in WEAK else DTYPES[name].category
                for name in self.possible(dtype)
                if name in WEAK or name in DTYPES
            )
        return found

    def narrow(self, dtype: DType) -> str | None:
        """The 8-bit float that `dtype` may be, if it may."""
        if dtype not in self._narrow:
            self._narrow[dtype] = min(self.possible(dtype) & NARROW_FLOATS, default=None)
        return self._narrow[dtype]

    def is_integer(self, dtype: DType) -> bool:
        return self.categories(dtype) == {1}

    def is_bool(self, dtype: DType) -> bool:
        return self.categories(dtype) == {0}

    def keeps(self, kept: DType, value: DType) -> bool:
        """Whether a value converts to `kept` without a wider dtype being called for."""
        # A variable that has one choice is that dtype, promoted.
        return kept == value or self.promote(kept, value) in (kept, self.promote(kept, WEAK_BOOL))

    def why(self, dtype: DType, categories: set[int]) -> str:
        """`f32`, or `T, which may be f32`: for a message about a category that does not fit."""
        for name in sorted(
            self.possible(dtype), key=lambda name: list(DTYPES).index(name) if name in DTYPES else 0
        ):
            if name in DTYPES and DTYPES[name].category in categories and name != str(dtype):
                return f"{dtype}, which may be {name}"
        return str(dtype)

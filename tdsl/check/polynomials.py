"""Polynomials with integer coefficients over named atoms.

    2 * (K - 1) + n    is    {("K",): 2, ("n",): 1, (): -2}

An atom is any integer that a proof treats as a unit; what is known about it is the business of `bounds`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

Monomial = tuple[str, ...]  # sorted; an atom stands once per power


class Polynomial:
    """Immutable; equal where the terms are."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = {monomial: factor for monomial, factor in terms.items() if factor}

    @classmethod
    def constant(cls, value: int) -> Polynomial:
        return cls({(): value})

    @classmethod
    def atom(cls, name: str) -> Polynomial:
        return cls({(name,): 1})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __add__(self, other: Polynomial | int) -> Polynomial:
        if isinstance(other, int):
            other = Polynomial.constant(other)
        terms = dict(self.terms)
        for monomial, factor in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + factor
        return Polynomial(terms)

    def __neg__(self) -> Polynomial:
        return Polynomial({monomial: -factor for monomial, factor in self.terms.items()})

    def __sub__(self, other: Polynomial | int) -> Polynomial:
        return self + (-other)

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        if isinstance(other, int):
            return Polynomial({monomial: factor * other for monomial, factor in self.terms.items()})
        terms: dict[Monomial, int] = {}
        for left, a in self.terms.items():
            for right, b in other.terms.items():
                monomial = tuple(sorted(left + right))
                terms[monomial] = terms.get(monomial, 0) + a * b
        return Polynomial(terms)

    @property
    def value(self) -> int | None:
        """The number, where this is one."""
        if not self.terms:
            return 0
        return self.terms[()] if len(self.terms) == 1 and () in self.terms else None

    def atoms(self) -> set[str]:
        return {name for monomial in self.terms for name in monomial}

    def split(self, name: str) -> tuple[Polynomial, Polynomial] | None:
        """(factor, rest) with `self == factor * name + rest`; None where `name` has a higher power."""
        factor: dict[Monomial, int] = {}
        rest: dict[Monomial, int] = {}
        for monomial, number in self.terms.items():
            count = monomial.count(name)
            if count > 1:
                return None
            if count:
                factor[without(monomial, (name,)) or ()] = number
            else:
                rest[monomial] = number
        return Polynomial(factor), Polynomial(rest)

    def substitute(self, values: Mapping[str, Polynomial]) -> Polynomial:
        if not any(name in values for monomial in self.terms for name in monomial):
            return self
        result = Polynomial({})
        for monomial, number in self.terms.items():
            product = Polynomial.constant(number)
            for name in monomial:
                product = product * values.get(name, Polynomial.atom(name))
            result = result + product
        return result

    def __str__(self) -> str:
        ordered = sorted(
            self.terms.items(), key=lambda term: (not term[0], term[1] < 0, -len(term[0]), term[0])
        )
        text = ""
        for monomial, number in ordered:
            several = len(monomial) > 1 or abs(number) != 1
            names = [f"({name})" if several and " " in name else name for name in monomial]
            if abs(number) != 1 or not monomial:
                names.insert(0, str(abs(number)))
            sign = ("-" if number < 0 else "") if not text else (" - " if number < 0 else " + ")
            text += sign + " * ".join(names)
        return text or "0"


def without(monomial: Monomial, part: Monomial) -> Monomial | None:
    """`monomial / part`, or None where it does not divide."""
    left = Counter(monomial)
    left.subtract(part)
    if any(count < 0 for count in left.values()):
        return None
    return tuple(sorted(left.elements()))

"""The bounds proof: is a subscript inside its dimension for every lane that exists?

    load Q[k // 8, n]      # k in K by BLOCK, Q: i32[K // 8, N], guard K % 8 == 0
    0 <= k // 8            # k >= 0
    k // 8 <= K // 8 - 1   # k <= K - 1, and (K - 1) // 8 is K // 8 - 1 because 8 divides K

A subscript becomes a polynomial over atoms. Lanes, edges of tiles, quotients, remainders, minima and maxima
are atoms with bounds that are polynomials over earlier atoms; they are replaced by a bound, latest first,
until only sizes are left, whose polynomial must be shown not to be negative from guards and from what the
enclosing loops imply (their dimensions are not empty). Exact integers throughout; no proof means no, never
maybe. What a subscript may be, who reports it, and what happens outside is left to `points`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tdsl import ir
from tdsl.builtins import INDICES
from tdsl.check.polynomials import Monomial, Polynomial, without
from tdsl.types import DTYPES, GREATEST, LEAST, DType

_MAX_TERMS = 60
_MAX_OPTIONS = 16
_MAX_FACTS = 3  # how many guards one proof may combine
_MAX_SHIFT = 40
_MAX_DEGREE = 8
_MAX_NUMBER = 1 << 80
_LARGEST_SIZE = Polynomial.constant(1 << 48)  # of a dimension: more elements than there are addresses
_VAST = (1 << 31) - 1  # a bound so far away is the dtype's, and tells nobody anything
_MAX_DEPTH = 60  # of definitions looked through
_MAX_STEPS = 10_000  # of one proof; a search that takes longer has failed
_MAX_STEPS_IN_ALL = 200_000  # of all proofs of a template

# Any of the options holds; an option is a set of polynomials of which the least (for a lower bound) or
# the greatest (for an upper bound) is the bound.
Options = list[tuple[Polynomial, ...]]


@dataclass(frozen=True)
class Facts:
    """What a template tells about its names."""

    guards: tuple[ir.Expr, ...] = ()
    sizes: frozenset[str] = frozenset()  # integer parameters that are the size of a dimension
    nonnegative: tuple[ir.Expr, ...] = ()  # sizes of dimensions
    divisors: tuple[ir.Expr, ...] = ()  # divisors in the signature; a call proves them positive
    settings: Mapping[str, ir.Expr] = field(default_factory=dict)  # of `let`
    least: Mapping[str, int] = field(default_factory=dict)  # of config names: the least of their values
    variables: Mapping[str, ir.Expr] = field(default_factory=dict)  # of variables assigned once


@dataclass(frozen=True)
class Shortfall:
    """Why a subscript is not proven: `extreme` is how far it may go, None where nothing bounds it."""

    below: bool
    extreme: str | None


@dataclass
class _Atom:
    rank: int
    lowers: Callable[[], Options]
    uppers: Callable[[], Options]


class Bounds:
    """Proofs for one template. The facts may grow (`variables`) while it is checked."""

    def __init__(self, facts: Facts, steps: int = _MAX_STEPS_IN_ALL) -> None:
        self.facts = facts
        self._regions: dict[tuple[tuple[str, ...], tuple[int, ...], frozenset[str]], _Region] = {}
        self._left = steps

    def shortfall(
        self, value: ir.Expr, size: ir.Expr, loops: Sequence[ir.Tile], conditions: tuple[ir.Expr, ...] = ()
    ) -> Shortfall | None:
        """None where 0 <= value < size for every lane of `value` inside the bodies of `loops`, in branches that
        are taken where `conditions` hold."""
        match value:
            case ir.TileRef(tile=ir.Tile(start=ir.Constant(value=0), stop=stop)) if stop == size:
                return None
        tiles = (*loops, *(tile for tile in value.type.tiles if tile.role == "whole"))
        with self._region(tiles, conditions) as region:
            found = region.shortfall(value, size)
        if found is None:
            return None
        # Or with the variables that are tested as names, of which less is known, and what the tests say.
        tested = {
            node.name
            for condition in conditions
            for node in ir.walk(condition)
            if isinstance(node, ir.VarRef) and node.name in self.facts.variables
        }
        if not tested:
            return found
        with self._region(tiles, conditions, frozenset(tested)) as region:
            return None if region.shortfall(value, size) is None else found

    def contradict(self, loops: Sequence[ir.Tile], conditions: tuple[ir.Expr, ...]) -> bool:
        """Whether it is proven that no call comes inside the bodies of `loops` and to where `conditions` hold."""
        with self._region(tuple(loops), conditions) as region:
            return region.holds(Polynomial.constant(-1))

    def equal(self, left: ir.Expr, right: ir.Expr) -> bool:
        if left == right:
            return True
        with self._region(()) as region:
            return region.polynomial(left) == region.polynomial(right)

    def at_least(
        self, value: ir.Expr, least: int, loops: Sequence[ir.Tile], conditions: tuple[ir.Expr, ...] = ()
    ) -> bool:
        with self._region(tuple(loops), conditions) as region:
            return region.holds(region.polynomial(value) - least)

    def divides(self, part: ir.Expr, count: ir.Expr, whole: ir.Expr, tile: ir.Tile) -> bool:
        """Whether the ranges of `tile`, one for each index of `part` out of `count`, are `whole` cut into as many."""
        with self._region(()) as region:
            start, stop = region.polynomial(tile.start), region.polynomial(tile.stop)
            index = region.polynomial(part)
            width, left = stop - start, region.polynomial(whole) - (stop - start) * region.polynomial(count)
            (name,) = index.atoms()
            if name in width.atoms() or start != width * index:
                return False
            return region.holds(left) and region.holds(-left)

    @contextmanager
    def _region(
        self,
        tiles: tuple[ir.Tile, ...],
        conditions: tuple[ir.Expr, ...] = (),
        named: frozenset[str] = frozenset(),
    ) -> Iterator[_Region]:
        """The place inside `tiles` and `conditions`, with the steps that one proof may take."""
        key = tuple(tile.key for tile in tiles), tuple(map(id, conditions)), named
        given = min(self._left, _MAX_STEPS)
        if key not in self._regions:
            region = self._regions[key] = _Region(self.facts, tiles, conditions, given, named)
        else:
            region = self._regions[key]
            region.steps = given
        yield region
        self._left -= given - max(region.steps, 0)


class _Region:
    """A place in the kernel: the facts of the template, that each of `tiles` has a lane, and what `conditions`
    say of values that stay as they are. A variable in `named` is an atom, not what it was assigned."""

    def __init__(
        self,
        facts: Facts,
        tiles: tuple[ir.Tile, ...],
        conditions: tuple[ir.Expr, ...],
        steps: int,
        named: frozenset[str] = frozenset(),
    ) -> None:
        self.facts = facts
        self.named = named
        self.conditions = conditions  # kept, so that no other has the identity of one of them
        self.steps = steps  # left to take
        self._atoms: dict[str, _Atom] = {}
        self._least: dict[str, int] = {}  # atoms without bounds above: sizes; those not here may be anything
        self._known: list[Polynomial] = []  # each is >= 0
        # (multiple, divisor), and the quotient where it has a name
        self._divisible: list[tuple[Polynomial, Polynomial, Polynomial | None]] = []
        self._equal: dict[str, Polynomial] = {}
        self._floors: list[tuple[Polynomial, Polynomial, str]] = []  # (value, divisor, atom of the quotient)
        self._held: set[str] = set()  # atoms that are what a tensor holds
        self._sizes = set(facts.sizes)
        self._lowers: dict[str, Options] = {}  # of lanes, besides where their tile starts
        self._uppers: dict[str, Options] = {}
        self._seen: dict[int, tuple[ir.Expr, Polynomial]] = {}
        self._bindings: dict[str, ir.Expr] = {}
        self._fractions: set[str] = set()
        self._depth = 0
        for name in facts.sizes:
            self._least[name] = 0
        for name, least in facts.least.items():
            self._least[name] = least
        for divisor in facts.divisors:
            self._learn(self.polynomial(divisor) - 1)
        for guard in facts.guards:
            self.steps -= 1
            if self.steps > 0:
                self._learn_guard(guard)
        for size in facts.nonnegative:
            self._learn(self.polynomial(size))
        for tile in tiles:
            width = self.polynomial(tile.stop) - self.polynomial(tile.start) - 1
            for option in self._extremes(width, upper=True):
                if len(option) == 1:
                    self._learn(option[0])
        self._seen.clear()  # made before all was known
        for condition in conditions:
            self._learn_guard(condition)
        for value, by, name in self._floors:
            self._learn_sign(value, by, name)
        self._seen.clear()

    # Facts

    def _learn_guard(self, guard: ir.Expr) -> None:
        match guard:
            case ir.Binary(op="and", left=left, right=right):
                self._learn_guard(left)
                self._learn_guard(right)
            case ir.Unary(op="not", operand=operand):
                opposite = _negation(operand)
                if opposite is not None:
                    self._learn_guard(opposite)
            case ir.Binary(
                op="==", left=ir.Binary(op="%", left=multiple, right=divisor), right=ir.Constant(value=0)
            ):
                self._divisible.append((self.polynomial(multiple), self.polynomial(divisor), None))
            case ir.Binary(op="==", left=left, right=right) if _is_integer(left) and _is_integer(right):
                self._learn_equal(self.polynomial(left) - self.polynomial(right))
            case ir.Binary(op="!=", left=left, right=right) if _is_integer(left) and _is_integer(right):
                above = self.polynomial(left) - self.polynomial(right)
                for apart in (above, -above):
                    if self.holds(apart):
                        self._learn(apart - 1)
            case ir.Binary(op="<" | "<=" | ">" | ">=" as op, left=left, right=right) if _is_integer(
                left
            ) and _is_integer(right):
                small, large = (left, right) if op[0] == "<" else (right, left)
                self._learn(self.polynomial(large) - self.polynomial(small) - (1 if len(op) == 1 else 0))

    def _learn(self, fact: Polynomial) -> None:
        """`fact >= 0`."""
        if fact.value is not None:
            return
        if not self._is_base(fact):
            self._learn_lane(fact)
            return
        match sorted(fact.terms.items()):
            case [((), number), ((name,), 1)] if number <= 0:
                self._least[name] = max(self._least.get(name, -number), -number)
            case [((name,), 1)]:
                self._least[name] = max(self._least.get(name, 0), 0)
            case [((), number), (names, factor)] if number < 0 < factor:
                self._known.append(fact)
                # A product is positive, and all but one of what it is of are not negative: so each is positive.
                if sum(self._least.get(name, -1) < 0 for name in names) <= 1:
                    self._least.update({name: max(self._least.get(name, 1), 1) for name in names})
            case _:
                self._known.append(fact)

    def _learn_lane(self, fact: Polynomial) -> None:
        """`fact >= 0`, about the lane of a tile and what it is compared with."""
        name = max(fact.atoms() & self._atoms.keys(), key=lambda name: self._atoms[name].rank)
        parts = fact.split(name)
        if not name.startswith("#lane ") or parts is None:
            return
        factor, rest = parts
        if factor.value == 1:
            self._lowers.setdefault(name, []).append((-rest,))
        elif factor.value == -1:
            self._uppers.setdefault(name, []).append((rest,))

    def _learn_sign(self, value: Polynomial, divisor: Polynomial, name: str) -> None:
        """What a quotient is at least, or that it is negative."""
        if self.holds(value - divisor):
            self._least[name] = max(self._least.get(name, 1), 1)
        elif self.holds(value):
            self._least[name] = max(self._least.get(name, 0), 0)
            # One that leaves no remainder is positive where what is divided is.
            if any((multiple, by) == (value, divisor) for multiple, by, _ in self._divisible) and self.holds(
                value - 1
            ):
                self._least[name] = max(self._least[name], 1)
        elif self.holds(-value - 1):
            self._known.append(-Polynomial.atom(name) - 1)

    def _learn_equal(self, zero: Polynomial) -> None:
        for monomial, number in sorted(zero.terms.items(), reverse=True):
            if len(monomial) == 1 and abs(number) == 1 and monomial[0] not in self._atoms:
                (name,) = monomial
                parts = zero.split(name)
                if parts is None or name in parts[1].atoms() or not self._is_base(zero):
                    continue
                value = parts[1] * -number
                self._equal = {key: old.substitute({name: value}) for key, old in self._equal.items()}
                self._equal[name] = value
                self._known = [old.substitute({name: value}) for old in self._known]
                self._divisible = [
                    (multiple.substitute({name: value}), by.substitute({name: value}), quotient)
                    for multiple, by, quotient in self._divisible
                ]
                if name in self._least:
                    self._known.append(value - self._least[name])
                self._seen.clear()
                return
        if self._is_base(zero):
            self._known.extend((zero, -zero))

    # Proofs

    def shortfall(self, value: ir.Expr, size: ir.Expr) -> Shortfall | None:
        this = self.polynomial(value)
        if not self.holds(this):
            return Shortfall(True, self.extreme(this, upper=False))
        if not self.holds(self.polynomial(size) - this - 1):
            return Shortfall(False, self.extreme(this, upper=True))
        return None

    def holds(self, claim: Polynomial) -> bool:
        """Whether `claim >= 0` is proven."""
        return any(
            all(self._base_holds(bound, _MAX_FACTS) for bound in option)
            for option in self._extremes(claim, upper=False)
        )

    def extreme(self, value: Polynomial, *, upper: bool) -> str | None:
        """How low or high `value` may be, for a message."""
        options = self._extremes(value, upper=upper)
        if not options:
            return None
        nearest = min(options, key=len)
        if any(bound.atoms() & self._held or abs(bound.value or 0) >= _VAST for bound in nearest):
            return None
        bounds = list(dict.fromkeys(map(str, nearest)))
        return bounds[0] if len(bounds) == 1 else f"{'maximum' if upper else 'minimum'}({', '.join(bounds)})"

    def _is_base(self, value: Polynomial) -> bool:
        return not any(name in self._atoms for name in value.atoms())

    def _extremes(self, value: Polynomial, *, upper: bool) -> Options:
        """Bounds of `value` over sizes alone."""
        self.steps -= 1
        if self.steps < 0:
            return []
        inner = [name for name in value.atoms() if name in self._atoms]
        if not inner:
            return [(value,)]
        name = max(inner, key=lambda name: self._atoms[name].rank)
        parts = value.split(name)
        if parts is None:
            return []
        factor, rest = parts
        if self.holds(factor):
            rising = True
        elif self.holds(-factor):
            rising = False
        else:
            return []
        atom = self._atoms[name]
        found: Options = []
        for option in atom.uppers() if rising == upper else atom.lowers():
            each = [self._extremes(factor * bound + rest, upper=upper) for bound in option]
            for combined in itertools.islice(itertools.product(*each), _MAX_OPTIONS):
                found.append(tuple(dict.fromkeys(itertools.chain.from_iterable(combined))))
                if len(found) >= _MAX_OPTIONS:
                    return found
        return found

    def _base_holds(self, claim: Polynomial, facts: int) -> bool:
        self.steps -= 1
        if self.steps < 0:
            return False
        shift = {
            name: Polynomial.atom(name) + self._least[name] for name in claim.atoms() if self._least.get(name)
        }
        shifted = claim.substitute(shift)
        bad = [monomial for monomial, number in shifted.terms.items() if number < 0 or self._free(monomial)]
        if not bad:
            return True
        if not facts:
            return False
        # Take away a fact, times what is not negative, so that the first bad term goes.
        for monomial in sorted(bad, key=lambda monomial: (-len(monomial), monomial))[:1]:
            number = shifted.terms[monomial]
            for fact in self._known:
                self.steps -= 1
                known = fact.substitute(shift)
                for part, factor in known.terms.items():
                    cofactor = without(monomial, part)
                    if factor * number < 0 or cofactor is None or self._free(cofactor):
                        continue
                    left = shifted * abs(factor) - known * Polynomial({cofactor: abs(number)})
                    back = {name: Polynomial.atom(name) - self._least[name] for name in shift}
                    if self._base_holds(left.substitute(back), facts - 1):
                        return True
        return False

    def _free(self, monomial: Monomial) -> bool:
        return any(name not in self._least for name in monomial)

    # Expressions

    def polynomial(self, expr: ir.Expr) -> Polynomial:
        seen = self._seen.get(id(expr))
        if seen is None:
            self._depth += 1
            value = self._make(expr) if self._depth <= _MAX_DEPTH and _is_integer(expr) else self._unknown()
            self._depth -= 1
            if len(value.terms) > _MAX_TERMS or any(
                len(monomial) > _MAX_DEGREE or abs(number) > _MAX_NUMBER
                for monomial, number in value.terms.items()
            ):
                value = self._unknown()
            self._seen[id(expr)] = seen = (expr, value)
        return seen[1]

    def _make(self, expr: ir.Expr) -> Polynomial:
        match expr:
            case ir.Constant(value=int(value)):
                return Polynomial.constant(int(value))
            case ir.DimRef(name=name):
                self._least.setdefault(name, 0)
                self._sizes.add(name)
                return self._equal.get(name, Polynomial.atom(name))
            case ir.ParamRef(name=name):
                return self._equal.get(name, Polynomial.atom(name))
            case ir.SettingRef(name=name):
                if name in self.facts.settings:
                    return self.polynomial(self.facts.settings[name])
                return Polynomial.atom(name)
            case ir.VarRef(name=name):
                bound = self._bindings.get(name) or self.facts.variables.get(name)
                if bound is None:
                    return self._unknown()
                if name not in self._bindings and (_is_held(bound) or name in self.named):
                    return self._equal.get(name, self._number(name, expr.type.dtype, bound))
                return self.polynomial(bound)
            case ir.TileRef(tile=tile):
                return self._lane(tile)
            case ir.TileEdge(tile=tile, edge=edge):
                return self._edge(tile, edge)
            case ir.Unary(op="-", operand=operand):
                return self._fitting(-self.polynomial(operand), expr)
            case ir.Binary(op=op, left=left, right=right):
                return self._fitting(self._binary(op, self.polynomial(left), self.polynomial(right)), expr)
            case ir.Cast(operand=operand):
                return self._cast(operand, expr.type.dtype)
            case (
                ir.Select(then=then, otherwise=otherwise)
                | ir.Elementwise(function="where", arguments=(_, then, otherwise))
            ):
                either: Options = [(self.polynomial(then), self.polynomial(otherwise))]
                return self._fitting(self._new(lambda: either, lambda: either), expr)
            case ir.Elementwise(function="minimum" | "maximum" as function, arguments=(left, right)):
                extremum = self._extremum(function, self.polynomial(left), self.polynomial(right))
                return self._fitting(extremum, expr)
            case ir.Elementwise(function="cdiv", arguments=(left, right)):
                divisor = self.polynomial(right)
                return self._fitting(self._quotient(self.polynomial(left) + divisor - 1, divisor), expr)
            case ir.Elementwise(function="next_pow2", arguments=(operand,)):
                least = self.polynomial(operand)
                name = f"next_pow2({least})"
                if self._is_base(least):
                    if name not in self._fractions:
                        self._fractions.add(name)
                        self._least[name] = 1
                        self._known.append(Polynomial.atom(name) - least)
                    return Polynomial.atom(name)
                return self._new(lambda: [(least,), (Polynomial.constant(1),)], list)
            case ir.Elementwise(function="abs", arguments=(operand,)):
                signed = self.polynomial(operand)
                if self._fitting(-signed, expr) != -signed:
                    return self._unknown()  # the least number of a dtype has no opposite
                return self._new(lambda: [(Polynomial.constant(0),)], lambda: [(signed, -signed)])
            case ir.Reduce(tiles=(tile,)) | ir.Along(tile=tile) if expr.function in INDICES:
                first, end = self.polynomial(tile.start), self.polynomial(tile.stop)
                # Nothing is the largest of nothing; in a lane of `argsort` there is one.
                if isinstance(expr, ir.Reduce) and not self.holds(end - first - 1):
                    return self._any(expr.type.dtype)
                return self._new(lambda: [(first,)], lambda: [(end - 1,)])
            case ir.Inline(bindings=bindings, result=result):
                self._bindings.update(bindings)
                return self.polynomial(result)
            case _:
                return self._any(expr.type.dtype)

    def _cast(self, operand: ir.Expr, dtype: DType) -> Polynomial:
        """`operand` as a number of `dtype`: itself where it is one of its numbers, and any of them otherwise."""
        value = self.polynomial(operand)
        if operand.type.dtype == dtype or dtype.names == ("i64",) or self._fits(value, dtype):
            return value
        if self._is_base(value):
            return self._number(f"{dtype}({value})", dtype)
        return self._any(dtype, f"#{dtype}({value})")

    def _fitting(self, exact: Polynomial, expr: ir.Expr) -> Polynomial:
        """What arithmetic that is `exact` for integers comes to: in a dtype it wraps around. Indices are calculated in
        as many bits as they take, and arithmetic on nothing else does not pass 64."""
        dtype = expr.type.dtype
        if dtype.weak or (dtype.names == ("i64",) and self._is_of_indices(expr)):
            return exact
        return exact if self._fits(exact, dtype) else self._any(dtype)

    def _fits(self, value: Polynomial, dtype: DType) -> bool:
        """Whether `value` is proven to be a number of `dtype`."""
        known = len(self._known)
        if dtype.names == ("i64",):
            self._known.extend(_LARGEST_SIZE - Polynomial.atom(name) for name in sorted(self._sizes))
        least, most = _range(dtype)
        fits = self.holds(value - least) and self.holds(most - value)
        del self._known[known:]
        return fits

    def _is_of_indices(self, expr: ir.Expr) -> bool:
        """Whether an expression is made of sizes, parameters and indices alone, and not of what a tensor holds."""
        parts, seen = [expr], set[str]()
        while parts:
            self.steps -= 1
            for node in ir.walk(parts.pop()):
                if isinstance(node, ir.VarRef) and node.name not in seen:
                    bound = self._bindings.get(node.name) or self.facts.variables.get(node.name)
                    if bound is None or self.steps < 0:
                        return False
                    seen.add(node.name)
                    parts.append(bound)
                elif not isinstance(node, _OF_INDICES):
                    return False
        return True

    def _binary(self, op: str, a: Polynomial, b: Polynomial) -> Polynomial:
        match op:
            case "+":
                return a + b
            case "-":
                return a - b
            case "*" if len(a.terms) * len(b.terms) <= _MAX_TERMS:
                return a * b
            case "//":
                return self._quotient(a, b)
            case "%":
                return self._remainder(a, b)
            case ">>" if b.value is not None and 0 <= b.value <= _MAX_SHIFT:
                return self._quotient(a, Polynomial.constant(1 << b.value))
            case "<<" if b.value is not None and 0 <= b.value <= _MAX_SHIFT:
                return a * (1 << b.value)
            case "&" if a.value is not None and b.value is None:
                return self._binary(op, b, a)
            case "&" if b.value is not None and b.value >= 0:
                if b.value & (b.value + 1) == 0:
                    return self._remainder(a, Polynomial.constant(b.value + 1))
                top = b
                return self._new(lambda: [(Polynomial.constant(0),)], lambda: [(top,)])
            case _:
                return self._unknown()

    # Atoms

    def _new(
        self, lowers: Callable[[], Options], uppers: Callable[[], Options], name: str = ""
    ) -> Polynomial:
        name = name or f"#{len(self._atoms)}"
        if name not in self._atoms:
            self._atoms[name] = _Atom(len(self._atoms), lowers, uppers)
        return Polynomial.atom(name)

    def _unknown(self) -> Polynomial:
        return self._new(list, list)

    def _any(self, dtype: DType, name: str = "") -> Polynomial:
        """Any number of a dtype, or of one of several."""
        if dtype.weak or len(dtype.names) > 1:
            return self._unknown()
        least, most = _range(dtype)
        return self._new(lambda: [(least,)], lambda: [(most,)], name)

    def _number(self, name: str, dtype: DType, value: ir.Expr | None = None) -> Polynomial:
        """Any number of a dtype, with a name by which more may be known of it; within the bounds of `value`."""
        atom = Polynomial.atom(name)
        if name not in self._held:
            self._held.add(name)
            if not dtype.weak:
                least, most = _range(dtype)
                self._known.extend((atom - least, most - atom))
            if value is not None:
                this = self.polynomial(value)
                lowers, uppers = (self._extremes(this, upper=upper) for upper in (False, True))
                facts = [atom - option[0] for option in lowers if len(option) == 1]
                facts += [option[0] - atom for option in uppers if len(option) == 1]
                self._known.extend(fact for fact in facts if fact not in self._known)
        return atom

    def _lane(self, tile: ir.Tile) -> Polynomial:
        start, stop = self.polynomial(tile.start), self.polynomial(tile.stop)
        name = f"#lane {tile.key}"
        return self._new(
            lambda: [(start,), *self._lowers.get(name, ())],
            lambda: [(stop - 1,), *self._uppers.get(name, ())],
            name,
        )

    def _edge(self, tile: ir.Tile, edge: str) -> Polynomial:
        first, end = self.polynomial(tile.start), self.polynomial(tile.stop)
        if tile.role == "whole":
            return first if edge == "start" else end
        start = self._new(lambda: [(first,)], lambda: [(end - 1,)], f"#start {tile.key}")
        if edge == "start":
            return start
        return self._new(lambda: [(start + 1,)], lambda: [(end,)], f"#stop {tile.key}")

    def _extremum(self, function: str, left: Polynomial, right: Polynomial) -> Polynomial:
        if self._is_base(left) and self._is_base(right):
            if left == right or self._base_holds(left - right, 1):
                return right if function == "minimum" else left
            if self._base_holds(right - left, 1):
                return left if function == "minimum" else right
        both: Options = [(left, right)]
        each: Options = [(left,), (right,)]
        name = f"#{function}({left}, {right})"
        if function == "minimum":
            return self._new(lambda: both, lambda: each, name)
        return self._new(lambda: each, lambda: both, name)

    def _remainder(self, value: Polynomial, divisor: Polynomial) -> Polynomial:
        if not self.holds(divisor - 1):
            return self._unknown()
        quotient = self._quotient(value, divisor)
        exact = value - quotient * divisor
        if exact.value is not None:
            return exact
        uppers: Options = [(divisor - 1,)]
        if self.holds(value):
            uppers.append((value,))
        return self._new(lambda: [(Polynomial.constant(0),)], lambda: uppers, f"#({value}) % ({divisor})")

    def _quotient(self, value: Polynomial, divisor: Polynomial) -> Polynomial:
        """floor(value / divisor): whole parts come out, what is left becomes an atom."""
        if divisor.value == 1:
            return value
        if not self.holds(divisor - 1):
            return self._unknown()
        whole, rest = self._divide(value, divisor)
        number = rest.value
        if number == 0:
            return whole
        if number is not None:
            if number > 0 and self.holds(divisor - 1 - number):
                return whole
            if number < 0 and self.holds(divisor + number):
                return whole - 1
        name = _fraction(rest, divisor)
        if self._is_base(rest) and self._is_base(divisor):
            atom = Polynomial.atom(name)
            if name not in self._fractions:
                self._fractions.add(name)
                self._known.extend((rest - divisor * atom, divisor * atom + divisor - 1 - rest))
                self._floors.append((rest, divisor, name))
                self._learn_sign(rest, divisor, name)
            return whole + atom
        return whole + self._new(
            lambda: self._quotients(rest, divisor, upper=False),
            lambda: self._quotients(rest, divisor, upper=True),
            f"#{name}",
        )

    def _quotients(self, value: Polynomial, divisor: Polynomial, *, upper: bool) -> Options:
        if not self._is_base(divisor):
            return [(Polynomial.constant(0),)] if not upper and self.holds(value) else []
        return [
            tuple(self._quotient(bound, divisor) for bound in option)
            for option in self._extremes(value, upper=upper)
        ]

    def _divide(self, value: Polynomial, divisor: Polynomial) -> tuple[Polynomial, Polynomial]:
        """(whole, rest) with value == divisor * whole + rest, as much as divides term by term."""
        whole, rest = Polynomial({}), Polynomial({})
        single = next(iter(divisor.terms.items())) if len(divisor.terms) == 1 else None
        for monomial, number in value.terms.items():
            term = Polynomial({monomial: number})
            if single is not None:
                part, factor = single
                left = without(monomial, part)
                if left is not None and (number % factor == 0 or not monomial):
                    quotient = number // factor if monomial else -(-number // factor)
                    whole = whole + Polynomial({left: quotient})
                    rest = rest + Polynomial({monomial: number - quotient * factor})
                    continue
            exact = self._exact(monomial, number, divisor)
            if exact is not None:
                whole = whole + exact
            else:
                rest = rest + term
        return whole, rest

    def _exact(self, monomial: Monomial, number: int, divisor: Polynomial) -> Polynomial | None:
        """`number * monomial / divisor` where a guard says that it divides."""
        for multiple, by, quotient in self._divisible:
            if len(multiple.terms) != 1:
                continue
            ((part, factor),) = multiple.terms.items()
            left = without(monomial, part)
            if left is None or factor != 1 or not part:
                continue
            same = by == divisor or (
                by.value is not None and divisor.value is not None and by.value % divisor.value == 0
            )
            if same and quotient is not None:
                return Polynomial({left: number}) * quotient
            if same:
                name = _fraction(multiple, divisor)
                if name not in self._fractions:
                    self._fractions.add(name)
                    atom = Polynomial.atom(name)
                    self._known.extend((multiple - divisor * atom, divisor * atom - multiple))
                    self._floors.append((multiple, divisor, name))
                    self._divisible.append((multiple, atom, divisor))
                    self._learn_sign(multiple, divisor, name)
                return Polynomial({tuple(sorted((*left, name))): number})
        return None


def _range(dtype: DType) -> tuple[Polynomial, Polynomial]:
    """The least and the greatest number of an integer dtype."""
    name = dtype.resolve({})
    return Polynomial.constant(LEAST[name]), Polynomial.constant(GREATEST[name])


def _fraction(value: Polynomial, divisor: Polynomial) -> str:
    top, bottom = str(value), str(divisor)
    return f"{f'({top})' if ' ' in top else top} // {f'({bottom})' if ' ' in bottom else bottom}"


def _negation(condition: ir.Expr) -> ir.Expr | None:
    match condition:
        case ir.Unary(op="not", operand=operand):
            return operand
        case ir.Binary(op="or", left=left, right=right):
            sides = [
                ir.Unary(span=each.span, type=each.type, op="not", operand=each) for each in (left, right)
            ]
            return replace(condition, op="and", left=sides[0], right=sides[1])
        case ir.Binary(op=op) if op in _OPPOSITE:
            return replace(condition, op=_OPPOSITE[op])
        case _:
            return None


# Nodes that read nothing of a tensor, and see no other lane.
_OF_INDICES = (
    *(ir.Constant, ir.DimRef, ir.ParamRef, ir.SettingRef, ir.VarRef, ir.TileRef, ir.TileEdge, ir.Present),
    *(ir.DTypeIn, ir.Unary, ir.Binary, ir.Cast, ir.Select, ir.Elementwise, ir.Fill, ir.Inline),
)
_OPPOSITE = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "!=": "==", "==": "!="}


def _is_held(expr: ir.Expr) -> bool:
    """Whether this is a number that somebody computed: nothing is known of it but that it stays the same."""
    while isinstance(expr, ir.Cast):
        expr = expr.operand
    return isinstance(expr, ir.Load | ir.Reduce | ir.Scan | ir.TritonCall)


def _is_integer(expr: ir.Expr) -> bool:
    """Whether `expr` is an integer, of one dtype or without: what arithmetic makes of it is then known, also where it
    wraps around."""
    names = expr.type.dtype.names
    return len(names) == 1 and (
        names[0] == "~int" or (names[0] in DTYPES and DTYPES[str(names[0])].category == 1)
    )

"""What a value is calculated from, so that two programs which mean the same make the same term.

    x / (1 + exp(-x)),  x * sigmoid(x),  silu(x)     ->   mul(x^1, sigmoid(x)^1)
    x.square().mean(-1, keepdim=True),  (x * x).sum(-1).unsqueeze(-1) / N     ->   view(mul(1/N, sum(mul(x^2))))

Operands that commute are sorted, sums and products are flat, numbers are multiplied out, quotients and roots are powers,
copies are dropped, and views go outwards, through whatever works on each element or along the last dimensions. That
changes what is rounded where a tensor's dtype is narrow, never what is rounded by a cast: a cast stays where it is, unless
it changes nothing.

A term is made once (`Terms.make`) and compared by identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tdsl.lower.inductor.compat.names import sympy

Size = Any  # an int, or a sympy expression
Shape = tuple[Size, ...]
Number = Any  # a Python number, or a sympy expression

# Functions of one tensor, element by element, that are no arithmetic.
UNARY = frozenset(
    [
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "erf",
        "erfc",
        "erfinv",
        "sigmoid",
        "abs",
        "sign",
        "floor",
        "ceil",
        "round",
        "trunc",
        "frac",
        "isnan",
        "isinf",
        "isfinite",
        "logical_not",
        "bitwise_not",
        "relu",
        "lgamma",
        "digamma",
    ]
)
# Of two, whose order does not matter.
SYMMETRIC = frozenset(["eq", "ne", "bitwise_and", "bitwise_or", "bitwise_xor", "max", "min"])
POINTWISE = (
    UNARY
    | SYMMETRIC
    | frozenset(["add", "mul", "cast", "lt", "le", "where", "pow", "atan2", "fmod", "remainder", "floordiv"])
    | frozenset(
        ["clamp_min", "clamp_max"]
    )  # no `max` and `min`: where the two are equal, their gradients are others
)
REDUCTIONS = frozenset(["sum", "prod", "amax", "amin", "any", "all"])
_WIDENING = {
    torch.bfloat16: {torch.float32, torch.float64},
    torch.float16: {torch.float32, torch.float64},
    torch.float32: {torch.float64},
    torch.int8: {torch.int16, torch.int32, torch.int64, torch.float32, torch.float64},
    torch.uint8: {torch.int16, torch.int32, torch.int64, torch.float32, torch.float64},
    torch.int16: {torch.int32, torch.int64, torch.float32, torch.float64},
    torch.int32: {torch.int64, torch.float64},
}


@dataclass(frozen=True, eq=False)
class Term:
    """`args` are terms, numbers, dtypes and tuples of them; of `add` and `mul` see `Terms`."""

    id: int
    op: str
    args: tuple[Any, ...]
    shape: Shape
    dtype: torch.dtype

    def __repr__(self) -> str:
        return shown(self)


class Terms:
    """Makes terms, all of one graph.

    `add` has the argument (number, ((term, number), ...)): each term times its number, and the first. `mul` has
    (number, ((term, exponent), ...)): each term to the power of its exponent.
    """

    def __init__(self, simplify: Callable[[Any], Any] = lambda expr: expr) -> None:
        self._known: dict[Any, Term] = {}
        self._simplify = simplify
        self._leaves = 0

    def size(self, value: Any) -> Size:
        """A size, or another integer, as an int or an expression."""
        if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            value = value.node.expr
        if isinstance(value, sympy.Basic):
            value = self._simplify(value)
            return int(value) if value.is_Integer else value
        return value

    def shape(self, sizes: Sequence[Any]) -> Shape:
        return tuple(self.size(size) for size in sizes)

    def make(self, op: str, args: tuple[Any, ...], shape: Shape, dtype: torch.dtype) -> Term:
        key = (op, _key(args), shape, dtype)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Term(len(self._known), op, args, shape, dtype)
        return found

    def leaf(self, shape: Shape, dtype: torch.dtype) -> Term:
        """A value of which nothing is known."""
        self._leaves += 1
        return self.make("leaf", (self._leaves,), shape, dtype)

    # Views

    def view(self, term: Term, shape: Shape) -> Term:
        """The same elements in the same order."""
        while term.op == "view":
            (term,) = term.args
        return term if term.shape == shape else self.make("view", (term,), shape, term.dtype)

    def permute(self, term: Term, dims: Sequence[int]) -> Term:
        dims = tuple(dim % len(term.shape) for dim in dims)
        if term.op == "permute":
            term, before = term.args
            dims = tuple(before[dim] for dim in dims)
        if dims == tuple(range(len(dims))):
            return term
        return self.make("permute", (term, dims), tuple(term.shape[dim] for dim in dims), term.dtype)

    def fit(self, term: Term, shape: Shape) -> Term:
        """A term as one of a shape that it broadcasts to."""
        if term.shape == shape:
            return term
        if _stripped(shape) == _stripped(term.shape):
            return self.view(term, shape)
        return self.make("expand", (term,), shape, term.dtype)

    def detached(self, term: Term) -> Term:
        """The same numbers, of which no gradient goes on."""
        if term.op == "view":
            return self.view(self.detached(term.args[0]), term.shape)
        return (
            term if term.op in ("detach", "number") else self.make("detach", (term,), term.shape, term.dtype)
        )

    def attached(self, term: Term) -> Term:
        """A term without the `detach` around it."""
        if term.op == "view":
            return self.view(self.attached(term.args[0]), term.shape)
        return term.args[0] if term.op == "detach" else term

    # What works on each element

    def cast(self, term: Term, dtype: torch.dtype) -> Term:
        if term.dtype == dtype:
            return term
        if term.op == "cast":
            (inner,) = term.args
            if term.dtype in _WIDENING.get(inner.dtype, ()):
                return self.cast(inner, dtype)
        return self.unary("cast", term, dtype)

    def unary(self, op: str, term: Term, dtype: torch.dtype) -> Term:
        if (number := self._constant(term)) is not None:
            # Small integers are the same in every dtype but bool.
            value = number.args[0]
            exact = op == "cast" and isinstance(value, int) and 0 <= value < 128 and dtype != torch.bool
            args, op = ((int(value),), "number") if exact else ((number,), op)
            return self.fit(self.make(op, args, (), dtype), term.shape)
        return self._each([term], term.shape, lambda terms, shape: self._unary(op, terms, shape, dtype))

    def _constant(self, term: Term) -> Term | None:
        """What a tensor with one number everywhere is made of, without its shape."""
        while term.op in ("expand", "view"):
            (term,) = term.args
        return self.make("number", term.args, (), term.dtype) if term.op == "number" else None

    def _unary(self, op: str, terms: list[Any], shape: Shape, dtype: torch.dtype) -> Term:
        (term,) = terms
        return self.fit(self.make(op, (term,), term.shape, dtype), shape)

    def pointwise(self, op: str, operands: Sequence[Any], shape: Shape, dtype: torch.dtype) -> Term:
        """`operands`: terms and numbers."""

        def build(terms: list[Any], shape: Shape) -> Term:
            if op in SYMMETRIC:
                terms = sorted(terms, key=_order)
            made = _broadcast([term.shape for term in terms if isinstance(term, Term)])
            return self.fit(self.make(op, tuple(terms), made, dtype), shape)

        return self._each(operands, shape, build)

    def add(self, parts: Sequence[tuple[Any, Number]], shape: Shape, dtype: torch.dtype) -> Term:
        """The sum of the parts, terms or numbers, each times a number."""
        factors = [factor for _, factor in parts]

        def build(terms: list[Any], shape: Shape) -> Term:
            return self.fit(self._sum(list(zip(terms, factors, strict=True)), shape, dtype), shape)

        return self._each([part for part, _ in parts], shape, build)

    def mul(self, parts: Sequence[tuple[Any, Number]], shape: Shape, dtype: torch.dtype) -> Term:
        """The product of the parts, terms or numbers, each to a power."""
        powers = [power for _, power in parts]

        def build(terms: list[Any], shape: Shape) -> Term:
            return self.fit(self._product(list(zip(terms, powers, strict=True)), shape, dtype), shape)

        return self._each([part for part, _ in parts], shape, build)

    def _sum(self, parts: list[tuple[Any, Number]], shape: Shape, dtype: torch.dtype) -> Term:
        number: Number = 0
        found: dict[Term, Number] = {}

        def collect(part: Any, factor: Number) -> None:
            nonlocal number
            if isinstance(part, Term):
                part = self._view_inside(part, "add")
            if not isinstance(part, Term):
                number = number + part * factor
            elif part.op == "add" and part.dtype == dtype:
                number = number + part.args[0] * factor
                for term, inner in part.args[1]:
                    collect(term, inner * factor)
            else:
                inner, term = self.coefficient(part)
                found[term] = found.get(term, 0) + factor * inner

        for part, factor in parts:
            collect(part, factor)
        entries = tuple(sorted(found.items(), key=lambda entry: entry[0].id))
        if len(entries) == 1 and _number(number) == 0:
            (term, factor) = entries[0]
            return self._product([(term, 1), (factor, 1)], shape, dtype)
        shape = _broadcast([term.shape for term in found])
        return self.make("add", (_number(number), tuple((t, _number(f)) for t, f in entries)), shape, dtype)

    def _view_inside(self, term: Term, op: str) -> Term:
        """A view of a sum or a product as one of views, where each part has its shape."""
        if term.op != "view" or term.args[0].op != op or term.args[0].dtype != term.dtype:
            return term
        (inner,) = term.args
        number, parts = inner.args
        if any(part.shape != inner.shape for part, _ in parts):
            return term
        viewed = tuple(sorted(((self.view(part, term.shape), n) for part, n in parts), key=lambda e: e[0].id))
        return self.make(op, (number, viewed), term.shape, term.dtype)

    def coefficient(self, term: Term) -> tuple[Number, Term]:
        """A term as a number times another."""
        if term.op == "view":
            number, inner = self.coefficient(term.args[0])
            return number, self.view(inner, term.shape)
        if term.op == "mul" and _number(term.args[0]) != 1:
            number, factors = term.args
            return number, self._product(list(factors), term.shape, term.dtype)
        return 1, term

    def _product(self, parts: list[tuple[Any, Number]], shape: Shape, dtype: torch.dtype) -> Term:
        number: Number = 1
        found: dict[tuple[Term, bool, bool], Number] = {}

        def collect(part: Any, power: Number) -> None:
            nonlocal number
            if isinstance(part, Term):
                part = self._view_inside(part, "mul")
            if not isinstance(part, Term):
                number = number * (part**power if part != 0 or power > 0 else math.inf)
                return
            if (
                part.op == "mul"
                and part.dtype == dtype
                and isinstance(power, int)
                and not _is_root(part, power)
            ):
                number = number * part.args[0] ** power
                for term, inner in part.args[1]:
                    collect(term, inner * power)
                return
            if part.op == "add" and isinstance(power, int) and part.args[1]:
                # Of a sum as a factor the first term has the number 1.
                first = part.args[1][0][1]
                if _number(first) not in (0, 1):
                    number = number * first**power
                    scaled = tuple((term, _number(factor / first)) for term, factor in part.args[1])
                    part = self.make("add", (_number(part.args[0] / first), scaled), part.shape, part.dtype)
            if power == -1 and (logistic := self._logistic(part)) is not None:
                part, power = logistic, 1
            # x * (1 / x) is no 1 where x is 0.
            sign = bool(power > 0) if not isinstance(power, sympy.Basic) else True
            whole = isinstance(power, int | sympy.Basic)
            if (part, sign, whole) in found and not whole:
                # sqrt(x) * sqrt(x) is no x where x is negative.
                part, power = self.make("mul", (1, ((part, power),)), part.shape, dtype), 1
                sign = whole = True
            found[part, sign, whole] = found.get((part, sign, whole), 0) + power

        for part, power in parts:
            collect(part, power)
        number = _number(number)
        entries = tuple((t, p) for (t, *_), p in sorted(found.items(), key=lambda e: (e[0][0].id, e[0][1])))
        if not entries:
            return self.make("number", (number,), shape, dtype)
        if len(entries) == 1 and entries[0][1] == 1:
            (term, _) = entries[0]
            if number == 1:
                return term
            if term.op == "add" and term.dtype == dtype:
                scaled = tuple((inner, _number(factor * number)) for inner, factor in term.args[1])
                return self.make("add", (_number(term.args[0] * number), scaled), term.shape, dtype)
        shape = _broadcast([term.shape for term, _ in entries])
        return self.make("mul", (number, entries), shape, dtype)

    def _logistic(self, term: Term) -> Term | None:
        """sigmoid(x), of 1 + exp(-x)."""
        if term.op != "add" or _number(term.args[0]) != 1 or len(term.args[1]) != 1:
            return None
        (exponential, factor) = term.args[1][0]
        if _number(factor) != 1 or exponential.op != "exp":
            return None
        (inner,) = exponential.args
        return self.unary("sigmoid", self._sum([(inner, -1)], inner.shape, inner.dtype), term.dtype)

    def _each(self, operands: Sequence[Any], shape: Shape, build: Callable[[list[Any], Shape], Term]) -> Term:
        """`build` of the operands in the shape that one of them has without views, and the view around it: of several
        such shapes the one with the fewest sizes, whichever the call has."""
        operands = [self._bare(operand, shape) for operand in operands]
        terms = [operand for operand in operands if isinstance(operand, Term)]
        bases = {_base(term).shape for term in terms if term.shape == shape}
        for base in sorted(bases, key=lambda base: (len(base), str(base))):
            kept = _common(base, shape)
            before, after = shape[: len(shape) - kept], base[: len(base) - kept]
            if base != shape and all(_has_prefix(term.shape, before, len(shape), kept) for term in terms):
                operands = [
                    self.view(operand, (*after, *operand.shape[len(shape) - kept :]))
                    if isinstance(operand, Term) and len(operand.shape) == len(shape)
                    else operand
                    for operand in operands
                ]
                return self.view(self.fit(build(operands, base), base), shape)
            if base == shape:
                break
        return self.fit(build(list(operands), shape), shape)

    def _bare(self, operand: Any, shape: Shape) -> Any:
        """An operand without what broadcasting does by itself; a constant tensor as its number."""
        if not isinstance(operand, Term):
            return self.size(operand)
        while operand.op == "expand":
            (operand,) = operand.args
        if operand.op == "number":
            return operand.args[0]
        # Dimensions of size 1 in front, as many as are more than there have to be.
        stripped = _stripped(operand.shape)
        if stripped != operand.shape and len(stripped) < len(shape):
            operand = self.view(operand, stripped)
        return operand

    # Reductions and products

    def reduce(self, op: str, term: Term, dims: Sequence[int], *, keepdim: bool, dtype: torch.dtype) -> Term:
        rank = len(term.shape)
        dims = tuple(sorted(dim % rank for dim in dims)) if dims else tuple(range(rank))
        left = tuple(size for dim, size in enumerate(term.shape) if dim not in dims)
        kept = tuple(1 if dim in dims else size for dim, size in enumerate(term.shape))
        found = self._reduced(op, term, tuple(dim - rank for dim in dims), left, dtype)
        return self.view(found, kept) if keepdim else found

    def _reduced(self, op: str, term: Term, dims: tuple[int, ...], left: Shape, dtype: torch.dtype) -> Term:
        if op == "sum":
            number, core = self.coefficient(term)
            if _number(number) != 1:
                return self._product(
                    [(self._reduced(op, core, dims, left, dtype), 1), (number, 1)], left, dtype
                )
        if term.op == "view":
            (base,) = term.args
            if -min(dims) <= _common(base.shape, term.shape):
                inner = tuple(
                    size for dim, size in enumerate(base.shape) if dim - len(base.shape) not in dims
                )
                return self.view(self._reduced(op, base, dims, inner, dtype), left)
        return self.make(op, (term, dims), left, dtype)

    def matmul(self, op: str, left: Term, right: Term, shape: Shape, dtype: torch.dtype) -> Term:
        """`mm` or `bmm`; numbers in front of the operands go in front of the product."""
        (first, left), (second, right) = self.coefficient(left), self.coefficient(right)
        product = self.make(op, (left, right), shape, dtype)
        return self._product([(product, 1), (first, 1), (second, 1)], shape, dtype)


def parts(term: Term) -> list[Term]:
    """The terms that a term is made of."""
    found: list[Term] = []

    def visit(arg: Any) -> None:
        if isinstance(arg, Term):
            found.append(arg)
        elif isinstance(arg, tuple):
            for each in arg:
                visit(each)

    visit(term.args)
    return found


def shown(term: Any, depth: int = 3) -> str:
    """A term as a person reads it, to a depth."""
    if isinstance(term, tuple):
        return f"({', '.join(shown(each, depth) for each in term)})"
    if not isinstance(term, Term):
        return str(term).removeprefix("torch.")
    if term.op == "leaf":
        return f"<{str(term.dtype).removeprefix('torch.')}{list(term.shape)}>"
    if depth == 0:
        return "..."
    if term.op == "view":
        return shown(term.args[0], depth)
    if term.op == "cast":
        return f"{shown(term.args[0], depth - 1)}.to({str(term.dtype).removeprefix('torch.')})"
    if term.op == "mul":
        number, factors = term.args
        texts = [*([shown(number)] if number != 1 else [])]
        texts += [shown(t, depth - 1) + (f"^{shown(p)}" if p != 1 else "") for t, p in factors]
        return " * ".join(texts)
    if term.op == "add":
        number, summands = term.args
        texts = [(f"{shown(f)} * " if f != 1 else "") + shown(t, depth - 1) for t, f in summands]
        return f"({' + '.join([*texts, *([shown(number)] if number != 0 else [])])})"
    return f"{term.op}({', '.join(shown(arg, depth - 1) for arg in term.args)})"


def _number(value: Number) -> Number:
    """To twelve digits: what is calculated in another order may differ in the last ones."""
    if isinstance(value, float):
        rounded = float(f"{value:.12g}")
        return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded
    if isinstance(value, sympy.Basic):
        if value.is_number and not value.free_symbols:
            return _number(float(value))
        return value.xreplace({each: sympy.Float(f"{float(each):.12g}") for each in value.atoms(sympy.Float)})
    return value


def _key(args: Any) -> Any:
    """What terms with the same arguments have in common; 1, 1.0 and True are not the same."""
    if isinstance(args, tuple | list):
        return tuple(_key(arg) for arg in args)
    if isinstance(args, Term):
        return ("term", args.id)
    return (type(args).__name__, args)


def _order(operand: Any) -> tuple[int, Any]:
    return (0, operand.id) if isinstance(operand, Term) else (1, str(operand))


def _is_root(term: Term, power: int) -> bool:
    """Whether a product has roots that `power` would take away: what is under them might be negative."""
    return any(
        not isinstance(each, int) and isinstance(_number(each * power), int) for _, each in term.args[1]
    )


def _base(term: Term) -> Term:
    return term.args[0] if term.op == "view" else term


def _stripped(shape: Shape) -> Shape:
    at = next((index for index, size in enumerate(shape) if not _is_one(size)), len(shape))
    return shape[at:]


def _is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    rank = max((len(shape) for shape in shapes), default=0)
    sizes: list[Size] = [1] * rank
    for shape in shapes:
        for at, size in enumerate(shape, rank - len(shape)):
            if _is_one(sizes[at]):
                sizes[at] = size
    return tuple(sizes)


def _common(first: Shape, second: Shape) -> int:
    """How many of the last sizes two shapes share."""
    count = 0
    while count < min(len(first), len(second)) and first[-1 - count] == second[-1 - count]:
        count += 1
    return count


def _has_prefix(shape: Shape, prefix: Shape, rank: int, kept: int) -> bool:
    """Whether an operand works along the last `kept` dimensions only, or has all of `prefix` before them."""
    return len(shape) <= kept or (len(shape) == rank and shape[: rank - kept] == prefix)

"""Which term a call of ATen's makes.

    aten.addmm(bias, a, b)      ->   add(bias, mm(a, b))
    aten.silu(x)                ->   x * sigmoid(x)

A call that is not here is a term of its own name and arguments: equal where those are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from tdsl.lower.inductor.compat.names import sympy
from tdsl.replacement.terms import REDUCTIONS, SYMMETRIC, UNARY, Shape, Term, Terms

Made = tuple[Shape, torch.dtype]
_COPIES = frozenset(["clone", "contiguous", "alias", "lift", "lift_fresh", "lift_fresh_copy"])
_COMPARISONS = {
    "lt": ("lt", False),
    "gt": ("lt", True),
    "le": ("le", False),
    "ge": ("le", True),
    "eq": ("eq", False),
    "ne": ("ne", False),
}
# What PyTorch's decompositions call of its primitive operators, where those are as ATen's of that name.
PRIMS = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "neg",
        "exp",
        "log",
        "sqrt",
        "rsqrt",
        "pow",
        "where",
        "sum",
        "prod",
        "amax",
        "amin",
        "var",
        "broadcast_in_dim",
        "convert_element_type",
        "squeeze",
        "maximum",
        "minimum",
        "erf",
        "tanh",
    ]
)
_OTHER_NAMES = {"maximum": "max", "minimum": "min", "special_erf": "erf", "absolute": "abs"}


def term_of(terms: Terms, name: str, args: Sequence[Any], kwargs: dict[str, Any], made: Made) -> Term | None:
    """The term of a call that returns one tensor, of `made`; None if the call is not known here.

    name: as in 'aten.NAME'. The arguments are terms, numbers, and what else there is.
    """
    shape, dtype = made
    name = _OTHER_NAMES.get(name, name)

    def promoted(value: Any, to: torch.dtype = dtype) -> Any:
        return terms.cast(value, to) if isinstance(value, Term) else value

    if name in _COPIES:
        return terms.cast(args[0], dtype)
    if name == "detach":
        return terms.detached(args[0])
    if name in UNARY and len(args) == 1 and not kwargs:
        operand = args[0] if dtype == torch.bool else promoted(args[0])
        return terms.unary(name, operand, dtype)
    if name in _COMPARISONS:
        op, swapped = _COMPARISONS[name]
        operands = [promoted(arg, _common(args)) for arg in args[:2]]
        return terms.pointwise(op, operands[::-1] if swapped else operands, shape, dtype)
    if name in SYMMETRIC and len(args) == 2 and not isinstance(args[1], tuple):
        return terms.pointwise(name, [promoted(arg) for arg in args], shape, dtype)
    match name:
        case "add" | "sub" | "rsub":
            first, second = promoted(args[0]), promoted(args[1])
            if name == "rsub":
                first, second = second, first
            alpha = args[2] if len(args) > 2 else kwargs.get("alpha", 1)
            one, other = 1, alpha if name == "add" else -alpha
            return terms.add([(first, one), (second, other)], shape, dtype)
        case "mul" if dtype != torch.bool:
            return terms.mul([(promoted(args[0]), 1), (promoted(args[1]), 1)], shape, dtype)
        case "div" if dtype.is_floating_point and kwargs.get("rounding_mode") is None:
            return terms.mul([(promoted(args[0]), 1), (promoted(args[1]), -1)], shape, dtype)
        case "neg":
            return terms.mul([(args[0], 1), (-1, 1)], shape, dtype)
        case "square":
            return terms.mul([(args[0], 2)], shape, dtype)
        case "sqrt":
            return terms.mul([(promoted(args[0]), 0.5)], shape, dtype)
        case "rsqrt":
            return terms.mul([(promoted(args[0]), -0.5)], shape, dtype)
        case "reciprocal":
            return terms.mul([(promoted(args[0]), -1)], shape, dtype)
        case "pow" if isinstance(args[0], Term) and isinstance(args[1], int | float):
            power = int(args[1]) if float(args[1]).is_integer() else float(args[1])
            if power == 0 or not math.isfinite(power):
                return None
            return terms.mul([(promoted(args[0]), power)], shape, dtype)
        case "pow" | "fmod" | "remainder" | "atan2":
            return terms.pointwise(name, [promoted(arg) for arg in args[:2]], shape, dtype)
        case "addcmul":
            value = kwargs.get("value", 1)
            product = terms.mul([(promoted(args[1]), 1), (promoted(args[2]), 1)], shape, dtype)
            return terms.add([(promoted(args[0]), 1), (product, value)], shape, dtype)
        case "silu":
            return terms.mul([(args[0], 1), (terms.unary("sigmoid", args[0], dtype), 1)], shape, dtype)
        case "gelu":
            return _gelu(terms, args[0], kwargs.get("approximate", "none"), shape, dtype)
        case "clamp_min" | "clamp_max":
            return terms.pointwise(name, [promoted(arg) for arg in args[:2]], shape, dtype)
        case "clamp":
            low, high = (*args[1:], None, None)[:2]
            low, high = kwargs.get("min", low), kwargs.get("max", high)
            found: Term = promoted(args[0])
            for op, bound in (("clamp_min", low), ("clamp_max", high)):
                if bound is not None:
                    found = terms.pointwise(op, [found, promoted(bound)], shape, dtype)
            return found
        case "where" if len(args) == 3:
            return terms.pointwise("where", [args[0], promoted(args[1]), promoted(args[2])], shape, dtype)
        case "masked_fill":
            return terms.pointwise("where", [args[1], promoted(args[2]), promoted(args[0])], shape, dtype)
        case "_to_copy" | "to" | "convert_element_type":
            return terms.cast(args[0], dtype)
        case "_reshape_alias" | "view" | "_unsafe_view" | "reshape" | "unsqueeze" | "squeeze" | "flatten":
            # `view` of another dtype reads the same bits.
            return terms.view(args[0], shape) if args[0].dtype == dtype else None
        case "broadcast_in_dim":
            ones = [1] * len(shape)
            for at, dim in enumerate(args[2]):
                ones[dim] = args[0].shape[at]
            return terms.fit(terms.view(args[0], tuple(ones)), shape)
        case "var" if len(args) > 2 and isinstance(args[2], int | float) and args[0].shape:
            return _var(terms, args[0], args[1], args[2], made)
        case "expand":
            return terms.fit(args[0], shape)
        case "permute":
            return terms.permute(args[0], args[1])
        case "t":
            return terms.permute(args[0], (1, 0)[: len(shape)] if len(shape) == 2 else (0,) * len(shape))
        case "transpose" if len(shape) > 1:
            order = list(range(len(shape)))
            first, second = args[1] % len(shape), args[2] % len(shape)
            order[first], order[second] = order[second], order[first]
            return terms.permute(args[0], order)
        case "slice" if len(args) < 5 or args[4] == 1:
            dim, start = (*args[1:3], 0, None)[:2] if len(args) > 2 else (*args[1:2], 0, None)[:2]
            return _slice(terms, args[0], dim, start or 0, made)
        case "narrow":
            return _slice(terms, args[0], args[1], args[2], made)
        case "select":
            dim = args[1] % len(args[0].shape)
            kept = (*shape[:dim], 1, *shape[dim:])
            return terms.view(_slice(terms, args[0], dim, args[2], (kept, dtype)), shape)
        case "cat":
            dim = args[1] if len(args) > 1 else 0
            cast = tuple(promoted(each) for each in args[0])
            return terms.make("cat", (cast, dim % len(shape) - len(shape)), shape, dtype)
        case "full" | "scalar_tensor" | "zeros" | "ones" if kwargs.get("layout") in (None, torch.strided):
            value = {"full": args[-1], "scalar_tensor": args[0], "zeros": 0, "ones": 1}[name]
            return terms.make("number", (terms.size(value),), shape, dtype)
        case "full_like" | "zeros_like" | "ones_like":
            value = args[1] if name == "full_like" else int(name == "ones_like")
            return terms.make("number", (terms.size(value),), shape, dtype)
        case "mean":
            return _mean(terms, args, kwargs, made)
        case "embedding" if args[2] < 0 and not any(args[3:5]):  # else its gradient is another
            return terms.make("index", (args[0], (args[1],)), shape, dtype)
        case "mm" | "bmm":
            return terms.matmul(name, args[0], args[1], shape, dtype)
        case "addmm" | "baddbmm":
            product = terms.matmul("mm" if name == "addmm" else "bmm", args[1], args[2], shape, dtype)
            beta, alpha = kwargs.get("beta", 1), kwargs.get("alpha", 1)
            return terms.add([(args[0], beta), (product, alpha)], shape, dtype)
    op = {"max": "amax", "min": "amin"}.get(name, name)
    if op in REDUCTIONS and not (op in ("amax", "amin") and len(args) > 1 and name != op):
        dims = args[1] if len(args) > 1 else kwargs.get("dim")
        dims = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
        keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
        operand = args[0] if op in ("amax", "amin", "any", "all") else promoted(args[0])
        return terms.reduce(op, operand, dims, keepdim=keepdim, dtype=dtype) if operand.shape else None
    return None


def part_of(terms: Terms, name: str, args: Sequence[Any], item: int, made: Made) -> Term | None:
    """The term of one result of a call that cuts a tensor to pieces."""
    shape, dtype = made
    match name:
        case "split":
            dim = args[2] if len(args) > 2 else 0
            return _slice(terms, args[0], dim, args[1] * item, made)
        case "split_with_sizes":
            dim = args[2] if len(args) > 2 else 0
            return _slice(terms, args[0], dim, sum(args[1][:item]), made)
        case "unbind":
            dim = (args[1] if len(args) > 1 else 0) % len(args[0].shape)
            kept = (*shape[:dim], 1, *shape[dim:])
            return terms.view(_slice(terms, args[0], dim, item, (kept, dtype)), shape)
    return None


def _slice(terms: Terms, term: Term, dim: int, start: Any, made: Made) -> Term:
    """The elements from `start` on, as many as `made` has."""
    shape, dtype = made
    if term.shape == shape:
        return term
    rank = len(shape)
    dim = dim % rank
    if isinstance(start, int) and start < 0:
        start = terms.size(start + term.shape[dim])
    return terms.make("slice", (term, dim - rank, terms.size(start), shape[dim]), shape, dtype)


def _gelu(terms: Terms, x: Term, approximate: str, shape: Shape, dtype: torch.dtype) -> Term:
    if approximate == "none":
        inner = terms.mul([(x, 1), (math.sqrt(0.5), 1)], shape, dtype)
        curve = terms.unary("erf", inner, dtype)
    else:
        cube = terms.mul([(x, 3)], shape, dtype)
        inner = terms.add([(x, 1), (cube, 0.044715)], shape, dtype)
        curve = terms.unary("tanh", terms.mul([(inner, 1), (math.sqrt(2 / math.pi), 1)], shape, dtype), dtype)
    return terms.mul([(x, 1), (terms.add([(curve, 1), (1, 1)], shape, dtype), 1), (0.5, 1)], shape, dtype)


def _mean(terms: Terms, args: Sequence[Any], kwargs: dict[str, Any], made: Made) -> Term | None:
    shape, dtype = made
    operand = terms.cast(args[0], dtype)
    if not operand.shape:
        return None
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    dims = tuple(range(len(operand.shape))) if dims is None or dims == () else tuple(dims)
    keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
    total = terms.reduce("sum", operand, dims, keepdim=keepdim, dtype=dtype)
    count: Any = 1
    for dim in dims:
        count = count * operand.shape[dim]
    return terms.mul([(total, 1), (count, -1)], shape, dtype)


def _var(terms: Terms, x: Term, dims: Sequence[int], correction: float, made: Made) -> Term:
    shape, dtype = made
    count: Any = 1
    for dim in dims:
        count = count * x.shape[dim]
    total = terms.reduce("sum", x, dims, keepdim=True, dtype=dtype)
    mean = terms.mul([(total, 1), (count, -1)], total.shape, dtype)
    centred = terms.add([(x, 1), (mean, -1)], x.shape, dtype)
    squares = terms.mul([(centred, 2)], x.shape, dtype)
    found = terms.reduce("sum", squares, dims, keepdim=False, dtype=dtype)
    return terms.mul([(found, 1), (count - correction, -1)], shape, dtype)


def _common(args: Sequence[Any]) -> torch.dtype:
    """The dtype in which two operands are compared."""
    found: list[Any] = []
    for arg in args[:2]:
        if isinstance(arg, Term):
            found.append(torch.empty((1,) if arg.shape else (), dtype=arg.dtype, device="meta"))
        elif isinstance(arg, sympy.Basic):
            found.append(1 if arg.is_integer else 1.0)
        else:
            found.append(arg)
    return torch.result_type(*found)

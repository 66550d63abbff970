"""An index or a number that meets an integer tile is what it is; what comes out wraps in the tile's dtype."""

from __future__ import annotations

import torch

import tdsl

NUMBERS = {
    "i64(v + {p})": lambda v, p, wrapped: wrapped(v + p),
    "i64({p} - v)": lambda v, p, wrapped: wrapped(p - v),
    "i64(v * {p})": lambda v, p, wrapped: wrapped(v * p),
    "i64(v & {p})": lambda v, p, wrapped: wrapped(v & p),
    "i64(v | {p})": lambda v, p, wrapped: wrapped(v | p),
    "i64({p} ^ v)": lambda v, p, wrapped: wrapped(v ^ p),
    "i64(minimum(v, {p}))": lambda v, p, wrapped: wrapped(min(v, p)),
    "i64(maximum({p}, v))": lambda v, p, wrapped: wrapped(max(v, p)),
    "i64(where(v > 0, v, {p}))": lambda v, p, wrapped: wrapped(v if v > 0 else p),
    "i64(v < {p})": lambda v, p, wrapped: v < p,
    "i64({p} <= v)": lambda v, p, wrapped: p <= v,
    "i64(v == {p})": lambda v, p, wrapped: v == p,
    "i64(v // {p})": lambda v, p, wrapped: wrapped(v // p),
    "i64(v % {p})": lambda v, p, wrapped: wrapped(v % p),
    "i64({p} // (v | 1))": lambda v, p, wrapped: wrapped(p // (v | 1)),
    "i64({p} % (v | 1))": lambda v, p, wrapped: wrapped(p % (v | 1)),
    "i64(cdiv(v, {p}))": lambda v, p, wrapped: wrapped(-(-v // p)),
    "i64(v + ({p} + 1) > 0)": lambda v, p, wrapped: wrapped(v + p + 1) > 0,
    "i64(abs(v) // 3)": lambda v, p, wrapped: wrapped(abs(v)) // 3,
    "i64(-v)": lambda v, p, wrapped: wrapped(-v),
    "i64(maximum(v, 0) * maximum(v, 1) // 3)": lambda v, p, wrapped: wrapped(max(v, 0) * max(v, 1)) // 3,
}
HELD = {"u8": (0, 255), "i8": (-128, 127), "i16": (-(2**15), 2**15 - 1), "i32": (-(2**31), 2**31 - 1)}
FORMS = {"number": "({p})", "parameter": "p", "index": "(p + r)"}


def of_numbers(dtype: str, form: str, p: int) -> str:
    """A template with all of them: each times a power of three, so that the sum tells which one differs."""
    text = FORMS[form].format(p=p)
    total = " + ".join(f"{3**at} * {term.format(p=text)}" for at, term in enumerate(NUMBERS))
    return f"""
template {dtype}_{form}_{abs(p)}(x: {dtype}[M], p: int) -> y: i64[M]:
    for m in grid(M by 16):
        v = load x[m]
        r = m - m
        store y[m] = {total} + (p + r) * 0
"""


def check_numbers(dtype: str, form: str, device: str, *, dynamic: bool) -> None:
    least, most = HELD[dtype]
    held = [least, least + 1, -7, -1, 0, 1, 5, 100, most - 1, most]
    held = [number for number in held if least <= number <= most]
    x = torch.tensor(held, device=device).to(getattr(torch, {"u": "uint", "i": "int"}[dtype[0]] + dtype[1:]))
    for p in (-5, -1, 300, 2**31, -(2**31) - 1, 5 * 10**9):

        def numbers(x, p):
            return x.new_empty(x.shape, dtype=torch.int64)

        def wrapped(number):
            return (number - least) % (most - least + 1) + least

        function = tdsl.template(source=of_numbers(dtype, form, p), name=f"{dtype}_{form}_{abs(p)}")(numbers)
        got = torch.compile(lambda x, p: function(x, p) + 0, dynamic=dynamic)(x, p)  # noqa: B023
        for v, number in zip(held, got.tolist(), strict=True):
            terms = [3**at * int(f(v, p, wrapped)) for at, f in enumerate(NUMBERS.values())]
            assert number == sum(terms), (p, v)

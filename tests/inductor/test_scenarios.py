"""Programs around templates, and how many kernels each may be: one row per program, with static and dynamic sizes.

    Row("bias", lambda t, a, b, c: torch.relu(t.mm(a, b)) * c, lambda m, k, n: (f(m, k), f(k, n), f(n)))

A row's sizes are ragged. Each program is compared with PyTorch; it runs with static sizes, with a dynamic `m`, and with
every size dynamic, and in the last two what was compiled for one size must serve the others.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._inductor import config as inductor_config

import tdsl
from tdsl import testing
from tdsl.testing import assert_fused, assert_same_bits, copy_arguments, load_module

DEVICE = testing.device()
t = load_module(Path(__file__).with_name("templates.py"))
NOFUSE = re.sub(
    r"(load \w+\[[\w, ]*\])", r"\1 nofuse", re.sub(r"(store .*) = (.*)", r"\1 = (\2) nofuse", t.TEXT)
)
apart = SimpleNamespace(
    **{
        name: tdsl.template(source=NOFUSE, name=name)(getattr(t, name).reference)
        for name in ("mm", "ew", "rn", "sm", "ln")
    }
)


@dataclass(frozen=True)
class Row:
    """`program(templates, *inputs(m, k, n))` is compiled to `kernels`: that many, or None for any number.

    close: to the last bit of PyTorch ("exact"), of the same program with all kept apart ("bits"), or as near to
        float64 as PyTorch is ("near").
    dynamic: how many kernels with dynamic sizes, where that is not the same; "never" where sizes are fixed.
    whole: the template has `whole(N)`, so `n` stays: its block is as long, and known when it is compiled.
    quick: its dynamic variants are run by default.
    """

    name: str
    program: Callable[..., Any]
    inputs: Callable[..., tuple[Any, ...]]
    kernels: int | None = 1
    close: str = "near"
    dynamic: int | str | None = "same"
    whole: bool = False
    quick: bool = False


def f(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype).to(DEVICE)


def i(*shape, low=-9, high=9, dtype=torch.int64):
    return torch.randint(low, high, shape).to(dtype).to(DEVICE)


def ab(m, k, n):
    return f(m, k), f(k, n)


def abr(m, k, n):
    return f(m, k), f(k, n), f(m, n)


def abc(m, k, n):
    return f(m, k), f(k, n), f(n)


def halves(dtype):
    return lambda m, k, n: (
        f(m, k, dtype=dtype),
        f(k, n, dtype=dtype),
        f(n, dtype=dtype),
        f(m, n, dtype=dtype),
    )


def square(m, k, n):
    return (f(m, m),)


def two(m, k, n):
    return f(m, n), f(m, n)


def xw(m, k, n):
    return f(m, 3, n), f(n)


def arange(n, x):
    return torch.arange(n, device=x.device)


def founding(t, a, b, c):
    return torch.relu(t.mm(a, torch.sigmoid(b))) * c


# Epilogues


def chained(t, a, b, r):
    return torch.sin(torch.tanh(torch.relu(t.mm(a, b)) * 2) + r)


def consumers(*functions):
    def program(t, a, b):
        c = t.mm(a, b)
        return tuple(function(c) for function in functions)

    return program


def chain(t, a, b, r):
    c = t.mm(a, b)
    d = torch.relu(c)
    e = d * r
    return d, e, torch.sin(e + 1)


def after(function):
    return lambda t, a, b: function(t.mm(a, b))


def extra(t, a, b, e):
    return t.mm(a, b) * e + 1


def indices(t, a, b):
    c = t.mm(a, b)
    m, n = c.shape
    odd = (arange(m, c)[:, None] + arange(n, c)) % 2 == 0
    return c + arange(n, c), torch.triu(c), torch.where(odd, c, 0.0)


def special(m, k, n):
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1.0, -2.5])
    x = values[torch.arange(m * n).view(m, n) % 7]
    return x.to(DEVICE), values[torch.arange(m * n).view(m, n) // 7 % 7].to(DEVICE)


def through(function):
    def program(t, x, y):
        one = torch.ones_like(x)
        return function(t.ew(x, one), y)

    return program


EPILOGUES = [
    Row("founding", founding, abc, quick=True),
    *(
        Row(f"founding {dtype}", lambda t, a, b, c, r: founding(t, a, b, c), halves(dtype))
        for dtype in (torch.bfloat16, torch.float16)
    ),
    Row("relu and bias", lambda t, a, b, c: torch.relu(t.mm(a, b)) * c, abc),
    Row(
        "gelu, bias and residual",
        lambda t, a, b, c, r: F.gelu(t.mm(a, b) + c) + r,
        halves(torch.float32),
        quick=True,
    ),
    Row("four chained", chained, abr),
    Row("two consumers", consumers(lambda c: torch.relu(c) + 1, torch.sigmoid), ab),
    Row("three consumers", consumers(torch.relu, torch.sigmoid, torch.neg), ab),
    Row("five consumers", consumers(torch.relu, torch.sigmoid, lambda c: c + 1, torch.square, torch.neg), ab),
    Row("chain of outputs", chain, abr, quick=True),
    Row("raw output kept", consumers(lambda c: c, torch.relu), ab),
    Row("matmul of the output", consumers(torch.relu, lambda c: c @ c.T), ab),
    Row("output read twice", after(lambda c: torch.relu(c) + c), ab),
    Row("reads an input", lambda t, s: t.mm(s, s) + s, square),
    Row("row", extra, abc),
    Row("column", extra, lambda m, k, n: (*ab(m, k, n), f(m, 1)), quick=True),
    Row("one element", extra, lambda m, k, n: (*ab(m, k, n), f(1, 1))),
    Row("no dimension", extra, lambda m, k, n: (*ab(m, k, n), f())),
    Row("transposed extra", extra, lambda m, k, n: (*ab(m, k, n), f(n, m).T)),
    Row("strided extra", extra, lambda m, k, n: (*ab(m, k, n), f(m, 2 * n)[:, ::2])),
    Row(
        "mask",
        lambda t, a, b, m: torch.where(m, t.mm(a, b), -1.0),
        lambda m, k, n: (*ab(m, k, n), f(m, n) > 0.5),
    ),
    Row("indices", indices, ab, quick=True),
    Row(
        "view",
        after(lambda c: torch.relu(c.view(-1, 2, c.shape[1])) * arange(2, c)[:, None]),
        lambda m, k, n: ab(2 * m, k, n),
        quick=True,
    ),
    Row(
        "view of rows and columns",
        after(lambda c: c.view(2, c.shape[0] // 2, 3, c.shape[1] // 3) * arange(3, c)[:, None]),
        lambda m, k, n: ab(2 * m, k, 3 * n),
    ),
    Row("flat", after(lambda c: torch.relu(c.view(-1)) + arange(c.numel(), c)), ab),
    Row("unsqueeze", after(lambda c: torch.relu(c.unsqueeze(1)) + 1), ab),
    Row("transposed", after(lambda c: torch.relu(c.T).contiguous()), ab, quick=True),
    Row("transposed and not", after(lambda c: (torch.relu(c.T).contiguous(), c + 1)), ab),
    Row("transposed view", after(lambda c: torch.relu(c.T) + 1), ab),
    Row("in place on the output", after(lambda c: c.relu_().add_(1)), ab),
    Row("in place into a clone", lambda t, a, b, q: q.clone().add_(t.mm(a, b)), abr),
    Row(
        "bf16 to f32",
        lambda t, a, b, c, r: (t.mm(a, b).float() * 2, t.ew(r, r).float() - 1),
        halves(torch.bfloat16),
        kernels=2,
    ),
    Row(
        "f16 to f32",
        lambda t, a, b, c, r: (t.mm(a, b).float() * 2, t.ew(r, r).float() - 1),
        halves(torch.float16),
        kernels=2,
    ),
    Row(
        "f64",
        lambda t, a, b: torch.exp(t.ew(a, b).abs().sqrt()) / 3,
        lambda m, k, n: (f(m, n, dtype=torch.float64), f(m, n, dtype=torch.float64)),
    ),
    Row(
        "i64",
        lambda t, a, b: t.ew(a, b) * 2 + 1,
        lambda m, k, n: (i(m, n), i(m, n, low=2**40, high=2**41)),
        close="exact",
    ),
    Row(
        "i32",
        lambda t, a, b: t.ew(a * 3, b - 1) // 2,
        lambda m, k, n: (i(m, n, dtype=torch.int32), i(m, n, dtype=torch.int32)),
        close="exact",
    ),
    Row(
        "comparison",
        lambda t, a, b: t.ew(a, b) > 0.5,
        lambda m, k, n: (i(m, n).float(), f(m, n)),
        close="exact",
    ),
    Row("bool output", lambda t, a, b: ~t.less(a, b), two, close="exact"),
    Row("relu of special values", through(lambda c, y: torch.relu(c)), special, close="bits"),
    Row("maximum of special values", through(torch.maximum), special, close="bits"),
    Row("minimum of special values", through(torch.minimum), special, close="bits"),
    *(
        Row(f"rounded to {dtype}", rounded, halves(dtype), close="bits")
        for dtype in (torch.bfloat16, torch.float16)
        for rounded in [lambda t, a, b, c, r: (lambda y: (y * c + r, torch.relu(y) - y * 0.5))(t.mm(a, b))]
    ),
    # Not pointwise: the template, and what PyTorch needs for the rest.
    Row("sum", after(lambda c: c.sum(-1)), ab, kernels=2),
    Row("softmax", after(lambda c: torch.softmax(c, -1)), ab, kernels=2),
    Row("argmax", after(lambda c: c.argmax(-1)), ab, kernels=2),
    Row("pad", after(lambda c: F.pad(c, (1, 2))), ab, kernels=2),
    Row("cat", after(lambda c: torch.cat([c, c * 2])), ab, kernels=2),
    Row("slice", after(lambda c: c[3:5] + 1), ab, kernels=2, dynamic="never"),
    Row("gather", after(lambda c: c[torch.tensor([1, 3, 2], device=c.device)]), ab, kernels=2),
    Row("c + c.T", lambda t, s: (lambda c: c + c.T)(t.mm(s, s)), square, kernels=2),
]

# Prologues


def before(left=lambda x: x, right=lambda x: x):
    return lambda t, a, b: t.mm(left(a), right(b))


FUNCTIONS = {
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "plus 4": lambda x: x + 4,
    "root": lambda x: x.abs().sqrt(),
    "where": lambda x: torch.where(x > 0, x, 1.0),
}


def fp8(m, k, n):
    return f(m, k), f(k, n).to(torch.float8_e4m3fn), f(n)


PROLOGUES = [
    *(Row(f"{name} of a", before(left=function), ab) for name, function in FUNCTIONS.items()),
    *(Row(f"{name} of b", before(right=function), ab) for name, function in FUNCTIONS.items()),
    *(
        Row(f"{name} of both", before(function, function), ab, quick=name == "exp")
        for name, function in FUNCTIONS.items()
    ),
    Row("cast up", before(left=torch.Tensor.float), lambda m, k, n: (f(m, k, dtype=torch.bfloat16), f(k, n))),
    Row("cast down", before(torch.Tensor.bfloat16, torch.Tensor.bfloat16), ab),
    Row("two sources", lambda t, a, s, b: t.mm(a * s, b), lambda m, k, n: (f(m, k), f(k), f(k, n))),
    Row(
        "three sources",
        lambda t, a, s, u, b: t.mm(a * s + u, b),
        lambda m, k, n: (f(m, k), f(m, 1), f(k), f(k, n)),
        quick=True,
    ),
    Row("two full sources", lambda t, y, z, b: t.mm(y + z, b), lambda m, k, n: (f(m, k), f(m, k), f(k, n))),
    Row(
        "int8 weights",
        lambda t, a, q, s: t.mm(a, q.float() * s),
        lambda m, k, n: (f(m, k), i(k, n, low=-128, high=128, dtype=torch.int8), f(n)),
        quick=True,
    ),
    Row(
        "int8 weights to bf16",
        lambda t, a, q, s: t.mm(a, q.bfloat16() * s),
        lambda m, k, n: (
            f(m, k, dtype=torch.bfloat16),
            i(k, n, low=-128, high=128, dtype=torch.int8),
            f(n, dtype=torch.bfloat16),
        ),
    ),
    Row("fp8 weights", lambda t, a, q, s: t.mm(a, q.float() * s), fp8),
    Row("flip", before(left=lambda a: a.flip(0)), ab, quick=True),
    Row("flip and bias", lambda t, a, c, b: t.mm(a.flip(0) + c, b), lambda m, k, n: (f(m, k), f(k), f(k, n))),
    Row("bias", lambda t, a, c, b: t.mm(a + c, b), lambda m, k, n: (f(m, k), f(k), f(k, n))),
    Row(
        "rows by index",
        lambda t, a, p, b: t.mm(a[p], b),
        lambda m, k, n: (f(m + 3, k), torch.randint(0, m + 3, (m,)).to(DEVICE), f(k, n)),
    ),
    Row("columns by index", before(left=lambda a: a[:, arange(a.shape[1], a).flip(0)]), ab),
    Row("times an index", before(left=lambda a: a * arange(a.shape[1], a)), ab),
    Row("transposed input", lambda t, a, b: t.mm(a.T, b.T), lambda m, k, n: (f(k, m), f(n, k))),
    Row(
        "transposed input, computed with",
        lambda t, a, b: t.mm(torch.sigmoid(a.T), torch.exp(b.T)),
        lambda m, k, n: (f(k, m), f(n, k)),
        quick=True,
    ),
    Row(
        "every second row",
        lambda t, a, b: t.mm(torch.sigmoid(a[::2]), b),
        lambda m, k, n: (f(2 * m, k), f(k, n)),
    ),
    Row(
        "offset view",
        lambda t, a, b: t.mm(torch.sigmoid(a[1:, 2:]), b),
        lambda m, k, n: (f(m + 1, k + 2), f(k, n)),
    ),
    Row(
        "offset views",
        lambda t, a, b: t.mm(a[:, 1:], b[1:]) + 1,
        lambda m, k, n: (f(m, k + 1), f(k + 1, n)),
        quick=True,
    ),
    Row(
        "expanded rows",
        lambda t, a, b: t.mm(torch.sigmoid(a.expand(b.shape[1], -1)), b),
        lambda m, k, n: (f(1, k), f(k, n)),
    ),
    Row(
        "computed, then a view of rows and columns",
        before(left=lambda a: (a.view(-1, 2, a.shape[1]) * (arange(2, a) + 1)[:, None]).view(a.shape)),
        lambda m, k, n: ab(2 * m, k, n),
    ),
    Row(
        "computed, then transposed",
        lambda t, a, b: t.mm(a, torch.sigmoid(b.T.contiguous()).T),
        ab,
        quick=True,
    ),
    Row("computed, then sliced", before(left=lambda a: torch.sigmoid(a)[1:]), ab),
    Row("computed, then strided", before(left=lambda a: torch.sigmoid(a)[::2]), ab),
    Row("computed, then expanded", before(left=lambda a: torch.sigmoid(a)[:1].expand_as(a)), ab, kernels=2),
    *(
        Row(
            f"input: {name}",
            lambda t, a, b, c, view=view: founding(t, view(a), b, c),
            lambda m, k, n, make=make: (make(m, k), f(k, n), f(n)),
            dynamic="same" if name in ("columns", "transposed") else "never",
        )
        for name, view, make in (
            ("transposed", lambda a: a.T, lambda m, k: f(k, m)),
            ("columns", lambda a: a[:, ::2], lambda m, k: f(m, 2 * k)),
            ("middle", lambda a: a, lambda m, k: f(m + 9, k + 7)[7 : m + 7, 5 : k + 5]),
            ("one row", lambda a: a, lambda m, k: f(1, k).expand(m, k)),
            ("one column", lambda a: a, lambda m, k: f(m, 1).expand(m, k)),
            ("strides", lambda a: a, lambda m, k: f(3000).as_strided((m, k), (13, 2), 17)),
        )
    ),
    Row("one producer for both", lambda t, s: (lambda z: t.mm(z, z))(torch.sigmoid(s)), square),
    Row(
        "one producer, transposed",
        lambda t, s: (lambda z: t.mm(z, z.T))(torch.sigmoid(s)),
        square,
        kernels=None,
    ),
    Row("one tensor for both", lambda t, s: t.mm(s, s), square),
    Row("one tensor, transposed", lambda t, a: t.mm(a, a.T), lambda m, k, n: (f(m, k),)),
    Row(
        "producer returned too", lambda t, a, b: (lambda z: (t.mm(z, b), z))(torch.sigmoid(a)), ab, kernels=2
    ),
    Row(
        "two load points",
        lambda t, x, w: t.rn_looped(torch.exp(x), w, 1e-5),
        lambda m, k, n: (f(m, n), f(n)),
        quick=True,
    ),
    Row("rms norm", lambda t, x, w: t.rn(x * 2 + 1, torch.exp(w), 1e-5) * 3, xw, whole=True),
    Row("softmax", lambda t, x: t.sm(x + 1) * 2, lambda m, k, n: (f(m, n),), whole=True),
    Row(
        "embedding",
        lambda t, p, e: torch.relu(t.embed(p % 7, e * 2)),
        lambda m, k, n: (i(m, low=0, high=30), f(30, n)),
    ),
]

# Several outputs, several templates


def each(t, x, w):
    y, mean, rstd = t.ln(torch.tanh(x), w, w, 1e-5)
    return torch.relu(y) + x, mean * 2, torch.exp(rstd)


def unused(t, x, w):
    t.ln(x, w, None, 1e-5)
    return x + 1


def both_outputs(t, x, w):
    y, mean, rstd = t.ln(x, w, None, 1e-5)
    return y / rstd[..., None] + mean[..., None], mean + rstd


def behind_different(t, x, w):
    y, mean, rstd = t.ln(x, w, None, 1e-5)
    return (torch.relu(y) + 1) * torch.exp(rstd)[..., None] + (mean * 2)[..., None]


def chains(t, x, w):
    y, mean, _ = t.ln(x, w, None, 1e-5)
    d = torch.relu(y)
    e = d * x
    return d, torch.sin(e + 1), mean + 1, (mean + 1) * 2


def flat(t, x):
    y, z = t.both(x)
    return torch.relu(y) + 1, torch.exp(z) * 2


def nested(t, x, w):
    y, mean, rstd = t.ln(x, w, None, 1e-5)
    return [y, (mean, None, {"r": rstd})]


def several_calls(t, a, b):
    return t.ew(a, b) + 1, t.ew(a, b).relu(), arange(a.shape[1], a) * t.ew(a, b)


OUTPUTS = [
    Row("an epilogue on each output", each, xw, whole=True, quick=True),
    *(
        Row(
            f"only output {which}",
            lambda t, x, w, which=which: t.ln(x, w, None, 1e-5)[which] * 2,
            xw,
            whole=True,
        )
        for which in range(3)
    ),
    Row("no output used", unused, xw, whole=True),  # the one kernel is that of x + 1
    Row(
        "outputs of different rank",
        lambda t, x, w: tuple(o * 2 for o in t.ln(x, w, None, 1e-5)),
        xw,
        whole=True,
    ),
    Row("outputs (M, N) and (M * N,)", flat, lambda m, k, n: (f(m, n),), quick=True),
    Row(
        "reads two outputs",
        lambda t, x, w: (lambda y, _, r: y / r[..., None])(*t.ln(x, w, None, 1e-5)),
        xw,
        whole=True,
    ),
    Row("reads two outputs twice", both_outputs, xw, whole=True, quick=True),
    Row("reads what is behind different outputs", behind_different, xw, whole=True),
    Row(
        "reads an output along another axis",
        lambda t, x, w: (lambda y, mean, r: y / r[None, :] + mean.flip(0)[:, None])(*t.ln(x, w, None, 1e-5)),
        lambda m, k, n: (f(n, n), f(n)),
        kernels=2,
        whole=True,
    ),
    Row("chains behind several outputs", chains, xw, whole=True),
    Row("outputs nested", nested, xw, whole=True),
    Row(
        "two matmuls",
        lambda t, a, b, d: t.mm(torch.relu(t.mm(a, b)), d),
        lambda m, k, n: (f(m, k), f(k, n), f(n, k)),
        kernels=2,
    ),
    Row(
        "a norm, then a matmul",
        lambda t, x, w, b: t.mm(t.rn(x, w, 1e-5) * 2, b),
        lambda m, k, n: (f(m, n), f(n), f(n, k)),
        whole=True,
        kernels=2,
        quick=True,
    ),
    Row(
        "one template, two shapes",
        lambda t, a, b, c: (t.mm(a, b) + 1, t.mm(a, torch.exp(c))),
        lambda m, k, n: (f(m, k), f(k, n), f(k, n + 3)),
        kernels=2,
    ),
    Row(
        "twice, same shapes",
        lambda t, a, b, c: (t.mm(a, b) + 1, torch.relu(t.mm(c, b))),
        lambda m, k, n: (f(m, k), f(k, n), f(m, k)),
        kernels=2,
    ),
    Row("several calls", several_calls, two, kernels=3),
]

# In place


def temporary(t, a, b):
    x = a * 2
    t.axpy(x, b, 3.0)
    return torch.relu(x) + 1


def argument_read(t, y, x):
    t.axpy(y, torch.exp(x), 2.0)
    return torch.relu(y) + 1, y * x


def read_before(t, y, x):
    before = y + 1
    t.axpy(y, x, 2.0)
    return before, y * 2


def in_place_after(t, y, x):
    t.axpy(y, x, 2.0)
    y.relu_()
    return y + 1


def mutated_twice(t, y, x):
    t.axpy(y, x, 2.0)
    t.axpy(y, x, -1.0)
    return y.sum()


def clone_then_mutate(t, y, x):
    z = y.clone()
    t.axpy(z, x, 2.0)
    return z, y


def two_arguments(t, a, b):
    t.swap(a, b)
    return a - b


def two_temporaries(t, a, b):
    c, d = a * 2, b + 1
    t.swap(c, d)
    return torch.relu(c), d - 1


def of_a_view(view):
    def program(t, base, x):
        t.axpy(view(base), x, 2.0)
        return base * 2

    return program


def view_of_a_temporary(t, a, x):
    base = a.clone()
    t.axpy(base[3:-3], x, 2.0)
    return base, base[1:] + 1


def v(count, *also):
    return lambda m, k, n: (f(count(m)), f(m))


IN_PLACE = [
    Row("temporary", temporary, v(lambda m: m), quick=True),
    Row("argument", lambda t, y, x: t.axpy(y, x, 2.0), v(lambda m: m)),
    Row("argument read after", argument_read, v(lambda m: m), quick=True),
    Row("argument read before", read_before, v(lambda m: m), kernels=None),
    Row("argument changed after", in_place_after, v(lambda m: m)),
    Row("argument changed twice", mutated_twice, v(lambda m: m), kernels=None),
    Row("clone then mutate", clone_then_mutate, v(lambda m: m)),
    Row("two arguments", two_arguments, two),
    Row("two temporaries", two_temporaries, two),
    *(
        Row(f"view: {name}", of_a_view(view), v(size), kernels=None)
        for name, view, size in (
            ("slice", lambda base: base[3:-3], lambda m: m + 6),
            ("every second", lambda base: base[::2], lambda m: 2 * m),
            ("row", lambda base: base.view(2, -1)[1], lambda m: 2 * m),
            ("column", lambda base: base.view(-1, 2)[:, 1], lambda m: 2 * m),
            ("transposed copy", lambda base: base.view(2, -1).T.reshape(-1), lambda m: m + m % 2),
            ("flipped copy", lambda base: base.flip(0), lambda m: m),
        )
        if name != "transposed copy"
    ),
    Row("view of a temporary", view_of_a_temporary, v(lambda m: m + 6), kernels=None),
    Row(
        "overlapping views",
        lambda t, base: (t.axpy(base[:-3], base[3:] * 1, 2.0), base * 2)[1],
        lambda m, k, n: (f(m + 3),),
        kernels=None,
    ),
    Row(
        "base also returned",
        lambda t, base, x: (lambda view: (t.axpy(view, x, 2.0), base, view + 1)[1:])(base[: x.shape[0]]),
        v(lambda m: m + 5),
        kernels=None,
    ),
    Row(
        "one tensor twice",
        lambda t, y: (t.axpy(y, y.clone(), 2.0), y + 1)[1],
        lambda m, k, n: (f(m),),
        kernels=None,
    ),
    Row(
        "transposed argument",
        lambda t, a, b: (t.swap(a, b), a + 1)[1],
        lambda m, k, n: (f(n, m).T, f(m, n)),
        kernels=None,
    ),
]

ROWS = {
    f"{part}: {row.name}": row
    for part, rows in (
        ("epilogue", EPILOGUES),
        ("prologue", PROLOGUES),
        ("outputs", OUTPUTS),
        ("in place", IN_PLACE),
    )
    for row in rows
}
assert len(ROWS) == len(EPILOGUES) + len(PROLOGUES) + len(OUTPUTS) + len(IN_PLACE), "two rows have one name"


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


def check(row: Row, kernels: Any, sizes: list[tuple[int, int, int]], dynamic: bool | None) -> None:
    args, *also = (row.inputs(*size) for size in sizes)
    with inductor_config.patch(shape_padding=False):  # a kernel more or less, by what is timed
        report = assert_fused(
            lambda *args: row.program(t, *args),
            args,
            kernels=kernels,
            exact=row.close == "exact",
            dynamic=dynamic,
            also=also,
        )
    if row.close == "bits":
        unfused = torch.compile(lambda *args: row.program(apart, *args), fullgraph=True, dynamic=dynamic)
        assert_same_bits(report.result, unfused(*copy_arguments(args)))


STATIC = [(37, 41, 45)]
ONLY_M = [(33, 41, 45), (4, 41, 45), (16, 41, 45), (128, 41, 45)]
ALL = [(33, 37, 35), (4, 7, 6), (16, 20, 18), (128, 131, 129)]


@pytest.mark.parametrize("name", ROWS)
def test_static(name):
    row = ROWS[name]
    check(row, row.kernels, STATIC, False)


@pytest.mark.parametrize(
    "name, sizes",
    [
        pytest.param(
            name, sizes, id=f"{name}, {sizes}", marks=[] if row.quick and sizes == "all" else pytest.mark.full
        )
        for name, row in ROWS.items()
        for sizes in ("m", "all")
        if row.dynamic != "never"
    ],
)
def test_dynamic(name, sizes):
    row = ROWS[name]
    kernels = row.kernels if row.dynamic == "same" else row.dynamic
    if sizes == "m":
        check(row, kernels, ONLY_M, None)
    else:
        check(row, kernels, [(m, k, 35 if row.whole else n) for m, k, n in ALL], True)


@pytest.mark.parametrize(
    "m, k, n", [(1, 1, 1), (31, 33, 32), (33, 31, 64), (101, 5, 1), (0, 5, 7), (5, 0, 7), (5, 7, 0)]
)
def test_sizes_of_a_matmul(m, k, n):
    args = f(m, k), f(k, n), f(n)
    assert_fused(lambda a, b, c: founding(t, a, b, c), args, kernels=None if 0 in (m, k, n) else 1)


@pytest.mark.parametrize("r, n", [(1, 1), (3, 31), (4, 64), (5, 63), (5, 65), (0, 7)])
def test_sizes_of_a_norm(r, n):
    args = f(r, n), f(n)
    assert_fused(lambda x, w: each(t, x, w), args, kernels=None if r == 0 else 1)


def test_one_row():
    x, w = (
        torch.arange(40.0, device=DEVICE),
        f(40),
    )  # one number per output: its error is luck, unless the sums are exact
    assert_fused(lambda x, w: t.rn(x, w, 1e-5) + 1, (x, w), kernels=1)
    compiled = torch.compile(lambda x, w: [o * 2 for o in t.ln(x, w, None, 1e-5)], fullgraph=True)
    torch.testing.assert_close(compiled(x, w), [o * 2 for o in t.ln.reference(x, w, None, 1e-5)])


def test_accumulated_outputs():
    # Summed over programs: nothing goes behind it, and a prologue goes before it.
    # Of whole numbers: on a GPU the order of the additions varies.
    assert_fused(lambda x: t.column_sums(torch.floor(x * 8)) + 1, (f(70, 33),), kernels=2)
    assert_fused(lambda x: t.column_sums(x), (f(0, 33),), kernels=None)


@pytest.mark.parametrize("name", ["outputs: chains behind several outputs", "prologue: three sources"])
def test_runs_agree_to_the_last_bit(name):
    """A hundred on a GPU; the interpreter does one thing after the other, always in the same order."""
    row = ROWS[name]
    args = row.inputs(5, 41, 45)
    compiled = torch.compile(lambda *args: row.program(t, *args), fullgraph=True)
    first = compiled(*args)
    for _ in range(99 if torch.cuda.is_available() else 9):
        assert_same_bits(compiled(*args), first)


def test_a_fused_prologue_has_no_memory():
    def program(a, q, s):
        return torch.relu(t.mm(torch.sigmoid(a), q.float() * s))

    report = assert_fused(program, (f(37, 41), i(41, 45, dtype=torch.int8), f(45)), kernels=1)
    (code,) = report.code
    (call,) = re.findall(r"def call\(.*?return", code, re.DOTALL)
    allocated = re.findall(r"empty_strided\w*\((\(.*?\))", call)
    assert allocated == ["(37, 45)"], call


SEEDS = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
import test_scenarios as scenarios
from tdsl.testing import count_kernels
for name in sys.argv[2:]:
    torch._dynamo.reset()
    row = scenarios.ROWS[name]
    compiled = torch.compile(lambda *args: row.program(scenarios.t, *args), fullgraph=True)
    for text in count_kernels(compiled, *row.inputs(*scenarios.STATIC[0])).code:
        print(text[text.index("async_compile"):text.index("def call(")])
"""


@pytest.mark.parametrize("seeds", [2, pytest.param(50, marks=pytest.mark.full)])
def test_the_text_is_the_same_for_every_hash_seed(seeds):
    rows = [
        "prologue: three sources",
        "epilogue: five consumers",
        "outputs: reads what is behind different outputs",
    ]

    def text_of(seed):
        done = subprocess.run(
            [sys.executable, "-c", SEEDS, str(Path(__file__).parent), *rows],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    with ThreadPoolExecutor(os.cpu_count() if seeds > 2 else 1) as pool:
        texts = set(pool.map(text_of, range(seeds)))
    (text,) = texts
    assert text.count("@triton.jit") == len(rows)

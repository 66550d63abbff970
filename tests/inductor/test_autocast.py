"""What a call does under autocast: as it is without a rule, else as PyTorch's operators of that kind."""

from __future__ import annotations

import random
import re
from types import SimpleNamespace

import pytest
import torch

import tdsl
from tdsl import TdslError, operators

MM = """
template mm(A: T[M, K], B: T[K, N]) -> C: T[M, N]
where T in (f16, bf16, f32):
    config BLOCK_M=32, BLOCK_N=32, BLOCK_K=32
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc
"""
SUM = """
template total(x: T[N], y: U[N], scale: f32[N], count: i32[N]) -> z: promote(T, U)[N]
where T in (f8e4m3, f16, bf16, f32, f64), U in (f16, bf16, f32, f64):
    for n in grid(N by 16):
        store z[n] = f32(load x[n]) + f32(load y[n]) * load scale[n] + load count[n]
"""
AXPY = """
template axpy(inout y: T[N], x: T[N]):
    for n in grid(N by 16):
        store y[n] = load y[n] + load x[n]
"""


def mm_of(autocast, **settings):
    @tdsl.template(source=MM, autocast=autocast, **settings)
    def mm(A, B):
        return A @ B

    return mm


def total_of(autocast):
    @tdsl.template(source=SUM, autocast=autocast)
    def total(x, y, scale, count):
        wide = torch.promote_types(x.dtype, y.dtype) if x.element_size() > 1 else y.dtype
        return (x.float() + y.float() * scale + count).to(wide)

    return total


def integers(*shape, dtype=torch.float32):
    return torch.randint(-3, 4, shape).to(dtype)


@pytest.fixture(params=[True, False], ids=["interpreted", "reference"])
def interpret(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(operators, "interpreted", lambda: False)
        monkeypatch.setattr("tdsl.lower.inductor.registration.interpreted", lambda: False)


@pytest.mark.filterwarnings("ignore:bf16 and fp16 are mixed")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_product_is_as_pytorchs(interpret, compiled):
    """Activations in bf16 and a weight in f32, half of a network swapped; both in f32; both in f16."""
    mm = mm_of("lower")

    def program(f, x, w):
        return torch.relu(f(torch.relu(x), w))

    work = torch.compile(program, fullgraph=True) if compiled else program
    for first, second in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float16, torch.float16),
    ):
        x, w = integers(7, 21, dtype=first).requires_grad_(), integers(21, 9, dtype=second).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            got, want = work(mm, x, w), program(torch.mm, x, w)
        assert got.dtype == want.dtype == torch.bfloat16
        torch.testing.assert_close(got, want, rtol=0, atol=0)
        grad = integers(7, 9, dtype=torch.bfloat16)
        outside = torch.autograd.grad(got, (x, w), grad, retain_graph=not compiled)
        torch.testing.assert_close(outside, torch.autograd.grad(want, (x, w), grad), rtol=0, atol=0)
        assert [each.dtype for each in outside] == [first, second]
        with torch.autocast("cpu", torch.bfloat16):
            again = got if not compiled else work(mm, x, w)
            inside = torch.autograd.grad(again, (x, w), grad)
        torch.testing.assert_close(inside, outside, rtol=0, atol=0)


def test_the_dtype_is_the_one_of_the_region(interpret):
    mm = mm_of("lower")
    x, w = integers(7, 21), integers(21, 9)

    def everywhere(x, w):
        with torch.autocast("cpu", torch.float16):
            inner = mm(x, w)
            with torch.autocast("cpu", enabled=False):
                off = mm(x, w)
            with torch.autocast("cpu", torch.bfloat16):
                other = mm(x, w)
        return mm(x, w), inner, off, other

    # The same function, as the region around it changes.
    work = torch.compile(mm, fullgraph=True)
    for program in (everywhere, torch.compile(everywhere, fullgraph=True)):
        outputs = program(x, w)
        assert [each.dtype for each in outputs] == [
            torch.float32,
            torch.float16,
            torch.float32,
            torch.bfloat16,
        ]
        for each in outputs:
            torch.testing.assert_close(each.float(), x @ w, rtol=0, atol=0)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert work(x, w).dtype == dtype
            with torch.autocast("cpu", enabled=False), pytest.raises(TdslError, match="'B' must be bf16"):
                mm(x.bfloat16(), w)
        assert work(x, w).dtype == torch.float32
    with torch.autocast("cuda", torch.float16, enabled=torch.cuda.is_available()):
        assert mm(x, w).dtype == torch.float32  # of another device


RULES = [  # rule, dtypes of x and y, dtypes with which it is called: as `cat` and `softmax` have it
    ("promote", (torch.bfloat16, torch.float32), (torch.float32, torch.float32)),
    ("promote", (torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.bfloat16)),
    ("promote", (torch.bfloat16, torch.float16), (torch.float32, torch.float32)),
    ("f32", (torch.bfloat16, torch.float16), (torch.float32, torch.float32)),
    (torch.float32, (torch.bfloat16, torch.float32), (torch.float32, torch.float32)),
    (torch.float16, (torch.bfloat16, torch.float32), (torch.float16, torch.float16)),
    ("lower", (torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)),
    # What is not cast: float64 and float8, and `scale`, which has one dtype.
    ("lower", (torch.float64, torch.float32), (torch.float64, torch.bfloat16)),
    ("f32", (torch.float64, torch.bfloat16), (torch.float64, torch.float32)),
    ("promote", (torch.float8_e4m3fn, torch.bfloat16), (torch.float8_e4m3fn, torch.bfloat16)),
]


@pytest.mark.parametrize("rule, given, taken", RULES)
def test_what_is_cast(rule, given, taken):
    torch.compiler.reset()
    total = total_of(rule)
    x, y = (integers(20).to(dtype) for dtype in given)
    scale, count = integers(20), integers(20, dtype=torch.int32)
    want = total.reference(x.to(taken[0]), y.to(taken[1]), scale, count)
    for program in (total, torch.compile(lambda *args: total(*args), fullgraph=True)):
        with torch.autocast("cpu", torch.bfloat16):
            got = program(x, y, scale, count)
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert total(x, y, scale, count).dtype == total.reference(x, y, scale, count).dtype


@pytest.mark.parametrize("rule", ["promote", "f32"])
def test_as_pytorchs_own_of_that_kind(rule):
    total, scale, count = total_of(rule), torch.ones(20), integers(20, dtype=torch.int32)
    for given in ((torch.bfloat16, torch.float32), (torch.bfloat16, torch.bfloat16)):
        x, y = (integers(20, dtype=dtype) for dtype in given)
        with torch.autocast("cpu", torch.bfloat16):
            want = torch.cat([x, y]) if rule == "promote" else torch.nn.functional.mse_loss(x, y)
            assert total(x, y, scale, count).dtype == want.dtype


def test_without_a_rule_the_error_names_the_one_that_helps():
    mm = mm_of(None)
    x, w = integers(7, 21, dtype=torch.bfloat16), integers(21, 9)
    help = "autocast is on, and casts no template's arguments unless asked to: autocast='lower' on the decorator does"
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(TdslError, match=help):
            mm(x, w)
        with pytest.raises(Exception, match=help):
            torch.compile(mm, fullgraph=True)(x, w)
        with pytest.raises(TdslError) as wrong_size:
            mm(x, w.bfloat16()[1:])
    with pytest.raises(TdslError) as off:
        mm(x, w)
    assert "autocast" not in f"{wrong_size.value} {off.value}"


def test_a_rule_that_cannot_be():
    for given in ("lowest", torch.int32, "i32", "f64", 5, torch.float8_e4m3fn):
        with pytest.raises(TypeError, match='autocast= is "lower"'):
            mm_of(given)
    with pytest.raises(TdslError, match="'y' is written in place: autocast cannot cast it"):

        @tdsl.template(source=AXPY, autocast="lower")
        def axpy(y, x):
            y.add_(x)

    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TdslError, match=re.escape("got f16")):

        @tdsl.template(source=MM.replace("f16, bf16, f32", "bf16, f32"), autocast=torch.float16)
        def mm(A, B):
            return A @ B

        mm(integers(3, 4), integers(4, 5))


def test_a_rule_is_a_part_of_what_an_operator_is():
    assert mm_of(None).op != mm_of("lower").op != mm_of("promote").op
    x, w = integers(7, 21), integers(21, 9)
    for rule, dtype in ((None, torch.float32), ("lower", torch.bfloat16), ("f32", torch.float32)):
        mm = mm_of(rule, op="mylib::cast")
        with torch.autocast("cpu", torch.bfloat16):
            assert (
                mm(x, w).dtype
                == torch.ops.mylib.cast.v1(x, w).dtype
                == torch.compile(mm)(x, w).dtype
                == dtype
            )


def test_transforms():
    mm = mm_of("lower")
    x, w = integers(3, 7, 21), integers(21, 9)
    with torch.autocast("cpu", torch.bfloat16):
        want = torch.vmap(torch.mm, in_dims=(0, None))(x, w)
        torch.testing.assert_close(torch.vmap(mm, in_dims=(0, None))(x, w), want, rtol=0, atol=0)
        for derive in (torch.func.grad, torch.func.hessian, torch.func.jacfwd):
            got = derive(lambda w: mm(x[0], w).float().pow(2).sum())(w)
            want = derive(lambda w: torch.mm(x[0], w).float().pow(2).sum())(w)
            torch.testing.assert_close(got, want, rtol=0, atol=0)
        y = torch.utils.checkpoint.checkpoint(mm, x[0], w.requires_grad_(), use_reentrant=False)
    (grad,) = torch.autograd.grad(y.float().sum(), w)
    torch.testing.assert_close(grad, x[0].sum(0)[:, None].expand(21, 9), rtol=0, atol=0)


def test_a_saved_program_casts(tmp_path):
    mm = mm_of("lower", op="mylib::saved_cast")

    class Model(torch.nn.Module):
        def forward(self, x, w):
            with torch.autocast("cpu", torch.bfloat16):
                return mm(x, w)

    x, w = integers(7, 21), integers(21, 9)
    torch.export.save(torch.export.export(Model(), (x, w)), tmp_path / "program.pt2")
    got = torch.export.load(tmp_path / "program.pt2").module()(x, w)
    torch.testing.assert_close(got, (x @ w).bfloat16(), rtol=0, atol=0)


# Drawn: regions within regions, around calls of templates, compared with the same around PyTorch's own operators, one of
# each policy.

KINDS = """
template lower(A: T[M, K], B: T[K, N]) -> C: T[M, N]
where T in (bf16, f32):
    config BLOCK_M=16, BLOCK_N=16, BLOCK_K=16
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = zeros(m, n)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc

template widest(A: T[M, N], B: T[M, N]) -> C: T[M, N]
where T in (bf16, f32):
    for m, n in grid(M by 16, N by 16):
        store C[m, n] = load A[m, n] + load B[m, n]

template wide(A: T[M, N], B: T[M, N]) -> C: T[M, N]
where T in (bf16, f32):
    for m, n in grid(M by 16, N by 16):
        d = load A[m, n] - load B[m, n]
        store C[m, n] = d * d
"""
PYTORCHS = {
    "lower": torch.mm,
    "widest": lambda A, B: torch.stack([A, B]).sum(0),
    "wide": lambda A, B: torch.nn.functional.mse_loss(A, B, reduction="none"),
}


@tdsl.template(source=KINDS, autocast="lower")
def lower(A, B):
    return A @ B


@tdsl.template(source=KINDS, autocast="promote")
def widest(A, B):
    return A + B


@tdsl.template(source=KINDS, autocast="f32")
def wide(A, B):
    return (A - B).square()


def drawn(rng):
    """The text of a program of `f`, `x` (float32) and `y` (bfloat16)."""
    lines, values, indent, on = ["def program(f, x, y):"], ["x", "y"], 1, [False]
    for at in range(rng.randint(4, 7)):
        if indent > 1 and rng.random() < 0.3:
            indent, on = indent - 1, on[:-1]
        if rng.random() < 0.6:
            on.append(rng.random() < 0.75)
            lines.append("    " * indent + f"with torch.autocast('cpu', torch.bfloat16, enabled={on[-1]}):")
            indent += 1
        kind, a, b = rng.choice(list(PYTORCHS)), rng.choice(values), rng.choice(values)
        # Elsewhere the dtypes of a call must be one, of a template and of PyTorch's product.
        b = b if on[-1] else f"{b}.to({a}.dtype)"
        before, behind = (rng.choice(["{}", "torch.relu({})", "{}.t()"]) for _ in range(2))
        call = f"f.{kind}({before.format(a)}, {b}).remainder(3)"
        lines.append("    " * indent + f"v{at} = {behind.format(call)}")
        values.append(f"v{at}")
    return "\n".join([*lines, f"    return {', '.join(values[2:])}"])


@pytest.mark.parametrize(
    "seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(3, 12))]
)
def test_drawn_regions(interpret, seed):
    torch.compiler.reset()
    rng = random.Random(seed)
    text = drawn(rng)
    cell = {"torch": torch}
    exec(text, cell)
    program = cell["program"]
    x, y = integers(8, 8).requires_grad_(), integers(8, 8, dtype=torch.bfloat16).requires_grad_()
    theirs, ours = SimpleNamespace(**PYTORCHS), SimpleNamespace(lower=lower, widest=widest, wide=wide)
    outside = rng.random() < 0.3
    with torch.autocast("cpu", torch.bfloat16, enabled=outside):
        want = program(theirs, x, y)
        got = program(ours, x, y)
        compiled = torch.compile(lambda x, y: program(ours, x, y), fullgraph=True)(x, y)
    for found in (got, compiled):
        for mine, its in zip(found, want, strict=True):
            assert mine.dtype == its.dtype, text
            torch.testing.assert_close(mine, its, rtol=0, atol=0, msg=lambda said: f"{text}\n{said}")
    grads = [integers(8, 8, dtype=each.dtype) for each in want]
    its = torch.autograd.grad(want, (x, y), grads, allow_unused=True)
    for found in (got, compiled):
        mine = torch.autograd.grad(found, (x, y), grads, allow_unused=True)
        for one, other in zip(mine, its, strict=True):
            assert (one is None or not one.any()) if other is None else one.dtype == other.dtype
            if other is not None:
                torch.testing.assert_close(one, other, rtol=3e-2, atol=3e-2 * float(other.abs().max()))

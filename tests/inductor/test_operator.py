"""A template as a PyTorch operator: registered rightly, differentiable, and clear about a wrong call."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
import triton.language as tl
from torch._dynamo.testing import CompileCounterWithBackend

import tdsl
from tdsl import TdslError, operators, testing
from tdsl.testing import load_module

t = load_module(Path(__file__).with_name("templates.py"))


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


def randn(*shape):
    return torch.randn(shape)


CALLS = {
    "mm": lambda: (t.mm, (randn(20, 33), randn(33, 40))),
    "ew": lambda: (t.ew, (randn(20, 33), randn(40, 20)[:33].T)),
    "rn": lambda: (t.rn, (randn(2, 3, 40), randn(40), 1e-5)),
    "ln": lambda: (t.ln, (randn(2, 3, 40), randn(40), None, 1e-5)),
    "ln_bias": lambda: (t.ln, (randn(6, 40), randn(40), randn(40), 1e-5)),
    "axpy": lambda: (t.axpy, (randn(100), randn(100), 2.0)),
    "swap": lambda: (t.swap, (randn(20, 33), randn(20, 33))),
    "column_sums": lambda: (t.column_sums, (randn(20, 33),)),
    "embed": lambda: (t.embed, (torch.randint(0, 9, (7,)), randn(9, 40))),
}


@pytest.mark.parametrize("name", CALLS)
def test_opcheck(name):
    template, args = CALLS[name]()
    torch.library.opcheck(template.op, args)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of opcheck's own, on torch 2.15
@pytest.mark.parametrize("name", ["mm", "ew", "rn", "ln_bias"])
def test_opcheck_with_gradients(name):
    template, args = CALLS[name]()
    args = tuple(a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args)
    torch.library.opcheck(template.op, args)


@pytest.mark.parametrize("name", CALLS)
def test_eager(name):
    template, args = CALLS[name]()
    mine = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
    its = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
    torch.testing.assert_close(
        template(*mine), template.reference(*its) if name not in ("axpy", "swap") else None
    )
    if name in ("axpy", "swap"):
        template.reference(*its)
    torch.testing.assert_close(mine, its)


def test_eager_takes_any_strides_and_sizes():
    for m, k, n in [(1, 1, 1), (31, 33, 64), (0, 3, 4), (3, 0, 4), (70, 50, 90)]:
        a, b = randn(k, m).T, randn(k, 2 * n)[:, ::2]
        torch.testing.assert_close(t.mm(a, b), a @ b, rtol=1e-4, atol=1e-4)


def test_what_a_template_is():
    assert t.mm.__name__ == "mm"
    assert t.mm.template.name == "mm"
    assert isinstance(t.mm.op, torch._ops.OpOverload)
    assert str(t.mm.op).startswith("tdsl.mm.d")
    assert t.mm.reference(randn(2, 3), randn(3, 4)).shape == (2, 4)


# Gradients


def test_gradients():
    x, w = randn(5, 40).requires_grad_(), randn(40).requires_grad_()
    got = torch.autograd.grad(t.rn(x, w, 1e-5).sin().sum(), (x, w))
    want = torch.autograd.grad(t.rn.reference(x, w, 1e-5).sin().sum(), (x, w))
    torch.testing.assert_close(got, want)


def test_gradients_of_several_outputs():
    x, w = randn(5, 40).requires_grad_(), randn(40)

    def loss(f):
        y, mean, rstd = f(x, w, None, 1e-5)
        return (y * 2).sum() + (mean * rstd).sum()

    torch.testing.assert_close(
        torch.autograd.grad(loss(t.ln), x), torch.autograd.grad(loss(t.ln.reference), x)
    )


def test_second_gradients():
    a, b = randn(4, 5).requires_grad_(), randn(5, 3)
    (first,) = torch.autograd.grad((t.mm(a, b) ** 3).sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), a)
    (want_first,) = torch.autograd.grad(((a @ b) ** 3).sum(), a, create_graph=True)
    (want,) = torch.autograd.grad(want_first.sum(), a)
    torch.testing.assert_close(second, want, rtol=1e-4, atol=1e-4)


def test_compiled_gradients():
    a, b = randn(20, 33).requires_grad_(), randn(33, 40).requires_grad_()

    def loss(a, b):
        return torch.relu(t.mm(a, torch.sigmoid(b))).sum()

    want = torch.autograd.grad(torch.relu(a @ torch.sigmoid(b)).sum(), (a, b))
    got = torch.autograd.grad(torch.compile(loss, fullgraph=True)(a, b), (a, b))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


DOUBLE = """
template double(x: f32[N]) -> y: f32[N]:
    config BLOCK=64
    for n in grid(N by BLOCK):
        store y[n] = load x[n] * 2
"""


def test_no_reference_and_a_gradient():
    @tdsl.template(source=DOUBLE)
    def double(x):
        "Twice x."
        ...

    assert double.reference is None
    x = randn(10).to(testing.device())
    torch.testing.assert_close(double(x), x * 2)
    with pytest.raises(TdslError, match="'double' cannot be differentiated"):
        double(x.requires_grad_())
    with torch.no_grad():
        torch.testing.assert_close(double(x), x * 2)


def test_references_that_do_something_else(monkeypatch):
    monkeypatch.setattr(operators, "interpreted", lambda: False)  # a CPU runs the reference then
    add = """
template add(inout y: f32[N], x: f32[N]):
    for n in grid(N by 64):
        store y[n] = load y[n] + load x[n]
"""

    @tdsl.template(source=add, name="add")
    def forgets(y, x):
        return y + x

    @tdsl.template(source=add, name="add")
    def adds(y, x):
        return y.add_(x)

    @tdsl.template(source=DOUBLE, name="double")
    def writes(x):
        return x.mul_(2).clone()

    memory = torch.ones(6)
    with pytest.raises(TdslError, match="the reference of 'add' returned 1 values, not 0"):
        forgets(memory[:3], memory[3:])
    adds(memory[:3], memory[3:])
    assert memory.tolist() == [2, 2, 2, 1, 1, 1]
    with pytest.raises(TdslError, match="the reference writes to 'x', which is not inout"):
        writes(randn(10))


def test_a_number_that_is_a_tensor():
    @tdsl.template(
        source="""
template scaled(x: f32[N], lr: f32[]) -> y: f32[N]:
    for n in grid(N by 64):
        store y[n] = load x[n] * load lr[]
"""
    )
    def scaled(x, lr):
        return x * lr

    counter = CompileCounterWithBackend("inductor")
    program = torch.compile(lambda x, lr: scaled(x + 1, lr * 2).relu(), backend=counter)
    x = randn(100)
    for number in (0.5, 1.0, -2.0):
        torch.testing.assert_close(program(x, torch.tensor(number)), ((x + 1) * number * 2).relu())
    assert counter.frame_count == 1


def test_in_place_and_a_gradient():
    with pytest.raises(TdslError, match="'axpy' cannot be differentiated"):
        t.axpy(randn(10), randn(10).requires_grad_(), 1.0)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_forward_derivatives(mode):
    args, tangents = (randn(5, 40), randn(40)), (randn(5, 40), randn(40))

    def values_and_tangents(f):
        with mode():
            return torch.func.jvp(lambda x, w: f(x, w, 1e-5), args, tangents)

    want = values_and_tangents(t.rn.reference)
    torch.testing.assert_close(values_and_tangents(t.rn), want)
    compiled = torch.compile(lambda: values_and_tangents(t.rn), fullgraph=True)
    torch.testing.assert_close(compiled(), want)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(args[0], tangents[0])
        found = torch.autograd.forward_ad.unpack_dual(t.rn(dual, args[1], 1e-5)).tangent
    _, want = torch.func.jvp(lambda x: t.rn.reference(x, args[1], 1e-5), args[:1], tangents[:1])
    torch.testing.assert_close(found, want)


def test_forward_derivatives_of_several_outputs():
    x, w = randn(5, 40), randn(40)
    found = torch.func.jvp(lambda x: t.ln(x, w, None, 1e-5), (x,), (randn(5, 40),))
    want = torch.func.jvp(lambda x: t.ln.reference(x, w, None, 1e-5), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(found[0], want[0])
    assert all(tangent.abs().max() > 0 for tangent in found[1])


@pytest.mark.filterwarnings("ignore:.*_prims_common.check:FutureWarning")  # of PyTorch's own code
@pytest.mark.parametrize("transform", ["grad", "jacrev", "jacfwd", "hessian", "per sample"])
def test_torch_func(transform):
    a, b = randn(3, 4), randn(4, 5)

    def derive(f):
        def loss(a, b):
            return (f(a, b) ** 2).sum()

        match transform:
            case "grad":
                return torch.func.grad(loss, argnums=(0, 1))(a, b)
            case "jacrev":
                return torch.func.jacrev(f)(a, b)
            case "jacfwd":
                return torch.func.jacfwd(f)(a, b)
            case "hessian":
                return torch.func.hessian(loss)(a, b)
            case _:
                return torch.vmap(torch.func.grad(loss), in_dims=(0, None))(a[:, None], b)

    want = derive(t.mm.reference)
    torch.testing.assert_close(derive(t.mm), want, rtol=1e-4, atol=1e-4)
    compiled = torch.compile(lambda: derive(t.mm), fullgraph=True)
    torch.testing.assert_close(compiled(), want, rtol=1e-4, atol=1e-4)


def test_vmap():
    a, b = randn(2, 3, 4), randn(4, 5)
    torch.testing.assert_close(torch.vmap(t.mm, in_dims=(0, None))(a, b), a @ b, rtol=1e-4, atol=1e-4)
    compiled = torch.compile(torch.vmap(t.mm, in_dims=(0, None)), fullgraph=True)
    torch.testing.assert_close(compiled(a, b), a @ b, rtol=1e-4, atol=1e-4)
    c = randn(4, 5, 2)
    both = torch.vmap(torch.vmap(t.mm, in_dims=(0, None)), in_dims=(None, 2))(a, c)
    torch.testing.assert_close(both, torch.einsum("imk,kno->oimn", a, c))
    assert torch.vmap(t.mm, in_dims=(0, None))(a[:0], b).shape == (0, 3, 5)


def test_vmap_of_several_outputs():
    x, w = randn(4, 40, 5), randn(3, 40)
    got = torch.vmap(lambda x, w: t.ln(x, w, None, 1e-5), in_dims=(None, 0))(x.transpose(1, 2), w)
    want = [t.ln(x.transpose(1, 2), each, None, 1e-5) for each in w]
    for mine, its in zip(got, zip(*want, strict=True), strict=True):
        torch.testing.assert_close(mine, torch.stack(its))


def test_vmap_of_gradients():
    x, w = randn(3, 40), randn(40)
    got = torch.vmap(torch.func.grad(lambda x: t.rn(x[None], w, 1e-5).sum()))(x)
    want = torch.vmap(torch.func.grad(lambda x: t.rn.reference(x[None], w, 1e-5).sum()))(x)
    torch.testing.assert_close(got, want)
    through = x.clone().requires_grad_()
    torch.vmap(lambda x: t.rn(x[None], w, 1e-5))(through).sum().backward()
    torch.testing.assert_close(through.grad, want)


def test_vmap_of_one_that_writes():
    with pytest.raises(TdslError, match="'axpy' writes to its arguments, and cannot be vmapped"):
        torch.vmap(lambda y, x: t.axpy(y, x, 1.0))(randn(3, 9), randn(3, 9))


def test_derivatives_that_there_are_not():
    def through_axpy(x):
        y = x * 1
        t.axpy(y, x, 1.0)
        return y.sum()

    x = randn(9)
    with pytest.raises(TdslError, match="'axpy' cannot be differentiated"):
        torch.func.jvp(through_axpy, (x,), (x,))
    with pytest.raises(TdslError, match="'axpy' cannot be differentiated"):
        torch.func.grad(through_axpy)(x)

    @tdsl.template(source=DOUBLE)
    def double(x): ...

    with pytest.raises(TdslError, match="'double' cannot be differentiated"):
        torch.func.jvp(double, (x,), (x,))


def test_subclasses():
    class Named(torch.Tensor):
        pass

    a, b = randn(3, 4), randn(4, 5)
    torch.testing.assert_close(t.mm(a.as_subclass(Named), b), (a @ b).as_subclass(Named))


# Autocast


AUTOCAST = [
    lambda x, w, f: f(x, w),
    lambda x, w, f: torch.autograd.grad(f(x, w).sin().sum(), (x, w)),
    lambda x, w, f: torch.vmap(f, in_dims=(0, None))(torch.stack([x, x]).detach(), w.detach()),
    lambda x, w, f: torch.autograd.grad(
        torch.utils.checkpoint.checkpoint(f, x, w, use_reentrant=False).sin().sum(), (x, w)
    ),
]


@pytest.mark.parametrize("interpret", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_autocast_changes_no_reference(monkeypatch, compiled, interpret):
    if not interpret:
        monkeypatch.setattr(operators, "interpreted", lambda: False)
        monkeypatch.setattr("tdsl.lower.inductor.registration.interpreted", lambda: False)
    x, w = randn(20, 33).requires_grad_(), randn(33, 40).requires_grad_()

    def everything(x, w, f):
        return [work(x, w, f) for work in AUTOCAST[: 2 if compiled else 4]]

    def inside(x, w):
        with torch.autocast("cpu", torch.bfloat16):
            return t.mm(x, w)

    work = torch.compile(everything, fullgraph=False) if compiled else everything
    want = everything(x, w, torch.matmul)
    with torch.autocast("cpu", torch.bfloat16):
        got = work(x, w, t.mm)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(everything(x, w, inside), want, rtol=1e-5, atol=2e-5)
    program = torch.compile(lambda x, w: t.mm(x, w).sin().sum()) if compiled else inside
    with torch.autocast("cpu", torch.bfloat16):
        loss = program(x, w) if compiled else program(x, w).sin().sum()
    torch.testing.assert_close(torch.autograd.grad(loss, (x, w)), want[1], rtol=1e-5, atol=2e-5)


def test_autocast_and_torch_func():
    a, b = randn(3, 4), randn(4, 5)
    want = torch.func.grad(lambda a: (a @ b).sin().sum())(a)

    with torch.autocast("cpu", torch.bfloat16):
        with torch.autocast("cpu", enabled=False):
            torch.testing.assert_close(torch.func.grad(lambda a: t.mm(a, b).sin().sum())(a), want)
        for derive in (torch.func.grad, torch.func.hessian, torch.func.jacfwd):
            with pytest.raises(TdslError, match="autocast is on"):
                derive(lambda a: t.mm(a, b).sin().sum())(a)


def test_an_autocast_rule_of_the_users():
    @tdsl.template(source=t.TEXT, name="mm")
    def cast(A, B):
        return (A @ B) * 1

    torch.library.register_autocast(cast.op, "cpu", torch.bfloat16)
    x, w = randn(20, 33).requires_grad_(), randn(33, 40).requires_grad_()
    assert cast(x, w).dtype == torch.float32
    for work in (cast, torch.compile(lambda x, w: cast(x, w))):
        with torch.autocast("cpu", torch.bfloat16):
            y = work(x, w)
        assert y.dtype == torch.bfloat16
        grads = torch.autograd.grad(y.float().sum(), (x, w))
        assert [grad.dtype for grad in grads] == [torch.float32, torch.float32]


# Inference tensors


def test_an_inference_tensor_that_is_written_to():
    with torch.inference_mode():
        y = torch.ones(9)
        t.axpy(y, y.clone(), 1.0)
    for x in (torch.ones(9), y.clone()):
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
            t.axpy(y, x, 1.0)
    assert y.tolist() == [2] * 9
    torch.testing.assert_close(t.ew(y[None], y[None]), torch.full((1, 9), 6.0))  # reading one is no matter


# As a function


class Holder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.call = t.mm
        self.weight = torch.nn.Parameter(randn(4, 5))

    def forward(self, x):
        return self.call(x, self.weight)


def test_pickled_and_copied_as_a_function(monkeypatch):
    monkeypatch.setitem(sys.modules, t.__name__, t)
    assert copy.deepcopy(t.mm) is t.mm and copy.copy(t.mm) is t.mm
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps({"f": t.mm}, protocol))["f"] is t.mm
    assert t.mm == copy.deepcopy(t.mm) and len({t.mm, copy.copy(t.mm), t.rn}) == 2
    file = io.BytesIO()
    model = Holder()
    torch.save(model, file)
    file.seek(0)
    back, x = torch.load(file, weights_only=False), randn(3, 4)
    torch.testing.assert_close(back(x), model(x))
    assert copy.deepcopy(model).call is t.mm
    assert t.mm.__module__ == t.__name__ and t.mm.__qualname__ == "mm" and t.mm.__wrapped__ is t.mm.reference
    assert list(inspect.signature(t.mm).parameters) == ["A", "B"]

    @tdsl.template(source=DOUBLE)
    def double(x): ...

    with pytest.raises((pickle.PicklingError, AttributeError), match="local object"):
        pickle.dumps(double)
    assert copy.deepcopy(double) is double


# Calls that are wrong


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: t.mm(randn(3, 4)), r"'B' is missing; it is a tensor, T\[K, N\]"),
        (lambda: t.mm(randn(3, 4), randn(4, 5), randn(5)), "takes 2 arguments, A, B; got 3"),
        (lambda: t.mm(randn(3, 4), C=randn(4, 5)), "no parameter 'C'"),
        (lambda: t.mm(randn(3, 4), randn(4, 5), A=randn(3, 4)), "takes 2 arguments|given twice"),
        (lambda: t.mm(randn(3, 4), A=randn(4, 5)), "'A' is given twice"),
        (lambda: t.mm(randn(3, 4), randn(5, 6)), r"'B' must have shape \[K, N\] with K = 4"),
        (
            lambda: t.mm(randn(3, 4), randn(6, 5).t()),
            r"with K = 4 \(from A\); got f32\[5, 6\]",
        ),
        (lambda: t.mm(randn(3, 4), randn(4)), "'B' must have 2 dimensions"),
        (lambda: t.mm(randn(3, 4), randn(4, 5).double()), "'B' must be f32, as 'A' is; got f64\\[4, 5\\]"),
        (lambda: t.mm(randn(3, 4), randn(4, 5).to("meta")), "'B' must be on cpu, as 'A' is; got meta"),
        (lambda: t.mm(randn(3, 4), [1.0]), "'B' must be a tensor"),
        (lambda: t.mm(randn(3, 4), None), "'B' must be a tensor"),
        (lambda: t.rn(randn(3, 4), randn(4), "x"), "'eps' must be"),
        (lambda: t.mm(randn(3, 4).to(torch.complex64), randn(4, 5)), "'A' must be"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(TdslError, match=message) as caught:
        call()
    (mistake,) = caught.value.diagnostics
    # What is about one parameter is said there: its declaration is underlined, and nothing else.
    if named := re.match(r"'(\w+)' (must|is)", mistake.message):
        assert mistake.span.text.startswith(f"{named[1]}:")
    with pytest.raises(Exception, match=message):
        torch.compile(call, fullgraph=True)()


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of what it makes such tensors with
@pytest.mark.parametrize("kind", ["sparse_coo", "sparse_csr", "mkldnn", "nested", "jagged", "qint8"])
def test_tensors_of_other_layouts(kind):
    a, b = randn(3, 4), randn(4, 5)
    match kind:
        case "sparse_coo":
            other = a.to_sparse()
        case "sparse_csr":
            other = a.to_sparse_csr()
        case "mkldnn":
            other = a.to_mkldnn()
        case "nested":
            other = torch.nested.nested_tensor([a[0], a[1]])
        case "jagged":
            other = torch.nested.nested_tensor([a[0], a[1]], layout=torch.jagged)
        case _:
            other = torch.quantize_per_tensor(a, 0.1, 0, torch.qint8)
    with pytest.raises(TdslError, match="'A' must be"):
        t.mm(other, b)
    with pytest.raises(TdslError, match="'x' must"):
        t.axpy(b[0], other, 1.0)


# Decorations that are wrong


def decorate(function, source=DOUBLE, **options):
    return tdsl.template(source=source, **options)(function)


def test_wrong_decorations():
    def double(y): ...

    with pytest.raises(TdslError, match="parameter 1 is 'x' here and 'y' in the function"):
        decorate(double)

    def double(x, y): ...

    with pytest.raises(TdslError, match="a parameter 'y' that the template lacks"):
        decorate(double)

    def double(): ...

    with pytest.raises(TdslError, match="'x' is no parameter of the function"):
        decorate(double)

    def double(*x): ...

    with pytest.raises(TdslError, match="no parameter of a template"):
        decorate(double)

    def double(*, x): ...

    with pytest.raises(TdslError, match="no parameter of a template"):
        decorate(double)

    def other(x): ...

    with pytest.raises(TdslError, match="other"):
        decorate(other)
    assert decorate(other, name="double").template.name == "double"
    with pytest.raises(TypeError):
        tdsl.template()
    with pytest.raises(TypeError):
        tdsl.template(double)
    with pytest.raises(TdslError):
        tdsl.template("no_such_file.tdsl")(other)


def test_constants():
    source = """
template scaled(x: f32[N], factor: float, half: const bool = false) -> y: f32[N]:
    config BLOCK=64
    for n in grid(N by BLOCK):
        store y[n] = load x[n] * factor * (0.5 if half else 2)
"""

    @tdsl.template(source=source)
    def scaled(x, factor, half=False):
        return x * factor * (0.5 if half else 2)

    x = randn(70)
    torch.testing.assert_close(scaled(x, 3.0), x * 6)
    torch.testing.assert_close(scaled(x, factor=3.0, half=True), x * 1.5)
    torch.testing.assert_close(scaled.op(x, 3.0), x * 6)
    compiled = torch.compile(lambda x, factor: scaled(x, factor, half=True) + 1, fullgraph=True)
    torch.testing.assert_close(compiled(x, 3.0), x * 1.5 + 1)
    torch.testing.assert_close(compiled(x, 4.0), x * 2 + 1)

    for half, got in (
        (2, "2 .an int.|an int"),
        (1.0, "1.0 .a float.|a float"),
        (None, "None"),
        ("yes", "'yes'( .a str.)?"),
    ):
        for call in (scaled, torch.compile(lambda x, factor, half: scaled(x, factor, half), fullgraph=True)):
            with pytest.raises(Exception, match=f"'half' must be a bool; got ({got})"):
                call(x, 3.0, half)
    with pytest.raises(TdslError, match="'factor' must be a float; got True \\(a bool\\)"):
        scaled(x, True)

    def scaled(x, factor, half=True): ...

    with pytest.raises(TdslError, match="'half' is False by default here and True in the function"):
        decorate(scaled, source)


# Identity


def test_the_same_text_is_the_same_operator():
    def double(x):
        return x * 2

    first, second = decorate(double), decorate(double)
    assert first.op is second.op


def test_another_text_is_another_operator():
    def double(x):
        return x * 2

    first = decorate(double)
    second = decorate(double, DOUBLE.replace("* 2", "* 3"))
    x = randn(10).to(testing.device())
    assert first.op is not second.op
    torch.testing.assert_close(first(x), x * 2)
    torch.testing.assert_close(second(x), x * 3)


def test_another_reference_is_another_operator():
    def make(factor):
        @tdsl.template(source=DOUBLE)
        def double(x):
            return x * factor

        return double

    one, two = make(2), make(5)
    x = randn(10).requires_grad_()
    assert torch.autograd.grad(one(x).sum(), x)[0][0] == 2
    assert torch.autograd.grad(two(x).sum(), x)[0][0] == 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="its kernels are compiled")
def test_a_call_while_triton_interprets_another_kernel(monkeypatch):
    """Triton's functions are patched then; what is seen of them must not last."""
    from tdsl.lower.runtime import interpreter

    def another(x):
        return tl.sum(x)

    monkeypatch.setattr(interpreter, "_builtins", {})
    x, w = randn(6, 40), randn(40)
    want = torch.nn.functional.rms_norm(x, (40,), w, 1e-5)
    patched = interpreter.triton_interpreter._patch_lang(another)
    try:
        torch.testing.assert_close(t.rn(x, w, 1e-5), want)
    finally:
        patched.restore()
    torch.testing.assert_close(t.rn(x, w, 1e-5), want)

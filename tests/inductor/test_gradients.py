"""A template's own backward: called where its gradient is taken, checked, and never a stale one."""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import tdsl
from tdsl import TdslError, operators, testing
from tdsl.lower.inductor.compat.call_names import functorch_config
from tests.inductor.test_processes import run

testing.device()

SOFTMAX = """
template softmax(x: T[R, N]) -> y: T[R, N]:
    config BLOCK_R=2, num_warps=4
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load x[r, n])
        e = exp(v - max(v, n))
        store y[r, n] = e / sum(e, n)

template softmax_grad(dy: T[R, N], y: T[R, N]) -> dx: T[R, N]:
    config BLOCK_R=2, num_warps=4
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load y[r, n])
        g = f32(load dy[r, n])
        store dx[r, n] = v * (g - sum(v * g, n))
"""

NORM = """
template norm(x: T[R, N], w: T[N], b: T[N]?, eps: float, keep: const bool = true) -> (y: T[R, N], rstd: f32[R], size: i32[R]):
    config BLOCK_R=2, num_warps=4
    for r in grid(R by BLOCK_R):
        n = whole(N)
        v = f32(load x[r, n])
        inv = rsqrt(sum(v * v, n) / N + eps)
        out = v * inv
        if keep:
            out *= load w[n]
        if b:
            out += load b[n]
        store y[r, n] = out
        store rstd[r] = inv
        store size[r] = N
"""

DOUBLE = """
template double(x: f32[N]) -> y: f32[N]:
    for n in grid(N by 16):
        store y[n] = load x[n] * 2
"""


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
    with functorch_config.patch(enable_autograd_cache=False):  # which calls no backward again
        yield


def reference(x):
    return torch.softmax(x.float(), -1).to(x.dtype)


@tdsl.template(source=SOFTMAX)
def softmax_grad(dy, y):
    return y * (dy - (y * dy).sum(-1, keepdim=True))


def make_softmax(saves=("y",), without_reference=False):
    """A softmax, and the calls of its backward."""
    calls = []

    def softmax(x):
        return reference(x)

    def nothing(x): ...

    made = tdsl.template(source=SOFTMAX, name="softmax")(nothing if without_reference else softmax)

    def softmax_backward(grads, inputs, outputs):
        calls.append(tuple(grads.y.stride()))
        return {"x": softmax_grad(grads.y, outputs.y)}

    assert made.backward(saves=saves)(softmax_backward) is softmax_backward
    return made, calls


def make_norm(**saves):
    @tdsl.template(source=NORM)
    def norm(x, w, b, eps, keep=True):
        inv = torch.rsqrt(x.float().square().mean(-1) + eps)
        y = x * inv[:, None] * (w if keep else 1)
        y = y if b is None else y + b
        return y.to(x.dtype), inv, torch.full((x.shape[0],), x.shape[1], dtype=torch.int32)

    def norm_backward(grads, inputs, outputs):
        x, inv = inputs.x, outputs.rstd[:, None]
        assert isinstance(inputs.eps, float)
        g = grads.y * inputs.w if inputs.keep else grads.y
        along = (g * x).sum(-1, keepdim=True) + grads.rstd[:, None]
        dx = g * inv - x * inv**3 * along / x.shape[1]
        return {
            "x": dx,
            "w": (grads.y * x * inv).sum(0) if inputs.keep else None,
            "b": None if inputs.b is None else grads.y.sum(0),
        }

    (norm.backward(**saves) if saves else norm.backward)(norm_backward)
    return norm


def both(f, *args):
    """The gradients of `f` by own backwards and by the references, of copies of the arguments."""

    def take(f):
        mine = [
            a.detach().requires_grad_(a.requires_grad) if isinstance(a, torch.Tensor) else a for a in args
        ]
        floats = [a for a in mine if isinstance(a, torch.Tensor) and a.requires_grad]
        return torch.autograd.grad(f(*mine), floats)

    with operators.reference_gradients():
        want = take(f)
    return take(f), take(torch.compile(f, fullgraph=True)), want


@pytest.mark.parametrize("without_reference", [False, True])
def test_softmax(without_reference):
    softmax, calls = make_softmax(without_reference=without_reference)
    x = torch.randn(5, 37, requires_grad=True)
    want = torch.autograd.grad((reference(x) ** 2).sum(), x)
    torch.testing.assert_close(torch.autograd.grad((softmax(x) ** 2).sum(), x), want)
    assert len(calls) == 1
    compiled = torch.compile(lambda x: (softmax(torch.sin(x)) ** 2).sum(), fullgraph=True)
    want = torch.autograd.grad((reference(x.sin()) ** 2).sum(), x)
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x), want)
    assert len(calls) == 2  # once, as the graph was made
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x), want)
    assert len(calls) == 2


def test_templates_of_a_backward_are_fused():
    softmax, _ = make_softmax()
    x = torch.randn(5, 37, requires_grad=True)
    compiled = torch.compile(lambda x: (softmax(x * 3) * 2).sin(), fullgraph=True)
    counted = testing.count_kernels(lambda x: compiled(x).backward(torch.ones(5, 37)), x)
    assert counted.kernels == 2
    forward, backward = counted.code
    assert "softmax_grad" not in forward and "softmax_grad" in backward
    want = torch.autograd.grad((reference(x * 3) * 2).sin().sum(), x)
    torch.testing.assert_close(x.grad, want[0])


@pytest.mark.parametrize("bias", [False, True])
def test_several_outputs_of_which_some_are_unused(bias):
    norm = make_norm()
    x, w = torch.randn(5, 37, requires_grad=True), torch.randn(37, requires_grad=True)
    b = torch.randn(37, requires_grad=True) if bias else None
    for loss in (
        lambda y, inv, size: (y.sin() * inv[:, None]).sum(),
        lambda y, inv, size: y.sin().sum(),
        lambda y, inv, size: inv.sin().sum() * size[0],
    ):
        eager, compiled, want = both(lambda x, w, b, loss=loss: loss(*norm(x, w, b, 1e-5)), x, w, b)
        torch.testing.assert_close(eager, want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(compiled, want, rtol=1e-4, atol=1e-5)


def test_only_what_requires_a_gradient_gets_one():
    norm = make_norm()
    x, w = torch.randn(5, 37, requires_grad=True), torch.randn(37)
    eager, compiled, want = both(lambda x: norm(x, w, w, 1e-5)[0].sin().sum(), x)
    torch.testing.assert_close([*eager, *compiled], [*want, *want], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["sum", "transposed", "sliced", "one element"])
def test_strange_strides(loss):
    softmax, calls = make_softmax()

    def program(x):
        y = softmax(x.T)
        match loss:
            case "sum":
                return y.sum()
            case "transposed":
                return (y.T.contiguous() ** 2).sum()
            case "sliced":
                return (y[:, ::2] ** 3).sum()
            case _:
                return y[1, 2]

    x = torch.randn(37, 5, requires_grad=True)
    eager, compiled, want = both(program, x)
    torch.testing.assert_close([*eager, *compiled], [*want, *want])
    if loss == "sum":
        assert calls[0] == (0, 0)


def test_dynamic_sizes():
    softmax, calls = make_softmax()
    compiled = torch.compile(lambda x: (softmax(x.exp()) ** 2).sum(), fullgraph=True, dynamic=True)
    for rows in (5, 3, 9, 2):
        x = torch.randn(rows, 24, requires_grad=True)
        want = torch.autograd.grad((reference(x.exp()) ** 2).sum(), x)
        torch.testing.assert_close(torch.autograd.grad(compiled(x), x), want)
    assert len(calls) == 1


def test_autocast():
    seen = []

    @tdsl.template(source=SOFTMAX)
    def softmax(x):
        return reference(x)

    @softmax.backward
    def softmax_backward(grads, inputs, outputs):
        seen.append(torch.is_autocast_enabled("cpu"))
        return {"x": outputs.y * (grads.y - (outputs.y[:, None] @ grads.y[:, :, None])[:, 0])}

    x = torch.randn(5, 37, requires_grad=True)

    def program(x):
        return (softmax(x) ** 2).sum()

    want = torch.autograd.grad((reference(x) ** 2).sum(), x)
    for work in (program, torch.compile(program, fullgraph=True)):
        with torch.autocast("cpu", torch.bfloat16):
            got = torch.autograd.grad(work(x), x)
        torch.testing.assert_close(got, want)
    assert seen == [False, False]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(reentrant):
    softmax, calls = make_softmax()

    def program(x):
        return (checkpoint(lambda x: softmax(x.sin()).sin(), x, use_reentrant=reentrant) ** 2).sum()

    x = torch.randn(5, 37, requires_grad=True)
    want = torch.autograd.grad((reference(x.sin()).sin() ** 2).sum(), x)
    programs = [program] if reentrant else [program, torch.compile(program, fullgraph=True)]
    for work in programs:
        x.grad = None
        work(x).backward()
        torch.testing.assert_close(x.grad, want[0])
    assert len(calls) == len(programs)


def test_vmap():
    softmax, calls = make_softmax()
    x = torch.randn(3, 5, 37, requires_grad=True)
    got = torch.autograd.grad((torch.vmap(softmax)(x) ** 2).sum(), x)
    want = torch.autograd.grad((reference(x) ** 2).sum(), x)
    torch.testing.assert_close(got, want)
    assert len(calls) == 3
    y = softmax(x[0])
    rows = torch.randn(2, 5, 37)
    (got,) = torch.autograd.grad(y, x, rows, is_grads_batched=True)
    want = [torch.autograd.grad(reference(x[0]), x, row)[0] for row in rows]
    torch.testing.assert_close(got, torch.stack(want))


# What falls to the reference


def test_second_derivatives():
    softmax, calls = make_softmax(saves=("x", "y"))
    x = torch.randn(3, 7, requires_grad=True)

    def second(f):
        (first,) = torch.autograd.grad((f(x) ** 3).sum(), x, create_graph=True)
        return torch.autograd.grad((first**2).sum(), x)

    torch.testing.assert_close(second(softmax), second(reference))
    assert len(calls) == 1  # of the call, within what the second differentiates
    softmax, _ = make_softmax(saves=("y",))
    with pytest.raises(TdslError, match=r"(?s)second derivative of 'softmax'.*needs 'x'.*add 'x' to saves="):
        second(softmax)
    softmax, _ = make_softmax(saves=("x", "y"), without_reference=True)
    with pytest.raises(TdslError, match=r"second derivative of 'softmax'.*and it has none"):
        second(softmax)


def test_transforms_and_forward_mode():
    softmax, calls = make_softmax()
    x, tangent = torch.randn(3, 7), torch.randn(3, 7)
    for derive in (torch.func.grad, torch.func.jacfwd, torch.func.hessian):
        torch.testing.assert_close(
            derive(lambda x: (softmax(x) ** 3).sum())(x), derive(lambda x: (reference(x) ** 3).sum())(x)
        )
    _, got = torch.func.jvp(softmax, (x,), (tangent,))
    torch.testing.assert_close(got, torch.func.jvp(reference, (x,), (tangent,))[1])
    assert not calls
    softmax, _ = make_softmax(without_reference=True)
    with pytest.raises(TdslError, match=r"no reference to differentiate, as forward mode and torch.func do"):
        torch.func.grad(lambda x: softmax(x).sum())(x)
    with pytest.raises(TdslError, match=r"no reference to differentiate, as forward mode and torch.func do"):
        torch.func.jvp(softmax, (x,), (tangent,))


# What is wrong with it


def backward_of(function, **saves):
    @tdsl.template(source=NORM)
    def norm(x, w, b, eps, keep=True): ...

    (norm.backward(**saves) if saves else norm.backward)(function)
    return norm


def zeros(inputs):
    return {name: torch.zeros_like(value) for name in "xwb" if (value := getattr(inputs, name)) is not None}


WRONG = {
    r"returned f32\[5, 36\] for the gradient of 'x', which must be f32\[5, 37\]": lambda g, i, o: (
        zeros(i) | {"x": torch.zeros(5, 36)}
    ),
    r"returned f64\[37\] for the gradient of 'w', which must be f32\[37\]": lambda g, i, o: (
        zeros(i) | {"w": torch.zeros(37).double()}
    ),
    r"returned 3 for the gradient of 'w'": lambda g, i, o: zeros(i) | {"w": 3},
    r"returned f32\[37\] on meta for the gradient of 'w', which must be f32\[37\] on cpu": lambda g, i, o: (
        zeros(i) | {"w": torch.zeros(37, device="meta")}
    ),
    r"(?s)no gradient of 'w', which requires one.*None for 'w' if it has none.*'backward' at .*test_gradients": lambda g, i, o: {
        "x": torch.zeros_like(i.x)
    },
    r"a gradient of 'W', which is no tensor parameter": lambda g, i, o: {"W": i.w},
    r"a gradient of 'eps', which is no tensor parameter": lambda g, i, o: {"eps": 1.0},
    r"(?s)returned None for the tensor parameters x, w, b.*return \{'x': ..., 'w': ..., 'b': ...\}": lambda g, i, o: (
        None
    ),
    r"returned one tensor for the tensor parameters": lambda g, i, o: i.x,
    r"returned 2 gradients for the tensor parameters": lambda g, i, o: (i.x, i.w),
    r"'grads' has no 'z'": lambda g, i, o: g.z,
    r"'inputs' has no 'y'": lambda g, i, o: i.y,
    r"'outputs' has no 'rsdt'; did you mean 'rstd'\?": lambda g, i, o: o.rsdt,
}


@pytest.mark.parametrize("message", WRONG)
def test_what_a_backward_returns_wrongly(message):
    def backward(grads, inputs, outputs):
        return WRONG[message](grads, inputs, outputs)

    norm = backward_of(backward)
    x, w = torch.randn(5, 37, requires_grad=True), torch.randn(37, requires_grad=True)
    y = norm(x, w, None, 1e-5)[0]
    with pytest.raises(TdslError, match=message):
        y.sum().backward()


def test_a_wrong_backward_under_compile():
    softmax, _ = make_softmax()

    @softmax.backward
    def softmax_backward(grads, inputs, outputs):
        return {"x": grads.y[:, 1:]}

    x = torch.randn(5, 37, requires_grad=True)
    with pytest.raises(Exception, match=r"f32\[5, 36\] for the gradient of 'x', which must be f32\[5, 37\]"):
        torch.compile(lambda x: softmax(x).sum(), fullgraph=True)(x).backward()


def test_what_is_not_saved():
    def backward(grads, inputs, outputs):
        return (inputs.eps * outputs.rstd.sum() * inputs.x, None, None)

    norm = backward_of(backward, saves=("rstd",))
    x, w = torch.randn(5, 37, requires_grad=True), torch.randn(37, requires_grad=True)
    with pytest.raises(
        TdslError,
        match=r"(?s)'x' is not saved for the backward of 'norm'.*backward\(saves=\('x', 'rstd',\)\)",
    ):
        norm(x, w, None, 1e-5)[0].sum().backward()
    norm = backward_of(backward, saves=("rstd", "x"))
    y = norm(x, w, None, 1e-5)[0]
    y.mul_(2)  # it is not saved
    y.sum().backward()
    assert w.grad is None and x.grad is not None
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y = backward_of(backward)(x, w, None, 1e-5)[0]
        y.mul_(2)
        y.sum().backward()


def test_what_cannot_be_a_backward():
    def backward(grads, inputs, outputs): ...

    with pytest.raises(TdslError, match="norm has no 'z' to save"):
        backward_of(backward, saves=("z",))
    with pytest.raises(TdslError, match="'eps' is no tensor: it is always there"):
        backward_of(backward, saves=("eps",))
    with pytest.raises(TypeError, match=r"saves= takes names, such as \('x',\)"):
        backward_of(backward, saves="x")
    with pytest.raises(
        TypeError, match=r"called with \(grads, inputs, outputs\), but '<lambda>' takes \(ctx, g\)"
    ):
        backward_of(lambda ctx, g: g)
    with pytest.raises(TypeError, match="must be a function"):
        backward_of(3)

    @tdsl.template(
        source="template inc(inout x: f32[N]):\n    for n in grid(N by 16):\n        store x[n] = load x[n] + 1\n"
    )
    def inc(x):
        x.add_(1)

    with pytest.raises(TdslError, match="'inc' writes to its arguments, and has no gradient"):
        inc.backward(backward)


def test_the_error_without_any_gradient_names_the_decorator():
    @tdsl.template(source=DOUBLE)
    def double(x): ...

    with pytest.raises(TdslError, match=r"@double\.backward"):
        double(torch.randn(5, requires_grad=True))


# Which one is taken


def test_another_backward_is_taken_at_once():
    @tdsl.template(source=DOUBLE)
    def double(x):
        return x * 2

    x = torch.randn(20, requires_grad=True)
    compiled = torch.compile(lambda x: double(x).sum(), fullgraph=True)
    first = double.op
    for factor in (None, 3.0, 4.0, 3.0):
        if factor is not None:

            @double.backward
            def double_backward(grads, inputs, outputs):
                return grads.y * factor  # noqa: B023

        for work in (compiled, lambda x: double(x).sum()):
            assert (torch.autograd.grad(work(x), x)[0] == (factor or 2.0)).all()
    assert double.op is not first

    # Another template of the same text, which has none.
    again = tdsl.template(source=DOUBLE, name="double")(double.reference)
    assert again.op is first
    assert (torch.autograd.grad(again(x).sum(), x)[0] == 2).all()


def test_a_call_keeps_the_backward_that_it_was_made_with():
    @tdsl.template(source=DOUBLE)
    def double(x): ...

    double.backward(lambda grads, inputs, outputs: grads.y * 3)
    x = torch.randn(20, requires_grad=True)
    y = double(x)
    double.backward(lambda grads, inputs, outputs: grads.y * 4)
    assert (torch.autograd.grad(y.sum(), x)[0] == 3).all()


def test_a_backward_of_what_another_template_uses_comes_too_late():
    def define(early):
        @tdsl.template(source=DOUBLE)
        def double(x):
            return x * 2

        def backward(grads, inputs, outputs):
            return grads.y * 0 + double(grads.y)  # its own template

        def other(grads, inputs, outputs):
            return grads.y * 3

        if early:
            double.backward(backward)
            double.backward(other)

        @tdsl.template(source=DOUBLE.replace("double", "outer"))
        def outer(x):
            return double(x)

        if early:
            double.backward(other)  # is the one that it has
        return double, outer, backward

    _, outer, _ = define(early=True)
    x = torch.randn(20, requires_grad=True)
    assert (torch.autograd.grad(outer(x).sum(), x)[0] == 3).all()
    double, outer, backward = define(early=False)
    with pytest.raises(
        TdslError, match=r"(?s)another template, decorated before, uses 'double'.*right below"
    ):
        double.backward(backward)
    assert (torch.autograd.grad(outer(x).sum(), x)[0] == 2).all()


def test_an_edited_backward_is_never_served_from_a_cache(tmp_path):
    program = f"""
from torch._dynamo.utils import counters
SOURCE = '''{DOUBLE}'''

@tdsl.template(source=SOURCE)
def double(x):
    return x * 2

@tdsl.template(source=SOURCE.replace("double", "triple").replace("* 2", "* 3"))
def triple(x):
    return x * 3

@double.backward
def double_backward(grads, inputs, outputs):
    return triple(grads.y) + 0

x = torch.ones(20, requires_grad=True)
torch.compile(lambda x: double(x).sum())(x).backward()
print(x.grad[0].item(), counters["aot_autograd"]["autograd_cache_hit"])
"""
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "1"}
    assert run(program, **cache) == "3.0 0\n"
    assert run(program, **cache) == "3.0 1\n"
    assert run(program.replace("+ 0", "+ 1"), **cache) == "4.0 0\n"
    assert run(program.replace("* 3", "* 5"), **cache) == "5.0 0\n"
    assert run(program.replace("@double.backward", "@double.backward(saves=())"), **cache) == "3.0 0\n"


# The comparison with the reference


def test_assert_gradient():
    softmax, _ = make_softmax()
    x = torch.randn(5, 37)
    report = testing.assert_gradient(softmax, (x,))
    assert len(report.runs) == 6 and 0 < report.error < 1e-5 and not x.requires_grad
    assert str(report).startswith("6 backwards; largest difference from the reference's derivative")
    softmax, _ = make_softmax(without_reference=True)
    with pytest.raises(
        AssertionError, match=r"'softmax' has no reference: say what is right with reference="
    ):
        testing.assert_gradient(softmax, (x,))
    testing.assert_gradient(softmax, (x.T.contiguous().T.bfloat16(),), reference=reference, dynamic=True)


def test_assert_gradient_of_many_templates():
    """More than Dynamo compiles of one function."""
    for by in range(torch._dynamo.config.recompile_limit + 2):

        @tdsl.template(source=DOUBLE.replace("* 2", f"* {by}"))
        def double(x):
            return x * by  # noqa: B023

        @double.backward(saves=())
        def double_backward(grads, inputs, outputs):
            return grads.y * by  # noqa: B023

        testing.assert_gradient(double, (torch.randn(5),))


def test_assert_gradient_of_an_output_without_dimensions():
    @tdsl.template(
        source="""
template total(x: f32[N]) -> y: f32[]:
    for _ in grid(1):
        acc = f32(0.0)
        for n in N by 16:
            acc += sum(load x[n], n)
        store y[] = acc
"""
    )
    def total(x):
        return x.sum()

    @total.backward(saves=("x",))
    def total_backward(grads, inputs, outputs):
        return grads.y.expand(inputs.x.shape)

    testing.assert_gradient(total, (torch.randn(5),))


def test_assert_gradient_of_several_outputs():
    x, w = torch.randn(5, 37, requires_grad=True), torch.randn(37, requires_grad=True)
    report = testing.assert_gradient(make_norm(), (x, w, None, 1e-5, False))
    assert "eager, given a gradient of 'rstd' alone" in report.runs
    assert not any("'size'" in run for run in report.runs)


def test_assert_gradient_finds_what_is_wrong():
    def make(backward):
        norm = make_norm()
        norm.backward(backward)
        return norm

    def forgets_rstd(grads, inputs, outputs):
        x, inv = inputs.x, outputs.rstd[:, None]
        g = grads.y * inputs.w
        dx = g * inv - x * inv**3 * (g * x).sum(-1, keepdim=True) / x.shape[1]
        return dx, (grads.y * x * inv).sum(0), grads.y.sum(0)

    def says_none(grads, inputs, outputs):
        return {"x": forgets_rstd(grads, inputs, outputs)[0], "w": None}

    x, w = torch.randn(5, 37), torch.randn(37)
    with pytest.raises(
        AssertionError, match=r"gradient of x'\] of the eager backward, given random gradients"
    ):
        testing.assert_gradient(make(forgets_rstd), (x, w, None, 1e-5))
    with pytest.raises(
        AssertionError, match=r"gradient of w'\] of the eager backward, given random gradients"
    ):
        testing.assert_gradient(make(says_none), (x.requires_grad_(False), w.requires_grad_(), None, 1e-5))

    @tdsl.template(source=DOUBLE)
    def double(x):
        return x * 2

    with pytest.raises(AssertionError, match=r"'double' has no backward of its own \(@double.backward\)"):
        testing.assert_gradient(double, (torch.randn(5),))

"""What templates take the place of in models that do not call them, and of what they do not."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import tdsl
from tdsl import testing
from tdsl.testing import load_module

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    return load_module(EXAMPLES / name / f"{name}.py")


rms_norm, swiglu, rope = example("rms_norm").rms_norm, example("swiglu").swiglu, example("rope").rope
layer_norm, softmax, cross_entropy = (
    example("layer_norm").layer_norm,
    example("softmax").softmax,
    example("cross_entropy").cross_entropy,
)


@rms_norm.replaces
def llama_norm(x, w, eps):
    v = x.float()
    return w * (v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*takes the place of nothing")
        yield


def replaced(program, *args, templates=(rms_norm,), dynamic=None, close=True):
    """How many calls take the place of something in the graph of `program`, whose results stay what they were."""
    found = tdsl.replacing(*templates)
    counts = []

    def backend(module, inputs):
        counts.append(found.apply(module))
        module.recompile()
        return module.forward

    expected = program(*args)
    got = torch.compile(program, backend=backend, fullgraph=True, dynamic=dynamic)(*args)
    if close:
        # Against float64: the template may round in fewer places.
        kwargs = {"rtol": 2e-2, "atol": 2e-2} if any(a.dtype == torch.bfloat16 for a in args) else {}
        torch.testing.assert_close(got, expected, **kwargs)
    return sum(counts)


def norm_inputs(dtype=torch.float32):
    return torch.randn(3, 5, 48, dtype=dtype), torch.randn(48, dtype=dtype)


# Spellings

NORMS = {
    "F.rms_norm": lambda x, w: F.rms_norm(x, (48,), w, 1e-6),
    "nn.RMSNorm's parts": lambda x, w: (
        w * F.rms_norm(x.float(), (48,), None, 1e-6).to(x.dtype)
        if x.dtype == torch.float32
        else F.rms_norm(x, (48,), w, 1e-6)
    ),
    "pow": lambda x, w: (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6) * w).to(
        x.dtype
    ),
    "quotient": lambda x, w: (
        x.float() / torch.sqrt((x.float() * x.float()).mean(-1, keepdim=True) + 1e-6) * w
    ).to(x.dtype),
    "sum": lambda x, w: (w * (x.float() * (x.float().square().sum(-1, keepdim=True) / 48 + 1e-6) ** -0.5)).to(
        x.dtype
    ),
    "unsqueeze": lambda x, w: (x.float() * (1e-6 + x.float().square().mean(-1)).rsqrt().unsqueeze(-1) * w).to(
        x.dtype
    ),
    "reciprocal": lambda x, w: (
        w * x.float() * torch.reciprocal((x.float().square().mean(2, True) + 1e-6).sqrt())
    ).to(x.dtype),
    "flattened": lambda x, w: (
        lambda v: (v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6) * w).to(x.dtype)
    )(x.reshape(-1, 48).float()).reshape(x.shape),
    "llama": lambda x, w: llama_norm(x, w, 1e-6),
    "in place": lambda x, w: (
        x.float() * x.float().square().mean(-1, keepdim=True).add_(1e-6).rsqrt_().mul_(1) * w
    ).to(x.dtype),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_however_it_is_written(name, dtype):
    x, w = norm_inputs(dtype)
    assert replaced(lambda x, w: torch.relu(NORMS[name](x * 2, w)), x, w) == 1


@pytest.mark.parametrize("name", ["F.rms_norm", "pow", "quotient", "flattened", "llama"])
def test_a_norm_of_dynamic_sizes(name):
    x, w = norm_inputs()
    assert replaced(lambda x, w: NORMS[name](x + 1, w), x, w, dynamic=True) == 1


def test_a_norm_of_what_is_a_sum_or_a_product():
    x, w = norm_inputs()
    assert replaced(lambda x, r, w: llama_norm(x + r, w, 1e-5), x, x.sin(), w) == 1
    assert replaced(lambda x, r, w: llama_norm(x * r, w, 1e-5), x, x.sin(), w) == 1
    assert replaced(lambda x, w: llama_norm(x * 7, w, 1e-5) * 3, x, w) == 1


def test_the_number_is_the_models():
    x, w = norm_inputs()
    for eps in (1e-5, 0.25, 3.0):
        assert replaced(lambda x, w, e=eps: llama_norm(x, w, e), x, w) == 1


GATES = {
    "silu": F.silu,
    "x * sigmoid": lambda g: g * torch.sigmoid(g),
    "quotient": lambda g: g / (1 + torch.exp(-g)),
    "nn.SiLU": nn.SiLU(),
}


@pytest.mark.parametrize("name", GATES)
def test_a_gated_unit(name):
    gate, up = nn.Linear(24, 40, bias=False), nn.Linear(24, 40, bias=False)
    x = torch.randn(2, 7, 24)
    with torch.no_grad():
        assert replaced(lambda x: up(x) * GATES[name](gate(x)), x, templates=[swiglu]) == 1


def test_rotary_embedding_of_a_transposed_view():
    def half(x):
        first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return torch.cat((-second, first), dim=-1)

    def program(x, cos, sin):
        q = x.view(2, 9, 3, 8).transpose(1, 2)
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        return (half(q) * sin + q * cos).transpose(1, 2).reshape(2, 9, 24)

    x = torch.randn(2, 9, 24)
    assert replaced(program, x, torch.randn(1, 9, 8), torch.randn(1, 9, 8), templates=[rope]) == 1
    assert replaced(program, x, torch.randn(2, 9, 8), torch.randn(2, 9, 8), templates=[rope]) == 1


def test_layer_norm_whose_statistics_nobody_reads():
    x, w = norm_inputs()
    b = torch.randn(48)
    assert (
        replaced(lambda x, w, b: F.layer_norm(x, (48,), w, b, 1e-5).cos(), x, w, b, templates=[layer_norm])
        == 1
    )

    def by_hand(x, w, b):
        mean = x.mean(-1, keepdim=True)
        var = (x - mean).pow(2).mean(-1, keepdim=True)
        return (x - mean) / torch.sqrt(var + 1e-5) * w + b

    assert replaced(by_hand, x, w, b, templates=[layer_norm]) == 1
    assert replaced(lambda x, r, w, b: by_hand(x + r, w, b), x, x.cos(), w, b, templates=[layer_norm]) == 1


def test_softmax():
    x = torch.randn(6, 33)
    assert replaced(lambda x: torch.softmax(x * 2, -1), x, templates=[softmax]) == 1

    def by_hand(x):
        e = torch.exp(x - x.amax(-1, keepdim=True))
        return e / e.sum(-1, keepdim=True)

    assert replaced(by_hand, x, templates=[softmax]) == 1


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_the_loss_inside_of_what_reduces_it(reduction):
    logits, target = torch.randn(2, 6, 30), torch.randint(0, 30, (2, 6))
    target[0, :2] = -100

    def program(logits, target):
        shifted = F.pad(target, (0, 1), value=-100)[..., 1:].contiguous()
        return F.cross_entropy(logits.float().view(-1, 30), shifted.view(-1), reduction=reduction)

    assert replaced(program, logits, target, templates=[cross_entropy]) == 1


# What is nearly it

NEAR = {
    "a bias": lambda x, w, v: v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6) * w + w,
    "eps outside": lambda x, w, v: v / (torch.sqrt(v.square().mean(-1, keepdim=True)) + 1e-6) * w,
    "no eps": lambda x, w, v: v * torch.rsqrt(v.square().mean(-1, keepdim=True)) * w,
    "eps twice": lambda x, w, v: v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6 + v.mean()) * w,
    "sum": lambda x, w, v: v * torch.rsqrt(v.square().sum(-1, keepdim=True) + 1e-6) * w,
    "another count": lambda x, w, v: v * torch.rsqrt(v.square().sum(-1, keepdim=True) / 47 + 1e-6) * w,
    "amax": lambda x, w, v: v * torch.rsqrt(v.square().amax(-1, keepdim=True) + 1e-6) * w,
    "abs": lambda x, w, v: v * torch.rsqrt(v.abs().mean(-1, keepdim=True) + 1e-6) * w,
    "cubed": lambda x, w, v: v * torch.rsqrt(v.pow(3).abs().mean(-1, keepdim=True) + 1e-6) * w,
    "another dimension": lambda x, w, v: v * torch.rsqrt(v.square().mean(-2, keepdim=True) + 1e-6) * w,
    "two dimensions": lambda x, w, v: v * torch.rsqrt(v.square().mean((-1, -2), keepdim=True) + 1e-6) * w,
    "all": lambda x, w, v: v * torch.rsqrt(v.square().mean() + 1e-6) * w,
    "root": lambda x, w, v: v * torch.sqrt(v.square().mean(-1, keepdim=True) + 1e-6) * w,
    "power": lambda x, w, v: v * (v.square().mean(-1, keepdim=True) + 1e-6) ** -0.25 * w,
    "weight plus one": lambda x, w, v: v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6) * (1 + w),
    "weight of another": lambda x, w, v: v * torch.rsqrt(x.sin().square().mean(-1, keepdim=True) + 1e-6) * w,
    "weight squared": lambda x, w, v: v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6) * w * w,
    "weight along rows": lambda x, w, v: (
        v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6) * w[:5, None]
    ),
    "centred": lambda x, w, v: (
        (v - v.mean(-1, keepdim=True)) * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6) * w
    ),
    "variance": lambda x, w, v: v * torch.rsqrt(v.var(-1, keepdim=True) + 1e-6) * w,
    "half": lambda x, w, v: v.half().float() * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6) * w,
    "half inside": lambda x, w, v: (
        v * torch.rsqrt(v.half().float().square().mean(-1, keepdim=True) + 1e-6) * w
    ),
    "half mean": lambda x, w, v: v * torch.rsqrt(v.square().mean(-1, keepdim=True).half().float() + 1e-6) * w,
    "half weight": lambda x, w, v: (
        v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6) * w.half().float()
    ),
    "half result": lambda x, w, v: (
        (v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6)).half().float() * w
    ),
    "clamped": lambda x, w, v: v * torch.rsqrt(v.square().mean(-1, keepdim=True).clamp(min=1e-6)) * w,
    "part of the row": lambda x, w, v: (
        v * torch.rsqrt(v[..., :40].square().mean(-1, keepdim=True) + 1e-6) * w
    ),
    "shifted": lambda x, w, v: v * torch.rsqrt(v.roll(1, 1).square().mean(-1, keepdim=True) + 1e-6) * w,
    "flipped": lambda x, w, v: v.flip(-1) * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6) * w,
    "eps of each row": lambda x, w, v: (
        v * torch.rsqrt(v.square().mean(-1, keepdim=True) + x[..., :1].abs()) * w
    ),
    "sign": lambda x, w, v: v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6) * w * v.sign(),
    "log": lambda x, w, v: v * torch.exp(-torch.log(v.square().mean(-1, keepdim=True) + 1e-6)) * w,
}


@pytest.mark.parametrize("name", NEAR)
def test_what_is_nearly_a_norm_is_left(name):
    """Changed by one thing each. A norm inside of more is replaced, so the whole is compared, and what is left of it."""
    x, w = norm_inputs()
    inner = name in ("a bias", "weight squared", "sign", "weight plus one", "half weight")
    count = replaced(lambda x, w: NEAR[name](x, w, x * 2), x, w)
    assert count == (1 if inner else 0)


def test_a_cast_in_another_place_needs_a_spelling():
    source = (EXAMPLES / "rms_norm" / "rms_norm.tdsl").read_text()

    @tdsl.template(source=source, name="rms_norm")
    def plain(x, w, eps):
        v = x.float()
        return (v * torch.rsqrt(v.square().mean(-1, keepdim=True) + eps) * w).to(x.dtype)

    x, w = norm_inputs(torch.bfloat16)
    assert replaced(lambda x, w: llama_norm(x, w, 1e-6), x, w, templates=[plain]) == 0
    near = tdsl.replacements()[-1]
    assert near.why is not None and "the reference has" in near.why
    plain.replaces(llama_norm)
    assert replaced(lambda x, w: llama_norm(x, w, 1e-6), x, w, templates=[plain]) == 1


# What is around it


def test_a_result_that_others_need_is_not_calculated_twice():
    def program(x, gate, up):
        g = x @ gate
        return F.silu(g) * (x @ up), g

    inputs = torch.randn(6, 8), torch.randn(8, 10), torch.randn(8, 10)
    assert replaced(program, *inputs, templates=[swiglu]) == 0
    assert "used elsewhere" in str(tdsl.replacements()[-1].why)


def test_an_argument_that_is_written_to_on_the_way():
    def program(x, w):
        x = x * 1
        v = x.float()
        scale = torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-6)
        h = v * scale * w
        x.add_(1)
        return h, x

    def spoiled(x, w):
        x = x * 1
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        x.add_(1)
        return x * scale * w, x

    assert replaced(program, *norm_inputs()) == 1
    assert replaced(spoiled, *norm_inputs()) == 0


def test_what_cannot_be_written_leaves_the_rest():
    def program(x, w):
        y = x.cos()
        normed = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
        y.add_(1)
        return normed * w, llama_norm(x.sin(), w, 1e-6)

    assert replaced(program, *norm_inputs()) == 1


def test_a_result_that_is_written_to_afterwards():
    def program(x, w):
        h = llama_norm(x, w, 1e-6)
        view = h[0]
        view.mul_(2)
        return h + 1

    assert replaced(program, *norm_inputs()) == 1


def test_a_view_of_a_result_that_has_other_strides():
    def program(x, w):
        y = llama_norm(x.transpose(0, 1), w, 1e-6)
        return y.transpose(0, 1).view(-1), y.transpose(0, 1)

    x, w = norm_inputs()
    assert replaced(program, x, w) == 1
    out = torch.compile(program, options=tdsl.replacing(rms_norm))(x, w)
    assert out[1].stride() == program(x, w)[1].stride()


def test_sizes_that_are_known_when_it_runs():
    def program(x, gate, up, which):
        y = x
        for index in range(2):
            (rows,) = (which == index).nonzero(as_tuple=True)
            tokens = x[rows]
            y = y.index_add(0, rows, F.silu(tokens @ gate) * (tokens @ up))
        return y

    args = torch.randn(9, 16), torch.randn(16, 16), torch.randn(16, 16), torch.arange(9) % 3
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        assert replaced(program, *args, templates=(swiglu,)) == 2
        compiled = torch.compile(
            program, fullgraph=True, options=tdsl.replacing(swiglu, at_least={swiglu: 2})
        )
        torch.testing.assert_close(compiled(*args), program(*args))


def test_options_are_copied():
    """PyTorch copies what is set where it compiles; what is counted in a copy is counted."""
    x, w = norm_inputs()
    with tdsl.replacing(rms_norm, at_least={rms_norm: 1}) as found:
        copied = copy.deepcopy(dict(found))
        assert all(copied[name] is found[name] for name in ("pre_grad_custom_pass",))
        torch.compile(lambda x: F.rms_norm(x, (48,), w, 1e-6))(x)


def test_under_autocast():
    gate, up = nn.Linear(24, 40, bias=False), nn.Linear(24, 40, bias=False)

    def program(x):
        with torch.autocast("cpu", torch.bfloat16):
            return (F.silu(gate(x)) * up(x)).float()

    x = torch.randn(3, 24)
    with torch.no_grad():
        expected = program(x)
        found = tdsl.replacing(swiglu)
        got = torch.compile(program, fullgraph=True, options=found)(x)
    assert found.counts[swiglu] == 1
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-2)


def test_under_autocast_that_was_on_before():
    """It keeps the weights that it has cast, which are no tensors of the graph."""
    gate, up = nn.Linear(24, 40, bias=False), nn.Linear(24, 40, bias=False)

    def program(x):
        return F.silu(gate(x)) * up(x)

    x = torch.randn(3, 24)
    found = tdsl.replacing(swiglu)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        got = torch.compile(program, fullgraph=True, options=found)(x)
        torch.testing.assert_close(got, program(x), rtol=2e-2, atol=2e-2)
    assert found.counts[swiglu] == 1


def test_a_template_that_autocast_would_cast():
    source = (EXAMPLES / "rms_norm" / "rms_norm.tdsl").read_text()

    @tdsl.template(source=source, name="rms_norm", autocast="lower")
    def norm(x, w, eps):
        v = x.float()
        return (v * torch.rsqrt(v.square().mean(-1, keepdim=True) + eps) * w).to(x.dtype)

    def program(x, w):
        with torch.autocast("cpu", torch.bfloat16):
            return norm.reference(x, w, 1e-6)

    assert replaced(program, *norm_inputs(), templates=[norm]) == 0
    assert "autocast is on there" in str(tdsl.replacements()[-1].why)
    assert replaced(program, *norm_inputs()) == 1


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.gate, self.up = nn.Linear(width, 40, bias=False), nn.Linear(width, 40, bias=False)
        self.down = nn.Linear(40, width, bias=False)

    def forward(self, x):
        h = llama_norm(x, self.weight, 1e-6)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self, width=16, layers=2, save=False):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.save = save

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.save else block(x)
        return x


def step(call, model, x):
    model.zero_grad()
    out = call(x)
    out.square().sum().backward()
    return [out.detach(), *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("save", [False, True], ids=["plain", "checkpointed"])
def test_a_training_step(save):
    model, x = Model(save=save), torch.randn(5, 16)
    found = tdsl.replacing(rms_norm, swiglu, at_least={rms_norm: 2, swiglu: 2})
    expected = step(model, model, x)
    got = step(torch.compile(model, fullgraph=True, options=found), model, x)
    found.check()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_each_block_compiled():
    model, x = Model(), torch.randn(5, 16)
    expected = step(model, model, x)
    found = tdsl.replacing(rms_norm, swiglu)
    for block in model.blocks:
        block.compile(fullgraph=True, options=found)
    torch.testing.assert_close(step(model, model, x), expected, rtol=1e-4, atol=1e-4)
    assert found.counts[swiglu] >= 1


def test_the_context_counts_at_its_end():
    model, x = Model(), torch.randn(5, 16)
    with tdsl.replacing(rms_norm, at_least={rms_norm: 2}), torch.no_grad():
        torch.compile(model, fullgraph=True)(x)
    torch._dynamo.reset()
    with (
        pytest.raises(tdsl.TdslError, match="at least 3 times, and did 2"),
        tdsl.replacing(rms_norm, at_least={rms_norm: 3}),
        torch.no_grad(),
    ):
        torch.compile(model, fullgraph=True)(x)


def test_what_is_compiled_again_counts_once():
    model = Model()
    found = tdsl.replacing(rms_norm)
    compiled = torch.compile(model, fullgraph=True, options=found)
    with torch.no_grad():
        for rows in (3, 4, 5):
            compiled(torch.randn(rows, 16))
    compiled(torch.randn(5, 16))
    assert found.counts[rms_norm] == 2


def test_nothing_found_is_said():
    with pytest.warns(UserWarning, match="rms_norm takes the place of nothing in this graph"):
        torch.compile(torch.sin, options=tdsl.replacing(rms_norm))(torch.randn(3))


def test_an_exported_program():
    model, x = Model(), torch.randn(5, 16)
    program = torch.export.export(model, (x,))
    assert tdsl.replacing(rms_norm, swiglu).apply(program.graph_module) == 4
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-4)


# What only looks the same


def by_hand(x, stat, w):
    return x * torch.rsqrt(stat.square().mean(-1, keepdim=True) + 1e-6) * w


def without(x):
    with torch.no_grad():
        return x.sin()


STOPPED = {
    "detach inside": (0, lambda x, w: by_hand(x, x.detach(), w)),
    "detach of the statistic": (
        0,
        lambda x, w: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6).detach() * w,
    ),
    "data inside": (0, lambda x, w: by_hand(x, x.data, w)),
    "no_grad inside": (0, lambda x, w: by_hand(x.sin(), without(x), w)),
    "the same without a gradient before": (1, lambda x, w: without(x) + llama_norm(x.sin(), w, 1e-6)),
    "the same detached before": (1, lambda x, w: x.detach() * 2 + llama_norm(x * 2, w, 1e-6)),
    "another embedding before": (
        1,
        lambda x, w: (
            F.embedding(torch.tensor([0, 1]), x[0]).sum()
            + llama_norm(F.embedding(torch.tensor([0, 1]), x[0], padding_idx=0), w, 1e-6)
        ),
    ),
}


@pytest.mark.parametrize("name", STOPPED)
def test_where_a_gradient_stops(name):
    expected_count, program = STOPPED[name]

    def gradients(call, *args):
        args = [arg.clone().requires_grad_() for arg in args]
        call(*args).square().sum().backward()
        return [arg.grad for arg in args]

    inputs = norm_inputs()
    found = tdsl.replacing(rms_norm)
    counts = []

    def backend(module, _):
        counts.append(found.apply(module))
        module.recompile()
        return module.forward

    got = gradients(torch.compile(program, backend=backend, fullgraph=True), *inputs)
    torch.testing.assert_close(got, gradients(program, *inputs), rtol=1e-4, atol=1e-4)
    assert sum(counts) == expected_count


def test_where_gradients_are_off():
    def program(x, w):
        with torch.no_grad():
            y = llama_norm(x * 2, w, 1e-6)
        return y + llama_norm(x * 2, w, 1e-6)

    x, w = norm_inputs()
    assert replaced(program, x.requires_grad_(), w) == 2


TWINS = {
    "round": (torch.round, lambda x: torch.round(x, decimals=2)),
    "complex": (
        lambda x: torch.complex(x, x.cos()).to(torch.float32).abs(),
        lambda x: torch.complex(x, x.cos()).abs(),
    ),
    "comparison": (
        lambda x: ((x * 3).long() < x[0, 0, 0].cos().long()).float(),
        lambda x: ((x * 3).long() < x[0, 0, 0].cos()).float(),
    ),
    "root": (torch.sin, lambda x: x.sin().sqrt() * x.sin().sqrt()),
    "squared root": (torch.sin, lambda x: x.sin().sqrt().square()),
    "strides": (
        lambda x: x.permute(2, 1, 0).contiguous().permute(2, 1, 0).as_strided((5, 48), (48, 1)),
        lambda x: x.as_strided((5, 48), (48, 1)),
    ),
    "device": (lambda x: x.to("meta").sin(), torch.sin),
    "factor": (lambda x: 2 * x - x.sin(), lambda x: torch.rsub(x.sin(), x, alpha=2)),
}


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("name", TWINS)
def test_an_argument_is_not_what_is_nearly_the_same(name):
    """The first of the two is calculated before, and is no argument of what takes the second."""
    first, second = TWINS[name]
    x, w = norm_inputs()
    expected = llama_norm(second(x), w, 1e-6)
    found = tdsl.replacing(rms_norm)

    def backend(module, _):
        found.apply(module)
        module.recompile()
        return module.forward

    def program(x, w):
        return first(x), llama_norm(second(x), w, 1e-6)

    got = torch.compile(program, backend=backend, fullgraph=True)(x, w)[1]
    torch.testing.assert_close(got, expected, equal_nan=True)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: torch.ones_like(x).exp(),
        lambda x: torch.zeros_like(x, dtype=torch.bool).float(),
        lambda x: (x - x).square(),
        lambda x: x[0, 0, 0].var(correction=0),
    ],
    ids=["constant", "cast constant", "no sum", "no dimensions"],
)
def test_what_is_elsewhere_can_be_read(work):
    assert replaced(lambda x, w: (work(x), llama_norm(x, w, 1e-6)), *norm_inputs()) == 1


def test_a_copy_that_would_be_the_same_memory():
    def contiguous(x, w):
        y = llama_norm(x.transpose(0, 1), w, 1e-6)
        copied = y.contiguous()
        copied.mul_(2)
        return y.sum(-1) + copied.sum(-1)

    def flat(x, w):
        y = llama_norm(x.transpose(0, 1), w, 1e-6)
        y.reshape(-1).mul_(2)
        return y.sum()

    assert replaced(contiguous, *norm_inputs()) == 1
    assert replaced(flat, *norm_inputs()) == 1


def test_what_reads_memory_as_it_lies():
    def program(x, w):
        return llama_norm(x.transpose(0, 1), w, 1e-6).as_strided((240,), (1,)).sin()

    assert replaced(program, *norm_inputs()) == 1


def test_what_nobody_reads_stays():
    def program(x, w):
        y = llama_norm(x, w, 1e-6)
        torch.rand(3)
        return y + torch.rand(48)

    x, w = norm_inputs()
    found = tdsl.replacing(rms_norm)

    def backend(module, _):
        assert found.apply(module) == 1
        module.recompile()
        return module.forward

    torch.manual_seed(3)
    expected = program(x, w)
    torch.manual_seed(3)
    torch.testing.assert_close(torch.compile(program, backend=backend, fullgraph=True)(x, w), expected)


def test_beside_and_within_transforms():
    x, w = norm_inputs()
    vmap, grad, jvp = torch.func.vmap, torch.func.grad, torch.func.jvp
    assert replaced(lambda x, w: llama_norm(vmap(torch.sin)(x), w, 1e-6), x, w) == 1
    assert replaced(lambda x, w: vmap(lambda row: llama_norm(row, w, 1e-6))(x), x, w) == 0
    assert replaced(lambda x, w: grad(lambda x: llama_norm(x, w, 1e-6).sum())(x), x, w) == 0
    assert replaced(lambda x, w: jvp(lambda x: llama_norm(x, w, 1e-6), (x,), (x,))[1], x, w) == 0


@pytest.mark.parametrize("train", [False, True])
def test_a_product_that_others_read_is_calculated_once(train):
    """The graph has the product as a part of what `F.linear` does, and its result as a node."""
    x, w = torch.randn(2, 5, 16), torch.randn(30, 16, requires_grad=train)
    target = torch.randint(0, 30, (2, 5))

    def program(x, w):
        logits = F.linear(x, w)
        return F.cross_entropy(logits.view(-1, 30).float(), target.view(-1)), logits

    def products(**settings):
        torch._dynamo.reset()

        def run():
            loss, logits = torch.compile(program, **settings)(x, w)
            return torch.autograd.grad(loss + logits.sum(), w) if train else (loss, logits)

        counted = testing.count_kernels(run)
        return counted.result, sum(text.count("extern_kernels.") for text in counted.code)

    expected, plain = products()
    found = tdsl.replacing(cross_entropy, at_least={cross_entropy: 1})
    got, ours = products(options=found)
    found.check()
    torch.testing.assert_close(got, expected)
    assert ours == plain == 1 + train


# What is wrong


def test_a_spelling_that_gives_other_numbers():
    source = (EXAMPLES / "rms_norm" / "rms_norm.tdsl").read_text()

    @tdsl.template(source=source, name="rms_norm")
    def norm(x, w, eps):
        v = x.float()
        return (v * torch.rsqrt(v.square().mean(-1, keepdim=True) + eps) * w).to(x.dtype)

    norm.replaces(lambda x, w, eps: (x.float() * w).to(x.dtype))
    with pytest.raises(tdsl.TdslError, match="returns other numbers for 'y' than its reference"):
        tdsl.replacing(norm)


def test_a_spelling_of_other_parameters():
    source = (EXAMPLES / "rms_norm" / "rms_norm.tdsl").read_text()

    @tdsl.template(source=source, name="rms_norm")
    def norm(x, w, eps):
        v = x.float()
        return (v * torch.rsqrt(v.square().mean(-1, keepdim=True) + eps) * w).to(x.dtype)

    norm.replaces(lambda x, w: x * w)
    with pytest.raises(tdsl.TdslError, match="takes the template's parameters in their order"):
        tdsl.replacing(norm)


SCALED = """
template scaled(x: f32[R..., N], flag: const bool, factor: float) -> y: f32[R..., N]:
    for r in grid(R by 4):
        n = whole(N)
        v = load x[r, n]
        if flag:
            store y[r, n] = v * factor * sum(v, n)
        else:
            store y[r, n] = v + factor * sum(v, n)
"""


def ignores_flag(x, flag, factor):
    return x * factor * x.sum(-1, keepdim=True)


def ignores_scalar(x, flag, factor):
    return x * 0.1 * x.sum(-1, keepdim=True) if flag else x + 0.1 * x.sum(-1, keepdim=True)


def other_dimension(x, flag, factor):
    total = x.sum(2 if x.dim() > 2 else -1, keepdim=True)
    return x * factor * total if flag else x + factor * total


def other_gradient(x, flag, factor):
    total = x.sum(-1, keepdim=True).detach()
    return x * factor * total if flag else x + factor * total


def small_numbers(x, flag, factor):
    return torch.where(x.abs() < 6, right(x, flag, factor), 0)


def right(x, flag, factor):
    total = x.sum(-1, keepdim=True)
    return x * total * factor if flag else total * factor + x


@pytest.mark.parametrize(
    "spelling", [ignores_flag, ignores_scalar, other_dimension, other_gradient, small_numbers, right]
)
def test_a_spelling_that_is_right_now_and_then(spelling):
    @tdsl.template(source=SCALED)
    def scaled(x, flag, factor):
        total = x.sum(-1, keepdim=True)
        return x * factor * total if flag else x + factor * total

    scaled.replaces(spelling)
    if spelling is right:
        tdsl.replacing(scaled)
        return
    message = "another gradient" if spelling is other_gradient else "other numbers"
    with pytest.raises(tdsl.TdslError, match=message):
        tdsl.replacing(scaled)


def test_what_replacing_is_not_given():
    for count in (-1, 1.5, "3", True):
        with pytest.raises(TypeError, match="at_least= says how often"):
            tdsl.replacing(rms_norm, at_least={rms_norm: count})
    with pytest.raises(TypeError, match=r"takes an fx\.GraphModule"):
        tdsl.replacing(rms_norm).apply(nn.Linear(2, 2))


def test_contexts_within_contexts():
    """PyTorch copies its options, and with them what has been entered."""
    x, w = norm_inputs()
    with tdsl.replacing(softmax), tdsl.replacing(rms_norm) as found:
        torch.compile(lambda x, w: llama_norm(x, w, 1e-6))(x, w)
    assert found.counts[rms_norm] == 1


def test_a_template_that_says_nothing():
    @tdsl.template(
        source="template f(x: f32[M]) -> y: f32[M]:\n    for m in grid(M):\n        store y[m] = load x[m]\n"
    )
    def f(x): ...

    with pytest.raises(tdsl.TdslError, match="says nowhere what it means"):
        tdsl.replacing(f)
    with pytest.raises(TypeError, match="takes templates"):
        tdsl.replacing(torch.sin)


def test_a_template_that_writes():
    axpy = example("axpy")
    written = next(v for v in vars(axpy).values() if isinstance(v, tdsl.Template))
    with pytest.raises(tdsl.TdslError, match="cannot take the place"):
        tdsl.replacing(written)


# Whole modules


def fast(self, x):
    return x + self.down(swiglu(llama_norm(x, self.weight, 1e-6), self.gate.weight.T, self.up.weight.T))


def test_swap():
    model, other, x = Model(), Model(), torch.randn(5, 16)
    expected = model(x)
    names = list(model.state_dict())
    swapped = tdsl.swap(model, {Block: fast})
    assert len(swapped.modules) == 2
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    assert list(model.state_dict()) == names
    assert "forward" not in vars(other.blocks[0])
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.blocks[1].forward.module is again.blocks[1]
        torch.testing.assert_close(again(x), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), expected, rtol=1e-4, atol=1e-4)
    swapped.undo()
    assert "forward" not in vars(model.blocks[0])
    with pytest.raises(ValueError, match="has no Conv2d; it has"):
        tdsl.swap(model, {nn.Conv2d: fast})


def test_swaps_are_undone_in_their_order():
    model = Model()
    first = tdsl.swap(model, {Block: fast})
    second = tdsl.swap(model, {Block: fast})
    with pytest.raises(RuntimeError, match="undo that first"):
        first.undo()
    second.undo()
    first.undo()
    assert "forward" not in vars(model.blocks[0])


def test_what_swap_is_not_given():
    for wrong in ({"Block": fast}, {Block: None}):
        with pytest.raises(TypeError, match="takes a function for each class"):
            tdsl.swap(Model(), wrong)

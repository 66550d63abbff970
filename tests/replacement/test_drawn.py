"""Programs that are drawn: templates' references in many spellings, changed here and there, among other work, written to, used
twice. What is replaced must give what was there before."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import tdsl
from tdsl.testing import load_module

EXAMPLES = Path(__file__).parents[2] / "examples"
SEED = int(os.environ.get("TDSL_DRAWN_SEED", "0"))
COUNT = int(os.environ.get("TDSL_DRAWN", "80"))


def example(name):
    return getattr(load_module(EXAMPLES / name / f"{name}.py"), name)


TEMPLATES = [example(name) for name in ("rms_norm", "layer_norm", "softmax", "swiglu", "cross_entropy")]
N = 12


class Draw:
    """One program, as lines of Python; `a`, `b`, ... are [3, 5, N], `w` and `u` are [N], `m` is [N, N]."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.lines, self.names = [], ["a", "b"]
        for _ in range(self.rng.randint(2, 7)):
            self.step()
        picked = self.rng.sample(self.names, min(len(self.names), self.rng.randint(1, 3)))
        self.lines.append(f"return {', '.join(dict.fromkeys([*picked, self.names[-1]]))},")

    def one(self):
        return self.rng.choice(self.names[-4:])

    def new(self, text):
        """A value of the shape that all have."""
        self.names.append(self.part(text))
        return self.names[-1]

    def part(self, text):
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return name

    def maybe(self, text, other, often=0.12):
        return other if self.rng.random() < often else text

    def step(self):
        kind = self.rng.choice(
            ["norm", "norm", "layer", "softmax", "gated", "loss", "work", "work", "write", "view"]
        )
        getattr(self, kind)()

    def squared(self, v):
        return self.rng.choice([f"{v}.pow(2)", f"{v}.square()", f"({v} * {v})", f"torch.pow({v}, 2)"])

    def mean(self, v):
        kept = self.rng.choice(
            [f"{v}.mean(-1, keepdim=True)", f"{v}.sum(-1, keepdim=True) / {N}", f"{v}.mean(-1)[..., None]"]
        )
        return self.maybe(
            kept,
            self.rng.choice([f"{v}.mean(1, keepdim=True)", f"{v}.sum(-1, keepdim=True)", f"{v}.mean()"]),
            0.08,
        )

    def norm(self):
        x = self.one()
        if self.rng.random() < 0.2:
            self.new(f"F.rms_norm({x}, ({N},), {self.rng.choice('wu')}, 1e-5)")
            return
        v = self.new(self.maybe(f"{x}.float()", f"{x}.half().float()", 0.05))
        if self.rng.random() < 0.1:
            self.write()
        s = self.part(
            f"{self.mean(self.squared(self.maybe(v, self.one())))} + {self.rng.choice(['1e-5', '0.5', '1e-5 * 3'])}"
        )
        inv = self.rng.choice(
            [f"torch.rsqrt({s})", f"1 / {s}.sqrt()", f"{s} ** -0.5", f"{s}.sqrt().reciprocal()"]
        )
        inv = self.maybe(inv, self.rng.choice([f"{s}.sqrt()", f"torch.rsqrt({s}.abs() + {s})"]), 0.08)
        w = self.maybe(self.rng.choice("wu"), self.rng.choice(["(1 + w)", "w[:1]", "w.half().float()"]), 0.15)
        order = [v, inv, w]
        self.rng.shuffle(order)
        if self.rng.random() < 0.3:
            inv = self.part(inv)
            order = [v, inv, w]
        self.new(" * ".join(f"({each})" for each in order))

    def layer(self):
        x = self.one()
        if self.rng.random() < 0.5:
            bias = self.rng.choice(["u", "None"])
            self.new(f"F.layer_norm({x}, ({N},), w, {bias}, 1e-5)")
            return
        mean = self.part(self.mean(x))
        c = self.new(f"{x} - {mean}")
        var = self.part(self.mean(self.squared(c)))
        y = self.new(f"{c} / torch.sqrt({var} + {self.maybe('1e-5', 'u', 0.1)}) * w")
        if self.rng.random() < 0.7:
            self.new(f"{y} + u")

    def softmax(self):
        x = self.part(f"{self.one()}.reshape(15, {N})")
        if self.rng.random() < 0.5:
            y = self.part(f"torch.softmax({x}, {self.rng.choice([-1, -1, -1, 0])})")
        else:
            e = self.part(f"torch.exp({x} - {x}.amax({self.rng.choice([-1, -1, 0])}, keepdim=True))")
            y = self.part(f"{e} / {e}.sum(-1, keepdim=True)")
        self.new(f"{y}.view(3, 5, {N})")

    def gated(self):
        x = self.one()
        g, h = (
            self.new(f"{x} @ m"),
            self.new(f"F.linear({x}, {self.rng.choice(['m', 'm.t().contiguous()'])})"),
        )
        act = self.rng.choice(
            [f"F.silu({g})", f"{g} * torch.sigmoid({g})", f"{g} / (1 + torch.exp(-{g}))", f"F.gelu({g})"]
        )
        self.new(f"({act}) * {self.maybe(h, x)}")

    def loss(self):
        x = self.one()
        reduction = self.rng.choice(["none", "mean", "sum"])
        loss = self.part(f"F.cross_entropy({x}.reshape(-1, {N}), target, reduction='{reduction}')")
        self.new(f"{self.one()} + {loss}.sum()")

    def work(self):
        self.new(
            self.rng.choice(
                [
                    f"{self.one()} + {self.one()}",
                    f"{self.one()} * {self.one()}",
                    f"torch.tanh({self.one()}) * 3",
                    f"{self.one()} * 0.5",
                    f"-{self.one()}",
                    f"{self.one()}.clone()",
                    f"torch.relu({self.one()})",
                ]
            )
        )

    def write(self):
        name = self.one()
        if name in ("a", "b"):
            name = self.new(f"{name} * 1")
        self.lines.append(
            self.rng.choice([f"{name}.add_(0.25)", f"{name}[0].mul_(2)", f"{name}.copy_({self.one()}.sin())"])
        )

    def view(self):
        x = self.one()
        self.new(
            self.rng.choice(
                [
                    f"{x}.view(15, {N}).view(3, 5, {N})",
                    f"{x}.transpose(0, 1).contiguous().transpose(0, 1)",
                    f"{x}.flip(0)",
                    f"{x}.permute(2, 0, 1).permute(1, 2, 0)",
                    f"torch.cat([{x}[:1], {x}[1:]])",
                ]
            )
        )

    @property
    def text(self):
        return "def program(a, b, w, u, m, target):\n    " + "\n    ".join(self.lines)


def inputs(seed):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(shape, generator=generator)

    target = torch.randint(0, N, (15,), generator=generator)
    target[3] = -100
    return randn(3, 5, N), randn(3, 5, N), randn(N), randn(N), randn(N, N) / 4, target


def run(seed, dynamic):
    """How many calls there are, of a program of this seed that gives what it gave before."""
    drawn = Draw(seed)
    namespace = {"torch": torch, "F": F}
    exec(drawn.text, namespace)
    program = namespace["program"]
    found = tdsl.replacing(*TEMPLATES)
    counts = []

    def backend(module, _):
        counts.append(found.apply(module))
        module.recompile()
        return module.forward

    torch._dynamo.reset()
    expected = program(*inputs(seed))
    exec(
        drawn.text.replace(".half().float()", ".half().double()").replace(".float()", ".double()"), namespace
    )
    exact = namespace["program"](
        *(each.double() if each.is_floating_point() else each for each in inputs(seed))
    )
    got = torch.compile(program, backend=backend, fullgraph=True, dynamic=dynamic)(*inputs(seed))
    for its, want, true in zip(got, expected, exact, strict=True):
        error = (want.double() - true).abs().nan_to_num(0, 0, 0)
        allowed = 8 * float(error.max()) + 1e-4 * float(true.abs().nan_to_num(0, 0, 0).max()) + 1e-6
        assert torch.allclose(its.double(), want.double(), rtol=1e-4, atol=allowed, equal_nan=True), (
            drawn.text
        )
    return sum(counts)


@pytest.mark.parametrize("dynamic", [None, True], ids=["static", "dynamic"])
def test_what_is_replaced_gives_what_was_there(dynamic):
    count = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*takes the place of nothing")
        for seed in range(SEED, SEED + COUNT):
            count += run(seed, dynamic)
    assert count > COUNT / 4

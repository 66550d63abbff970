"""Templates with a backward of their own: formulas, of what a call returned or was given, and autograd's of the reference.

    graded(rng, "t0")          ->    Template; its `backward` is the text of what decorates it
    derived(rng, made)         ->    any template, with a backward that differentiates its reference

Nothing here is compared with itself: what is right is the derivative of the reference, which calculates in float64.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

from tests.fuzz.templates import Output, Param, Template

# Of y = f(x): in the language, in PyTorch, and what it changes with x, of y and of x.
FUNCTIONS = [
    ("tanh({x})", "torch.tanh({x})", "1 - {y} * {y}", "1 - tanh({x}) * tanh({x})"),
    ("sigmoid({x})", "torch.sigmoid({x})", "{y} * (1 - {y})", "sigmoid({x}) * (1 - sigmoid({x}))"),
    ("exp(0.5 * {x})", "torch.exp(0.5 * {x})", "0.5 * {y}", "0.5 * exp(0.5 * {x})"),
    ("sin({x})", "torch.sin({x})", "", "cos({x})"),
]


def graded(rng: random.Random, name: str) -> Template:
    return rng.choice([pointwise, pointwise, normed, product])(rng, name)


def derived(rng: random.Random, made: Template) -> Template:
    """With a backward that is given the inputs alone, or some output, too; or that has a template copy a gradient."""
    tensors = [param.name for param in made.params if param.kind in ("tensor", "ids")]
    if not any(param.dtype in ("f16", "bf16", "f32", "f64") for param in made.params) or any(
        param.inout for param in made.params
    ):
        return made
    given = [param.name for param in made.params if param.kind != "default"]
    arguments = ", ".join(f"inputs.{name}" for name in given)
    grads = {output.name: f"grads.{output.name}" for output in made.outputs}
    floats = [output for output in made.outputs if output.dtype in ("f16", "bf16", "f32", "f64")]
    helper, kept = "", list(tensors)
    if floats and rng.random() < 0.3:
        which = rng.choice(floats)
        text = (
            f"template {made.name}_copy(g: {which.dtype}[N]) -> y: {which.dtype}[N]:\n"
            "    for n in grid(N by 16):\n        store y[n] = load g[n]\n"
        )
        helper = (
            f'@tdsl.template(source="""\n{text}""")\ndef {made.name}_copy(g):\n    return g.clone()\n\n\n'
        )
        copied = f"{made.name}_copy({grads[which.name]}.reshape(-1))"
        grads[which.name] = f"{copied}.reshape(grads.{which.name}.shape)"
    checked = ""
    if floats and rng.random() < 0.3:
        # What is added is nothing, if what is kept is what the call returned.
        which = rng.choice(floats)
        kept.append(which.name)
        at = made.outputs.index(which)
        checked = (
            f"    again = leaves({made.name}.reference({arguments}))[{at}]\n"
            f"    nothing = outputs.{which.name} - again\n"
        )
        grads[which.name] += " + nothing"
    body = (
        f"def {made.name}_backward(grads, inputs, outputs):\n{checked}"
        f"    found = autograd_of({made.name}.reference, [{arguments}], [{', '.join(grads.values())}])\n"
        f"    found = dict(zip({given!r}, found, strict=True))\n"
        f"    return {{name: found[name] for name in {tensors!r}}}\n"
    )
    return replace(made, backward=helper + _decorator(made.name, kept, every=rng.random() < 0.4) + body)


def _decorator(name: str, saves: list[str], *, every: bool = False) -> str:
    """`every`: nothing is said, and all that there is kept."""
    return f"@{name}.backward\n" if every else f"@{name}.backward(saves={tuple(saves)!r})\n"


def pointwise(rng: random.Random, name: str) -> Template:
    """Of a tile and a row that may be missing; its backward starts from what was returned, or from what was given."""
    dtype = rng.choice(["f32", "f32", "f16", "bf16", "f64"])
    wide = "f64" if dtype == "f64" else "f32"
    dsl, ref, of_y, of_x = rng.choice(FUNCTIONS)
    by = rng.choice([1.0, 2.0, -0.5])
    m, n = rng.choice([4, 8]), rng.choice([16, 32])
    head = f"    config BLOCK_M={m}, BLOCK_N={n}\n    for m, n in grid(M by BLOCK_M, N by BLOCK_N):\n"
    text = (
        f"template {name}(x: {dtype}[M, N], b: {dtype}[N]?) -> y: {dtype}[M, N]:\n{head}"
        f"        v = {wide}(load x[m, n]) * {by}\n"
        "        if b:\n"
        f"            v += {wide}(load b[n])\n"
        f"        store y[m, n] = {dsl.format(x='v')}\n"
    )
    reference = (
        f"def {name}(x, b=None):\n    v = wide(x) * {by}\n    v = v if b is None else v + wide(b)\n"
        f"    return {ref.format(x='v')}.to(D.{dtype})\n"
    )
    from_y = bool(of_y) and rng.random() < 0.6
    saves = ["y"] if from_y else ["x", "b"]
    slope = of_y if from_y else of_x
    if rng.random() < 0.6:
        # Another template calculates it, whose arguments are not differentiated.
        given = f"y: {dtype}[M, N]" if from_y else f"x: {dtype}[M, N], b: {dtype}[N]?"
        lines = (
            f"        w = {wide}(load y[m, n])\n" if from_y else f"        v = {wide}(load x[m, n]) * {by}\n"
        )
        lines += "" if from_y else f"        if b:\n            v += {wide}(load b[n])\n"
        helper = (
            f'@tdsl.template(source="""\ntemplate {name}_slope(g: {dtype}[M, N], {given}) -> d: {wide}[M, N]:\n{head}'
            f"{lines}        store d[m, n] = {wide}(load g[m, n]) * ({slope.format(x='v', y='w')})\n"
            f'""")\ndef {name}_slope(g, {"y" if from_y else "x, b"}): ...\n\n\n'
        )
        d = f"{name}_slope(grads.y, {'outputs.y' if from_y else 'inputs.x, inputs.b'})"
        lines = f"    d = {d}\n"
    else:
        helper = ""
        lines = "    y = wide(outputs.y)\n" if from_y else f"    v = wide(inputs.x) * {by}\n"
        lines += "" if from_y else "    v = v if inputs.b is None else v + wide(inputs.b)\n"
        torched = re.sub(r"(tanh|sigmoid|exp|cos)\(", r"torch.\1(", slope)
        lines += f"    d = wide(grads.y) * ({torched.format(x='v', y='y')})\n"
    body = (
        f"def {name}_backward(grads, inputs, outputs):\n{lines}"
        f"    return {{'x': (d * {by}).to(grads.y.dtype), 'b': d.sum(0).to(grads.y.dtype)}}\n"
    )
    return Template(
        name=name,
        family="graded",
        text=text,
        reference=reference,
        params=[
            Param(name="x", dims=("M", "N"), dtype=dtype, bound=1),
            Param(name="b", dims=("N",), dtype=dtype, bound=1, optional=True),
        ],
        outputs=[Output(name="y", dims=("M", "N"), dtype=dtype, bound=1)],
        blocks={"M": m, "N": n},
        exact=False,
        smooth=True,
        tolerance=4.0,
        backward=helper + _decorator(name, saves, every=rng.random() < 0.2) + body,
    )


def normed(rng: random.Random, name: str) -> Template:
    """Rows divided by their lengths, and those: a backward of both outputs' gradients, with an output and an input."""
    dtype = rng.choice(["f32", "f32", "f16", "bf16"])
    rows = rng.choice([1, 2, 4])
    text = (
        f"template {name}(x: {dtype}[M, N]) -> (y: {dtype}[M, N], r: f32[M]):\n    config BLOCK_M={rows}\n"
        "    for m in grid(M by BLOCK_M):\n        n = whole(N)\n        v = f32(load x[m, n])\n"
        "        s = rsqrt(1.0 + sum(v * v, n))\n        store y[m, n] = v * s\n        store r[m] = s\n"
    )
    reference = (
        f"def {name}(x):\n    v = wide(x)\n    s = torch.rsqrt(1 + (v * v).sum(-1))\n"
        f"    return (v * s[:, None]).to(D.{dtype}), s.to(D.f32)\n"
    )
    if rng.random() < 0.6:
        helper = (
            f'@tdsl.template(source="""\ntemplate {name}_slope(g: {dtype}[M, N], h: f32[M], x: {dtype}[M, N], r: f32[M]) -> d: {dtype}[M, N]:\n'
            "    for m in grid(M by 2):\n        n = whole(N)\n        v = f32(load x[m, n])\n        s = load r[m]\n"
            "        t = sum(f32(load g[m, n]) * v, n) + load h[m]\n"
            "        store d[m, n] = f32(load g[m, n]) * s - v * s * s * s * t\n"
            f'""")\ndef {name}_slope(g, h, x, r): ...\n\n\n'
        )
        lines = f"    d = {name}_slope(grads.y, grads.r, inputs.x, outputs.r)\n"
    else:
        helper = ""
        lines = (
            "    g, v, s = wide(grads.y), wide(inputs.x), wide(outputs.r)[:, None]\n"
            "    t = (g * v).sum(-1, keepdim=True) + wide(grads.r)[:, None]\n"
            "    d = (g * s - v * s**3 * t).to(inputs.x.dtype)\n"
        )
    body = f"def {name}_backward(grads, inputs, outputs):\n{lines}    return d\n"
    return Template(
        name=name,
        family="graded",
        text=text,
        reference=reference,
        params=[Param(name="x", dims=("M", "N"), dtype=dtype, bound=1)],
        outputs=[
            Output(name="y", dims=("M", "N"), dtype=dtype, bound=1),
            Output(name="r", dims=("M",), dtype="f32", bound=1),
        ],
        blocks={"M": rows},
        fixed={"N"},
        known={"N"},
        nonempty={"N"},
        exact=False,
        smooth=True,
        tolerance=4.0,
        backward=helper + _decorator(name, ["x", "r"], every=rng.random() < 0.2) + body,
    )


def product(rng: random.Random, name: str) -> Template:
    """A product behind a function: its backward has two more, PyTorch's or those of a template."""
    block_m, block_n = rng.choice([16, 32]), rng.choice([16, 32])

    def kernel(name: str, params: str, store: str) -> str:
        return (
            f"template {name}({params}) -> y: f32[M, N]:\n    config BLOCK_M={block_m}, BLOCK_N={block_n}, BLOCK_K=32\n"
            "    for m, n in grid(M by BLOCK_M, N by BLOCK_N):\n        acc = zeros(m, n)\n        for k in K by BLOCK_K:\n"
            f'            acc += dot(load a[m, k], load b[k, n], precision="ieee")\n        store y[m, n] = {store}\n'
        )

    text = kernel(name, "a: f32[M, K], b: f32[K, N]", "tanh(acc)")
    helper, times = "", "torch.matmul"
    if rng.random() < 0.6:
        inner = kernel(f"{name}_product", "a: f32[M, K], b: f32[K, N]", "acc")
        helper = f'@tdsl.template(source="""\n{inner}""")\ndef {name}_product(a, b):\n    return a @ b\n\n\n'
        times = f"{name}_product"
    body = (
        f"def {name}_backward(grads, inputs, outputs):\n    d = grads.y * (1 - outputs.y * outputs.y)\n"
        f"    return {times}(d, inputs.b.t()), {times}(inputs.a.t(), d)\n"
    )
    return Template(
        name=name,
        family="graded",
        text=text,
        reference=f"def {name}(a, b):\n    return torch.tanh(a @ b)\n",
        params=[
            Param(name="a", dims=("M", "K"), dtype="f32", bound=1),
            Param(name="b", dims=("K", "N"), dtype="f32", bound=1),
        ],
        outputs=[Output(name="y", dims=("M", "N"), dtype="f32", bound=1)],
        blocks={"M": block_m, "N": block_n, "K": 32},
        exact=False,
        smooth=True,
        tolerance=4.0,
        backward=helper + _decorator(name, ["a", "b", "y"], every=rng.random() < 0.3) + body,
    )

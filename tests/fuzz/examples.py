"""Nine of the examples as templates to be fuzzed, with references that calculate in float64.

    example(rng, "t0", exact=True)    ->    examples/matmul/matmul.tdsl, its blocks made small or left alone

The exact ones are those whose results are whole numbers where their inputs are.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.templates import NUMBERS, Output, Param, Template

FOLDER = Path(__file__).parent.parent.parent / "examples"
EXACT = ("matmul", "axpy", "embed", "int4_matmul")
BOUNDED = ("attention", "softmax", "layer_norm", "rms_norm", "swiglu")

REFERENCES = {
    "matmul": """def {name}(A, B):
    return (wide(A) @ wide(B)).to(D.{T})
""",
    "axpy": """def {name}(y, x, alpha):
    y.copy_(wide(y) + alpha * wide(x))
""",
    "embed": """def {name}(ids, table):
    return gathered(table, ids, 0).to(D.{T})
""",
    "int4_matmul": """def {name}(A, Q, S, G=32):
    K = A.shape[1]
    k = torch.arange(K, device=A.device)
    w = ((wide(Q)[k // 8] >> ((k % 8) * 4)[:, None]) & 15) - 8
    return (wide(A) @ (w * wide(S)[k // G])).to(D.{T})
""",
    "attention": """def {name}(q, k, v, scale, causal=False):
    s = wide(q) @ wide(k).transpose(-1, -2) * scale
    if causal:
        m, n = s.shape[-2:]
        keep = torch.arange(m, device=s.device)[:, None] >= torch.arange(n, device=s.device)
        s = torch.where(keep, s, -math.inf)
    return (torch.softmax(s, -1) @ wide(v)).to(D.{T})
""",
    "softmax": """def {name}(x):
    return torch.softmax(wide(x), -1).to(D.{T})
""",
    "rms_norm": """def {name}(x, w, eps):
    v = wide(x)
    return (v * torch.rsqrt((v * v).mean(-1, keepdim=True) + eps) * wide(w)).to(D.{T})
""",
    "layer_norm": """def {name}(x, w, b, eps):
    v = wide(x)
    mean = v.mean(-1)
    c = v - mean[..., None]
    rstd = torch.rsqrt((c * c).mean(-1) + eps)
    y = c * rstd[..., None] * wide(w)
    if b is not None:
        y = y + wide(b)
    return y.to(D.{T}), mean.to(D.f32), rstd.to(D.f32)
""",
    "swiglu": """def {name}(x, gate, up):
    g, u = wide(x) @ wide(gate), wide(x) @ wide(up)
    return (g * torch.sigmoid(g) * u).to(D.{T})
""",
}


def _tensor(name: str, dims: Sequence[str], dtype: str, bound: float, **more: object) -> Param:
    return Param(name=name, dims=tuple(dims), dtype=dtype, bound=bound, **more)  # type: ignore[arg-type]


def example(rng: random.Random, name: str, *, exact: bool) -> Template:
    """One of the examples, under another name."""
    which = rng.choice(EXACT if exact else BOUNDED)
    text = (FOLDER / which / f"{which}.tdsl").read_text(encoding="utf-8")
    text = re.split(rf"^#.*\n(?:#.*\n)*template {which}_", text, maxsplit=1, flags=re.MULTILINE)[
        0
    ]  # the forward alone
    text = re.sub(rf"^template {which}\b", f"template {name}", text, flags=re.MULTILINE)
    dot = "dot(" in text
    configs = [line for line in text.splitlines() if line.startswith("    config")]
    if rng.random() < 0.8:
        # Blocks as small as they may be, so that there are several.
        for line in configs:
            small = re.sub(
                r"(BLOCK\w*)=(\d+)",
                lambda found: f"{found[1]}={_small(rng, found[1], int(found[2]), dot)}",
                line,
            )
            text = text.replace(line, small)
    configs = [line for line in text.splitlines() if line.startswith("    config")]
    if len(configs) > 1:
        shuffled = rng.sample(configs, len(configs))
        for at, line in enumerate(configs):
            text = text.replace(line, f"<{at}>", 1)
        for at, line in enumerate(shuffled):
            text = text.replace(f"<{at}>", line, 1)
    first = next((line for line in text.splitlines() if line.startswith("    config")), "")
    blocks = {found[1]: int(found[2]) for found in re.finditer(r"BLOCK_(\w+)=(\d+)", first)}
    if which == "axpy":
        blocks = {"N": int(re.search(r"BLOCK=(\d+)", first)[1])}  # type: ignore[index]
    dtype = rng.choice(["f32", "f16", "bf16"])
    fixed: set[str] = set()
    nonempty: set[str] = set()
    multiples: dict[str, int] = {}
    outputs: list[Output]
    bound = float({"f16": 3, "bf16": 2, "f32": 4}[dtype])
    match which:
        case "matmul":
            params = [_tensor("A", ["M", "K"], dtype, bound), _tensor("B", ["K", "N"], dtype, bound)]
            size = bound * bound * 80
            outputs = [Output(name="C", dims=("M", "N"), dtype=dtype, bound=size, rounded=dtype == "bf16")]
        case "axpy":
            alpha = Param(name="alpha", kind="float", value=rng.choice([2.0, -1.0]))
            params = [_tensor("y", ["N"], "f32", 2**12, inout=True), _tensor("x", ["N"], "f32", 8), alpha]
            outputs = []
        case "embed":
            dtype = rng.choice(["f32", "f16", "bf16"])
            ids = Param(name="ids", dims=("R",), dtype="i64", kind="ids")
            params = [ids, _tensor("table", ["V", "N"], dtype, NUMBERS[dtype])]
            outputs = [Output(name="y", dims=("R", "N"), dtype=dtype, bound=NUMBERS[dtype])]
        case "int4_matmul":
            dtype = rng.choice(["f32", "f16"])
            text = text.replace("G: const int = 128", "G: const int = 32")
            params = [
                _tensor("A", ["M", "K"], dtype, 3),
                _tensor("Q", ["K // 8", "N"], "i32", 2**31 - 1, least=-(2**31)),
                _tensor("S", ["K // 32", "N"], dtype, 2, least=1),
                Param(name="G", kind="const", value=32),
            ]
            multiples = {"K": 32}
            fixed = {"K"}
            outputs = [
                Output(name="C", dims=("M", "N"), dtype=dtype, bound=3 * 16 * 80, rounded=dtype == "f16")
            ]
        case "attention":
            params = [
                _tensor("q", ["B", "H", "M", "D"], dtype, 1),
                _tensor("k", ["B", "H", "N", "D"], dtype, 1),
                _tensor("v", ["B", "H", "N", "D"], dtype, 1),
                Param(name="scale", kind="float", value=0.25),
                Param(name="causal", kind="const", value=rng.random() < 0.5),
            ]
            blocks |= {"B": 1, "H": 1, "D": 16}
            fixed, nonempty = {"D"}, {"N", "M", "B", "H", "D"}
            outputs = [Output(name="o", dims=("B", "H", "M", "D"), dtype=dtype, bound=1)]
        case "softmax":
            params = [_tensor("x", ["R...", "N"], dtype, 1)]
            fixed, nonempty = {"N"}, {"N"}
            outputs = [Output(name="y", dims=("R...", "N"), dtype=dtype, bound=1)]
        case "rms_norm":
            eps = Param(name="eps", kind="float", value=0.125)
            params = [_tensor("x", ["R...", "N"], dtype, 1), _tensor("w", ["N"], dtype, 1), eps]
            fixed, nonempty = {"N"}, {"N"}
            outputs = [Output(name="y", dims=("R...", "N"), dtype=dtype, bound=1)]
        case "layer_norm":
            params = [
                _tensor("x", ["R...", "N"], dtype, 1),
                _tensor("w", ["N"], dtype, 1),
                _tensor("b", ["N"], dtype, 1, optional=True),
                Param(name="eps", kind="float", value=0.125),
            ]
            fixed, nonempty = {"N"}, {"N"}
            outputs = [
                Output(name="y", dims=("R...", "N"), dtype=dtype, bound=1),
                Output(name="mean", dims=("R...",), dtype="f32", bound=1),
                Output(name="rstd", dims=("R...",), dtype="f32", bound=1),
            ]
        case _:
            params = [
                _tensor("x", ["M...", "K"], dtype, 0.3),
                _tensor("gate", ["K", "N"], dtype, 0.3),
                _tensor("up", ["K", "N"], dtype, 0.3),
            ]
            outputs = [Output(name="y", dims=("M...", "N"), dtype=dtype, bound=1)]
    leading = {"softmax": "R", "rms_norm": "R", "layer_norm": "R", "swiglu": "M"}.get(which)
    if leading:
        blocks[f"{leading}..."] = blocks.pop(leading)
    return Template(
        name=name,
        family=which,
        text=text,
        reference=REFERENCES[which].format(name=name, T=dtype),
        params=params,
        outputs=outputs,
        blocks=blocks,
        fixed=fixed,
        nonempty=nonempty,
        multiples=multiples,
        exact=exact,
        smooth=not exact,
        tolerance=4.0 if which in ("attention", "swiglu") else 1.0,
    )


def _small(rng: random.Random, name: str, size: int, dot: bool) -> int:
    if dot:
        return rng.choice([16, 32]) if name != "BLOCK_K" else 32
    return min(size, rng.choice([16, 32, 64]))

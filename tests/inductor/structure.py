"""What the machine code of our kernels looks like on an H100, without one: one JSON object a line, for each
config of each program named on the command line. `NAME:2` names one config.

A process of its own, in which Triton's interpreter is off.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gpu_code
import torch
import torch.nn.functional as F
import triton

import tdsl
from tdsl.lower.inductor.compat.candidates_in_turn import single_candidates

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(reference: Callable[..., Any], change: tuple[str, str] = ("", "")) -> Any:
    name = reference.__name__
    return tdsl.template(source=(EXAMPLES / name / f"{name}.tdsl").read_text().replace(*change))(reference)


def matmul(A, B): ...


def swiglu(x, gate, up): ...


def attention(q, k, v, scale, causal=False): ...


def int4_matmul(A, Q, S, G=128): ...


def layer_norm(x, w, b, eps): ...


def rms_norm(x, w, eps): ...


def softmax(x): ...


def b(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bfloat16)


Program = tuple[Callable[..., Any], Sequence[Any]]


def programs() -> dict[str, Program]:
    mm, glu, attend = example(matmul), example(swiglu), example(attention)
    parts = example(matmul, ("num_stages=3 if", "num_stages=3, epilogue_subtile=2 if"))
    walking = example(matmul, ("num_stages", "persistent=1, num_stages"))
    described = example(matmul, ("num_stages", "tma=1, persistent=1, num_stages"))
    n, size = 4096, (2, 8, 1024)

    def scaled(causal: bool, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
        return attend(q, k, v, 0.125, causal) * 2

    square, row = b(n, n), b(n)
    return {
        "matmul": (mm, (square, square)),
        "matmul, bias": (lambda x, w, c: torch.relu(mm(x, w) + c), (square, square, row)),
        "matmul, silu": (
            lambda x, w, c, r: F.silu(mm(x, w) + c) * r,
            (square, square, row, square),
        ),
        "matmul, column": (
            lambda x, w, c, d: mm(x, w) * c * d.unsqueeze(1),
            (square, square, row, row),
        ),
        "parts, silu": (
            lambda x, w, c, r: F.silu(parts(x, w) + c) * r,
            (square, square, row, square),
        ),
        "parts, gelu": (
            lambda x, w, c, r: F.gelu(parts(x, w) + c) + r,
            (square, square, row, square),
        ),
        "persistent, silu": (
            lambda x, w, c, r: F.silu(walking(x, w) + c) * r,
            (square, square, row, square),
        ),
        "tma, silu": (
            lambda x, w, c, r: F.silu(described(x, w) + c) * r,
            (square, square, row, square),
        ),
        # One block of columns: the left operand is loaded, and computed, once.
        "left": (lambda x, w: mm(torch.relu(x), w), (square, b(n, 64))),
        "left, rows": (lambda x, w, s: mm(x * s.unsqueeze(1), w), (square, b(n, 64), row)),
        "few rows": (lambda x, w, c: torch.relu(mm(x, w) + c), (b(16, n), square, row)),
        "swiglu": (lambda x, g, u, r: glu(x, g, u) + r, (square, square, square, square)),
        "swiglu, few rows": (lambda x, g, u, r: glu(x, g, u) + r, (b(16, n), square, square, b(16, n))),
        **{
            f"attention {d}, {'causal' if causal else 'full'}": (
                partial(scaled, causal),
                (b(*size, d), b(*size, d), b(*size, d)),
            )
            for d in (64, 128)
            for causal in (False, True)
        },
        "int4_matmul": (
            lambda x, q, s, r: example(int4_matmul)(x, q, s) + r,
            (square, torch.empty((n // 8, n), dtype=torch.int32), b(n // 128, n), square),
        ),
        "layer_norm": (lambda x, w: example(layer_norm)(x, w, w, 1e-5)[0] * 2, (square, row)),
        "rms_norm": (lambda x, w: example(rms_norm)(x, w, 1e-5) * 2, (square, row)),
        "softmax": (lambda x: example(softmax)(x) * 2, (square,)),
    }


def structure(compiled: Any) -> dict[str, Any]:
    """Of a compiled kernel: registers a thread and bytes of them spilled, asynchronous matrix products, how many
    of these may be under way where the kernel waits, and loads and stores by their width in bytes."""
    ptx = compiled.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (registers,), (stack,) = re.findall(r"REG:(\d+)", usage), re.findall(r"STACK:(\d+)", usage)
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global\S* \[[^]]*\] ?, \[[^]]*\], (0x\w+|\d+)", ptx)
    return {
        "registers": int(registers),
        "spilled": int(stack),
        "shared": compiled.metadata.shared,
        "wgmma": ptx.count("wgmma.mma_async"),
        "under_way": [int(n) for n in re.findall(r"wgmma\.wait_group\S*\s+(\d+)", ptx)],
        "copies": Counter(int(width, 0) for width in copies),
        "described": len(re.findall(r"cp\.async\.bulk\.tensor\.2d\.\S*global", ptx)),
        "loads": _widths("ld", ptx),
        "stores": _widths("st", ptx),
    }


def _widths(instruction: str, ptx: str) -> Counter[int]:
    found = re.findall(rf"\b{instruction}\.global\S*?(?:\.v(\d))?\.b(\d+)\b", ptx)
    return Counter(int(lanes or 1) * int(bits) // 8 for lanes, bits in found)


def main(names: Sequence[str]) -> None:
    known = programs()
    for wanted in names:
        name, _, only = wanted.partition(":")
        found = gpu_code.kernels(gpu_code.generate(*known[name]))
        ours = {kernel: text for kernel, text in found.items() if "HeuristicType.TEMPLATE" in text}
        ((kernel, text),) = ours.items()
        for at, single in enumerate(single_candidates(text)):
            if only in ("", str(at)):
                (compiled,) = gpu_code.compile_kernel(kernel, single, gpu_code.TARGETS["sm_90"])
                (config,) = re.findall(r"triton\.Config\((\{.*\}), num_warps=(\d+)", single)
                facts = {
                    "program": name,
                    "kernels": len(found),
                    "constants": ast.literal_eval(config[0]),
                    "warps": config[1],
                }
                print(json.dumps(facts | structure(compiled)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(programs()))

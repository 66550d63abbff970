"""The rows of the table: for each piece of work its inputs, what it computes, and what counts as holding.

    rows()["gemm 4096x4096x4096"]  ->  inputs(device, generator), program(op), baseline, flops, hold

A row's program is written once, over the operator in its middle: with PyTorch's own function it is what the
baselines compile, with a template it is ours, with a Helion kernel it is Helion's. How a contender is compiled
is `contenders`' business, how it is timed `gpu`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.arguments import UsageError

EXAMPLES = Path(__file__).parents[1] / "examples"
Program = Callable[..., Any]
Inputs = tuple[torch.Tensor, ...]
ROUNDING = 2.0**-8  # of bf16


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What the row is held to: our time at most `at_most` times that of `against` (`best`: of all baselines)."""

    against: str
    at_most: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One piece of work.

    program: makes the program of an operator. baseline: PyTorch's operator. template: the example whose
    template is ours. helion: the name of a kernel in `helion_kernels`, or None. flex: FlexAttention is a baseline.
    """

    name: str
    group: str
    inputs: Callable[[torch.device, torch.Generator], Inputs]
    program: Callable[[Program], Program]
    baseline: Program
    template: str
    helion: str | None
    flops: int
    hold: Hold
    matmul: bool = True  # whether a GEMM is in it, so that GEMM options of the baselines mean something
    flex: bool = False
    causal: bool = False
    sizes: tuple[int, ...] = ()


def _randn(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator, scale: float = 1.0
) -> torch.Tensor:
    value = torch.randn(shape, device=device, dtype=torch.float32, generator=generator)
    return (value * scale).to(torch.bfloat16)


# GEMM + bias + silu * residual


def _gemm_inputs(m: int, n: int, k: int, device: torch.device, generator: torch.Generator) -> Inputs:
    return (
        _randn((m, k), device, generator),
        _randn((k, n), device, generator, k**-0.5),
        _randn((n,), device, generator),
        _randn((m, n), device, generator),
    )


def _gemm_program(mm: Program) -> Program:
    def gemm_bias_silu_residual(
        a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor, residual: torch.Tensor
    ) -> torch.Tensor:
        result: torch.Tensor = F.silu(mm(a, b) + bias) * residual
        return result

    return gemm_bias_silu_residual


def _gemm(m: int, n: int, k: int) -> Row:
    return Row(
        name=f"gemm {m}x{n}x{k}",
        group="gemm",
        inputs=partial(_gemm_inputs, m, n, k),
        program=_gemm_program,
        baseline=torch.matmul,
        template="matmul",
        helion="matmul",
        flops=2 * m * n * k,
        hold=Hold(against="best", at_most=1.03),
        sizes=(m, n, k),
    )


# int8 weights


def _int8_inputs(m: int, n: int, k: int, device: torch.device, generator: torch.Generator) -> Inputs:
    weight = torch.randint(-128, 128, (k, n), device=device, generator=generator, dtype=torch.int8)
    scale = torch.rand((n,), device=device, generator=generator) / (74 * k**0.5)
    return _randn((m, k), device, generator), weight, scale.to(torch.bfloat16)


def _int8_program(mm: Program) -> Program:
    def int8_dequant_gemm(a: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = mm(a, weight.to(a.dtype) * scale)
        return result

    return int8_dequant_gemm


def _int8(m: int, n: int, k: int) -> Row:
    return Row(
        name=f"int8 {m}x{n}x{k}",
        group="int8",
        inputs=partial(_int8_inputs, m, n, k),
        program=_int8_program,
        baseline=torch.matmul,
        template="matmul",
        helion="matmul",
        flops=2 * m * n * k,
        hold=Hold(against="best", at_most=1.0),
        sizes=(m, n, k),
    )


# Rows: rms_norm, softmax, layer_norm


def _rms_norm(x: torch.Tensor, w: torch.Tensor, eps: float) -> torch.Tensor:
    v = x.float()
    return (v * torch.rsqrt(v.square().mean(-1, keepdim=True) + eps) * w).to(x.dtype)


def _rms_inputs(rows: int, n: int, device: torch.device, generator: torch.Generator) -> Inputs:
    return (
        _randn((rows, n), device, generator),
        _randn((rows, n), device, generator),
        _randn((n,), device, generator),
    )


def _rms_program(rms_norm: Program) -> Program:
    def residual_rms_norm_cast(x: torch.Tensor, residual: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = rms_norm(x + residual, w, 1e-6).to(torch.float16)
        return result

    return residual_rms_norm_cast


def _rms(rows: int, n: int) -> Row:
    return Row(
        name=f"rms_norm {rows}x{n}",
        group="norm",
        inputs=partial(_rms_inputs, rows, n),
        program=_rms_program,
        baseline=_rms_norm,
        template="rms_norm",
        helion="rms_norm",
        flops=5 * rows * n,
        hold=Hold(against="compile", at_most=1 / 0.97),
        matmul=False,
        sizes=(rows, n),
    )


def _softmax_reference(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, -1)


def _softmax_inputs(rows: int, n: int, device: torch.device, generator: torch.Generator) -> Inputs:
    return (_randn((rows, n), device, generator, 2.0),)


def _softmax_program(softmax: Program) -> Program:
    def row_softmax(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = softmax(x)
        return result

    return row_softmax


def _softmax(rows: int, n: int) -> Row:
    return Row(
        name=f"softmax {rows}x{n}",
        group="norm",
        inputs=partial(_softmax_inputs, rows, n),
        program=_softmax_program,
        baseline=_softmax_reference,
        template="softmax",
        helion="softmax",
        flops=4 * rows * n,
        hold=Hold(against="compile", at_most=1 / 0.97),
        matmul=False,
        sizes=(rows, n),
    )


def _layer_norm_plain(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, eps: float) -> tuple[Any, ...]:
    return (F.layer_norm(x, (x.shape[-1],), w, b, eps),)


def _layer_norm_inputs(rows: int, n: int, device: torch.device, generator: torch.Generator) -> Inputs:
    return (
        _randn((rows, n), device, generator),
        _randn((n,), device, generator),
        _randn((n,), device, generator),
    )


def _layer_norm_program(layer_norm: Program) -> Program:
    def row_layer_norm(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = layer_norm(x, w, b, 1e-5)[0]
        return result

    return row_layer_norm


def _layer_norm(rows: int, n: int) -> Row:
    return Row(
        name=f"layer_norm {rows}x{n}",
        group="norm",
        inputs=partial(_layer_norm_inputs, rows, n),
        program=_layer_norm_program,
        baseline=_layer_norm_plain,
        template="layer_norm",
        helion="layer_norm",
        flops=8 * rows * n,
        hold=Hold(against="compile", at_most=1 / 0.97),
        matmul=False,
        sizes=(rows, n),
    )


# swiglu


def _swiglu_reference(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return F.silu(x @ gate) * (x @ up)


def _swiglu_inputs(m: int, n: int, k: int, device: torch.device, generator: torch.Generator) -> Inputs:
    return (
        _randn((m, k), device, generator),
        _randn((k, n), device, generator, k**-0.5),
        _randn((k, n), device, generator, k**-0.5),
    )


def _swiglu_program(swiglu: Program) -> Program:
    def gated(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = swiglu(x, gate, up)
        return result

    return gated


def _swiglu(m: int, n: int, k: int) -> Row:
    return Row(
        name=f"swiglu {m}x{n}x{k}",
        group="swiglu",
        inputs=partial(_swiglu_inputs, m, n, k),
        program=_swiglu_program,
        baseline=_swiglu_reference,
        template="swiglu",
        helion="swiglu",
        flops=4 * m * n * k,
        hold=Hold(against="best", at_most=1.0),
        sizes=(m, n, k),
    )


# Attention


def _attention_reference(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal: bool
) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)


def _attention_inputs(
    b: int, h: int, s: int, d: int, device: torch.device, generator: torch.Generator
) -> Inputs:
    return tuple(_randn((b, h, s, d), device, generator) for _ in range(3))


def _attention_program(causal: bool, attention: Program) -> Program:
    def plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = attention(q, k, v, q.shape[-1] ** -0.5, causal)
        return result

    return plain_attention


def _attention_flops(b: int, h: int, s: int, d: int, causal: bool) -> int:
    return 4 * b * h * d * (s * (s + 1) // 2 if causal else s * s)


def _attention(b: int, h: int, s: int, d: int, *, causal: bool) -> Row:
    return Row(
        name=f"attention {b}x{h}x{s}x{d}{' causal' if causal else ''}",
        group="attention",
        inputs=partial(_attention_inputs, b, h, s, d),
        program=partial(_attention_program, causal),
        baseline=_attention_reference,
        template="attention",
        helion=None if causal else "attention",
        flops=_attention_flops(b, h, s, d, causal),
        hold=Hold(against="flex", at_most=1.0),
        matmul=False,
        flex=True,
        causal=causal,
        sizes=(b, h, s, d),
    )


# Several consumers, several outputs


def _two_consumers_program(mm: Program) -> Program:
    def two_consumers(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        c = mm(a, b)
        return torch.relu(c) + 1, torch.sigmoid(c)

    return two_consumers


def _raw_kept_program(mm: Program) -> Program:
    def raw_and_relu(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        c = mm(a, b)
        return c, torch.relu(c)

    return raw_and_relu


def _matmul_inputs(m: int, n: int, k: int, device: torch.device, generator: torch.Generator) -> Inputs:
    return _randn((m, k), device, generator), _randn((k, n), device, generator, k**-0.5)


def _consumers(name: str, program: Callable[[Program], Program], m: int, n: int, k: int) -> Row:
    return Row(
        name=f"{name} {m}x{n}x{k}",
        group="several",
        inputs=partial(_matmul_inputs, m, n, k),
        program=program,
        baseline=torch.matmul,
        template="matmul",
        helion="matmul",
        flops=2 * m * n * k,
        hold=Hold(against="best", at_most=1.0),
        sizes=(m, n, k),
    )


def _swiglu_scaled_inputs(m: int, n: int, k: int, device: torch.device, generator: torch.Generator) -> Inputs:
    x, gate, up = _swiglu_inputs(m, n, k, device, generator)
    return x, _randn((k,), device, generator), gate, up, _randn((m, n), device, generator)


def _swiglu_scaled_program(swiglu: Program) -> Program:
    def scaled_swiglu_residual(
        x: torch.Tensor, scale: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, residual: torch.Tensor
    ) -> torch.Tensor:
        result: torch.Tensor = swiglu(x * scale, gate, up) + residual
        return result

    return scaled_swiglu_residual


def _swiglu_scaled(m: int, n: int, k: int) -> Row:
    return Row(
        name=f"scale, swiglu, residual {m}x{n}x{k}",
        group="several",
        inputs=partial(_swiglu_scaled_inputs, m, n, k),
        program=_swiglu_scaled_program,
        baseline=_swiglu_reference,
        template="swiglu",
        helion="swiglu",
        flops=4 * m * n * k,
        hold=Hold(against="best", at_most=1.0),
        sizes=(m, n, k),
    )


def _layer_norm_three(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, eps: float) -> tuple[Any, ...]:
    v = x.float()
    mean = v.mean(-1)
    centred = v - mean[..., None]
    rstd = torch.rsqrt(centred.square().mean(-1) + eps)
    return (centred * rstd[..., None] * w + b).to(x.dtype), mean, rstd


def _three_epilogues_program(layer_norm: Program) -> Program:
    def epilogue_per_output(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> tuple[Any, ...]:
        y, mean, rstd = layer_norm(x, w, b, 1e-5)
        return F.gelu(y), mean.abs(), 1 / rstd

    return epilogue_per_output


def _reads_both_program(layer_norm: Program) -> Program:
    def epilogue_reads_two_outputs(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> tuple[Any, ...]:
        y, _, rstd = layer_norm(x, w, b, 1e-5)
        return y * rstd[:, None], rstd

    return epilogue_reads_two_outputs


def _norm_outputs(name: str, program: Callable[[Program], Program], rows: int, n: int) -> Row:
    return Row(
        name=f"{name} {rows}x{n}",
        group="several",
        inputs=partial(_layer_norm_inputs, rows, n),
        program=program,
        baseline=_layer_norm_three,
        template="layer_norm",
        helion="layer_norm",
        flops=8 * rows * n,
        hold=Hold(against="best", at_most=1.0),
        matmul=False,
        sizes=(rows, n),
    )


def _gated_attention_inputs(
    b: int, h: int, s: int, d: int, device: torch.device, generator: torch.Generator
) -> Inputs:
    q, k, v = _attention_inputs(b, h, s, d, device, generator)
    return q, _randn((h, 1, d), device, generator), k, v, _randn((b, h, s, d), device, generator)


def _gated_attention_program(attention: Program) -> Program:
    def bias_attention_gate(
        q: torch.Tensor, bias: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gate: torch.Tensor
    ) -> torch.Tensor:
        result: torch.Tensor = attention(q + bias, k, v, q.shape[-1] ** -0.5, True) * torch.sigmoid(gate)
        return result

    return bias_attention_gate


def _gated_attention(b: int, h: int, s: int, d: int) -> Row:
    return Row(
        name=f"bias, causal attention, gate {b}x{h}x{s}x{d}",
        group="several",
        inputs=partial(_gated_attention_inputs, b, h, s, d),
        program=_gated_attention_program,
        baseline=_attention_reference,
        template="attention",
        helion=None,
        flops=_attention_flops(b, h, s, d, True),
        hold=Hold(against="best", at_most=1.0),
        matmul=False,
        flex=True,
        causal=True,
        sizes=(b, h, s, d),
    )


def rows(*, tiny: bool = False) -> dict[str, Row]:
    """By name, in the table's order. `tiny`: the same programs at sizes for an interpreter, which prove nothing about speed."""
    if tiny:
        made = [
            _gemm(32, 32, 32),
            _int8(16, 32, 32),
            _rms(4, 64),
            _softmax(4, 64),
            _layer_norm(4, 64),
            _swiglu(16, 32, 32),
            _attention(1, 1, 32, 16, causal=False),
            _attention(1, 1, 32, 16, causal=True),
            _consumers("two consumers", _two_consumers_program, 32, 32, 32),
            _consumers("raw and relu", _raw_kept_program, 32, 32, 32),
            _swiglu_scaled(16, 32, 32),
            _norm_outputs("layer_norm, an epilogue per output", _three_epilogues_program, 4, 64),
            _norm_outputs("layer_norm, y * rstd and rstd", _reads_both_program, 4, 64),
            _gated_attention(1, 1, 32, 16),
        ]
    else:
        made = [
            _gemm(4096, 4096, 4096),
            _gemm(8192, 8192, 1024),
            _gemm(512, 4096, 4096),
            _gemm(16, 4096, 4096),
            _gemm(2048, 4096, 14336),
            _gemm(8192, 8192, 8192),
            _int8(4096, 4096, 4096),
            _int8(16, 4096, 4096),
            _rms(16384, 4096),
            _softmax(16384, 4096),
            _softmax(2048, 32768),
            *(_layer_norm(2**26 // n, n) for n in (4096, 16384, 65536, 131072)),
            _swiglu(16, 8192, 2048),
            _swiglu(64, 8192, 2048),
            *(_attention(4, 16, 4096, d, causal=causal) for d in (64, 128) for causal in (False, True)),
            _consumers("two consumers", _two_consumers_program, 8192, 8192, 1024),
            _consumers("raw and relu", _raw_kept_program, 8192, 8192, 1024),
            _swiglu_scaled(4096, 4096, 2048),
            _norm_outputs("layer_norm, an epilogue per output", _three_epilogues_program, 16384, 4096),
            _norm_outputs("layer_norm, y * rstd and rstd", _reads_both_program, 16384, 4096),
            _gated_attention(4, 16, 4096, 128),
        ]
    return {row.name: row for row in made}


def chosen_rows(only: str, *, tiny: bool) -> dict[str, Row]:
    """Those whose name or group is in the text, separated by commas or semicolons; all for nothing, or for `all`."""
    known = rows(tiny=tiny)
    groups = {row.group for row in known.values()}
    names, left = set(), only
    # A row's own name may have commas in it, and begin as another's does.
    for name in sorted(known, key=len, reverse=True):
        if name in left:
            names.add(name)
            left = left.replace(name, ",")
    wanted = [part.strip() for part in left.replace(";", ",").split(",") if part.strip()]
    for part in wanted:
        if part not in groups and part != "all":
            raise UsageError(
                f"there is no row or group {part!r}; groups: {', '.join(sorted(groups))}; rows: {'; '.join(known)}"
            )
    if "all" in wanted or not (names or wanted):
        return known
    return {name: row for name, row in known.items() if name in names or row.group in wanted}


def moved_bytes(inputs: Inputs, outputs: object) -> int:
    """What must pass through memory at least: each input read once, each output written once."""
    return sum(map(_size, (*inputs, *leaves(outputs))))


def leaves(value: object) -> tuple[torch.Tensor, ...]:
    """The tensors of a result."""
    if isinstance(value, torch.Tensor):
        return (value,)
    if isinstance(value, tuple | list):
        return tuple(leaf for item in value for leaf in leaves(item))
    return ()


def _size(tensor: torch.Tensor) -> int:
    return math.prod(tensor.shape) * tensor.element_size()


def distance(one: torch.Tensor, true: torch.Tensor) -> float:
    """The relative error in the norm; a NaN is infinitely far."""
    error = float(torch.linalg.vector_norm(one.double() - true) / torch.linalg.vector_norm(true))
    return error if error == error else float("inf")


def allowed_distance(eager: torch.Tensor, true: torch.Tensor) -> float:
    """How far a contender may be from the truth, by how far eager is."""
    return 2 * distance(eager, true) + ROUNDING

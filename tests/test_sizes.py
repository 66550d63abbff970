"""Every example with its prologue and epilogue, for sizes around its blocks and for strange strides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import tdsl
from tdsl import testing

EXAMPLES = Path(__file__).parent.parent / "examples"
Shape = tuple[int, ...]


def example(name: str) -> ModuleType:
    return testing.load_module(EXAMPLES / name / f"{name}.py")


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device=testing.device())


def flags(*shape: int) -> torch.Tensor:
    return random(*shape) > 0


def bytes_(*shape: int) -> torch.Tensor:
    return torch.randint(-128, 128, shape, device=testing.device(), dtype=torch.int8)


def nibbles(*shape: int) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31, shape, device=testing.device(), dtype=torch.int32)


def ids_of(rows: int) -> Callable[..., torch.Tensor]:
    def ids(*shape: int) -> torch.Tensor:
        return torch.randint(-1, rows + 2, shape, device=testing.device())

    return ids


def targets_of(vocabulary: int) -> Callable[..., torch.Tensor]:
    def targets(*shape: int) -> torch.Tensor:
        drawn = torch.randint(0, max(vocabulary, 1), shape, device=testing.device())
        return torch.where(flags(*shape), drawn, -100)

    return targets


Make = Callable[..., torch.Tensor]


def arguments(name: str, a: int, b: int, c: int) -> list[tuple[Make, Shape]]:
    """What `program` of an example takes when its dimensions are a, b and c, in order of its signature."""
    r = random
    match name:
        case "matmul":
            return [(r, (a, c)), (r, (c, b)), (r, (b,))]
        case "swiglu":
            return [(r, (a, c)), (r, (c,)), (r, (c, b)), (r, (c, b)), (r, (a, b))]
        case "int4_matmul":
            c = c // 32 * 32
            return [(r, (a, c)), (nibbles, (c // 8, b)), (r, (c // 32, b)), (r, (b,))]
        case "attention":
            d = 24
            return [
                (r, (2, 1, a, d)),
                (r, (1, 1, d)),
                (r, (2, 1, b, d)),
                (r, (2, 1, b, d)),
                (r, (2, 1, a, d)),
            ]
        case "rms_norm":
            return [(r, (2, a, b)), (r, (b,)), (r, (2, a, b))]
        case "softmax":
            return [(r, (a, b)), (lambda: random(1)[0].abs() + 1, ()), (flags, (a, b))]
        case "layer_norm":
            return [(r, (a, b)), (r, (b,)), (r, (b,)), (r, (b,))]
        case "embed":
            return [(ids_of(c), (a,)), (bytes_, (c, b)), (lambda: random(1)[0], ()), (r, (a, b))]
        case "axpy":
            return [(r, (a,)), (r, (a,))]
        case "rope":
            d = (c + 1) // 2 * 2
            return [(r, (2, a, b, d)), (r, (b, d)), (r, (a, d)), (r, (a, d)), (lambda: random(1)[0], ())]
        case "cross_entropy":
            return [(r, (a, b)), (targets_of(b), (a,)), (r, (a,))]
        case "gqa":
            d = 24
            return [(r, (2, 2, a, d)), (r, (2, 1, b, d)), (r, (2, 1, b, d)), (r, (2, 2, a, d))]
    raise AssertionError(name)


# The blocks along a, b, c of each example's first config; a row template's `whole` rounds up to 64.
BLOCKS = {
    "attention": (128, 128, 1),
    "axpy": (1024, 1, 1),
    "cross_entropy": (1, 4096, 1),
    "embed": (1, 1024, 7),
    "gqa": (128, 128, 1),
    "int4_matmul": (64, 128, 64),
    "layer_norm": (1, 64, 1),
    "matmul": (128, 256, 64),
    "rms_norm": (1, 64, 1),
    "rope": (32, 3, 64),
    "softmax": (1, 64, 1),
    "swiglu": (128, 128, 64),
}
SIZES: dict[str, Callable[[int], int]] = {
    "1": lambda block: 1,
    "block-1": lambda block: max(block - 1, 1),
    "block": lambda block: block,
    "block+1": lambda block: block + 1,
    "3*block+5": lambda block: 3 * block + 5,
}


def check(name: str, values: list[Any]) -> None:
    report = testing.assert_fused(example(name).program, values)
    assert report.kernels == report.triton == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", BLOCKS)
def test_sizes_around_a_block(name: str, size: str) -> None:
    torch.manual_seed(1)
    check(name, [make(*shape) for make, shape in arguments(name, *map(SIZES[size], BLOCKS[name]))])


@pytest.mark.parametrize("empty", [0, 1, 2])
@pytest.mark.parametrize("name", BLOCKS)
def test_an_empty_dimension(name: str, empty: int) -> None:
    torch.manual_seed(2)
    sizes = [5, 6, 64]
    sizes[empty] = 0
    program = example(name).program
    values = [make(*shape) for make, shape in arguments(name, *sizes)]
    expected = program(*testing.copy_arguments(values))
    found = torch.compile(program, fullgraph=True)(*testing.copy_arguments(values))
    torch.testing.assert_close(found, expected, equal_nan=True)


def transposed(make: Make, shape: Shape) -> torch.Tensor:
    return make(*reversed(shape)).permute(tuple(reversed(range(len(shape)))))


def sliced(make: Make, shape: Shape) -> torch.Tensor:
    return make(*(2 * size for size in shape))[tuple(slice(None, None, 2) for _ in shape)]


def expanded(make: Make, shape: Shape) -> torch.Tensor:
    return make(*((1, *shape[1:]) if shape else ())).expand(shape)


def offset(make: Make, shape: Shape) -> torch.Tensor:
    return make(*(size + 3 for size in shape))[tuple(slice(3, None) for _ in shape)]


@pytest.mark.parametrize("view", [transposed, sliced, expanded, offset])
@pytest.mark.parametrize("name", BLOCKS)
def test_strides(name: str, view: Callable[[Make, Shape], torch.Tensor]) -> None:
    torch.manual_seed(3)
    values = [view(make, shape) for make, shape in arguments(name, 37, 70, 96)]
    check(name, values)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "softmax"])
def test_rows_longer_than_a_block(name: str) -> None:
    torch.manual_seed(4)
    check(name, [make(*shape) for make, shape in arguments(name, 3, 20001, 1)])


def test_a_long_row_that_begins_with_nothing() -> None:
    x = random(3, 20001)
    x[0, :9000], x[1] = -torch.inf, -torch.inf
    program = example("softmax").program
    keep = flags(3, 20001)
    found = torch.compile(program, fullgraph=True)(x, torch.ones((), device=x.device), keep)
    torch.testing.assert_close(found, torch.where(keep, torch.softmax(x, -1), 0), equal_nan=True)


def test_the_loss_over_a_large_vocabulary() -> None:
    torch.manual_seed(5)
    loss = example("cross_entropy").cross_entropy
    logits = random(3, 128_256)
    logits[:, :9000] = -torch.inf
    logits[2] -= 1000
    target = torch.tensor([128_255, -100, 9001], device=logits.device)
    testing.assert_fused(loss, (logits, target))
    testing.assert_fused(loss, (logits.bfloat16(), target))


def test_a_target_outside_of_the_vocabulary_has_no_loss() -> None:
    loss = example("cross_entropy").cross_entropy
    logits, target = random(4, 70), torch.tensor([70, -1, 5, -100], device=testing.device())
    found, lse = torch.compile(loss, fullgraph=True)(logits, target)
    assert found.isnan().tolist() == [True, True, False, False] and found[3] == 0
    torch.testing.assert_close(lse, torch.logsumexp(logits, -1))


DIVIDED = """
template rows(x: f32[M], s: int) -> y: f32[cdiv(M, s)]:
    for m in grid(cdiv(M, s)):
        store y[m] = load x[m * s]

template times(x: f32[M], s: int) -> y: f32[M]:
    for i, m in grid({count}, M by 16):
        accumulate y[m] += load x[m]
"""


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("count", ["cdiv(M, s)", "M // s", "7 % s"])
def test_nothing_in_a_grid_is_divided_by_zero(count, dynamic):
    @tdsl.template(source=DIVIDED.format(count=count))
    def times(x, s): ...

    counts = {"cdiv(M, s)": lambda s: -(-21 // s), "M // s": lambda s: 21 // s, "7 % s": lambda s: 7 % s}
    x = torch.arange(21.0)
    compiled = torch.compile(lambda x, s: times(x * 2, s) + 1, dynamic=dynamic)
    for function, inputs in ((times, x * 2), (compiled, x)):
        for s in (2, 3, 50, -4):
            found = function(inputs, s) - int(function is compiled)
            torch.testing.assert_close(found, x * 2 * max(counts[count](s), 0))
        with pytest.raises(Exception, match=r"'s' divides in the grid's .* and must not be zero"):
            function(inputs, 0)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_size_of_a_result_is_divided_by_what_is_positive(dynamic):
    @tdsl.template(source=DIVIDED.format(count="s"))
    def rows(x, s): ...

    x = torch.arange(21.0)
    compiled = torch.compile(lambda x, s: rows(x * 2, s) + 1, dynamic=dynamic)
    for function, inputs in ((rows, x * 2), (compiled, x)):
        torch.testing.assert_close(function(inputs, 4) - int(function is compiled), x[::4] * 2)
        for s in (0, -2):
            with pytest.raises(Exception, match=r"'s' divides in .*cdiv\(M, s\)' and must"):
                function(inputs, s)


def test_a_divisor_that_a_graph_finds():
    """It is known when the graph runs, which asks for it before the kernel does."""

    @tdsl.template(source=DIVIDED.format(count="cdiv(M, s)"))
    def times(x, s): ...

    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        compiled = torch.compile(lambda x, s: times(x * 2, (s + 1).sum().item()) + 1)
        x = torch.arange(21.0)
        torch.testing.assert_close(compiled(x, torch.tensor([3])), x * 2 * 6 + 1)
        with pytest.raises(RuntimeError, match=r"Ne\(u0, 0\)"):
            compiled(x, torch.tensor([-1]))

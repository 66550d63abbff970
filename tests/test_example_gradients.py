"""The gradients of the examples: their templates, against what PyTorch makes of the reference, on ragged sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tdsl import operators, testing

EXAMPLES = Path(__file__).parent.parent / "examples"
DEVICE = testing.device()
Arguments = dict[str, Any]


def rope(
    randn: Callable[..., torch.Tensor], b: int, h: int, s: int, d: int, angles: tuple[int, ...]
) -> Arguments:
    return {"x": randn(b, s, h, d).transpose(1, 2), "cos": randn(*angles, s, d), "sin": randn(*angles, s, d)}


def rms_norm(randn: Callable[..., torch.Tensor], *shape: int) -> Arguments:
    return {"x": randn(*shape), "w": randn(shape[-1]), "eps": 1e-6}


def layer_norm(randn: Callable[..., torch.Tensor], *shape: int) -> Arguments:
    return {"x": randn(*shape), "w": randn(shape[-1]), "b": randn(shape[-1]), "eps": 1e-5}


def softmax(randn: Callable[..., torch.Tensor], *shape: int) -> Arguments:
    return {"x": randn(*shape)}


def embed(randn: Callable[..., torch.Tensor], ids: int, rows: int, n: int) -> Arguments:
    return {"ids": torch.randint(-1, rows + 1, (ids,), device=DEVICE), "table": randn(rows, n)}


def swiglu(randn: Callable[..., torch.Tensor], lead: tuple[int, ...], n: int, k: int) -> Arguments:
    return {"x": randn(*lead, k), "gate": randn(k, n) / k**0.5, "up": randn(k, n) / k**0.5}


def cross_entropy(randn: Callable[..., torch.Tensor], rows: int, vocabulary: int) -> Arguments:
    target = torch.randint(0, vocabulary, (rows,), device=DEVICE)
    target[::3] = 0
    return {"logits": randn(rows, vocabulary), "target": target, "ignore_index": 0}


def gqa(
    randn: Callable[..., torch.Tensor], b: int, h: int, g: int, m: int, n: int, d: int, causal: bool
) -> Arguments:
    q, k, v = randn(b, m, h, d).transpose(1, 2), randn(b, n, g, d).transpose(1, 2), randn(b, g, n, d)
    return {"q": q, "k": k, "v": v, "scale": 0.25, "causal": causal}


# The arguments of a template, and of how many Triton kernels its gradient is.
CASES: list[tuple[Callable[..., Arguments], tuple[Any, ...], int]] = [
    *((rope, (2, 3, 35, 24, angles), 1) for angles in ((), (1,), (2,))),
    (rope, (1, 1, 1, 2, ()), 1),
    *((rms_norm, shape, 1) for shape in ((2, 5, 70), (67, 64), (11,))),
    *((layer_norm, shape, 1) for shape in ((2, 5, 70), (67, 64), (1, 3))),
    *((softmax, shape, 1) for shape in ((2, 5, 70), (67, 64), (2, 20001))),
    *((embed, sizes, 1) for sizes in ((9, 30, 70), (40, 3, 1100), (1, 1, 1))),
    *((swiglu, sizes, 1) for sizes in (((70,), 50, 90), ((2, 3), 34, 16), ((), 9, 20))),
    *((cross_entropy, sizes, 1) for sizes in ((9, 70), (4, 5000), (2, 1))),
    *((gqa, (2, 4, 2, 70, 70, 24, causal), 2) for causal in (False, True)),
    (gqa, (1, 3, 1, 70, 40, 16, True), 2),
    (gqa, (1, 2, 2, 40, 150, 32, True), 2),
]


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


def name_of(case: Any) -> str | None:
    return case.__name__ if callable(case) else str(case) if isinstance(case, tuple) else None


def template_of(name: str) -> Any:
    return getattr(testing.load_module(EXAMPLES / name / f"{name}.py"), name)


def drawn(make: Callable[..., Arguments], sizes: tuple[Any, ...], dtype: torch.dtype) -> Arguments:
    torch.manual_seed(0)
    return make(lambda *shape: torch.randn(shape, device=DEVICE, dtype=dtype), *sizes)


def differentiable(inputs: Arguments) -> list[str]:
    return [name for name, value in inputs.items() if torch.is_tensor(value) and value.is_floating_point()]


FIRST = {make.__name__: (make, sizes, triton) for make, sizes, triton in reversed(CASES)}


@pytest.mark.parametrize(("make", "sizes", "triton"), CASES, ids=name_of)
def test_is_the_gradient(make: Callable[..., Arguments], sizes: tuple[Any, ...], triton: int) -> None:
    testing.assert_gradient(template_of(make.__name__), list(drawn(make, sizes, torch.float32).values()))


@pytest.mark.parametrize(
    "name",
    # Norms and products differ in what they keep in float32.
    [pytest.param(name, marks=[] if name in ("rms_norm", "swiglu") else pytest.mark.full) for name in FIRST],
)
def test_is_the_gradient_in_bfloat16(name: str) -> None:
    make, sizes, _ = FIRST[name]
    testing.assert_gradient(template_of(name), list(drawn(make, sizes, torch.bfloat16).values()))


@pytest.mark.parametrize("name", FIRST)
def test_it_is_what_autograd_takes(name: str) -> None:
    """Eager and compiled, where nobody asks for the gradient of any but the first output."""
    make, sizes, triton = FIRST[name]
    template = template_of(name)
    inputs = drawn(make, sizes, torch.float32)

    def program(*args: Any) -> torch.Tensor:
        found = template(*args)
        return (found if torch.is_tensor(found) else found[0]).sin()

    def gradients(program: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        wanted = {key: inputs[key].detach().requires_grad_() for key in differentiable(inputs)}
        return list(torch.autograd.grad(program(*(inputs | wanted).values()).sum(), list(wanted.values())))

    with operators.reference_gradients():
        expected = gradients(program)
    torch.testing.assert_close(gradients(program), expected, atol=2e-5, rtol=2e-5)
    compiled = testing.count_kernels(lambda: gradients(torch.compile(program, fullgraph=True)))
    torch.testing.assert_close(compiled.result, expected, atol=2e-5, rtol=2e-5)
    forward, backward = (
        [line for line in text.splitlines() if line.startswith("def triton_")] for text in compiled.code
    )
    assert len(forward) == 1 and f"_{name}_" in forward[0]
    assert len(backward) == triton and all(f"_{name}_backward" in line for line in backward)


@pytest.mark.parametrize("name", FIRST)
def test_its_templates_have_references(name: str) -> None:
    """A CPU without the interpreter runs those."""
    make, sizes, triton = FIRST[name]
    template = template_of(name)
    inputs = drawn(make, sizes, torch.float32)
    found = template(
        *(value.requires_grad_() if key in differentiable(inputs) else value for key, value in inputs.items())
    )
    seen: list[tuple[torch._ops.OpOverload, tuple[object, ...]]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func.namespace == "tdsl":
                seen.append((func, args))
            return func(*args, **(kwargs or {}))

    with Watch():
        (found if torch.is_tensor(found) else found[0]).sum().backward()
    assert len(seen) == triton
    for op, args in seen:
        reference = operators.reference_of(op)
        assert reference is not None
        torch.testing.assert_close(op(*args), reference(*args), atol=1e-5, rtol=1e-5)


def test_angles_without_a_gradient_cost_nothing() -> None:
    template = template_of("rope")
    x, cos, sin = drawn(rope, (2, 3, 35, 24, ()), torch.float32).values()
    x.requires_grad_()
    compiled = testing.count_kernels(
        lambda: torch.autograd.grad(torch.compile(template, fullgraph=True)(x, cos, sin).sum(), x)
    )
    assert compiled.kernels == 2
    torch.testing.assert_close(compiled.result, torch.autograd.grad(template.reference(x, cos, sin).sum(), x))

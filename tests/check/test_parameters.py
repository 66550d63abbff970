"""The signature."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tdsl import ir
from tdsl.diagnostics import TdslError
from tdsl.pipeline import check_text
from tdsl.source import Source

Mistakes = Callable[..., list[str]]
COPY = "store y[m, n] = load x[m, n]"


def kernel_of(signature: str, body: str = COPY, grid: str = "m, n in grid(M by 64, N by 64)") -> ir.Kernel:
    (kernel,) = check_text(Source("<test>", f"template t{signature}:\n    for {grid}:\n        {body}\n"))
    return kernel


def test_dims_and_dtypes_in_order_of_appearance() -> None:
    kernel = kernel_of(
        "(x: U[M, N], w: T[K]) -> y: promote(T, U)[M, N]\nwhere T in (f16, f32)", COPY + " + load w[0] else 0"
    )
    assert kernel.dims == ("M", "N", "K")
    assert kernel.dtype_choices == (("U", ("f16", "bf16", "f32")), ("T", ("f16", "f32")))
    assert str(kernel.outputs[0].dtype) == "promote(T, U)"


def test_a_const_dtype_is_a_dtype_variable() -> None:
    kernel = kernel_of("(x: T[M, N], out: const dtype = f32) -> y: out[M, N]\nwhere out in (f16, f32)")
    assert dict(kernel.dtype_choices)["out"] == ("f16", "f32")
    (const,) = (param for param in kernel.params if isinstance(param, ir.Const))
    assert const.default == "f32"


def test_a_size_may_be_a_parameter() -> None:
    kernel = kernel_of(
        "(x: T[M], n: int) -> y: T[M, n]", "store y[m, j] = load x[m]", "m, j in grid(M by 64, n by 64)"
    )
    assert kernel.dims == ("M",)


def test_rest_dimensions() -> None:
    kernel = kernel_of(
        "(x: T[R..., N]) -> y: T[R..., N]", "store y[r, n] = load x[r, n]", "r, n in grid(R, N by 64)"
    )
    assert kernel.dims == ("R", "N")


def test_a_tensor_without_dimensions() -> None:
    assert kernel_of("(x: T[M, N], s: f32[]) -> y: T[M, N]", COPY + " * load s[]").params[1].dims == ()


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("(x: T[M, N], a: T[K]?) -> y: T[M, N, K]", "unbound-dim: only an optional tensor tells 'K'"),
        ("(x: T[M, N]) -> y: U[M, N]", "unknown-dtype: no argument tells 'U'"),
        ("(x: T[M, N], e: float) -> y: T[M, e]", "bad-dim: a dimension is made of names and integers"),
        ("(x: T[M, N, R...]) -> y: T[M, N]", "bad-dim: 'R...' stands for leading dimensions and comes first"),
        ("(x: T[M, N], x: T[M]) -> y: T[M, N]", "duplicate-name: 'x' is a parameter already"),
        ("(x: T[M, N], M: T[M]) -> y: T[M, N]", "duplicate-name: 'M' is a dimension already"),
        ("(x: T[M, N]) -> y: T[M, N] where K > 2", "unknown-name: there is no 'K' here"),
        ("(x: T[M, N]) -> y: T[M, N] where M", "dtype-mismatch: a condition is true or false; this is int"),
        ("(x: T[M, N]) -> y: T[M, N] where load x[0, 0] > 0", "bad-point: there is nothing to load"),
    ],
)
def test_wrong(signature: str, said: str) -> None:
    with pytest.raises(TdslError) as caught:
        kernel_of(signature, "pass")
    assert any(f"{each.code.value}: {each.message}".startswith(said) for each in caught.value.diagnostics), (
        caught.value
    )


def test_what_is_broken_says_nothing_about_its_uses(mistakes: Mistakes) -> None:
    said = mistakes("store y[m, n] = load x[m, n] + s", "(x: float16[M, N], s: f32) -> y: T[M / 2, N]")
    assert [line.split(":")[0] for line in said] == ["unknown-dtype", "bad-param", "unknown-dtype", "bad-dim"]

"""One call of a template: what is solved, and what is said of arguments that do not fit."""

from __future__ import annotations

import math

import pytest

from tdsl import ir
from tdsl.diagnostics import Code, TdslError
from tdsl.pipeline import load
from tdsl.signature import Argument, Environment, Resolution, TensorInfo, evaluate, resolve
from tdsl.source import Source

MATMUL = """
template matmul(A: T[M, K], B: T[K, N], bias: T[N]?, scale: float, n: int, G: const int = 8) -> C: T[M, N]
where T in (f16, f32), K % G == 0, N <= 100:
    for m, n_ in grid(M by 16, N by 16):
        acc = zeros(m, n_)
        for k in K by 16:
            acc += dot(load A[m, k], load B[k, n_])
        if bias:
            acc += load bias[n_]
        store C[m, n_] = acc * scale * n
"""
NORM = """
template norm(x: T[R..., N], y: U[R..., N]?, D: const dtype = f32) -> (a: promote(T, D)[R..., N // 2], b: D[R...]):
    for r in grid(R):
        n = whole(N // 2)
        store a[r, n] = load x[r, n] + (load y[r, n] if y else 0)
        store b[r] = 0
"""


def call(text: str, **args: Argument) -> Resolution:
    return resolve(load(Source("<test>", text)), args)


def f16(*shape: int) -> TensorInfo:
    return TensorInfo("f16", shape)


def good() -> dict[str, Argument]:
    return {"A": f16(4, 16), "B": f16(16, 3), "bias": None, "scale": 2.0, "n": 3}


def test_a_call() -> None:
    found = call(MATMUL, **good())
    assert found.dims == {"M": 4, "K": 16, "N": 3}
    assert found.dtypes == {"T": "f16"}
    assert found.consts == {"G": 8}
    assert found.outputs == (f16(4, 3),)


def test_leading_dimensions_and_dtypes() -> None:
    found = call(NORM, x=f16(2, 3, 8), D="bf16")
    assert found.rest == {"R": (2, 3)}
    assert found.dims == {"R": 6, "N": 8}
    assert found.outputs == (TensorInfo("f32", (2, 3, 4)), TensorInfo("bf16", (2, 3)))
    assert call(NORM, x=f16(8)).outputs[1].shape == ()
    assert call(NORM, x=f16(0, 8)).dims["R"] == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"B": f16(17, 3)}, "'B' must have shape [K, N] with K = 16 (from A); got f16[17, 3]"),
        ({"B": f16(16)}, "'B' must have 2 dimensions, [K, N]; got f16[16]"),
        ({"B": TensorInfo("f32", (16, 3))}, "'B' must be f16, as 'A' is; got f32[16, 3]"),
        ({"A": TensorInfo("bf16", (4, 16))}, "'A' must be f16 or f32; got bf16[4, 16]"),
        ({"B": 3}, "'B' must be a tensor, T[K, N]; got 3 (an int)"),
        ({"B": [1.5] * 99}, "'B' must be a tensor, T[K, N]; got an object of type list"),
        ({"B": None}, "'B' must be a tensor, T[K, N]; got None"),
        ({"bias": f16(4)}, "'bias' must have shape [N] with N = 3 (from B); got f16[4]"),
        ({"scale": f16(1)}, "'scale' must be a float; got f16[1]"),
        ({"n": 1.5}, "'n' must be an int; got 1.5 (a float)"),
        ({"n": True}, "'n' must be an int; got True (a bool)"),
        ({"G": "8"}, "'G' must be an int; got '8' (a str)"),
        ({"G": 5}, "'K % G == 0' does not hold: K = 16 (from A), G = 5"),
        ({"G": 0}, "'G' divides in 'K % G' and must be positive; it is 0"),
        ({"B": f16(16, 101)}, "'N <= 100' does not hold: N = 101 (from B)"),
        ({"what": 1}, "'matmul' has no parameter 'what'"),
    ],
)
def test_what_does_not_fit(changed: dict[str, Argument], said: str) -> None:
    with pytest.raises(TdslError) as caught:
        call(MATMUL, **(good() | changed))
    assert [each.message for each in caught.value.diagnostics] == [said]
    assert {each.code for each in caught.value.diagnostics} == {Code.BAD_ARGUMENT}


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(TdslError) as caught:
        call(MATMUL, A=f16(4, 16))
    assert [each.message for each in caught.value.diagnostics] == [
        "'B' must be a tensor, T[K, N]; it is missing",
        "'scale' must be a float; it is missing",
        "'n' must be an int; it is missing",
    ]


def test_unequal_leading_dimensions() -> None:
    with pytest.raises(TdslError, match=r"'y' must have shape \[R..., N\] with R = \[2, 3\] \(from x\)"):
        call(NORM, x=f16(2, 3, 8), y=f16(6, 8))


def test_a_negative_size_of_an_output() -> None:
    text = "template t(x: T[N]) -> y: T[N - 4]:\n    for n in grid(N - 4 by 16):\n        store y[n] = load x[n]\n"
    assert call(text, x=f16(4)).outputs[0].shape == (0,)
    with pytest.raises(TdslError, match="output 'y' would have size -1 in 'N - 4'"):
        call(text, x=f16(3))


def expression(text: str) -> ir.Expr:
    kernel = load(
        Source(
            "<test>",
            f"template t(x: T[N], z: T[N]?, c: const int = 3, s: const str = 'a') -> y: T[N]:\n    let V = {text}\n"
            "    for n in grid(N by 16):\n        v = load x[n] + c\n        if z or s == 'a':\n            v = 0\n"
            "        store y[n] = v * V\n",
        )
    )
    return kernel.lets[0].value


ENVIRONMENT = Environment(
    dims={"N": 12}, params={"c": 3, "s": "a"}, dtypes={"T": "f16"}, present=frozenset({"z"})
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("N // 5 * 2 - 1", 3),
        ("-N % 5", 3),
        ("N / 8", 1.5),
        ("next_pow2(N)", 16),
        ("next_pow2(1)", 1),
        ("cdiv(N, 5)", 3),
        ("minimum(N, c) + maximum(N, 20)", 23),
        ("N ** 2", 144),
        ("N ** -1", 1 / 12),
        ("1 / (N - 12)", math.inf),
        ("sqrt(4.0)", 2.0),
        ("log(0.0)", -math.inf),
        ("exp(10000.0)", math.inf),
        ("1 if s == 'a' and N > 3 else 0", 1),
        ("2 if T in (f32, f64) else 1", 1),
        ("1 if z else 0", 1),
        ("f32(N) / 8", 1.5),
        ("i32(2.9)", 2),
        ("where(N > 3, 1, 2)", 1),
        ("(N & 8) | 1 ^ 2 << 1", 13),
        ("abs(0 - N)", 12),
        ("floor(2.5)", 2.0),
        ("1 << N * 10", 0),
        ("-5 >> (N - 13)", -1),
        ("5.5 // (N - 12.0)", math.inf),
    ],
)
def test_evaluate(text: str, value: object) -> None:
    declared = expression(text)
    assert evaluate(declared, ENVIRONMENT) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("N // (N - 12)", "divides by zero"),
        ("cdiv(N, N - 12)", "divides by zero"),
        ("N ** 60", "beyond 64 bits"),
    ],
)
def test_evaluate_fails(text: str, said: str) -> None:
    with pytest.raises(TdslError, match=said):
        evaluate(expression(text), ENVIRONMENT)


def test_evaluate_without_a_size() -> None:
    with pytest.raises(KeyError):
        evaluate(expression("N + 1"), Environment())


def test_a_size_is_solved_for() -> None:
    text = """
template t(a: f16[{0}], b: f16[S]?) -> y: f16[S]:
    for s in grid(S by 16):
        store y[s] = (load a[S + 9] else 0) + (load b[s] if b else 0)
"""
    for dim, size, found in (
        ("S + 1", 5, 4),
        ("1 + S", 1, 0),
        ("2 * S", 6, 3),
        ("S * 3 - 1", 5, 2),
        ("S - 2", 0, 2),
    ):
        assert call(text.format(dim), a=f16(size), b=None).dims == {"S": found}
    for dim, size in (("S + 1", 0), ("2 * S", 5), ("2 * S + 4", 2), ("2 * S + 4", 7)):
        with pytest.raises(TdslError, match="with a size S from 0; got"):
            call(text.format(dim), a=f16(size), b=None)
    with pytest.raises(TdslError, match="S"):
        call(text.format("2 * S"), a=f16(4), b=f16(3))

from __future__ import annotations

import pytest

from tdsl.check.polynomials import Polynomial, without

K, N = Polynomial.atom("K"), Polynomial.atom("N")


def test_arithmetic() -> None:
    assert (K + 1) * (K - 1) == K * K - 1
    assert (K - K).value == 0
    assert (K * 2 - K * 2 + 3).value == 3
    assert K.value is None


def test_split() -> None:
    assert (K * N * 2 + K - 3).split("K") == (N * 2 + 1, Polynomial.constant(-3))
    assert (K * K).split("K") is None


def test_substitute() -> None:
    assert (K * K + N).substitute({"K": N + 1}) == N * N + N * 3 + 1


def test_without() -> None:
    assert without(("K", "K", "N"), ("K",)) == ("K", "N")
    assert without(("K",), ("N",)) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(K - 1, "K - 1"), (-K + 3, "-K + 3"), (K * N * 2, "2 * K * N"), (Polynomial({}), "0")],
)
def test_text(value: Polynomial, text: str) -> None:
    assert str(value) == text


def test_an_atom_with_spaces_is_put_in_parentheses() -> None:
    assert str(Polynomial.atom("K // 8") * 2) == "2 * (K // 8)"

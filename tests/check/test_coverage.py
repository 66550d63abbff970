"""Every output is stored exactly once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Mistakes = Callable[..., list[str]]
SIGNATURE = "(x: T[M, N], a: const bool, b: const bool) -> y: T[M, N]"
USES = "v = load x[m, n] + (1 if a or b else 0)\n"
ONE = "store y[m, n] = v"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (ONE, None),
        (f"if a:\n    {ONE}\nelse:\n    {ONE}", None),
        (f"if a:\n    {ONE}\nelif b:\n    {ONE}\nelse:\n    {ONE}", None),
        (f"if a:\n    if b:\n        {ONE}\n    else:\n        {ONE}\nelse:\n    {ONE}", None),
        ("pass", "not-stored"),
        (f"{ONE}\n{ONE}", "stored-twice"),
        (f"{ONE}\nif a:\n    {ONE}", "stored-twice"),
        (f"if a:\n    {ONE}\n    {ONE}\nelse:\n    {ONE}", "stored-twice"),
        (f"if a:\n    {ONE}\nif not a:\n    {ONE}", "stored-twice"),
        (f"if a:\n    {ONE}", "partial-store"),
        (f"if a:\n    {ONE}\nelif b:\n    {ONE}", "partial-store"),
        (f"if a:\n    {ONE}\nelif b:\n    pass\nelse:\n    {ONE}", "partial-store"),
        (f"if a:\n    if b:\n        {ONE}\nelse:\n    {ONE}", "partial-store"),
        (f"{ONE}\naccumulate y[m, n] += v", "stored-twice"),
    ],
)
def test_stores(mistakes: Mistakes, body: str, code: str | None) -> None:
    found = mistakes(USES + body, SIGNATURE.replace("T", "f32"))
    assert [line.split(":")[0] for line in found] == ([] if code is None else [code])


INOUT = "(inout x: T[M, N], a: const bool) -> y: T[M, N]"


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ("v = load x[m, n]\nstore x[m, n] = v + 1", []),
        ("store x[m, n] = load x[m, n] * load x[m, n]", []),
        ("store x[m, n] = 0", []),
        ("if a:\n    store x[m, n] = load x[m, n]\nelse:\n    store x[m, n] = load x[m, n] + 1", []),
        ("v = load x[m, 0] else 0\nstore x[m, n] = v", ["inout-race"]),
        ("j = whole(N)\nv = sum(load x[m, j], j)\nstore x[m, n] = v", ["inout-race"]),
        ("store x[m, n] = 0\nv = load x[m, n]", ["inout-race"]),
        ("v = load x[m, n]", ["not-stored"]),
        ("accumulate x[m, n] += 1", ["not-stored", "bad-point"]),
    ],
)
def test_inout(mistakes: Mistakes, body: str, codes: list[str]) -> None:
    found = mistakes(body + "\nstore y[m, n] = 1 if a else 0", INOUT)
    assert [line.split(":")[0] for line in found] == codes

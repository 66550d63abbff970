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
        ("v = load x[0, n]\nstore x[m, n] = v", ["inout-race"]),
        ("j = whole(N)\nv = sum(load x[m, j], j)\nstore x[m, n] = v", ["inout-race"]),
        ("store x[m, n] = 0\nv = load x[m, n]", ["inout-race"]),
        ("v = load x[m, n]", ["not-stored"]),
        ("accumulate x[m, n] += 1", ["bad-point"]),
    ],
)
def test_inout(mistakes: Mistakes, body: str, codes: list[str]) -> None:
    found = mistakes(body + "\nstore y[m, n] = 1 if a else 0", INOUT)
    assert [line.split(":")[0] for line in found] == codes


@pytest.mark.parametrize(
    ("loop", "where", "subscripts", "covers"),
    [
        ("g * W to (g + 1) * W", "C == G * W", "n, c", True),
        ("g * W to g * W + W", "C == G * W", "n, c", True),
        ("g * (C // G) to (g + 1) * (C // G)", "C % G == 0", "n, c", True),
        ("g * W to (g + 1) * W", "C == G * W + 1", "n, c", False),
        ("g * W to (g + 1) * W - 1", "C == G * W", "n, c", False),
        ("(g + 1) * W to (g + 2) * W", "C == G * W", "n, c", False),
        ("n * W to (n + 1) * W", "C == G * W", "n, c", False),
        ("n * W to (n + 1) * W", "C == N * W", "n, c", False),  # of every n, another part, and not of every g
        ("g * W to (g + 1) * W", "N == G * W, C == G * W", "c, c", False),
    ],
)
def test_a_dimension_in_parts(
    mistakes: Mistakes, loop: str, where: str, subscripts: str, covers: bool
) -> None:
    found = mistakes(
        f"for c in {loop} by 16:\n    store y[{subscripts}] = 1",
        f"(x: f32[N, C], w: f32[W], v: f32[G]) -> y: f32[N, C]\nwhere {where}",
        grid="n, g in grid(N, G)",
    )
    codes = {line.split(":")[0] for line in found} - {"unused-input"}  # W is not in all of the loops
    assert codes <= {"partial-store", "out-of-bounds", "stored-twice"} and bool(codes) != covers


@pytest.mark.parametrize(
    ("loops", "subscripts", "covers"),
    [
        (["i in m.start to m.stop by 4"], "i, n", True),
        (["i in m.start to m.stop"], "i, n", True),
        (["i in m.start to m.stop", "j in n.start to n.stop by 2"], "i, j", True),
        (["i in m.start to m.stop by 8", "j in i.start to i.stop by 4"], "j, n", True),
        (["k in M by 16", "i in m.start to m.stop"], "i, n", False),  # once for every k
        (["i in m.start to m.stop by 8", "j in i.start to i.stop by 4"], "i, n", False),
        (["i in m.start to m.stop by 4"], "m, n", False),
        (["i in m.start to m.stop - 1"], "i, n", False),
        (["i in m.start + 1 to m.stop"], "i, n", False),
        (["i in n.start to m.stop"], "i, n", False),
        (["i in n.start to n.stop"], "i, n", False),
        (["i in m.start to m.stop"], "i, m", False),  # a diagonal
        (["i in m.start to m.stop", "j in m.start to m.stop"], "i, j", False),
    ],
)
def test_a_loop_over_a_block(mistakes: Mistakes, loops: list[str], subscripts: str, covers: bool) -> None:
    lines = [f"{'    ' * depth}for {loop}:" for depth, loop in enumerate(loops)]
    found = mistakes(
        "\n".join([*lines, f"{'    ' * len(loops)}store y[{subscripts}] = load x[{subscripts}]"]),
        "(x: T[M, N]) -> y: T[M, N]",
    )
    codes = {line.split(":")[0] for line in found}
    assert codes <= {"partial-store", "out-of-bounds", "stored-twice"} and bool(codes) != covers, found


@pytest.mark.parametrize(
    ("signature", "unused"),
    [
        ("(x: T[M, N], like: T[S]) -> y: T[M, N, S]", False),
        ("(x: T[M, N], like: T[2 * S + 1]) -> y: T[M, N, S]", False),
        ("(x: T[M, N], like: T[S], s: T[S]) -> y: T[M, N, S]", True),
        ("(x: T[M, N], like: T[N], s: T[S]) -> y: T[M, N, S]", True),
        ("(x: T[M, N], like: T[K], s: T[S]) -> y: T[M, N, S]", True),
    ],
)
def test_a_tensor_may_be_there_for_its_size(mistakes: Mistakes, signature: str, unused: bool) -> None:
    more = " + load s[s_]" if " s: " in signature else ""
    found = mistakes(
        f"store y[m, n, s_] = load x[m, n]{more}", signature, grid="m, n, s_ in grid(M by 16, N by 16, S)"
    )
    assert [line.split(":")[0] for line in found] == (["unused-input"] if unused else [])

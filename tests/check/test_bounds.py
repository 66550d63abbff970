"""The bounds proof: what it shows, what it does not, and that what it shows is true."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping

import pytest

from tdsl import ir
from tdsl.diagnostics import Code, TdslError
from tdsl.pipeline import check_text
from tdsl.signature import TensorInfo, resolve
from tdsl.source import Source
from tests.check.conftest import Mistakes

# signature of the source tensor, guards, subscripts
PROVEN = [
    ("[M]", "", "m"),
    ("[M + 1]", "", "m + 1"),
    ("[2 * M]", "", "2 * m + 1"),
    ("[M * N]", "", "m * N + n"),
    ("[N * M]", "", "n * M + m"),
    ("[M // 8]", "M % 8 == 0", "m // 8"),
    ("[M // 8]", "M % 32 == 0", "m // 8"),
    ("[cdiv(M, 8)]", "", "m // 8"),
    ("[(M + 7) // 8]", "", "m >> 3"),
    ("[M // G]", "M % G == 0", "m // G"),
    ("[cdiv(M, G)]", "", "m // G"),
    ("[G, M]", "M % G == 0", "m % G, m"),
    ("[8]", "", "m % 8"),
    ("[8]", "", "m & 7"),
    ("[M // 8, 8]", "M % 8 == 0", "m // 8, m % 8"),
    ("[M]", "", "m // 2"),
    ("[M]", "", "M - 1 - m"),
    ("[M]", "", "(m * 3) // 3"),
    ("[M]", "", "minimum(m + 5, M - 1)"),
    ("[M]", "", "maximum(m - 5, 0)"),
    ("[M]", "", "m if flag else M - 1 - m"),
    ("[M]", "", "where(m > 3, m, 0)"),
    ("[N]", "M == N", "m"),
    ("[N]", "M <= N", "m"),
    ("[N]", "N == 2 * M", "2 * m + 1"),
    ("[N]", "M < N", "m + 1"),
    ("[256]", "M <= 256", "m"),
    ("[M]", "", "m.start"),
    ("[M]", "", "m.stop - 1"),
    ("[M]", "", "0"),
    ("[N]", "N >= 4", "3"),
    ("[N + 4]", "", "n + 4"),
    ("[next_pow2(M)]", "", "m"),
    ("[M]", "", "abs(m)"),
]
UNPROVEN = [
    ("[M]", "", "m + 1"),
    ("[M]", "", "m - 1"),
    ("[N]", "", "m"),
    ("[N]", "", "0 - 0 + 1"),
    ("[M // 8]", "", "m // 8"),
    ("[M // 8]", "M % 4 == 0", "m // 8"),
    ("[M // 8]", "M % 8 == 1", "m // 8"),
    ("[M]", "", "m * 2"),
    ("[M * N]", "", "m * M + n"),
    ("[M]", "", "maximum(m, 5)"),
    ("[M]", "", "m if flag else m + 1"),
    ("[M]", "", "m.stop"),
    ("[M]", "", "M"),
    ("[M]", "", "k"),
    ("[M]", "", "m + k - k + 1"),
    ("[N]", "M != N", "m"),
    ("[N]", "M <= N or M == 3", "m"),
    ("[M]", "", "m ^ 1"),
    ("[M]", "", "i8(m)"),
    ("[7]", "", "m % 8"),
    ("[M]", "", "m % k"),
]
TEMPLATE = """
template t(x: T[M, N], s: T{dims}, k: int, G: const int = 8, flag: const bool = false) -> y: T[M, N]
where G > 0 or flag or not flag{guards}:
    for m, n in grid(M by 16, N by 16):
        store y[m, n] = load x[m, n] + load s[{subscripts}] * G * k
"""


def text(dims: str, guards: str, subscripts: str) -> str:
    return TEMPLATE.format(dims=dims, guards=f", {guards}" if guards else "", subscripts=subscripts)


def problems(source: str) -> set[Code]:
    try:
        check_text(Source("<test>", source))
    except TdslError as error:
        return {each.code for each in error.diagnostics}
    return set()


@pytest.mark.parametrize("case", PROVEN, ids=str)
def test_proven(case: tuple[str, str, str]) -> None:
    assert problems(text(*case)) == set()


@pytest.mark.parametrize("case", UNPROVEN, ids=str)
def test_unproven(case: tuple[str, str, str]) -> None:
    assert problems(text(*case)) == {Code.OUT_OF_BOUNDS}


@pytest.mark.parametrize(
    "load, signature, help",
    [
        (
            "s[n // 32]",
            "(s: f32[N // 32]) -> y: f32[M, N]",
            "a guard, 'where N % 32 == 0'; else add 'else 0'",
        ),
        ("s[n // 16]", "(s: f32[N // 32]) -> y: f32[M, N]", "add 'else 0' after s[n // 16], or"),
        ("s[3]", "(s: f32[N]) -> y: f32[M, N]", "a guard, 'where N > 3'; else add 'else 0'"),
        ("s[m]", "(s: f32[N]) -> y: f32[M, N]", "did you mean 'n'? Else add 'else 0' after s[m], or"),
        ("s[m]", "(s: f32[K]) -> y: f32[M, N]", "add 'else 0' after s[m], or"),
    ],
)
def test_what_would_prove_it_is_said(mistakes: Mistakes, load: str, signature: str, help: str) -> None:
    inputs = signature.replace("(", "(x: f32[M, N], ", 1)
    (found,) = mistakes(f"store y[m, n] = load x[m, n] + load {load}", inputs)
    assert help in found
    if "where" in help:
        guard = help.split("'")[1]
        assert not mistakes(f"store y[m, n] = load x[m, n] + load {load}", f"{inputs}\n{guard}")


def test_a_negative_constant_that_divides_a_dimension_is_refused_by_the_call() -> None:
    # which is why a proof may take G to be positive in `m // G`
    (kernel,) = check_text(Source("<test>", text("[M // G]", "M % G == 0", "m // G")))
    shapes = {"x": TensorInfo("f32", (4, 4)), "s": TensorInfo("f32", (2,)), "k": 1, "G": -2}
    with pytest.raises(TdslError, match="must be positive"):
        resolve(kernel, shapes)


LOOPS = [
    ("for j in N by 16:", "x[m, j]", True),
    ("for j in 0 to n.stop by 16:", "x[m, j]", True),
    ("for j in n.start to N by 16:", "x[m, j]", True),
    ("for j in 1 to N by 16:", "x[m, j - 1]", True),
    ("for j in 1 to N - 1 by 16:", "x[m, j + 1]", True),
    ("for j in N:", "x[m, j]", True),
    ("for j in 0 to minimum(N, m.stop) by 16:", "x[m, j]", True),
    ("for j in 0 to m.stop by 16:", "x[m, j]", False),
    ("for j in 0 to k by 16:", "x[m, j]", False),
    ("for j in k to N by 16:", "x[m, j]", False),
    ("for j in 0 - 1 to N by 16:", "x[m, j]", False),
    ("for j in N + 1 by 16:", "x[m, j]", False),
    ("for j in cdiv(N, 8):\n            for i in 8:", "x[m, j * 8 + i]", False),
    ("for j in N // 8:\n            for i in 8:", "x[m, j * 8 + i]", True),
    ("for j in N // 2:", "x[m, N - 1 - j]", True),
]


@pytest.mark.parametrize(("loops", "load", "proven"), LOOPS, ids=str)
def test_loops(loops: str, load: str, proven: bool) -> None:
    depth = "            " if "\n" in loops else "        "
    source = f"""
template t(x: T[M, N], k: int) -> y: T[M, N]:
    for m, n in grid(M by 16, N by 16):
        {loops}
        {depth}seen = load {load} * k
        store y[m, n] = 0
"""
    assert problems(source) == (set() if proven else {Code.OUT_OF_BOUNDS})


def test_a_definition_is_looked_through_unless_it_changes(
    check: Callable[[str], str], mistakes: Callable[[str], list[str]]
) -> None:
    once = "i = m // 2\nstore y[m, n] = load x[i, n]"
    assert "load x[i, n]" in check(once)
    twice = "i = m // 2\ni += 1\nstore y[m, n] = load x[i, n]"
    assert [line.split(":")[0] for line in mistakes(twice)] == ["out-of-bounds"]


def test_an_empty_whole_tile_proves_nothing_of_other_subscripts() -> None:
    source = """
template t(x: T[N]) -> y: T[N]:
    for i in grid(1):
        n = whole(N)
        store y[n] = load x[n] + load x[0]
"""
    assert problems(source) == {Code.OUT_OF_BOUNDS}


# What is proven is true: every lane of random subscripts, for many sizes.


def random_subscript(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.25:
        return rng.choice(["m", "m", "n", "j", "M", "N", "1", "2", "3", "m.start", "n.stop"])
    a, b = random_subscript(rng, depth - 1), random_subscript(rng, depth - 1)
    number = rng.choice(["2", "3", "4", "8"])
    forms = [f"({a} + {b})", f"({a} - {b})", f"({a} * {number})", f"({a} // {number})", f"({a} % {number})"]
    forms += [
        f"({a} + 1)",
        f"({a} - 1)",
        f"minimum({a}, {b})",
        f"maximum({a}, {b})",
        f"({a} * {b})",
        f"({a} % M)",
    ]
    forms += [f"where(m > n, {a}, {b})", f"(M - 1 - {a})", f"abs({a})", f"({a} // N)", f"({a} & 3)"]
    return rng.choice(forms)


DIMS = [
    "M",
    "N",
    "M * N",
    "M + N",
    "2 * M",
    "M // 2",
    "cdiv(M, 2)",
    "M // 4",
    "4",
    "M + 1",
    "3 * M + N",
    "M - 1",
]
GUARDS = [
    "",
    "",
    ", M % 4 == 0",
    ", M == N",
    ", M <= N",
    ", M >= 4",
    ", N == 2 * M",
    ", N % M == 0",
    ", M - N > 2",
]
STOPS = ["M", "N", "m.stop", "minimum(M, n.stop)", "M // 2", "N - 1", "3"]


CASES = 150


def test_what_is_proven_is_true() -> None:
    rng = random.Random(2024)
    proven = 0
    for _ in range(CASES):
        dim, guard, stop = rng.choice(DIMS), rng.choice(GUARDS), rng.choice(STOPS)
        subscript = random_subscript(rng, rng.choice([1, 2, 2, 3]))
        source = f"""
template t(x: T[M, N], s: T[{dim}]) -> y: T[M, N]
where M > 0 or M <= 0{guard}:
    for m, n in grid(M by 2, N by 2):
        for j in {rng.choice(["0", "0", "1", "m.start"])} to {stop} by 2:
            seen = load s[{subscript}]
        store y[m, n] = load x[m, n] + load s[0] else 0
"""
        if problems(source):
            continue
        proven += 1
        (kernel,) = check_text(Source("<test>", source))
        for sizes in itertools.product(range(8), repeat=2):
            check_lanes(kernel, dict(zip("MN", sizes, strict=True)), source)
    assert proven > CASES // 10


def check_lanes(kernel: ir.Kernel, sizes: Mapping[str, int], source: str) -> None:
    if not all(value(guard, sizes) for guard in kernel.guards):
        return
    (dim,) = kernel.tensor("s").dims
    assert not isinstance(dim, ir.RestDim)
    size = value(dim, sizes)
    if size < 0:
        return  # no call has such a tensor
    (loop,) = (node for node in ir.walk(kernel) if isinstance(node, ir.For))
    (load,) = (node for node in ir.walk(loop) if isinstance(node, ir.Load))
    for names in lanes([*kernel.grid, loop.tile], dict(sizes)):
        assert 0 <= value(load.subscripts[0].value, names) < size, f"{source}\n{names}"


def lanes(tiles: list[ir.Tile], names: dict[str, int]) -> Iterator[dict[str, int]]:
    if not tiles:
        yield names
        return
    tile, *others = tiles
    start, stop = value(tile.start, names), value(tile.stop, names)
    for first in range(start, stop, 2):
        end = min(first + 2, stop)
        for lane in range(first, end):
            edges = {f"{tile.key}.start": first, f"{tile.key}.stop": end}
            yield from lanes(others, {**names, **edges, tile.key: lane})


def value(expr: ir.Expr, names: Mapping[str, int]) -> int:
    match expr:
        case ir.Constant(value=int(number)):
            return number
        case ir.DimRef(name=name):
            return names[name]
        case ir.TileRef(tile=tile):
            return names[tile.key]
        case ir.TileEdge(tile=tile, edge=edge):
            return names[f"{tile.key}.{edge}"]
        case ir.Binary(op=op, left=left, right=right):
            a, b = value(left, names), value(right, names)
            if op in ("//", "%") and b == 0:
                return 0
            return int(eval(f"a {op} b", {"a": a, "b": b}))
        case ir.Elementwise(function=function, arguments=arguments):
            numbers = [value(argument, names) for argument in arguments]
            match function:
                case "minimum":
                    return min(numbers)
                case "maximum":
                    return max(numbers)
                case "abs":
                    return abs(numbers[0])
                case "cdiv":
                    return -(-numbers[0] // numbers[1])
                case "where":
                    return numbers[1] if numbers[0] else numbers[2]
    raise AssertionError(f"{expr} is not in these tests")

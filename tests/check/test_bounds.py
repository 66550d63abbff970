"""The bounds proof: what it shows, what it does not, and that what it shows is true."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from tdsl import ir
from tdsl.diagnostics import Code, TdslError
from tdsl.pipeline import check_text
from tdsl.signature import TensorInfo, resolve
from tdsl.source import Source
from tdsl.types import wrapped
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
    ("[N]", "M % N == 0", "m // (M // N)"),
    ("[N]", "M % N == 0", "m * N // M"),
    ("[N]", "", "m * N // M"),
    ("[N]", "M == N * G", "m // G"),
    ("[M // 2]", "M >= 2", "m % (M // 2)"),
    ("[M // 2]", "M // 2 > 0", "m % (M // 2)"),
    ("[M // 2]", "M % 2 == 0", "m % (M // 2)"),
    ("[M // N]", "M % N == 0", "m % (M // N)"),
    ("[M]", "M <= 4096", "i32(m)"),
    ("[M]", "", "i64(m)"),
    ("[M]", "M <= 4096", "i32(m) * 4 // 4"),
    ("[8]", "", "i32(k) % 8"),
    ("[8]", "", "(i32(k) * 65536) % 8"),
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
    ("[N]", "", "m // (M // N)"),
    ("[N]", "N % M == 0", "m // (M // N)"),
    ("[N]", "M % N == 0", "m // (M // N) + 1"),
    ("[N]", "M % N == 0", "(m + 1) // (M // N)"),
    ("[N]", "N > 0", "(m + 1) * N // M"),
    ("[N]", "N > 0", "m * (N + 1) // M"),
    ("[N]", "M == N * G + 1", "m // G"),
    ("[N]", "M >= N * G", "m // G"),
    ("[M // 2]", "", "m % (M // 2)"),
    ("[M // 2]", "M % 3 == 0", "m % (M // 2)"),
    ("[M // 2]", "M % 2 == 0", "m % (M // 2 + 1)"),
    ("[M]", "", "i32(m)"),  # of a tensor with more rows it is another number
    ("[M]", "M <= 65536", "i32(m) * 65536 // 65536"),
    ("[M]", "k >= 0, k < M", "i32(k)"),
    ("[8]", "", "(i32(k) >> 28) + 8"),
    ("[8]", "", "abs(i32(k)) % 8 + 1"),
    ("[M]", "M <= 4096", "i32(m) * i32(m) * i32(m) // (M * M)"),
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
        ("s[n * G // N]", "(s: f32[G]) -> y: f32[M, N]", "a guard, 'where G > 0'; else add"),
        ("s[n % (N // 2)]", "(s: f32[N // 2]) -> y: f32[M, N]", "a guard, 'where N // 2 > 0'; else add"),
        ("s[n // (N // G)]", "(s: f32[G]) -> y: f32[M, N]", "a guard, 'where N % G == 0'; else add"),
        (
            "s[minimum(maximum(i32(load x[m, n]), 0), G - 1)]",
            "(s: f32[G]) -> y: f32[M, N]",
            "a guard, 'where G > 0'; else add",
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


CONDITIONS = [  # what is tested, with i loaded; a subscript of M; whether it is proven
    ("i >= 0 and i < M", "i", True),
    ("not (i < 0 or i >= M)", "i", True),
    ("0 <= i and M > i", "i", True),
    ("i > 0 and i <= M", "i - 1", True),
    ("k >= 0 and k < M - 1", "k + 1", True),
    ("j > 0", "j - 1", True),
    ("j + 1 < M", "j + 1", True),
    ("i == 3 and M > 3", "i", True),
    ("i >= 0", "i", False),
    ("i >= 0 or i < M", "i", False),
    ("not (i < 0 and i >= M)", "i", False),
    ("i >= 0 and i <= M", "i", False),
    ("i >= 0 and i < N", "i", False),
    ("changed >= 0 and changed < M", "changed", False),
    ("i * 4 >= 0 and i * 4 < M", "i", False),  # i * 4 may have wrapped around
    ("i >= 0 and i < M", "i + 1 - 1", False),  # and so may i + 1
    ("i >= 0 and load ids[0] < M", "i", False),
    ("j > 0", "j - 2", False),
    ("k >= 0", "k", False),
    (
        "wide >= 0 and wide < M",
        "wide + 1 - 1",
        True,
    ),  # no dimension has so many indices that 64 bits overflow
    ("wide >= 0 and wide < M", "(wide * 1024) // 1024", True),
    ("wide >= 0 and wide < M", "wide * wide // wide", False),
    ("wide + 1 > 0 and wide < M", "wide + 1 - 1", False),
    ("i32(wide) >= 0 and i32(wide) < M", "i32(wide)", True),
    ("i32(wide) >= 0 and i32(wide) < M", "wide", False),
    ("wide >= 0 and wide < M", "i32(wide)", False),
    ("wide >= 0 and wide < M and M < 100", "i32(wide)", True),
    ("i < M", "abs(i)", False),
    ("i >= 0 and i < M", "abs(i)", True),
    ("i >= 0 and i < M", "maximum(i, 0)", True),
]


@pytest.mark.parametrize("case", CONDITIONS, ids=str)
def test_a_condition_is_known_in_its_branch(case: tuple[str, str, bool]) -> None:
    condition, subscript, proven = case
    source = f"""
template t(x: T[M, N], ids: i32[M], far: i64[M], k: int) -> y: T[M, N]:
    for m, n in grid(M by 16, N by 16):
        changed = 0
        changed += k
        for j in M:
            i = load ids[m.start]
            wide = load far[m.start]
            if {condition}:
                seen = load x[{subscript}, n]
            else:
                pass
            if not ({condition}):
                pass
            else:
                seen = load x[{subscript}, n]
        store y[m, n] = k
"""
    assert problems(source) == (set() if proven else {Code.OUT_OF_BOUNDS})
    swapped = source.replace(f"if {condition}", f"if not ({condition})")
    assert Code.OUT_OF_BOUNDS in problems(swapped)  # nor is it known anywhere else
    behind = source.replace(f"if {condition}:", "if k > 7:")
    assert Code.OUT_OF_BOUNDS in problems(behind)


def test_while_a_guard_has_a_mistake_nothing_is_needless() -> None:
    source = """
template t(x: T[M], s: T[N]) -> y: T[M]
where Q % 2 == 0:
    for m in grid(M by 16):
        store y[m] = load x[m] + (load s[m] else 0)
"""
    assert problems(source) == {Code.UNKNOWN_NAME}


def test_where_no_call_comes_nothing_is_needless() -> None:
    source = """
template t(x: T[M, N], ids: i32[N]) -> y: T[M, N]:
    for m, n in grid(M by 16, N by 16):
        v = load x[m, n] + load ids[n]
        if {condition}:
            v += load x[load ids[n], n] unchecked
        store y[m, n] = v
"""
    for condition in ("-M // 3 > 0", "M > 3 and M < 2", "M > 3"):
        assert problems(source.format(condition=condition)) == set()
    needless = source.replace("x[load ids[n], n]", "x[m, n]").format(condition="M > 3")
    assert problems(needless) == {Code.NEEDLESS_OPTION}


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
        store y[m, n] = load x[m, n]
"""
        if problems(source):
            continue
        proven += 1
        (kernel,) = check_text(Source("<test>", source))
        for sizes in itertools.product(range(8), repeat=2):
            check_lanes(kernel, dict(zip("MN", sizes, strict=True)), source)
    assert proven > CASES // 10


TESTS = [
    "i >= 0 and i < M",
    "k >= 0 and k < M",
    "i >= 0 and i < N",
    "i > 0 and i <= N",
    "i >= 0",
    "i < M",
    "i < N",
    "i <= N",
    "j > 0",
    "j < N",
    "k >= 0",
    "k < M",
    "i == k",
    "j + 1 < M",
    "i >= 1",
]
PLACES = ["i", "k", "j", "i - 1", "j - 1", "j + 1", "k + j", "m - j", "i // 2", "i % M", "minimum(i, M - 1)"]
PLACES += [
    "m // (M // N)",
    "m * N // M",
    "m % (M // 2)",
    "(m + i) // 2",
    "maximum(k, j)",
    "i * N + n",
    "k * 2",
]
CUT = [", M % N == 0", ", M == 2 * N", ", N > 0", ", M % 2 == 0", ", N % 2 == 0, M == N", "", "", ", M >= 2"]


def test_what_a_branch_proves_is_true() -> None:
    rng = random.Random(7)
    proven = 0
    for _ in range(CASES // 2):
        tests = [rng.choice(TESTS) for _ in range(rng.choice([1, 1, 2]))]
        first = rng.choice([" and ", " and ", " or "]).join(tests)
        places = rng.choice(PLACES), rng.choice(PLACES)
        source = f"""
template t(x: T[M, N], ids: i64[M], s: T[{rng.choice(["M", "N", "N", "M // 2", "M * N", "M + 1"])}], k: int) -> y: T[M, N]
where M > 0 or M <= 0{rng.choice(CUT)}:
    for m, n in grid(M by 2, N by 2):
        i = load ids[m.start]
        for j in {rng.choice(["N", "M", "0 to m.stop"])}:
            if {rng.choice(["", "", "not "])}({first}):
                seen = load s[{places[0]}]
            elif {rng.choice(TESTS)} and i > 0:
                seen = load s[{places[1]}]
        store y[m, n] = load x[m, n] + k
"""
        if problems(source):
            # One of the two may be proven.
            source = source.replace(
                f"load s[{places[1]}]", "load s[0] unchecked" if rng.random() < 0.9 else "0"
            )
            if problems(source):
                continue
        proven += 1
        (kernel,) = check_text(Source("<test>", source))
        for sizes in itertools.product(range(6), repeat=2):
            check_branches(rng, kernel, dict(zip("MN", sizes, strict=True)), source)
    assert proven > CASES // 30


HELD = list(itertools.product(range(-2, 7), repeat=2))  # what i and k may be


def check_branches(rng: random.Random, kernel: ir.Kernel, sizes: Mapping[str, int], source: str) -> None:
    if not all(value(guard, sizes) for guard in kernel.guards):
        return
    (dim,) = kernel.tensor("s").dims
    assert not isinstance(dim, ir.RestDim)
    size = value(dim, sizes)
    (loop,) = (node for node in ir.walk(kernel) if isinstance(node, ir.For))
    (branch,) = (node for node in ir.walk(kernel) if isinstance(node, ir.If))
    for names in lanes([*kernel.grid, loop.tile], dict(sizes)):
        for i, k in rng.sample(HELD, 8):
            values = {**names, "i": i, "k": k}
            for condition, body in branch.branches:
                if value(condition, values):
                    for load in (
                        node for each in body for node in ir.walk(each) if isinstance(node, ir.Load)
                    ):
                        at = value(load.subscripts[0].value, values)
                        assert load.unchecked or 0 <= at < size, f"{source}\n{values}"
                    break


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
    step = 1 if tile.scalar else 2
    for first in range(start, stop, step):
        end = min(first + step, stop)
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
        case ir.VarRef(name=name) | ir.ParamRef(name=name):
            return names[name]
        case ir.Unary(op="not", operand=operand):
            return not value(operand, names)
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


# And of narrow integers, which wrap around: every number that a tensor may hold.

NARROW_PLACES = [
    "i",
    "i",
    "i",
    "i + 1",
    "i - 1",
    "j",
    "15 & i",
    "i % 16",
    "clamp(i, 0, 9)",
    "i // 2",
    "abs(i)",
    "u8(i)",
]
NARROW_TESTS = [
    "i >= 0",
    "i < S",
    "i != 0",
    "i > -1",
    "not (i == 0)",
    "j >= 0",
    "j < S",
    "i <= S",
    "i32(i) < S",
    "i - 1 >= 0",
]
NARROW = [("i8", -128, 127), ("u8", 0, 255), ("i16", -(2**15), 2**15 - 1)]


def narrow_place(rng: random.Random, depth: int) -> str:
    if depth == 0:
        return rng.choice(["load a[n]", "load b[n]", "n", "i32(load a[n])", "i8(load b[n])", "u8(load a[n])"])
    left, number = narrow_place(rng, depth - 1), rng.choice([1, 2, 3, 7, 15, 16, 255])
    form = rng.choice(
        [
            "({}) + {}",
            "({}) - {}",
            "({}) % {}",
            "({}) // {}",
            "({}) & {}",
            "{1} & ({0})",
            "({}) * {}",
            "maximum({}, {})",
            "minimum({}, {})",
            "-({0})",
            "abs({0})",
            "where(n > 1, {}, {})",
            "i16({0})",
            "({0}) >> 2",
            "({0}) << 1",
        ]
    )
    return form.format(left, number)


def held(expr: ir.Expr, names: Mapping[str, int]) -> int:
    """What an expression comes to on a machine: a result wraps in its dtype, a number without one does not."""
    match expr:
        case ir.Load(param=param):
            return names[param]
        case ir.VarRef(name=name):
            return names[name]
        case ir.Cast(operand=operand):
            number = held(operand, names)
        case ir.Binary(op="and", left=left, right=right):
            return bool(held(left, names)) and bool(held(right, names))
        case ir.Unary(op="-", operand=operand):
            number = -held(operand, names)
        case ir.Unary(op="not", operand=operand):
            return not held(operand, names)
        case ir.Binary(op=op, left=left, right=right):
            number = int(eval(f"a {op} b", {"a": held(left, names), "b": held(right, names)}))
        case ir.Elementwise(function="clamp", arguments=(x, low, high)):
            number = min(max(held(x, names), held(low, names)), held(high, names))
        case ir.Elementwise(function="minimum" | "maximum" | "abs" | "where", arguments=arguments):
            inner = [
                ir.Constant(span=each.span, type=each.type, value=held(each, names)) for each in arguments
            ]
            number = value(replace(expr, arguments=tuple(inner)), names)
        case _:
            return value(expr, names)
    name = expr.type.dtype.concrete
    return wrapped(number, name) if name is not None and name != "bool" else number


def test_what_is_proven_of_narrow_integers_is_true() -> None:
    rng = random.Random(11)
    proven = 0
    for _ in range(CASES):
        (one, *range_a), (other, *range_b) = rng.choice(NARROW), rng.choice(NARROW)
        tests = " and ".join(rng.choice(NARROW_TESTS) for _ in range(rng.choice([1, 2, 2, 3])))
        place = rng.choice(NARROW_PLACES)
        source = f"""
template t(x: f32[S], a: {one}[N], b: {other}[N]) -> y: f32[N]
where S == {rng.choice([1, 10, 16, 128, 200, 256, 300])}:
    for n in grid(N):
        i = {narrow_place(rng, rng.choice([0, 1, 1, 2]))}
        j = i + {rng.choice([0, 1, -1, 100])} + load b[n]
        if {tests}:
            store y[n] = load x[{place}]
        else:
            store y[n] = j
"""
        if problems(source):
            continue
        proven += 1
        (kernel,) = check_text(Source("<test>", source))
        (branch,) = (node for node in ir.walk(kernel) if isinstance(node, ir.If))
        (load,) = (node for node in ir.walk(branch) if isinstance(node, ir.Load) and node.param == "x")
        assigned = {node.name: node.value for node in ir.walk(kernel) if isinstance(node, ir.Assign)}
        (guard,) = kernel.guards
        assert isinstance(guard, ir.Binary) and isinstance(guard.right, ir.Constant)
        size = int(guard.right.value)
        numbers = [
            [low, low + 1, -1, 0, 1, 7, 15, 16, 100, 127, 199, 255, high - 1, high]
            for low, high in (range_a, range_b)
        ]
        for a, b, n in itertools.product(*numbers, (0, 1, 5)):
            if range_a[0] <= a <= range_a[1] and range_b[0] <= b <= range_b[1]:
                names = {"a": a, "b": b, "n": n, "S": size}
                for name, expr in assigned.items():
                    names[name] = held(expr, names)
                condition, _ = branch.branches[0]
                if held(condition, names):
                    assert 0 <= held(load.subscripts[0].value, names) < size, f"{source}\n{names}"
    assert proven > CASES // 12


@pytest.mark.parametrize(
    "guard, lines, proven",
    [
        ("S > 0", "i = argmax(load x[k], k)\n        store y[n] = load x[i]", True),
        ("S > 0", "store y[n] = load x[argmin(load x[k], k)]", True),
        ("S >= 0", "i = argmax(load x[k], k)\n        store y[n] = load x[i]", False),
        ("S > 0", "i = argmax(load x[k], k)\n        store y[n] = load x[i + 1]", False),
        ("S > 0", "store y[n] = sum(take(load x[k], k, argsort(load x[k], k)), k)", True),
        ("S >= 3", "j = whole(3)\n        store y[n] = sum(load x[argtopk(load x[k], k, j)], j)", True),
        ("S >= 3", "j = whole(3)\n        store y[n] = sum(load x[argtopk(load x[k], k, j) + 1], j)", False),
    ],
)
def test_a_place_in_a_row_is_an_index_of_it(guard: str, lines: str, proven: bool) -> None:
    source = f"""
template t(x: f32[S]) -> y: f32[8]
where {guard}:
    for n in grid(8):
        k = whole(S)
        {lines}
"""
    assert problems(source) == (set() if proven else {Code.OUT_OF_BOUNDS})

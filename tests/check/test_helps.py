"""Foreign spellings: each row of `tdsl.foreign`, where an author would write it, gets its help, and one error."""

from __future__ import annotations

import re

import pytest

from tdsl import foreign
from tdsl.builtins import BUILTINS
from tdsl.diagnostics import TdslError
from tdsl.pipeline import check_text
from tdsl.source import Source

SIGNATURE = "(x: T[M, N], w: f32[N]) -> y: T[M, N]"


def text(line: str, signature: str = SIGNATURE, before: str = "") -> str:
    return (
        f"{before}template t{signature}:\n    for m in grid(M by 16):\n        n = whole(N)\n"
        f"        v = load x[m, n]\n        u = load w[n]\n        {line}\n        store y[m, n] = v + u\n"
    )


def helps(whole: str) -> list[str | None]:
    try:
        check_text(Source("<test>", whole))
    except TdslError as error:
        return [each.help for each in error.diagnostics]
    return []


METHODS = [name for name in foreign.METHODS if name not in ("T", "mT", "shape", "dtype")]
VALUES = [name for name in foreign.VALUES if name not in ("is", "as", "lambda", "yield", "await")]
# Words, each in a line of its own kind; all else of that kind is in one line for all.
SIGNS = {
    "&&": "a = M > 1 && N > 1",
    "||": "a = M > 1 || N > 1",
    "!": "a = !(M > 1)",
    "<>": "a = where(v <> 1, v, u)",
    "?": "a = M > 1 ? 2 : 3",
    "@": "a = v @ u",
    ";": "a = v; b = u",
    "{": "if M > 1 {",
    "}": "}",
    "\\": "a = v + \\",
    "//": "a = v // the sum of all",
    "..": "for k in 0..N: pass",
    ":": "a = load x[m, :]",
    "...": "a = load x[..., n]",
}
LINES = {
    **{name: f"{name} a = 3" for name in foreign.LINES},
    **{name: f"{name}(a)" for name in ("print", "static_assert", "assert")},
    **{name: name for name in ("break", "continue", "try", "class")},
    "while": "while M:",
    "del": "del v",
    "raise": "raise v",
    "import": "import torch",
    "from": "from torch import nn",
    "with": "with v:",
    "yield": "yield v",
    "async": "async def f(): return 1",
    **{name: f"{name} a comment" for name in ("//", "/", "--", "/*")},
}
WORDS = {
    "is": "if w is None: pass",
    "as": "a = v as f16",
    "lambda": "a = lambda t: t",
    "yield": "a = yield v",
    "await": "a = await v",
}
CASES = [
    *((f"a = zeros(m, dtype={name})", foreign.dtype(name)) for name in foreign.DTYPES),
    *((f"a = zeros(m, dtype=torch.{name})", foreign.dtype(name)) for name in foreign.DTYPES),
    *((f"a = zeros(m, dtype=tl.{name})", foreign.dtype(name)) for name in ("float16", "int32", "bfloat16")),
    *((f"a = {name}(v)", help) for name, help in foreign.FOREIGN_FUNCTIONS.items()),
    *((f"a = torch.{name}(v)", foreign.function(name)) for name in foreign.FOREIGN_FUNCTIONS),
    *((f"a = np.{name}(v)", f"write '{name}(...)'") for name in BUILTINS if name != "where"),
    ("for i in range(N): pass", foreign.FOREIGN_FUNCTIONS["range"]),
    ("for i in range(0, N, 16): pass", foreign.FOREIGN_FUNCTIONS["range"]),
    ("for i in tl.range(0, N, 16): pass", foreign.FOREIGN_FUNCTIONS["range"]),
    ("a = tl.arange(0, 16)", foreign.FOREIGN_FUNCTIONS["arange"]),
    ("a = tl.program_id(0)", foreign.FOREIGN_FUNCTIONS["program_id"]),
    *((f"a = v.{name}(n)", foreign.METHODS[name]) for name in METHODS),
    *((f"a = v.{name}", foreign.METHODS[name]) for name in ("T", "mT", "dtype", "shape")),
    ("a = v.sum()", "write 'sum(v, n)'"),
    ("a = v.exp()", "write 'exp(v)'"),
    ("a = v.relu()", "write 'maximum(x, 0)'"),
    ("a = (v + u).sum()", "write 'sum(x, n)'"),
    ("a = load x[m, n].to(f16)", foreign.METHODS["to"]),
    *((f"a = v * {name}", foreign.VALUES[name]) for name in VALUES),
    ("a = math.pi", foreign.VALUES["pi"]),
    ("a = math.inf", "write 'inf'"),
    *((line, foreign.VALUES[name]) for name, line in WORDS.items()),
    *((line, foreign.LINES[name]) for name, line in LINES.items()),
    *((line, foreign.SIGNS[name]) for name, line in SIGNS.items()),
    *((f"{name}(x[m, n])", foreign.STATEMENTS[name]) for name in ("store", "accumulate", "config")),
    ("a = load(x[m, n])", foreign.STATEMENTS["load"]),
    ("a = tl.load(x + n)", foreign.STATEMENTS["load"]),
    ("let a = 3", foreign.LET),
    ("tl.store(y + n, v)", foreign.STATEMENTS["store"]),
    ("tl.atomic_add(y + n, v)", foreign.STATEMENTS["accumulate"]),
    ("a = tl.atomic_add(y + n, v)", foreign.STATEMENTS["accumulate"]),
]


@pytest.mark.parametrize(("line", "help"), CASES, ids=[line for line, _ in CASES])
def test_a_line(line: str, help: str) -> None:
    found = [each for each in helps(text(line)) if each is not None]
    assert found[:1] == [help]


@pytest.mark.parametrize("name", [*foreign.DTYPES, *(f"torch.{name}" for name in foreign.DTYPES)])
def test_a_dtype_of_a_parameter(name: str) -> None:
    signature = SIGNATURE.replace("w: f32", f"w: {name}")
    assert helps(text("pass", signature)) == [foreign.dtype(name.removeprefix("torch."))]


@pytest.mark.parametrize("name", foreign.PARAMETERS)
def test_a_word_of_a_parameter(name: str) -> None:
    written = "B: tl.constexpr, w: f32" if name == "constexpr" else f"{name} w: f32"
    assert helps(text("pass", SIGNATURE.replace("w: f32", written))) == [foreign.PARAMETERS[name]]


def test_a_decorator_and_a_comment() -> None:
    assert helps(text("pass", before="@triton.jit\n")) == [
        "a template has no decorators; the Python function has"
    ]
    assert helps(text("pass", before="// a comment\n")) == ["a comment starts with '#'"]


def test_a_helper() -> None:
    assert helps(text("a = h(v)", before="def h(x): return relu(x)\n")) == ["write 'maximum(x, 0)'"]
    assert helps(text("a = h(v)", before="def h(x): return x * pi\n")) == ["write '3.141592653589793'"]


WRITTEN = [
    found
    for help in {**foreign.FOREIGN_FUNCTIONS, **foreign.METHODS, **foreign.VALUES}.values()
    for found in re.findall(r"write '([^']+)'", help)
    if found not in ("==",)
]


@pytest.mark.parametrize("value", sorted({*WRITTEN, *(f"{name}(x)" for name in foreign.DTYPES.values())}))
def test_what_a_help_says_is_right(value: str) -> None:
    """Every value that a help spells is one."""
    names = {"x": "v", "y": "u"}
    value = re.sub(r"\b[xy]\b", lambda found: names[found[0]], value)
    value = value.replace("load A[m, n]", "load x[m, n]").replace("load A[]", "load s[]")
    if value.startswith(("store", "accumulate", "dot")):
        return  # a point of the template's own, and a product of other tiles
    signature = "(x: f32[M, N], w: f32[N], s: f32[]) -> (y: f32[M, N], z: f32[M])"
    line = f"a = {value}\n        store z[m] = max(v * (load s[]), n)"
    assert not [each for each in helps(text(line, signature))]


def test_the_table_has_nothing_that_the_language_takes() -> None:
    assert not foreign.FOREIGN_FUNCTIONS.keys() & BUILTINS.keys()
    for name in foreign.VALUES:
        assert helps(text(f"a = v * {name}"))

"""What each construct parses to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tdsl import ast
from tdsl.diagnostics import TdslError
from tdsl.grammar import parse, parse_partly, read
from tdsl.source import Source

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/*.tdsl"))


def template(text: str) -> ast.Template:
    (found,) = parse(Source("<string>", text)).templates
    return found


def signature(text: str) -> ast.Template:
    return template(f"template f{text}:\n    pass\n")


def line(text: str) -> ast.Statement:
    (found,) = template(f"template f(x: f32[M]):\n    {text}\n").body
    return found


def expr(text: str) -> ast.Expr:
    found = line(f"v = {text}")
    assert isinstance(found, ast.Assign)
    return found.value


def spell(node: ast.Expr) -> str:
    """An expression with every pair of parentheses."""
    match node:
        case ast.Name(name=name):
            return name
        case ast.Literal(value=value):
            return repr(value)
        case ast.Unary(op=op, operand=operand):
            return f"({op} {spell(operand)})"
        case ast.Binary(op=op, left=left, right=right):
            return f"({spell(left)} {op} {spell(right)})"
        case ast.Membership(value=value, choices=choices):
            return f"({spell(value)} in {', '.join(map(spell, choices))})"
        case ast.Conditional(then=then, condition=condition, otherwise=otherwise):
            return f"({spell(then)} if {spell(condition)} else {spell(otherwise)})"
        case ast.Call(function=function, arguments=arguments, keywords=keywords):
            return f"{function.name}({passed(arguments, keywords)})"
        case ast.TritonCall(name=name, arguments=arguments, keywords=keywords):
            return f"tl.{name}({passed(arguments, keywords)})"
        case ast.TritonName(name=name):
            return f"tl.{name}"
        case ast.TileBound(tile=tile, bound=bound):
            return f"{tile.name}.{bound}"
        case ast.Load(tensor=tensor, subscripts=subscripts):
            text = f"load {tensor.name}[{', '.join(map(spell, subscripts))}]"
            text += f" else {spell(node.otherwise)}" if node.otherwise is not None else ""
            return f"({text}{' unchecked' * node.unchecked}{' fuse' * node.fuse}{' nofuse' * node.nofuse})"


def passed(arguments: tuple[ast.Expr, ...], keywords: tuple[ast.Keyword, ...]) -> str:
    named = [f"{keyword.name.name}={spell(keyword.value)}" for keyword in keywords]
    return ", ".join([*map(spell, arguments), *named])


def nodes(node: object) -> Iterator[ast.Node]:
    if isinstance(node, tuple):
        for each in node:
            yield from nodes(each)
    elif isinstance(node, ast.Node):
        yield node
        for field in fields(node):
            yield from nodes(getattr(node, field.name))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_parse_and_every_node_knows_its_text(path: Path) -> None:
    file = parse(read(path))
    names = [each.name.name for each in file.templates]
    assert names[0] == path.stem
    assert all(name.startswith(f"{path.stem}_backward") for name in names[1:])
    for node in nodes(file):
        text = node.span.text
        assert text
        if not isinstance(node, ast.File):
            assert text == text.strip()
        if isinstance(node, (ast.Ident, ast.Name)):
            assert text == node.name
        if isinstance(node, ast.Binary):
            assert node.op in text
    statements = [node.span.text for node in nodes(file) if isinstance(node, (ast.Store, ast.Assign))]
    assert all("\n" not in text for text in statements)


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("a + b * c", "(a + (b * c))"),
        ("(a + b) * c", "((a + b) * c)"),
        ("a - b - c", "((a - b) - c)"),
        ("-a ** b", "(- (a ** b))"),
        ("a ** -b ** c", "(a ** (- (b ** c)))"),
        ("a ** b ** c", "(a ** (b ** c))"),
        ("-a * b", "((- a) * b)"),
        ("~a & b | c ^ d", "(((~ a) & b) | (c ^ d))"),
        ("a << b + c >> d", "((a << (b + c)) >> d)"),
        ("a // b % c / d", "(((a // b) % c) / d)"),
        ("not a == b and c or d", "(((not (a == b)) and c) or d)"),
        ("a or b and not c", "(a or (b and (not c)))"),
        ("a & b == c", "((a & b) == c)"),
        ("a < b and b <= c", "((a < b) and (b <= c))"),
        ("- - a", "(- (- a))"),
        ("T in (f16, bf16) and a", "((T in f16, bf16) and a)"),
        ("not T in (f16,)", "(not (T in f16))"),
        ("a if b else c if d else e", "(a if b else (c if d else e))"),
        ("(a if b else c) + 1", "((a if b else c) + 1)"),
        ("a + 1 if b == c else d * 2", "((a + 1) if (b == c) else (d * 2))"),
        ("f(a, k=b + 1)", "f(a, k=(b + 1))"),
        ("f(a if b else c,)", "f((a if b else c))"),
        ("f()", "f()"),
        ("where(m >= n, s, -inf)", "where((m >= n), s, (- inf))"),
        ("tl.math.erf(x)", "tl.math.erf(x)"),
        ("tl.where(x, tl.load(p), 0)", "tl.where(x, tl.load(p), 0)"),
        ("tl.cast(x, tl.float32)", "tl.cast(x, tl.float32)"),
        ("minimum(N, m.stop) - m.start", "(minimum(N, m.stop) - m.start)"),
        ("load A[m, k]", "(load A[m, k])"),
        ("load A[m] else -inf", "(load A[m] else (- inf))"),
        ("load A[m] else 0 + 1", "((load A[m] else 0) + 1)"),
        ("load A[m] unchecked nofuse", "(load A[m] unchecked nofuse)"),
        ("load A[m] nofuse else 0", "(load A[m] else 0 nofuse)"),
        ("load A[m] fuse else 0", "(load A[m] else 0 fuse)"),
        ("load A[m] unchecked fuse", "(load A[m] unchecked fuse)"),
        ("-load A[m] * load B[m]", "((- (load A[m])) * (load B[m]))"),
        ("load t[load i[r], n] else 0", "(load t[(load i[r]), n] else 0)"),
        ("load A[m] else load B[m] else 0", "(load A[m] else (load B[m] else 0))"),
        ("(load A[m] if b else 0)", "((load A[m]) if b else 0)"),
        ("load A[]", "(load A[])"),
        ("12", "12"),
        ("1_000", "1000"),
        ("0x1F + 0b11", "(31 + 3)"),
        ("1e-6 + .5 + 2.", "((1e-06 + 0.5) + 2.0)"),
        ("true and false", "(True and False)"),
        (r"'a\'\n\\'", repr("a'\n\\")),
        ('"b"', repr("b")),
        ("by_ + group + start", "((by_ + group) + start)"),
    ],
)
def test_expressions(text: str, grouped: str) -> None:
    assert spell(expr(text)) == grouped


def test_parameters() -> None:
    found = signature(
        "(A: T[M, 2 * K], x: T[R..., N], b: f32[N]?, inout c: T[M], eps: float, n: int, k: const int = 3,)"
    )
    a, x, b, c, eps, n, k = found.params
    assert isinstance(a, ast.TensorParam) and isinstance(x, ast.TensorParam)
    assert isinstance(b, ast.TensorParam) and isinstance(c, ast.TensorParam)
    assert (a.name.name, a.optional, a.inout) == ("A", False, False)
    assert [spell(dim.value) for dim in a.dims if isinstance(dim, ast.ExprDim)] == ["M", "(2 * K)"]
    assert isinstance(x.dims[0], ast.RestDim) and x.dims[0].name.name == "R"
    assert (b.optional, b.inout, c.optional, c.inout) == (True, False, False, True)
    assert isinstance(eps, ast.ScalarParam) and eps.type.name == "float"
    assert isinstance(n, ast.ScalarParam) and n.type.name == "int"
    assert isinstance(k, ast.ConstParam) and k.type.name == "int"
    assert k.default is not None and spell(k.default) == "3"
    assert found.outputs == ()


def test_outputs() -> None:
    (y,) = signature("(x: T[M]) -> y: promote(T, f32)[M]").outputs
    assert isinstance(y.dtype, ast.DTypePromote) and y.dtype.span.text == "promote(T, f32)"
    pair = signature("(x: T[R..., N]) -> (y: T[R..., N], s: f32[R...], t: f32[])").outputs
    assert [each.name.name for each in pair] == ["y", "s", "t"]
    assert [len(each.dims) for each in pair] == [2, 1, 0]


@pytest.mark.parametrize(
    "text",
    [
        "template f(x: T[M]) -> y: T[M] where T in (f16, bf16), M % 8 == 0:\n    pass\n",
        "template f(x: T[M]) -> y: T[M]\nwhere T in (f16, bf16), M % 8 == 0:\n    pass\n",
        "template f(x: T[M]) -> y: T[M]  # why\n\n# more\n    where T in (f16, bf16), M % 8 == 0:\n    pass\n",
        "template f(x: T[M])\n    -> y: T[M]\n    where T in (f16, bf16),\n          M % 8 == 0:\n    pass\n",
        "template f(\n  x: T[M],  # an input\n) -> y: T[M]\nwhere T in (f16, bf16), M % 8 == 0: pass",
    ],
)
def test_a_header_may_span_lines(text: str) -> None:
    found = template(text)
    (y,) = found.outputs
    dtypes, divides = found.guards
    assert y.name.name == "y"
    assert isinstance(dtypes, ast.DTypeGuard) and dtypes.variable.name == "T"
    assert [choice.name for choice in dtypes.choices] == ["f16", "bf16"]
    assert isinstance(divides, ast.ExprGuard) and spell(divides.value) == "((M % 8) == 0)"


def test_a_membership_of_numbers_is_no_dtype_guard() -> None:
    (guard,) = signature("(x: T[M]) where D in (64, 128)").guards
    assert isinstance(guard, ast.ExprGuard) and spell(guard.value) == "(D in 64, 128)"


def test_declarations() -> None:
    found = template(
        "template f(x: f32[M]):\n"
        '    "What it does."\n'
        "    let B = next_pow2(M)\n"
        "    config A=1, C=2 * B,\n"
        "           num_warps=4 if M > 64\n"
        "    config A=2\n"
        "    tune A in (1, 2), num_warps in (3,) if M > 64\n"
        "    pass\n"
    )
    let, config, bare, tune = found.declarations
    assert found.doc == "What it does."
    assert isinstance(let, ast.Let) and spell(let.value) == "next_pow2(M)"
    assert isinstance(config, ast.Config) and isinstance(bare, ast.Config) and isinstance(tune, ast.Tune)
    assert [(item.name.name, [spell(each) for each in item.values]) for item in config.items] == [
        ("A", ["1"]),
        ("C", ["(2 * B)"]),
        ("num_warps", ["4"]),
    ]
    assert config.condition is not None and spell(config.condition) == "(M > 64)"
    assert bare.condition is None
    assert [(item.name.name, [spell(each) for each in item.values]) for item in tune.items] == [
        ("A", ["1", "2"]),
        ("num_warps", ["3"]),
    ]
    assert tune.condition is not None


def test_a_description_may_span_lines() -> None:
    found = template('template f(x: f32[M]):\n    """One.\n\n      Two.\n    Three.\n    """\n    pass\n')
    assert found.doc == "One.\n\n  Two.\nThree."


def test_grid() -> None:
    found = line("for b, m, n in grid(B, M by BLOCK, N by 2 * BLOCK, group=8): pass")
    assert isinstance(found, ast.Grid)
    assert [target.name for target in found.targets] == ["b", "m", "n"]
    assert [spell(axis.size) for axis in found.axes] == ["B", "M", "N"]
    assert [axis.block and spell(axis.block) for axis in found.axes] == [None, "BLOCK", "(2 * BLOCK)"]
    assert found.group is not None and spell(found.group) == "8"
    assert found.body == (ast.Pass(span=found.span),)


@pytest.mark.parametrize(
    ("text", "start", "stop", "block"),
    [
        ("k in K by BLOCK", None, "K", "BLOCK"),
        ("c in C", None, "C", None),
        ("n in 0 to m.stop by BLOCK", "0", "m.stop", "BLOCK"),
        ("n in 0 to (a if b else N) by 2 * B", "0", "(a if b else N)", "(2 * B)"),
    ],
)
def test_loops(text: str, start: str | None, stop: str, block: str | None) -> None:
    found = line(f"for {text}:\n        pass")
    assert isinstance(found, ast.For)
    assert (found.start and spell(found.start), spell(found.stop)) == (start, stop)
    assert (found.block and spell(found.block)) == block


def test_branches() -> None:
    found = line(
        "if a:\n        x = 1\n        y = 2\n    elif b: pass\n    elif c:\n        pass\n    else:\n        z = 3"
    )
    assert isinstance(found, ast.If)
    assert [spell(branch.condition) for branch in found.branches] == ["a", "b", "c"]
    assert [len(branch.body) for branch in found.branches] == [2, 1, 1]
    assert len(found.orelse) == 1


def test_statements() -> None:
    assign = line("y: f32[m, n] = tl.foo(x)")
    assert isinstance(assign, ast.Assign) and assign.annotation is not None
    assert assign.annotation.span.text == "f32[m, n]"
    assert [tile.name for tile in assign.annotation.tiles] == ["m", "n"]
    scalar = line("y: f32 = tl.foo(x)")
    assert isinstance(scalar, ast.Assign) and scalar.annotation is not None
    assert scalar.annotation.tiles == ()
    for op in ("+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", ">>"):
        changed = line(f"y {op}= 2")
        assert isinstance(changed, ast.AugAssign) and changed.op == op
    store = line("store C[m, k // 2] = a + b nofuse")
    assert isinstance(store, ast.Store) and store.nofuse and spell(store.value) == "(a + b)"
    assert [spell(each) for each in store.subscripts] == ["m", "(k // 2)"]
    store = line("store C[] = load A[] nofuse")
    assert isinstance(store, ast.Store) and not store.nofuse and isinstance(store.value, ast.Load)
    added = line("accumulate dw[n] += a")
    assert isinstance(added, ast.Accumulate) and added.tensor.name == "dw"


@pytest.mark.parametrize(
    "text", ["def silu(x): return x * sigmoid(x)\n", "def silu(x,):\n    s = sigmoid(x)\n    return x * s\n"]
)
def test_helpers(text: str) -> None:
    (helper,) = parse(Source("<string>", text)).helpers
    assert (helper.name.name, [param.name for param in helper.params]) == ("silu", ["x"])
    assert isinstance(helper.result, ast.Binary) and len(helper.body) == text.count("s = ")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends(end: str, last: bool) -> None:
    lines = ["\ufeff# a comment", "template f(x: f32[M]):", "    pass  # more", "", "   ", "\t# tabs"]
    text = end.join(lines) + end * last
    assert parse(Source("<string>", text)) == parse(Source("<string>", "template f(x: f32[M]):\n pass"))


def test_a_file_may_indent_with_tabs() -> None:
    text = "template f(x: f32[M]):\n\tif a:\n\t\tpass\n\telse:\n\t\tpass\n\tpass\n"
    assert parse(Source("<string>", text)) == parse(Source("<string>", text.replace("\t", "  ")))


@pytest.mark.parametrize("text", ["", "\n", "# nothing", "   ", "   \n\t\n\t"])
def test_an_empty_file_has_nothing(text: str) -> None:
    file = parse(Source("<string>", text))
    assert (file.templates, file.helpers) == ((), ())


def test_names_that_are_words_elsewhere() -> None:
    found = signature(
        "(group: int, start: int, stop: float, step: T[M], range: T[M], match: T[M], self: T[M])"
    )
    assert len(found.params) == 7


def test_a_mistake_in_one_template_leaves_the_others() -> None:
    text = "template f(x: f32[M]):\n    x = = 1\n\ndef g(x): return x\n\ntemplate h(x: f32[M]):\n    pass\n"
    file, diagnostics = parse_partly(Source("<string>", text))
    assert [each.name.name for each in file.templates] == ["h"]
    assert [each.name.name for each in file.helpers] == ["g"]
    assert len(diagnostics) == 1
    with pytest.raises(TdslError) as caught:
        parse(Source("<string>", text))
    assert len(caught.value.diagnostics) == 1


@pytest.mark.parametrize(
    "text",
    [
        "h // (H // G)",
        "(a + b) * c",
        "((a) + (b))",
        "-(a + b)",
        "not (a == b)",
        "(a) in (1, 2)",
        "(a) if (b) else (c)",
        "(a ** (b)) // (-(c))",
        "a - (b - (c - d))",
        "where((a) == (b), (c), d) * (e)",
    ],
)
def test_the_text_of_a_part_has_all_of_its_brackets(text: str) -> None:
    (found,) = (node for node in nodes(line(f"v = {text}")) if isinstance(node, ast.Assign))
    for node in nodes(found.value):
        assert node.span.text.count("(") == node.span.text.count(")"), node.span.text
    assert found.value.span.text in (text, text[1:-1])
    again = line(f"v = {found.value.span.text}")
    assert isinstance(again, ast.Assign)
    assert spell(again.value) == spell(found.value)


@pytest.mark.parametrize(
    ("text", "skip", "unchecked"),
    [("", False, False), (" else skip", True, False), (" unchecked", False, True)],
)
def test_what_an_addition_does_outside(text: str, skip: bool, unchecked: bool) -> None:
    added = line(f"accumulate dw[n]{text} += load x[n] else 0")
    assert isinstance(added, ast.Accumulate)
    assert (added.skip, added.unchecked) == (skip, unchecked)
    assert spell(added.value) == "(load x[n] else 0)"

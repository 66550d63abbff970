"""Lark's tree to the AST: operators grouped, every line in its place, names that can be bound.

    augassign(NAME acc, AUGMENTED +=,               AugAssign(target=acc, op='+',
      operation(NAME a, SIGN +, NAME b,      ->       value=Binary('+', a, Binary('*', b, c)))
                OPERATOR *, NAME c))

What names mean, and whether values fit, is left to the checker.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

from lark import Token, Tree

from tdsl import ast, foreign
from tdsl.builtins import BUILTINS
from tdsl.diagnostics import Code, Diagnostic, Label
from tdsl.grammar.reserved import RESERVED
from tdsl.options import OPTIONS
from tdsl.source import Source, Span
from tdsl.types import DTYPES

MAX_DEPTH = 100  # operators and brackets inside one another; the passes recurse over expressions

# How tightly each operator binds, loosest first, as in Python.
_PRECEDENCE = {
    "or": 1,
    "and": 2,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 4),
    "|": 5,
    "^": 6,
    "&": 7,
    **dict.fromkeys(("<<", ">>"), 8),
    **dict.fromkeys(("+", "-"), 9),
    **dict.fromkeys(("*", "/", "//", "%"), 10),
    "**": 12,
}
_NOT = 3
_COMPARISON = 4
_SIGN = 11

_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "t": "\t", "\n": ""}

_DECLARATIONS = ("let", "config", "tune")

_Item = Token | Tree[Token]


def build(tree: Tree[Token], source: Source) -> tuple[ast.File, list[Diagnostic]]:
    """The file that `tree` spells. With mistakes, what they are in is left out or has stand-ins."""
    builder = _Builder(source)
    return builder.file(tree), builder.diagnostics


class _TooDeep(Exception):
    pass


class _Builder:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.diagnostics: list[Diagnostic] = []
        self.depth = 0
        self.is_lost = False

    # Places

    def span(self, item: _Item) -> Span:
        if isinstance(item, Token):
            assert item.start_pos is not None and item.end_pos is not None
            return Span(self.source, item.start_pos, item.end_pos)
        return Span(self.source, item.meta.start_pos, item.meta.end_pos)

    def report(self, code: Code, message: str, span: Span, help: str | None = None, *labels: Label) -> None:
        self.diagnostics.append(Diagnostic(code=code, message=message, span=span, help=help, labels=labels))

    def name(self, item: _Item) -> ast.Ident:
        assert isinstance(item, Token)
        return ast.Ident(span=self.span(item), name=str(item))

    def binding(self, item: _Item, *, called: bool = False) -> ast.Ident:
        """A name that the author gives to something. What is `called` as functions are cannot have the name of a
        built-in one; a value may, as only a call means the function."""
        ident = self.name(item)
        if ident.name in RESERVED and (called or ident.name not in BUILTINS):
            message = f"'{ident.name}' is {RESERVED[ident.name]} and cannot be given to something else"
            self.report(
                Code.RESERVED_NAME, message, ident.span, f"choose another name, such as '{ident.name}_'"
            )
        return ident

    # Lines and where they belong

    def file(self, tree: Tree[Token]) -> ast.File:
        templates: list[ast.Template] = []
        helpers: list[ast.Helper] = []
        is_lost = False  # of lines that stand outside of a template, the first is reported
        for line in _trees(tree.children):
            match line.data:
                case "template":
                    templates.append(self.template(line))
                    is_lost = False
                case "helper":
                    helpers.append(self.helper(line))
                    is_lost = False
                case "broken":
                    self.broken(line)
                    is_lost = True
                case _:
                    if not is_lost:
                        first = self.first_word(line)
                        message = f"'{first.text}' stands outside of a template"
                        help = "a file holds templates and helpers: 'template NAME(...)' and 'def NAME(...)'"
                        self.report(Code.SYNTAX, message, first, help)
                    self.lost([line])
                    is_lost = True
        span = Span(self.source, 0, len(self.source.text))
        return ast.File(span=span, templates=tuple(templates), helpers=tuple(helpers))

    def first_word(self, line: Tree[Token]) -> Span:
        text = self.source.text
        start = end = line.meta.start_pos
        while end < len(text) and (text[end].isalnum() or text[end] == "_"):
            end += 1
        return Span(self.source, start, max(end, start + 1))

    def broken(self, tree: Tree[Token]) -> None:
        """Mistakes in the lines under a broken one."""
        self.lost(_lines(tree))

    def lost(self, lines: Sequence[Tree[Token]]) -> None:
        """Mistakes in lines that stand where nothing says what belongs there."""
        before, self.is_lost = self.is_lost, True
        self.statements(lines)
        self.is_lost = before

    def template(self, tree: Tree[Token]) -> ast.Template:
        name, params, outputs, guards, block = tree.children
        assert isinstance(params, Tree) and isinstance(outputs, Tree) and isinstance(guards, Tree)
        ident = self.binding(name, called=True)
        made_params = tuple(self.param(param) for param in _trees(params.children))
        made_outputs = tuple(self.output(output) for output in _trees(outputs.children))
        made_guards = tuple(self.guard(guard) for guard in guards.children)
        doc: str | None = None
        declarations: list[ast.Declaration] = []
        body: list[Tree[Token]] = []
        for at, line in enumerate(_lines(block)):
            if line.data == "doc" and at == 0:
                token = line.children[0]
                assert isinstance(token, Token)
                doc = inspect.cleandoc(self.string(token))
            elif line.data == "broken":
                self.broken(line)
            elif line.data in _DECLARATIONS and not body:
                declarations.append(self.declaration(line))
            else:
                body.append(line)
        return ast.Template(
            span=self.span(tree),
            name=ident,
            params=made_params,
            outputs=made_outputs,
            guards=made_guards,
            doc=doc,
            declarations=tuple(declarations),
            body=self.statements(body),
        )

    def helper(self, tree: Tree[Token]) -> ast.Helper:
        name, names, block = tree.children
        assert isinstance(names, Tree)
        ident = self.binding(name, called=True)
        params = tuple(self.binding(param, called=True) for param in names.children)  # a dtype is called
        body: list[ast.Statement] = []
        result: ast.Expr | None = None
        is_known = True  # whether all of the lines were understood
        for at, line in enumerate(_lines(block)):
            if result is not None:
                self.report(Code.SYNTAX, "nothing can follow the 'return' of a helper", self.first_word(line))
                break
            match line.data:
                case "return":
                    result = self.expr(line.children[0])
                case "assign" | "augassign":
                    body.extend(self.statements([line]))
                case "doc" if at == 0:
                    pass
                case "broken":
                    self.broken(line)
                    is_known = False
                case _:
                    first = self.first_word(line)
                    message = f"'{first.text}' cannot stand in a helper"
                    help = "a helper holds assignments, and 'return VALUE' at its end"
                    self.report(Code.SYNTAX, message, first, help)
                    is_known = False
        if result is None:
            if is_known:
                message = f"the helper '{ident.name}' returns nothing"
                self.report(Code.SYNTAX, message, ident.span, "end it with 'return VALUE'")
            result = ast.Name(span=ident.span, name=ident.name)
        return ast.Helper(span=self.span(tree), name=ident, params=params, body=tuple(body), result=result)

    def statements(self, lines: Sequence[Tree[Token]]) -> tuple[ast.Statement, ...]:
        made: list[ast.Statement] = []
        for line in lines:
            match line.data:
                case "broken":
                    self.broken(line)
                case "let" | "config" | "tune":
                    message = "must come before the first statement of its template"
                    self.misplaced(line, message, foreign.LET if line.data == "let" else None)
                    self.declaration(line)
                case "doc":
                    if not self.is_lost:
                        message = "a string on its own does nothing"
                        help = "a template's description is the first line of its block; a comment starts with '#'"
                        self.report(Code.SYNTAX, message, self.span(line), help)
                case "return":
                    self.misplaced(line, "belongs to helpers", "a template hands out values with 'store'")
                    self.expr(line.children[0])
                case "template":
                    self.misplaced(
                        line, "cannot stand inside another block", "move it to the start of a line"
                    )
                    self.template(line)
                case "helper":
                    self.misplaced(
                        line, "cannot stand inside another block", "move it to the start of a line"
                    )
                    self.helper(line)
                case _:
                    made.append(self.statement(line))
        return tuple(made)

    def misplaced(self, line: Tree[Token], message: str, help: str | None = None) -> None:
        if not self.is_lost:
            first = self.first_word(line)
            self.report(Code.SYNTAX, f"'{first.text}' {message}", first, help)

    def block(self, item: _Item) -> tuple[ast.Statement, ...]:
        return self.statements(_lines(item))

    # Signature

    def param(self, tree: Tree[Token]) -> ast.Param:
        span = self.span(tree)
        match tree.data:
            case "tensor_param":
                inout, name, dtype, dims, optional = tree.children
                return ast.TensorParam(
                    span=span,
                    name=self.binding(name),
                    dtype=self.dtype(dtype),
                    dims=self.dims(dims),
                    optional=optional is not None,
                    inout=inout is not None,
                )
            case "scalar_param":
                name, type = tree.children
                return ast.ScalarParam(span=span, name=self.binding(name), type=self.name(type))
            case "const_param":
                name, type, default = tree.children
                value = None if default is None else self.expr(default)
                ident = self.binding(name, called=type == "dtype")
                return ast.ConstParam(span=span, name=ident, type=self.name(type), default=value)
            case data:
                raise AssertionError(f"no parameter is spelled {data}")

    def output(self, tree: Tree[Token]) -> ast.Output:
        name, dtype, dims = tree.children
        return ast.Output(
            span=self.span(tree), name=self.binding(name), dtype=self.dtype(dtype), dims=self.dims(dims)
        )

    def dtype(self, item: _Item) -> ast.DTypeExpr:
        assert isinstance(item, Tree)
        function, *operands = item.children
        assert isinstance(function, Token)
        if not operands:
            if function in RESERVED and function not in DTYPES:
                message = f"'{function}' is {RESERVED[function]}, not a dtype"
                self.report(Code.UNKNOWN_DTYPE, message, self.span(item), foreign.dtype(function))
            return ast.DTypeName(span=self.span(item), name=str(function))
        if function != "promote":
            message = f"'{function}(...)' is no dtype"
            self.report(Code.UNKNOWN_DTYPE, message, self.span(item), "only 'promote(T, U)' combines dtypes")
        return ast.DTypePromote(span=self.span(item), operands=tuple(self.dtype(each) for each in operands))

    def dims(self, item: _Item) -> tuple[ast.Dim, ...]:
        assert isinstance(item, Tree)
        made: list[ast.Dim] = []
        for dim in item.children:
            if isinstance(dim, Tree) and dim.data == "rest_dim":
                made.append(ast.RestDim(span=self.span(dim), name=self.binding(dim.children[0])))
            else:
                value = self.expr(dim)
                if isinstance(dim, Token) and dim.type == "NAME":
                    self.binding(dim)
                made.append(ast.ExprDim(span=value.span, value=value))
        return tuple(made)

    def guard(self, item: _Item) -> ast.Guard:
        value = self.expr(item)
        if isinstance(value, ast.Membership) and isinstance(value.value, ast.Name):
            names = [choice for choice in value.choices if isinstance(choice, ast.Name)]
            if len(names) == len(value.choices):
                return ast.DTypeGuard(
                    span=value.span,
                    variable=ast.Ident(span=value.value.span, name=value.value.name),
                    choices=tuple(ast.DTypeName(span=name.span, name=name.name) for name in names),
                )
        return ast.ExprGuard(span=value.span, value=value)

    # Declarations

    def declaration(self, tree: Tree[Token]) -> ast.Declaration:
        span = self.span(tree)
        match tree.data:
            case "let":
                name, value = tree.children
                return ast.Let(span=span, name=self.binding(name), value=self.expr(value))
            case "config":
                *items, condition = tree.children
                return ast.Config(span=span, items=self.config_items(items), condition=self.maybe(condition))
            case "tune":
                *items, condition = tree.children
                return ast.Tune(span=span, items=self.config_items(items), condition=self.maybe(condition))
            case data:
                raise AssertionError(f"no declaration is spelled {data}")

    def config_items(self, items: Sequence[_Item]) -> tuple[ast.ConfigItem, ...]:
        made: list[ast.ConfigItem] = []
        for item in _trees(items):
            name, value = item.children
            if isinstance(value, Tree) and value.data == "choices":
                values = tuple(self.expr(choice) for choice in value.children)
            else:
                values = (self.expr(value),)
            ident = self.name(name) if name in OPTIONS else self.binding(name)
            made.append(ast.ConfigItem(span=self.span(item), name=ident, values=values))
        return tuple(made)

    # Statements

    def statement(self, tree: Tree[Token]) -> ast.Statement:
        span = self.span(tree)
        match tree.data:
            case "grid":
                return self.grid(tree)
            case "for":
                target, first, second, block, body = tree.children
                return ast.For(
                    span=span,
                    target=self.binding(target),
                    start=None if second is None else self.expr(first),
                    stop=self.expr(first if second is None else second),
                    block=self.maybe(block),
                    body=self.block(body),
                )
            case "if":
                return self.conditional(tree)
            case "assign":
                target, annotation, value = tree.children
                return ast.Assign(
                    span=span,
                    target=self.binding(target),
                    annotation=None if annotation is None else self.tile_type(annotation),
                    value=self.expr(value),
                )
            case "augassign":
                target, op, value = tree.children
                return ast.AugAssign(
                    span=span, target=self.binding(target), op=str(op)[:-1], value=self.expr(value)
                )
            case "store":
                tensor, subscripts, value, nofuse = tree.children
                return ast.Store(
                    span=span,
                    tensor=self.name(tensor),
                    subscripts=self.subscripts(subscripts),
                    value=self.expr(value),
                    nofuse=nofuse is not None,
                )
            case "accumulate":
                tensor, subscripts, outside, op, value = tree.children
                option = None if outside is None else self.outside(outside)
                if op != "+=":
                    message = f"'accumulate' only adds: it has no '{op}'"
                    self.report(Code.BAD_POINT, message, self.span(op), "write '+='")
                return ast.Accumulate(
                    span=span,
                    tensor=self.name(tensor),
                    subscripts=self.subscripts(subscripts),
                    value=self.expr(value),
                    skip=option == "skip",
                    unchecked=option == "unchecked",
                )
            case "pass":
                return ast.Pass(span=span)
            case data:
                raise AssertionError(f"no statement is spelled {data}")

    def outside(self, item: _Item) -> str:
        """What an addition does outside of its tensor: `skip` or `unchecked`."""
        assert isinstance(item, Tree)
        (word,) = item.children
        assert isinstance(word, Token)
        if word not in ("skip", "unchecked"):
            message = f"what is outside has no '{word}'"
            self.report(Code.BAD_POINT, message, self.span(word), "write 'else skip' to add nothing there")
        return str(word)

    def grid(self, tree: Tree[Token]) -> ast.Grid:
        targets: list[ast.Ident] = []
        axes: list[ast.GridAxis] = []
        group: ast.Expr | None = None
        *items, body = tree.children
        for item in items:
            if isinstance(item, Token):
                targets.append(self.binding(item))
            elif item.data == "axis":
                size, block = item.children
                made = self.expr(size)
                axes.append(ast.GridAxis(span=self.span(item), size=made, block=self.maybe(block)))
                if group is not None:
                    self.report(Code.BAD_GRID, "a dimension cannot follow 'group='", self.span(item))
            else:
                name, value = item.children
                if name != "group" or group is not None:
                    message = (
                        "'grid' has one 'group='" if name == "group" else f"'grid' has no option '{name}'"
                    )
                    self.report(Code.BAD_GRID, message, self.span(name), "its only option is 'group='")
                group = self.expr(value)
        return ast.Grid(
            span=self.span(tree), targets=tuple(targets), axes=tuple(axes), group=group, body=self.block(body)
        )

    def conditional(self, tree: Tree[Token]) -> ast.If:
        condition, block, *more = tree.children
        branches = [
            ast.IfBranch(span=self.span(tree), condition=self.expr(condition), body=self.block(block))
        ]
        orelse: tuple[ast.Statement, ...] = ()
        for part in _trees(more):
            if part.data == "elif":
                condition, block = part.children
                branch = ast.IfBranch(
                    span=self.span(part), condition=self.expr(condition), body=self.block(block)
                )
                branches.append(branch)
            else:
                orelse = self.block(part.children[0])
        return ast.If(span=self.span(tree), branches=tuple(branches), orelse=orelse)

    def tile_type(self, item: _Item) -> ast.TileType:
        assert isinstance(item, Tree)
        dtype, *tiles = item.children
        names = [self.name(tile) for part in _trees(tiles) for tile in part.children]
        return ast.TileType(span=self.span(item), dtype=self.dtype(dtype), tiles=tuple(names))

    def subscripts(self, item: _Item) -> tuple[ast.Expr, ...]:
        assert isinstance(item, Tree)
        return tuple(self.expr(each) for each in item.children)

    # Expressions

    def maybe(self, item: _Item | None) -> ast.Expr | None:
        return None if item is None else self.expr(item)

    def expr(self, item: _Item) -> ast.Expr:
        """An expression that is no part of another one, or a part one bracket deeper."""
        outermost = self.depth == 0
        try:
            made = self.part(item)
            if outermost and made.span.end - made.span.start > MAX_DEPTH and _height(made) > MAX_DEPTH:
                raise _TooDeep
            return made
        except _TooDeep:
            if not outermost:
                raise
            self.depth = 0
            span = self.span(item)
            message = f"operators and brackets may nest {MAX_DEPTH} levels deep"
            self.report(Code.TOO_DEEP, message, span, "give parts of it names of their own")
            return ast.Name(span=span, name="_")

    def part(self, item: _Item) -> ast.Expr:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooDeep
        made = self.operand(item)
        self.depth -= 1
        return made

    def operand(self, item: _Item) -> ast.Expr:
        span = self.span(item)
        if isinstance(item, Token):
            match item.type:
                case "NAME":
                    return ast.Name(span=span, name=str(item))
                case "NUMBER":
                    return ast.Literal(span=span, value=_number(item))
                case "TRUE" | "FALSE":
                    return ast.Literal(span=span, value=item == "true")
                case "STRING":
                    return ast.Literal(span=span, value=self.string(item))
                case type:
                    raise AssertionError(f"no operand is spelled {type}")
        match item.data:
            case "operation":
                made, end = self.climb(item.children, 0, 0)
                assert end == len(item.children)
                return made
            case "group":
                return self.part(item.children[0])
            case "conditional":
                *pairs, last = item.children
                made = self.part(last)
                for at in range(len(pairs) - 2, -1, -2):
                    then, condition = self.part(pairs[at]), self.part(pairs[at + 1])
                    place = Span(self.source, self.span(pairs[at]).start, span.end)
                    made = ast.Conditional(span=place, then=then, condition=condition, otherwise=made)
                return made
            case "call":
                return self.call(item, span)
            case "dotted":
                return self.dotted(item, span)
            case "load":
                return self.load(item, span)
            case data:
                raise AssertionError(f"no operand is spelled {data}")

    def climb(self, items: Sequence[_Item], at: int, loosest: int) -> tuple[ast.Expr, int]:
        """The operation that starts at `items[at]` with operators that bind at least as tightly as `loosest`,
        and where it ends."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooDeep
        first = items[at]
        start = self.span(first).start  # of what is in brackets, theirs
        left: ast.Expr
        if isinstance(first, Token) and first.type in ("SIGN", "INVERT", "NOT"):
            if first.type == "NOT" and loosest > _NOT:
                message = "'not' cannot stand right after an operator that binds more tightly"
                self.report(Code.SYNTAX, message, self.span(first), "put 'not ...' in parentheses")
            operand, at = self.climb(items, at + 1, _NOT if first.type == "NOT" else _SIGN)
            span = Span(self.source, start, self.span(items[at - 1]).end)
            left = ast.Unary(span=span, op=str(first), operand=operand)
        else:
            left, at = self.operand(first), at + 1
        compared: ast.Expr | None = None
        while at < len(items):
            sign = items[at]
            assert isinstance(sign, Token)
            tightness = _PRECEDENCE[str(sign)]
            if tightness < loosest:
                break
            if tightness == _COMPARISON and compared is not None:
                both = f"{left.span.text} and {compared.span.text} {sign} ..."
                match left:
                    case ast.Binary(
                        left=a, op=test, right=ast.Binary(op="&" | "|" | "^" as bits, left=b, right=c)
                    ):
                        both = f"({a.span.text} {test} {b.span.text}) {bits} ({c.span.text} {sign} ...)"
                help = f"write '{both}'" if len(both) < 60 and "\n" not in both else "join two with 'and'"
                self.report(Code.SYNTAX, "comparisons do not chain", self.span(sign), help)
            if sign == "in":
                choices = items[at + 1]
                assert isinstance(choices, Tree)
                made = tuple(self.part(choice) for choice in choices.children)
                span = Span(self.source, start, self.span(choices).end)
                left = ast.Membership(span=span, value=left, choices=made)
                at += 2
            else:
                # '**' groups from the right, and takes a sign there: 2 ** -x ** y.
                right, at = self.climb(items, at + 1, _SIGN if sign == "**" else tightness + 1)
                span = Span(self.source, start, self.span(items[at - 1]).end)
                left = ast.Binary(span=span, op=str(sign), left=left, right=right)
                if tightness == _COMPARISON:
                    compared = right
        self.depth -= 1
        return left, at

    def call(self, tree: Tree[Token], span: Span) -> ast.Expr:
        function, *items = tree.children
        arguments: list[ast.Expr] = []
        keywords: list[ast.Keyword] = []
        for item in items:
            if isinstance(item, Tree) and item.data == "keyword":
                name, value = item.children
                made = self.part(value)
                keywords.append(ast.Keyword(span=self.span(item), name=self.name(name), value=made))
            else:
                arguments.append(self.part(item))
                if keywords:
                    message = "an argument without a name cannot follow one with a name"
                    self.report(Code.SYNTAX, message, self.span(item))
        if isinstance(function, Token):
            return ast.Call(
                span=span,
                function=self.name(function),
                arguments=tuple(arguments),
                keywords=tuple(keywords),
            )
        parts = [str(part) for part in function.children]
        if parts[0] != "tl":
            dotted = ".".join(parts)
            message = f"'{dotted}' cannot be called"
            self.report(
                Code.SYNTAX,
                message,
                self.span(function),
                foreign.dotted(parts, called=True) or "only 'tl.NAME(...)' and functions without a dot can",
            )
        return ast.TritonCall(
            span=span, name=".".join(parts[1:]), arguments=tuple(arguments), keywords=tuple(keywords)
        )

    def dotted(self, tree: Tree[Token], span: Span) -> ast.Expr:
        first, *rest = tree.children
        if first == "tl":
            return ast.TritonName(span=span, name=".".join(str(part) for part in rest))
        bound = str(rest[0])
        if len(rest) > 1 or bound not in ("start", "stop"):
            name = ".".join(str(part) for part in rest)
            message = (
                f"there is no '{first}.{name}'" if first in foreign.MODULES else f"a tile has no '{name}'"
            )
            help = foreign.dotted([str(part) for part in tree.children], called=False)
            help = help or f"a tile has '{first}.start' and '{first}.stop'"
            self.report(Code.BAD_TILE, message, self.span(rest[0]), help)
        return ast.TileBound(span=span, tile=self.name(first), bound=bound)

    def load(self, tree: Tree[Token], span: Span) -> ast.Expr:
        tensor, subscripts, *options = tree.children
        assert isinstance(subscripts, Tree)
        made = tuple(self.part(each) for each in subscripts.children)
        otherwise: ast.Expr | None = None
        seen: dict[str, _Item] = {}
        for option in options:
            word = "else" if isinstance(option, Tree) else str(option)
            if word in seen:
                self.report(Code.BAD_POINT, f"a load has one '{word}'", self.span(option))
            elif word in ("else", "unchecked") and seen.keys() & {"else", "unchecked"}:
                message = "a load has 'else VALUE' or 'unchecked', not both"
                self.report(Code.BAD_POINT, message, self.span(option))
            elif word in ("fuse", "nofuse") and seen.keys() & {"fuse", "nofuse"}:
                message = "a load has 'fuse' or 'nofuse', not both"
                help = "leave both out, and what fusing costs decides"
                self.report(Code.BAD_POINT, message, self.span(option), help)
            seen[word] = option
            if isinstance(option, Tree):
                otherwise, end = self.climb(option.children, 0, _SIGN)
                assert end == len(option.children)
        return ast.Load(
            span=span,
            tensor=self.name(tensor),
            subscripts=made,
            otherwise=otherwise,
            unchecked="unchecked" in seen,
            fuse="fuse" in seen,
            nofuse="nofuse" in seen,
        )

    def string(self, token: Token) -> str:
        quotes = 3 if token[:3] in ('"""', "'''") else 1
        text = token[quotes:-quotes]
        if "\\" not in text:
            return str(text)
        made: list[str] = []
        chars = enumerate(text)
        for at, char in chars:
            if char == "\\":
                _, escaped = next(chars)
                if escaped not in _ESCAPES:
                    start = self.span(token).start + quotes + at
                    message = f"a string has no '\\{escaped}'"
                    help = "write '\\\\' for a backslash"
                    self.report(Code.BAD_CHARACTER, message, Span(self.source, start, start + 2), help)
                made.append(_ESCAPES.get(escaped, escaped))
            else:
                made.append(char)
        return "".join(made)


def _trees(items: Sequence[_Item | None]) -> Iterator[Tree[Token]]:
    return (item for item in items if isinstance(item, Tree))


def _lines(block: _Item) -> list[Tree[Token]]:
    assert isinstance(block, Tree)
    return list(_trees(block.children))


def _number(token: Token) -> int | float:
    text = str(token)
    if text[:2] in ("0x", "0X", "0b", "0B") or not any(char in text for char in ".eE"):
        return int(text.replace("_", ""), 0) if len(text) <= 80 else 0  # a longer one was reported
    return float(text)


def _height(expr: ast.Expr) -> int:
    """The nodes on the longest way down; without recursion, as this is what tells whether one may recurse."""
    highest = 0
    stack: list[tuple[object, int]] = [(expr, 1)]
    while stack:
        node, height = stack.pop()
        highest = max(highest, height)
        for value in vars(node).values():
            if isinstance(value, ast.Node):
                stack.append((value, height + 1))
            elif isinstance(value, tuple):
                stack.extend((each, height + 1) for each in value)
    return highest

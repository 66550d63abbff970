"""One call of a kernel: what its dimensions, dtypes and constants come to, and what its outputs are.

    resolve(matmul, {"A": TensorInfo("f16", (64, 50)), "B": TensorInfo("f16", (50, 90))})
    → dims {M: 64, K: 50, N: 90}, dtypes {T: f16}, outputs (f16[64, 90],)
    or: 'B' must have shape [K, N] with K = 50 (from A); got [51, 90]

Sizes are integers or anything that calculates like one (a symbolic integer). Strides, devices and tuning
are left to whoever calls.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from typing_extensions import assert_never

from tdsl import ir
from tdsl.builtins import ELEMENTWISE, Value, divide, floor_divide, remainder
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.types import DTYPES, DType, wrapped

Size = int  # or a symbolic integer; nothing here asks for the class
MAX_SHIFT = 63
MAX_INTEGER = 2**63


# Compile-time expressions


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the names of a compile-time expression stand for."""

    dims: Mapping[str, Size] = field(default_factory=dict)
    params: Mapping[str, Value] = field(default_factory=dict)  # const parameters and known run-time scalars
    settings: Mapping[str, Value] = field(default_factory=dict)  # let, config, tune
    present: frozenset[str] = frozenset()  # the optional tensors that were passed
    dtypes: Mapping[str, str] = field(default_factory=dict)


def evaluate(expr: ir.Expr, environment: Environment) -> Value:
    """The value of an expression, as Python calculates (floats as IEEE does: 1 / 0 is inf).

    Raises KeyError for a name that the environment lacks or a value of the device, and TdslError for an integer division by zero.
    """
    match expr:
        case ir.Constant(value=value):
            return value
        case ir.DimRef(name=name):
            return environment.dims[name]
        case ir.ParamRef(name=name):
            return environment.params[name]
        case ir.SettingRef(name=name):
            return environment.settings[name]
        case ir.Present(param=param):
            return param in environment.present
        case ir.DTypeIn(dtype=dtype, choices=choices):
            return dtype.resolve(environment.dtypes) in choices
        case ir.Unary(op=op, operand=operand):
            value = evaluate(operand, environment)
            return not value if op == "not" else _fitting(_UNARY[op](value), expr.type.dtype, environment)
        case ir.Binary(op="and", left=left, right=right):
            return evaluate(left, environment) and evaluate(right, environment)
        case ir.Binary(op="or", left=left, right=right):
            return evaluate(left, environment) or evaluate(right, environment)
        case ir.Binary(op=op, left=left, right=right):
            value = _binary(expr, op, evaluate(left, environment), evaluate(right, environment))
            return _fitting(value, expr.type.dtype, environment)
        case ir.Select(condition=condition, then=then, otherwise=otherwise):
            return evaluate(then if evaluate(condition, environment) else otherwise, environment)
        case ir.Cast(operand=operand):
            return _cast(evaluate(operand, environment), expr.type.dtype, environment)
        case ir.Elementwise(function="where", arguments=(condition, then, otherwise)):
            return evaluate(then if evaluate(condition, environment) else otherwise, environment)
        case ir.Elementwise(function=function, arguments=arguments):
            return _call(expr, function, [evaluate(argument, environment) for argument in arguments])
        case (
            ir.VarRef()
            | ir.TileRef()
            | ir.TileEdge()
            | ir.Reduce()
            | ir.Scan()
            | ir.Along()
            | ir.Dot()
            | ir.Fill()
            | ir.TritonCall()
            | ir.TritonName()
            | ir.Inline()
            | ir.Load()
        ):
            raise KeyError(f"{type(expr).__name__} is known on the device alone")
        case _:
            assert_never(expr)


_UNARY: Mapping[str, Callable[..., Value]] = {
    "-": operator.neg,
    "~": lambda x: -x - 1,  # a symbolic size has no `~`
}
_BINARY: Mapping[str, Callable[..., Value]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": floor_divide,
    "%": remainder,
    "**": operator.pow,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _binary(expr: ir.Expr, op: str, left: Value, right: Value) -> Value:
    if op == "/":
        return divide(left, right)  # type: ignore[arg-type]
    if op in ("//", "%") and right == 0 and not isinstance(left, float) and not isinstance(right, float):
        raise _wrong(Code.BAD_VALUE, expr, f"'{expr.span.text}' divides by zero")
    if op in ("<<", ">>") and not 0 <= right <= MAX_SHIFT:  # type: ignore[operator]
        return 0 if op == "<<" else _BINARY[op](left, MAX_SHIFT)  # as in a kernel
    try:
        return _small(expr, _BINARY[op](left, right))
    except OverflowError:
        return math.inf
    except ZeroDivisionError:
        return math.inf  # a negative power of zero


def _small(expr: ir.Expr, value: Value) -> Value:
    if type(value) is int and abs(value) > MAX_INTEGER:
        raise _wrong(Code.BAD_VALUE, expr, f"'{expr.span.text}' is beyond 64 bits")
    return value


def _call(expr: ir.Expr, function: str, arguments: list[Value]) -> Value:
    if function == "cdiv" and arguments[1] == 0:
        raise _wrong(Code.BAD_VALUE, expr, f"'{expr.span.text}' divides by zero")
    calculate = ELEMENTWISE[function].value
    if calculate is None:
        raise KeyError(f"{function} is known on the device alone")
    try:
        return calculate(*arguments)
    except ValueError:
        return math.nan
    except OverflowError:
        return math.inf


def _cast(value: Value, dtype: DType, environment: Environment) -> Value:
    category = DTYPES[dtype.resolve(environment.dtypes)].category
    if category == 2:
        return float(value)
    if category == 0:
        return bool(value)
    if isinstance(value, float):
        value = int(value) if math.isfinite(value) else 0
    return _fitting(int(value) if isinstance(value, bool) else value, dtype, environment)


def _fitting(value: Value, dtype: DType, environment: Environment) -> Value:
    """What a kernel makes of the result of arithmetic in a dtype: an integer wraps around."""
    if dtype.weak:
        return value
    name = dtype.resolve(environment.dtypes)
    if DTYPES[name].category != 1 or (DTYPES[name].bits >= 32 and not isinstance(value, int)):
        return value  # that a size which is not known yet is one of 32 bits is a guard of the graph
    return wrapped(value, name)  # type: ignore[arg-type]


def _wrong(code: Code, node: ir.Node, message: str) -> TdslError:
    return TdslError([Diagnostic(code=code, message=message, span=node.span)])


# Calls


@dataclass(frozen=True)
class TensorInfo:
    """A tensor argument or an output: a tdsl dtype name and its sizes."""

    dtype: str
    shape: tuple[Size, ...]


Argument = TensorInfo | Value | None


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What one call fixes. `rest` has the leading sizes behind each `R...`, `dims` their product."""

    dims: Mapping[str, Size]
    rest: Mapping[str, tuple[Size, ...]]
    dtypes: Mapping[str, str]
    consts: Mapping[str, Value]
    outputs: tuple[TensorInfo, ...]


def resolve(
    kernel: ir.Kernel,
    args: Mapping[str, Argument],
    asking: Callable[[ir.Expr], AbstractContextManager[None]] = lambda expr: nullcontext(),
    holds: Callable[[bool], bool] = bool,
) -> Resolution:
    """Fit arguments (by parameter name) to a kernel's signature, and to the number of its programs. A guard or a size
    is calculated within `asking(expr)`, for whoever knows what it means that a symbolic size has no answer; `holds` is
    asked of all else that sizes must be, as a condition that calculates like a bool.

    Raises TdslError with a BAD_ARGUMENT for each argument that does not fit: missing, unknown, of the
    wrong kind, dtype, rank or size, or against a guard.
    """
    call = _Resolving(kernel, args, asking, holds)
    call.check_kinds()
    call.stop_if_wrong()
    call.solve()
    call.stop_if_wrong()
    call.check_shapes()
    call.check_guards()
    call.check_grid()
    call.stop_if_wrong()
    outputs = tuple(call.output(output) for output in kernel.outputs)
    call.stop_if_wrong()
    return Resolution(dims=call.dims, rest=call.rest, dtypes=call.dtypes, consts=call.consts, outputs=outputs)


class _Resolving:
    def __init__(
        self,
        kernel: ir.Kernel,
        args: Mapping[str, Argument],
        asking: Callable[[ir.Expr], AbstractContextManager[None]],
        holds: Callable[[bool], bool],
    ) -> None:
        self.kernel = kernel
        self.args = args
        self.asking = asking
        self.holds = holds
        self.wrong: list[Diagnostic] = []
        self.tensors: list[tuple[ir.Tensor, TensorInfo]] = []
        self.params: dict[str, Value] = {}
        self.consts: dict[str, Value] = {}
        self.dims: dict[str, Size] = {}
        self.rest: dict[str, tuple[Size, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self.origins: dict[str, str] = {}  # a dimension or dtype variable -> the parameter that gave it

    def add(self, node: ir.Node, message: str, help: str | None = None) -> None:
        self.wrong.append(Diagnostic(code=Code.BAD_ARGUMENT, message=message, span=node.span, help=help))

    def stop_if_wrong(self) -> None:
        if self.wrong:
            raise TdslError(self.wrong)

    def environment(self) -> Environment:
        return Environment(
            dims=self.dims,
            params=self.params,
            present=frozenset(tensor.name for tensor, _ in self.tensors),
            dtypes=self.dtypes,
        )

    # Kinds

    def check_kinds(self) -> None:
        names = {param.name for param in self.kernel.params}
        for name in self.args:
            if name not in names:
                self.add(self.kernel, f"'{self.kernel.name}' has no parameter '{name}'")
        for param in self.kernel.params:
            match param:
                case ir.Tensor():
                    self._tensor(param)
                case ir.Scalar():
                    self._scalar(param)
                case ir.Const():
                    self._const(param)
                case _:
                    assert_never(param)

    def _tensor(self, param: ir.Tensor) -> None:
        value = self.args.get(param.name)
        if isinstance(value, TensorInfo):
            self.tensors.append((param, value))
        elif value is not None:
            self.add(param, f"'{param.name}' must be a tensor, {declared(param)}; got {shown(value)}")
        elif not param.optional:
            got = "got None" if param.name in self.args else "it is missing"
            self.add(param, f"'{param.name}' must be a tensor, {declared(param)}; {got}")

    def _scalar(self, param: ir.Scalar) -> None:
        value = self.args.get(param.name)
        if not _fits(value, param.type):
            got = f"got {shown(value)}" if param.name in self.args else "it is missing"
            self.add(param, f"'{param.name}' must be {_KINDS[param.type]}; {got}")
        else:
            self.params[param.name] = value  # type: ignore[assignment]

    def _const(self, param: ir.Const) -> None:
        value = self.args.get(param.name, param.default)
        if not _fits(value, param.type):
            got = f"got {shown(value)}" if param.name in self.args else "it is missing"
            self.add(param, f"'{param.name}' must be {_KINDS[param.type]}; {got}")
            return
        assert value is not None and not isinstance(value, TensorInfo), "a constant of a fitting kind"
        self.params[param.name] = self.consts[param.name] = value
        if param.type == "dtype":
            self.dtypes[param.name] = str(value)
            self._check_choice(param, param.name, f"'{param.name}'", str(value))

    # Dtypes and dimensions

    def solve(self) -> None:
        """Give every name a value: from required tensors first, each from the first that has it alone."""
        for param, info in sorted(self.tensors, key=lambda pair: pair[0].optional):
            match param.dtype.names:
                case (str(name),) if param.dtype.variables() and name not in self.dtypes:
                    self.dtypes[name], self.origins[name] = info.dtype, param.name
                    self._check_choice(param, name, f"'{param.name}'", shown(info))
            leading = len(info.shape) - len(param.dims)
            rest = param.dims and isinstance(param.dims[0], ir.RestDim)
            if (leading < -1) if rest else (leading != 0):
                count = f"at least {len(param.dims) - 1}" if rest else str(len(param.dims))
                noun = "dimension" if count.endswith("1") else "dimensions"
                self.add(
                    param,
                    f"'{param.name}' must have {count} {noun}, {_dims(param)}; got {shown(info)}",
                )
                continue
            for dim, sizes in _matched(param, info):
                match dim:
                    case ir.RestDim(name=name) if name not in self.rest:
                        self.rest[name], self.origins[name] = sizes, param.name
                        self.dims.setdefault(name, math.prod(sizes))
                    case ir.DimRef(name=name) if name not in self.dims:
                        self.dims[name], self.origins[name] = sizes[0], param.name
        if not self.wrong:
            self._solve_the_rest()
        for name, choices in self.kernel.dtype_choices:
            self.dtypes.setdefault(name, choices[0])  # of an absent tensor only

    def _solve_the_rest(self) -> None:
        """The names that no parameter has alone, from the first that has `S + 1` or `2 * S`."""
        for param, info in sorted(self.tensors, key=lambda pair: pair[0].optional):
            for dim, sizes in _matched(param, info):
                found = ir.solved_for(dim)
                if found is None or found[0] in self.dims or len(sizes) != 1:
                    continue
                name, factor, offset = found
                left = sizes[0] - offset
                size = left if factor == 1 else left // factor
                if not self.holds(left >= 0) or (factor > 1 and not self.holds(left % factor == 0)):
                    self.add(
                        dim,
                        f"'{param.name}' must have {dim.span.text} in dimension {param.dims.index(dim)}, "
                        f"with a size {name} from 0; got {shown(info)}",
                    )
                self.dims[name], self.origins[name] = size, param.name

    def _check_choice(self, param: ir.Node, name: str, who: str, got: str) -> None:
        choices = dict(self.kernel.dtype_choices).get(name, tuple(DTYPES))
        if self.dtypes[name] not in choices:
            self.add(param, f"{who} must be {_either(choices)}; got {got}")

    def check_shapes(self) -> None:
        for param, info in self.tensors:
            expected_dtype = param.dtype.resolve(self.dtypes)
            if info.dtype != expected_dtype:
                origin = self.origins.get(param.dtype.names[0]) if len(param.dtype.names) == 1 else None  # type: ignore[arg-type]
                why = f", as '{origin}' is" if origin and origin != param.name else ""
                self.add(param, f"'{param.name}' must be {expected_dtype}{why}; got {shown(info)}")
            expected: list[Size] = []
            try:
                for dim, _ in _matched(param, info):
                    if isinstance(dim, ir.RestDim):
                        expected.extend(self.rest[dim.name])
                    else:
                        expected.append(self.size(dim))
            except TdslError as error:
                self.wrong.extend(error.diagnostics)
                continue
            same = len(expected) == len(info.shape) and all(
                self.holds(a == b) for a, b in zip(expected, info.shape, strict=True)
            )
            if not same:
                self.add(
                    param,
                    f"'{param.name}' must have shape {_dims(param)}{self._given(param)}; got {shown(info)}",
                )

    def _given(self, param: ir.Tensor) -> str:
        """`with K = 50 (from A)`, for what other parameters settled."""
        found = []
        for name in _names(param):
            origin = self.origins.get(name)
            if origin == param.name:
                continue
            value = (
                _sizes(self.rest[name]) if name in self.rest else self.dims.get(name, self.params.get(name))
            )
            found.append(f"{name} = {value}" + (f" (from {origin})" if origin else ""))
        return f" with {', '.join(found)}" if found else ""

    # Guards and outputs

    def check_guards(self) -> None:
        environment = self.environment()
        for guard in self.kernel.guards:
            try:
                self.check_divisors(guard, environment)
                with self.asking(guard):
                    holds = bool(evaluate(guard, environment))
            except TdslError as error:
                self.wrong.extend(error.diagnostics)
                continue
            if not holds:
                values = {**self.params, **self.dims}
                named = {
                    node.name: f"{node.name} = {values[node.name]}"
                    + (f" (from {self.origins[node.name]})" if node.name in self.origins else "")
                    for node in ir.walk(guard)
                    if isinstance(node, ir.DimRef | ir.ParamRef)
                }
                self.add(guard, f"'{guard.span.text}' does not hold: {', '.join(named.values())}")

    def check_grid(self) -> None:
        """The host calculates how many programs there are, and nothing that divides there may be zero."""
        environment = self.environment()
        for node, divisor in (pair for tile in self.kernel.grid for pair in _divisions(tile.stop)):
            try:
                with self.asking(divisor):
                    value = evaluate(divisor, environment)
            except KeyError:
                continue  # a setting, which is a constant
            if not self.holds(value != 0):
                message = (
                    f"'{divisor.span.text}' divides in the grid's '{node.span.text}' and must not be zero"
                )
                self.add(node, message, help=f"pass another number, or say 'where {divisor.span.text} > 0'")

    def check_divisors(self, expr: ir.Expr, environment: Environment) -> None:
        """A divisor of a signature is positive; the bounds proof builds on it."""
        if isinstance(expr, ir.DimRef | ir.Constant | ir.ParamRef):
            return
        for node, divisor in _divisions(expr):
            with self.asking(divisor):
                value = evaluate(divisor, environment)
            if not self.holds(value > 0):  # type: ignore[operator]
                raise _wrong(
                    Code.BAD_ARGUMENT,
                    node,
                    f"'{divisor.span.text}' divides in '{node.span.text}' and must be positive; it is {value}",
                )

    def size(self, dim: ir.Expr) -> Size:
        environment = self.environment()
        self.check_divisors(dim, environment)
        with self.asking(dim):
            return evaluate(dim, environment)  # type: ignore[return-value]

    def output(self, output: ir.Tensor) -> TensorInfo:
        shape: list[Size] = []
        for dim in output.dims:
            if isinstance(dim, ir.RestDim):
                shape.extend(self.rest[dim.name])
                continue
            try:
                size = self.size(dim)
            except TdslError as error:
                self.wrong.extend(error.diagnostics)
                continue
            if not self.holds(size >= 0):
                self.add(dim, f"output '{output.name}' would have size {size} in '{dim.span.text}'")
            shape.append(size)
        return TensorInfo(output.dtype.resolve(self.dtypes), tuple(shape))


_KINDS = {
    "bool": "a bool",
    "int": "an int",
    "float": "a float",
    "dtype": "a dtype",
    "str": "a string",
}


def _fits(value: Argument, kind: str) -> bool:
    if value is None or isinstance(value, TensorInfo):
        return False
    match kind:
        case "bool":
            return isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case "dtype":
            return isinstance(value, str) and value in DTYPES
        case "int":
            return hasattr(value, "__index__") and not isinstance(value, bool)
        case _:
            return hasattr(value, "__float__") and not isinstance(value, bool | str)


def _divisions(expr: ir.Expr) -> Iterator[tuple[ir.Expr, ir.Expr]]:
    """What divides in an expression, behind where it does; the innermost first, which the others are made of."""
    for node in reversed([*ir.walk(expr)]):
        match node:
            case (
                ir.Binary(op="//" | "%", right=divisor)
                | ir.Elementwise(function="cdiv", arguments=(_, divisor))
            ):
                yield node, divisor


def _matched(param: ir.Tensor, info: TensorInfo) -> list[tuple[ir.Expr | ir.RestDim, tuple[Size, ...]]]:
    """Each declared dimension with the sizes behind it; several only for `R...`."""
    leading = len(info.shape) - len(param.dims) + 1
    matched: list[tuple[ir.Expr | ir.RestDim, tuple[Size, ...]]] = []
    at = 0
    for dim in param.dims:
        width = leading if isinstance(dim, ir.RestDim) else 1
        matched.append((dim, info.shape[at : at + width]))
        at += width
    return matched


def _names(param: ir.Tensor) -> list[str]:
    names: dict[str, None] = {}
    for dim in param.dims:
        if isinstance(dim, ir.RestDim):
            names[dim.name] = None
        else:
            names.update({n.name: None for n in ir.walk(dim) if isinstance(n, ir.DimRef | ir.ParamRef)})
    return list(names)


def _dims(param: ir.Tensor) -> str:
    return f"[{', '.join(f'{d.name}...' if isinstance(d, ir.RestDim) else d.span.text for d in param.dims)}]"


def wanted(param: ir.Tensor | ir.Scalar | ir.Const) -> str:
    """What a parameter takes, as a message calls it."""
    return f"a tensor, {declared(param)}" if isinstance(param, ir.Tensor) else _KINDS[param.type]


def declared(param: ir.Tensor) -> str:
    return f"{param.dtype}{_dims(param)}"


def _sizes(sizes: tuple[Size, ...]) -> str:
    return f"[{', '.join(str(size) for size in sizes)}]"


def shown(value: object) -> str:
    """An argument as a message calls it: `f32[2, 3]`, `3 (an int)`, `None`."""
    if isinstance(value, TensorInfo):
        return f"{value.dtype}{_sizes(value.shape)}"
    if value is None:
        return "None"
    name = type(value).__name__
    text = repr(value)
    if len(text) > 100 or "\n" in text:
        return f"an object of type {name}"
    return f"{text} ({'an' if name[0] in 'aeiou' else 'a'} {name})"


def _either(choices: tuple[str, ...]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"

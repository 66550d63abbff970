"""The Python function that launches a kernel of a file of its own, and what it checks.

    matmul(A: T[M, K], B: T[K, N]) -> C: T[M, N]    ->    def matmul(A, B):
                                                              check_tensor("A", A, torch.float16, 2, "f16[M, K]")
                                                              size_M, size_K = A.shape
                                                              check_shape("B", B, (size_K, size_N), "[K, N]")
                                                              C = torch.empty((size_M, size_N), ...)
                                                              matmul_kernel[...](A, B, C, ...)
                                                              return C

What sizes mean is `signature`'s: the same names are solved from the same tensors. What is known when the file is
written is calculated then.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from tdsl import ir
from tdsl.builtins import Value
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.lower.emit import syntax
from tdsl.lower.emit.syntax import quote
from tdsl.lower.emit.triton import TritonSource
from tdsl.lower.facts.candidates import PERSISTENT
from tdsl.options import LAUNCH_OPTIONS
from tdsl.signature import Environment, declared, evaluate
from tdsl.types import DTYPES

INTERPRETED_PROCESSORS = 4  # that a CPU is taken to have
TAKEN = (
    *("torch", "triton", "tl", "math", "os", "libdevice", "INTERPRETED", "CONFIGS", "meta", "processors"),
    *("isinstance", "int", "float", "min", "max", "abs", "ValueError", "TypeError"),
    *("check_tensor", "check_shape", "check_device", "check_reach", "check_written"),
)

CHECKS = {
    "check_tensor": '''\
def check_tensor(name, value, dtype, rank, declared, leading=False):
    """Raises TypeError for what is no tensor of this dtype, and ValueError for another rank."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_neg():
        raise TypeError(f"'{name}' must be a strided tensor, {declared}; got {value!r}")
    got = f"{value.dtype}{list(value.shape)}"
    if value.dtype != dtype:
        raise TypeError(f"'{name}' must be {declared}, of {dtype}; got {got}")
    if value.dim() < rank if leading else value.dim() != rank:
        raise ValueError(f"'{name}' must have {'at least ' if leading else ''}{rank} dimensions, {declared}; got {got}")
    if value.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"'{name}' requires a gradient and this kernel has none: call it under torch.no_grad()")
''',
    "check_device": '''\
def check_device(**tensors):
    """Raises ValueError unless all are on one GPU, or Triton interprets its kernels."""
    (first, device), *others = ((name, tensor.device) for name, tensor in tensors.items())
    for name, other in others:
        if other != device:
            raise ValueError(f"'{name}' must be on {device}, as '{first}' is; got {other}")
    if device.type != "cuda" and not INTERPRETED:
        raise ValueError(f"'{first}' must be on a GPU (or set TRITON_INTERPRET=1 before Triton is imported); got {device}")
''',
    "check_shape": """\
def check_shape(name, value, shape, declared):
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"'{name}' must have shape {declared} = {list(shape)}; got {list(value.shape)}")
""",
    "check_reach": '''\
def check_reach(**tensors):
    """Raises ValueError for a tensor that indices of 32 bits do not reach."""
    for name, tensor in tensors.items():
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
        if tensor.numel() and max(last + 1, tensor.numel()) >= 2**31:
            raise ValueError(f"'{name}' has elements beyond 2**31: write this file with --index i64")
''',
    "check_written": '''\
def check_written(name, written, /, **others):
    """Raises ValueError where what is written would depend on the order of writing."""
    reach = 0
    for stride, size in sorted((stride, size) for size, stride in zip(written.shape, written.stride()) if size > 1):
        if stride <= reach:
            raise ValueError(f"'{name}' is written to, and several of its elements may be one; pass a clone")
        reach += (size - 1) * stride

    def ends(tensor):
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
        return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()

    for other, tensor in others.items():
        if tensor is not None and tensor.numel() and written.numel() and tensor.device == written.device:
            if ends(tensor)[0] < ends(written)[1] and ends(written)[0] < ends(tensor)[1]:
                raise ValueError(f"'{name}' is written to and shares memory with '{other}'; pass a clone of that")
''',
}


class Launcher:
    """`environment`: what is known of the call: the sizes that are fixed, dtypes, constants. `functions`: names that the
    file has already. `not_interpreted`: why Triton's interpreter must not run the kernel, if it must not."""

    def __init__(
        self,
        kernel: ir.Kernel,
        source: TritonSource,
        environment: Environment,
        arguments: Sequence[str],
        functions: Collection[str],
        not_interpreted: str | None,
    ) -> None:
        self.functions = functions
        self.not_interpreted = not_interpreted
        self.kernel = kernel
        self.source = source
        self.arguments = arguments
        self.passed = {pointer.param: pointer.name for pointer in source.pointers}
        self.inputs = [
            param for param in kernel.params if isinstance(param, ir.Tensor) and param.name in self.passed
        ]
        self.environment = replace(environment, present=frozenset(param.name for param in self.inputs))
        self.lets = {let.name: let.value for let in kernel.lets}
        self.sizes: set[str] = set()  # names of dimensions that have a local by now
        self.checks: dict[str, None] = {}  # of CHECKS, those that it calls
        self.lines: list[str] = []

    @property
    def name(self) -> str:
        return f"{self.kernel.name}_kernel"

    def text(self) -> str:
        self._check_names()
        self._check_arguments()
        self._solve()
        self._check_shapes()
        self._check_guards()
        outputs = self._outputs()
        self._launch(outputs)
        if outputs:
            self.lines.append(f"return {', '.join(outputs)}")
        described = self._documentation()
        lines = [f"def {self.kernel.name}({', '.join(self._parameters())}):", *described, *self.lines]
        return "\n".join([lines[0], *(f"    {line}".rstrip() for line in lines[1:])]) + "\n"

    # The signature

    def _check_names(self) -> None:
        """An author's names are the launcher's; ours must not be among them."""
        ours = {*TAKEN, *self.functions}
        if self.kernel.name in ours:
            raise _error(
                self.kernel, f"a standalone file has a '{self.kernel.name}' of its own", "rename the template"
            )
        ours |= {self.name, self.kernel.name}
        ours |= {f"{word}_{name}" for name in self.kernel.dims for word in ("size", "rest")}
        ours |= {f"flat_{name}" for name in self.passed}
        for item in (*self.kernel.params, *self.kernel.outputs):
            if item.name in ours:
                raise _error(
                    item, f"'{item.name}' is a name that a standalone file has for itself", "rename it"
                )

    def _parameters(self) -> list[str]:
        parts: list[str] = []
        trailing = True
        for param in reversed(self.kernel.params):
            default = None
            if isinstance(param, ir.Const):
                default = self._spelled(param)
            elif isinstance(param, ir.Tensor) and param.name not in self.passed:
                default = "None"
            trailing = trailing and default is not None
            parts.insert(0, f"{param.name}={default}" if trailing else param.name)
        return parts

    def _spelled(self, param: ir.Const) -> str:
        """A constant's value, as Python has it; of a float, also where it has no literal."""
        value = self.environment.params[param.name]
        if param.type == "dtype":
            return f"torch.{DTYPES[str(value)].torch}"
        return repr(value) if not isinstance(value, float) or math.isfinite(value) else f"float('{value}')"

    def signature(self) -> str:
        """In the template's words, with what it is written for."""
        parts = []
        for param in self.kernel.params:
            match param:
                case ir.Tensor():
                    mark = "inout " if param.inout else ""
                    absent = "" if param.name in self.passed else " = None"
                    parts.append(f"{mark}{param.name}: {self._declared(param)}{absent}")
                case ir.Scalar(name=name, type=kind):
                    parts.append(f"{name}: {kind}")
                case ir.Const(name=name):
                    parts.append(f"{name} = {self._spelled(param)}")
        outputs = ", ".join(f"{output.name}: {self._declared(output)}" for output in self.kernel.outputs)
        several = len(self.kernel.outputs) > 1
        return f"{self.kernel.name}({', '.join(parts)})" + (
            f" -> {f'({outputs})' if several else outputs}" if outputs else ""
        )

    def _declared(self, tensor: ir.Tensor) -> str:
        return f"{self._dtype(tensor)}{declared(tensor).removeprefix(str(tensor.dtype))}"

    def _dtype(self, tensor: ir.Tensor) -> str:
        return tensor.dtype.resolve(self.environment.dtypes)

    def _documentation(self) -> list[str]:
        known = [f"{name} = {size}" for name, size in self.environment.dims.items()]
        lines = [f'"""{self.signature()}', ""]
        lines += [f"For {', '.join(known)} alone.", ""] if known else []
        return [*lines, "Raises TypeError and ValueError for arguments that do not fit.", '"""']

    # Checks

    def _call(self, check: str, *arguments: str) -> None:
        self.checks[check] = None
        self.lines.append(f"{check}({', '.join(arguments)})")

    def _unless(self, condition: str, error: str, message: str) -> None:
        self.lines += [f"if not ({condition}):", f"    raise {error}({message})"]

    def _check_arguments(self) -> None:
        if self.not_interpreted is not None:
            self.lines += ["if INTERPRETED:", f"    raise NotImplementedError({self.not_interpreted!r})"]
        for param in self.kernel.params:
            name = param.name
            match param:
                case ir.Tensor() if name not in self.passed:
                    self._unless(
                        f"{name} is None", "ValueError", repr(f"this kernel is written without '{name}'")
                    )
                case ir.Tensor():
                    dtype = f"torch.{DTYPES[self._dtype(param)].torch}"
                    rest = _rest(param) is not None
                    rank = len(param.dims) - rest
                    leading = ["True"] if rest else []
                    self._call(
                        "check_tensor",
                        repr(name),
                        name,
                        dtype,
                        str(rank),
                        repr(self._declared(param)),
                        *leading,
                    )
                case ir.Scalar(type="int"):
                    kind = f"isinstance({name}, int) and not isinstance({name}, bool)"
                    self._unless(
                        f"{kind} and -(2**63) <= {name} < 2**63",
                        "TypeError",
                        f"f\"'{name}' must be an int of 64 bits; got {{{name}!r}}\"",
                    )
                case ir.Scalar():
                    self._unless(
                        f"isinstance({name}, (int, float)) and not isinstance({name}, bool)",
                        "TypeError",
                        f"f\"'{name}' must be a float; got {{{name}!r}}\"",
                    )
                case ir.Const():
                    spelled = self._spelled(param)
                    value = self.environment.params[name]
                    same = "is" if isinstance(value, bool) else "=="
                    if isinstance(value, float) and math.isnan(value):
                        raise _error(param, f"'{name}' is NaN, which equals nothing", "pass another number")
                    self._unless(
                        f"{name} {same} {spelled}",
                        "ValueError",
                        f'f"this kernel is written for {name}={_braces(spelled)}; got {{{name}!r}}"',
                    )
        self._call("check_device", *(f"{param.name}={param.name}" for param in self.inputs))
        for param in self.inputs:
            if param.inout:
                others = [f"{other.name}={other.name}" for other in self.inputs if other.name != param.name]
                self._call("check_written", repr(param.name), param.name, *others)

    def _solve(self) -> None:
        """Gives every name a value: from required tensors first, each from the first that has it alone."""
        ordered = sorted(self.inputs, key=lambda param: param.optional)
        for param in ordered:
            for axis, dim in enumerate(param.dims):
                match dim:
                    case ir.RestDim(name=name) if name not in self.sizes:
                        end = len(param.dims) - 1
                        self.lines.append(f"rest_{name} = {param.name}.shape[:{-end if end else ''}]")
                        self._size(name, f"math.prod(rest_{name})")
                    case ir.DimRef(name=name) if name not in self.sizes:
                        self._size(name, self._shape(param, axis))
        for param in ordered:
            for axis, dim in enumerate(param.dims):
                found = ir.solved_for(dim)
                if found is not None and found[0] not in self.sizes:
                    name, factor, offset = found
                    size = quote(self._shape(param, axis))
                    size = quote("{0} - {1}", size, offset) if offset else size
                    self._size(
                        name, syntax.printed(quote("{0} // {1}", size, factor) if factor > 1 else size)
                    )
                    what = f"'{param.name}' must have {dim.span.text} in dimension {axis}"
                    self._unless(
                        f"size_{name} >= 0",
                        "ValueError",
                        f'f"{_braces(what)}, with a size {name} from 0; got {{list({param.name}.shape)}}"',
                    )

    def _shape(self, param: ir.Tensor, axis: int) -> str:
        return f"{param.name}.shape[{axis - len(param.dims) if _rest(param) else axis}]"

    def _size(self, name: str, value: str) -> None:
        self.lines.append(f"size_{name} = {value}")
        self.sizes.add(name)
        fixed = self.environment.dims.get(name)
        if fixed is not None:
            self._unless(
                f"size_{name} == {fixed}",
                "ValueError",
                f'f"this kernel is written for {name} = {fixed}; got {{size_{name}}}"',
            )

    def _check_shapes(self) -> None:
        dims = [dim for item in (*self.inputs, *self.kernel.outputs) for dim in item.dims]
        for dim in dims:
            if not isinstance(dim, ir.RestDim):
                self._check_divisors(dim, "> 0", "must be positive")
        seen: set[str] = set()
        for param in sorted(self.inputs, key=lambda param: param.optional):
            own = [dim.name for dim in param.dims if isinstance(dim, ir.DimRef | ir.RestDim)]
            if len(own) < len(param.dims) or len({*own}) < len(own) or seen & {*own}:
                shown = declared(param).removeprefix(str(param.dtype))
                self._call("check_shape", repr(param.name), param.name, self._sizes(param), repr(shown))
            seen.update(own)

    def _sizes(self, tensor: ir.Tensor) -> str:
        parts = [
            f"*rest_{dim.name}" if isinstance(dim, ir.RestDim) else syntax.printed(self._host(dim))
            for dim in tensor.dims
        ]
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"

    def _check_guards(self) -> None:
        for guard in self.kernel.guards:
            self._check_divisors(guard, "> 0", "must be positive")
            known = self._known(guard)
            if known is None:
                names = {
                    node.name: self._named(node)
                    for node in ir.walk(guard)
                    if isinstance(node, ir.DimRef | ir.ParamRef)
                }
                values = ", ".join(f"{name} = {{{text}}}" for name, text in names.items())
                said = _braces(f"'{guard.span.text}' does not hold")
                self._unless(syntax.printed(self._host(guard)), "ValueError", f'f"{said}: {values}"')
        for tile in self.kernel.grid:
            self._check_divisors(tile.stop, "!= 0", "must not be zero")

    def _check_divisors(self, expr: ir.Expr, holds: str, said: str) -> None:
        for node in ir.walk(expr):
            match node:
                case (
                    ir.Binary(op="//" | "%", right=divisor)
                    | ir.Elementwise(function="cdiv", arguments=(_, divisor))
                ):
                    if self._known(divisor) is None:
                        text = syntax.printed(self._host(divisor))
                        words = _braces(f"'{divisor.span.text}' divides in '{node.span.text}' and {said}")
                        self._unless(f"{text} {holds}", "ValueError", f'f"{words}; it is {{{text}}}"')

    # Expressions that the host calculates

    def _known(self, expr: ir.Expr, settings: Mapping[str, Value] | None = None) -> Value | None:
        try:
            return evaluate(expr, replace(self.environment, settings=settings or {}))
        except KeyError:
            return None

    def _named(self, node: ir.DimRef | ir.ParamRef) -> str:
        if isinstance(node, ir.DimRef):
            return f"size_{node.name}"
        return repr(self.environment.params[node.name]) if node.name in self.environment.params else node.name

    def _host(self, expr: ir.Expr, settings: Mapping[str, Value] | None = None) -> ast.expr:
        """As Python that the launcher runs. `settings`: a config's, where there is but one."""
        known = self._known(expr, settings)
        if isinstance(known, bool):
            return quote(str(known))
        if isinstance(known, int) or (isinstance(known, float) and math.isfinite(known)):
            return syntax.number(known)
        match expr:
            case ir.DimRef() | ir.ParamRef():
                return syntax.name(self._named(expr))
            case ir.SettingRef(name=name) if name in self.lets:
                return self._host(self.lets[name], settings)
            case ir.SettingRef(name=name):
                return quote(f"meta[{f'{name}_'!r}]")
            case ir.Unary(op="-" | "not" as op, operand=operand) if expr.type.dtype.weak:
                return quote(f"{op} {{0}}", self._host(operand, settings))
            case ir.Binary(op=op, left=left, right=right) if op in _SAME and expr.type.dtype.weak:
                return quote(f"{{0}} {op} {{1}}", self._host(left, settings), self._host(right, settings))
            case ir.Binary(op=op, left=left, right=right) if op in _CONDITIONS:
                return quote(f"{{0}} {op} {{1}}", self._host(left, settings), self._host(right, settings))
            case ir.Select(condition=condition, then=then, otherwise=otherwise):
                parts = [self._host(part, settings) for part in (then, condition, otherwise)]
                return quote("{0} if {1} else {2}", *parts)
            case ir.Elementwise(function="minimum" | "maximum" as function, arguments=arguments):
                return syntax.call(function[:3], *(self._host(each, settings) for each in arguments))
            case ir.Elementwise(function="cdiv", arguments=(left, right)):
                return quote("-(-{0} // {1})", self._host(left, settings), self._host(right, settings))
            case ir.Elementwise(function="abs", arguments=(operand,)):
                return syntax.call("abs", self._host(operand, settings))
            case _:
                raise _error(
                    expr,
                    f"a standalone launcher cannot calculate '{expr.span.text}'",
                    "give the sizes that it needs with --shape",
                )

    # The launch

    def _outputs(self) -> list[str]:
        accumulated = {pointer.param for pointer in self.source.pointers if pointer.accumulated}
        first = self.inputs[0].name
        for output in self.kernel.outputs:
            make = "zeros" if output.name in accumulated else "empty"
            dtype = DTYPES[self._dtype(output)].torch
            self.lines.append(
                f"{output.name} = torch.{make}({self._sizes(output)}, dtype=torch.{dtype}, device={first}.device)"
            )
        return [output.name for output in self.kernel.outputs]

    def _launch(self, outputs: Sequence[str]) -> None:
        tensors = [*self.inputs, *self.kernel.outputs]
        if self.source.index_dtype == "i32":
            self._call("check_reach", *(f"{tensor.name}={tensor.name}" for tensor in tensors))
        written = [*(param.name for param in self.inputs if param.inout), *outputs]
        empty = " and ".join(f"{name}.numel() == 0" for name in written)
        returned = f" {', '.join(outputs)}" if outputs else ""
        self.lines += [f"if {empty}:", f"    return{returned}"]
        flat = {tensor.name: self._flat(tensor) for tensor in tensors}
        tiles = self._tiles()
        if self.source.configs[0].persistent or any(config.persistent for config in self.source.configs):
            device = f"{self.inputs[0].name}.device"
            known = f"torch.cuda.get_device_properties({device}).multi_processor_count"
            self.lines.append(f"processors = {INTERPRETED_PROCESSORS} if INTERPRETED else {known}")
            ctas = max(config.num_ctas or 1 for config in self.source.configs)
            most = f"max(processors // {ctas}, 1)" if ctas > 1 else "processors"
            several = f"min({tiles}, {most})"
            always = all(config.persistent for config in self.source.configs)
            tiles = several if always else f"{several} if meta['{PERSISTENT}'] else {tiles}"
        grid = f"({tiles},)" if self.single else f"lambda meta: ({tiles},)"
        given = [flat[pointer.param] for pointer in self.source.pointers]
        given += [self._argument(name, flat) for name in self.arguments]
        if self.single:
            (config,) = self.source.configs
            options = {name: getattr(config, name) for name in LAUNCH_OPTIONS}
            given += [f"{name}={value}" for name, value in config.constants]
            given += [f"{name}={value}" for name, value in options.items() if value is not None]
        self.lines.append(f"with torch.cuda.device_of({self.inputs[0].name}):")
        self.lines += [f"    {self.name}[{grid}]("]
        self.lines += [f"        {line}" for line in _wrapped(given)]
        self.lines += ["    )"]

    @property
    def single(self) -> bool:
        return len(self.source.configs) == 1

    def _flat(self, tensor: ir.Tensor) -> str:
        """A tensor of as many dimensions as are declared: those of `R...` as one."""
        rest = _rest(tensor)
        if rest is None:
            return tensor.name
        sizes = [
            f"size_{rest}",
            *(f"{tensor.name}.shape[{at - len(tensor.dims)}]" for at in range(1, len(tensor.dims))),
        ]
        name = f"flat_{tensor.name}"
        self.lines.append(f"{name} = {tensor.name}.reshape({', '.join(sizes)})")
        if tensor.inout:
            self._unless(
                f"{name}.data_ptr() == {tensor.name}.data_ptr()",
                "ValueError",
                repr(f"'{tensor.name}' is written to, and its leading dimensions are not one in memory"),
            )
        return name

    def _argument(self, name: str, flat: Mapping[str, str]) -> str:
        for tensor in (*self.inputs, *self.kernel.outputs):
            for axis in range(len(tensor.dims)):
                if name == f"stride_{tensor.name}_{axis}":
                    return f"{flat[tensor.name]}.stride({axis})"
        for param in self.kernel.params:
            if isinstance(param, ir.Scalar) and name == f"{param.name}_":
                return f"float({param.name})" if param.type == "float" else param.name
        return name  # a size

    def _tiles(self) -> str:
        """How many tiles the grid has."""
        settings: dict[str, Value] = {}
        if self.single:
            settings = {name.removesuffix("_"): value for name, value in self.source.configs[0].constants}
            for name, expr in self.lets.items():
                value = self._known(expr, settings)
                if value is not None:
                    settings[name] = value
        counts = []
        for tile in self.kernel.grid:
            stop = self._host(tile.stop, settings)
            if tile.scalar:
                count = stop
            else:
                assert tile.block is not None, "a tile of the grid has a block"
                count = syntax.call("triton.cdiv", stop, self._host(tile.block, settings))
            plain = isinstance(tile.stop, ir.DimRef | ir.Constant)
            counts.append(count if plain else syntax.call("max", count, 0))
        total = syntax.joined("*", counts)
        return syntax.printed(total) if total is not None else "1"


_SAME = ("+", "-", "*", "//", "%", "**")  # operators that mean what Python's mean
_CONDITIONS = ("==", "!=", "<", "<=", ">", ">=", "and", "or")


def _rest(tensor: ir.Tensor) -> str | None:
    first = tensor.dims[0] if tensor.dims else None
    return first.name if isinstance(first, ir.RestDim) else None


def _braces(text: str) -> str:
    """Text inside of an f-string between double quotes."""
    return (
        text.replace("\\", "\\\\")
        .replace('"', '\\"')
        .replace("{", "{{")
        .replace("}", "}}")
        .replace("\n", " ")
    )


def _wrapped(parts: Sequence[str]) -> Iterator[str]:
    """Arguments, several a line."""
    line = ""
    for part in parts:
        if line and len(line) + len(part) > 96:
            yield line.rstrip()
            line = ""
        line += f"{part}, "
    yield line.rstrip()


def _error(node: ir.Node, message: str, help: str) -> TdslError:
    return TdslError([Diagnostic(code=Code.BAD_CALL, message=message, span=node.span, help=help)])

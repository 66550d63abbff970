"""The shell: `tdsl check`, `tdsl show`, `tdsl package`, `tdsl demo`.

    $ tdsl check matmul.tdsl
    matmul.tdsl: matmul: prologues at A, B; epilogues at C

Exit codes: 0, 1 for a wrong template, 2 for a wrong command line. Only `package` and `demo` import torch.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, replace
from pathlib import Path
from typing import NoReturn

import tdsl
from tdsl import ast, ir
from tdsl.diagnostics import Code, Diagnostic, TdslError, suggest
from tdsl.options import LAUNCH_OPTIONS
from tdsl.signature import Environment, evaluate
from tdsl.types import DTYPES

OPEN_SIZE = 128  # what `show` takes for a size that must be known and was not given


class UsageError(Exception):
    """The command line is wrong; the text says how."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read has read enough. Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """The exit code of one command. A wrong command line raises SystemExit(2), as argparse does."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except TdslError as error:
        print(error, file=sys.stderr)
        return 1
    except UsageError as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tdsl", description="Kernel templates that torch.compile fuses with the work around them."
    )
    parser.add_argument("--version", action="version", version=f"tdsl {tdsl.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    check = commands.add_parser("check", help="report every mistake in template files")
    check.add_argument("files", nargs="+", metavar="FILE")
    check.set_defaults(command=_check)

    show = commands.add_parser("show", help="print what a stage makes of a template file")
    show.add_argument("file", metavar="FILE")
    show.add_argument("--template", metavar="NAME", help="only this template")
    show.add_argument(
        "--stage", choices=("ast", "ir", "triton"), default="triton", help="triton unless given"
    )
    show.add_argument(
        "--shape",
        nargs="+",
        action="extend",
        default=[],
        metavar="DIM=SIZE",
        help="sizes to specialise to; the others stay arguments of the kernel",
    )
    show.add_argument(
        "--dtype",
        nargs="+",
        action="extend",
        default=[],
        metavar="VARIABLE=DTYPE",
        help="what dtype variables stand for, such as T=bf16",
    )
    show.add_argument(
        "--const",
        nargs="+",
        action="extend",
        default=[],
        metavar="PARAMETER=VALUE",
        help="values of 'const' parameters, such as causal=true",
    )
    show.add_argument(
        "--without", nargs="+", action="extend", default=[], metavar="TENSOR", help="optional, and not passed"
    )
    show.add_argument("--config", type=int, metavar="I", help="only this tuning candidate, counted from 0")
    show.add_argument(
        "--standalone",
        action="store_true",
        help="a Python file with the kernel and a function that launches it, which needs torch and triton only",
    )
    show.add_argument(
        "--index",
        choices=("i32", "i64"),
        default="i32",
        help="with --standalone: what it calculates indices in; i64 for tensors of 2**31 elements or more",
    )
    show.add_argument("-o", "--output", metavar="FILE", help="with --standalone: the file to write")
    show.set_defaults(command=_show)

    package = commands.add_parser(
        "package", help="write a Python package of templates, checked and tuned, for where they are used"
    )
    package.add_argument(
        "source", metavar="SOURCE", help="a Python file that decorates templates, or a folder of them"
    )
    package.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="where the package is written to"
    )
    package.add_argument(
        "--name", metavar="NAME", help="the package's name: that of the file or folder unless given"
    )
    package.add_argument("--wheel", action="store_true", help="also build a wheel of it, in FOLDER/dist")
    package.add_argument("--version", default="0.1.0", help="the wheel's version, 0.1.0 unless given")
    package.set_defaults(command=_package)

    demo = commands.add_parser("demo", help="run an example fused and compare it with PyTorch")
    demo.add_argument("name", nargs="?", default="matmul", metavar="NAME", help="matmul unless given")
    demo.set_defaults(command=_demo)
    return parser


# check


def _check(options: argparse.Namespace) -> int:
    from tdsl import grammar
    from tdsl.pipeline import check_text, load

    status = 0
    for file in options.files:
        try:
            source = grammar.read(file)
            kernels = check_text(source) or (load(source),)  # `load` says that there is no template
        except TdslError as error:
            if status:
                print(file=sys.stderr)
            print(error, file=sys.stderr)
            status = 1
        else:
            for kernel in kernels:
                print(f"{file}: {kernel.name}: {_points(kernel)}")
    return status


def _points(kernel: ir.Kernel) -> str:
    """Where pointwise work can move into the kernel."""
    loads: dict[str, None] = {}
    stores: dict[str, None] = {}
    for node in kernel.nodes:
        match node:
            case ir.Load(nofuse=False, point=point):
                loads[point] = None
            case ir.Store(nofuse=False, param=param):
                stores[param] = None
    return f"prologues at {', '.join(loads) or 'no point'}; epilogues at {', '.join(stores) or 'no point'}"


# show


def _show(options: argparse.Namespace) -> int:
    from tdsl import grammar
    from tdsl.ir_text import to_text
    from tdsl.pipeline import check_text

    source = grammar.read(options.file)
    if options.stage == "ast":
        file = grammar.parse(source)
        names = [template.name.name for template in file.templates]
        chosen = _choose(names, options.template, options.file)
        nodes: list[ast.Node] = [*file.helpers] if options.template is None else []
        nodes += [template for template in file.templates if template.name.name in chosen]
        print("\n\n".join("\n".join(_dump(node)) for node in nodes))
        return 0
    kernels = check_text(source)
    chosen = _choose([kernel.name for kernel in kernels], options.template, options.file)
    kernels = tuple(kernel for kernel in kernels if kernel.name in chosen)
    if options.stage == "ir":
        print("\n".join(to_text(kernel) for kernel in kernels), end="")
        return 0
    shapes = {name: _size(name, text) for name, text in _pairs("--shape", options.shape)}
    dtypes = dict(_pairs("--dtype", options.dtype))
    consts = dict(_pairs("--const", options.const))
    _known("--shape", "dimension", shapes, [name for kernel in kernels for name in kernel.dims])
    variables = {name: choices for kernel in kernels for name, choices in kernel.dtype_choices}
    _known("--dtype", "dtype variable", dtypes, variables)
    for name, dtype in dtypes.items():
        if dtype not in variables[name]:
            raise UsageError(f"--dtype {name}={dtype}: {name} is one of {', '.join(variables[name])}")
    parameters = [p.name for kernel in kernels for p in kernel.params if isinstance(p, ir.Const)]
    _known("--const", "const parameter", consts, parameters)
    optional = [
        p.name for kernel in kernels for p in kernel.params if isinstance(p, ir.Tensor) and p.optional
    ]
    _known("--without", "optional tensor", options.without, optional)
    without = set(options.without)
    if options.standalone:
        if len(kernels) > 1:
            raise UsageError(f"--standalone writes one kernel: --template, one of {', '.join(chosen)}")
        text = _standalone(kernels[0], shapes, dtypes, consts, without, options.config, options.index)
        if options.output is None:
            print(text, end="")
        else:
            try:
                Path(options.output).write_text(text, encoding="utf-8")
            except OSError as error:
                raise UsageError(f"--output {options.output}: {error.strerror}") from None
        return 0
    print("\n\n".join(_triton(kernel, shapes, dtypes, consts, without, options.config) for kernel in kernels))
    return 0


def _triton(
    kernel: ir.Kernel,
    shapes: Mapping[str, int],
    dtypes: Mapping[str, str],
    consts: Mapping[str, str],
    without: Set[str],
    config: int | None,
) -> str:
    """The Triton function, under a comment with what is not in it: assumed sizes, configs, the grid."""
    from tdsl.lower import lower
    from tdsl.lower.emit.text import function_text
    from tdsl.lower.facts.contiguous import contiguous, environment_of

    shapes = {name: size for name, size in shapes.items() if name in kernel.dims}
    comments = []
    for name in _needed(kernel):
        if name not in shapes:
            shapes[name] = OPEN_SIZE
            comments.append(f"# {name} = {OPEN_SIZE}, assumed (--shape {name}=...)")
    values = _constants(kernel, consts)
    dtypes = {name: dtype for name, dtype in dtypes.items() if name in dict(kernel.dtype_choices)}
    for name, choices in kernel.dtype_choices:
        if name not in dtypes and len(choices) > 1:
            comments.append(f"# {name} = {choices[0]}, assumed (--dtype {name}=...)")
    _check_guards(kernel, environment_of(kernel, dims=shapes, dtypes=dtypes, consts=values))
    absent = _absent(kernel, without)
    binding, arguments = contiguous(kernel, dims=shapes, dtypes=dtypes, consts=values, absent=absent)
    source = lower(kernel, binding)
    _check_config(kernel, config, len(source.configs))
    if len(source.configs) < len(kernel.candidates):
        of = f"{len(source.configs)} of {len(kernel.candidates)} configs"
        comments.append(f"# {of}: of the others the 'if' does not hold here (--shape)")
    for index, candidate in enumerate(source.configs):
        if config in (None, index):
            options = {name: getattr(candidate, name) for name in LAUNCH_OPTIONS}
            settings = [*candidate.constants, *((name, value) for name, value in options.items() if value)]
            text = ", ".join(f"{name}={value}" for name, value in settings)
            programs = f"min({candidate.grid}, multiprocessors)" if candidate.persistent else candidate.grid
            comments.append(f"# config {index}: {text or 'nothing to choose'}; programs: {programs}")
    return "\n".join([*comments, function_text(source, arguments, slots=True).rstrip()])


def _standalone(
    kernel: ir.Kernel,
    shapes: Mapping[str, int],
    dtypes: Mapping[str, str],
    consts: Mapping[str, str],
    without: Set[str],
    config: int | None,
    index: str,
) -> str:
    """A Python file with the kernel and its launcher. Nothing is assumed but a dtype, which the launcher checks."""
    from tdsl.lower import lower
    from tdsl.lower.emit.standalone import chosen, file_text
    from tdsl.lower.facts.contiguous import contiguous, environment_of

    missing = [name for name in _needed(kernel) if name not in shapes]
    if missing:
        given = " ".join(f"{name}=..." for name in missing)
        raise UsageError(f"the text of '{kernel.name}' depends on {', '.join(missing)}: --shape {given}")
    values = _constants(kernel, consts)
    environment = environment_of(kernel, dims=shapes, dtypes=dtypes, consts=values)
    _check_guards(kernel, environment)
    binding, arguments = contiguous(
        kernel, dims=shapes, dtypes=dtypes, consts=values, absent=_absent(kernel, without), open_strides=True
    )
    # An integer that a caller passes is of any size.
    whole = any(isinstance(param, ir.Scalar) and param.type == "int" for param in kernel.params)
    binding = replace(binding, index_dtype="i64" if whole else index)
    _check_config(kernel, config, len(lower(kernel, binding).configs))
    kernel = chosen(kernel, binding, config)
    return file_text(kernel, lower(kernel, binding), binding, environment, arguments)


def _needed(kernel: ir.Kernel) -> Sequence[str]:
    """The dimensions whose sizes a kernel's text depends on."""
    from tdsl.lower import static_axes

    names: dict[str, None] = {}
    for param, axis in static_axes(kernel):
        dim = kernel.tensor(param).dims[axis]
        found = (dim.name, 1, 0) if isinstance(dim, ir.RestDim) else ir.solved_for(dim)
        assert found is not None, "a size that is needed has a name"
        names[found[0]] = None
    return [*names]


def _constants(kernel: ir.Kernel, consts: Mapping[str, str]) -> dict[str, bool | int | float | str]:
    values = {}
    for const in kernel.params:
        if isinstance(const, ir.Const):
            if const.name in consts:
                values[const.name] = _constant(const, consts[const.name])
            elif const.default is None:
                raise UsageError(
                    f"'{kernel.name}' needs a value for '{const.name}': --const {const.name}=..."
                )
    return values


def _absent(kernel: ir.Kernel, without: Set[str]) -> Set[str]:
    return {
        param.name for param in kernel.params if isinstance(param, ir.Tensor) and param.optional
    } & without


def _check_config(kernel: ir.Kernel, config: int | None, count: int) -> None:
    if config is not None and not 0 <= config < count:
        here = "" if count == len(kernel.candidates) else " whose 'if' holds here (--shape)"
        raise UsageError(f"--config {config}: '{kernel.name}' has {count}{here}, counted from 0")


def _check_guards(kernel: ir.Kernel, environment: Environment) -> None:
    """Raises TdslError for a guard that does not hold, as a call would; one of an open size may hold."""
    for guard in kernel.guards:
        try:
            holds = evaluate(guard, environment)
        except KeyError:
            continue
        if not holds:
            message = f"'{guard.span.text}' does not hold"
            raise TdslError([Diagnostic(code=Code.BAD_ARGUMENT, message=message, span=guard.span)])


def _choose(names: Sequence[str], wanted: str | None, file: str) -> Sequence[str]:
    if wanted is None:
        return names
    if wanted not in names:
        raise UsageError(f"--template {wanted}: {file} has {', '.join(names)}")
    return [wanted]


def _pairs(option: str, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{option} takes NAME=VALUE; got {text!r}")
        yield name, value


def _size(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UsageError(f"--shape {name}={text}: a size is a non-negative integer")
    return int(text)


def _known(option: str, noun: str, given: Iterable[str], known: Iterable[str]) -> None:
    known = list(dict.fromkeys(known))
    for name in given:
        if name not in known:
            near = suggest(name, known)
            there = f"did you mean '{near}'?" if near else f"there is {', '.join(known) or 'none'}"
            raise UsageError(f"{option} {name}: there is no {noun} '{name}'; {there}")


def _constant(const: ir.Const, text: str) -> bool | int | float | str:
    match const.type:
        case "bool" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "int" | "float":
            try:
                return int(text) if const.type == "int" else float(text)
            except ValueError:
                pass
        case "dtype" if text in DTYPES:
            return text
        case "str":
            return text
    kind = {"bool": "true or false", "int": "an int", "dtype": "a dtype, such as f32"}.get(
        const.type, f"a {const.type}"
    )
    raise UsageError(f"--const {const.name}={text}: '{const.name}' is {kind}")


def _dump(value: object, indent: int = 0, label: str = "") -> Iterator[str]:
    """A syntax tree, one node or value a line."""
    start = "    " * indent + (f"{label}: " if label else "")
    match value:
        case ast.Ident(name=name):
            yield f"{start}{name}"
        case ast.Node():
            yield f"{start}{type(value).__name__}"
            for field in fields(value):
                if field.name != "span":
                    yield from _dump(getattr(value, field.name), indent + 1, field.name)
        case ():
            yield f"{start}none"
        case tuple():
            yield f"{start.rstrip()}"
            for item in value:
                yield from _dump(item, indent + 1)
        case None:
            yield f"{start}none"
        case _:
            yield f"{start}{value!r}"


# package


def _package(options: argparse.Namespace) -> int:
    from tdsl import packaging

    output = Path(options.output)
    try:
        made = packaging.write(Path(options.source), output, options.name, options.version)
        folder = output / made.folder.name
        print(f"{folder}: {', '.join(made.templates)}; winners of {made.winners} tunings")
        if options.wheel:
            print(output / "dist" / packaging.wheel(output).name)
    except packaging.PackagingError as error:
        print(f"tdsl package: {error}", file=sys.stderr)
        return 1
    return 0


# demo


def _demo(options: argparse.Namespace) -> int:
    examples = _examples()
    names = sorted(path.name for path in examples.iterdir() if (path / f"{path.name}.tdsl").is_file())
    if options.name not in names:
        raise UsageError(f"demo {options.name}: there is {', '.join(names)}")
    import inspect

    from tdsl import testing

    testing.device()
    module = testing.load_module(examples / options.name / f"{options.name}.py")
    template = (examples / options.name / f"{options.name}.tdsl").read_text(encoding="utf-8")
    print(template)
    print(inspect.getsource(module.program))
    sys.stdout.flush()
    report = testing.assert_fused(module.program, module.inputs())
    print(report.kernel_text)
    print(report)
    return 0


def _examples() -> Path:
    """The examples: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "_examples"
    return inside if inside.is_dir() else package.parent / "examples"

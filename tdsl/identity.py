"""What a Python function means, as text that is the same in every process: what a compiled graph is kept under.

    def f(x):                      ->   the code of f, of `lib.scale` (a module of yours), and 2
        return lib.scale(x) * TWO       ... and then the same of what those use

Followed are functions, methods, classes, objects, containers and what a name reaches in a module of one's
own. Known by name and version are Python, PyTorch and installed packages. What can be neither followed nor
known gets a text that no other process has, so that nothing that another process compiled is ever taken for it.

What a function looks up in another way (`getattr` with a computed name, a file, a global that is assigned
after the function was given to us) is not seen.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import importlib.util
import os
import sys
import sysconfig
import types
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PROCESS = uuid.uuid4().hex
_KNOWN = {"torch", "triton", "numpy", "sympy"}  # by their versions, wherever they lie
_INSTALLED = tuple(
    os.path.realpath(path) + os.sep
    for path in {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    if path
)


@functools.cache
def own_digest() -> str:
    """Of tdsl itself: its version, and for whoever works on it, its text. A wheel has the same as a checkout."""
    whole = hashlib.sha256()
    package = Path(__file__).parent
    for file in sorted(package.rglob("*")):
        if file.suffix in (".py", ".lark") and file.relative_to(package).parts[0] != "_examples":
            whole.update(file.read_bytes())
    return whole.hexdigest()


def meaning(function: Callable[..., Any]) -> Iterator[str]:
    """The texts that together say what `function` does."""
    yield from _Walk().of(function, frozenset())


class _Walk:
    def __init__(self) -> None:
        self.seen: dict[int, int] = {}  # what was met before, by its number
        self.kept: list[object] = []  # so that no address is used twice
        self.modules: set[tuple[int, frozenset[str]]] = set()
        self.package: str | None = None  # of the function whose code is looked at

    def of(self, value: object, names: frozenset[str]) -> Iterator[str]:
        """`names`: all that the code which reaches `value` may ask it for."""
        if value is None or value is ... or isinstance(value, bool | int | float | complex | str | bytes):
            yield f"{type(value).__qualname__} {value!r}"
            return
        if isinstance(value, types.ModuleType):
            yield from self._module(value, names)
            return
        if isinstance(value, tuple | frozenset):
            # Python decides which equal ones are one object, and not always alike.
            yield type(value).__qualname__
            walk = _Walk() if isinstance(value, frozenset) else self
            items = ["\0".join(walk.of(item, names)) for item in value]
            yield from sorted(items) if isinstance(value, frozenset) else items
            return
        if id(value) in self.seen:
            yield f"again {self.seen[id(value)]}"
            return
        self.seen[id(value)] = len(self.seen)
        self.kept.append(value)
        yield type(value).__qualname__
        match value:
            case types.FunctionType():
                yield from self._function(value)
            case types.CodeType():
                yield from self._code(value)
            case types.MethodType():
                yield from self.of(value.__func__, names)
                yield from self.of(value.__self__, names)
            case type():
                yield from self._class(value)
            case staticmethod() | classmethod():
                yield from self.of(value.__func__, names)
            case property():
                yield from self.of((value.fget, value.fset), names)
            case functools.partial():
                yield from self.of((value.func, value.args, value.keywords), names)
            case list():
                for item in value:
                    yield from self.of(item, names)
            case set():
                yield from sorted("\0".join(_Walk().of(item, names)) for item in value)
            case dict() | types.MappingProxyType():
                for key, item in value.items():
                    yield from self.of(key, names)
                    yield from self.of(item, names)
            case _:
                yield from self._object(value, names)

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        if (known := _installed(function.__module__)) is not None:
            yield f"{known} {function.__module__}.{function.__qualname__}"
            return
        outer, self.package = self.package, function.__globals__.get("__package__")
        yield from self._code(function.__code__)
        self.package = outer
        names = _names(function.__code__)
        for name in sorted(names & function.__globals__.keys()):
            yield name
            yield from self.of(function.__globals__[name], names)
        builtins = function.__globals__.get("__builtins__", {})
        builtin = vars(builtins) if isinstance(builtins, types.ModuleType) else builtins
        if any(
            name not in function.__globals__ and name not in builtin
            for name in _global_names(function.__code__)
        ):
            yield _text(function.__globals__.get("__file__"))  # what is defined further down: all of the file
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            yield name
            try:
                content = cell.cell_contents
            except ValueError:
                yield _PROCESS  # not yet there
            else:
                yield from self.of(content, names)
        yield from self.of(function.__defaults__, names)
        yield from self.of(function.__kwdefaults__, names)
        yield from self.of(getattr(function, "__wrapped__", None), names)

    def _code(self, code: types.CodeType) -> Iterator[str]:
        yield code.co_code.hex()
        yield from code.co_names
        yield from code.co_varnames
        for constant in code.co_consts:
            yield from self.of(constant, frozenset())
        for name in _imported(code, self.package):
            module = sys.modules.get(name)
            if module is not None:
                yield from self._module(module, _names(code))
            elif _installed(name) is None:
                yield _text(_origin(name))

    def _module(self, module: types.ModuleType, names: frozenset[str]) -> Iterator[str]:
        if (known := _installed(module.__name__)) is not None:
            yield f"{known} {module.__name__}"
            return
        yield module.__name__
        if (id(module), names) in self.modules:
            return
        self.modules.add((id(module), names))
        for name in sorted(names & vars(module).keys()):
            yield name
            yield from self.of(vars(module)[name], names)

    def _class(self, cls: type) -> Iterator[str]:
        yield cls.__qualname__
        if (known := _installed(cls.__module__)) is not None:
            yield known
            return
        for base in cls.__bases__:
            yield from self.of(base, frozenset())
        for name, value in vars(cls).items():
            if name not in _NOTES:
                yield name
                yield from self.of(value, frozenset())

    def _object(self, value: Any, names: frozenset[str]) -> Iterator[str]:
        cls = type(value)
        name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
        state = dict(getattr(value, "__dict__", {}))
        for base in cls.__mro__:
            slots = vars(base).get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                if hasattr(value, slot):
                    state[slot] = getattr(value, slot)
        if cls.__module__ == "tdsl.api":
            value.known = True  # whoever asked keeps things under the operator that it has now
            yield repr(value)
        elif cls.__qualname__ in _SPELLED and _installed(cls.__module__):
            yield repr(value)
        elif cls.__module__.partition(".")[0] == "torch" and hasattr(value, "storage_offset"):
            # A tensor that a reference holds is data of the compiled graph; PyTorch's cache looks at it.
            yield f"{value.dtype} {list(value.shape)}"
        elif hasattr(value, "tobytes") and hasattr(value, "dtype"):
            yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
        elif isinstance(value, types.BuiltinFunctionType):
            if not isinstance(value.__self__, types.ModuleType | None):
                yield from self.of(value.__self__, names)
            yield f"{module}.{name}"
        elif isinstance(value, _DESCRIPTORS):
            yield str(name)
        elif isinstance(name, str) and isinstance(module, str) and _installed(module) is not None:
            yield f"{_installed(module)} {module}.{name}"
        elif state:
            yield from self.of(cls, names)
            yield from self.of(state, names)
        else:
            yield _PROCESS


_DESCRIPTORS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
_SPELLED = {
    "dtype",
    "device",
    "Size",
    "layout",
    "memory_format",
    "OpOverload",
    "OpOverloadPacket",
    "range",
    "slice",
}
# Python's own notes on a class, which differ without the class's being another one.
_NOTES = {
    "__dict__", "__weakref__", "__doc__", "__annotations__", "__module__", "__firstlineno__",
    "__static_attributes__", "_abc_impl",
}  # fmt: skip


def _names(code: types.CodeType) -> frozenset[str]:
    """All names that a function's code asks for, and the code within it."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return frozenset(found)


def _imported(code: types.CodeType, package: str | None) -> Iterator[str]:
    """The modules that the code imports when it runs, by their full names."""
    steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    for level, _, step in zip(steps, steps[1:], steps[2:], strict=False):
        if step.opname == "IMPORT_NAME":
            dots = level.argval if isinstance(level.argval, int) else 0
            try:
                yield importlib.util.resolve_name("." * dots + str(step.argval), package)
            except ImportError:
                yield str(step.argval)


def _origin(module: str) -> str | None:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return found.origin if found else None


def _global_names(code: types.CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL":
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


@functools.cache
def _installed(module: str | None) -> str | None:
    """What stands for a module that is not the user's own; None for one that is."""
    top = (module or "").partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names - {"__main__"}:
        return f"python {sys.version}"
    found = sys.modules.get(top)
    if top in _KNOWN and found is not None:
        return f"{top} {getattr(found, '__version__', '')}"
    file = getattr(found, "__file__", None)
    if found is None or file is None or not os.path.realpath(file).startswith(_INSTALLED):
        return None
    return f"{top} {getattr(found, '__version__', '')} {_text(_file(module or ''))}"


def _file(module: str) -> str | None:
    found = sys.modules.get(module)
    return None if found is None else getattr(found, "__file__", None)


@functools.cache
def _text(file: str | None) -> str:
    """A file's contents, in short; of what has none that can be read, what no other process says."""
    try:
        return hashlib.sha256(Path(file or "").read_bytes()).hexdigest()
    except OSError:
        return _PROCESS


__all__ = ["meaning"]

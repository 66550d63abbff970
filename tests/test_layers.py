"""The direction of imports: wiring may import passes, passes data; nothing goes back up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tdsl
from tests.house import modules, spellers_of_triton

PACKAGE = Path(tdsl.__file__).parent
DATA = {
    "builtins",
    "foreign",
    "options",
    "source",
    "diagnostics",
    "types",
    "version",
    "ast",
    "ir",
    "ir_text",
    "ir_verify",
    "refusal",
    "signature",
}
PASSES = {"grammar", "check", "lower"}
ALLOWED = {
    "source": set(),
    "types": set(),
    "builtins": set(),
    "options": set(),
    "version": set(),
    "foreign": {"builtins"},
    "diagnostics": {"source"},
    "ast": {"source"},
    "ir": {"source", "types"},
    "refusal": {"source"},
    "identity": set(),
    "ir_text": {"ir"},
    "ir_verify": {"ir", "options"},
    "signature": {"builtins", "source", "diagnostics", "types", "ir"},
    "grammar": {"builtins", "foreign", "options", "source", "diagnostics", "types", "ast"},
    "check": DATA,
    "lower": DATA - {"ast"},
    "pipeline": DATA | PASSES,
    "gradients": DATA | PASSES,
    "autocast": DATA | PASSES,
    "operators": DATA | PASSES | {"identity", "autocast", "gradients"},
    "packaged": DATA | PASSES | {"identity"},
    "api": DATA | PASSES | {"pipeline", "identity", "autocast", "gradients", "operators", "packaged"},
    "packaging": DATA | PASSES | {"identity", "packaged", "api"},
    "replacement": DATA | PASSES | {"identity", "operators", "api"},
    "testing": DATA | PASSES | {"pipeline", "operators"},
    "cli": DATA | PASSES | {"pipeline", "packaging", "testing"},
    "__main__": {"cli"},
    "__init__": {"api", "diagnostics", "refusal", "replacement", "version"},
}
HEAVY = {"torch", "triton", "sympy"}
MAY_BE_HEAVY = (
    *("api.py", "autocast.py", "gradients.py", "operators.py", "packaged.py", "testing.py"),
    *("lower/inductor/", "lower/runtime/", "replacement/"),
)
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imported(file: str) -> Iterator[str]:
    """Every module that a file imports, inside functions too, by its full name."""
    package = ("tdsl", *Path(file).parent.parts)
    for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "tdsl":
                yield from (f"tdsl.{alias.name}" for alias in node.names)
            else:
                yield module


def part(name: str) -> str:
    return Path(name).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES)
def test_imports_point_downwards(file: str) -> None:
    this = part(file)
    for name in imported(file):
        if name.startswith("tdsl."):
            other = name.split(".")[1]
            assert other == this or other in ALLOWED[this], f"{file} imports {name}"


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(MAY_BE_HEAVY)])
def test_only_the_last_stage_imports_torch(file: str) -> None:
    for name in imported(file):
        assert name.split(".")[0] not in HEAVY, f"{file} imports {name}"


@pytest.mark.parametrize("file", [file for file in FILES if file != "lower/runtime/interpreter.py"])
def test_only_the_interpreter_needs_numpy(file: str) -> None:
    for name in imported(file):
        assert name.split(".")[0] != "numpy", f"{file} imports {name}"


# Within `lower`: what each folder may import of the others.
FOLDERS = {
    "facts": set(),
    "emit": {"facts"},
    "runtime": set(),
    "inductor": {"facts", "emit", "runtime"},
    "": {"facts", "emit"},
}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("lower/")])
def test_lowering_has_a_direction(file: str) -> None:
    here = Path(file).parts[1] if len(Path(file).parts) > 2 else ""
    for name in imported(file):
        if name.startswith("tdsl.lower."):
            there = name.split(".")[2]
            assert there == here or there in FOLDERS[here], f"{file} imports {name}"


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("lower/inductor/fusion/")])
def test_fusion_is_decided_by_records(file: str) -> None:
    """It knows nodes of the scheduler and code of Triton no more than it knows who asks."""
    for name in imported(file):
        assert not name.startswith(("triton", "tdsl.lower.emit")), f"{file} imports {name}"
        below = name.removeprefix("tdsl.lower.inductor.")
        assert below == name or below.startswith(("fusion", "compat")), f"{file} imports {name}"


def test_triton_is_spelled_by_emission() -> None:
    assert not spellers_of_triton(modules(PACKAGE.parent))


# Fusion's; those that every call needs; and what kernels' own modules need, in compile workers too, which do without the
# compiler.
PRIVATE = ("lower/inductor/compat/names.py", "lower/inductor/compat/call_names.py", "lower/runtime/names.py")


@pytest.mark.parametrize("file", [file for file in FILES if file not in PRIVATE])
def test_private_names_live_in_three_modules(file: str) -> None:
    for name in imported(file):
        assert not name.startswith(("torch._inductor", "torch._dynamo", "triton.runtime")), f"{file}: {name}"

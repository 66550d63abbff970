"""`tdsl package`: a module or folder of templates as a package that imports without parsing, and a wheel of it.

    kernels.py, matmul.tdsl    ->    OUT/pyproject.toml
                                     OUT/kernels/__init__.py    kernels.py as it is
                                     OUT/kernels/matmul.tdsl
                                     OUT/kernels/_tdsl/         what `packaged` reads

Python files are copied and not changed. What is written is imported once more before it counts, in a process that has
no parser.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tdsl.version import __version__

if TYPE_CHECKING:
    from tdsl.api import Template

LEFT_OUT = shutil.ignore_patterns("__pycache__", "_tdsl", ".*")

TAKEN = sys.stdlib_module_names | {"torch", "triton", "tdsl", "lark", "numpy"}

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "{version}"
description = "Kernel templates: {templates}"
requires-python = ">=3.10"
dependencies = ["tdsl>={tdsl}"]

[tool.hatch.build]
ignore-vcs = true

[tool.hatch.build.targets.wheel]
packages = ["{name}"]
"""

# Imports every module of a package where nothing can be parsed.
PROBE = """
import importlib, pkgutil, sys
sys.modules["lark"] = None
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if module.name.rpartition(".")[2] != "__main__":
        importlib.import_module(module.name)
"""


class PackagingError(Exception):
    """What cannot be packaged, and what to do."""


@dataclass(frozen=True)
class Packaged:
    """What was written: the package's folder, the names of its templates, and how many winners of tunings."""

    folder: Path
    templates: tuple[str, ...]
    winners: int


def write(source: Path, output: Path, name: str | None = None, version: str = "0.1.0") -> Packaged:
    """Packages the templates in `source`, a Python file or a folder of them, as `output/NAME`.

    Raises PackagingError, and TdslError for a template that is wrong.
    """
    source = source.resolve()
    if not source.exists():
        raise PackagingError(f"{source} does not exist")
    name = name or source.stem
    if not name.isidentifier():
        raise PackagingError(f"'{name}' is no name of a package: give one with --name")
    if name in TAKEN or name in sys.modules:
        raise PackagingError(
            f"there is a module '{name}' already, which it would hide: give another name with --name"
        )
    folder = output.resolve() / name
    if folder == source or source in folder.parents or folder in source.parents:
        raise PackagingError(f"{folder} and {source} lie within one another: give another folder with -o")
    if folder.exists() and not (folder / "_tdsl" / "package.json").is_file():
        raise PackagingError(
            f"{folder} exists, and tdsl did not write it: remove it, or give another folder with -o"
        )
    shutil.rmtree(folder, ignore_errors=True)
    try:
        if source.is_dir():
            shutil.copytree(source, folder, ignore=LEFT_OUT)
            if not (folder / "__init__.py").exists():
                (folder / "__init__.py").write_text(
                    f'"""Kernel templates, packaged by tdsl {__version__}."""\n'
                )
        else:
            _copy_module(source, folder, name)
        templates = _templates(folder, name)
        winners = _describe(folder, templates)
        names = tuple(sorted({template.template.name for template in templates}))
        pyproject = PYPROJECT.format(name=name, version=version, templates=", ".join(names), tdsl=__version__)
        (folder.parent / "pyproject.toml").write_text(pyproject, encoding="utf-8")
        _probe(folder, name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Packaged(folder, names, winners)


def wheel(output: Path) -> Path:
    """Builds the wheel of what `write` left in `output`, with the backend that its pyproject.toml names."""
    if importlib.util.find_spec("hatchling") is None:
        raise PackagingError("a wheel is built by hatchling: pip install 'tdsl[wheel]'")
    shutil.rmtree(output / "dist", ignore_errors=True)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(build, cwd=output, capture_output=True, text=True)
    if done.returncode:
        raise PackagingError(f"hatchling failed:\n{done.stderr}")
    (made,) = (output / "dist").glob("*.whl")
    return made


def _copy_module(source: Path, folder: Path, name: str) -> None:
    """The module as a package's `__init__`, and the files of its templates where it looks for them."""
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise PackagingError(f"{source} is no Python file, and no folder")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    folder.mkdir(parents=True)
    shutil.copy(source, folder / "__init__.py")
    for template in _templates_in([module]):
        text = Path(template.template.source.name).resolve()
        if text.suffix == ".tdsl":  # else its text is in the module
            if not text.is_relative_to(source.parent):
                raise PackagingError(f"{source.name} reads {text}, which is not below its folder")
            copied = folder / text.relative_to(source.parent)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(text, copied)


def _templates(folder: Path, name: str) -> list[Template]:
    """The templates of a package that was just written, each once."""
    sys.path.insert(0, str(folder.parent))
    importlib.invalidate_caches()
    try:
        package = importlib.import_module(name)
        modules = [package, *_submodules(package)]
    finally:
        sys.path.remove(str(folder.parent))
        for loaded in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
            del sys.modules[loaded]
    found = [*_templates_in(modules)]
    if not found:
        raise PackagingError(f"{name} has no template: nothing is decorated with @tdsl.template")
    for template in found:
        text = Path(template.template.source.name).resolve()
        if text.suffix == ".tdsl" and not text.is_relative_to(folder):
            raise PackagingError(
                f"'{template.template.name}' is read from {text}, which is not in the package"
            )
    return found


def _submodules(package: ModuleType) -> Iterator[ModuleType]:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.rpartition(".")[2] != "__main__":
            yield importlib.import_module(module.name)


def _templates_in(modules: Sequence[ModuleType]) -> Iterator[Template]:
    # Not before the modules are there: one of them may switch Triton's interpreter on, which must be before Triton is.
    from tdsl.api import Template

    seen: set[int] = set()
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Template) and id(value) not in seen:
                seen.add(id(value))
                yield value


def _describe(folder: Path, templates: Sequence[Template]) -> int:
    """Writes what `packaged` reads; how many winners there are."""
    from tdsl import packaged
    from tdsl.identity import own_digest

    described = folder / packaged.FOLDER
    described.mkdir()
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    for template in templates:
        kernel = template.template
        text = packaged.text_digest(kernel.source)
        data = packaged.written(kernel)
        file = f"{kernel.name}-{text[:16]}.ir"
        (described / file).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        entries[kernel.name, text] = {"template": kernel.name, "text": text, "file": file, "sha256": sha256}
    tuning = packaged.tuning_of(template.template for template in templates)
    manifest = {
        "tdsl": __version__,
        "tdsl_digest": own_digest(),
        "kernels": [entries[key] for key in sorted(entries)],
    }
    for name, content in ((packaged.WINNERS, tuning), (packaged.MANIFEST, manifest)):
        (described / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return len(tuning["winners"])


def _probe(folder: Path, name: str) -> None:
    path = os.pathsep.join([str(folder.parent), *filter(None, sys.path)])
    with tempfile.TemporaryDirectory() as cache:  # what was parsed on this machine before does not count
        settings = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "TORCHINDUCTOR_CACHE_DIR": cache}
        done = subprocess.run(
            [sys.executable, "-c", PROBE, name],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            cwd=folder.parent,
        )
    if "import of lark halted" in done.stderr:
        raise PackagingError(
            "a template is made that no module has a name for, and would be parsed: give it one"
        )
    if done.returncode:
        raise PackagingError(f"what was written cannot be imported:\n{done.stderr}")

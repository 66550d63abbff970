"""The wheel, where nothing is installed but what it says that it needs; and with its extra `interpreter`."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tdsl.identity import own_digest
from tdsl.version import __version__

ROOT = Path(__file__).parent.parent

CORE = {"torch", "triton", "lark", "typing-extensions"}

START = """
import importlib.util, sys
sys.path[1:1] = sys.argv[1:]
assert not importlib.util.find_spec("pytest")
from tdsl import cli
examples = cli._examples()
assert examples.is_relative_to(sys.argv[1]), examples
file = str(examples / "axpy" / "axpy.tdsl")
assert cli.run(["check", file]) == cli.run(["show", file]) == 0
"""

# A template's operator is made, called and compiled: to C++, as nothing is interpreted.
COMPILED = """
import tdsl, torch
@tdsl.template(file)
def axpy(y, x, alpha):
    y.add_(x, alpha=alpha)
@tdsl.template(source="template double(x: f32[N]) -> y: f32[N]:\\n    for n in grid(N by 64):\\n        store y[n] = 2 * load x[n]\\n")
def double(x):
    return x * 2
def program(x):
    y = x + 1
    axpy(y, torch.sin(x), 3.0)
    return double(y) - 1
x = torch.arange(70.0)
expected = 2 * (x + 1 + 3 * torch.sin(x)) - 1
torch.testing.assert_close(program(x), expected)
torch.testing.assert_close(torch.compile(program, fullgraph=True)(x), expected)
import tdsl.lower.inductor.kernel.generation
assert "numpy" not in sys.modules
"""

# What it writes, where it is read from an installed package; and that it is the tdsl that a checkout is.
SHIPPED = """
import tdsl.identity
assert tdsl.identity.own_digest() == DIGEST
assert cli.run(["show", file, "--standalone", "-o", "alone.py"]) == 0
import alone, pathlib
pathlib.Path("sums.py").write_text("import tdsl\\n@tdsl.template('axpy.tdsl')\\ndef axpy(y, x, alpha):\\n    y.add_(x, alpha=alpha)\\n")
pathlib.Path("axpy.tdsl").write_text(pathlib.Path(file).read_text())
assert cli.run(["package", "sums.py", "-o", "out"]) == 0
"""

DEMO = """
sys.exit(cli.run(["demo", "axpy"]))
"""


def add_needed(requirements: Sequence[str], found: dict[str, importlib.metadata.Distribution]) -> None:
    """What these distributions are and need in turn, without their extras."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.name not in found and (
            requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ):
            found[requirement.name] = importlib.metadata.distribution(requirement.name)
            add_needed(found[requirement.name].requires or (), found)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is in the wheel."""
    tmp_path = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = tmp_path.glob("tdsl-*.whl")
    zipfile.ZipFile(file).extractall(tmp_path / "files")
    return tmp_path / "files"


def requirements(wheel: Path, extra: str) -> list[Requirement]:
    (metadata,) = wheel.glob("*.dist-info")
    texts = importlib.metadata.PathDistribution(metadata).requires or ()
    return [
        requirement
        for requirement in map(Requirement, texts)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
    ]


def run(
    wheel: Path, tmp_path: Path, extra: str, probe: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """The probe, where there is the wheel, what it needs, and nothing else."""
    needed: dict[str, importlib.metadata.Distribution] = {}
    add_needed([each.name for each in requirements(wheel, extra)], needed)
    others = tmp_path / "others"
    others.mkdir(parents=True)
    for distribution in needed.values():
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (others / name).exists():
                (others / name).symlink_to(str(distribution.locate_file(name)))
    # -S: without the folder in which everything is installed.
    command = [sys.executable, "-S", "-c", START + probe, str(wheel), str(others)]
    environ = {**{k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}, **environ}
    return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)


def test_the_core_is_four_packages(wheel: Path) -> None:
    assert {each.name for each in requirements(wheel, "")} == CORE
    assert {each.name for each in requirements(wheel, "interpreter")} == {*CORE, "numpy"}
    assert {each.name for each in requirements(wheel, "dev")} > {*CORE, "numpy"}


def test_the_core_compiles(wheel: Path, tmp_path: Path) -> None:
    done = run(wheel, tmp_path, "", COMPILED)
    assert done.returncode == 0, done.stderr


def test_it_writes_what_is_shipped(wheel: Path, tmp_path: Path) -> None:
    done = run(wheel, tmp_path, "", f"DIGEST = {own_digest()!r}\n{SHIPPED}")
    assert done.returncode == 0, done.stderr
    assert "out/sums: axpy; winners of 0 tunings" in done.stdout


def test_it_is_typed_and_has_a_version(wheel: Path) -> None:
    assert (wheel / "tdsl" / "py.typed").is_file()
    (metadata,) = wheel.glob("*.dist-info")
    assert importlib.metadata.PathDistribution(metadata).version == __version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert changes.partition("\n## ")[2].startswith(f"{__version__}\n")  # the newest


def test_the_core_says_what_the_interpreter_needs(wheel: Path, tmp_path: Path) -> None:
    done = run(wheel, tmp_path, "", DEMO, TRITON_INTERPRET="1")
    assert done.returncode == 1
    assert "error[missing-package]: Triton's interpreter needs NumPy" in done.stderr
    assert "pip install 'tdsl[interpreter]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_extra_interprets(wheel: Path, tmp_path: Path) -> None:
    done = run(wheel, tmp_path, "interpreter", DEMO, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    assert "; largest difference from eager" in done.stdout

"""`tdsl package`: what it writes imports where there is no parser and none of the sources, and runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import tdsl
from tdsl import cli, packaging

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

MODULE = '''
import tdsl

@tdsl.template("texts/add.tdsl")
def add(x, y):
    return x + y

@tdsl.template(source="""
template double(x: f32[N]) -> y: f32[N]:
    for n in grid(N by 64):
        store y[n] = 2 * load x[n]
""")
def double(x):
    return x * 2
'''
ADD = "template add(x: f32[N], y: f32[N]) -> z: f32[N]:\n    for n in grid(N by 64):\n        store z[n] = load x[n] + load y[n]\n"


def python(
    program: str, *arguments: str | Path, path: Path, cache: Path, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A program in a process that finds tdsl and what is in `path`."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(path), str(ROOT), str(ROOT / "tests" / "inductor")]),
            "TORCHINDUCTOR_CACHE_DIR": str(cache),
            **environment,
        },
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def package(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    """What the command prints, in a process of its own as a shell's is."""
    done = subprocess.run(
        [sys.executable, "-m", "tdsl", "package", *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TORCHINDUCTOR_CACHE_DIR": str(cwd / "cache"),
            **environment,
        },
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "sums.py").write_text(MODULE)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "add.tdsl").write_text(ADD)
    return tmp_path / "sums.py"


RUN = """
import sys
sys.modules["lark"] = None
import torch
from kernels.matmul import matmul
from kernels.softmax import softmax
def compare(got, want):
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
torch.manual_seed(0)
for m, k, n in (70, 33, 50), (5, 64, 7):
    a, b = torch.randn(m, k), torch.randn(k, n)
    compare(matmul(a, b), a @ b)
    compare(softmax(a), a.softmax(-1))
    program = torch.compile(lambda a, b: softmax(matmul(a, torch.sigmoid(b))) + 1, fullgraph=True)
    compare(program(a, b), (a @ torch.sigmoid(b)).softmax(-1) + 1)
assert matmul.template.source.name == sys.argv[1]
assert "tdsl.grammar.parser" not in sys.modules
"""


def test_two_examples_run_where_nothing_can_be_parsed(tmp_path: Path) -> None:
    source = tmp_path / "kernels"
    source.mkdir()
    for name in "matmul", "softmax":
        for file in (EXAMPLES / name).glob("*.*"):
            shutil.copy(file, source)
    said = package("kernels", "-o", "out", "--wheel", cwd=tmp_path)
    assert said == (
        "out/kernels: matmul, softmax, softmax_backward; winners of 0 tunings\nout/dist/kernels-0.1.0-py3-none-any.whl\n"
    )
    shutil.rmtree(source)
    (wheel,) = (tmp_path / "out" / "dist").glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    shutil.rmtree(tmp_path / "out")
    (metadata,) = installed.glob("*.dist-info/METADATA")
    told = Parser().parsestr(metadata.read_text())
    assert told["Requires-Dist"] == f"tdsl>={tdsl.__version__}" and told["Requires-Python"] == ">=3.10"
    text = installed / "kernels" / "matmul.tdsl"
    done = python(RUN, text, path=installed, cache=tmp_path / "fresh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # Nothing was kept as parsed, either.
    assert not (tmp_path / "fresh" / "tdsl").exists()


SUMS = """
import logging, sys
logging.basicConfig(format="%(message)s", level=logging.WARNING)
if "blocked" in sys.argv:
    sys.modules["lark"] = None
import torch, importlib
sums = importlib.import_module(sys.argv[1])
x = torch.arange(70.0)
assert torch.equal(sums.add(x, x), sums.double(x)) and torch.equal(sums.double(x), 2 * x)
print("tdsl.grammar.parser" in sys.modules)
"""


def run_sums(tmp_path: Path, *arguments: str, name: str = "sums") -> tuple[str, str]:
    done = python(SUMS, name, *arguments, path=tmp_path / "out", cache=tmp_path / "fresh", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def written(tmp_path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (tmp_path / "out" / "sums" / "_tdsl").iterdir()}


def test_a_module_becomes_a_package(tmp_path: Path, module: Path) -> None:
    assert package("sums.py", "-o", "out", cwd=tmp_path) == "out/sums: add, double; winners of 0 tunings\n"
    assert (tmp_path / "out" / "sums" / "__init__.py").read_text() == MODULE
    first = written(tmp_path)
    package("sums.py", "-o", "out", cwd=tmp_path, PYTHONHASHSEED="7")  # over what is there
    assert written(tmp_path) == first
    shutil.rmtree(module.parent / "texts")
    module.unlink()
    assert run_sums(tmp_path, "blocked") == ("False", "")
    # Within another package, and under another name.
    (tmp_path / "out" / "whole").mkdir()
    (tmp_path / "out" / "whole" / "__init__.py").touch()
    (tmp_path / "out" / "sums").rename(tmp_path / "out" / "whole" / "part")
    assert run_sums(tmp_path, "blocked", name="whole.part") == ("False", "")


@pytest.mark.full
def test_what_was_changed_is_parsed(tmp_path: Path, module: Path) -> None:
    package("sums.py", "-o", "out", cwd=tmp_path)
    folder = tmp_path / "out" / "sums"
    manifest = folder / "_tdsl" / "package.json"
    before = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(before) | {"tdsl": "0.0.9", "tdsl_digest": "x"}))
    out, log = run_sums(tmp_path)
    assert out == "True"
    assert log.splitlines() == [
        f"{folder} was packaged by tdsl 0.0.9, and this is tdsl {tdsl.__version__}: its templates are parsed again, "
        "and tuned again"
    ]
    manifest.write_text(before)
    (stored,) = (folder / "_tdsl").glob("double-*.ir")
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + b"x")
    shutil.rmtree(tmp_path / "fresh")
    out, log = run_sums(tmp_path)
    assert out == "True" and "is not what was packaged: <string> is parsed" in log
    stored.write_bytes(whole)
    (folder / "texts" / "add.tdsl").write_text(ADD.replace("by 64", "by 32"))
    shutil.rmtree(tmp_path / "fresh")
    assert run_sums(tmp_path) == ("True", "")


# A winner, for a GPU that need not be there: what a process stored is found by another one that only has the package.

STORE = """
import tuned
(text,) = tuned.texts(tuned.generate()[0])
made = tuned.load(text)
made.save_cache_hook(made.configs[2], 5)
"""
FOUND = """
import tuned, sys
(text,) = tuned.texts(tuned.generate()[0])
assert len(tuned.load(text).configs) == 4
import mm
made = tuned.load(text)
print(*(config.kwargs["BLOCK_M_"] for config in made.configs), *(config.kwargs["BLOCK_N_"] for config in made.configs))
"""


def test_winners_travel(tmp_path: Path) -> None:
    compiled = {"TRITON_INTERPRET": "0"}
    done = python(STORE, path=tmp_path, cache=tmp_path / "cache", cwd=tmp_path, **compiled)
    assert done.returncode == 0, done.stderr
    text = (
        "import tdsl\nimport tuned\n\n@tdsl.template(source=tuned.SOURCE)\ndef mm(A, B):\n    return A @ B\n"
    )
    source = (ROOT / "tests" / "inductor" / "tuned.py").read_text().split('SOURCE = """')[1].split('"""')[0]
    text = f'import tdsl\n\n@tdsl.template(source="""{source}""")\ndef mm(A, B):\n    return A @ B\n'
    (tmp_path / "mm.py").write_text(text)
    assert package("mm.py", "-o", "out", cwd=tmp_path, **compiled) == "out/mm: mm; winners of 1 tunings\n"
    tuning = json.loads((tmp_path / "out" / "mm" / "_tdsl" / "tuning.json").read_text())
    (winner,) = tuning["winners"]
    assert (winner["template"], winner["device"], winner["sizes"]) == ("mm", "NVIDIA H100", {})
    done = python(FOUND, path=tmp_path / "out", cache=tmp_path / "fresh", cwd=ROOT, **compiled)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "64 32\n"


def test_what_cannot_be_packaged(tmp_path: Path, module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str | Path) -> str:
        assert cli.run(["package", *map(str, arguments)]) == 1
        return capsys.readouterr().err

    out = tmp_path / "out"
    assert "does not exist" in refused(tmp_path / "nothing", "-o", out)
    assert "is no name of a package" in refused(module, "-o", out, "--name", "a-b")
    assert "there is a module 'json' already" in refused(module, "-o", out, "--name", "json")
    assert "lie within one another" in refused(tmp_path, "-o", tmp_path, "--name", "out")
    (out / "sums").mkdir(parents=True)
    assert "tdsl did not write it" in refused(module, "-o", out)
    assert (out / "sums").is_dir()
    (tmp_path / "empty.py").write_text("X = 1\n")
    assert "empty has no template" in refused(tmp_path / "empty.py", "-o", out)
    assert not (out / "empty").exists()
    wrong = tmp_path / "wrong.py"
    wrong.write_text(MODULE.replace("x[n]\n", "x[nn]\n"))
    assert "error[unknown-name]" in refused(wrong, "-o", out)
    hidden = tmp_path / "hidden.py"
    hidden.write_text(
        MODULE.replace("@tdsl.template(source", "def of(f): return [f]\n@of\n@tdsl.template(source")
    )
    assert "no module has a name for" in refused(hidden, "-o", out)
    far = tmp_path / "far"
    far.mkdir()
    (far / "far.py").write_text(MODULE.replace("texts/", "../texts/"))
    assert "which is not below its folder" in refused(far / "far.py", "-o", out)


def test_without_hatchling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packaging.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(packaging.PackagingError, match=r"pip install 'tdsl\[wheel\]'"):
        packaging.wheel(tmp_path)

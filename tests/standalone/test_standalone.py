"""`tdsl show --standalone`: files that run where there is no tdsl, and say what does not fit."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import tdsl
from tdsl import cli, testing
from tests.standalone.cases import CASES

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OWN = str(HERE / "templates.tdsl")


def options_of(template: str) -> list[str]:
    """Which file it is in, and where there are several, its name."""
    folder, _, name = template.rpartition("/")
    if folder == "own":
        return [OWN, "--template", name]
    path = f"tests/{template}/kernel.tdsl" if folder else f"examples/{name}/{name}.tdsl"
    return [str(ROOT / path)]


def write(output: Path, *options: str) -> None:
    assert cli.run(["show", "--standalone", "-o", str(output), *options]) == 0


def run(*command: str, interpreted: bool = True) -> subprocess.CompletedProcess[str]:
    """In a process that cannot import tdsl: -I keeps PYTHONPATH and this folder away."""
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpreted else "0"}
    return subprocess.run([sys.executable, "-I", *command], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standalone")
    for name, case in CASES.items():
        write(folder / f"{name}.py", *options_of(case.template), *shlex.split(case.options))
    return folder


def outcomes(*command: str, interpreted: bool) -> dict[str, str]:
    done = run(str(HERE / "cases.py"), *command, interpreted=interpreted)
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def test_run_without_tdsl(files: Path) -> None:
    """In Triton's interpreter, or on a GPU where there is one."""
    found = outcomes(str(files), interpreted=not torch.cuda.is_available())
    assert found == dict.fromkeys(CASES, "right")


# Each way of writing something down; the rest takes a minute.
COMPILED = (
    "add_rows",
    "axpy",
    "double",
    "functions",
    "matmul_subtiles",
    "parts",
    "persistent_tuned",
    "windows",
)


@pytest.mark.parametrize(
    "names", [COMPILED, pytest.param(tuple(CASES), marks=pytest.mark.full)], ids=["few", "all"]
)
def test_compile_for_a_gpu(files: Path, tmp_path: Path, names: Sequence[str]) -> None:
    for name in names:
        (tmp_path / f"{name}.py").symlink_to(files / f"{name}.py")
    assert outcomes(str(tmp_path), "compile", interpreted=False) == dict.fromkeys(names, "right")


def test_random_numbers_are_those_of_the_template(tmp_path: Path) -> None:
    write(tmp_path / "numbers.py", OWN, "--template", "numbers")
    alone = testing.load_module(tmp_path / "numbers.py")
    template = tdsl.template(OWN, name="numbers")(_numbers)
    seed = torch.arange(70, device=testing.device()) % 3
    assert all(torch.equal(*pair) for pair in zip(alone.numbers(seed), template(seed), strict=True))


def _numbers(seed): ...


def test_each_example_and_golden_is_run() -> None:
    examples = {path.parent.name for path in ROOT.glob("examples/*/*.tdsl")}
    goldens = {f"golden/{path.parent.name}" for path in ROOT.glob("tests/golden/*/kernel.tdsl")}
    # In bf16 alone, with which Triton's interpreter does not calculate; and a softmax of Triton's along another dimension
    # than the first, whose shapes Triton 3.7 does not fit together.
    left_out = {"golden/helper", "golden/lanes"}
    run = {case.template for case in CASES.values() if not case.template.startswith("own/")}
    assert run == (examples | goldens) - left_out


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    try:
        assert cli.run(["show", "--standalone", *options]) == 1
    except SystemExit as stopped:
        assert stopped.code == 2
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err


def test_what_cannot_be_written_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "--template, one of functions, numbers" in refused(capsys, OWN)
    assert "depends on N: --shape N=..." in refused(capsys, OWN, "--template", "along")
    assert "needs a value for 'out'" in refused(capsys, OWN, "--template", "windows")
    assert "has 4, counted from 0" in refused(capsys, OWN, "--template", "parts", "--config", "4")
    assert "descriptors (tma=1)" in refused(capsys, *options_of("golden/tma"), "--config", "1")
    assert "'M % 2 == 0 and M >= 4' does not hold" in refused(
        capsys, OWN, "--template", "parts", "--shape", "M=3"
    )
    assert "No such file or directory" in refused(
        capsys, OWN, "--template", "ranks", "-o", str(tmp_path / "no" / "f.py")
    )
    names = tmp_path / "names.tdsl"
    names.write_text(
        "template above(x: f32[N]) -> y: f32[N]:\n    for n in grid(N):\n        store y[n] = where(load x[n] > 1.5, 1, 0)\n"
        "template f(torch: f32[N]) -> y: f32[N]:\n    for n in grid(N):\n        store y[n] = load torch[n]\n"
    )
    assert "has a 'above' of its own" in refused(capsys, str(names), "--template", "above")
    assert "'torch' is a name that a standalone file has" in refused(capsys, str(names), "--template", "f")


def test_the_same_options_give_the_same_text(tmp_path: Path) -> None:
    for name in "one", "two":
        write(tmp_path / name, OWN, "--template", "functions")
    assert (tmp_path / "one").read_text() == (tmp_path / "two").read_text()


WRONG = """
import sys
sys.modules["tdsl"] = None
sys.path.insert(0, sys.argv[1])
import torch
from parts import parts
from add_rows import add_rows
from windows import windows
from narrow import narrow
from layer_norm import layer_norm
from matmul import matmul
from small import ranks
def says(what, function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        assert what in str(error), str(error)
        print(type(error).__name__)
    else:
        raise AssertionError(f"nothing said of {what}")
x, q = torch.randn(6, 5), torch.randn(2, 5)
says("'x' must be a strided tensor, f32[M, N]; got 3", parts, 3, q, 1)
says("'x' must be f32[M, N], of torch.float32; got torch.float64[6, 5]", parts, x.double(), q, 1)
says("'x' must have 2 dimensions, f32[M, N]; got torch.float32[6]", parts, x[:, 0], q, 1)
says("'q' must have shape [M // 4 + 1, N] = [2, 5]; got [2, 4]", parts, x, q[:, 1:], 1)
says("'M % 2 == 0 and M >= 4' does not hold: M = 5", parts, x[:5], q, 1)
says("'k' must be an int of 64 bits; got 1.0", parts, x, q, 1.0)
says("'q' must be on cpu, as 'x' is; got meta", parts, x, q.to("meta"), 1)
says("'x' requires a gradient", parts, x.clone().requires_grad_(), q, 1)
with torch.no_grad():
    parts(x.clone().requires_grad_(), q, 1)
y = torch.randn(2, 3, 5)
says("shares memory with 'x'", add_rows, y[:1], y[:1])
says("several of its elements may be one", add_rows, y[:1, :1].expand(2, 3, 5), y)
says("leading dimensions are not one in memory", add_rows, y.transpose(0, 1), y.transpose(0, 1).clone())
says("written for out=torch.float16; got torch.float32", windows, torch.randn(3), torch.float32, 1)
says("with a size S from 0; got [0]", windows, torch.randn(0), torch.float16, 1)
says("does not calculate in bf16", narrow, torch.randn(3).half())
says("written without 'b'", layer_norm, torch.randn(2, 50), torch.randn(50), torch.randn(50), 1e-5)
says("written for N = 50; got 49", layer_norm, torch.randn(2, 49), torch.randn(49), None, 1e-5)
matmul.__globals__["check_device"] = lambda **tensors: None  # nothing as large as this is on this machine
says("'A' has elements beyond 2**31: write this file with --index i64", matmul,
     torch.empty_strided((2, 3), (2**31, 1), device="meta"), torch.empty(3, 4, device="meta"))
"""


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    for name in ("parts", "add_rows", "narrow"):
        write(tmp_path / f"{name}.py", OWN, "--template", name)
    write(tmp_path / "windows.py", OWN, "--template", "windows", "--const", "out=f16")
    write(tmp_path / "small.py", OWN, "--template", "ranks")
    layer_norm = ["--shape", "N=50", "--dtype", "T=f32", "--without", "b"]
    write(tmp_path / "layer_norm.py", *options_of("layer_norm"), *layer_norm)
    write(tmp_path / "matmul.py", *options_of("matmul"), "--dtype", "T=f32")
    done = run("-c", WRONG, str(tmp_path))
    assert done.returncode == 0, done.stderr
    done = run("-c", NO_GPU, str(tmp_path), interpreted=False)
    assert done.returncode == 0, done.stderr


NO_GPU = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from small import ranks
try:
    ranks(torch.randn(3), torch.randn(()))
except ValueError as error:
    assert "'x' must be on a GPU (or set TRITON_INTERPRET=1 before Triton is imported); got cpu" in str(error)
else:
    raise AssertionError("ran on a CPU")
"""

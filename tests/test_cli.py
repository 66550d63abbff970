"""The shell: exit codes, sentences for bad usage, and what it does not import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tdsl
from tdsl import cli

EXAMPLES = Path(__file__).parent.parent / "examples"
MATMUL = str(EXAMPLES / "matmul" / "matmul.tdsl")
COMMAND = [sys.executable, "-m", "tdsl"]
WRONG = "template f(x: f32[N]) -> y: f32[N]:\n    for n in grid(N by 64):\n        store y[n] = load x[nn]\n"


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    path = tmp_path / "wrong.tdsl"
    path.write_text(WRONG)
    return str(path)


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.run(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_check_says_where_a_template_can_fuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check", MATMUL]) == 0
    assert capsys.readouterr().out == f"{MATMUL}: matmul: prologues at A, B; epilogues at C\n"


def test_check_reports_all_files(capsys: pytest.CaptureFixture[str], wrong: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.tdsl")
    assert cli.run(["check", wrong, MATMUL, missing]) == 1
    captured = capsys.readouterr()
    assert "matmul: prologues" in captured.out
    assert captured.err.count("error[") == 2
    assert "wrong.tdsl:3:" in captured.err
    assert "missing.tdsl" in captured.err


@pytest.mark.parametrize("stage", ["ast", "ir", "triton"])
@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*/*.tdsl")))
def test_show_works_for_every_example(capsys: pytest.CaptureFixture[str], example: str, stage: str) -> None:
    assert cli.run(["show", str(EXAMPLES / example / f"{example}.tdsl"), "--stage", stage]) == 0
    assert example in capsys.readouterr().out


def test_show_specialises(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.run(["show", MATMUL, "--shape", "M=256", "N=256", "K=64", "--dtype", "T=bf16", "--config", "2"])
        == 0
    )
    text = capsys.readouterr().out
    assert "config 2" in text
    assert "config 0" not in text
    assert "size_" not in text
    assert "mask" not in text


def test_show_leaves_an_optional_tensor_out(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(EXAMPLES / "layer_norm" / "layer_norm.tdsl")
    show = ["show", file, "--template", "layer_norm"]
    assert cli.run(show) == 0
    assert "b_tile" in capsys.readouterr().out
    assert cli.run([*show, "--without", "b"]) == 0
    text = capsys.readouterr().out
    assert "b_" not in text.replace("size_", "")
    assert "# T = f16, assumed (--dtype T=...)" in text


def test_show_refuses_what_a_guard_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(EXAMPLES / "int4_matmul" / "int4_matmul.tdsl")
    assert cli.run(["show", file, "--shape", "K=64", "--const", "G=32"]) == 0
    capsys.readouterr()
    assert cli.run(["show", file, "--shape", "K=48", "--const", "G=32"]) == 1
    shown = capsys.readouterr()
    assert "'K % G == 0' does not hold" in shown.err
    assert "triton" not in shown.out


def test_show_reports_mistakes(capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    assert cli.run(["show", wrong]) == 1
    assert "unknown-name" in capsys.readouterr().err


def test_bad_usage_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'M'" in usage_error(capsys, "show", MATMUL, "--shape", "MM=3")
    assert "NAME=VALUE" in usage_error(capsys, "show", MATMUL, "--shape", "M")
    assert "non-negative integer" in usage_error(capsys, "show", MATMUL, "--shape", "M=-1")
    assert "T is one of f16, bf16, f32" in usage_error(capsys, "show", MATMUL, "--dtype", "T=f64")
    assert "no dtype variable 'U'" in usage_error(capsys, "show", MATMUL, "--dtype", "U=f32")
    assert "no const parameter 'causal'" in usage_error(capsys, "show", MATMUL, "--const", "causal=true")
    assert "counted from 0" in usage_error(capsys, "show", MATMUL, "--config", "99")
    assert "has matmul" in usage_error(capsys, "show", MATMUL, "--template", "other")
    assert "attention, axpy" in usage_error(capsys, "demo", "nothing")
    layer_norm = str(EXAMPLES / "layer_norm" / "layer_norm.tdsl")
    assert "has 2 whose 'if' holds here" in usage_error(capsys, "show", layer_norm, "--config", "4")
    attention = str(EXAMPLES / "attention" / "attention.tdsl")
    assert "'causal' is true or false" in usage_error(capsys, "show", attention, "--const", "causal=3")
    assert "required: FILE" in usage_error(capsys, "check")
    usage_error(capsys)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.run(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"tdsl {tdsl.__version__}\n"


def test_check_and_show_import_no_torch(tmp_path: Path) -> None:
    probe = (
        "import sys; from tdsl import cli; cli.run(['check', sys.argv[1]]); cli.run(['show', sys.argv[1]]); "
        "assert not {'torch', 'triton', 'numpy', 'sympy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", probe, MATMUL], check=True, capture_output=True)


def test_what_torch_is_imported_for_is_listed() -> None:
    assert set(tdsl.__all__) <= set(dir(tdsl))


def test_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [*COMMAND, "show", MATMUL, "--stage", "ast"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


def test_ctrl_c_is_quiet(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.tdsl"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [*COMMAND, "check", str(pipe)],
        stderr=subprocess.PIPE,
        # What runs in the background of a shell has the signal ignored, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    writer = os.open(pipe, os.O_WRONLY)  # returns once the command reads
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.stderr.read() == b""
    assert process.wait() == 128 + signal.SIGINT
    process.stderr.close()
    os.close(writer)


@pytest.mark.parametrize(
    "arguments", [["check", "/"], ["check", "no\udcffsuch"], ["check", ""], ["check", "a\nb"]]
)
def test_odd_file_names_get_a_diagnostic(arguments: list[str]) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, errors="replace")
    assert done.returncode == 1
    assert done.stderr.startswith("error[")
    assert "Traceback" not in done.stderr


def test_a_file_without_a_template_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "empty.tdsl"
    file.write_text("# nothing yet\n")
    assert cli.run(["check", str(file)]) == 1
    assert "has no template" in capsys.readouterr().err

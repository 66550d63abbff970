"""Every example in the documents is run, in order, as a reader would run it.

A `tdsl` block is a whole file, named by the comment in its first line; it must be right unless its name starts
with `wrong`. A `python` block runs with the names of those before it, and a `text` block after it is what it
prints; one whose first line is a comment with the name of a file is that file, and is not run. A `console` block has
commands of the shell (`tdsl`, `python FILE`, `pytest`) and what they print. A `triton` block is the golden of the founding
scenario. `pytest --update-golden` writes what is printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import tdsl
from tdsl import cli, grammar
from tdsl.diagnostics import TdslError
from tdsl.grammar import parser
from tdsl.options import OPTIONS
from tdsl.pipeline import check_text
from tdsl.types import DTYPES
from tests.test_golden import PINNED

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/tutorial.md",
    "docs/language.md",
    "docs/fusion.md",
    "docs/shipping.md",
    "docs/limits.md",
    "docs/from_triton.md",
    "docs/from_helion.md",
)
# Pages whose tensors are a CPU's, and pages that show kernels, which differ between releases of torch.
ON_A_CPU = ("docs/tutorial.md", "docs/fusion.md", "docs/limits.md")
OF_ONE_TORCH = ("docs/tutorial.md", "docs/fusion.md")
FUSED = ROOT / "tests" / "golden" / "fused" / "relu_matmul_sigmoid_bias.txt"
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    line: int
    kind: str
    text: str


def blocks(text: str) -> list[Block]:
    return [
        Block(text.count("\n", 0, found.start()) + 1, found[1], found[2]) for found in FENCED.finditer(text)
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples_run(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    if document in ON_A_CPU and torch.cuda.is_available():
        pytest.skip("what it shows is of a machine without a GPU")
    if document in OF_ONE_TORCH and not torch.__version__.startswith(PINNED):
        pytest.skip(f"what it shows was made by torch {PINNED}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))  # where nothing was tuned yet
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    printed: str | None = None
    update = pytestconfig.getoption("--update-golden")
    for block in blocks(text):
        where = f"{document}:{block.line}"
        now = block.text
        match block.kind:
            case "tdsl":
                run_template(block, where)
            case "python" if name := file_of(block):
                Path(name).write_text(block.text, encoding="utf-8")
                continue
            case "python":
                printed = run_python(block, names, tmp_path)
                continue
            case "text" if printed is not None:
                now = printed
            case "triton":
                now = FUSED.read_text(encoding="utf-8")
            case "console":
                now = run_console(block)
        printed = None
        if update:
            text = text.replace(f"```{block.kind}\n{block.text}```", f"```{block.kind}\n{now}```", 1)
        else:
            assert now == block.text, f"{where}: this is not what it prints (pytest --update-golden)"
    if update:
        path.write_text(text, encoding="utf-8")


def file_of(block: Block) -> str | None:
    found = re.match(r"# (\w+\.py)\n", block.text)
    return found and found[1]


def run_template(block: Block, where: str) -> None:
    name = block.text.partition("\n")[0].removeprefix("# ")
    assert name.endswith(".tdsl"), f"{where}: the first line names the file"
    Path(name).write_text(block.text, encoding="utf-8")
    try:
        check_text(grammar.read(name))
    except TdslError as error:
        assert name.startswith("wrong"), f"{where}: {error}"
    else:
        assert not name.startswith("wrong"), f"{where}: this is to be wrong"


def run_python(block: Block, names: dict[str, Any], folder: Path) -> str:
    path = folder / f"line_{block.line}.py"
    path.write_text(block.text, encoding="utf-8")
    names["__file__"] = str(path)
    names["__name__"] = path.stem
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(block.text, str(path), "exec"), names)
    return output.getvalue().replace(f"{folder}/", "")


def run_console(block: Block) -> str:
    lines: list[str] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(output):
                match shlex.split(line[2:]):
                    case ["tdsl", *arguments]:
                        cli.run(arguments)
                    case ["python", file]:
                        run_file(file)
                    case ["pytest", *arguments]:
                        run_pytest(arguments)
                    case command:
                        raise AssertionError(f"a console example does not run {command[0]}")
            lines.append(line)
            lines.extend(output.getvalue().replace(f"{Path.cwd()}/", "").splitlines())
    return "\n".join(lines) + "\n"


def run_file(file: str) -> None:
    """`python FILE`, in this process: with modules of its own, and as if nothing had been compiled before."""
    torch._dynamo.reset()
    known = {*sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tdsl.refusal, "_kept", {})
        runpy.run_path(file, run_name="__main__")
    for name in {*sys.modules} - known:
        where = getattr(sys.modules[name], "__file__", None)
        if where is not None and Path(where).parent == Path.cwd():
            del sys.modules[name]


def run_pytest(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", *arguments]
    reader = {
        name: value for name, value in os.environ.items() if name != "CI"
    }  # where goldens may be written
    done = subprocess.run(command, capture_output=True, text=True, env=reader)
    assert done.returncode == 0, done.stdout + done.stderr
    print(re.sub(r"in \d+\.\d+s", "in 9.99s", done.stdout), end="")


def test_the_reference_has_each_word() -> None:
    lark, _ = parser._grammar()
    words = {each.pattern.value for each in lark.terminals if each.pattern.value.isalpha()}
    text = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    missing = sorted({*words, *DTYPES, *OPTIONS} - {*re.findall(r"\w+", code)})
    assert not missing, f"docs/language.md says nothing of {missing}"

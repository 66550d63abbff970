"""The benchmarks are one command, which says what it needs and runs; what it says is what it measured."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import COMMANDS, main, parse
from benchmarks.arguments import UsageError
from benchmarks.candidates import SHARED_BYTES, configs_for, with_config, with_configs
from benchmarks.measuring import in_turn, spread
from benchmarks.report import BEGIN, END, report
from benchmarks.rows import EXAMPLES, Row, chosen_rows, rows
from tdsl import pipeline
from tdsl.source import Source
from tests.house import circles, imports, modules

ROOT = Path(__file__).parent.parent
MODULES = modules(ROOT, "benchmarks")
RESULTS = ROOT / "docs" / "performance" / "h200.json"
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/gpu.md", "docs/performance.md")
ROWS = rows()


def results(**medians: float | str) -> dict[str, Any]:
    """A run of one row: each contender's microseconds, or its status."""
    contenders: dict[str, Any] = {}
    for name, value in medians.items():
        if isinstance(value, str):
            contenders[name] = {"status": value, "error": 0.5, "why": "it | broke\nhere"}
        else:
            us = {"median": value, "p10": value * 0.99, "p90": value * 1.01}
            contenders[name] = {"status": "right", "us": us}
    return {
        "command": "python -m benchmarks suite",
        "versions": {"torch": "2", "triton": "3", "helion": "1", "python": "3"},
        "contenders": {name: name.title() for name in medians},
        "ceilings": {"copy_bytes_per_second": 4e12, "matmul_flops_per_second": 8e14},
        "rows": {
            "gemm": {
                "group": "gemm",
                "bytes": 4e8,
                "flops": 4e10,
                "allowed_error": 0.01,
                "hold": {"against": "best", "at_most": 1.03},
                "contenders": contenders,
            }
        },
    }


# The modules


def test_no_circle_of_imports() -> None:
    assert circles(MODULES) == []
    for name, tree in MODULES.items():
        assert "benchmarks.__main__" not in imports(name, tree, MODULES), name
        # Both would hide an import from `circles`.
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name} has a relative import"
        if name != "benchmarks.__main__":
            assert "importlib.import_module" not in ast.unparse(tree), name


def test_a_circle_in_functions_is_found() -> None:
    inner = "def run():\n    from benchmarks import b"
    trees = {"benchmarks.a": ast.parse(inner), "benchmarks.b": ast.parse("from benchmarks.a import run")}
    assert circles(trees) == [["benchmarks.a", "benchmarks.b"]]


@pytest.mark.parametrize("name", ["measuring", "arguments", "processes"])
def test_what_all_share_needs_nothing(name: str) -> None:
    tree = MODULES[f"benchmarks.{name}"]
    assert not [*imports(f"benchmarks.{name}", tree, MODULES)]
    assert "import torch" not in ast.unparse(tree)


def test_there_is_one_command() -> None:
    commands = [name for name, tree in MODULES.items() if "__name__ == '__main__'" in ast.unparse(tree)]
    assert commands == ["benchmarks.__main__"]
    has_main = {
        name.removeprefix("benchmarks.")
        for name, tree in MODULES.items()
        if {"main", "add_arguments"} <= {getattr(node, "name", "") for node in tree.body}
    }
    assert has_main == {*COMMANDS}


# The command line


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, command in COMMANDS.items():
        assert f"{name} {command.measures} (needs {command.needs})" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what is measured and what for it is needed, and needs no GPU itself."""
    with pytest.raises(SystemExit) as exit:
        main([name, "--help"])
    assert exit.value.code == 0
    text = capsys.readouterr().out
    assert str(ast.get_docstring(MODULES[f"benchmarks.{name}"])).partition("\n")[0] in text
    assert f"Measures {COMMANDS[name].measures}. Needs {COMMANDS[name].needs}" in text
    assert ("--tiny" in text) == COMMANDS[name].gpu


@pytest.mark.parametrize(
    "line, said",
    [
        ("", "expected a command: suite, explain"),
        ("sweet", "choose from"),
        ("suite --contenders eager,cublas", "expected some of eager,tdsl,compile"),
        ("suite --jobs 0", "expected a whole number, 1 or more, not '0'"),
        ("suite --seconds soon", "expected seconds, more than 0, not 'soon'"),
        ("suite --tiny --only gemm,convolution", "no row or group 'convolution'; groups: attention, gemm"),
        ("explain --tiny nothing", "no row or group 'nothing'; groups: attention, gemm"),
        ("configs", "the following arguments are required: ROWS"),
        ("examples --only conv", "expected some of attention"),
        ("compiling --layers 8,8", "expected growing numbers of layers, not 8,8"),
        ("check nowhere.tdsl", "expected a file, and there is none at 'nowhere.tdsl'"),
        ("check README.md", "expected a file without mistakes, not README.md"),
        ("report README.md", "expected a results.json that 'suite' has written; README.md is none"),
        (f"report {RESULTS} --into README.md", f"expected {BEGIN} and {END} in README.md"),
    ],
)
def test_wrong_use(
    line: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as exit:
        main(line.split())
    error = capsys.readouterr().err
    assert exit.value.code == 2 and said in error and "Traceback" not in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.gpu])
def test_without_a_gpu(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main([name, *(["gemm"] if name in ("explain", "configs") else [])])
    assert exit.value.code == 2
    assert "this measures a GPU, and there is none; --tiny proves" in capsys.readouterr().err


def lines_of(document: str) -> list[str]:
    """The commands of benchmarks in a document, in blocks and in sentences."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        line.partition("  #")[0] for line in re.findall(r"python -m benchmarks( [^`\n;]*|)(?=[`\n;])", text)
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_what_there_is(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bench-out/results.json", "docs/performance.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = lines_of(document)
    assert found
    for line in found:
        if line and not line.startswith(" COMMAND"):
            options = parse(shlex.split(line))
            wanted = getattr(options, "rows", getattr(options, "only", ""))
            if isinstance(wanted, str):
                chosen_rows(wanted, tiny=False)
    text = (ROOT / document).read_text(encoding="utf-8")
    assert not re.search(r"python -m benchmarks\.|python benchmarks/", text)
    for file in re.findall(r"benchmarks/\w+\.py", text):
        assert (ROOT / file).is_file()


# The commands


def run(*arguments: str, seconds: float = 240) -> str:
    """A command that starts processes, in one of its own."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_suite_runs(tmp_path: Path) -> None:
    text = run(
        *("suite", "--tiny", "--only", "softmax 4x64", "--contenders", "eager,tdsl", "--row-seconds", "0.1"),
        *("--out", str(tmp_path)),
    )
    assert re.search(r"^\| softmax 4x64 \|.*\| \*\*[\d.]+( ±\d+%)?\*\* \|", text, re.MULTILINE), text
    assert "python -m benchmarks suite --tiny --only 'softmax 4x64'" in text
    assert run("report", str(tmp_path / "results.json")) in text


def test_explain_runs(tmp_path: Path) -> None:
    text = run("explain", "--tiny", "softmax 4x64", "--row-seconds", "0.1", "--out", str(tmp_path))
    assert '"status": "right"' in text and re.search(r"^[\d.]+ us \(p10 [\d.]+, p90", text, re.MULTILINE)


def test_configs_runs(tmp_path: Path) -> None:
    text = run("configs", "--tiny", "softmax 4x64", "--jobs", "1", "--out", str(tmp_path))
    assert "softmax 4x64: 2 timed, 0 WRONG, 0 failed" in text
    assert (tmp_path / "configs.json").exists()


@pytest.mark.full
def test_overhead_runs(tmp_path: Path) -> None:
    text = run("overhead", "--tiny", "--out", str(tmp_path), seconds=600)
    assert re.search(r"^\| tdsl \| [\d.]+ \(.* \| [\d.]+ \(", text, re.MULTILINE)
    assert re.search(r"^\| tdsl \| [\d.]+ \| [\d.]+ \| \d+ \| \d+ \|", text, re.MULTILINE)
    assert "Compiling it once more in one process" in text and (tmp_path / "overhead.json").exists()


@pytest.mark.full
def test_compiling_runs(tmp_path: Path) -> None:
    text = run("compiling", "--layers", "1,2", "--profile", str(tmp_path))
    for who in ("inductor", "opaque", "tdsl"):
        assert re.search(rf"^\| {who} \| 2 \| [\d.]+ \|", text, re.MULTILINE)
        assert (tmp_path / f"{who}-2.prof").exists()
    assert "From 1 to 2 layers, one of ours costs" in text


@pytest.mark.full
def test_prologues_runs(tmp_path: Path) -> None:
    text = run("prologues", "--tiny", "--work", "relu", "--json", str(tmp_path / "prologues.json"))
    assert len(re.findall(r"^ +16 x 32 x +32 [AB] relu .*(fused|apart)", text, re.MULTILINE)) == 2
    assert (tmp_path / "prologues.json").exists()


def test_examples_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["examples", "--tiny", "--only", "softmax"]) == 0
    assert re.search(r"^\| softmax \| \w+ \| 1 \| \S+ \| \S+ \|$", capsys.readouterr().out, re.MULTILINE)


def test_models_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    line = "models --tiny --only llama --tasks forward --contenders tdsl --out"
    assert main([*line.split(), str(tmp_path)]) == 0
    text = capsys.readouterr().out
    replaced = "3 rms_norm, 2 rope, 1 swiglu"
    assert re.search(rf"^\| llama \| forward \| tdsl \| \d+ \| \d+ \| {replaced}\b", text, re.MULTILINE), text
    assert "**" not in text and "Times on a CPU mean nothing" in text
    rows = json.loads((tmp_path / "models.json").read_text(encoding="utf-8"))["rows"]
    assert [row["who"] for row in rows] == ["eager", "tdsl"]


def test_check_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--runs", "1"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"median [\d.]+ s, worst [\d.]+ s of 1$", text, re.MULTILINE)
    assert text.endswith("heavy imports: []\n")


def test_parse_runs() -> None:
    text = run("parse")
    assert re.fullmatch(
        r"import \d+ ms, first parse \d+ ms\n49 lines: parse [\d.]+ ms\n49 lines: check [\d.]+ ms\n", text
    )


def test_parse_measures_imports() -> None:
    """Nothing that it measures the import of is there before."""
    loaded = "import sys; from benchmarks.__main__ import parse; parse(['parse']); print([*sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"tdsl", "lark", "torch"} & {*ast.literal_eval(done.stdout)}


def test_report_is_on_the_page(tmp_path: Path) -> None:
    """The page's generated part is what the results make; writing it again changes nothing."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    assert main(["report", str(RESULTS), "--into", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page


def test_plot_runs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["plot", str(RESULTS), "--out", str(tmp_path / "plot.png")]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


# What is measured, and what is said of it


def test_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "p10": 1.0, "p90": 3.0}
    assert spread([float(value) for value in range(20)]) == {"median": 9.5, "p10": 2.0, "p90": 18.0}


def test_contenders_take_turns() -> None:
    seen: list[str] = []
    measures = {name: lambda name=name: seen.append(name) or 1.0 for name in "abc"}
    assert in_turn(measures, least=4, most=9, seconds=0) == {name: [1.0] * 4 for name in "abc"}
    rounds = [seen[index : index + 3] for index in range(0, 12, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds) and len({*map(tuple, rounds)}) > 1


def test_rows_are_chosen_by_name_or_group() -> None:
    assert [*chosen_rows("", tiny=False)] == [*chosen_rows("all", tiny=False)] == [*ROWS]
    assert [*chosen_rows("attention 4x16x4096x64 causal; swiglu", tiny=False)] == [
        *("swiglu 16x8192x2048", "swiglu 64x8192x2048", "attention 4x16x4096x64 causal")
    ]
    assert [*chosen_rows("layer_norm, y * rstd and rstd 16384x4096", tiny=False)] == [
        "layer_norm, y * rstd and rstd 16384x4096"
    ]
    with pytest.raises(UsageError, match="no row or group 'gem'"):
        chosen_rows("gem", tiny=False)


def row_of(text: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith("| gemm | 100.0"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_loss_is_shown() -> None:
    text = report(results(tdsl=125.0, eager=200.0, compile=110.0))
    assert row_of(text) == [
        "gemm",
        "100.0 (bytes)",
        "**125.0**",
        "80%",
        "200.0",
        "110.0",
        "0.88 (Compile)",
        "**misses** (1.14, at most 1.03)",
    ]
    assert "| gemm | 1.600 (1) | 0.880 (1) | 0.880 (1) |" in text


@pytest.mark.parametrize("status", ["WRONG", "failed"])
def test_who_is_wrong_or_failed_has_no_time(status: str) -> None:
    text = report(results(tdsl=status, eager=200.0))
    assert row_of(text)[2:5] == [f"**{status}**", "", "200.0"] and row_of(text)[-1] == "**no time**"
    assert f"- gemm, Tdsl: {status}" in text
    assert "0.5, allowed 0.01" in text or "it \\| broke here" in text
    other = report(results(tdsl=125.0, eager=status, compile=250.0))
    assert row_of(other)[-2:] == ["2.00 (Compile)", "holds (0.50, at most 1.03)"]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_candidates_are_templates(row: Row) -> None:
    text = (EXAMPLES / row.template / f"{row.template}.tdsl").read_text(encoding="utf-8")
    configs = list(configs_for(row))
    assert len(configs) == len({tuple(config.items()) for config in configs}) > 2
    kernel = pipeline.load(Source("candidate", with_config(text, row.template, configs[-1])), row.template)
    (candidate,) = kernel.candidates
    chosen = {name: value for name, value in configs[-1].items() if name != "group"}
    named = {name: value.value for name, value in candidate.items if name in chosen}
    assert named == chosen
    kernel = pipeline.load(Source("several", with_configs(text, row.template, configs[:3])), row.template)
    assert len(kernel.candidates) == 3


def test_candidates_of_products_fit() -> None:
    for row in ROWS.values():
        for config in configs_for(row):
            if row.template == "matmul":
                tiles = (config["BLOCK_M"] + config["BLOCK_N"]) * config["BLOCK_K"] * 2
                assert tiles * config["num_stages"] <= SHARED_BYTES

"""A second process, and caches that are broken: what was compiled is found again, and what cannot be read is
made again with at most a warning."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

CPU = not torch.cuda.is_available()


def run(program: str, folder: Path | str, **environment: str) -> tuple[str, str]:
    """What a program prints and what it logs, in a process of its own with its caches in `folder`."""
    here = str(Path(__file__).parent)
    settings = {key: value for key, value in os.environ.items() if key != "TRITON_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={
            **settings,
            "TORCHINDUCTOR_CACHE_DIR": str(folder),
            "PYTHONPATH": os.pathsep.join([here, *sys.path]),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout, done.stderr


# What templates were parsed to

PARSED = """
import dataclasses, shutil, sys
from pathlib import Path
from unittest import mock
import tdsl
from tdsl import pipeline
TEXT = "template twice(x: f32[N]) -> y: f32[N]:\\n    for n in grid(N by 16):\\n        store y[n] = load x[n] * 2\\n"
def twice(x): return x * 2
def parts(kernel): return [getattr(kernel, field.name) for field in dataclasses.fields(kernel)]
def parses():
    pipeline.run.cache_clear()
    with mock.patch.object(pipeline, "parse_partly", wraps=pipeline.parse_partly) as parse:
        made = tdsl.template(source=TEXT)(twice).template
    assert parts(made) == parts(pipeline.load(made.source))
    return parse.call_count
print(parses())
"""
DAMAGED = """
folder = Path(sys.argv[1], "tdsl")
(file,) = folder.iterdir()
whole = file.read_bytes()
for damaged in (whole[:100], b"", bytes(len(whole)), whole[:-1] + b"x"):
    file.write_bytes(damaged)
    print(parses(), file.read_bytes() == whole)
shutil.rmtree(folder)
folder.write_text("no folder")
print(parses())
"""


def test_a_second_process_parses_nothing(tmp_path):
    assert run(PARSED, tmp_path) == ("1\n", "")
    out, log = run(PARSED + DAMAGED.replace("sys.argv[1]", repr(str(tmp_path))), tmp_path)
    assert out == "0\n" + 4 * "1 True\n" + "1\n"
    assert log.count("is not what was written there: it is written again") == 4
    assert "Traceback" not in log


# Stored winners and machine code, for a GPU that need not be there

LOAD = """
import tuned
(text,) = tuned.texts(tuned.generate()[0])
"""
STORE = """
import errno
from unittest import mock
from torch._inductor.remote_cache import LocalCacheBackend
made = tuned.load(text)
full = OSError(errno.ENOSPC, "No space left on device")
with mock.patch.object(LocalCacheBackend, "_put", side_effect=full):
    made.save_cache_hook(made.configs[0], 5)
made.save_cache_hook(made.configs[2], 5)
"""
DAMAGE = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "null": lambda text: "null",
    "list": lambda text: "[1, 2]",
    "renamed": lambda text: text.replace('"num_warps"', '"num_wraps"'),
    "another": lambda text: text.replace('"BLOCK_M_": 64', '"BLOCK_M_": 8192'),
    "zeros": lambda text: "\0" * len(text),
}


def test_winners_that_cannot_be_stored_or_are_none(tmp_path):
    program = """
import sys
from pathlib import Path
print(*(config.kwargs["BLOCK_M_"] for config in tuned.load(text).configs))
for file in map(Path, sys.stdin.read().split()):
    Path(WINNER).write_text(file.read_text())
    print(file.name, *(config.kwargs["BLOCK_M_"] for config in tuned.load(text).configs), file=sys.stderr)
"""
    log = run(LOAD + STORE, tmp_path, TRITON_INTERPRET="0")[1]
    assert log.count("could not be stored") == 1 and "Traceback" not in log
    (winner,) = tmp_path.rglob("*.best_config")
    before = winner.read_text()
    files = []
    for name, damage in DAMAGE.items():
        assert damage(before) != before
        files.append(tmp_path / name)
        files[-1].write_text(damage(before))
    program = program.replace("WINNER", repr(str(winner))).replace(
        "sys.stdin.read()", repr(" ".join(map(str, files)))
    )
    out, log = run(LOAD + program, tmp_path, TRITON_INTERPRET="0")
    assert out == "64\n"
    assert "Traceback" not in log
    told = ""
    for name in DAMAGE:
        told, log = log.split(f"{name} 32 32 64 64\n")
        # PyTorch itself says so of text that is no JSON; an empty or a null winner is none, without a word.
        warned = "cannot be read and is ignored" in told or "Ignoring corrupt local cache entry" in told
        assert warned == (name not in ("empty", "null")), name
    assert log == ""


# A file that is gone Triton finds out by itself, if it is the one that says what there is. That machine code
# was cut off is seen when it is loaded, by a GPU.
UNREADABLE = {(".json", "truncated"), (".cubin", "missing")}


@pytest.mark.parametrize(
    "suffix, damage",
    [
        (".json", "truncated"),
        pytest.param(".json", "missing", marks=pytest.mark.full),
        pytest.param(".cubin", "missing", marks=pytest.mark.full),
    ],
)
def test_machine_code_that_cannot_be_read(tmp_path, suffix, damage):
    program = (
        LOAD
        + """
made, hits = tuned.compile_all(text)
print(*hits, len(made.compile_results))
"""
    )
    assert run(program, tmp_path, TRITON_INTERPRET="0")[0] == "False False False False 4\n"
    files = [file for file in tmp_path.rglob(f"triton_*{suffix}") if not file.name.startswith("__grp__")]
    assert len(files) == 4
    for file in files:
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:100])
    out, log = run(program, tmp_path, TRITON_INTERPRET="0")
    assert out == "False False False False 4\n"
    assert "Traceback" not in log and log.count("is compiled again") == (
        4 if (suffix, damage) in UNREADABLE else 0
    )
    assert run(program, tmp_path, TRITON_INTERPRET="0")[0].endswith("True True True True 4\n")


# Whole programs

PROGRAM = """
import logging, torch, templates as t
from torch._dynamo.utils import counters
torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
a, b, c = (torch.randn(*shape, device=device) for shape in ((70, 50), (50, 90), (90,)))
program = torch.compile(lambda a, b, c: torch.relu(t.mm(a, torch.sigmoid(b))) * c, fullgraph=True)
want = torch.relu(a @ torch.sigmoid(b)) * c
torch.testing.assert_close(program(a, b, c), want, rtol=1e-3, atol=1e-3)
torch.testing.assert_close(t.mm(a, b), a @ b, rtol=1e-3, atol=1e-3)
print(counters["inductor"]["fxgraph_cache_hit"])
"""


def test_a_kernels_module_that_was_cut_off(tmp_path):
    assert run(PROGRAM, tmp_path)[0] == "0\n"
    kernels = [
        file for file in tmp_path.rglob("*.py") if file.read_text().lstrip().startswith("import triton")
    ]
    assert kernels
    for file in kernels:
        file.write_text(file.read_text()[:300])
    out, log = run(PROGRAM, tmp_path, TORCHINDUCTOR_FX_GRAPH_CACHE="0")
    assert out == "0\n" and "it is written again" in log
    out, log = run(PROGRAM, tmp_path)
    assert out == "1\n" and "it is written again" not in log


def test_a_folder_that_cannot_be_written():
    # /proc exists and nobody can write to it, not even who may do everything.
    out, log = run(PROGRAM, "/proc")
    assert out == "0\n"
    assert "/proc cannot be written: this process compiles everything anew" in log
    assert "Traceback" not in log


def test_an_upgraded_tdsl_compiles_anew(tmp_path):
    assert run(PROGRAM, tmp_path)[0] == "0\n"  # a second process would print 1, see above
    upgraded = "import tdsl.identity\ntdsl.identity.own_digest = lambda: 'another'\n" + PROGRAM
    assert run(upgraded, tmp_path)[0] == "0\n"


def test_a_process_that_was_killed_while_compiling(tmp_path):
    # It dies where its first kernel is handed over: modules are written, the graph is not.
    killed = (
        """
import os
from tdsl.lower.inductor import scheduling
def die(text):
    os._exit(9)
scheduling.discard_broken_module = die
"""
        + PROGRAM
    )
    with pytest.raises(AssertionError):
        run(killed, tmp_path)
    out, log = run(PROGRAM, tmp_path)
    assert out == "0\n" and "Traceback" not in log


COUNTED = """
from tdsl import pipeline
timed, compiled, parsed = [], [], []
parse = pipeline.parse_partly
pipeline.parse_partly = lambda source: (parsed.append(1), parse(source))[1]
import triton, tuned, templates, torch
from torch._dynamo.utils import counters
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
bench = CachingAutotuner.bench
CachingAutotuner.bench = lambda self, *args, **kwargs: (timed.append(1), bench(self, *args, **kwargs))[1]
triton.knobs.compilation.listener = lambda cache_hit, **_: cache_hit or compiled.append(1)
torch.manual_seed(0)
a, b, c = (torch.randn(*shape, device="cuda", dtype=torch.bfloat16) for shape in ((256, 192), (192, 320), (320,)))
def program(a, b, c):
    y, mean, rstd = templates.ln(torch.relu(tuned.mm(a, torch.sigmoid(b))) * c, c, None, 1e-5)
    return torch.relu(y), mean * 2, rstd
def work():
    want = torch.relu(a @ torch.sigmoid(b)) * c
    got = torch.compile(program, fullgraph=True)(a, b, c)[0]
    torch.testing.assert_close(got, torch.relu(torch.nn.functional.layer_norm(want, (320,), c)), rtol=5e-2, atol=5e-2)
    torch.testing.assert_close(tuned.mm(a, b), a @ b, rtol=5e-2, atol=5e-2)
work()
print(len(compiled), len(timed), len(parsed), counters["inductor"]["fxgraph_cache_hit"])
"""


def machine_code(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.cubin")}


@pytest.mark.gpu
@pytest.mark.parametrize("threads", ["1", "8"])
@pytest.mark.parametrize("graph_cache", ["1", "0"])
def test_a_second_process_compiles_and_times_nothing(tmp_path, graph_cache, threads):
    settings = {"TORCHINDUCTOR_FX_GRAPH_CACHE": graph_cache, "TORCHINDUCTOR_COMPILE_THREADS": threads}
    if graph_cache == "0":
        settings["TORCHINDUCTOR_AUTOGRAD_CACHE"] = "0"
    compiled, timed, parsed, hits = map(int, run(COUNTED, tmp_path, **settings)[0].split())
    assert parsed > 0 and hits == 0
    assert timed == 8  # four candidates of the fused kernel, four of the eager one
    before = machine_code(tmp_path)
    assert len(before) >= 9
    assert compiled >= 9 or threads != "1"
    out = run(COUNTED, tmp_path, **settings)[0]
    assert list(map(int, out.split())) == [0, 0, 0, int(graph_cache)]
    # Nor did a worker.
    assert machine_code(tmp_path) == before


@pytest.mark.gpu
@pytest.mark.parametrize("graph_cache", ["1", "0"])
@pytest.mark.parametrize("suffix", [".cubin", ".json", ".best_config"])
def test_a_gpus_caches_that_were_cut_off(tmp_path, suffix, graph_cache):
    settings = {"TORCHINDUCTOR_FX_GRAPH_CACHE": graph_cache, "TORCHINDUCTOR_AUTOGRAD_CACHE": graph_cache}
    run(COUNTED, tmp_path, **settings)
    files = list(tmp_path.rglob(f"*{suffix}"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    _, log = run(COUNTED, tmp_path, **settings)
    assert "Traceback" not in log
    assert run(COUNTED, tmp_path, **settings)[0].split()[:3] == ["0", "0", "0"]

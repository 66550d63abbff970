"""Candidates on their way to one winner: compiled early and side by side, timed once, told apart."""

from __future__ import annotations

import ast
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import triton

from tdsl import testing
from tdsl.lower.inductor import tuning
from tdsl.lower.inductor.compat import candidates_in_turn
from tdsl.lower.runtime import names as private_runtime
from tdsl.lower.runtime.autotuner import TemplateAutotuner
from tdsl.testing import count_kernels, load_module

t = load_module(Path(__file__).with_name("templates.py"))


def run(program: str, folder: Path, **environment: str) -> list[str]:
    """The lines that a program prints in a process of its own, where Triton compiles for a GPU."""
    done = subprocess.run(
        [sys.executable, "-c", "import torch, tuned\n" + textwrap.dedent(program)],
        env={
            **{key: value for key, value in os.environ.items() if key != "TRITON_CACHE_DIR"},
            "TRITON_INTERPRET": "0",
            "TORCHINDUCTOR_CACHE_DIR": str(folder),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


def test_candidates_are_compiled_early_and_found_again(tmp_path):
    program = """
    from torch._inductor import config
    config.strict_static_triton_launcher = True
    code, asked = tuned.generate()
    (final,) = tuned.texts(code)
    print(asked[-1][1] == final, len(asked))
    for _, text in asked[:-1]:
        print(*tuned.compile_all(text)[1])
    made, hits = tuned.compile_all(final)
    print(*hits, type(made).__name__, made.is_statically_launchable())
    """
    # The kernel with all candidates begins with the first of them itself, and is asked for once: the module
    # asks with the same text.
    assert run(program, tmp_path) == [
        "True 4",
        "False",
        "False",
        "False",
        "False True True True TemplateAutotuner True",
    ]


def test_a_winner_belongs_to_the_template_the_device_and_the_magnitude_of_sizes(tmp_path):
    program = """
    from torch._inductor import config
    def tuning_of(**kwargs):
        (text,) = tuned.texts(tuned.generate(**kwargs)[0])
        return tuned.load(text).inductor_meta["tuning"]
    static = tuning_of()
    print(static["sizes"], static["device"], static["template"].split()[0], static["tdsl"] == tuned.tdsl.__version__)
    for rows in (129, 256, 257):
        print(max(tuning_of(dynamic=True, rows=rows)["sizes"].values()))
    config.max_autotune = True
    print(len(tuned.generate()[1]))
    config.deterministic = True
    print(len(tuned.generate()[1]))
    """
    found = run(program, tmp_path)
    assert found[0] == "{} NVIDIA H100 mm True"
    # 320 columns vary too.
    assert found[1:4] == ["512", "512", "512"]
    # Each candidate but the first, and the kernel; where nothing is timed, the kernel.
    assert found[4:] == ["4", "1"]


@pytest.mark.parametrize("size, above", [(0, 16), (1, 16), (16, 16), (17, 32), (4096, 4096), (4097, 8192)])
def test_bucket(size, above):
    assert tuning.bucket(size) == above


def test_single_candidates_keep_every_other_line():
    text = "a\n    configs=[\n        c0,\n        c1,\n    ],\nb\n"
    assert list(candidates_in_turn.single_candidates(text)) == [
        "a\n    configs=[\n        c0,\n\n    ],\nb\n",
        "a\n    configs=[\n\n        c1,\n    ],\nb\n",
    ]


@pytest.mark.parametrize("workers", [False, True])
def test_without_workers_nothing_is_compiled_early(monkeypatch, tmp_path, workers):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    asked = []
    monkeypatch.setattr(candidates_in_turn.AsyncCompile, "use_process_pool", classmethod(lambda cls: workers))
    monkeypatch.setattr(
        candidates_in_turn.AsyncCompile, "wait_pool_ready", classmethod(lambda cls, timeout: None)
    )
    monkeypatch.setattr(
        candidates_in_turn.AsyncCompile, "triton", lambda self, name, text: asked.append(text)
    )
    one = "    configs=[\n        c0,\n    ],\n"
    candidates_in_turn.compile_ahead("kernel", one)
    assert asked == []
    two = one.replace("c0,", "c0,\n        c1,")
    candidates_in_turn.compile_ahead("kernel", two)
    assert len(asked) == workers
    # Nor where the winner is known.
    file = Path(candidates_in_turn.PyCodeCache.write(two)[1])
    Path(private_runtime.AutotuneCache.create({}, str(file), "").local_cache[1]).write_text("{}")
    candidates_in_turn.compile_ahead("kernel", two)
    assert len(asked) == workers


def test_a_cpu_has_no_budget():
    assert tuning.budget_of(torch.device("cpu")) is None


def mutated(program, *args):
    """What the kernel says it must get copies of to be timed, and what it is called with, by argument."""
    (code,) = count_kernels(torch.compile(program, fullgraph=True), *args).code
    names = ast.literal_eval(re.findall(r"'mutated_arg_names': (\[.*?\])", code)[0])
    (parameters,) = re.findall(r"^def triton_\w+\((.*)\):", code, re.MULTILINE)
    (values,) = re.findall(r"triton_\w+\.run\((.*), stream", code)
    called = dict(zip(parameters.split(", "), values.split(", "), strict=False))
    return {called[name] for name in names}


def test_data_that_is_written_in_place_is_copied_to_be_timed():
    torch._dynamo.reset()
    device = testing.device()
    y, x = torch.randn(1000, device=device), torch.randn(1000, device=device)
    assert mutated(lambda y, x: t.axpy(y, x * 2, 2.0), y, x) == {"arg1_1"}
    assert mutated(lambda y, x: (t.axpy(y, torch.exp(x), 2.0), torch.relu(y) + 1)[1], y, x) == {"arg1_1"}
    a, b = torch.randn(20, 33, device=device), torch.randn(20, 33, device=device)
    assert mutated(lambda a, b: t.swap(a, b), a, b) == {"arg0_1", "arg1_1"}
    # What a graph has made for this call alone is none of it.
    assert mutated(lambda a, b: torch.relu(t.ew(a, b)), a, b) == set()
    assert mutated(lambda x: t.column_sums(x), a) == set()


# The autotuner


class Launcher:
    def __init__(self, time: float) -> None:
        self.config, self.time = SimpleNamespace(kwargs={"BLOCK_": time}), time
        self.n_regs, self.n_spills, self.shared = 32, 0, 1024


def autotuner(*times: float) -> TemplateAutotuner:
    """One whose candidates take these milliseconds, and none of whose launches needs a GPU."""
    made = TemplateAutotuner.__new__(TemplateAutotuner)
    made.lock = threading.Lock()
    made.fn = SimpleNamespace(__name__="kernel")
    made.launchers = [Launcher(time) for time in times]
    return made


@pytest.fixture
def timing(monkeypatch):
    """Replaces what needs a GPU; counts how often a candidate is timed."""
    timed = []
    busy = threading.Event()

    def bench(self, launcher):
        timed.append(launcher.time)
        busy.wait(0.01)
        return launcher.time

    def autotune(self):
        self.launchers = [min(self.launchers, key=self.bench)]

    monkeypatch.setattr(private_runtime.CachingAutotuner, "bench", bench)
    monkeypatch.setattr(private_runtime.CachingAutotuner, "autotune_to_one_config", autotune)
    return timed


def test_threads_that_call_first_together_time_once(timing):
    made = autotuner(3.0, 1.0, 2.0)
    threads = [threading.Thread(target=made.autotune_to_one_config) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(timing) == [1.0, 2.0, 3.0]
    assert [launcher.time for launcher in made.launchers] == [1.0]


def test_each_candidate_is_told_as_it_is_timed(timing, caplog):
    with caplog.at_level(logging.INFO, "tdsl"):
        autotuner(3.0, 1.0).autotune_to_one_config()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "kernel: timing 2 candidates"
    assert lines[1].startswith("kernel: 3.0000 ms, 32 registers, 0 spilled, 1024 bytes shared: ")
    assert lines[2].startswith("kernel: 1.0000 ms")
    assert lines[3].startswith("kernel: the winner is ") and len(lines) == 4


def test_what_triton_fails_to_compile_is_tried_with_more_warps(monkeypatch, caplog):
    def precompile(self, config, *, cc_override=90):
        assert cc_override == 90
        if config.num_warps < enough:
            raise RuntimeError("PassManager::run failed")
        return config

    monkeypatch.setattr(private_runtime.CachingAutotuner, "_precompile_config", precompile)
    config = triton.Config({"BLOCK_": 16}, num_warps=2)
    enough = 8
    made = autotuner()._precompile_config(config)
    assert (made.num_warps, made.kwargs, config.num_warps) == (8, {"BLOCK_": 16}, 2)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    enough = 16
    with pytest.raises(RuntimeError, match="PassManager"):
        autotuner()._precompile_config(config, cc_override=90)


def test_torch_logs_shows_it(tmp_path):
    program = """
    import logging
    from tdsl.lower.runtime.autotuner import log
    print(log.isEnabledFor(logging.INFO))
    """
    assert run(program, tmp_path, TORCH_LOGS="tdsl") == ["True"]
    assert run(program, tmp_path) == ["False"]


def test_options_that_inductor_leaves_out_count(tmp_path):
    program = """
    tuned.SOURCE = tuned.SOURCE.replace("BLOCK_K in (32,)", "BLOCK_K in (32,), maxnreg in (64, 128)")
    tuned.SOURCE = tuned.SOURCE.replace("(32, 64), BLOCK_N in (32, 64)", "(32,), BLOCK_N in (32,)")
    tuned.mm = tuned.tdsl.template(source=tuned.SOURCE)(tuned.mm.__wrapped__)
    (text,) = tuned.texts(tuned.generate()[0])
    from torch._inductor import config
    config.use_static_triton_launcher = False
    made, hits = tuned.compile_all(text)
    print(*hits, *(result.kernel.metadata.maxnreg for result in made.compile_results))
    print(*(config.maxnreg for config in tuned.load(text).configs))
    made.save_cache_hook(tuned.load(text).configs[1], 5)
    print(*(config.maxnreg for config in tuned.load(text).configs))
    """
    assert run(program, tmp_path) == ["False False 64 128", "64 128", "128"]

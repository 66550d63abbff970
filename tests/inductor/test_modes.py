"""Every way to compile and launch: with the same fusion, for a product with a chain on each side and for a
template with three outputs. What a CPU can do runs there too; the rest is marked `gpu`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch._functorch import config as functorch_config
from torch._inductor import config

from tdsl.testing import count_kernels, load_module

t = load_module(Path(__file__).with_name("templates.py"))
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
NEEDS_GPU = pytest.mark.gpu


class Founding(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return torch.relu(t.mm(a, torch.sigmoid(b))) * c

    @staticmethod
    def inputs(rows: int = 70) -> tuple[torch.Tensor, ...]:
        return randn(rows, 50), randn(50, 90), randn(90)

    @staticmethod
    def wanted(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return torch.relu(a @ torch.sigmoid(b)) * c


class Outputs(torch.nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, mean, rstd = t.ln(torch.tanh(x), w, w, 1e-5)
        return torch.relu(y) + x, mean * 2, y / rstd[..., None]

    @staticmethod
    def inputs(rows: int = 7) -> tuple[torch.Tensor, ...]:
        return randn(3, rows, 40), randn(40)

    @staticmethod
    def wanted(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, mean, rstd = t.ln.reference(torch.tanh(x), w, w, 1e-5)
        return torch.relu(y) + x, mean * 2, y / rstd[..., None]


PROGRAMS = [Founding, Outputs]
both = pytest.mark.parametrize("program", PROGRAMS)
# What takes long: one of the two by default.
slow = pytest.mark.parametrize("program", [pytest.param(Founding, marks=pytest.mark.full), Outputs])


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
    counters.clear()


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device=DEVICE)


def compare(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)


def check(program: type[Any], *, kernels: int = 1, calls: int = 3, **settings: Any) -> tuple[str, ...]:
    """Compiles with `settings` of torch.compile, counts, and calls several times with other numbers."""
    compiled = torch.compile(program(), fullgraph=True, **settings)
    inputs = program.inputs()
    counted = count_kernels(compiled, *inputs)
    compare(counted.result, program.wanted(*inputs))
    assert counted.kernels == kernels, "\n".join(counted.code)
    for _ in range(calls):
        inputs = program.inputs()
        compare(compiled(*inputs), program.wanted(*inputs))
    return counted.code


@both
def test_default(program):
    (code,) = check(program)
    # The launch is Inductor's own line: nothing is computed or allocated around it.
    (line,) = [line for line in code.splitlines() if ".run(" in line and "triton_" in line]
    assert re.fullmatch(r"\s*triton_\w+\.run\([\w, ]+, stream=\w*stream\w+\)", line)


@both
@NEEDS_GPU
def test_reduce_overhead(program):
    compiled = torch.compile(program(), fullgraph=True, mode="reduce-overhead")
    for _ in range(5):
        torch.compiler.cudagraph_mark_step_begin()
        inputs = program.inputs()
        compare(compiled(*inputs), program.wanted(*inputs))
    assert counters["inductor"]["cudagraph_skips"] == 0
    torch._dynamo.reset()
    check(program, mode="reduce-overhead", calls=0)


@both
def test_max_autotune(program):
    check(program, options={"max_autotune": True})
    torch._dynamo.reset()
    check(program, options={"max_autotune": True, "coordinate_descent_tuning": True})


@both
def test_benchmark_kernel(program):
    (code,) = check(program, options={"benchmark_kernel": True})
    (file,) = re.findall(r"# kernel path: (.*)", code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    measured = subprocess.run(
        [sys.executable, file], capture_output=True, text=True, check=True, env=environment
    )
    assert re.search(r"[\d.]+ms +[\d.]+GB +[\d.]+GB/s", measured.stdout)


@both
@NEEDS_GPU
@pytest.mark.parametrize("at_compile_time", [None, True, False])
def test_cpp_wrapper(program, at_compile_time):
    options = {"cpp_wrapper": True, "triton.autotune_at_compile_time": at_compile_time}
    compiled = torch.compile(program(), fullgraph=True, options=options)
    for _ in range(3):
        inputs = program.inputs()
        compare(compiled(*inputs), program.wanted(*inputs))
    torch._dynamo.reset()
    with config.patch(options):
        code = count_kernels(torch.compile(program(), fullgraph=True), *program.inputs()).code
    launched = {
        line.split("(")[0].strip() for text in code for line in text.splitlines() if "call_triton" in line
    }
    assert len({name for name in launched if name.startswith("call_triton")}) == 1


@pytest.mark.skipif(GPU, reason="what a CPU does instead")
@slow
def test_cpp_wrapper_on_a_cpu_takes_the_reference(program):
    compiled = torch.compile(program(), fullgraph=True, options={"cpp_wrapper": True})
    inputs = program.inputs()
    compare(compiled(*inputs), program.wanted(*inputs))


LOADED = """
import sys, torch
inputs, wanted = torch.load(sys.argv[2])
assert "tdsl" not in sys.modules
program = torch._inductor.aoti_load_package(sys.argv[1])
for _ in range(3):
    torch.testing.assert_close(program(*inputs), wanted, rtol=1e-3, atol=1e-3)
if torch.cuda.is_available():
    from torch.profiler import ProfilerActivity, profile
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        program(*inputs)
        torch.cuda.synchronize()
    on_gpu = [event.name for event in trace.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    print(*(name.split()[0] for name in on_gpu if not name.startswith(("Mem", "Activity"))))
"""


@slow
def test_a_package_runs_in_another_process(program, tmp_path):
    inputs = program.inputs()
    exported = torch.export.export(program(), inputs)
    path = torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "program.pt2"))
    torch.save((inputs, program.wanted(*inputs)), tmp_path / "inputs.pt")
    done = subprocess.run(
        [sys.executable, "-c", LOADED, path, str(tmp_path / "inputs.pt")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    if GPU:
        names = done.stdout.split()
        assert len(names) == 1 and names[0].startswith("triton_"), names


@slow
def test_a_package_of_open_sizes(program, tmp_path):
    inputs = program.inputs()
    rows = torch.export.Dim("rows", min=2, max=4096)
    axis = 0 if program is Founding else 1
    shapes = tuple({axis: rows} if at == 0 else {} for at in range(len(inputs)))
    exported = torch.export.export(program(), inputs, dynamic_shapes=shapes)
    loaded = torch._inductor.aoti_load_package(
        torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "program.pt2"))
    )
    for size in (2, 33, 300):
        inputs = program.inputs(size)
        compare(loaded(*inputs), program.wanted(*inputs))


def test_an_export_cannot_leave_open_what_a_kernel_must_know():
    size = torch.export.Dim("size")
    with pytest.raises(Exception, match="specialized"):
        torch.export.export(Outputs(), Outputs.inputs(), dynamic_shapes=({2: size}, {0: size}))


@both
def test_dynamic(program):
    compiled = torch.compile(program(), fullgraph=True, dynamic=True)
    counted = count_kernels(compiled, *program.inputs())
    assert counted.kernels == 1
    for rows in (33, 5, 300, 16):
        inputs = program.inputs(rows)
        compare(compiled(*inputs), program.wanted(*inputs))


@both
@pytest.mark.parametrize("cached", [True, False])
def test_graph_cache(program, cached, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    inputs = program.inputs()
    with config.patch(fx_graph_cache=cached), functorch_config.patch(enable_autograd_cache=cached):
        for _ in range(2):
            torch._dynamo.reset()
            compare(torch.compile(program(), fullgraph=True)(*inputs), program.wanted(*inputs))
    assert counters["inductor"]["fxgraph_cache_hit"] == cached


@slow
@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.full), 2])
def test_compile_threads(program, threads):
    program = program.__name__
    run(
        f"""
    assert config.compile_threads == {threads}
    check({program})
    """,
        TORCHINDUCTOR_COMPILE_THREADS=str(threads),
    )


@both
@pytest.mark.filterwarnings("ignore:.*deterministic.*:UserWarning")
@pytest.mark.parametrize("how", ["torch", "inductor"])
def test_deterministic(program, how, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    inputs = program.inputs()
    wanted = program.wanted(*inputs)
    if how == "torch":
        torch.use_deterministic_algorithms(True)
    try:
        with config.patch(deterministic=how == "inductor"):
            compiled = torch.compile(program(), fullgraph=True)
            assert count_kernels(compiled, *inputs).kernels == 1
            first = compiled(*inputs)
            compare(first, wanted)
            for _ in range(3):
                torch.testing.assert_close(compiled(*inputs), first, rtol=0, atol=0)
    finally:
        torch.use_deterministic_algorithms(False)


@NEEDS_GPU
def test_deterministic_sums_take_the_reference():
    x = randn(700, 130)
    torch.use_deterministic_algorithms(True)
    try:
        for program in (t.column_sums, torch.compile(lambda x: t.column_sums(x * 2) + 1, fullgraph=True)):
            first = program(x)
            for _ in range(5):
                torch.testing.assert_close(program(x), first, rtol=0, atol=0)
        bare = load_module(Path(__file__).with_name("templates.py"))
        alone = bare.tdsl.template(source=bare.TEXT, name="column_sums")(_no_reference)
        with pytest.raises(RuntimeError, match="accumulates in no fixed order"):
            alone(x)
    finally:
        torch.use_deterministic_algorithms(False)


def _no_reference(x): ...


@both
@NEEDS_GPU
def test_streams(program):
    compiled = torch.compile(program(), fullgraph=True)
    streams = [torch.cuda.Stream() for _ in range(4)]
    cases = [program.inputs() for _ in range(4)]
    torch.cuda.synchronize()
    results = []
    for _ in range(3):
        for stream, inputs in zip(streams, cases, strict=True):
            with torch.cuda.stream(stream):
                results.append((inputs, compiled(*inputs)))
    torch.cuda.synchronize()
    for inputs, got in results:
        compare(got, program.wanted(*inputs))


@both
def test_threads(program):
    """All call at once, the first time too."""
    compiled = torch.compile(program(), fullgraph=True, dynamic=False)
    wrong: list[BaseException] = []
    start = threading.Barrier(8)

    def work() -> None:
        try:
            inputs = program.inputs()
            start.wait()
            for _ in range(3):
                compare(compiled(*inputs), program.wanted(*inputs))
        except BaseException as error:
            wrong.append(error)

    at_once(work, 8)
    assert not wrong


def at_once(work: Callable[[], None], number: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@both
@NEEDS_GPU
def test_static_launcher_in_its_strict_mode(program):
    program = program.__name__
    run(f"""
    config.use_static_triton_launcher = config.strict_static_triton_launcher = True
    check({program})
    """)


def run(program: str, **environment: str) -> None:
    """Runs a program that uses this module, alone in a process; with one compile thread if not told otherwise."""
    done = subprocess.run(
        [sys.executable, "-c", "from test_modes import *\n" + textwrap.dedent(program)],
        env={
            **os.environ,
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]

"""`tdsl.testing` tested: what it lets pass, what it refuses, and in which words."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch

import tdsl
from tdsl import testing


@tdsl.template(
    source="""
template twice(x: f32[R..., N]) -> y: f32[R..., N]:
    config BLOCK=8
    for r, n in grid(R, N by BLOCK):
        store y[r, n] = load x[r, n] * 2
"""
)
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_counts_kernels() -> None:
    x = torch.randn(40, 30)
    counted = testing.count_kernels(torch.compile(lambda x: torch.relu(x).cumsum(0) + 1), x)
    assert counted.kernels == len(testing._kernel_names(counted.code)) >= 1
    assert torch.allclose(counted.result, torch.relu(x).cumsum(0) + 1)


def test_a_report_says_what_was_seen() -> None:
    report = testing.assert_fused(lambda x: torch.exp(x) + 1, (torch.randn(9, 7),))
    assert str(report).startswith("1 C++ kernel; largest difference from eager ")
    assert report.error <= 1e-5


def test_too_many_kernels_are_named() -> None:
    with pytest.raises(AssertionError, match=r"expected 7 kernels, compiled to 1:\n  C\+\+ cpp_fused"):
        testing.assert_fused(lambda x: torch.exp(x) + 1, (torch.randn(9, 7),), kernels=7)


def test_one_tensor_is_no_list_of_arguments() -> None:
    with pytest.raises(TypeError, match=r"such as \(x,\)"):
        testing.assert_fused(lambda x: x + 1, torch.randn(9, 7))


def test_a_wrong_result_is_placed() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    with pytest.raises(
        AssertionError, match=r"result of .* in 3 of 6 .* first at \[1, 0\]: 4.0, expected 3.0"
    ):
        testing.assert_fused(
            lambda x: torch.where(x < 3, x, x + 1), (x,), exact=True, reference=lambda x: x.clone()
        )
    with pytest.raises(AssertionError, match=r"largest difference 1; the error against float64 may be"):
        testing.assert_fused(lambda x: torch.where(x < 3, x, x + 1), (x,), reference=lambda x: x.clone())


def test_nan_is_wrong_where_a_number_is_expected() -> None:
    x = torch.ones(4)
    for exact in (True, False):
        with pytest.raises(AssertionError, match="nan"):
            testing.assert_fused(
                lambda x: torch.where(x > 2, x, math.nan), (x,), exact=exact, reference=lambda x: x.clone()
            )
    testing.assert_fused(lambda x: torch.log(-x), (x,))  # both are NaN


def one_by_one(x: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), dtype=x.dtype)
    for number in x:
        total = total + number
    return total


def by_halves(x: torch.Tensor) -> torch.Tensor:
    while len(x) > 1:
        half = (len(x) + 1) // 2
        x = torch.cat([x[: len(x) - half] + x[half:], x[len(x) - half : half]])
    return x[0]


def is_close(reference: testing.Program, args: tuple[torch.Tensor, ...], result: torch.Tensor) -> bool:
    outcome = testing._Outcome(result, args)
    try:
        testing._compare(reference, args, outcome, outcome, exact=False)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("n", [2, 3, 5, 17, 200])
def test_a_sum_in_another_order_is_right_and_what_is_wrong_is_found(n: int) -> None:
    programs = {
        "a sum": lambda x: (x + x).sum(),
        "a mean that is divided by": lambda x: x / (x * x).mean(),
        "a norm": lambda x: (x * x).sum().sqrt(),
    }
    sums = {
        "a sum": lambda x, order: order(x + x),
        "a mean that is divided by": lambda x, order: x / (order(x * x) / len(x)),
        "a norm": lambda x, order: order(x * x).sqrt(),
    }
    strict = 0
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, generator=generator)
        for name, program in programs.items():
            for order in (one_by_one, by_halves):
                assert is_close(program, (x,), sums[name](x, order)), (seed, name, order)
        total = by_halves(x + x)
        strict += abs(total - (x + x).sum()) > 8 * torch.finfo(torch.float32).eps * abs(total)
        for wrong in (
            by_halves((x + x).bfloat16().float()),  # rounded to a narrower float on the way
            by_halves((x + x)[:-1]),  # the last lane is lost
            by_halves(torch.cat([x + x, x[:1]])),  # a lane too many
            total * (1 + 2**-11),
        ):
            if wrong != total:
                assert not is_close(programs["a sum"], (x,), wrong), (seed, wrong)
    assert strict or n < 17  # else there was no other order to be tested


def test_a_jump_at_the_arguments_is_no_rounding() -> None:
    x = torch.arange(6.0)
    wrong = torch.where(x <= 3, x, x + 1)
    assert not is_close(lambda x: torch.where(x < 3, x, x + 1), (x,), wrong)
    assert not is_close(lambda x: torch.where(x < 3, x, x + 1).sum(), (x,), wrong.sum())
    assert not is_close(lambda x: torch.floor(x).sum(), (x,), torch.floor(x).sum() - 1)
    assert not is_close(lambda x: torch.where(x < 3, x, math.nan), (x,), wrong)


def test_a_program_with_loops_of_pytorch() -> None:
    from torch._higher_order_ops import map as over_rows
    from torch._higher_order_ops import scan, while_loop

    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows = over_rows(lambda row: twice(row).sin(), x)
        last, sums = scan(lambda total, row: (total + twice(row), total * 2), torch.zeros_like(x[0]), x)
        _, powers = while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, twice(y).cos()), (torch.tensor(0), torch.relu(x))
        )
        return rows, last, sums, powers

    testing.assert_fused(program, (torch.randn(3, 5),), kernels=None)


def test_a_wrong_dtype_or_number_of_results_is_wrong() -> None:
    x = torch.ones(4)
    with pytest.raises(AssertionError, match=r"has dtype torch.float32; expected torch.float16"):
        testing.assert_fused(lambda x: x + 1, (x,), reference=lambda x: (x + 1).half())
    with pytest.raises(AssertionError, match=r"returns result, argument 0; expected result\[0\]"):
        testing.assert_fused(lambda x: x + 1, (x,), reference=lambda x: (x + 1, x + 2))


def test_what_is_written_to_arguments_counts() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        x.mul_(2)
        return x + 1

    x = torch.arange(12.0).reshape(3, 4)[:, 1:3]
    testing.assert_fused(program, (x,), exact=True)
    assert x[0, 0] == 1
    with pytest.raises(AssertionError, match="argument 0 of the compiled program differs"):
        testing.assert_fused(program, (x,), exact=True, reference=lambda x: x * 2 + 1)


def test_copies_keep_layout_and_sharing() -> None:
    base = torch.arange(24.0)
    x, y = base.view(4, 6).t()[1:3], base[3:7]
    first, second, number = testing.copy_arguments([x, y, 7])
    assert number == 7
    assert first.stride() == x.stride() and first.storage_offset() == x.storage_offset()
    second.zero_()
    assert torch.equal(base, torch.arange(24.0))
    assert (first == 0).sum() == ((x >= 3) & (x < 7)).sum()


def test_same_bits() -> None:
    testing.assert_same_bits([torch.tensor([0.0, math.nan])], [torch.tensor([0.0, math.nan])])
    with pytest.raises(AssertionError, match="the same bits are required"):
        testing.assert_same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))


GOLDEN_TEST = """
import pytest

def test_text(golden):
    golden("case/a.txt", "one\\ntwo\\n")

def test_skipped(golden):
    golden.owns("case/b.txt")
    pytest.skip("not here")
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("CI", raising=False)
    pytester.makeconftest('pytest_plugins = ["tdsl.testing"]')
    pytester.makepyfile(test_it=GOLDEN_TEST)
    return pytester


def test_goldens_are_compared_and_written(project: pytest.Pytester) -> None:
    project.runpytest_inprocess().stdout.fnmatch_lines(["*a.txt does not exist; run pytest --update-golden*"])
    project.runpytest_inprocess("--update-golden").assert_outcomes(passed=1, skipped=1)
    golden = project.path / "golden" / "case" / "a.txt"
    assert golden.read_bytes() == b"one\ntwo\n"
    (project.path / "golden" / "case" / "b.txt").write_text("kept\n")
    project.runpytest_inprocess().assert_outcomes(passed=1, skipped=1)
    golden.write_text("one\nthree\n")
    project.runpytest_inprocess().stdout.fnmatch_lines(["*a.txt differs*", "-three", "+two"])


@pytest.fixture
def stray(project: pytest.Pytester) -> pytest.Pytester:
    project.runpytest_inprocess("--update-golden")
    (project.path / "golden" / "case" / "stray.txt").write_text("")
    return project


@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_a_golden_that_no_test_owns_fails_a_whole_run(stray: pytest.Pytester, workers: list[str]) -> None:
    done = stray.runpytest_inprocess(*workers)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["FAILED *stray.txt: no test owns this golden file"])


@pytest.mark.parametrize("arguments", [["-k", "text"], ["test_it.py"], ["test_it.py::test_text"]])
def test_part_of_a_run_does_not_ask_who_owns(stray: pytest.Pytester, arguments: list[str]) -> None:
    assert stray.runpytest_inprocess(*arguments).ret == pytest.ExitCode.OK


def test_ci_does_not_update_goldens(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    project.runpytest_inprocess("--update-golden").stderr.fnmatch_lines(["*refused where CI is set*"])


def test_a_reference_in_the_place_of_a_kernel_is_no_success(tmp_path):
    script = """
import torch, tdsl
from tdsl import testing
@tdsl.template(source='''
template twice(x: f32[N]) -> y: f32[N]:
    for n in grid(N by 16):
        store y[n] = (load x[n]) * 2
''')
def twice(x):
    return x * 3
testing.assert_fused(lambda x: x.relu() + 1, (torch.randn(9),))
try:
    testing.assert_fused(lambda x: twice(x) + 1, (torch.randn(9),))
except AssertionError as error:
    print(error)
"""
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, **hidden})
    assert done.returncode == 0, done.stderr
    assert "no template's kernel ran" in done.stdout

"""let, config, tune, and blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tdsl.pipeline import check_text
from tdsl.source import Source

Mistakes = Callable[..., list[str]]
BODY = "store y[m, n] = load x[m, n]"
GRID = "m, n in grid(M by A, N by 64)"


def candidates(declarations: str) -> list[dict[str, object]]:
    text = f"template t(x: T[M, N]) -> y: T[M, N]:\n{declarations}    for {GRID}:\n        {BODY}\n"
    (kernel,) = check_text(Source("<test>", text))
    return [{name: getattr(value, "value", None) for name, value in each.items} for each in kernel.candidates]


def test_a_tune_is_a_product_and_declarations_add_up() -> None:
    assert candidates("    config A=16\n    tune A in (32, 64), num_warps in (4, 8)\n") == [
        {"A": 16},
        {"A": 32, "num_warps": 4},
        {"A": 32, "num_warps": 8},
        {"A": 64, "num_warps": 4},
        {"A": 64, "num_warps": 8},
    ]


def test_no_config_is_one_candidate() -> None:
    assert candidates("    let A = 64\n") == [{}]


def test_a_let_may_use_settings_and_a_condition_both(mistakes: Mistakes) -> None:
    declarations = "let HALF = A // 2\nconfig A=64 if A * HALF < 4096 and M > 8\nconfig A=32"
    assert mistakes(BODY, declarations=declarations, grid="m, n in grid(M by A, N by HALF)") == []


@pytest.mark.parametrize(
    ("declarations", "said"),
    [
        ("config A=48", "bad-block: a block is a power of two from 1 to 1048576; this is 48 (use 32 or 64)"),
        ("let A = 0", "bad-block: a block is a power of two from 1 to 1048576; this is 0"),
        (
            "let B = 12\nlet A = B",
            "bad-block: a block is a power of two from 1 to 1048576; this is 12 (use 8 or 16)",
        ),
        ("config A=1.5", "bad-block: a block size is an integer; this is float"),
        (
            "config A=64, num_warps=6",
            "bad-config: 'num_warps' is 1, 2, 4, 8, 16 or 32; not 6",
        ),
        (
            "config AA=64",
            "unknown-name: there is no block size 'A' (did you mean 'AA'?)",
        ),
        (
            "config A=64, B=1\nconfig A=32",
            "bad-config: this config does not set 'B' (every config sets the same names)",
        ),
        (
            f"tune A in ({', '.join(['64'] * 40)}), num_warps in ({', '.join(['4'] * 40)})",
            "bad-config: this makes 1,600 candidates; 1,000 are possible "
            "(leave some values out, or leave combinations out with several 'tune' lines)",
        ),
    ],
)
def test_wrong(mistakes: Mistakes, declarations: str, said: str) -> None:
    found = mistakes(BODY, declarations=declarations, grid=GRID)
    assert said in found
    assert len(found) == 1 or "B=1" in declarations


def test_one_literal_of_many_candidates_is_pointed_at(mistakes: Mistakes) -> None:
    found = mistakes(BODY, declarations="tune A in (32, 40, 64, 100)", grid=GRID)
    assert [line.split("; ")[1] for line in found] == [
        "this is 40 (use 32 or 64)",
        "this is 100 (use 64 or 128)",
    ]


def test_lanes_of_a_block(mistakes: Mistakes) -> None:
    found = mistakes(BODY, declarations="config A=2048\nconfig A=16384\nconfig A=32768", grid=GRID)
    assert found == [
        "bad-block: a block over m and n has 2,097,152 lanes; 1,048,576 are possible (use smaller blocks)"
    ]

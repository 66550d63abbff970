"""What the benchmark suite says is what it measured; and the candidates that it times are templates."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.candidates import SHARED_BYTES, configs_for, with_config, with_configs
from benchmarks.report import report
from benchmarks.rows import EXAMPLES, Row, rows
from tdsl import pipeline
from tdsl.source import Source

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

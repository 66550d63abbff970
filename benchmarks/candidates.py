"""The configs that are tried for our kernels, and the text of a template that has them.

    with_config(text, "matmul", {"BLOCK_M": 64, ..., "num_warps": 4})    ->    the file's text with this `config` alone

Candidates that cannot fit are not made.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.rows import Row
from tdsl import ast
from tdsl.grammar import parse
from tdsl.source import Source

Config = dict[str, int]
SHARED_BYTES = 227 * 1024  # of a Hopper multiprocessor, for one block
ACCUMULATOR_REGISTERS = 128  # of 255 a thread


def configs_for(row: Row) -> Iterator[Config]:
    """The candidates of a row; `group` is the grid's, all else as a `config` says it."""
    match row.template:
        case "matmul" | "swiglu":
            yield from _products(row, accumulators=2 if row.template == "swiglu" else 1)
        case "attention":
            yield from _attentions(row.sizes[3])
        case _:
            yield from _norms(row.sizes[-1])


def _products(row: Row, *, accumulators: int) -> Iterator[Config]:
    m = row.sizes[0]
    small = m <= 64
    blocks_m = sorted({max(16, m), 64}) if small else (64, 128, 256)
    blocks_n = (16, 32, 64, 128) if small else (64, 128, 256)
    blocks_k = (64, 128, 256) if small else (32, 64, 128)
    stages = (3, 4, 5, 6) if small else (3, 4, 5)
    for bm, bn, bk, warps, stage in itertools.product(blocks_m, blocks_n, blocks_k, (2, 4, 8), stages):
        if (bm * bk + accumulators * bk * bn) * 2 * stage > SHARED_BYTES:
            continue
        registers = accumulators * bm * bn / (32 * warps)
        if registers > ACCUMULATOR_REGISTERS or registers < (4 if small else 32):
            continue
        if (bk == 32 and stage < 4) or (small and bm == 64 > m and bn < 64):
            continue
        groups = (4, 8, 16) if bm * bn >= 2**15 and bk == 64 else (8,)
        for group in groups:
            yield {
                "BLOCK_M": bm,
                "BLOCK_N": bn,
                "BLOCK_K": bk,
                "num_warps": warps,
                "num_stages": stage,
                "group": group,
            }


def _attentions(head: int) -> Iterator[Config]:
    for bm, bn, warp, stage in itertools.product((64, 128, 256), (32, 64, 128), (4, 8), (2, 3, 4)):
        if (bm * head + 2 * stage * bn * head) * 2 > SHARED_BYTES:
            continue
        if bm * max(head, bn) / (32 * warp) > ACCUMULATOR_REGISTERS:
            continue
        yield {"BLOCK_M": bm, "BLOCK_N": bn, "num_warps": warp, "num_stages": stage}


def _norms(n: int) -> Iterator[Config]:
    for rows, warp in itertools.product((1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32)):
        each = rows * n / (32 * warp)
        if 4 <= each <= 256:
            yield {"BLOCK_R": rows, "num_warps": warp}


def with_configs(text: str, name: str, configs: Sequence[Mapping[str, int]]) -> str:
    """The file's text, where the template `name` has these configs and no others.

    A setting that a config does not name keeps the first value that the template gave it.
    """
    template = next(t for t in parse(Source("candidate", text)).templates if t.name.name == name)
    declared = [d for d in template.declarations if isinstance(d, ast.Config | ast.Tune)]
    first = {item.name.name: item.values[0].span.text for item in declared[0].items}
    indent = " " * (text[: declared[0].span.start].rpartition("\n")[2].count(" "))
    lines = []
    for config in configs:
        items = {key: str(config.get(key, value)) for key, value in first.items()}
        items.update({key: str(config[key]) for key in ("num_warps", "num_stages") if key in config})
        lines.append("config " + ", ".join(f"{key}={value}" for key, value in items.items()))
    for index in reversed(range(len(declared))):
        span = declared[index].span
        text = text[: span.start] + (f"\n{indent}".join(lines) if index == 0 else "") + text[span.end :]
    return text


def with_config(text: str, name: str, config: Mapping[str, int]) -> str:
    """The file's text, where the template has this one config; `group` in it is the grid's."""
    text = with_configs(text, name, [config])
    return re.sub(r"\bgroup=\d+", f"group={config['group']}", text) if "group" in config else text

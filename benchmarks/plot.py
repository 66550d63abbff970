"""Draws what a run of `suite` measured: for each row, how far every contender is from the floor.

python -m benchmarks plot bench-out/results.json
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from benchmarks.arguments import UsageError, file, read_results
from benchmarks.report import OURS, best, floor, microseconds

STYLES = {
    # colours that stay apart for the colour-blind; ours is the one that is filled and large
    OURS: ("#d55e00", "D", 70),
    "eager": ("#999999", "o", 30),
    "compile": ("#0072b2", "s", 34),
    "helion": ("#009e73", "^", 38),
    "flex": ("#cc79a7", "P", 40),
    "max-autotune": ("#56b4e9", "v", 38),
    "max-autotune-tma": ("#e69f00", "<", 38),
}
FARTHEST = 8.0  # times the floor; beyond, a number stands at the edge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=file, metavar="RESULTS", help="the results.json of a run")
    parser.add_argument("--out", type=Path, metavar="PNG", help="the picture; beside RESULTS unless given")


def main(options: argparse.Namespace) -> int:
    results = read_results(options.results)
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("this needs matplotlib: pip install -e '.[bench]'")
    path = options.out or options.results.with_suffix(".png")
    draw(results, path)
    print(path)
    return 0


def draw(results: dict[str, Any], path: Path) -> None:
    """Writes a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = []
    for name, record in results["rows"].items():
        if name == "ceilings":
            continue
        low = floor(record, results["ceilings"])
        unit = low[0] if low else (best(record, list(results["contenders"])) or ("", 0.0))[1]
        if unit:
            shown.append((name, record, unit, low))
    if not shown:
        raise UsageError("expected the results of a run; no row of these has a time")
    figure, axes = pyplot.subplots(figsize=(13, 1.6 + 0.36 * len(shown)), constrained_layout=True)
    group = None
    for index, (_, record, unit, _) in enumerate(shown):
        if record["group"] != group:
            if group is not None:
                axes.axhline(index - 0.5, color="#cccccc", linewidth=0.8)
            group = record["group"]
        beyond = []
        for name in [*(name for name in results["contenders"] if name != OURS), OURS]:
            us = microseconds(record, name)
            if us is None:
                continue
            colour, marker, size = STYLES.get(name, ("#000000", "x", 30))
            value = us / unit
            if value > FARTHEST:
                beyond.append(f"{results['contenders'][name]} {value:.0f}x")
                continue
            one = record["contenders"][name]["us"]
            axes.plot([one["p10"] / unit, one["p90"] / unit], [index, index], color=colour, linewidth=1.5)
            axes.scatter(
                [value],
                [index],
                c=colour if name == OURS else "white",
                edgecolors=colour,
                marker=marker,
                s=size,
                linewidths=1.5,
                zorder=4 if name == OURS else 3,
            )
        if beyond:
            axes.text(FARTHEST * 1.1, index, f"→ {', '.join(beyond)}", ha="left", va="center", fontsize=7)
    for name in results["contenders"]:
        colour, marker, size = STYLES.get(name, ("#000000", "x", 30))
        axes.scatter(
            [],
            [],
            c=colour if name == OURS else "white",
            edgecolors=colour,
            marker=marker,
            s=size,
            label=results["contenders"][name],
        )
    axes.set_yticks(
        range(len(shown)),
        [f"{name}  ({unit:.0f} µs{', ' + low[1] if low else ''})" for name, _, unit, low in shown],
        fontsize=8,
    )
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xscale("log")
    ticks = [1, 1.2, 1.5, 2, 3, 4, 6, 8]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.8, FARTHEST * 1.05)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    what = "the floor" if results["ceilings"] else "the fastest"
    axes.set_xlabel(f"time over {what} (1 is {what}; left is faster; bars are p10 to p90)")
    versions = results["versions"]
    axes.set_title(
        f"{versions.get('gpu', '')}: torch {versions['torch']}, triton {versions['triton']}, Helion {versions['helion']}",
        fontsize=10,
        loc="left",
    )
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.3, -0.6 / len(shown) - 0.04), ncols=7, fontsize=8, frameon=False
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)

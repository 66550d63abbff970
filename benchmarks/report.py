"""Writes what a run of `suite` measured as Markdown: made from results.json alone, so that text and numbers agree.

python -m benchmarks report bench-out/results.json --into docs/performance.md

`--into` replaces what stands between the two marks of a generated part; what is written by hand around it stays.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import overhead
from benchmarks.arguments import UsageError, file, read_results
from benchmarks.measuring import table

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
OURS = "tdsl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=file, metavar="RESULTS", help="the results.json of a run")
    parser.add_argument(
        "--into", type=file, metavar="PAGE", help="the page to write it into; else it is printed"
    )


def main(options: argparse.Namespace) -> int:
    text = report(read_results(options.results))
    if options.into is None:
        print(text)
    else:
        write_into(options.into, text)
    return 0


def write_into(path: Path, text: str) -> None:
    page = path.read_text(encoding="utf-8")
    before, begun, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise UsageError(f"expected {BEGIN} and {END} in {path}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def microseconds(record: dict[str, Any], name: str) -> float | None:
    """The median of a contender that was right."""
    one = record["contenders"].get(name, {})
    return one["us"]["median"] if one.get("status") == "right" and "us" in one else None


def floor(record: dict[str, Any], ceilings: dict[str, float]) -> tuple[float, str] | None:
    """The larger of bytes over bandwidth and operations over rate, in microseconds, and which it is."""
    if not ceilings or "bytes" not in record:
        return None
    memory = record["bytes"] / ceilings["copy_bytes_per_second"] * 1e6
    arithmetic = record["flops"] / ceilings["matmul_flops_per_second"] * 1e6
    return max((memory, "bytes"), (arithmetic, "operations"))


def baselines(results: dict[str, Any]) -> list[str]:
    return [name for name in results["contenders"] if name != OURS]


def best(record: dict[str, Any], names: Sequence[str]) -> tuple[str, float] | None:
    known = [(name, us) for name in names if (us := microseconds(record, name)) is not None]
    return min(known, key=lambda pair: pair[1]) if known else None


def verdict(record: dict[str, Any], results: dict[str, Any]) -> str:
    """Whether the row holds what it is held to, and by how much."""
    ours = microseconds(record, OURS)
    if ours is None:
        return "**no time**"
    hold = record["hold"]
    against = hold["against"]
    names = baselines(results) if against == "best" else [against]
    other = best(record, names)
    if other is None:
        return f"no time for {against}"
    ratio = ours / other[1]
    limit = hold["at_most"]
    return f"{'holds' if ratio <= limit else '**misses**'} ({ratio:.2f}, at most {limit:.2f})"


def cell(record: dict[str, Any], name: str) -> str:
    one = record["contenders"].get(name)
    if one is None or one.get("status") == "absent":
        return ""
    if one["status"] != "right":
        return str(one["status"])
    if "us" not in one:
        return "not timed"
    us = one["us"]
    spread = (us["p90"] - us["p10"]) / us["median"] * 100
    return f"{us['median']:.1f}" + (f" ±{spread / 2:.0f}%" if spread >= 4 else "")


def report(results: dict[str, Any]) -> str:
    """All of it."""
    return "\n".join(_lines(results))


def _lines(results: dict[str, Any]) -> Iterator[str]:
    versions, ceilings = results["versions"], results["ceilings"]
    yield (
        f"{versions.get('gpu')}, driver {versions.get('driver', '?')}; torch {versions['torch']}, triton "
        f"{versions['triton']}, Helion {versions['helion']}, Python {versions['python']}."
    )
    if ceilings:
        yield (
            f"Ceilings of this machine: copies {ceilings['copy_bytes_per_second'] / 1e12:.2f} TB/s (read and written), "
            f"bf16 matrix products {ceilings['matmul_flops_per_second'] / 1e12:.0f} TFLOP/s."
        )
    yield ""
    yield "```sh"
    yield results["command"]
    yield "```"
    yield ""
    titles = [results["contenders"][name] for name in baselines(results)]
    header = ("microseconds", "floor", "tdsl", "of the floor", *titles, "best / tdsl", "held to")
    yield from table(header, times(results))
    yield ""
    yield "Times of each baseline over ours, geometric mean (above 1: ours is faster):"
    yield ""
    yield from geomeans(results)
    yield from failures(results)
    yield from choices(results)
    if "overhead" in results:
        yield ""
        yield from overhead.lines(results["overhead"])


def times(results: dict[str, Any]) -> Iterator[Sequence[str]]:
    names, ceilings = baselines(results), results["ceilings"]
    for row, record in results["rows"].items():
        if row == "ceilings":
            continue
        ours, low, other = microseconds(record, OURS), floor(record, ceilings), best(record, names)
        yield (
            row,
            f"{low[0]:.1f} ({low[1]})" if low else "",
            f"**{cell(record, OURS)}**" if OURS in record["contenders"] else "",
            f"{low[0] / ours * 100:.0f}%" if low and ours else "",
            *(cell(record, name) for name in names),
            f"{other[1] / ours:.2f} ({results['contenders'][other[0]]})" if other and ours else "",
            verdict(record, results),
        )


def geomeans(results: dict[str, Any]) -> Iterator[str]:
    names = baselines(results)
    groups: dict[str, list[dict[str, Any]]] = {}
    for row, record in results["rows"].items():
        if row != "ceilings":
            groups.setdefault(record["group"], []).append(record)
    groups["all"] = [record for records in groups.values() for record in records]

    def mean(records: list[dict[str, Any]], pick: Callable[[dict[str, Any]], float | None]) -> str:
        ratios = []
        for record in records:
            ours, theirs = microseconds(record, OURS), pick(record)
            if ours is not None and theirs is not None:
                ratios.append(math.log(theirs / ours))
        return f"{math.exp(sum(ratios) / len(ratios)):.3f} ({len(ratios)})" if ratios else ""

    rows: list[Sequence[str]] = []
    for group, records in groups.items():
        cells = [mean(records, lambda record, name=name: microseconds(record, name)) for name in names]  # type: ignore[misc]
        cells.append(mean(records, lambda record: (best(record, names) or (None, None))[1]))
        rows.append([group, *cells])
    yield from table(["group", *(results["contenders"][name] for name in names), "the best"], rows)


def failures(results: dict[str, Any]) -> Iterator[str]:
    """Who has no time, and why."""
    found = []
    for row, record in results["rows"].items():
        if "broken" in record:
            found.append(f"- {row}: {one_line(record['broken'])}")
        for name, one in record["contenders"].items():
            title = results["contenders"].get(name, name)
            if one.get("status") == "WRONG":
                found.append(
                    f"- {row}, {title}: WRONG, its error is {one['error']:.2g}, allowed {record['allowed_error']:.2g}"
                )
            elif one.get("status") in ("failed", "skipped"):
                found.append(f"- {row}, {title}: {one['status']}: {one_line(one['why'])}")
            elif name.endswith("-tma") and one.get("status") == "right" and not one.get("tma"):
                found.append(f"- {row}, {title}: no kernel with TMA was chosen")
    if found:
        yield ""
        yield "Without a time, or not what the column says:"
        yield ""
        yield from found


def choices(results: dict[str, Any]) -> Iterator[str]:
    """What our kernels reach, and what they are: the chosen config and its resources."""
    ceilings = results["ceilings"]
    found: list[Sequence[str]] = []
    for row, record in results["rows"].items():
        ours = record["contenders"].get(OURS, {})
        reached = _reached(record, microseconds(record, OURS), ceilings)
        for kernel in ours.get("chosen", ()):
            if "error" in kernel:
                continue
            config = ", ".join(f"{name.rstrip('_')}={value}" for name, value in kernel["config"].items())
            found.append(
                (
                    row,
                    *reached,
                    f"{config}, {kernel['num_warps']} warps, {kernel['num_stages']} stages",
                    *(str(kernel[key]) for key in ("registers", "spills", "shared")),
                    str(kernel["programs"] or ""),
                )
            )
    if found:
        yield ""
        yield "What our kernels reach, and what was chosen for them:"
        yield ""
        header = (
            "row",
            "TB/s",
            "TFLOP/s",
            "config",
            "registers",
            "spilled bytes",
            "shared bytes",
            "programs",
        )
        yield from table(header, found)


def _reached(record: dict[str, Any], us: float | None, ceilings: dict[str, float]) -> tuple[str, str]:
    """Bandwidth and rate, each with its share of the ceiling."""
    if us is None or not ceilings:
        return "", ""
    bandwidth, rate = record["bytes"] / us * 1e6, record["flops"] / us * 1e6
    return (
        f"{bandwidth / 1e12:.2f} ({bandwidth / ceilings['copy_bytes_per_second'] * 100:.0f}%)",
        f"{rate / 1e12:.0f} ({rate / ceilings['matmul_flops_per_second'] * 100:.0f}%)",
    )


def one_line(text: str) -> str:
    return " ".join(text.split())[:300].replace("|", "\\|")

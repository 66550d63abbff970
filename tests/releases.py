"""The suite on several releases of PyTorch, each in a virtual environment of its own, and a table of what came of it.

python -m tests.releases 2.12.0 2.13.0/3.7.1 latest      part of the suite that asks what is private, or wrong, in PyTorch
python -m tests.releases 2.13.0/3.7.1 2.14.1 --whole     the whole suite
python -m tests.releases 2.14.1 --graphs 200 --keep      so many fuzzed graphs; the environment stays for the next time

After a slash: the release of Triton, which a CPU's build of PyTorch does not choose. An environment with a CUDA build takes
about 6 GB; unless it is kept it is removed before the next is made.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PART = [
    "tests/inductor/compat",
    *(f"tests/inductor/test_{name}.py" for name in ("private", "scenarios", "in_place", "operator", "modes")),
    *(f"tests/inductor/test_{name}.py" for name in ("dynamic", "decisions", "reasons", "tuning")),
    *("tests/test_testing.py", "tests/test_examples.py"),
]
COLUMNS = ("torch", "triton", "passed", "failed", "skipped", "seconds", "fuzzed graphs")
VERSIONS = "import importlib.metadata as m; print(m.version('torch'), m.version('triton'))"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.releases",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("releases", nargs="+", metavar="TORCH[/TRITON]", help="2.14.1, say, or 'latest'")
    parser.add_argument("--whole", action="store_true", help="the whole suite")
    parser.add_argument("--graphs", type=int, default=50, help="fuzzed graphs")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", action="store_true", help="leave the environments where they are")
    options = parser.parse_args(arguments)
    rows = []
    for text in options.releases:
        release, _, triton = text.partition("/")
        folder = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tdsl" / f"torch-{release}"
        rows.append(try_release(release, triton, folder, options))
        if not options.keep:
            shutil.rmtree(folder)
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in rows:
        print(f"| {' | '.join(str(row.get(column, '')) for column in COLUMNS)} |")
    return int(any(row["failed"] != 0 for row in rows))


def try_release(release: str, triton: str, folder: Path, options: argparse.Namespace) -> dict[str, str | int]:
    """What the table says of one release, by column."""
    python = str(folder / "bin" / "python")
    if not Path(python).exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    torch = ["--upgrade", "torch"] if release == "latest" else [f"torch=={release}"]
    install = [python, "-m", "pip", "install", "--quiet", *torch, "-e", f"{ROOT}[dev]"]
    install += [f"triton=={triton}"] if triton else []
    if subprocess.run(install).returncode != 0:
        return {"torch": release, "failed": "not installed"}
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        # Compiled code of one release is nothing to another.
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }

    def run(summary: str, *command: object) -> tuple[str, bool]:
        """The last line that it prints and that matches, and whether it ended well; all is shown."""
        process = subprocess.Popen(
            [python, *map(str, command)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() if re.search(summary, line) else last
        return last, process.wait() == 0

    versions, _ = run(r"\d", "-c", VERSIONS)
    found: dict[str, str | int] = dict(zip(COLUMNS, versions.split(), strict=False))
    began = time.monotonic()
    workers = ["-n", options.jobs] if options.jobs > 1 else []
    tests, passed = run(r" in [\d.]+s", "-m", "pytest", "-q", *([] if options.whole else PART), *workers)
    found["fuzzed graphs"], agreed = run(
        "graphs in", "-m", "tests.fuzz", "--graphs", options.graphs, "--jobs", options.jobs
    )
    found["seconds"] = round(time.monotonic() - began)
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|error|skipped)", tests)}
    found |= {what: counts.get(what, 0) for what in ("passed", "skipped")}
    found["failed"] = counts.get("failed", 0) + counts.get("error", 0)
    if not passed and found["failed"] == 0:
        found["failed"] = "no end"
    elif not agreed:
        found["failed"] = f"{found['failed']}, and of the graphs"
    return found


if __name__ == "__main__":
    sys.exit(main())

"""The suite on several releases of PyTorch, each in a virtual environment of its own, and a table of what came of it.

python -m tests.releases 2.13.0/3.7.1 2.14.1             part of the suite that asks each private name
python -m tests.releases 2.13.0/3.7.1 2.14.1 --whole     the whole suite
python -m tests.releases 2.14.1 --graphs 200 --keep      so many fuzzed graphs; the environment stays for the next time

After a slash: the release of Triton, which a CPU's build of PyTorch does not choose. An environment with a CUDA build takes about 6 GB; unless it is kept it is removed before the next is made.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PART = [
    *(f"tests/inductor/test_{name}.py" for name in ("private", "scenarios", "in_place", "operator", "modes")),
    *(f"tests/inductor/test_{name}.py" for name in ("dynamic", "decisions", "reasons", "tuning")),
    *("tests/test_testing.py", "tests/test_examples.py"),
]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.releases",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("releases", nargs="+", metavar="TORCH[/TRITON]", help="2.14.1, say")
    parser.add_argument("--whole", action="store_true", help="the whole suite")
    parser.add_argument("--graphs", type=int, default=50, help="fuzzed graphs")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", action="store_true", help="leave the environments where they are")
    options = parser.parse_args(arguments)
    rows = []
    for text in options.releases:
        release, _, triton = text.partition("/")
        folder = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tdsl" / f"torch-{release}"
        rows.append([f"torch {release}", *try_release(release, triton, folder, options)])
        if not options.keep:
            shutil.rmtree(folder)
    print("\n| release | triton | tests | fuzzed graphs |\n|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return int(any("fail" in cell or "error" in cell for row in rows for cell in row))


def try_release(release: str, triton: str, folder: Path, options: argparse.Namespace) -> list[str]:
    """Triton's version, how the tests ended, and how the fuzzer did."""
    python = str(folder / "bin" / "python")
    if not Path(python).exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [python, "-m", "pip", "install", "--quiet", f"torch=={release}", "-e", f"{ROOT}[dev]"]
    install += [f"triton=={triton}"] if triton else []
    subprocess.run(install, check=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        # Compiled code of one release is nothing to another.
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }

    def run(summary: str, *command: object) -> str:
        """The last line that it prints and that matches; all is shown."""
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
        return last if process.wait() == 0 or "fail" in last else f"error: {last}"

    found = run(r"\d", "-c", "import importlib.metadata as m; print(m.version('triton'))")
    workers = ["-n", options.jobs] if options.jobs > 1 else []
    tests = run(r" in [\d.]+s", "-m", "pytest", "-q", *([] if options.whole else PART), *workers)
    fuzzed = run("graphs in", "-m", "tests.fuzz", "--graphs", options.graphs, "--jobs", options.jobs)
    return [found, re.sub(r" in [\d.]+s.*", "", tests), fuzzed]


if __name__ == "__main__":
    sys.exit(main())

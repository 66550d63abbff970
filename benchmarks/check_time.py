"""How long `tdsl check FILE` takes, all in all, and what is imported for it.

    python benchmarks/check_time.py [FILE]      (the matmul example unless given)

Aim: 0.3 s for the command, without torch and triton.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 10
HEAVY = ("torch", "triton", "numpy", "sympy")
MATMUL = Path(__file__).parent.parent / "examples" / "matmul" / "matmul.tdsl"


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else str(MATMUL)
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "tdsl", "check", file], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    bare = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    bare = time.perf_counter() - bare
    probe = (
        "import sys; from tdsl import cli; cli.run(['check', sys.argv[1]]); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", probe, file], check=True, capture_output=True, text=True)
    print(
        f"tdsl check {file}: median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s of {RUNS}"
    )
    print(f"Python alone: {bare:.3f} s; heavy imports: {loaded.stdout.splitlines()[-1]}")


if __name__ == "__main__":
    main()

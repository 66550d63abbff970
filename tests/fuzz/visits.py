"""Which lines of the checker and of the lowering no drawn template reaches. Needs the package `coverage`.

What is left in `tdsl/check` are mistakes, which `tests/errors` has; in `tdsl/lower`, what only a GPU or a graph asks.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path

SIZES = {"M": 7, "N": 20, "K": 24, "C": 3, "S": 5}


def report(seed: int, indices: range) -> None:
    """Prints what was not visited while the templates of these plans were checked and lowered, dynamic and static."""
    import coverage

    watch = coverage.Coverage(
        source=["tdsl/check", "tdsl/lower"],
        omit=["tdsl/lower/inductor/*", "tdsl/lower/runtime/*"],
        data_file=None,
    )
    watch.start()
    from tdsl import cli
    from tests.fuzz.programs import plan

    lowered = refused = 0
    with tempfile.TemporaryDirectory() as folder:
        for index in indices:
            for call in plan(seed, index).templates:
                path = Path(folder) / f"{call.name}.tdsl"
                path.write_text(call.text, encoding="utf-8")
                head = call.text[call.text.index("template ") :].partition("\n    ")[0]
                sizes = [f"{name}={size}" for name, size in SIZES.items() if re.search(rf"\b{name}\b", head)]
                for more in ([], ["--shape", *sizes] if sizes else []):
                    quiet = io.StringIO()
                    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                        try:
                            code = cli.main(["show", str(path), "--template", call.name, *more])
                        except SystemExit as end:
                            code = 2 if end.code else 0
                    lowered, refused = lowered + (code == 0), refused + (code != 0)
    watch.stop()
    print(f"{lowered} texts lowered, {refused} not (a guard, a size that a constant needs)")
    watch.report(show_missing=True, skip_covered=True)

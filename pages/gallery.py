"""The page of the examples, docs/examples.md: each with its template, its program and the kernel that it becomes.

The kernels are goldens, which `tests/test_examples.py` compares with what is compiled.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
KERNELS = ROOT / "tests" / "golden" / "examples"

HEAD = """\
# Examples

Written by `python -m pages` from [examples](../examples) and the goldens of the tests; edit those. `tdsl demo NAME` runs one.

Each has its templates, the program around them, and the one kernel that `torch.compile` makes of the program on a machine
without a GPU, with torch 2.13: small float32 tensors, whose sizes are written into it. On a GPU the block sizes are those
of the candidate that won, and `as_stored` and the dtypes differ.
"""


def page() -> str:
    return "\n".join([HEAD, *(_section(path.stem) for path in sorted(EXAMPLES.glob("*/*.tdsl")))])


def _section(name: str) -> str:
    template = (EXAMPLES / name / f"{name}.tdsl").read_text(encoding="utf-8")
    python = (EXAMPLES / name / f"{name}.py").read_text(encoding="utf-8")
    module = ast.parse(python)
    about = (ast.get_docstring(module) or "").partition("\n\n")[0].replace("\n", " ")
    (program,) = (
        node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "program"
    )
    kernel = (KERNELS / f"{name}.txt").read_text(encoding="utf-8")
    return "\n".join(
        [
            f"## {name}\n",
            f"{about} [Its files](../examples/{name}).\n",
            f"```tdsl\n{template.rstrip()}\n```\n",
            f"```python\n{ast.get_source_segment(python, program)}\n```\n",
            f"```triton\n{kernel.rstrip()}\n```\n",
        ]
    )

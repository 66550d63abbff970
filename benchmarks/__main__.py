"""Measures tdsl from the shell, in the root of the repository.

python -m benchmarks COMMAND
python -m benchmarks COMMAND --help     what it measures, what it needs, and its options
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.arguments import UsageError


class Command(NamedTuple):
    """The module of the same name has the rest: its description, `add_arguments(parser)` and `main(options)`."""

    measures: str
    needs: str
    gpu: bool = False  # whether it measures one; then `--tiny` is for a machine without


GPU = "an NVIDIA GPU"
COMMANDS = {
    "suite": Command("the time of each row of docs/performance.md, ours and the baselines'", GPU, gpu=True),
    "explain": Command("what the tuning chose for our kernel of a row, and its time", GPU, gpu=True),
    "configs": Command("the time of hundreds of configs of our kernels", GPU, gpu=True),
    "overhead": Command("what a call costs the host, and what a compile costs", GPU, gpu=True),
    "prologues": Command("the time of prologues fused and apart, beside the estimates", GPU, gpu=True),
    "examples": Command("the kernels and the error of each example: docs/gpu.md", GPU, gpu=True),
    "models": Command("whole models with templates put into them, beside torch.compile", GPU, gpu=True),
    "check": Command("the time of the command 'tdsl check'", "a CPU"),
    "parse": Command("the time to parse and to check a template of 50 lines", "a CPU"),
    "compiling": Command("what each of many identical layers adds to a compile", "a CPU"),
    "report": Command("nothing; writes what 'suite' measured as Markdown", "a results.json"),
    "plot": Command("nothing; draws what 'suite' measured", "a results.json, and matplotlib"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if COMMANDS[options.command].gpu and not options.tiny and not _has_gpu():
        options.fail(
            "this measures a GPU, and there is none; --tiny proves in Triton's interpreter that it runs"
        )
    try:
        status: int = options.main(options)
    except UsageError as error:
        options.fail(str(error))
    return status


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; `main(options)` in them runs the command, and `fail(text)` exits as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures tdsl. Run it in the root of the repository.",
        epilog="'python -m benchmarks COMMAND --help' says more. What needs a GPU runs without one, in Triton's "
        "interpreter, with --tiny: that proves that it runs, and nothing about speed.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    parsers = {
        name: commands.add_parser(
            name,
            help=f"{command.measures} (needs {command.needs})",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=f"Measures {command.measures}. Needs {command.needs}"
            f"{'; with --tiny a CPU will do' if command.gpu else ''}.",
        )
        for name, command in COMMANDS.items()
    }
    named = next((argument for argument in arguments if not argument.startswith("-")), "")
    if named not in COMMANDS:
        parser.parse_args(arguments)  # exits, with the help or for a word that is no command
        parser.error(f"expected a command: {', '.join(COMMANDS)}")
    if COMMANDS[named].gpu and not _has_gpu():
        # Only `--tiny` can run here. Triton reads the switch as it is imported, and the command imports it.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    # Only the command that runs is imported: most import torch, and `parse` measures what an import takes.
    module = importlib.import_module(f"benchmarks.{named}")
    parsers[named].description = module.__doc__
    module.add_arguments(parsers[named])
    line = shlex.join(["python", "-m", "benchmarks", *arguments])
    parsers[named].set_defaults(main=module.main, fail=parsers[named].error, line=line)
    return parser.parse_args(arguments)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())

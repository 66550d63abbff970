"""Processes that a command starts: what they run, where their caches are, and how they say what went wrong.

subprocess.Popen(command(measure_row, order), env=environment(folder))    ->    measure_row(order), elsewhere
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import TextIO


def command(function: Callable[..., None], *arguments: str) -> list[str]:
    """The command line that calls a module's function with these texts. It is no command for people."""
    name = function.__name__
    call = f"import sys; from {function.__module__} import {name}; {name}(*sys.argv[1:])"
    return [sys.executable, "-c", call, *arguments]


def environment(folder: str) -> dict[str, str]:
    """This process's, with the caches of compilers in `folder`."""
    return {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "inductor"),
        "TRITON_CACHE_DIR": os.path.join(folder, "triton"),
    }


def answers() -> TextIO:
    """Where this process answers, by lines; what libraries print goes to standard error from now on."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return out


def words(error: BaseException) -> str:
    """What an error says, without advice and cut where it is long."""
    text = "".join(traceback.format_exception_only(type(error), error))
    text = text.partition("\nSet TORCHDYNAMO_VERBOSE")[0].strip()
    return text if len(text) <= 600 else f"{text[:400]} ... {text[-200:]}"


def lost_device(why: str) -> bool:
    """Whether the process that met this error can no longer use its GPU."""
    return "CUDA error" in why or "illegal memory" in why

"""Inductor compiles the candidates of one kernel one after another, in one compile worker.

Eight candidates take eight times as long as one, while the other workers wait. So each is handed to a worker of its own:

    configs=[            configs=[          configs=[
        c0,         ->       c0,                              each in a compile worker; the kernel with all
        c1,                                     c1,           of them finds each in Triton's cache
    ],                   ],                 ],

Seen: torch 2.12.0, 2.13.0, 2.14.1.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from tdsl.lower.inductor.compat.call_names import AsyncCompile, CompiledTritonKernels, PyCodeCache
from tdsl.lower.runtime.names import AutotuneCache

log = logging.getLogger(__name__)

POOL_SECONDS = 30  # to wait for compile workers that are still starting

OPENING, CLOSING = "    configs=[", "    ],"  # the lines around a module's candidates


def single_candidates(text: str) -> Iterator[str]:
    """A kernel's module once per candidate: the same function, from the same line on, with that one only."""
    lines = text.split("\n")
    start, stop = lines.index(OPENING) + 1, lines.index(CLOSING)
    for kept in range(start, stop):
        yield "\n".join(line if not start <= at < stop or at == kept else "" for at, line in enumerate(lines))


def compile_ahead(name: str, text: str) -> None:
    """Hands the candidates of a module to the compile workers, if there are several and workers."""
    copies = list(single_candidates(text))
    if len(copies) == 1 or _winner_is_stored(text) or not _workers_are_ready():
        return
    log.info("%s: compiling %d candidates", name, len(copies))
    # The kernel itself begins with the first.
    for copy in copies[1:]:
        AsyncCompile().triton(name, copy)
        CompiledTritonKernels.remove_future(copy)  # nobody will ask for it


def _winner_is_stored(text: str) -> bool:
    _, path = PyCodeCache.write(text)
    cache = AutotuneCache.create({}, path, "")
    return cache is not None and cache.local_cache is not None and os.path.exists(cache.local_cache[1])


def _workers_are_ready() -> bool:
    # One after another in this process, all candidates take longer than workers take to start.
    if AsyncCompile.use_process_pool():
        return True
    try:
        AsyncCompile.wait_pool_ready(timeout=POOL_SECONDS)
    except Exception as error:
        log.info("no compile workers: %s", error)
    return bool(AsyncCompile.use_process_pool())

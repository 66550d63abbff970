"""Inductor takes a cached module for whole if there is a file of its name.

A process that was killed while it wrote one, or a disk that was full, leaves a part; every later process that compiles
the same kernel fails with a syntax error, or with a kernel that lacks its end.

Seen: torch 2.12.0, 2.13.0, 2.14.1.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from tdsl.lower.inductor.compat.call_names import PyCodeCache

log = logging.getLogger(__name__)


def discard_broken_module(text: str) -> None:
    """Removes what is cached as the module of `text`, if it is another text."""
    _, path = PyCodeCache.write(text)
    try:
        if Path(path).read_bytes().strip() != text.encode().strip():
            log.warning("%s is not what was written there: it is written again", path)
            os.unlink(path)
    except OSError as error:
        log.debug("%s: %s", path, error)

"""PyTorch and Triton compile nothing if their folders for what they compile cannot be written.

A home that is read-only, or a disk that is full, makes each compilation an OSError, though a temporary folder would do.

Seen: torch 2.12.0, 2.13.0, 2.14.1.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from contextlib import suppress

from tdsl.lower.inductor.compat.call_names import cache_dir

log = logging.getLogger(__name__)


def use_writable_caches() -> None:
    """Makes PyTorch and Triton keep what they compile in a temporary folder if theirs cannot be written."""
    with suppress(OSError):
        cache_dir()  # names the folder in the environment, and then makes it
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        folder = os.environ.get(variable)
        if folder is None or _is_writable(folder):
            continue
        os.environ[variable] = tempfile.mkdtemp(prefix="tdsl_")
        atexit.register(shutil.rmtree, os.environ[variable], ignore_errors=True)
        log.warning(
            "%s cannot be written: this process compiles everything anew, in %s", folder, os.environ[variable]
        )


def _is_writable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 65536)
            file.flush()
    except OSError as error:
        log.debug("%s: %s", folder, error)
        return False
    return True

"""PyTorch's caches on disk, where they cannot be written or hold what nobody wrote, and one thing more in them.

    a folder that is read-only or full      ->    a temporary one for this process, and a warning
    a kernel's module, cut off by a crash   ->    removed, and a warning: it is written again
    a template's text, parsed before        ->    what came of it

Stored winners are `autotuner`'s business; compiled graphs and machine code are PyTorch's and Triton's own.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tdsl.lower.inductor.compat.names import PyCodeCache, cache_dir

log = logging.getLogger(__name__)

T = TypeVar("T")


def stored(key: tuple[str, ...], make: Callable[[], T]) -> T:
    """What `make` returned when it was called with this key last, in whichever process. `key` is all that
    decides it. The file is as trusted as the compiled graphs beside it, which are code.
    """
    name = hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).hexdigest()
    path = Path(cache_dir(), "tdsl", name)
    try:
        whole = path.read_bytes()
        digest, data = whole[:32], whole[32:]
        if hashlib.sha256(data).digest() == digest:
            found: T = pickle.loads(data)
            return found
        log.warning("%s is not what was written there: it is written again", path)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.debug("%s: %s", path, error)
    made = make()
    data = pickle.dumps(made)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, also where two processes write it or one is killed.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            written = Path(folder, name)
            written.write_bytes(hashlib.sha256(data).digest() + data)
            written.replace(path)
    except OSError as error:
        log.debug("%s: %s", path, error)
    return made


def use_writable_caches() -> None:
    """Makes PyTorch and Triton keep what they compile in a temporary folder if theirs cannot be written;
    without one they compile nothing."""
    for variable, folder in (
        ("TORCHINDUCTOR_CACHE_DIR", cache_dir()),
        ("TRITON_CACHE_DIR", os.environ.get("TRITON_CACHE_DIR")),
    ):
        if folder is None or _is_writable(folder):
            continue
        os.environ[variable] = tempfile.mkdtemp(prefix="tdsl_")
        atexit.register(shutil.rmtree, os.environ[variable], ignore_errors=True)
        log.warning(
            "%s cannot be written: this process compiles everything anew, in %s", folder, os.environ[variable]
        )


def discard_broken_module(text: str) -> None:
    """Removes what is cached as the module of `text`, if it is another text."""
    _, path = PyCodeCache.write(text)
    try:
        if Path(path).read_bytes().strip() != text.encode().strip():
            log.warning("%s is not what was written there: it is written again", path)
            os.unlink(path)
    except OSError as error:
        log.debug("%s: %s", path, error)


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

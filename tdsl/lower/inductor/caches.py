"""One thing more in PyTorch's folder of what it has compiled: a template's text, parsed before.

A folder that cannot be written, and a module in it that was cut off, are in `compat`, stored winners are
`autotuner`'s business; compiled graphs and machine code are PyTorch's and Triton's own.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tdsl.lower.inductor.compat.call_names import cache_dir

log = logging.getLogger(__name__)

T = TypeVar("T")


def stored(key: tuple[str, ...], make: Callable[[], T]) -> T:
    """What `make` returned when it was called with this key last, in whichever process. `key` is all that
    decides it. The file is as trusted as the compiled graphs beside it, which are code.
    """
    name = hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).hexdigest()
    try:
        path = Path(cache_dir(), "tdsl", name)
    except OSError as error:  # PyTorch makes the folder as it is asked for
        log.debug("%s", error)
        return make()
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

from __future__ import annotations

import os

import pytest
from torch._inductor.codecache import PyCodeCache

from tdsl.lower.inductor.caches import stored
from tdsl.lower.inductor.compat.unwritable_caches import use_writable_caches
from tests.inductor.compat.upstream import assert_wrong


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs a folder that nobody can write to")
def test_a_folder_that_cannot_be_written(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/proc/tdsl")
    try:
        PyCodeCache.write("x = 1\n")
        wrong = False
    except OSError:
        wrong = True
    assert_wrong(wrong, "compat/unwritable_caches.py")
    assert stored(("key",), lambda: "made") == "made"
    use_writable_caches()
    PyCodeCache.write("x = 1\n")

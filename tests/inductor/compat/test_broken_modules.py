from __future__ import annotations

from pathlib import Path

from torch._inductor.codecache import PyCodeCache

from tdsl.lower.inductor.compat.broken_modules import discard_broken_module
from tests.inductor.compat.upstream import assert_wrong

TEXT = "def kernel():\n    return 1\n"


def test_a_module_that_was_cut_off_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    file = Path(PyCodeCache.write(TEXT)[1])
    whole = file.read_bytes()
    file.write_bytes(whole[:10])
    PyCodeCache.write(TEXT)
    assert_wrong(file.read_bytes() != whole, "compat/broken_modules.py")
    discard_broken_module(TEXT)
    PyCodeCache.write(TEXT)
    assert file.read_bytes() == whole

from __future__ import annotations

import weakref

import torch

from tdsl.lower.inductor.compat.libraries_at_exit import keep_forever
from tests.inductor.compat.upstream import assert_wrong


def goes_at_exit(library: torch.library.Library) -> bool:
    callbacks = [reference.__callback__ for reference in weakref.getweakrefs(library)]
    return any(isinstance(callback, weakref.finalize) and callback.atexit for callback in callbacks)


def test_a_library_is_taken_away_at_exit():
    """What comes of it, and of ours, `test_processes.py` has."""
    library = torch.library.Library("tdsl_test_exit", "FRAGMENT")
    assert_wrong(goes_at_exit(library), "compat/libraries_at_exit.py")
    keep_forever(library)
    assert not goes_at_exit(library)

"""PyTorch takes the operators of a library away when Python exits.

A thread that still calls one ends the process with an abort. Freed with the modules, later still, the library aborts
where an operator is already gone.

Seen: torch 2.12.0, 2.13.0, 2.14.1.
"""

from __future__ import annotations

import ctypes
import weakref

import torch


def keep_forever(library: torch.library.Library) -> None:
    """Makes a library one that is never taken away and never freed."""
    for reference in weakref.getweakrefs(library):
        if isinstance(callback := getattr(reference, "__callback__", None), weakref.finalize):
            callback.atexit = False
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))

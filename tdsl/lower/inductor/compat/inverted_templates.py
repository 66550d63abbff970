"""Inductor rewrites the loops of a template, which has none.

Before it fuses two nodes that share little, the scheduler would rewrite the second one's loops to walk what the first
wrote (`loop_index_inversion_in_fusion`, on a GPU), and takes for granted that it has loops: where it is a template,
compiling fails with an AttributeError.

Seen: torch 2.12.0, 2.13.0, and 2.15.0 by hand; not 2.14.1.
"""

from __future__ import annotations

from typing import Any

import torch

from tdsl.lower.inductor.compat.names import BaseSchedulerNode

NEEDED = torch.__version__ < "2.14" or torch.__version__ >= "2.15"


def keep_templates_from_inversion(scheduler: Any) -> None:
    """Lets a scheduler invert nothing where one of the two nodes is a template."""
    invert = getattr(scheduler, "shared_data_after_inverting_indexing", None)
    if not NEEDED or invert is None or getattr(scheduler, "_templates_are_kept", False):
        return

    def unless_template(node1: BaseSchedulerNode, node2: BaseSchedulerNode) -> int:
        return -1 if node1.is_template() or node2.is_template() else invert(node1, node2)

    scheduler.shared_data_after_inverting_indexing = unless_template
    scheduler._templates_are_kept = True

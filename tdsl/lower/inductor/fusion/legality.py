"""What work can be a part of a template's kernel at all, wherever in it."""

from __future__ import annotations

from collections.abc import Sequence

from tdsl.lower.inductor.fusion.facts import Work
from tdsl.refusal import Reason

_KINDS = {
    "template": Reason(
        text="it is a kernel of another template, or is fused with one",
        help="one template for both would be one kernel",
    ),
    "library": Reason(
        text="it is a call of a library, or of an operator that Inductor has no code for",
        help="a template in its place could be fused with what is around it",
    ),
    "reduction": Reason(
        text="it is a reduction, whose result needs elements of more than one block",
        help="reduce inside the template, or let it have a kernel of its own",
    ),
}


def not_pointwise(works: Sequence[Work]) -> Reason | None:
    """What keeps the works of one kernel, or of one to be, out of every kernel of a template."""
    for kind, reason in _KINDS.items():
        if any(work.kind == kind for work in works):
            return reason
    for work in works:
        if work.kind != "pointwise":
            return Reason(
                text=f"it is not pointwise work ({work.what})",
                help="only pointwise work moves into a template",
            )
        if work.lacking is not None:
            return Reason(
                text=f"it needs {work.lacking}, which kernels in Triton do not have",
                help="leave it apart, or rewrite it",
            )
    return None

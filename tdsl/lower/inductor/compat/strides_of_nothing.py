"""PyTorch and Inductor count a dimension that may have no elements differently.

In the strides of a fake tensor a size n that is not known before it runs is `Max(1, n)`; Inductor, which compares strides
with products of sizes, has n there. A template's output would not be contiguous to it, and nothing is fused behind it.

Seen: torch 2.12.0, 2.13.0, 2.14.1.
"""

from __future__ import annotations

from tdsl.lower.inductor.compat.names import Max, sympy


def as_products(stride: sympy.Expr) -> sympy.Expr:
    """A stride as Inductor has it. A tensor with a dimension of no elements has none that would lie elsewhere."""
    ones = {part: other for part in stride.atoms(Max) for other in part.args if part == Max(1, other)}
    return stride.xreplace(ones)

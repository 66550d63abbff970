"""Kernel and binding → Triton source with slots."""

from tdsl.lower.emission import lower
from tdsl.lower.specialization import static_axes

__all__ = ["lower", "static_axes"]

"""Kernel and binding → Triton source with slots."""

from tdsl.lower.emit.emission import lower
from tdsl.lower.facts.bound import static_axes

__all__ = ["lower", "static_axes"]

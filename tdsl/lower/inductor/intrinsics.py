"""Where packages that an earlier release saved look for `tdsl.lower.runtime.intrinsics`."""

from tdsl.lower.runtime.intrinsics import *  # noqa: F403

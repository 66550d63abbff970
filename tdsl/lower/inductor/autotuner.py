"""Where packages that an earlier release saved look for `tdsl.lower.runtime.autotuner`."""

from tdsl.lower.runtime.autotuner import *  # noqa: F403

"""Where packages that an earlier release saved look for `tdsl.lower.runtime.interpreter`."""

from tdsl.lower.runtime.interpreter import *  # noqa: F403

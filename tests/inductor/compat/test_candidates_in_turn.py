from __future__ import annotations

import threading
from types import SimpleNamespace

from torch._inductor.runtime.triton_heuristics import CachingAutotuner

from tests.inductor.compat.upstream import assert_wrong


def test_one_candidate_waits_for_the_other():
    """What is asked for first would wait for the second, were both under way."""
    second = threading.Event()
    waited = []

    def compile_one(config: str, **_: object) -> object:
        if config == "first":
            waited.append(second.wait(timeout=0.5))
        else:
            second.set()
        return SimpleNamespace()

    autotuner = SimpleNamespace(
        compile_results=[], launchers=[], configs=["first", "second"], _precompile_config=compile_one
    )
    CachingAutotuner._precompile_worker(autotuner)
    assert_wrong(waited == [False], "compat/candidates_in_turn.py")

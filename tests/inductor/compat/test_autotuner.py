"""What Inductor's autotuner does not take care of, and `TemplateAutotuner` and `template_autotune` do."""

from __future__ import annotations

import os
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import triton
from torch._inductor.runtime import autotune_cache
from torch._inductor.runtime.hints import DeviceProperties, HeuristicType
from torch._inductor.runtime.triton_heuristics import CachingAutotuner, cached_autotune

from tests.inductor.compat.upstream import assert_wrong

WHERE = "runtime/autotuner.py: "


def test_options_of_a_candidate_are_dropped():
    config = triton.Config({}, num_warps=4, num_stages=2, num_ctas=2, maxnreg=64)
    autotuner = SimpleNamespace(device_props=SimpleNamespace(type="cuda"))
    meta = {"num_warps": 4, "num_stages": 2, "debug": False}
    options = CachingAutotuner._create_compile_options(autotuner, config, meta)
    assert_wrong(
        not options.keys() & {"maxnreg", "num_ctas"}, WHERE + "TemplateAutotuner._create_compile_options"
    )


def test_a_second_thread_times_the_winner_again():
    autotuner = mock.MagicMock()
    autotuner.fn.__name__ = "kernel"
    autotuner.launchers = [mock.MagicMock()]
    autotuner.benchmark_all_configs.return_value = {autotuner.launchers[0]: 1.0}
    CachingAutotuner.autotune_to_one_config(autotuner)
    wrong = autotuner.benchmark_all_configs.called
    assert_wrong(wrong, WHERE + "TemplateAutotuner.autotune_to_one_config")


@pytest.mark.parametrize(
    "stored, needed",
    [
        ([1, 2], True),
        (
            {"configs_hash": "key", "BLOCK": 8192, "num_warps": 4, "num_stages": 2},
            torch.__version__ >= "2.13",
        ),
    ],
    ids=["of another kind", "of another kernel"],
)
def test_a_stored_winner_that_is_none(stored, needed):
    candidates = [triton.Config({"BLOCK": 64}, num_warps=4, num_stages=2)]
    try:
        winner = autotune_cache._load_cached_autotuning(stored, "key", candidates, {})
        wrong = winner is not None and winner not in candidates
    except Exception:
        wrong = True
    where = WHERE + "TemplateAutotuner.recheck_autotune_cache, template_autotune"
    assert_wrong(wrong, where, needed=needed)


def test_a_stored_winner_forgets_what_is_not_stored():
    data = {}
    config = triton.Config({"BLOCK": 64}, num_warps=4, num_stages=2, maxnreg=64)
    cache = mock.MagicMock(configs_hash="key", local_cache=(mock.MagicMock(), "key"), remote_cache=None)
    cache.local_cache[0].put = lambda key, value: data.update(value)
    autotune_cache.AutotuneCache.save(cache, config, 5)
    assert_wrong("maxnreg" not in data, WHERE + "_decorator")


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs a folder that nobody can write to")
def test_a_winner_that_cannot_be_stored_is_an_error():
    cache = autotune_cache.AutotuneCache.create({}, "/proc/tdsl/kernel.py", "key")
    try:
        cache.save(triton.Config({"BLOCK": 64}), 5)
        wrong = False
    except OSError:
        wrong = True
    assert_wrong(wrong, WHERE + "_Saving")


def test_the_tables_of_a_decorator_are_emptied():
    meta = {"mutated_arg_names": ["in_ptr0"], "grid_type": "PrecomputedGrid", "autotune_local_cache": False}
    cached_autotune(
        size_hints=None,
        configs=[triton.Config({"BLOCK": 64})],
        triton_meta={"device": DeviceProperties("cuda", 0, 1, 90), "signature": {}},
        heuristic_type=HeuristicType.TEMPLATE,
        filename=__file__,
        inductor_meta=meta,
        custom_kernel=True,
    )
    assert_wrong("mutated_arg_names" not in meta, WHERE + "_decorator")

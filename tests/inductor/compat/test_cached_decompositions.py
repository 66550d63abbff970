from __future__ import annotations

import torch
from torch._inductor import decomposition

from tdsl.lower.inductor.compat.cached_decompositions import register_decomposition
from tests.inductor.compat.upstream import assert_wrong


def test_what_is_registered_after_the_first_use_is_not_seen():
    def negated(x: torch.Tensor) -> torch.Tensor:
        return -x

    with torch.library._scoped_library("tdsl_test_decompositions", "FRAGMENT") as library:
        library.define("late(Tensor x) -> Tensor")
        op = torch.ops.tdsl_test_decompositions.late.default
        decomposition.select_decomp_table()
        try:
            decomposition.register_decomposition([op])(negated)
            wrong = op not in decomposition.select_decomp_table()
            del decomposition.decompositions[op]
            register_decomposition(op, negated)
            assert op in decomposition.select_decomp_table()
        finally:
            decomposition.decompositions.pop(op, None)
            decomposition.fast_random_decomps.cache_clear()
    assert_wrong(wrong, "compat/cached_decompositions.py")

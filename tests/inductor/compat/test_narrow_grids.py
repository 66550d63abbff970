from __future__ import annotations

import inspect

from torch._inductor.codegen import cpp_wrapper_gpu

from tdsl.lower.inductor.compat.narrow_grids import within_32_bits
from tests.inductor.compat.upstream import assert_wrong


def test_a_grid_has_32_bits_in_cpp():
    assert_wrong("uint32_t grid_0" in inspect.getsource(cpp_wrapper_gpu), "compat/narrow_grids.py")


def test_ours_is_still_too_many():
    assert within_32_bits("ks0 * ks1") == "std::min<int64_t>(ks0 * ks1, 4294967295)"

from __future__ import annotations

import sympy
import torch
from torch._inductor.ir import FlexibleLayout
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from tdsl.lower.inductor.compat.strides_of_nothing import as_products
from tests.inductor.compat.upstream import assert_wrong


def test_strides_count_a_dimension_of_no_elements_as_one():
    environment = ShapeEnv()
    with FakeTensorMode(shape_env=environment):
        fake = torch.empty(4, environment.create_unbacked_symint(), 8)
    sizes, strides = (
        [sympy.sympify(size.node.expr if isinstance(size, torch.SymInt) else size) for size in part]
        for part in (fake.shape, fake.stride())
    )
    wanted = FlexibleLayout.contiguous_strides(sizes)
    assert_wrong(strides != wanted, "compat/strides_of_nothing.py")
    assert list(map(as_products, strides)) == wanted

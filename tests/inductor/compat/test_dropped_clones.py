from __future__ import annotations

import torch

from tests.inductor.compat.upstream import assert_wrong


def test_a_clone_of_what_is_written_to_is_the_argument(device):
    """Without a template: ours are given theirs back, see `test_in_place.py`."""

    @torch.compile
    def program(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        y[1] = x
        return y.clone()

    y = torch.zeros(3, 4, device=device)
    found = program(y, torch.ones(4, device=device))
    assert_wrong(found.data_ptr() == y.data_ptr(), "compat/dropped_clones.py")

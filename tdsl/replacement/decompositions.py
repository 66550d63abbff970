"""What is taken apart before it becomes terms: PyTorch's own decompositions, of operators that people also write by hand.

Not `norm` and `std`: their gradient is 0 where what is written by hand, the root of a sum, has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tdsl.lower.inductor.compat.call_names import get_decompositions

aten = torch.ops.aten
DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    **get_decompositions(
        [
            aten.native_layer_norm,
            aten.native_group_norm,
            aten._fused_rms_norm,
            aten._softmax,
            aten._log_softmax,
            aten._safe_softmax,
            aten.logsumexp,
            aten.nll_loss_forward,
            aten.nll_loss2d_forward,
            aten.var,
            aten.var_mean,
            aten.glu,
            aten.addcdiv,
            aten.hardswish,
            aten.hardsigmoid,
            aten.hardtanh,
            aten.leaky_relu,
            aten.elu,
            aten.mish,
            aten.softplus,
            aten.log_sigmoid_forward,
            aten.mse_loss,
            aten.smooth_l1_loss,
            aten.lerp,
            aten.stack,
            aten.split_with_sizes,
        ]
    )
}

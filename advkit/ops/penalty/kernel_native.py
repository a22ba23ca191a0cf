"""`penalty` in the compiled module: addresses and strides of checked tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advkit.norms import NORMS
from advkit.ops._check import row_stride
from advkit.ops._dispatch import native

__all__ = ["bound_at", "penalty_out"]


def bound_at(bound: Tensor) -> Any:
    """Describe a bound of shape (1 or B, 1 or n) to the compiled module."""
    return native().BoundAt(bound.data_ptr(), row_stride(bound), bound.shape[1] > 1)


def penalty_out(
    x: Tensor,
    x0: Tensor,
    g_loss: Tensor,
    c: Tensor,
    lower: Tensor,
    upper: Tensor,
    norm: str,
    value: Tensor,
    gradient: Tensor,
    free: Tensor,
) -> None:
    """Write the value (B,), gradient (B, n) and free set (B, n) of `advkit.ops.penalty`."""
    run = native().penalty_f32 if x.dtype == torch.float32 else native().penalty_f64
    run(
        *x.shape,
        *(
            x.data_ptr(),
            row_stride(x),
            x0.data_ptr(),
            row_stride(x0),
            g_loss.data_ptr(),
            row_stride(g_loss),
        ),
        *(c.data_ptr(), bound_at(lower), bound_at(upper), NORMS[norm].kernel_id),
        *(value.data_ptr(), gradient.data_ptr(), free.data_ptr(), torch.get_num_threads()),
    )

"""`two_loop` in the compiled module: addresses and strides of checked tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.ops._check import row_stride, suffix
from advkit.ops._dispatch import native

__all__ = ["two_loop_out"]


def two_loop_out(
    g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor, direction: Tensor
) -> None:
    """Write the direction (B, n) of `advkit.ops.two_loop`."""
    getattr(native(), f"two_loop_{suffix(g, S)}")(
        *(g.shape[0], g.shape[1], S.shape[1], g.data_ptr(), row_stride(g)),
        *(S.data_ptr(), row_stride(S), S.stride(1), Y.data_ptr(), row_stride(Y), Y.stride(1)),
        *(head.data_ptr(), count.data_ptr(), free.data_ptr(), row_stride(free)),
        *(direction.data_ptr(), torch.get_num_threads()),
    )

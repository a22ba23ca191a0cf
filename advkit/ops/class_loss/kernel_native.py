"""`class_loss` in the compiled module: addresses and strides of checked tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.losses import LOSSES
from advkit.ops._check import row_stride
from advkit.ops._dispatch import native

__all__ = ["class_loss_out"]


def class_loss_out(
    logits: Tensor,
    labels: Tensor,
    kind: str,
    targeted: bool,
    kappa: float,
    sharpness: float,
    loss: Tensor,
    dlogits: Tensor,
) -> None:
    """Write the loss (B,) and its gradient (B, K) of `advkit.ops.class_loss`."""
    run = native().class_loss_f32 if logits.dtype == torch.float32 else native().class_loss_f64
    run(
        *logits.shape,
        *(logits.data_ptr(), row_stride(logits), labels.data_ptr(), LOSSES[kind].kernel_id),
        *(targeted, kappa, sharpness, loss.data_ptr(), dlogits.data_ptr(), torch.get_num_threads()),
    )

"""`class_loss` in the module of CUDA kernels: addresses and strides of checked tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from advkit.losses import LOSSES
from advkit.ops._check import row_stride, suffix
from advkit.ops._cuda import cuda, run

__all__ = ["class_loss_out", "prepare"]


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
    """Write the loss (B,) and its gradient (B, K) of `advkit.ops.class_loss`.

    Rows whose label lies outside of 0 ... K - 1 are NaN.
    """
    run(prepare(logits, labels, kind, targeted, kappa, sharpness, loss, dlogits), logits.device)


def prepare(
    logits: Tensor,
    labels: Tensor,
    kind: str,
    targeted: bool,
    kappa: float,
    sharpness: float,
    loss: Tensor,
    dlogits: Tensor,
) -> Any:
    """Return the launches of the op."""
    return getattr(cuda(), f"class_loss_{suffix(logits)}")(
        *logits.shape,
        *(logits.data_ptr(), row_stride(logits), labels.data_ptr(), LOSSES[kind].kernel_id),
        *(targeted, kappa, sharpness, loss.data_ptr(), dlogits.data_ptr()),
    )

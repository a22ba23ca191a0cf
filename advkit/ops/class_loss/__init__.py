"""The loss on the logits and its gradient, in one pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from advkit.losses import LOSSES
from advkit.ops import _dispatch
from advkit.ops._check import check_choice, check_tensor, check_vector
from advkit.ops.class_loss import reference

__all__ = ["class_loss", "class_loss_out"]

HALF = (torch.float16, torch.bfloat16)


def class_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    kind: str = "cross_entropy",
    targeted: bool = False,
    kappa: float = 0.0,
    sharpness: float = 10.0,
) -> tuple[Tensor, Tensor]:
    """Loss of each row of logits, and its gradient.

    With z the logits, y the label and R the largest other logit:

    margin
        max(z_y - R, -kappa); targeted max(R - z_y, -kappa) (Carlini & Wagner 2016, f6). It has
        kinks where two logits are equally large.
    smooth_margin
        softplus(b (z_y - R_b + kappa)) / b with b the sharpness and R_b = log(sum_{k != y}
        exp(b z_k)) / b the smooth maximum; targeted with R_b - z_y.
    cross_entropy
        The same with b = 1 and kappa = 0: -log(1 - p_y), targeted -log p_y; exact where p_y rounds
        to 0 or 1.

    Parameters
    ----------
    logits : Tensor (B, K)
        K >= 2; float32 or float64, on a GPU float16 or bfloat16, too, any floating dtype on the
        reference backend.
    labels : Tensor (B,) of int64
        The target when targeted, else the class to leave.
    kind : {"cross_entropy", "margin", "smooth_margin"}
        See above.
    targeted : bool
        Whether to reach the label or to leave it.
    kappa : float
        Confidence of the margins, at least 0: beyond it they stop to count.
    sharpness : float
        Of smooth_margin, which turns into margin as it grows.

    Returns
    -------
    loss : Tensor (B,)
        Differentiable by logits. NaN where a logit is NaN.
    dlogits : Tensor (B, K)
        Its gradient, a constant to autograd. Among equal largest rivals, the first carries it.

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype, shape or device, or labels outside 0 ... K - 1; on a GPU, where a look at
        the labels would wait for it, such a label gives NaN.
    """
    _check(logits, labels, kind, kappa, sharpness)
    loss, dlogits = torch.ops.advkit.class_loss(logits, labels, kind, targeted, kappa, sharpness)
    return loss, dlogits


def class_loss_out(
    logits: Tensor,
    labels: Tensor,
    *,
    kind: str = "cross_entropy",
    targeted: bool = False,
    kappa: float = 0.0,
    sharpness: float = 10.0,
    loss: Tensor,
    dlogits: Tensor,
) -> None:
    """Write the results of `class_loss` into tensors given; no autograd, no dispatcher.

    Parameters
    ----------
    loss, dlogits : Tensor
        As `class_loss` returns them, contiguous. The other parameters are those of `class_loss`.
    """
    _check(logits, labels, kind, kappa, sharpness)
    check_vector("loss", loss, size=len(logits), like=logits)
    check_tensor("dlogits", dlogits, shape=tuple(logits.shape), like=logits)
    if not dlogits.is_contiguous():
        raise ValueError("dlogits must be contiguous; allocate it with torch.empty")
    _run(logits, labels, kind, targeted, kappa, sharpness, loss, dlogits)


def _check(logits: Tensor, labels: Tensor, kind: str, kappa: float, sharpness: float) -> None:
    check_tensor("logits", logits, shape=(None, None))
    if logits.shape[1] < 2:
        raise ValueError(f"logits must have at least 2 classes, got shape {tuple(logits.shape)}")
    check_vector("labels", labels, size=logits.shape[0], like=logits, dtype=torch.int64)
    check_choice("kind", kind, LOSSES)
    if not (math.isfinite(kappa) and kappa >= 0):
        raise ValueError(f"kappa must be finite and at least 0, got {kappa}")
    if not (math.isfinite(sharpness) and sharpness > 0):
        raise ValueError(f"sharpness must be finite and positive, got {sharpness}")


def _run(
    logits: Tensor,
    labels: Tensor,
    kind: str,
    targeted: bool,
    kappa: float,
    sharpness: float,
    loss: Tensor,
    dlogits: Tensor,
) -> None:
    backend = _dispatch.choose(logits, also=HALF)
    if backend != "cpu" and logits.device.type == "cpu" and len(labels):
        least, most = labels.aminmax()
        if least < 0 or most >= logits.shape[1]:
            raise ValueError(f"labels must lie in 0 ... K - 1 = {logits.shape[1] - 1}")
    if backend != "reference":
        run = _dispatch.kernels("class_loss", backend).class_loss_out
        run(logits, labels, kind, targeted, kappa, sharpness, loss, dlogits)
        return
    value, gradient = reference.class_loss(logits, labels, kind, targeted, kappa, sharpness)
    loss.copy_(value)
    dlogits.copy_(gradient)


def compute(
    logits: Tensor, labels: Tensor, kind: str, targeted: bool, kappa: float, sharpness: float
) -> tuple[Tensor, Tensor]:
    """Serve ``torch.ops.advkit.class_loss``."""
    _check(logits, labels, kind, kappa, sharpness)
    loss, dlogits = fake(logits, labels, kind, targeted, kappa, sharpness)
    _run(logits, labels, kind, targeted, kappa, sharpness, loss, dlogits)
    return loss, dlogits


def fake(
    logits: Tensor, labels: Tensor, kind: str, targeted: bool, kappa: float, sharpness: float
) -> tuple[Tensor, Tensor]:
    """Allocate the results."""
    return logits.new_empty(logits.shape[0]), logits.new_empty(logits.shape)


def setup_context(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: tuple[Tensor, ...]
) -> None:
    """Keep the gradient, which is all that `backward` needs."""
    dlogits = output[1]
    ctx.save_for_backward(dlogits)
    ctx.mark_non_differentiable(dlogits)


@once_differentiable
def backward(
    ctx: torch.autograd.function.FunctionCtx, d_loss: Tensor, d_dlogits: Tensor
) -> tuple[Tensor | None, ...]:
    """Vector-Jacobian product of the loss."""
    (dlogits,) = ctx.saved_tensors  # type: ignore[attr-defined]
    return d_loss[:, None] * dlogits, None, None, None, None, None

"""`class_loss` in plain PyTorch: the definition, for any floating dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.losses import LOSSES

__all__ = ["class_loss"]


def class_loss(
    logits: Tensor, labels: Tensor, kind: str, targeted: bool, kappa: float, sharpness: float
) -> tuple[Tensor, Tensor]:
    """Loss and its gradient; see `advkit.ops.class_loss`."""
    row = LOSSES[kind]
    sign = -1.0 if targeted else 1.0
    own = labels[:, None]
    others = logits.scatter(1, own, -torch.inf)
    rival, share = row.rival(others, sharpness)
    difference = sign * (logits.gather(1, own)[:, 0] - rival)
    loss, slope = row.value_and_slope(difference, kappa, sharpness)
    d_own = sign * slope[:, None]
    dlogits = (-d_own * share).scatter(1, own, d_own)
    bad = logits.isnan().any(1)
    return loss.masked_fill(bad, torch.nan), dlogits.masked_fill(bad[:, None], torch.nan)

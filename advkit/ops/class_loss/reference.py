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
    if row.smooth_rival:
        rival = others.logsumexp(1)
        share = others.softmax(1)
    else:
        rival, which = others.max(1)
        share = torch.zeros_like(logits).scatter_(1, which[:, None], 1.0)
    gap = sign * (logits.gather(1, own)[:, 0] - rival)
    loss, slope = row.value_and_slope(gap, kappa, sharpness)
    d_own = sign * slope[:, None]
    dlogits = (-d_own * share).scatter(1, own, d_own)
    bad = logits.isnan().any(1)
    return loss.masked_fill(bad, torch.nan), dlogits.masked_fill(bad[:, None], torch.nan)

"""`penalty` in plain PyTorch: the definition, for any floating dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.norms import NORMS

__all__ = ["free_set", "penalty", "projected_gradient_norm", "smooth_part"]

ACTIVE_MARGIN = 1e-3


def smooth_part(
    norm: str, x: Tensor, x0: Tensor | None, g: Tensor, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the part of the box where |x - x0| keeps its signs, for a norm with kinks at r_i = 0.

    Values stop at x0 and leave it on the side to which -g points: the orthant rule of OWL-QN
    (Andrew & Gao 2007, section 3.2) as a smaller box. Other norms keep the box.
    """
    if not NORMS[norm].kinks_at_zero or x0 is None:
        return lower, upper
    up = (x > x0) | ((x == x0) & (g < 0))
    down = (x < x0) | ((x == x0) & (g > 0))
    return torch.where(down, lower, torch.maximum(x0, lower)), torch.where(
        up, upper, torch.minimum(x0, upper)
    )


def projected_gradient_norm(x: Tensor, g: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return max_i |P(x - g) - x|_i (B,) in float64: zero exactly at a stationary point."""
    if x.shape[1] == 0:
        return x.new_zeros(len(x), dtype=torch.float64)
    return ((x - g).clamp(lower, upper) - x).abs().amax(dim=1).double()


def free_set(x: Tensor, g: Tensor, lower: Tensor, upper: Tensor, gradient_norm: Tensor) -> Tensor:
    """Return which values are free: not at a bound -g points out of (Bertsekas 1982, equation 32).

    "At" a bound means within min(1e-3, |P(x - g) - x|_inf, half the box).
    """
    near = torch.minimum(
        gradient_norm.clamp(max=ACTIVE_MARGIN).to(x.dtype)[:, None], (upper - lower) / 2
    )
    return ~(((x <= lower + near) & (g > 0)) | ((x >= upper - near) & (g < 0)))


def penalty(
    x: Tensor, x0: Tensor, g_loss: Tensor, c: Tensor, lower: Tensor, upper: Tensor, norm: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient and free set; see `advkit.ops.penalty`."""
    row = NORMS[norm]
    value = (c.double() * row.value(x - x0)[:, 0]).to(x.dtype)
    gradient = row.gradient(x - x0, g_loss, c[:, None])
    low, high = smooth_part(norm, x, x0, gradient, lower, upper)
    return (
        value,
        gradient,
        free_set(x, gradient, low, high, projected_gradient_norm(x, gradient, low, high)),
    )

"""The losses on the logits: one row each, with everything that any backend or test needs to know of it.

Each is small where the attack has succeeded: the targeted forms where the label is predicted, the untargeted ones where
it is not. To add a loss, add a row here, a case in ``csrc/cpu/class_loss.hpp`` and its number in
``csrc/include/advkit/params.hpp``; the tests run over every row of `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LOSSES", "Loss"]


@dataclass(frozen=True)
class Loss:
    """A loss and its gradient by the logits z (B, K).

    Parameters
    ----------
    name : str
        What the user writes.
    kernel_id : int
        ``advkit::Loss`` in ``csrc/include/advkit/params.hpp``.
    value_and_slope : callable
        (gap (B,), kappa, sharpness) -> value (B,) and its derivative by the gap. The gap is what the loss is a function of:
        z_y - rival, with the sign turned when targeted.
    smooth_rival : bool
        Whether the rival of class y is log sum exp of the other logits, rather than the largest of them.
    """

    name: str
    kernel_id: int
    value_and_slope: Callable[[Tensor, float, float], tuple[Tensor, Tensor]]
    smooth_rival: bool


def _softplus(v: Tensor) -> Tensor:
    # torch's softplus turns linear at 20, which costs half of float64's digits.
    return torch.logaddexp(v, torch.zeros_like(v))


def _cross_entropy(gap: Tensor, kappa: float, sharpness: float) -> tuple[Tensor, Tensor]:
    return _softplus(gap), torch.sigmoid(gap)


def _margin(gap: Tensor, kappa: float, sharpness: float) -> tuple[Tensor, Tensor]:
    return torch.clamp(gap + kappa, min=0) - kappa, (gap + kappa > 0).to(gap.dtype)


def _smooth_margin(gap: Tensor, kappa: float, sharpness: float) -> tuple[Tensor, Tensor]:
    scaled = sharpness * (gap + kappa)
    return _softplus(scaled) / sharpness, torch.sigmoid(scaled)


LOSSES: dict[str, Loss] = {
    row.name: row
    for row in (
        Loss("cross_entropy", 0, _cross_entropy, smooth_rival=True),
        Loss("margin", 1, _margin, smooth_rival=False),
        Loss("smooth_margin", 2, _smooth_margin, smooth_rival=False),
    )
}

"""The losses on the logits: one row each, with all that a backend or a test needs of it.

Each is small where the attack has succeeded: the targeted forms where the label is predicted, the
untargeted ones where it is not. To add a loss, add a row here, a case in
``csrc/cpu/class_loss.hpp`` and its number in ``csrc/include/advkit/params.hpp``; the tests run over
every row of `LOSSES`. `dlr` has no kernel: attacks take it as they take a function of the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LOSSES", "Loss", "dlr"]


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
        (difference (B,), kappa, sharpness) -> value (B,) and its derivative by the difference:
        z_y - rival, with the sign turned when targeted.
    rival : callable
        (other logits (B, K), that of the label -inf, sharpness) -> what z_y is compared with (B,),
        and the share of each logit in it (B, K), its gradient.
    """

    name: str
    kernel_id: int
    value_and_slope: Callable[[Tensor, float, float], tuple[Tensor, Tensor]]
    rival: Callable[[Tensor, float], tuple[Tensor, Tensor]]


def _largest(others: Tensor, sharpness: float) -> tuple[Tensor, Tensor]:
    value, which = others.max(1)
    return value, torch.zeros_like(others).scatter_(1, which[:, None], 1.0)


def _smooth_largest(others: Tensor, sharpness: float) -> tuple[Tensor, Tensor]:
    scaled = sharpness * others
    return scaled.logsumexp(1) / sharpness, scaled.softmax(1)


def _margin(difference: Tensor, kappa: float, sharpness: float) -> tuple[Tensor, Tensor]:
    beyond = difference + kappa
    return torch.clamp(beyond, min=0) - kappa, (beyond > 0).to(difference.dtype)


def _smooth_margin(difference: Tensor, kappa: float, sharpness: float) -> tuple[Tensor, Tensor]:
    scaled = sharpness * (difference + kappa)
    # Not torch's softplus: it turns linear at 20, which costs half of float64's digits.
    value = torch.logaddexp(scaled, torch.zeros_like(scaled)) / sharpness
    return value, torch.sigmoid(scaled)


LOSSES: dict[str, Loss] = {
    row.name: row
    for row in (
        Loss(
            "cross_entropy",
            0,
            value_and_slope=lambda difference, kappa, sharpness: _smooth_margin(difference, 0, 1),
            rival=lambda others, sharpness: _smooth_largest(others, 1),
        ),
        Loss("margin", 1, value_and_slope=_margin, rival=_largest),
        Loss("smooth_margin", 2, value_and_slope=_smooth_margin, rival=_smooth_largest),
    )
}


def dlr(targeted: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the difference-of-logits ratio (Croce & Hein 2020, section 4) as a loss of its own.

    The margin by which the network is not fooled, over the distance of the largest logit to the
    third largest (targeted: to the mean of the third and fourth): neither shift nor scale of the
    logits changes it.

    Parameters
    ----------
    targeted : bool
        Whether the labels are to be reached, not left.

    Returns
    -------
    callable
        Logits (B, K), labels (B,) -> (B,); negative where the network is fooled. K must be at least
        3, targeted 4.
    """
    needed = 4 if targeted else 3

    def dlr(logits: Tensor, labels: Tensor) -> Tensor:
        if logits.shape[1] < needed:
            raise ValueError(f'loss "dlr" needs at least {needed} classes, got {logits.shape[1]}')
        own = logits.gather(1, labels[:, None])[:, 0]
        rival = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
        ranked = logits.topk(needed, dim=1).values
        spread = ranked[:, 0] - (ranked[:, 2] if not targeted else ranked[:, 2:].mean(1))
        return (rival - own if targeted else own - rival) / spread.clamp(min=1e-12)

    return dlr

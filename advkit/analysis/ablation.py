"""What a network loses with its units, and with as many random directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.analysis.directions import directions
from advkit.transfer.matrix import predictions

__all__ = ["AblationCurve", "ablation"]


@dataclass(frozen=True)
class AblationCurve:
    """Accuracy against how many directions are removed.

    Parameters
    ----------
    kind : str
        "natural" or "rotation".
    removed : tuple of int
        How many directions.
    accuracy : tuple of float
        Mean over the orders, in [0, 1].
    low, high : tuple of float
        The smallest and largest over the orders.
    """

    kind: str
    removed: tuple[int, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def ablation(
    head: Callable[[Tensor], Tensor],
    features: Tensor,
    labels: Tensor,
    *,
    steps: int = 10,
    orders: int = 10,
    seed: int = 0,
) -> tuple[AblationCurve, ...]:
    """Remove more and more directions of the features, and measure the accuracy.

    Along a removed direction every image has the mean of all (Morcos, Barrett, Rabinowitz &
    Botvinick 2018, "On the importance of single directions for generalization", section 3.1): units
    in random orders, and rows of random rotations, as many of both.

    Parameters
    ----------
    head : callable
        Features (B, n) to logits (B, K); a module is held in eval mode meanwhile. Where a logit is
        not finite, the answer counts as wrong.
    features : Tensor (N, n)
        Of the images.
    labels : Tensor (N,) of int64
        Their labels.
    steps : int
        Points of a curve after the first, evenly from 0 to n directions.
    orders : int
        How many orders, and rotations.
    seed : int
        Of both.

    Returns
    -------
    tuple of AblationCurve
        Of "natural" and "rotation".

    Raises
    ------
    ValueError
        A shape does not fit, a label is below 0, a number is below 1, or `head` returns something
        else than (B, K).
    """
    if features.ndim != 2 or labels.shape != features.shape[:1] or not features.numel():
        raise ValueError(
            f"features and labels: expected shapes (N, n) and (N,), got {tuple(features.shape)} "
            f"and {tuple(labels.shape)}"
        )
    if int(labels.min()) < 0:
        raise ValueError(f"labels: expected values of at least 0, got {int(labels.min())}")
    if steps < 1 or orders < 1:
        raise ValueError(f"steps and orders: expected at least 1, got {steps} and {orders}")
    n = features.shape[1]
    removed = sorted({round(n * step / steps) for step in range(steps + 1)})
    mean = features.mean(0)
    curves = []
    for kind in ("natural", "rotation"):
        found = torch.zeros(orders, len(removed), dtype=torch.float64)
        for order in range(orders):
            basis = directions(kind, n, seed=seed + order)
            generator = torch.Generator().manual_seed(seed + order)
            basis = basis[torch.randperm(n, generator=generator)].to(features)
            for place, count in enumerate(removed):
                gone = basis[:count]
                left = features - ((features - mean) @ gone.mT) @ gone
                right = predictions(head, left, len(left)) == labels
                found[order, place] = right.double().mean()
        curves.append(
            AblationCurve(
                kind,
                tuple(removed),
                tuple(found.mean(0).tolist()),
                tuple(found.amin(0).tolist()),
                tuple(found.amax(0).tolist()),
            )
        )
    return tuple(curves)

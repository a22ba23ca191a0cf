"""The exact smallest changes of a network without hidden layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["exact_distance"]


def exact_distance(linear: nn.Linear, x: Tensor, labels: Tensor) -> Tensor:
    """Return the exact L2 distance to another answer of a softmax without hidden layers.

    To leave a class is to cross the border to one other class, a half-space: the distance is the
    smallest of K - 1 projections on a half-space within [0, 1]^n, each exact after sorting.

    Parameters
    ----------
    linear : torch.nn.Linear
        Images (B, n) to logits (B, K).
    x : Tensor (B, *shape)
        Images in [0, 1].
    labels : Tensor (B,) of int64
        The classes to leave.

    Returns
    -------
    Tensor (B,), float64
        Distances; 0 where another class wins already, inf where the box does not let it.
    """
    with torch.no_grad():
        flat, weight, bias = (
            value.double() for value in (x.flatten(1), linear.weight, linear.bias)
        )
    distances = torch.full((len(flat), len(bias)), torch.inf, dtype=torch.float64)
    for k in range(len(bias)):
        rows = (labels != k).nonzero()[:, 0]
        normal = weight[labels[rows]] - weight[k]
        offset = bias[labels[rows]] - bias[k]
        distances[rows, k] = _to_halfspace(flat[rows], normal, offset)
    return distances.amin(1)


def _to_halfspace(x: Tensor, normal: Tensor, offset: Tensor) -> Tensor:
    """Return the distances (B,) to ``normal z + offset <= 0`` within the box.

    The nearest point is ``clip(x - mu normal)``. With mu growing, a value moves until it meets its
    bound at ``t_i = room_i / |normal_i|``, so ``sum_i normal_i^2 min(mu, t_i)``, which has to equal
    the gap, is piecewise linear in mu.
    """
    gap = (normal * x).sum(1) + offset
    room = torch.where(normal > 0, x, 1 - x)
    size = normal.abs()
    meets, order = torch.where(size > 0, room / size, torch.inf).sort(1)
    square = size.square().gather(1, order)
    finite = torch.where(meets.isfinite(), meets, 0.0)
    met = square * finite
    before = met.cumsum(1) - met
    moving = square.flip(1).cumsum(1).flip(1)
    mu = (gap[:, None] - before) / moving
    fits = mu <= meets
    chosen = mu.gather(1, fits.double().argmax(1, keepdim=True))[:, 0]
    moved = torch.minimum(chosen[:, None] * size, room)
    distance = moved.norm(dim=1)
    reached = fits.any(1) & chosen.isfinite()
    return torch.where(gap <= 0, 0.0, torch.where(reached, distance, torch.inf))

"""What `minimize` returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["MinimizeResult", "Round"]


@dataclass(frozen=True)
class MinimizeResult:
    """The minimisers of B problems.

    Attributes
    ----------
    x : Tensor (B, *shape)
        The points, always inside the box.
    value : Tensor (B,) of float64
        The objective there.
    gradient_norm : Tensor (B,) of float64
        max_i |P(x - g) - x|_i, zero exactly at a stationary point.
    status : Tensor (B,) of int8
        Why each problem stopped: `advkit.optim.Status`.
    evaluations : Tensor (B,) of int64
        How often value_and_grad was asked about each problem.
    iterations : Tensor (B,) of int64
        Accepted steps.
    """

    x: Tensor
    value: Tensor
    gradient_norm: Tensor
    status: Tensor
    evaluations: Tensor
    iterations: Tensor


@dataclass(frozen=True)
class Round:
    """One round, as a callback sees it: b problems were evaluated once.

    Attributes
    ----------
    index : Tensor (b,) of int64
        Which problems.
    x : Tensor (b, *shape)
        Where.
    value : Tensor (b,)
        The objective there.
    gradient : Tensor (b, *shape)
        Its gradient.
    """

    index: Tensor
    x: Tensor
    value: Tensor
    gradient: Tensor

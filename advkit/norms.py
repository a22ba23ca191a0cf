"""The norms of a perturbation r: one row each, with all that a backend or a test needs of it.

To add a norm, add a row here, a case in ``csrc/cpu/penalty.hpp`` and its number in
``csrc/include/advkit/params.hpp``; the tests run over every row of `NORMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NORMS", "Norm"]


def _total(values: Tensor) -> Tensor:
    return values.sum(dim=1, keepdim=True, dtype=torch.float64)


@dataclass(frozen=True)
class Norm:
    """A norm |r|, its gradient and its curvature, on rows r (B, n).

    Parameters
    ----------
    name : str
        What the user writes.
    kernel_id : int
        ``advkit::Norm`` in ``csrc/include/advkit/params.hpp``.
    value : callable
        r (B, n) -> (B, 1) float64.
    gradient : callable
        (r, g_loss, c (B, 1)) -> (B, n): the gradient of c |r| + loss. Where |r| has no derivative,
        the element of least norm of the sum's subdifferential, so that it is zero exactly where r
        is a minimiser.
    curvature : callable
        (r, v) -> (B, n): the Hessian of |r| times v, zero where there is none.
    kinks_at_zero : bool
        Whether every element r_i = 0 is a kink of its own, across which no step may go.
    oracle : callable
        r -> (B,): the same value as plain torch, for tests.
    """

    name: str
    kernel_id: int
    value: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor]
    curvature: Callable[[Tensor, Tensor], Tensor]
    kinks_at_zero: bool
    oracle: Callable[[Tensor], Tensor]


def _l2(r: Tensor) -> Tensor:
    return _total(r * r).sqrt()


def _l2_gradient(r: Tensor, g_loss: Tensor, c: Tensor) -> Tensor:
    length = _l2(r)
    # At r = 0 the subdifferential of c|r| is the ball of radius c: the nearest point to 0 of g +
    # ball is g shrunk by c.
    shrink = torch.clamp(1 - c.double() / _l2(g_loss), min=0).nan_to_num(nan=0.0)
    shrink = torch.where(_l2(g_loss).isnan(), torch.nan, shrink)
    away = g_loss + (c.double() / length).to(r.dtype) * r
    return torch.where(length == 0, g_loss * shrink.to(r.dtype), away)


def _l2_curvature(r: Tensor, v: Tensor) -> Tensor:
    length = _l2(r).to(r.dtype)
    along = _total(r * v).to(r.dtype) / length**2
    return torch.where(length == 0, torch.zeros_like(v), (v - along * r) / length)


def _l1_gradient(r: Tensor, g_loss: Tensor, c: Tensor) -> Tensor:
    at_zero = torch.sign(g_loss) * torch.clamp(g_loss.abs() - c, min=0)
    return torch.where(r == 0, at_zero, g_loss + c * torch.sign(r))


NORMS: dict[str, Norm] = {
    row.name: row
    for row in (
        Norm(
            "none",
            0,
            value=lambda r: torch.zeros(len(r), 1, dtype=torch.float64, device=r.device),
            gradient=lambda r, g_loss, c: g_loss,
            curvature=lambda r, v: torch.zeros_like(v),
            kinks_at_zero=False,
            oracle=lambda r: torch.zeros_like(r[:, 0]),
        ),
        Norm(
            "l2sq",
            1,
            value=lambda r: _total(r * r),
            gradient=lambda r, g_loss, c: g_loss + (2 * c) * r,
            curvature=lambda r, v: 2 * v,
            kinks_at_zero=False,
            oracle=lambda r: r.square().sum(1),
        ),
        Norm(
            "l2",
            2,
            value=_l2,
            gradient=_l2_gradient,
            curvature=_l2_curvature,
            kinks_at_zero=False,
            oracle=lambda r: torch.linalg.vector_norm(r, dim=1),
        ),
        Norm(
            "l1",
            3,
            value=lambda r: _total(r.abs()),
            gradient=_l1_gradient,
            curvature=lambda r, v: torch.zeros_like(v),
            kinks_at_zero=True,
            oracle=lambda r: torch.linalg.vector_norm(r, ord=1, dim=1),
        ),
    )
}

"""`two_loop` in plain PyTorch: the definition, for any floating dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["curved", "direction_and_use", "pair_scale", "two_loop"]

CURVATURE_THRESHOLD = 1e-8
STORED_LENGTH = 2.0**15


def curved(sy: Tensor, ss: Tensor, yy: Tensor) -> Tensor:
    """Return whether s'y > 1e-8 |s| |y|: a positive curvature that rounding cannot have made."""
    return sy > CURVATURE_THRESHOLD * (ss * yy).sqrt()


def pair_scale(ss: Tensor, yy: Tensor) -> Tensor:
    """Return the power of two that s and y are multiplied by to be stored in 16 bits.

    The longer of them gets a length in [2^14, 2^15): its values do not overflow float16, which ends
    at 65504, and the shorter one is as far as can be from its other end, where digits are lost
    below 2^-14. H is the same for a pair and its multiples.
    """
    length = torch.maximum(ss, yy).sqrt()
    return STORED_LENGTH * torch.frexp(length).mantissa / length


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=-1, dtype=torch.float64)


def direction_and_use(
    g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the direction (B, n) of `advkit.ops.two_loop`, and whether any pair was used (B,)."""
    m = S.shape[1]
    rows = torch.arange(len(g), device=g.device)
    q = torch.where(free, g, 0)
    pairs = []
    gamma = torch.zeros(len(g), dtype=torch.float64, device=g.device)
    for age in range(m):  # 0 is the newest
        slot = (head - 1 - age) % m
        s, y = (torch.where(free, v[rows, slot].to(g.dtype), 0) for v in (S, Y))
        sy, yy = _dot(s, y), _dot(y, y)
        used = (age < count) & curved(sy, _dot(s, s), yy)
        alpha = torch.where(used, _dot(s, q) / sy, 0)
        gamma = torch.where(used & (gamma == 0), sy / yy, gamma)
        q = torch.where(used[:, None], q - alpha.to(g.dtype)[:, None] * y, q)
        pairs.append((s, y, sy, alpha, used))
    any_used = gamma != 0
    q = q * gamma.to(g.dtype)[:, None]
    for s, y, sy, alpha, used in reversed(pairs):
        beta = torch.where(used, alpha - _dot(y, q) / sy, 0)
        q = torch.where(used[:, None], q + beta.to(g.dtype)[:, None] * s, q)
    return torch.where(any_used[:, None] & free, -q, -g), any_used


def two_loop(g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor) -> Tensor:
    """Return the direction; see `advkit.ops.two_loop`."""
    return direction_and_use(g, S, Y, head, count, free)[0]

"""`two_loop` in plain PyTorch: the definition, for any floating dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["curved", "direction_and_use", "two_loop"]

CURVATURE_THRESHOLD = 1e-8


def curved(sy: Tensor, ss: Tensor, yy: Tensor) -> Tensor:
    """Return whether s'y > 1e-8 |s| |y|: a positive curvature that rounding cannot have made."""
    return sy > CURVATURE_THRESHOLD * (ss * yy).sqrt()


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
        s, y = torch.where(free, S[rows, slot], 0), torch.where(free, Y[rows, slot], 0)
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

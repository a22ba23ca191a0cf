"""Points on a grid of levels, such as 8-bit images, that are as near as those that were found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ROUNDING_PASSES", "Grid", "Rounding"]

# One evaluation, forward and backward, and five tries.
ROUNDING_PASSES = 7


@dataclass(frozen=True)
class Grid:
    """Levels ``first``, ``first + step``, ... that values may take."""

    first: float
    step: float


class Rounding:
    """Roundings of points x (k, n) that keep the margin, as a linear model has it.

    Each value goes to its nearest level. Where that costs margin, values are moved on by one level,
    those first that gain the most margin for the least distance, and all that gain it for none. The
    network then tells how far off the linear model was, and the next try asks for more, or less.

    Parameters
    ----------
    x, x0 : Tensor (k, n)
        Points and originals.
    lower, upper : Tensor (1 or k, 1 or n)
        The box. Values without a choice keep theirs.
    grid : Grid
        The levels.

    Attributes
    ----------
    gradient : Tensor (k, n)
        Of the margin by which the network is *not* fooled, at x.
    need : Tensor (k,) of float64
        Margin to gain, in the linear model, over that at x.
    """

    def __init__(self, x: Tensor, x0: Tensor, lower: Tensor, upper: Tensor, grid: Grid) -> None:
        self._grid, self._x, self._x0 = grid, x.double(), x0.double()
        self._lower, self._upper = lower.expand_as(x).double(), upper.expand_as(x).double()
        self._dtype = x.dtype
        self.gradient = torch.zeros_like(x)
        self.need = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        self._enough = torch.full_like(self.need, torch.inf)

    def points(self) -> Tensor:
        """Return the present roundings (k, n)."""
        first, step = self._grid.first, self._grid.step
        slack = 1e-6  # levels that the box ends at belong to it
        least = torch.ceil((self._lower - first) / step - slack)
        most = torch.floor((self._upper - first) / step + slack)
        level = ((self._x - first) / step).round().clamp(least, most)
        g = self.gradient.double()
        further = (level - torch.sign(g)).clamp(least, most)
        gain = g.abs() * (further != level) * step
        value, moved = first + level * step, first + further * step
        cost = (moved - self._x0).square() - (value - self._x0).square()
        lost = (g * (value - self._x)).sum(1)
        order = torch.where(gain > 0, cost / gain, torch.inf).argsort(1)
        gained = gain.gather(1, order).cumsum(1) - gain.gather(1, order)
        wanted = gained < (lost + self.need)[:, None]
        chosen = torch.zeros_like(wanted).scatter(1, order, wanted)
        chosen = (chosen | (cost < 0)) & (gain > 0)
        fixed = (self._lower == self._upper) | (least > most)
        rounded = torch.where(fixed, self._x0, torch.where(chosen, moved, value))
        return rounded.clamp(self._lower, self._upper).to(self._dtype)

    def learn(self, fooled: Tensor, margin: Tensor) -> None:
        """Take what the network said of the last points: whether fooled, by how much (k,)."""
        missing = (-margin.double()).clamp(min=0)
        one = self.gradient.double().abs().amax(1) * self._grid.step
        self._enough = torch.where(fooled, torch.minimum(self._enough, self.need), self._enough)
        more = torch.maximum(self.need + 2 * missing, 1.5 * self.need) + 0.1 * one
        # Between what was not enough and what was.
        less = torch.where(self.need > 0, self.need - margin.double().clamp(min=0) / 2, self.need)
        self.need = torch.where(fooled, less, torch.minimum(more, (more + self._enough) / 2))

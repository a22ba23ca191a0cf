"""The shortest r in L2 or L1 with h(x + r) <= 0: augmented Lagrangians, with L-BFGS inside.

A leg minimises ``c |r| + (max(0, mu + rho h)^2 - mu^2) / (2 rho)`` in the box, for the constraint
h <= 0 on the margin. `lbfgs_step` moves the multiplier mu at every accepted point, so the search
over the weight of the norm (1/mu is the paper's c) happens inside the run, not around it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advkit._rows import put, take
from advkit.attack.legs import NEVER, SLACK, LegSearch
from advkit.attack.row_sums import row_norm, row_sum
from advkit.ops.lbfgs_step import State, init, lbfgs_step
from advkit.ops.lbfgs_step.state import Scalar
from advkit.optim.tiles import Tile

__all__ = ["AugmentedSearch"]


class AugmentedSearch(LegSearch):
    """Legs for ``norm="l2"`` and ``"l1"``; see `LegSearch` for the parameters."""

    def state(self, tile: int) -> State:
        """Return a state whose slots hold the first images."""
        x0 = self.x0[:tile]
        lower, upper = self.box(torch.arange(tile, device=x0.device))
        # |r|_1, or half of |r|_2^2.
        norm, c = ("l1", 1.0) if self.norm == "l1" else ("l2sq", 0.5)
        return init(
            x0,
            lower=lower,
            upper=upper,
            history=self._history,
            history_dtype=self._history_dtype,
            norm=norm,
            x0=x0,
            c=self.full(c)[:tile],
            options=NEVER,
        )

    def load(self, state: State, slots: Tensor, index: Tensor) -> None:
        """Start the first legs of images `index` (k,), which keep originals and boxes there."""
        x0 = take(self.x0, index)
        state.load(slots, x0, x0=x0, **self.own_box(index))

    def start(
        self,
        state: State,
        slots: Tensor,
        index: Tensor,
        start: Tensor,
        where: Tensor | None = None,
    ) -> None:
        """Start legs of images `index` (k,) at `start` (k, n), where a mask (k,) holds."""
        state.load(slots, start, where=where)

    def _dual(self, g: Tensor) -> Tensor:
        return row_norm(g, torch.inf if self.norm == "l1" else 2)

    def _set_out(
        self,
        slots: Tile,
        rows: Tensor,
        starting: Tensor | None,
        x: Tensor,
        h: Tensor,
        g: Tensor,
        size: Tensor,
    ) -> None:
        index, slot, g = slots.index[rows], slots.active[rows], g.double()
        # h at the original, were it linear.
        gap = h - row_sum(g * (x - take(self.x0, index)).double())
        gap = torch.maximum(gap, SLACK * h.abs())
        strength = self._table(index, "strength")
        if self.norm == "l1":
            mu = 1 / size
            rho = strength * mu / gap
            first_step = 1 / (rho * row_sum(g.square()))
        else:
            mu, rho = gap / size.square(), strength / size.square()
            first_step = 1 / (1 + strength)
        bold = self.boldness(index)
        for column, value in (
            (Scalar.MU, bold * mu),
            (Scalar.RHO, bold * rho),
            (Scalar.FIRST_STEP, first_step / bold),
        ):
            value = torch.where(value.isfinite(), value, 1.0)
            put(slots.state.scalars[:, column], slot, value, starting)

    def _step(self, slots: Tile, x: Tensor, h: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        lbfgs_step(slots.state, h.to(x.dtype), g, slots.active)
        scalars = slots.state.scalars[slots.active]
        size = scalars[:, Scalar.NORM]
        return size if self.norm == "l1" else size.sqrt(), 1 / scalars[:, Scalar.MU]

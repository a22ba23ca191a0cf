"""The least radius of an L-infinity ball around x in which the network is fooled.

A leg minimises the margin h by L-BFGS in the box |r| <= radius. At every accepted point the radius
takes a Newton step towards h = 0: by the envelope theorem, the least h in the box falls with the
radius by the sum of |dh/dx_i| over the values at its faces. The objective stays the same, so the
pairs stay good; the point moves with the faces.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from advkit._rows import both, put, rows_where, take
from advkit.attack.legs import NEVER, SLACK, LegSearch
from advkit.attack.row_sums import row_norm, row_sum
from advkit.ops.lbfgs_step import State, init, lbfgs_step
from advkit.ops.lbfgs_step.state import Counter, Phase, Scalar, Status, Vector
from advkit.optim.tiles import Tile

__all__ = ["RadiusSearch"]

# A value within this part of the radius of a face moves with it.
AT_FACE = 1e-3
# The first step leads to the face wherever the gradient is not this much smaller than its mean.
LEAST_GRADIENT = 1e-3
# The radius grows by this factor at most.
MOST_GROWTH = 2.0


class RadiusSearch(LegSearch):
    """Legs for ``norm="linf"``; see `LegSearch` for the parameters."""

    rules: ClassVar[dict[str, float]] = {
        "at_face": AT_FACE,
        "least_gradient": LEAST_GRADIENT,
        "most_growth": MOST_GROWTH,
    }
    radius: Tensor

    def __init__(self, *args: Any, **shared: Any) -> None:
        super().__init__(*args, **shared)
        self.radius = self.full(torch.inf)

    def state(self, tile: int) -> State:
        """Return a state whose slots hold the first images."""
        x0 = self.x0[:tile]
        lower, upper = self._ball(torch.arange(tile, device=x0.device))
        return init(
            x0,
            lower=lower,
            upper=upper,
            history=self._history,
            history_dtype=self._history_dtype,
            options=NEVER,
        )

    def start(
        self,
        state: State,
        slots: Tensor,
        index: Tensor,
        start: Tensor,
        where: Tensor | None = None,
    ) -> None:
        """Start legs of images `index` (k,) at `start` (k, n), where a mask (k,) holds."""
        put(self.radius, index, torch.inf, where)
        lower, upper = self._ball(index)
        state.load(slots, start, lower=lower, upper=upper, where=where)

    def _ball(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the box within the radius of some images (k, n)."""
        x0, radius = take(self.x0, index), self.radius[index].to(self.x0.dtype)[:, None]
        lower, upper = self.box(index)
        return torch.maximum(x0 - radius, lower), torch.minimum(x0 + radius, upper)

    def _dual(self, g: Tensor) -> Tensor:
        return row_norm(g, 1)

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
        index, slot = slots.index[rows], slots.active[rows]
        g, r = g.double(), x - take(self.x0, index)
        gap = torch.maximum(h - row_sum(g * r.double()), SLACK * h.abs())
        radius = torch.maximum(gap / size, self.length(r))
        put(self.radius, index, torch.where(radius.isfinite(), radius, 1.0), starting)
        self._set_faces(slots.state, slot, index, starting)
        steep = self.radius[index] * g.shape[1] / (LEAST_GRADIENT * size)
        steep = torch.where(steep.isfinite(), steep, 1.0)
        put(slots.state.scalars[:, Scalar.FIRST_STEP], slot, steep, starting)

    def _step(self, slots: Tile, x: Tensor, h: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        state, index = slots.state, slots.index
        before = state.counters[slots.active, Counter.ITERATIONS]
        lbfgs_step(state, h.to(x.dtype), g, slots.active)
        accepted = state.counters[slots.active, Counter.ITERATIONS] != before
        # At the least margin of its box a slot stops; its faces may still have to move.
        stopped = slots.stopped() & (state.status[slots.active] != Status.NON_FINITE)
        rows, where = rows_where(accepted | stopped)
        if len(rows):
            self._move_faces(state, slots.active[rows], index[rows], where)
        return self.length(x - take(self.x0, index)), torch.full_like(h, torch.nan)

    def _set_faces(self, state: State, slot: Tensor, index: Tensor, where: Tensor | None) -> None:
        """Give slots the box within the radius of their images (k,), where a mask (k,) holds."""
        for mine, new in zip((state.lower, state.upper), self._ball(index), strict=True):
            put(mine, slot, new, where)

    def _move_faces(self, state: State, slot: Tensor, index: Tensor, where: Tensor | None) -> None:
        """Take the radius's Newton step, and the points with it, to be evaluated next."""
        n = state.trial.shape[1]
        x, g = take(state.x, slot), state.vectors[slot, Vector.G, :n]
        h, radius, x0 = state.scalars[slot, Scalar.F], self.radius[index], take(self.x0, index)
        r = x - x0
        at_face = r.abs() >= ((1 - AT_FACE) * radius).to(r.dtype)[:, None]
        slope = row_sum(torch.where(at_face, g.abs(), 0).double())
        wanted = radius + h / slope
        wanted = torch.where(wanted.isfinite() & (wanted > 0), wanted, radius / 2)
        wanted = torch.minimum(wanted, MOST_GROWTH * radius)
        # A slot that has stopped and would move its faces by nothing worth an evaluation stays so.
        at_end = (state.status[slot] != Status.RUNNING) & ((wanted / radius - 1).abs() < SLACK)
        where = both(~at_end, where)
        put(self.radius, index, wanted, where)
        self._set_faces(state, slot, index, where)
        new = torch.where(at_face, x0 + torch.sign(r) * wanted.to(r.dtype)[:, None], x)
        put(state.trial, slot, new.clamp(take(state.lower, slot), take(state.upper, slot)), where)
        put(state.counters[:, Counter.PHASE], slot, int(Phase.START), where)
        put(state.counters[:, Counter.STATUS], slot, int(Status.RUNNING), where)

"""The paper's method: the largest c whose minimiser of c |r| + loss_f(x + r) fools the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advkit._rows import both, put, rows_where, take
from advkit.attack.objective import Evaluation
from advkit.attack.row_sums import row_norm
from advkit.attack.search import Search
from advkit.ops.lbfgs_step import Options, State, init, lbfgs_step
from advkit.ops.lbfgs_step.state import Scalar
from advkit.optim.tiles import Tile

__all__ = ["PenaltySearch"]

# A solve ends when a step, or a window of evaluations, lowers its objective by less than this.
TOLERANCE = 1e-7
WINDOW = 10
# c moves by this factor until it is bracketed, then to the geometric mean of its bracket, until
# that is this narrow.
FACTOR = 2.0
MOST_FACTOR = 256.0
BRACKET = 1.002


class PenaltySearch(Search):
    """The search over c, for all images; each solve starts where the last one ended.

    Parameters
    ----------
    history : int
        Number of pairs.
    history_dtype : torch.dtype, optional
        What they are stored in.
    **shared
        See `Search`.
    """

    def __init__(
        self, *args: Any, history: int, history_dtype: torch.dtype | None, **shared: Any
    ) -> None:
        super().__init__(*args, **shared)
        self._history, self._history_dtype = history, history_dtype
        self.c = self.full(1.0)
        self.c_succeeds, self.c_fails = self.full(0.0), self.full(torch.inf)
        self.factor = self.full(FACTOR)
        # Of the present solve.
        self.lowest, self.lowest_fools = self.full(torch.inf), self.full(False, torch.bool)

    def round(self, slots: Tile) -> None:
        """Advance every solve by an evaluation, and c where it has ended."""
        x, index, live = slots.trial(), slots.index, ~slots.finished
        evaluation = self.objective(x, self.labels[index])
        self.evaluated(index)
        if len(slots.fresh):
            self._begin(slots, evaluation)
        gradient = self.open_part(evaluation.gradient, index)
        lbfgs_step(slots.state, evaluation.loss, gradient, slots.active)
        self._note(slots, x, evaluation, live)
        slots.finished |= self.enough(index)
        ended = slots.stopped() & ~slots.finished
        rows, where = rows_where(ended)
        if len(rows):
            self._solve_ended(slots, rows, where)

    def load(self, state: State, slots: Tensor, index: Tensor) -> None:
        """Start searches of images `index` (k,) where they are."""
        x0 = take(self.x0, index)
        state.load(slots, x0, x0=x0, c=self.c[index], **self.own_box(index))

    def state(self, tile: int) -> State:
        """Return a state whose slots hold the first images."""
        options = Options(
            gradient_tolerance=1e-6,
            relative_tolerance=TOLERANCE,
            stagnation_tolerance=TOLERANCE,
            stagnation_window=WINDOW,
            max_evaluations=2**31 - 1,
        )
        x0 = self.x0[:tile]
        lower, upper = self.box(torch.arange(tile, device=x0.device))
        return init(
            x0,
            lower=lower,
            upper=upper,
            history=self._history,
            history_dtype=self._history_dtype,
            norm=self.norm,
            x0=x0,
            c=self.c[:tile],
            options=options,
        )

    def _note(self, slots: Tile, x: Tensor, evaluation: Evaluation, live: Tensor) -> None:
        """Keep the best point, and whether the lowest point of each solve fools the network."""
        index = slots.index
        size = slots.state.scalars[slots.active, Scalar.NORM]
        length = size.sqrt() if self.norm == "l2sq" else size
        # An original is not an adversarial point found.
        better = evaluation.surely & (length < self.distance[index]) & ~slots.finished
        rows, where = rows_where(better)
        if len(rows):
            which = index[rows]
            self.keep(which, take(x, rows), length[rows], self.c[which], where)
        self.record(index, length, evaluation.margin, self.c[index], live)
        f = self.c[index] * size + evaluation.loss
        lower = f < self.lowest[index]
        self.lowest[index] = torch.where(lower, f, self.lowest[index])
        # As best points are judged: a c that fools by rounding alone would leave no point behind.
        self.lowest_fools[index] = torch.where(lower, evaluation.surely, self.lowest_fools[index])

    def _begin(self, slots: Tile, evaluation: Evaluation) -> None:
        """Judge the original images and choose their first c."""
        rows, which = slots.fresh, slots.index[slots.fresh]
        loss, gradient = evaluation.loss[rows], take(evaluation.gradient, rows)
        slots.finished[rows] = self.judge(which, loss, gradient, evaluation.fooled[rows])
        # Where the linearised loss crosses the boundary, the penalty's gradient shall be half of
        # the loss's.
        slope = row_norm(self.open_part(gradient, which), torch.inf if self.norm == "l1" else 2)
        c = slope / 2
        if self.norm == "l2sq":
            c = c * slope / (2 * loss.double())
        c = torch.where(c.isfinite() & (c > 0), c, 1.0)
        self.c[which] = c
        slots.state.scalars[slots.active[rows], Scalar.C] = c
        self.lowest[which] = loss.double()

    def _solve_ended(self, slots: Tile, rows: Tensor, ended: Tensor | None) -> None:
        """Move c, where the solve of some rows (k,) has ended (k,), and start the next one."""
        which = slots.index[rows]
        fools, c = self.lowest_fools[which], self.c[which]
        low = torch.where(fools, torch.maximum(self.c_succeeds[which], c), self.c_succeeds[which])
        high = torch.where(fools, self.c_fails[which], torch.minimum(self.c_fails[which], c))
        put(self.c_succeeds, which, low, ended)
        put(self.c_fails, which, high, ended)
        bracketed = (low > 0) & high.isfinite()
        factor = self.factor[which]
        further = torch.where(fools, c * factor, c / factor)
        c = torch.where(bracketed, (low * high).sqrt(), further)
        put(self.factor, which, factor.square().clamp(max=MOST_FACTOR), ended)
        done = (bracketed & (high <= BRACKET * low)) | (c == 0) | c.isinf()
        put(self.c, which, c, ended)
        put(self.lowest, which, torch.inf, ended)
        put(self.lowest_fools, which, False, ended)
        put(slots.finished, rows, True, both(done, ended))
        slot = slots.active[rows]
        slots.state.load(slot, take(slots.state.x, slot), c=c, where=both(~done, ended))

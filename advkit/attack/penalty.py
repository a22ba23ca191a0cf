"""The paper's method: the largest c whose minimiser of c |r| + loss_f(x + r) fools the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advkit.attack.objective import Evaluation
from advkit.attack.result import AttackStatus
from advkit.attack.search import Search, row_sum
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
    **shared
        See `Search`.
    """

    def __init__(self, *args: Any, history: int, **shared: Any) -> None:
        super().__init__(*args, **shared)
        self._history = history
        self.c = self.full(1.0)
        self.c_succeeds, self.c_fails = self.full(0.0), self.full(torch.inf)
        self.factor = self.full(FACTOR)
        # Of the present solve.
        self.lowest, self.lowest_fools = self.full(torch.inf), self.full(False, torch.bool)

    def run(self, tile: int, advance: Callable[[int], None]) -> None:
        """Carry all images through their searches, `tile` at a time."""
        if len(self.x0) == 0:
            return
        slots = Tile(self._state(tile), len(self.x0))
        while len(slots.active):
            x = slots.trial()
            index = slots.index
            evaluation = self.objective(x, self.labels[index])
            first = self.forwards[index] == 0
            self.forwards[index] += 1
            self.backwards[index] += 1
            done = torch.zeros_like(first)
            if first.any():
                done = self._begin(slots, index, evaluation, first)
            gradient = self.open_part(evaluation.gradient, index)
            lbfgs_step(slots.state, evaluation.loss, gradient, slots.active)
            self._note(slots, x, evaluation)
            self.distance[index[done]] = torch.inf  # an original is not an adversarial point found
            stopped = slots.stopped() & ~done
            done |= ~self.can_afford(index, 2) | self.near_enough(index)
            if stopped.any():
                done |= self._solve_ended(slots, index, stopped & ~done)
            if done.any():
                advance(int(done.sum()))
                free, fresh = slots.replace(done)
                if len(fresh):
                    x0 = self.x0[fresh]
                    slots.state.load(free, x0, x0=x0, c=self.c[fresh], **self.own_box(fresh))

    def _state(self, tile: int) -> State:
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
            norm=self.norm,
            x0=x0,
            c=self.c[:tile],
            options=options,
        )

    def _note(self, slots: Tile, x: Tensor, evaluation: Evaluation) -> None:
        """Keep the best point, and whether the lowest point of each solve fools the network."""
        index = slots.index
        size = slots.state.scalars[slots.active, Scalar.NORM]
        length = size.sqrt() if self.norm == "l2sq" else size
        better = evaluation.surely & (length < self.distance[index])
        if better.any():
            which = index[better]
            self.keep(which, x[better], length[better], self.c[which])
        self.record(index, length, evaluation.margin, self.c[index])
        f = self.c[index] * size + evaluation.loss
        lower = f < self.lowest[index]
        self.lowest[index] = torch.where(lower, f, self.lowest[index])
        # As best points are judged: a c that fools by rounding alone would leave no point behind.
        self.lowest_fools[index] = torch.where(lower, evaluation.surely, self.lowest_fools[index])

    def _begin(self, slots: Tile, index: Tensor, evaluation: Evaluation, first: Tensor) -> Tensor:
        """Judge the original images and choose their first c; return which of them are finished."""
        broken = first & ~(evaluation.loss.isfinite() & evaluation.gradient.isfinite().all(1))
        done = (first & evaluation.fooled) | broken
        self.status[index[first & evaluation.fooled]] = AttackStatus.ALREADY_ADVERSARIAL
        self.status[index[broken]] = AttackStatus.NON_FINITE
        # Where the linearised loss crosses the boundary, the penalty's gradient shall be half of
        # the loss's.
        g = self.open_part(evaluation.gradient, index).double()
        slope = g.abs().amax(1) if self.norm == "l1" else row_sum(g.square()).sqrt()
        c = slope / 2
        if self.norm == "l2sq":
            c = c * slope / (2 * evaluation.loss.double())
        c = torch.where(c.isfinite() & (c > 0), c, 1.0)
        which = index[first]
        self.c[which] = c[first]
        slots.state.scalars[slots.active[first], Scalar.C] = c[first]
        self.lowest[which] = evaluation.loss[first].double()
        return done

    def _solve_ended(self, slots: Tile, index: Tensor, ended: Tensor) -> Tensor:
        """Move c where a solve has ended, start the next one; return which images are finished."""
        which = index[ended]
        fools, c = self.lowest_fools[which], self.c[which]
        low = torch.where(fools, torch.maximum(self.c_succeeds[which], c), self.c_succeeds[which])
        high = torch.where(fools, self.c_fails[which], torch.minimum(self.c_fails[which], c))
        self.c_succeeds[which], self.c_fails[which] = low, high
        bracketed = (low > 0) & high.isfinite()
        factor = self.factor[which]
        further = torch.where(fools, c * factor, c / factor)
        c = torch.where(bracketed, (low * high).sqrt(), further)
        self.factor[which] = factor.square().clamp(max=MOST_FACTOR)
        done = (bracketed & (high <= BRACKET * low)) | (c == 0) | c.isinf()
        self.c[which] = c
        self.lowest[which] = torch.inf
        self.lowest_fools[which] = False
        finished = torch.zeros_like(ended)
        finished[ended] = done
        slot = slots.active[ended][~done]
        slots.state.load(slot, slots.state.x[slot], c=c[~done])
        return finished

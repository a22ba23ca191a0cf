"""The paper's method: the largest c whose minimiser of c |r| + loss_f(x + r) fools the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advkit.attack.objective import Evaluation, Objective
from advkit.attack.result import AttackResult, AttackStatus
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


class PenaltySearch:
    """The search over c, for all images; each solve starts where the last one ended.

    Parameters
    ----------
    objective : Objective
        loss_f.
    x : Tensor (B, n)
        Original images.
    labels : Tensor (B,)
        As the objective takes them.
    norm : str
        Penalty |r|.
    lower, upper : float
        The box.
    history : int
        Number of pairs.
    max_evaluations : int
        Of each image, the verification included.
    """

    def __init__(
        self,
        objective: Objective,
        x: Tensor,
        labels: Tensor,
        *,
        norm: str,
        lower: float,
        upper: float,
        history: int,
        max_evaluations: int,
    ) -> None:
        self.objective, self.x0, self.labels, self.norm = objective, x, labels, norm
        self._box, self._history, self._budget = (lower, upper), history, max_evaluations - 1

        def full(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
            return x.new_full((len(x),), value, dtype=dtype)

        self.best = x.clone()
        self.distance = full(torch.inf)
        self.c = full(1.0)
        self.c_succeeds, self.c_fails = full(0.0), full(torch.inf)
        self.factor = full(FACTOR)
        self.c_best = full(torch.nan)
        self.lowest, self.lowest_fools = (
            full(torch.inf),
            full(False, torch.bool),
        )  # of the present solve
        self.forwards, self.backwards = full(0, torch.int64), full(0, torch.int64)
        self.status = full(AttackStatus.NOT_FOUND, torch.int8)

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
            lbfgs_step(slots.state, evaluation.loss, evaluation.gradient, slots.active)
            self._note(slots, x, evaluation)
            self.distance[index[done]] = torch.inf  # an original is not an adversarial point found
            stopped = slots.stopped() & ~done
            done |= self.forwards[index] >= self._budget
            if stopped.any():
                done |= self._solve_ended(slots, index, stopped & ~done)
            if done.any():
                advance(int(done.sum()))
                free, fresh = slots.replace(done)
                if len(fresh):
                    slots.state.load(free, self.x0[fresh], x0=self.x0[fresh], c=self.c[fresh])

    def _state(self, tile: int) -> State:
        lower, upper = self._box
        options = Options(
            gradient_tolerance=1e-6,
            relative_tolerance=TOLERANCE,
            stagnation_tolerance=TOLERANCE,
            stagnation_window=WINDOW,
            max_evaluations=self._budget,
        )
        x0 = self.x0[:tile]
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
            self.best[which] = x[better]
            self.distance[which] = length[better]
            self.c_best[which] = self.c[which]
        f = self.c[index] * size + evaluation.loss
        lower = f < self.lowest[index]
        self.lowest[index] = torch.where(lower, f, self.lowest[index])
        self.lowest_fools[index] = torch.where(lower, evaluation.fooled, self.lowest_fools[index])

    def _begin(self, slots: Tile, index: Tensor, evaluation: Evaluation, first: Tensor) -> Tensor:
        """Judge the original images and choose their first c; return which of them are finished."""
        broken = first & ~(evaluation.loss.isfinite() & evaluation.gradient.isfinite().all(1))
        done = (first & evaluation.fooled) | broken
        self.status[index[first & evaluation.fooled]] = AttackStatus.ALREADY_ADVERSARIAL
        self.status[index[broken]] = AttackStatus.NON_FINITE
        # Where the linearised loss crosses the boundary, the penalty's gradient shall be half of
        # the loss's.
        g = evaluation.gradient.double()
        slope = g.abs().amax(1) if self.norm == "l1" else _row_sum(g.square()).sqrt()
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

    def verify(self, tile: int) -> None:
        """Ask the network again about every point found, in other batches than it was found in."""
        found = self.distance.isfinite().nonzero()[:, 0].flip(0)
        for which in found.split(tile) if len(found) else ():
            still = self.objective.fooled(self.best[which], self.labels[which])
            self.forwards[which] += 1
            self.status[which[still]] = AttackStatus.FOUND
            lost = which[~still]
            self.best[lost] = self.x0[lost]

    def result(self, shape: torch.Size, settings: dict[str, Any]) -> AttackResult:
        """Gather the images (B, *shape) and what is known of them."""
        found = self.status == AttackStatus.FOUND
        r = (self.best - self.x0).double()
        squares = _row_sum(r.square())
        distance = _row_sum(r.abs()) if self.norm == "l1" else squares.sqrt()
        kind = self.x0.dtype
        return AttackResult(
            adversarial=self.best.view(-1, *shape),
            success=found | (self.status == AttackStatus.ALREADY_ADVERSARIAL),
            distance=distance.to(kind),
            rms=(squares / r.shape[1]).sqrt().to(kind),
            c=torch.where(found, self.c_best, torch.nan).to(kind),
            forwards=self.forwards,
            backwards=self.backwards,
            status=self.status,
            settings=settings,
        )


def _row_sum(values: Tensor) -> Tensor:
    """Sum rows (b, n) so that the bits of each depend on that row alone, not on b or threads."""
    padded = torch.nn.functional.pad(values, (0, -values.shape[1] % 1024))
    return padded.view(len(values), padded.shape[1] // 1024, 1024).sum(-1).sum(-1)

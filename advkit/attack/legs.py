"""The run of one image: legs from many starts, towards many classes, and where each of them ends.

A leg starts somewhere, aims at one class or at whichever is nearest, and goes on until it is long
enough, gains little or leads too far. What a leg does depends on the image and on the legs before
it, never on the budget: a larger budget only adds to a run. How a leg moves is the business of a
subclass: `augmented.AugmentedSearch` or `radius.RadiusSearch`.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from advkit.attack.objective import Evaluation
from advkit.attack.result import AttackStatus
from advkit.attack.search import Search
from advkit.ops.lbfgs_step import Options, State
from advkit.ops.lbfgs_step.state import Status
from advkit.optim.tiles import Tile

__all__ = ["NEVER", "SLACK", "LegSearch"]

# The constraint is h + slack <= 0, so that the points it converges to fool the network: this part
# of the margin of the original image, and what rounding can undo.
SLACK = 1e-4
ROUNDING = 128
# A leg that leads farther than this many times the best distance is given up, from this age on.
PRUNE = 1.4
PRUNE_AGE = 6
# And so is one whose nearest point came nearer by less than this part in so many evaluations.
PROGRESS = 1e-3
PROGRESS_AGE = 6
# Length of the noise that restarts begin with, in units of the best distance.
NOISE_AT_BEST, NOISE_AT_ORIGINAL = 2.0, 4.0
MOST_CLASSES = 8
# Sharpness of the smoothed largest logit, see `Leg`.
COARSE, FINE = 10.0, 60.0
# As long as nothing is found each leg weighs the norm so much less than the one before, so often.
BOLDER, BOLDEST = 10.0, 3
# The ends of legs are decided here, not by the solver.
NEVER = Options(
    gradient_tolerance=-1.0,
    relative_tolerance=-1.0,
    stagnation_tolerance=-1.0,
    max_evaluations=2**31 - 1,
)


class Start(IntEnum):
    """Where a leg starts."""

    ORIGINAL = 0
    GIVEN = 1
    BEST = 2
    NEAR_BEST = 3
    NEAR_ORIGINAL = 4


@dataclass(frozen=True)
class Leg:
    """One run from one start.

    Parameters
    ----------
    start : Start
        Where from. As long as nothing is found: from where the leg before ended. After a leg that
        ended with nan or inf: without noise.
    rival : int
        Rank, among the logits of the original image, of the class to aim at; -1: whichever has the
        largest logit.
    evaluations : int
        At most.
    sharpness : float
        Of the smoothed largest logit, in units of 1 / the margin of the original image; 0: the
        largest logit itself.
    """

    start: Start
    rival: int
    evaluations: int
    sharpness: float = 0.0


def legs(rivals: int, given: bool, smooth: bool) -> tuple[list[Leg], list[Leg]]:
    """Return the legs that every image begins with, and those it repeats after them.

    Parameters
    ----------
    rivals : int
        How many classes can be aimed at.
    given : bool
        Whether there are starting points of the user's.
    smooth : bool
        Whether to smooth the largest of the other logits at first: for targets, to which the way
        may lead between classes.
    """
    by_class = [Leg(Start.ORIGINAL, rank, 12) for rank in range(1, min(rivals, MOST_CLASSES + 1))]
    polish = Leg(Start.BEST, -1, 30, FINE if smooth else 0.0)
    users = [Leg(Start.GIVEN, -1, 20)] if given else []
    if smooth:
        begin = [Leg(Start.ORIGINAL, -1, 24, COARSE), *users, polish]
        return begin, [
            Leg(Start.NEAR_BEST, -1, 20, FINE),
            Leg(Start.NEAR_ORIGINAL, -1, 24, COARSE),
            polish,
        ]
    first = Leg(Start.ORIGINAL, -1, 14)
    begin = [first, *users, *by_class[:2], polish, *by_class[2:]]
    return begin, [Leg(Start.NEAR_BEST, -1, 20), Leg(Start.NEAR_ORIGINAL, -1, 20)]


class LegSearch(Search):
    """The legs of all images.

    Parameters
    ----------
    rivals : bool
        Whether the objective can aim at single classes.
    smooth : bool
        Whether it can smooth the largest logit, and is better for it.
    starts : Tensor (B, n), optional
        Points that a leg of their own starts from.
    history : int
        Number of pairs.
    seed : int
        Of the restarts' noise.
    **shared
        See `Search`.
    """

    def __init__(
        self,
        *args: Any,
        rivals: bool,
        smooth: bool,
        starts: Tensor | None,
        history: int,
        seed: int,
        **shared: Any,
    ) -> None:
        super().__init__(*args, **shared)
        self._history, self._seed, self._starts = history, seed, starts
        self._rivals, self._smooth = rivals, smooth
        self._legs: tuple[list[Leg], list[Leg]] = ([], [])
        self._fields: dict[str, Tensor] = {}  # of the legs
        self._order = self.full(-1, torch.int64)[:, None].repeat(1, MOST_CLASSES + 1)
        self.slack = self.full(0.0)
        # Of the present leg: its number, evaluations so far, class aimed at, nearest distance now
        # and PROGRESS_AGE evaluations ago.
        self.leg, self.age = self.full(0, torch.int64), self.full(0, torch.int64)
        self.rival = self.full(-1, torch.int64)
        # |margin| of the originals, and the sharpness per logit; until that is known, in its units.
        self.gap, self.sharpness = self.full(1.0), self.full(-COARSE if smooth else 0.0)
        self.nearest, self.mark = self.full(torch.inf), self.full(torch.inf)

    def run(self, tile: int, advance: Callable[[int], None]) -> None:
        """Carry all images through their legs, `tile` at a time."""
        if len(self.x0) == 0:
            return
        slots = Tile(self._state(tile), len(self.x0))
        while len(slots.active):
            x, index = slots.trial(), slots.index
            sharpness = self.sharpness[index] if self._smooth else None
            evaluation = self.objective.constraint(
                x, self.labels[index], self.rival[index], sharpness
            )
            first = self.forwards[index] == 0
            self.forwards[index] += 1
            self.backwards[index] += 1
            done = torch.zeros_like(first)
            if first.any():
                done = self._begin(index, evaluation, first)
            h = evaluation.loss.double() + self.slack[index]
            gradient = self.open_part(evaluation.gradient, index)
            size = self._dual(gradient)
            starting = self.age[index] == 0
            if starting.any():
                self._set_out(slots, starting, x, h, gradient, size)
            distance, c = self._step(slots, x, h, gradient)
            self.record(index, distance, evaluation.margin, c)
            ended = self._note(slots, x, evaluation, h, size, distance, c)
            done |= ~self.can_afford(index, 2) | self.near_enough(index)
            ended &= ~done
            if ended.any():
                self._next_leg(slots, ended)
            if done.any():
                advance(int(done.sum()))
                free, fresh = slots.replace(done)
                if len(fresh):
                    self._load(slots.state, free, fresh, self.x0[fresh])

    @abstractmethod
    def _state(self, tile: int) -> State:
        """Return a state whose slots hold the first images."""

    @abstractmethod
    def _load(self, state: State, slots: Tensor, index: Tensor, start: Tensor) -> None:
        """Start legs of images `index` (k,) at `start` (k, n)."""

    @abstractmethod
    def _set_out(
        self, slots: Tile, starting: Tensor, x: Tensor, h: Tensor, g: Tensor, size: Tensor
    ) -> None:
        """Prepare the legs that start, of the rows `starting` (b,), as if h were linear.

        x (b, n), h (b,), its gradient g (b, n) and the dual norm of that, `size` (b,).
        """

    @abstractmethod
    def _step(self, slots: Tile, x: Tensor, h: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Advance by the evaluations; return distances (b,) of x and weights c (b,) of the norm."""

    @abstractmethod
    def _dual(self, g: Tensor) -> Tensor:
        """Return the dual norms (b,) of gradients (b, n): h falls by that per distance, at most."""

    def _begin(self, index: Tensor, evaluation: Evaluation, first: Tensor) -> Tensor:
        """Judge the original images; return which of them are finished."""
        broken = first & ~(evaluation.loss.isfinite() & evaluation.gradient.isfinite().all(1))
        fooled = first & evaluation.fooled & ~broken
        self.status[index[fooled]] = AttackStatus.ALREADY_ADVERSARIAL
        self.status[index[broken]] = AttackStatus.NON_FINITE
        which = index[first]
        logits = evaluation.logits[first]
        if not self._legs[0]:
            rivals = logits.shape[1] - 1 if self._rivals else 0
            self._legs = legs(rivals, self._starts is not None, self._smooth)
        others = logits.scatter(1, self.labels[which][:, None], -torch.inf)
        ranks = min(MOST_CLASSES + 1, others.shape[1] - 1)
        self._order[which, :ranks] = others.topk(ranks, dim=1).indices
        rounding = self.full(0.0)[which]
        if self.objective.in_logits:
            size = logits.double().abs().nan_to_num(posinf=0).amax(1)
            rounding = ROUNDING * torch.finfo(logits.dtype).eps * size
        self.gap[which] = (evaluation.margin[first].double() + self.objective.kappa).abs()
        self.gap[which] = self.gap[which].clamp(min=1e-6)
        self.sharpness[which] = self.sharpness[which].abs() / self.gap[which]
        self.slack[which] = SLACK * evaluation.loss[first].double().abs() + rounding
        return fooled | broken

    def _note(
        self,
        slots: Tile,
        x: Tensor,
        evaluation: Evaluation,
        h: Tensor,
        size: Tensor,
        distance: Tensor,
        c: Tensor,
    ) -> Tensor:
        """Keep the nearest points; return which legs are at their end."""
        index = slots.index
        found = evaluation.surely & (self.age[index] + self.leg[index] > 0)
        better = found & (distance < self.distance[index])
        if better.any():
            # As the result will have it, to the last digit.
            distance[better] = self.length(x[better] - self.x0[index[better]])
            better &= distance < self.distance[index]
            which = index[better]
            self.keep(which, x[better], distance[better], c[better])
        self.age[index] += 1
        age, best = self.age[index], self.distance[index]
        nearest = torch.where(found, distance, torch.inf).minimum(self.nearest[index])
        self.nearest[index] = nearest
        # Where the margin would end along its gradient.
        expected = distance + h / size
        far = expected > PRUNE * best
        lost = far & ((distance > PRUNE * best) | ((h > 0) & (expected > PRUNE**2 * best)))
        asked = age % PROGRESS_AGE == 0
        still = asked & nearest.isfinite() & (nearest > (1 - PROGRESS) * self.mark[index])
        self.mark[index] = torch.where(asked, nearest, self.mark[index])
        limit = self._table(index, "evaluations")
        return slots.stopped() | (age >= limit) | ((age >= PRUNE_AGE) & lost) | still

    def boldness(self, index: Tensor) -> Tensor:
        """Return how much less than the others the next legs of some images weigh the norm (k,)."""
        found = self.distance[index].isfinite()
        return torch.where(found, 1.0, BOLDER ** self.leg[index].double().clamp(max=BOLDEST))

    def _table(self, index: Tensor, field: str) -> Tensor:
        """Look up a field of the present legs of some images."""
        begin, again = self._legs
        if field not in self._fields:
            values = [float(getattr(leg, field)) for leg in begin + again]
            self._fields[field] = self.x0.new_tensor(values, dtype=torch.float64)
        leg = self.leg[index]
        repeated = len(begin) + (leg - len(begin)) % len(again)
        return self._fields[field][torch.where(leg < len(begin), leg, repeated)]

    def _next_leg(self, slots: Tile, ended: Tensor) -> None:
        """Start the next legs of some images."""
        index, slot = slots.index[ended], slots.active[ended]
        state = slots.state
        self.leg[index] += 1
        self.age[index] = 0
        self.nearest[index] = torch.inf
        self.mark[index] = torch.inf
        rank = self._table(index, "rival").long()
        chosen = self._order[index].gather(1, rank.clamp(min=0)[:, None])[:, 0]
        self.rival[index] = torch.where(rank < 0, -1, chosen)
        self.sharpness[index] = self._table(index, "sharpness") / self.gap[index]
        kind = self._table(index, "start")
        known = self.distance[index].isfinite()
        finite = state.status[slot] != Status.NON_FINITE
        start = torch.where((~known & finite)[:, None], state.x[slot], self.x0[index])
        if self._starts is not None:
            given = self._starts[index]
            start = torch.where((kind == Start.GIVEN)[:, None], given, start)
        at_best = known & ((kind == Start.BEST) | (kind == Start.NEAR_BEST))
        start = torch.where(at_best[:, None], self.best[index], start)
        noisy = (kind >= Start.NEAR_BEST) & finite
        if noisy.any():
            factor = torch.where(kind == Start.NEAR_BEST, NOISE_AT_BEST, NOISE_AT_ORIGINAL)
            length = torch.where(
                known, (self.best[index] - self.x0[index]).double().norm(dim=1), 1.0
            )
            noise = self._noise(index[noisy])
            scaled = (factor * length)[noisy, None].to(noise.dtype) * noise
            start[noisy] += scaled
        self._load(state, slot, index, start)

    def _noise(self, which: Tensor) -> Tensor:
        """Draw directions (k, n) of length 1, by the images, their legs and the seed alone."""
        rows = []
        generator = torch.Generator()
        seed = zlib.crc32(str(self._seed).encode())
        for image, leg in zip(self.x0[which].cpu(), self.leg[which].tolist(), strict=True):
            key = zlib.crc32(image.numpy().tobytes(), seed)
            generator.manual_seed(key * 2**20 + leg)
            row = torch.randn(len(image), generator=generator, dtype=image.dtype)
            rows.append(row / row.norm())
        return torch.stack(rows).to(self.x0.device)

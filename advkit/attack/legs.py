"""The run of one image: legs from many starts, towards many classes, and where each of them ends.

A leg starts somewhere, aims at one class or at whichever is nearest, and goes on until it is long
enough, gains little or leads too far. What a leg does depends on the image and on the legs before
it, never on the budget: a larger budget only adds to a run. How a leg moves is the business of a
subclass: `augmented.AugmentedSearch` or `radius.RadiusSearch`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import astuple, dataclass, fields
from enum import IntEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

from advkit._rows import both, put, rows_where, take
from advkit.attack.leg_round import LegRound
from advkit.attack.noise import Noise
from advkit.attack.objective import Evaluation
from advkit.attack.row_sums import KERNEL_ID, row_norm
from advkit.attack.search import Search
from advkit.ops._dispatch import choose
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
COARSE, FINE, FINEST = 10.0, 60.0, 500.0
# The penalty's curvature along the margin's gradient, in units of the norm's; see `legs`.
STRENGTH, STRONG, STRONGEST = 2.0, 8.0, 30.0
# As long as nothing is found each leg weighs the norm so much less than the one before, so often.
BOLDER, BOLDEST = 10.0, 3
# As the compiled module takes them; subclasses have rules of their own.
RULES = {
    "slack": SLACK,
    "prune": PRUNE,
    "prune_age": PRUNE_AGE,
    "progress": PROGRESS,
    "progress_age": PROGRESS_AGE,
    "noise_at_best": NOISE_AT_BEST,
    "noise_at_original": NOISE_AT_ORIGINAL,
    "bolder": BOLDER,
    "boldest": BOLDEST,
}
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
    strength : float
        The penalty's curvature along the margin's gradient, in units of the norm's. Only legs with
        a penalty have one, see `augmented.AugmentedSearch`.
    """

    start: Start
    rival: int
    evaluations: int
    sharpness: float = 0.0
    strength: float = STRENGTH


FIELDS = tuple(field.name for field in fields(Leg))


def legs(rivals: int, given: bool, smooth: bool) -> tuple[list[Leg], list[Leg]]:
    """Return the legs that every image begins with, and those it repeats after them.

    Parameters
    ----------
    rivals : int
        How many classes can be aimed at.
    given : bool
        Whether there are starting points of the user's.
    smooth : bool
        Whether to smooth the largest of the other logits: for targets, to which the way may lead
        between classes. What is smoothed is larger, by up to log(classes) / sharpness, so the last
        of the repeated legs hardly smooths. Its penalty is the strongest: neither helps alone as
        much as both do.
    """
    by_class = [Leg(Start.ORIGINAL, rank, 12) for rank in range(1, min(rivals, MOST_CLASSES + 1))]
    polish = Leg(Start.BEST, -1, 30, FINE if smooth else 0.0)
    users = [Leg(Start.GIVEN, -1, 20)] if given else []
    if smooth:
        begin = [Leg(Start.ORIGINAL, -1, 24, COARSE), *users, polish]
        return begin, [
            Leg(Start.NEAR_BEST, -1, 20, FINE, STRONG),
            Leg(Start.NEAR_ORIGINAL, -1, 24, FINE),
            Leg(Start.BEST, -1, 30, FINEST, STRONGEST),
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
    history_dtype : torch.dtype, optional
        What they are stored in.
    seed : int
        Of the restarts' noise.
    **shared
        See `Search`.
    """

    rules: ClassVar[dict[str, float]] = {}  # those of `LegRules` that are the subclass's
    radius: Tensor | None = None  # of the images' boxes, where legs have them

    def __init__(
        self,
        *args: Any,
        rivals: bool,
        smooth: bool,
        starts: Tensor | None,
        history: int,
        history_dtype: torch.dtype | None,
        seed: int,
        **shared: Any,
    ) -> None:
        super().__init__(*args, **shared)
        self._history, self._history_dtype, self._starts = history, history_dtype, starts
        self._noise, self.key = Noise(self.x0, seed), self.full(0, torch.int64)
        self._rivals, self._smooth = rivals, smooth
        # Rows of `Leg`, the repeated ones last; known once the number of classes is.
        self._legs, self._repeated = self.full(0.0)[:0], 1
        self._order = self.full(-1, torch.int64)[:, None].repeat(1, MOST_CLASSES + 1)
        self.slack = self.full(0.0)
        # Of the present leg: its number, evaluations so far, class aimed at, nearest distance now
        # and PROGRESS_AGE evaluations ago.
        self.leg, self.age = self.full(0, torch.int64), self.full(0, torch.int64)
        self.rival = self.full(-1, torch.int64)
        # |margin| of the originals, and the sharpness per logit; until that is known, in its units.
        self.gap, self.sharpness = self.full(1.0), self.full(-COARSE if smooth else 0.0)
        self.nearest, self.mark = self.full(torch.inf), self.full(torch.inf)
        self._leg_round: LegRound | None = None

    def round(self, slots: Tile) -> None:
        """Advance every leg by an evaluation, and start the next where it has ended."""
        x, index, live = slots.trial(), slots.index, ~slots.finished
        sharpness = self.sharpness[index] if self._smooth else None
        evaluation = self.objective.constraint(x, self.labels[index], self.rival[index], sharpness)
        if len(slots.fresh):
            self._begin(slots, evaluation)
        gradient = self.open_part(evaluation.gradient, index)
        if choose(x) == "cpu":
            loss, surely = evaluation.loss, evaluation.surely
            distance, c = self._compiled()(slots, x, loss, gradient, surely)
            self.record(index, distance, evaluation.margin, c, live)
            return
        self.evaluated(index)
        h = evaluation.loss.double() + self.slack[index]
        size = self._dual(gradient)
        rows, starting = rows_where(self.age[index] == 0)
        if len(rows):
            slope = take(gradient, rows), size[rows]
            self._set_out(slots, rows, starting, take(x, rows), h[rows], *slope)
        distance, c = self._step(slots, x, h, gradient)
        self.record(index, distance, evaluation.margin, c, live)
        ended = self._note(slots, x, evaluation, h, size, distance, c)
        slots.finished |= self.enough(index)
        rows, where = rows_where(ended)
        if len(rows):
            self._next_leg(slots, rows, where)

    def _compiled(self) -> LegRound:
        """Return all of `round` that comes after the evaluation, in one call."""
        if self._leg_round is None:
            tensors = {
                "x0": self.x0,
                "starts": self._starts,
                "slack": self.slack,
                "gap": self.gap,
                "stop_distance": self._stop_distance,
                "leg": self.leg,
                "age": self.age,
                "rival": self.rival,
                "forwards": self.forwards,
                "backwards": self.backwards,
                "sharpness": self.sharpness,
                "nearest": self.nearest,
                "mark": self.mark,
                "distance": self.distance,
                "c_best": self.c_best,
                "radius": self.radius,
                "best": self.best,
                "ranked": self._order,
                "key": self.key,
                "noise": self._noise.row,
                "table": self._legs,
            }
            counts = {
                "images": len(self.x0),
                "order": KERNEL_ID[self.order],
                "ranks": self._order.shape[1],
                "legs": len(self._legs),
                "repeated": self._repeated,
                "passes": self._passes,
            }
            self._leg_round = LegRound(tensors, counts, RULES | self.rules, self.lower, self.upper)
        return self._leg_round

    def load(self, state: State, slots: Tensor, index: Tensor) -> None:
        """Start the first legs of images `index` (k,) where they are."""
        self.start(state, slots, index, take(self.x0, index))

    @abstractmethod
    def start(
        self,
        state: State,
        slots: Tensor,
        index: Tensor,
        start: Tensor,
        where: Tensor | None = None,
    ) -> None:
        """Start legs of images `index` (k,) at `start` (k, n), where a mask (k,) holds."""

    @abstractmethod
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
        """Prepare the legs that start, as if h were linear.

        Of some rows (k,), where the mask `starting` (k,), if there is one, holds: x (k, n), h (k,),
        its gradient g (k, n) and the dual norm of that, `size` (k,).
        """

    @abstractmethod
    def _step(self, slots: Tile, x: Tensor, h: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Advance by the evaluations; return distances (b,) of x and weights c (b,) of the norm."""

    @abstractmethod
    def _dual(self, g: Tensor) -> Tensor:
        """Return the dual norms (b,) of gradients (b, n): h falls by that per distance, at most."""

    def _begin(self, slots: Tile, evaluation: Evaluation) -> None:
        """Judge the original images, and learn the scale of their margins and their rivals."""
        rows, which = slots.fresh, slots.index[slots.fresh]
        loss, logits = evaluation.loss[rows], evaluation.logits[rows]
        gradient = take(evaluation.gradient, rows)
        slots.finished[rows] = self.judge(which, loss, gradient, evaluation.fooled[rows])
        if len(self._legs) == 0:
            self._plan(logits.shape[1] - 1 if self._rivals else 0)
        others = logits.scatter(1, self.labels[which][:, None], -torch.inf)
        ranks = min(MOST_CLASSES + 1, others.shape[1] - 1)
        self._order[which, :ranks] = others.topk(ranks, dim=1).indices
        rounding = self.full(0.0)[which]
        if self.objective.in_logits:
            size = logits.double().abs().nan_to_num(posinf=0).amax(1)
            rounding = ROUNDING * torch.finfo(logits.dtype).eps * size
        self.gap[which] = (evaluation.margin[rows].double() + self.objective.kappa).abs()
        self.gap[which] = self.gap[which].clamp(min=1e-6)
        self.sharpness[which] = self.sharpness[which].abs() / self.gap[which]
        self.key[which] = self._noise.keys(take(self.x0, which))
        self.slack[which] = SLACK * loss.double().abs() + rounding

    def _plan(self, rivals: int) -> None:
        """Put the legs into a table."""
        begin, again = legs(rivals, self._starts is not None, self._smooth)
        table = [[float(value) for value in astuple(leg)] for leg in begin + again]
        self._legs, self._repeated = self.slack.new_tensor(table), len(again)

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
        found = evaluation.surely & (self.age[index] + self.leg[index] > 0) & ~slots.finished
        better = found & (distance < self.distance[index])
        rows, where = rows_where(better)
        if len(rows):
            # As the result will have it, to the last digit.
            which, points = index[rows], take(x, rows)
            put(distance, rows, self.length(points - take(self.x0, which)), where)
            better = both(distance[rows] < self.distance[which], where)
            self.keep(which, points, distance[rows], c[rows], better)
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
        leg, begin = self.leg[index], len(self._legs) - self._repeated
        leg = torch.where(leg < begin, leg, begin + (leg - begin) % self._repeated)
        return self._legs[leg, FIELDS.index(field)]

    def _next_leg(self, slots: Tile, rows: Tensor, ended: Tensor | None) -> None:
        """Start the next legs of some rows (k,), where a mask (k,), if there is one, holds."""
        index, slot, state = slots.index[rows], slots.active[rows], slots.state
        put(self.leg, index, self.leg[index] + 1, ended)
        put(self.age, index, 0, ended)
        put(self.nearest, index, torch.inf, ended)
        put(self.mark, index, torch.inf, ended)
        rank = self._table(index, "rival").long()
        chosen = self._order[index].gather(1, rank.clamp(min=0)[:, None])[:, 0]
        # Of legs that go on the same again.
        self.rival[index] = torch.where(rank < 0, -1, chosen)
        self.sharpness[index] = self._table(index, "sharpness") / self.gap[index]
        kind = self._table(index, "start")
        known = self.distance[index].isfinite()
        finite = state.status[slot] != Status.NON_FINITE
        start = torch.where((~known & finite)[:, None], take(state.x, slot), take(self.x0, index))
        if self._starts is not None:
            given = take(self._starts, index)
            start = torch.where((kind == Start.GIVEN)[:, None], given, start)
        at_best = known & ((kind == Start.BEST) | (kind == Start.NEAR_BEST))
        start = torch.where(at_best[:, None], take(self.best, index), start)
        some, noisy = rows_where((kind >= Start.NEAR_BEST) & finite)
        if len(some):
            which = index[some]
            factor = torch.where(kind == Start.NEAR_BEST, NOISE_AT_BEST, NOISE_AT_ORIGINAL)[some]
            length = row_norm(take(self.best, which) - take(self.x0, which))
            length = factor * torch.where(known[some], length, 1.0)
            noise = self._noise.directions(self.key[which], self.leg[which])
            start_from = take(start, some)
            put(start, some, start_from + length[:, None].to(noise.dtype) * noise, noisy)
        self.start(state, slot, index, start, ended)

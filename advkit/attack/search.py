"""What every search keeps of its images: the nearest point found, what it cost, how it ended."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from advkit._rows import put, take
from advkit.attack.objective import Objective
from advkit.attack.result import AttackResult, AttackStatus, Trajectory
from advkit.attack.rounding import ROUNDING_PASSES, Grid, Rounding
from advkit.attack.row_sums import row_norm
from advkit.ops.lbfgs_step import State
from advkit.optim.tiles import Tile

__all__ = ["Search", "last_passes"]

NORMED = 1024  # images whose final distances are computed at once
# Under autocast a network's own rounding is larger than the margin of the points found. Those that
# do not fool it without autocast are tried again so much farther from their originals.
STRETCHES = (1.01, 1.03, 1.1)


def last_passes(grid: Grid | None, device: torch.device) -> int:
    """Return how many passes of each image the verification takes at most, with rounding."""
    if grid is not None:
        return 1 + ROUNDING_PASSES
    return 1 + len(STRETCHES) * torch.is_autocast_enabled(device.type)


class Search(ABC):
    """B images and the nearest points found that fool the network.

    Parameters
    ----------
    objective : Objective
        The network and the loss.
    x : Tensor (B, n)
        Original images.
    labels : Tensor (B,)
        As the objective takes them.
    norm : str
        What makes a point near: "l2sq" or "l2", "l1", "linf".
    lower, upper : Tensor (1 or B, 1 or n)
        The box.
    max_evaluations : int
        Of each image: twice as many passes through the network, forward or backward, the
        verification included.
    stop_distance : Tensor (B,), optional
        An image is finished as soon as a point at most this far away is found.
    grid : Grid, optional
        Round the points found to it.
    trajectory : bool
        Record every evaluation.

    Attributes
    ----------
    best : Tensor (B, n)
        The nearest points found, the originals where none was.
    distance : Tensor (B,) of float64
        Theirs, infinite where none was found.
    c_best : Tensor (B,) of float64
        The weights of the norm that they were found with.
    forwards, backwards : Tensor (B,) of int64
        Passes so far.
    status : Tensor (B,) of int8
        `AttackStatus`.
    """

    def __init__(
        self,
        objective: Objective,
        x: Tensor,
        labels: Tensor,
        *,
        norm: str,
        lower: Tensor,
        upper: Tensor,
        max_evaluations: int,
        stop_distance: Tensor | None = None,
        grid: Grid | None = None,
        trajectory: bool = False,
    ) -> None:
        self.objective, self.x0, self.labels, self.norm = objective, x, labels, norm
        self.lower, self.upper = lower, upper
        self._passes = 2 * max_evaluations - last_passes(grid, x.device)
        self._stop_distance, self._grid = stop_distance, grid
        self._rounds: list[tuple[Tensor, ...]] | None = [] if trajectory else None
        fixed = lower == upper
        self._open = (~fixed).to(x.dtype) if bool(fixed.any()) else None
        self.best = x.clone(memory_format=torch.contiguous_format)
        self.distance = self.full(torch.inf)
        self.c_best = self.full(torch.nan)
        self.forwards, self.backwards = self.full(0, torch.int64), self.full(0, torch.int64)
        self.status = self.full(AttackStatus.NOT_FOUND, torch.int8)

    def run(self, tile: int, advance: Callable[[int], None]) -> None:
        """Search for all images, `tile` at a time; `advance` is told how many are finished."""
        if len(self.x0) == 0:
            return
        slots = Tile(self.state(tile), len(self.x0), self._passes // 2)
        while len(slots.active):
            self.round(slots)
            if slots.counts() and (done := int(slots.finished.sum())):
                advance(done)
                free, fresh = slots.replace()
                if len(fresh):
                    self.load(slots.state, free, fresh)

    @abstractmethod
    def state(self, tile: int) -> State:
        """Return a state whose slots hold the first images."""

    @abstractmethod
    def load(self, state: State, slots: Tensor, index: Tensor) -> None:
        """Put images `index` (k,) into slots (k,)."""

    @abstractmethod
    def round(self, slots: Tile) -> None:
        """Evaluate the network once on each active image and act upon it, asking a GPU nothing."""

    def full(self, value: float, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return one value for each image (B,)."""
        return self.x0.new_full((len(self.x0),), value, dtype=dtype)

    def length(self, r: Tensor) -> Tensor:
        """Return the norms (b,) in float64 of perturbations (b, n)."""
        return row_norm(r, self.order)

    @property
    def order(self) -> float:
        """Of the norm that distances are measured in: 1, 2 or infinity."""
        return {"l1": 1, "linf": torch.inf}.get(self.norm, 2)

    def box(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of some images (1 or k, 1 or n)."""
        lower = self.lower if len(self.lower) == 1 else take(self.lower, index)
        return lower, self.upper if len(self.upper) == 1 else take(self.upper, index)

    def own_box(self, index: Tensor) -> dict[str, Tensor]:
        """Return those bounds of some images that are not shared by all, as `State.load` takes."""
        return {
            name: take(bound, index)
            for name, bound in (("lower", self.lower), ("upper", self.upper))
            if len(bound) > 1
        }

    def open_part(self, gradient: Tensor, index: Tensor) -> Tensor:
        """Return gradients (b, n) with zeros where the box leaves no choice."""
        if self._open is None:
            return gradient
        return gradient * (self._open if len(self._open) == 1 else take(self._open, index))

    def record(
        self, index: Tensor, distance: Tensor, margin: Tensor, c: Tensor, live: Tensor
    ) -> None:
        """Add a round of the images that are still searched for, if a trajectory is wanted."""
        if self._rounds is not None:
            passes = self.forwards[index] + self.backwards[index]
            self._rounds.append(
                (index.clone(), passes, distance.clone(), margin.double(), c.clone(), live)
            )

    def judge(self, which: Tensor, loss: Tensor, gradient: Tensor, fooled: Tensor) -> Tensor:
        """Set the status of originals (k,) by their evaluations; return which are finished (k,)."""
        broken = ~(loss.isfinite() & gradient.isfinite().all(1))
        put(self.status, which, int(AttackStatus.ALREADY_ADVERSARIAL), fooled)
        put(self.status, which, int(AttackStatus.NON_FINITE), broken)
        return fooled | broken

    def evaluated(self, index: Tensor) -> None:
        """Count an evaluation of some images."""
        self.forwards[index] += 1
        self.backwards[index] += 1

    def enough(self, index: Tensor) -> Tensor:
        """Return which images can afford no other evaluation, or are near enough (b,)."""
        spent = self.forwards[index] + self.backwards[index] + 2 > self._passes
        if self._stop_distance is None:
            return spent
        return spent | (self.distance[index] <= self._stop_distance[index])

    def keep(
        self, index: Tensor, x: Tensor, distance: Tensor, c: Tensor, where: Tensor | None
    ) -> None:
        """Note points x (k, n) of some images, where they are nearer."""
        put(self.best, index, x, where)
        put(self.distance, index, distance, where)
        put(self.c_best, index, c, where)

    def verify(self, tile: int) -> None:
        """Ask the network again about every point found, in other batches and without autocast."""
        found, kind = self.distance.isfinite().nonzero()[:, 0].flip(0), self.x0.device.type
        mixed = torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False) if mixed else nullcontext():
            for which in found.split(tile) if len(found) else ():
                if self._grid is not None:
                    self._round(which, self._grid)
                lost = self._confirm(which)
                for stretch in STRETCHES if mixed and self._grid is None else ():
                    x0 = take(self.x0, lost)
                    farther = x0 + stretch * (take(self.best, lost) - x0)
                    self.best[lost] = farther.clamp(*self.box(lost))
                    lost = self._confirm(lost) if len(lost) else lost
                self.best[lost] = self.x0[lost]

    def _confirm(self, which: Tensor) -> Tensor:
        """Set the status of images whose points fool the network; return the others."""
        still = self.objective.fooled(take(self.best, which), self.labels[which])[0]
        self.forwards[which] += 1
        self.status[which[still]] = AttackStatus.FOUND
        return which[~still]

    def _round(self, which: Tensor, grid: Grid) -> None:
        """Round points to the grid, as near to their originals as still fools the network."""
        lower, upper = self.box(which)
        x, x0 = take(self.best, which), take(self.x0, which)
        rounding = Rounding(x, x0, lower, upper, grid)
        labels = self.labels[which]
        evaluation = self.objective.constraint(x, labels, torch.full_like(which, -1))
        self.forwards[which] += 1
        self.backwards[which] += 1
        every = torch.ones_like(which, dtype=torch.bool)
        self.record(which, self.distance[which], evaluation.margin, self.c_best[which], every)
        rounding.gradient = self.open_part(evaluation.gradient, which)
        nearest = torch.full_like(self.distance[which], torch.inf)
        for _ in range(ROUNDING_PASSES - 2):  # the evaluation was two
            tried = rounding.points()
            _, surely, margin = self.objective.fooled(tried, labels)
            distance = self.length(tried - x0)
            better = surely & (distance < nearest)
            self.best[which[better]] = tried[better]
            nearest = torch.where(better, distance, nearest)
            rounding.learn(surely, margin)
        self.forwards[which] += ROUNDING_PASSES - 2
        self.distance[which] = nearest
        self.best[which[nearest.isinf()]] = self.x0[which[nearest.isinf()]]

    def result(self, shape: torch.Size, settings: dict[str, Any]) -> AttackResult:
        """Gather the images (B, *shape) and what is known of them."""
        found = self.status == AttackStatus.FOUND
        # A few at a time: as many as there are would be as much memory again.
        some = zip(self.best.split(NORMED), self.x0.split(NORMED), strict=True)
        norms = [(self.length(r), row_norm(r)) for r in (best - x0 for best, x0 in some)]
        distance, length = (torch.cat(column) for column in zip(*norms, strict=True))
        kind = self.x0.dtype
        return AttackResult(
            adversarial=self.best.view(-1, *shape),
            success=found | (self.status == AttackStatus.ALREADY_ADVERSARIAL),
            distance=distance.to(kind),
            rms=(length / math.sqrt(self.x0.shape[1])).to(kind),
            c=torch.where(found, self.c_best, torch.nan).to(kind),
            forwards=self.forwards,
            backwards=self.backwards,
            status=self.status,
            settings=settings,
            trajectory=self._trajectory(),
        )

    def _trajectory(self) -> Trajectory | None:
        if self._rounds is None:
            return None
        if not self._rounds:
            kinds = torch.int64, *3 * [torch.float64], torch.bool
            self.record(*(self.full(0.0, kind)[:0] for kind in kinds))
        *columns, live = (torch.cat(column) for column in zip(*self._rounds, strict=True))
        return Trajectory(*(column[live] for column in columns))

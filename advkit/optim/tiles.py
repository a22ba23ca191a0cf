"""Carrying many problems through a few slots: a tile, refilled from the queue.

A round asks a GPU nothing (`advkit._rows`); between some of them the host looks which problems are
finished.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from advkit import _rows
from advkit.ops.lbfgs_step import State, Status

__all__ = ["Tile", "default_tile"]

LOOK_EVERY = 8  # rounds, on a GPU


class Tile:
    """Which problem sits in which slot of a state.

    A round evaluates the trial points of the active slots. At a look the slots whose problems are
    finished take the next problems of the queue; when the queue is empty they drop out of the
    batch. Histories never move. On a CPU every round ends with a look, on a GPU every eighth and
    those in which a problem has spent its evaluations; until then what is finished is evaluated on.

    Parameters
    ----------
    state : State
        Its T slots hold the problems 0 ... T - 1.
    problems : int
        How many there are, at least T.
    evaluations : int
        Of each problem at most.
    every : int, optional
        Rounds from look to look.

    Attributes
    ----------
    state : State
        As given.
    active : Tensor (b,) of int64
        Slots to evaluate.
    index : Tensor (b,) of int64
        The problems in them.
    fresh : Tensor (k,) of int64
        The rows, of those b, that the present round evaluates for the first time.
    finished : Tensor (b,) of bool
        Which rows' problems are finished; the next look replaces them.
    """

    def __init__(
        self, state: State, problems: int, evaluations: int, every: int | None = None
    ) -> None:
        device = state.trial.device
        self.state = state
        self.active = torch.arange(len(state.trial), device=device)
        self.index = self.active.clone()
        self.fresh = self.active.clone()
        self.finished = torch.zeros_like(self.active, dtype=torch.bool)
        self._next, self._problems = len(state.trial), problems
        self._rounds, self._most = np.zeros(len(state.trial), dtype=np.int64), evaluations
        self._every = every or (LOOK_EVERY if _rows.host_waits(device) else 1)
        self._since_look = 0

    def trial(self) -> Tensor:
        """Return a copy (b, n) of the points to evaluate."""
        return _rows.take(self.state.trial, self.active)

    def stopped(self) -> Tensor:
        """Return which of the active slots have stopped (b,)."""
        return self.state.status[self.active] != Status.RUNNING

    def counts(self) -> bool:
        """Count a round; return whether the host is to look which problems are finished."""
        self.fresh = self.fresh[:0]
        if self._every == 1:
            return True
        self._rounds += 1
        self._since_look += 1
        looks = self._since_look == self._every or int(self._rounds.max()) >= self._most
        if looks:
            self._since_look = 0
        return looks

    def replace(self) -> tuple[Tensor, Tensor]:
        """Give the slots of finished problems to the next of the queue, and drop those left over.

        Returns
        -------
        slots, index : Tensor (k,) of int64
            The slots to load, and the problems to load into them.
        """
        free = self.finished.nonzero()[:, 0]
        taken = free[: self._problems - self._next]
        index = torch.arange(self._next, self._next + len(taken), device=free.device)
        self._next += len(taken)
        self.index[taken] = index
        self.fresh, slots = taken, self.active[taken]
        self._rounds[taken.cpu().numpy()] = 0
        self.finished[taken] = False
        if len(taken) < len(free):
            keep = ~self.finished
            self.fresh = (keep.cumsum(0) - 1)[taken]
            self.active, self.index = self.active[keep], self.index[keep]
            self._rounds = self._rounds[keep.cpu().numpy()]
            self.finished = self.finished[keep]
        return slots, index


# What a tile's slots may take, and what the caches of a processor hold of them.
MEMORY, CACHE = 256 << 20, 16 << 20
MOST_SLOTS, LEAST_CACHED = 1024, 32


def default_tile(
    problems: int, n: int, history: int, element_size: int, *, cached: bool = False
) -> int:
    """Choose how many slots to carry at once: at most 1,024, and at most what 256 MiB holds.

    Where a round's own cost beside the kernels is small (`cached`), as many as a cache of 16 MiB
    holds, but no less than 32, below which most networks take longer for an image; and all tiles of
    about the same size.
    """
    one = max(1, n * (2 * history + 8) * element_size)
    most = max(1, min(problems, MOST_SLOTS, MEMORY // one))
    if not cached:
        return most
    most = min(most, max(LEAST_CACHED, CACHE // one))
    return -(-problems // -(-problems // most)) if problems else most

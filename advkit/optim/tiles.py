"""Carrying many problems through a few slots: a tile, refilled from the queue."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.ops.lbfgs_step import State, Status

__all__ = ["Tile", "default_tile"]


class Tile:
    """Which problem sits in which slot of a state.

    A round evaluates the trial points of the active slots. Slots whose problems have stopped take
    the next problems of the queue; when the queue is empty they drop out of the batch. Histories
    never move.

    Parameters
    ----------
    state : State
        Its T slots hold the problems 0 ... T - 1.
    problems : int
        How many there are, at least T.

    Attributes
    ----------
    state : State
        As given.
    active : Tensor (b,) of int64
        Slots to evaluate.
    index : Tensor (b,) of int64
        The problems in them.
    """

    def __init__(self, state: State, problems: int) -> None:
        device = state.trial.device
        self.state = state
        self.active = torch.arange(len(state.trial), device=device)
        self.index = self.active.clone()
        self._next = len(state.trial)
        self._problems = problems

    def trial(self) -> Tensor:
        """Return a copy (b, n) of the points to evaluate."""
        return self.state.trial[self.active]

    def stopped(self) -> Tensor:
        """Return which of the active slots have stopped (b,)."""
        return self.state.status[self.active] != Status.RUNNING

    def replace(self, finished: Tensor) -> tuple[Tensor, Tensor]:
        """Give the slots of finished problems to the next of the queue, and drop those left over.

        Parameters
        ----------
        finished : Tensor (b,) of bool
            Which of the active slots.

        Returns
        -------
        slots, index : Tensor (k,) of int64
            The slots to load, and the problems to load into them.
        """
        free = finished.nonzero()[:, 0]
        taken = free[: self._problems - self._next]
        index = torch.arange(self._next, self._next + len(taken), device=free.device)
        self._next += len(taken)
        self.index[taken] = index
        slots = self.active[taken]
        if len(taken) < len(free):
            keep = ~finished
            keep[taken] = True
            self.active, self.index = self.active[keep], self.index[keep]
        return slots, index


def default_tile(problems: int, n: int, history: int, element_size: int) -> int:
    """Choose how many slots to carry at once: at most 1,024, and at most what 256 MiB holds.

    Measured on small networks, a round of many images costs less per image than a history that
    stays in the cache saves.
    """
    one = max(1, n * (2 * history + 8) * element_size)
    return max(1, min(problems, 1024, (256 << 20) // one))

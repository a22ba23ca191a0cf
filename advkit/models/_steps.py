"""What every training minds: its arguments, its number of threads, and denormal numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from advkit.data import Dataset

__all__ = ["check_images", "check_schedule", "cpu_threads", "flush"]

# Weights and gradient averages below this are set to zero: see `flush`.
_NEGLIGIBLE = 1e-20


def check_images(dataset: Dataset, test: Dataset | None) -> None:
    """Raise ValueError for a set without images."""
    for argument, images in (("dataset", dataset), ("test", test)):
        if images is not None and not len(images):
            raise ValueError(f"{argument}: expected at least one image, got none")


def check_schedule(*, epochs: int, batch_size: int, threads: int, learning_rate: float) -> None:
    """Raise ValueError for a number out of range."""
    for argument, value in (("epochs", epochs), ("batch_size", batch_size), ("threads", threads)):
        if value < 1:
            raise ValueError(f"{argument}: expected at least 1, got {value}")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate: expected a finite number > 0, got {learning_rate}")


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let PyTorch use `count` CPU threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def flush(optimizer: torch.optim.Adam) -> None:
    """Set negligible weights and gradient averages to exactly zero.

    Weight decay halves the weights of pixels that are 0 in every image again and again, down to
    denormal numbers, on which some processors compute a hundred times slower.
    """
    for parameter, state in optimizer.state.items():
        for values in (parameter, state["exp_avg"]):
            values[values.abs() < _NEGLIGIBLE] = 0

"""What every training on the CPU minds: its number of threads, and denormal numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["cpu_threads", "flush"]

# Weights and gradient averages below this are set to zero: see `flush`.
_NEGLIGIBLE = 1e-20


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

"""Directions that restarts begin with: windows of one long row of normal values.

Drawing them costs a look-up, on any device (Salimans et al. 2017, "Evolution strategies as a
scalable alternative to reinforcement learning", section 2.1, share a block of noise like that).
"""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.attack.row_sums import row_norm

__all__ = ["Noise"]

WINDOWS = 2**16
# 2^64 over the golden ratio, as a signed number: its multiples are spread evenly (Knuth 1998, 6.4).
SPREAD = -7046029254386353131
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Noise:
    """Directions for rows like those of x (B, n), given by their content, a count and the seed.

    Attributes
    ----------
    row : Tensor (n + WINDOWS - 1,)
        The normal values.
    """

    def __init__(self, x: Tensor, seed: int) -> None:
        n = x.shape[1]
        generator = torch.Generator().manual_seed(seed % 2**63)
        self.row = torch.randn(n + WINDOWS - 1, generator=generator).to(x)
        self._windows = self.row.unfold(0, n, 1)
        low, high = -(2**63), 2**63 - 1
        self._factors = torch.randint(low, high, (n,), generator=generator).to(x.device)

    def keys(self, x: Tensor) -> Tensor:
        """Return numbers (k,) that depend on all bits of rows (k, n)."""
        bits = x.contiguous().view(INTEGERS[x.element_size()])
        return (bits.long() * self._factors).sum(1)

    def directions(self, keys: Tensor, counts: Tensor) -> Tensor:
        """Return rows (k, n) of length 1; the same key has another with each count."""
        window = ((keys + counts * SPREAD) >> 48) & (WINDOWS - 1)
        rows = self._windows[window]
        return rows / row_norm(rows)[:, None].to(rows.dtype)

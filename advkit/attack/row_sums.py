"""Sums and norms of rows (b, n), whose bits depend on the row alone, not on b or threads.

PyTorch shares a long sum among threads. Sums of at most 1,024 values it does not, so a row is cut
into such.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["row_norm", "row_sum"]

RUN = 1024


def row_sum(values: Tensor) -> Tensor:
    """Sum rows (b, n) -> (b,)."""
    runs, rest = _cut(values)
    return runs.sum(-1).sum(-1) + rest.sum(-1)[:, 0]


def row_norm(values: Tensor, order: float = 2) -> Tensor:
    """Return norms (b,) of rows (b, n), of order 1, 2 or infinity, computed in float64."""
    parts = [_norm(part, order) for part in _cut(values) if part.shape[1:].numel()]
    return parts[0][:, 0] if values.shape[1] <= RUN else _norm(torch.cat(parts, 1), order)


def _norm(values: Tensor, order: float) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values, order, dim=-1, dtype=torch.float64)
    return norms


def _cut(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the whole runs (b, k, RUN) of rows (b, n), and the rest (b, 1, n - k RUN)."""
    count = values.shape[1] // RUN
    whole, rest = values.tensor_split([count * RUN], dim=1)
    return whole.unflatten(1, (count, RUN)), rest[:, None]

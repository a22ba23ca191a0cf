"""Sums and norms of rows (b, n), whose bits depend on the row alone, not on b or threads.

PyTorch shares a long sum among threads. Sums of at most 1,024 values it does not, so a row is cut
into such. On a CPU norms are the compiled module's: PyTorch would copy the rows to float64 first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.ops._check import row_stride, suffix
from advkit.ops._dispatch import choose, native

__all__ = ["row_norm", "row_sum"]

RUN = 1024
KERNEL_ID = {torch.inf: 0, 1: 1, 2: 2}


def row_sum(values: Tensor) -> Tensor:
    """Sum rows (b, n) -> (b,)."""
    runs, rest = _cut(values)
    return runs.sum(-1).sum(-1) + rest.sum(-1)[:, 0]


def row_norm(values: Tensor, order: float = 2) -> Tensor:
    """Return norms (b,) of rows (b, n), of order 1, 2 or infinity, computed in float64."""
    if choose(values) == "cpu":
        return _native_norm(values, order)
    parts = [_norm(part, order) for part in _cut(values) if part.shape[1:].numel()]
    return parts[0][:, 0] if values.shape[1] <= RUN else _norm(torch.cat(parts, 1), order)


def _native_norm(values: Tensor, order: float) -> Tensor:
    values = values if values.stride(1) == 1 else values.contiguous()
    norms = values.new_empty(len(values), dtype=torch.float64)
    run = getattr(native(), f"row_norm_{suffix(values)}")
    order_id, threads = KERNEL_ID[order], torch.get_num_threads()
    run(*values.shape, values.data_ptr(), row_stride(values), order_id, norms.data_ptr(), threads)
    return norms


def _norm(values: Tensor, order: float) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values, order, dim=-1, dtype=torch.float64)
    return norms


def _cut(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the whole runs (b, k, RUN) of rows (b, n), and the rest (b, 1, n - k RUN)."""
    count = values.shape[1] // RUN
    whole, rest = values.tensor_split([count * RUN], dim=1)
    return whole.unflatten(1, (count, RUN)), rest[:, None]

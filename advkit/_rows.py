"""What a round does to some of its rows, without asking the device which.

A GPU works behind the host's back as long as the host asks it nothing. So on a GPU a round does
everything for all rows and keeps it where a mask holds; on a CPU it takes the rows of the mask.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["host_waits", "put", "rows_where"]


def host_waits(device: torch.device) -> bool:
    """Return whether the host has to wait for what it asks of a device."""
    return device.type != "cpu"


def rows_where(mask: Tensor) -> Tensor:
    """Return the rows where a mask (b,) holds, or all of them where the host would have to wait."""
    if host_waits(mask.device):
        return torch.arange(len(mask), device=mask.device)
    return mask.nonzero()[:, 0]


def put(target: Tensor, index: Tensor, values: Tensor | float, where: Tensor | None = None) -> None:
    """Set ``target[index]`` (k, ...) to values, where a mask (k,) holds if there is one."""
    if where is not None:
        old = target[index]
        values = torch.where(where.view(-1, *[1] * (old.dim() - 1)), values, old)
    target[index] = values

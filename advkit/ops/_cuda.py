"""The compiled module of CUDA kernels, and what each call of one needs besides its tensors."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from advkit.ops._check import row_stride

__all__ = ["bound_at", "cuda", "run", "shared_memory", "workspace"]


@cache
def cuda() -> ModuleType:
    """Return the compiled module; `_dispatch` has seen that it is there."""
    from advkit import _cuda

    return _cuda


@cache
def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a block on this device may have."""
    return int(cuda().shared_memory(device.index))


def bound_at(bound: Tensor) -> Any:
    """Describe a bound of shape (1 or B, 1 or n) to the compiled module."""
    return cuda().BoundAt(bound.data_ptr(), row_stride(bound), bound.shape[1] > 1)


def workspace(like: Tensor, size: int) -> Tensor:
    """Allocate `size` bytes where `like` is."""
    return torch.empty(size, dtype=torch.uint8, device=like.device)


def run(prepared: Any, device: torch.device) -> None:
    """Launch a prepared op on the current stream of a device."""
    prepared.run(device.index, torch.cuda.current_stream(device).cuda_stream)

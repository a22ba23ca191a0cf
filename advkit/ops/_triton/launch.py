"""How a Triton kernel is started: shapes of blocks, float64 arguments, the device."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
from torch import Tensor

__all__ = [
    "ROW_WARPS",
    "Cut",
    "Shape",
    "as_bits",
    "cut_for",
    "is_long",
    "launch",
    "shape_for",
    "workspace",
]

SHORT_ROW, FEW_WARPS = 16_384, 8  # bytes of a row, and the warps that work on it at most
ROW, MOST_WARPS = 65_536, 16  # the same of the longest row that one program works on
TILE = 8192  # bytes of a tile of a longer one: of each vector 64 bytes a thread
ROW_WARPS = 4  # of the program that adds up a long row's sums and decides by them
HELD_PAIRS = 384  # bytes of a thread's registers that pairs may take between the two loops


class Shape(NamedTuple):
    """How one program holds a row: `chunks` blocks of `block` values each on `warps` warps.

    A thread has 16 bytes of a block, which it loads at once.
    """

    block: int
    chunks: int
    warps: int

    def holds(self, m: int) -> bool:
        """Return whether a thread's registers have room for m pairs."""
        return self.chunks == 1 and 2 * m * 16 <= HELD_PAIRS

    def at_once(self) -> int:
        """Return how many chunks of a vector registers have room for beside those of q."""
        return self.chunks if self.chunks <= 4 else 2


def shape_for(n: int, itemsize: int) -> Shape:
    """Choose the shape for rows of n values: more warps, then more chunks for each."""
    per_warp = 32 * 16 // itemsize
    most = FEW_WARPS if n * itemsize <= SHORT_ROW else MOST_WARPS
    warps = min(most, triton.next_power_of_2(triton.cdiv(max(n, 1), per_warp)))
    block = per_warp * warps
    return Shape(block, max(1, triton.cdiv(n, block)), warps)


def is_long(n: int, itemsize: int) -> bool:
    """Return whether rows of n values are cut into tiles."""
    return n * itemsize > ROW


class Cut(NamedTuple):
    """How a long row is cut: `tiles` of `block` values, each of them one program of `warps`."""

    block: int
    tiles: int
    warps: int


def cut_for(n: int, itemsize: int) -> Cut:
    """Cut rows of n values; by n alone, so that sums do not depend on the batch."""
    block = TILE // itemsize
    return Cut(block, triton.cdiv(n, block), max(1, TILE // (32 * 64)))


def workspace(like: Tensor, *shape: int) -> Tensor:
    """Allocate what the launches of a split op leave for one another: sums in float64."""
    return torch.empty(shape, dtype=torch.float64, device=like.device)


def as_bits(value: float) -> int:
    """Return a number's float64 bits as an integer: Triton passes a Python float as float32."""
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits


def launch(
    kernel: Any, grid: tuple[int, ...], device: torch.device, *args: Any, **given: Any
) -> None:
    """Start a kernel on a device's current stream. Contracting a product and a sum is allowed."""
    if 0 in grid:
        return
    if device.type != "cuda":  # the interpreter, which is to be as silent about NaN as a GPU
        with np.errstate(all="ignore"):
            kernel[grid](*args, **given)
        return
    with torch.cuda.device(device):
        kernel[grid](*args, enable_fp_fusion=True, **given)

"""How a Triton kernel is started: shapes of blocks, float64 arguments, the device."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import torch
import triton

__all__ = ["Shape", "as_bits", "launch", "shape_for"]

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


def shape_for(n: int, itemsize: int) -> Shape:
    """Choose the shape for rows of n values: more warps, then more chunks for each."""
    most = 8 if n * itemsize <= 16_384 else 16  # a thread then holds 16 values at most
    per_warp = 32 * 16 // itemsize
    warps = min(most, triton.next_power_of_2(triton.cdiv(max(n, 1), per_warp)))
    block = per_warp * warps
    return Shape(block, max(1, triton.cdiv(n, block)), warps)


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

"""The split form: long rows are cut into tiles, one for each program along the grid's second axis.

The tiles' sums meet in a workspace. Whoever needs a total adds them up again, in the same order: no
atomics, the same bits every time.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["greatest", "most_of", "tile_values", "total"]

AT_ONCE = tl.constexpr(128)  # tiles whose sums are loaded together


@triton.jit
def tile_values(BLOCK: tl.constexpr):
    """Return which values of its row this program works on.

    Four to a thread, as float32 loads take them: left alone, the load of a free set, a byte each,
    gives every vector of the kernel 16 to a thread, and its loads touch each sector twice.
    """
    return tl.max_contiguous(tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), 4)


@triton.jit
def total(parts, tiles):
    """Add up what each tile left at parts + tile."""
    sums = tl.zeros([AT_ONCE], tl.float64)
    for first in range(0, tiles, AT_ONCE):
        tile = first + tl.arange(0, AT_ONCE)
        sums += tl.load(parts + tile, mask=tile < tiles, other=0.0)
    return tl.sum(sums, 0)


@triton.jit
def most_of(v):
    """Return the greatest of a block of values that are not negative; NaN does not count."""
    return tl.max(tl.maximum(v, 0.0), 0).to(tl.float64)


@triton.jit
def greatest(parts, tiles):
    """Return the greatest of what each tile's `most_of` left at parts + tile."""
    most = tl.zeros([AT_ONCE], tl.float64)
    for first in range(0, tiles, AT_ONCE):
        tile = first + tl.arange(0, AT_ONCE)
        most = tl.maximum(most, tl.load(parts + tile, mask=tile < tiles, other=0.0))
    return tl.max(most, 0)

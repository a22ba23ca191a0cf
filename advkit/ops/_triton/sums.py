"""Sums over a row: in float64, of float32 four values of a thread in their own precision before.

Four so that the sum of a run is about as exact as its products, and float64 additions, which are
slow on most GPUs, are a quarter as many. The values are neighbours, which one thread holds; of
float64 it has two, so that both types leave a sum for 16 bytes. Several sums share one exchange
between threads.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["as_float", "fold", "sum1", "sum2", "sum4", "zero_sum"]


@triton.jit
def as_float(bits):
    """Turn the integer of `as_bits` back into a float64."""
    return bits.to(tl.int64).to(tl.float64, bitcast=True)


@triton.jit
def fold(v):
    """Turn a block into float64, after adding up what a thread has of it in 16 bytes."""
    if v.dtype == tl.float64:
        return tl.sum(tl.reshape(v, (v.shape[0] // 2, 2)), 1)
    else:
        return tl.sum(tl.reshape(v, (v.shape[0] // 4, 4)), 1).to(tl.float64)


@triton.jit
def zero_sum(T: tl.constexpr, BLOCK: tl.constexpr):
    """Return what `fold` of blocks of this type is added to."""
    if T == tl.float64:
        return tl.zeros([BLOCK // 2], tl.float64)
    else:
        return tl.zeros([BLOCK // 4], tl.float64)


@triton.jit
def sum1(a):
    """Add up a block."""
    return tl.sum(a, 0)


@triton.jit
def sum2(a, b):
    """Add up two blocks."""
    return tl.split(tl.sum(tl.join(a, b), 0))


@triton.jit
def sum4(a, b, c, d):
    """Add up four blocks."""
    ab, cd = tl.split(tl.sum(tl.join(tl.join(a, b), tl.join(c, d)), 0))
    total_a, total_b = tl.split(ab)
    total_c, total_d = tl.split(cd)
    return total_a, total_b, total_c, total_d

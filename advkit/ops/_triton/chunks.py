"""A row that one program works on, in chunks of 16 bytes a thread; bit k of a set is chunk k's."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["is_set", "load_free", "load_row", "store_row"]


@triton.jit
def is_set(bits, k):
    """Tell which values of chunk k are in a set."""
    return ((bits >> k) & 1) != 0


@triton.jit
def load_free(row, bits, k, end, T: tl.constexpr, BLOCK: tl.constexpr):
    """Load chunk k of a vector as T, 0 from value `end` on and where the set has none."""
    i = tl.arange(0, BLOCK)
    v = tl.load(row + k * BLOCK + i, mask=i < end - k * BLOCK, other=0.0).to(T)
    return tl.where(is_set(bits, k), v, 0.0)


@triton.jit
def load_row(row, n, BLOCK: tl.constexpr, CHUNKS: tl.constexpr):
    """Load a vector as a tuple of its chunks, 0 from value n on."""
    i = tl.arange(0, BLOCK)
    chunks = ()
    for k in tl.static_range(CHUNKS):
        chunks = chunks + (tl.load(row + k * BLOCK + i, mask=i < n - k * BLOCK, other=0.0),)
    return chunks


@triton.jit
def store_row(row, chunks, n):
    """Write a vector that is a tuple of its chunks."""
    BLOCK: tl.constexpr = chunks[0].shape[0]
    i = tl.arange(0, BLOCK)
    for k in tl.static_range(len(chunks)):
        tl.store(row + k * BLOCK + i, chunks[k], mask=i < n - k * BLOCK)

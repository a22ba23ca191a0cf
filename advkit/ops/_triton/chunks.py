"""A row that one program works on, in chunks of 16 bytes a thread; bit k of a set is chunk k's."""

from __future__ import annotations

import triton
import triton.language as tl

from advkit.ops._triton.pairs import load_free

__all__ = ["is_set", "load_chunk", "load_row", "store_row"]


@triton.jit
def is_set(bits, k):
    """Tell which values of chunk k are in a set."""
    return ((bits >> k) & 1) != 0


@triton.jit
def load_chunk(row, bits, k, end, T: tl.constexpr, BLOCK: tl.constexpr):
    """Load chunk k of a vector of a pair, as `load_free`; `bits` is the free set."""
    i = tl.arange(0, BLOCK)
    return load_free(row + k * BLOCK, is_set(bits, k), i, end - k * BLOCK, T)


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

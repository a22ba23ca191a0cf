"""The ring of pairs: where a pair lies, whether it is used, how it is stored in 16 bits."""

from __future__ import annotations

import triton
import triton.language as tl

from advkit.ops.two_loop import reference

__all__ = ["curved", "load_free", "load_pair", "pair_scale", "place_of", "ring", "stored"]

CURVATURE_THRESHOLD = tl.constexpr(reference.CURVATURE_THRESHOLD)
STORED_LENGTH = tl.constexpr(reference.STORED_LENGTH)
EXPONENT = tl.constexpr(0x7FF << 52)  # the bits of a float64 that say which power of two it has


@triton.jit
def curved(sy, ss, yy):
    """Whether a pair's curvature is positive beyond rounding."""
    return sy > CURVATURE_THRESHOLD * tl.sqrt(ss * yy)


@triton.jit
def load_free(row, free, i, end, T: tl.constexpr):
    """Load values i of a vector of a pair as T, 0 from `end` on and where not free."""
    v = tl.load(row + i, mask=i < end, other=0.0).to(T)
    return tl.where(free, v, 0.0)


@triton.jit
def load_pair(S, Y, S_pair, Y_pair, place, free, i, end, T: tl.constexpr):
    """Load values i of the s and y of a place, as `load_free`."""
    s = load_free(S + place * S_pair, free, i, end, T)
    return s, load_free(Y + place * Y_pair, free, i, end, T)


@triton.jit
def pair_scale(ss, yy):
    """Return the power of two that s and y are multiplied by to be stored in 16 bits."""
    length = tl.sqrt(tl.maximum(ss, yy)).to(tl.int64, bitcast=True)
    power = (length & EXPONENT).to(tl.float64, bitcast=True)  # the largest that is no longer
    return 0.5 / power * STORED_LENGTH


@triton.jit
def stored(v, scale, H: tl.constexpr):
    """Return a vector of a pair as it is stored in H."""
    if v.dtype == H:
        return v
    else:
        return (scale * v).to(H)


@triton.jit
def ring(head, count, M: tl.constexpr):
    """Return head and count; one that points outside of itself holds no pairs."""
    valid = (head >= 0) & (head < M) & (count >= 0) & (count <= M)
    return tl.where(valid, head, 0), tl.where(valid, count, 0)


@triton.jit
def place_of(head, age, M: tl.constexpr):
    """Return the place of the pair of an age (0: the newest)."""
    return ((head + (2 * M - 1 - age)) % M).to(tl.int64)

"""Arithmetic that rounds once, as the device does, from NumPy's operations.

A sum of two products that is to be rounded once is first rounded to odd: cut off, with the last bit
set where anything was cut off. Rounding that to a format with at least two bits less is then exact
(Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008).
"""

from __future__ import annotations

import ctypes
import ctypes.util

import numpy as np

_fma = ctypes.CDLL(ctypes.util.find_library("m")).fma
_fma.restype, _fma.argtypes = ctypes.c_double, [ctypes.c_double] * 3


def _two_sum(a, b):
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _to_odd(value, error):
    """Return value + error rounded to odd; value is their sum rounded to nearest."""
    change = (error != 0) & (value.view(np.int64) & 1 == 0) & np.isfinite(value)
    if not change.any():
        return value
    step = np.where((error > 0) == (value > 0), 1, -1)
    return np.where(change, (value.view(np.int64) + step).view(np.float64), value)


def fma_odd(a, b, c):
    """Return a b + c rounded to odd in float64, for values of float32 or narrower formats."""
    product = a.astype(np.float64) * b.astype(np.float64)  # exact
    total, error = _two_sum(product, c.astype(np.float64))
    return _to_odd(total, error)


def fma32(a, b, c):
    """Return a b + c rounded once to float32."""
    product = a.astype(np.float64) * b.astype(np.float64)
    total = product + c
    # Only where all bits below float32's last but one are zero can a second rounding matter.
    if ((total.view(np.int64) & 0x0FFFFFFF) == 0).any():
        total = _to_odd(*_two_sum(product, c.astype(np.float64)))
    return total.astype(np.float32)


def _split(a):
    """Return the upper 26 bits of a float64, rounded, and the rest."""
    upper = ((a.view(np.int64) + 0x4000000) & ~0x7FFFFFF).view(np.float64)
    return upper, a - upper


def fma64(a, b, c):
    """Return a b + c rounded once to float64."""
    a, b = (v[:1] if v.strides == (0,) else v for v in (a, b))  # constants
    product = a * b
    (a1, a0), (b1, b0) = _split(a), _split(b)
    low = ((a1 * b1 - product) + a1 * b0 + a0 * b1) + a0 * b0
    total, error = _two_sum(product, c)
    rest, lost = _two_sum(error, low)
    if lost.any():
        rest = _to_odd(rest, lost)
    result = np.where(low == 0, total, total + rest)
    # Error-free transformations need room above, and below for the products' last bits.
    size = np.abs(product)
    safe = (size > 1e-280) & (size < 1e290) & (np.abs(c) < 1e290)
    if not safe.all():
        a, b = np.broadcast_to(a, c.shape), np.broadcast_to(b, c.shape)
        zero = ((a == 0) | (b == 0)) & (np.abs(a + b) < 1e290) & (np.abs(c) < 1e290)
        rest = np.flatnonzero(~(safe | zero))
        result[rest] = [_fma(*v) for v in zip(a[rest], b[rest], c[rest], strict=True)]
    return result


def _directed(rounded, exact, mode):
    """Turn the nearest value into the one that the mode asks for."""
    above, below = rounded > exact, rounded < exact
    if mode == "rz":
        above, below = above & (exact > 0), below & (exact < 0)
    down = above if mode in ("rm", "rz") else np.zeros_like(above)
    up = below if mode in ("rp", "rz") else np.zeros_like(below)
    infinity = rounded.dtype.type(np.inf)
    rounded = np.where(down, np.nextafter(rounded, -infinity), rounded)
    return np.where(up, np.nextafter(rounded, infinity), rounded)


def narrow(value, dtype, mode="rn"):
    """Round float64 (exact, or rounded to odd) to float32 or float16."""
    rounded = value.astype(dtype)
    return rounded if mode == "rn" else _directed(rounded, value, mode)


def to_bf16(value, mode="rn"):
    """Round float64 (exact, or rounded to odd) to the bits of bfloat16."""
    nearest = value.astype(np.float32)
    raw = _to_odd32(nearest, value).view(np.uint32)
    if mode == "rn":
        raw = raw + (np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1)))
    short = (raw >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(value), np.uint16(0x7FFF), short)


def _to_odd32(nearest, exact):
    cut = _directed(nearest, exact, "rz").view(np.uint32)
    inexact = (cut.view(np.float32) != exact) & np.isfinite(exact)
    return np.where(inexact, cut | np.uint32(1), cut).view(np.float32)


def from_bf16(raw):
    """Return bits of bfloat16 as float32."""
    return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)


def flush(value):
    """Turn subnormal numbers into zeros of their sign."""
    return np.where(
        np.abs(value) < np.finfo(value.dtype).tiny, np.copysign(0, value), value
    ).astype(value.dtype)


def saturate(value):
    """Clamp to [0, 1]; NaN becomes +0."""
    return np.where(value > 0, np.minimum(value, 1), 0).astype(value.dtype)

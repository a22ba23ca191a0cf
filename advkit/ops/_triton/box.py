"""The box of one row, and for L1 the part of it where |x - x0| keeps its signs.

The formulae are those of ``csrc/cpu/box.hpp``.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from advkit.norms import NORMS
from advkit.ops._check import row_stride
from advkit.ops.penalty import reference

__all__ = [
    "active_margin",
    "bound_arguments",
    "clamp",
    "is_free",
    "load_bounds",
    "load_part",
    "on_segment",
    "projected",
    "smooth_part",
]

ACTIVE_MARGIN = tl.constexpr(reference.ACTIVE_MARGIN)
NONE = tl.constexpr(NORMS["none"].kernel_id)
KINKED = tl.constexpr(next(norm.kernel_id for norm in NORMS.values() if norm.kinks_at_zero))


def bound_arguments(lower: Tensor, upper: Tensor) -> tuple[tuple[Any, ...], dict[str, bool]]:
    """Return what a kernel takes for bounds (1 or B, 1 or n), and its two compile-time flags."""
    each = {"LOWER_EACH": lower.shape[1] > 1, "UPPER_EACH": upper.shape[1] > 1}
    return (lower, row_stride(lower), upper, row_stride(upper)), each


@triton.jit
def load_bounds(lower, upper, i, inside, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr):
    """Load both bounds of values i, 0 outside; lower and upper point at the row's."""
    low = tl.load(lower + i * LOWER_EACH, mask=inside, other=0.0)
    high = tl.load(upper + i * UPPER_EACH, mask=inside, other=0.0)
    return low, high


@triton.jit
def clamp(v, low, high):
    """Bring v into the box; NaN stays NaN."""
    v = tl.where(v < low, low, v)
    return tl.where(v > high, high, v)


@triton.jit
def on_segment(x, d, part, low, high):
    """Go from x a part of the way to where x + d meets the box."""
    return clamp(x + part * (clamp(x + d, low, high) - x), low, high)


@triton.jit
def smooth_part(x, x0, g, low, high, NORM: tl.constexpr):
    """Return the box that ends at x0, on the side to which -g does not point, for L1."""
    if NORM == KINKED:
        up = (x > x0) | ((x == x0) & (g < 0.0))
        down = (x < x0) | ((x == x0) & (g > 0.0))
        from_x0, to_x0 = tl.where(x0 > low, x0, low), tl.where(x0 < high, x0, high)
        return tl.where(down, low, from_x0), tl.where(up, high, to_x0)
    else:
        return low, high


@triton.jit
def load_part(
    x, g, x0, lower, upper, i, n,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr,
):  # fmt: skip
    """Load the box in which a step from x stays; x0 and the bounds point at the row's."""
    origin = x
    if NORM != NONE:
        origin = tl.load(x0 + i, mask=i < n, other=0.0)
    low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
    return smooth_part(x, origin, g, low, high, NORM)


@triton.jit
def projected(x, g, low, high):
    """Return |P(x - g) - x|, elementwise."""
    return tl.abs(clamp(x - g, low, high) - x)


@triton.jit
def active_margin(projected_gradient):
    """Return how close to a bound counts as at it; |P(x - g) - x|_inf may be NaN."""
    return tl.where(projected_gradient < ACTIVE_MARGIN, projected_gradient, ACTIVE_MARGIN)


@triton.jit
def is_free(x, g, low, high, margin):
    """Tell which values are not at a bound that -g points out of (Bertsekas 1982, equation 32)."""
    half = (high - low) * 0.5
    near = tl.where(half < margin, half, margin)
    return (((x <= low + near) & (g > 0.0)) | ((x >= high - near) & (g < 0.0))) == 0

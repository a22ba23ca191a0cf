"""The norm of r = x - x0 and the gradient of c |r| + loss, as ``csrc/cpu/penalty.hpp``."""

from __future__ import annotations

import triton
import triton.language as tl

from advkit.norms import NORMS
from advkit.ops._triton.sums import fold, zero_sum

__all__ = ["factors", "norm_terms", "penalised_gradient"]

NONE, L2SQ, L2, L1 = (tl.constexpr(NORMS[name].kernel_id) for name in ("none", "l2sq", "l2", "l1"))


@triton.jit
def norm_terms(r, g, NORM: tl.constexpr):
    """Return the two values whose sums over a row `factors` takes."""
    if NORM == L2:
        return fold(r * r), fold(g * g)
    elif NORM == L1:
        return fold(tl.abs(r)), zero_sum(r.dtype, r.shape[0])
    else:
        return fold(r * r), zero_sum(r.dtype, r.shape[0])


@triton.jit
def factors(r_sum, gg, c, NORM: tl.constexpr):
    """Return |r|, L2's factor of r or, at r = 0, of the loss gradient, and whether r is 0.

    All float64; gg is the squared length of the loss gradient.
    """
    if NORM == L2:
        value = tl.sqrt(r_sum)
        length = tl.sqrt(gg)
        kink = value == 0.0
        shrink = tl.where(length > c, 1.0 - c / tl.where(length > c, length, 1.0), 0.0)
        shrink = tl.where(length == length, shrink, length)
        return value, tl.where(kink, shrink, c / tl.where(kink, 1.0, value)), kink
    elif NORM == NONE:
        return r_sum * 0.0, r_sum * 0.0, r_sum != r_sum
    else:
        return r_sum, r_sum * 0.0, r_sum != r_sum


@triton.jit
def penalised_gradient(r, g, c, scale, kink, NORM: tl.constexpr):
    """Return the gradient of c |r| + loss, from the loss gradient g; c and scale have g's type."""
    if NORM == L2SQ:
        return g + (2.0 * c) * r
    elif NORM == L2:
        return tl.where(kink, g * scale, g + scale * r)
    elif NORM == L1:
        shrunk = tl.where(g > c, g - c, tl.where(g < -c, g + c, 0.0))
        at_kink = tl.where(g == g, shrunk, g)
        return tl.where(r > 0.0, g + c, tl.where(r < 0.0, g - c, at_kink))
    else:
        return g

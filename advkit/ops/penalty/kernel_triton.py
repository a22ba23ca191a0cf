"""`penalty` in Triton; the formulae are those of ``csrc/cpu/penalty.hpp``.

One program works on one row, which it reads again from its processor's own cache when a sum over it
has been decided on. Longer rows are cut into tiles: see ``kernel_triton_split.py``.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from advkit.norms import NORMS
from advkit.ops._check import row_stride
from advkit.ops._triton.box import (
    active_margin,
    bound_arguments,
    is_free,
    load_bounds,
    projected,
    smooth_part,
)
from advkit.ops._triton.launch import is_long, launch, shape_for
from advkit.ops._triton.norm import factors, norm_terms, penalised_gradient
from advkit.ops._triton.sums import sum2, zero_sum
from advkit.ops.penalty.kernel_triton_split import penalty_split

__all__ = ["penalty_out"]


@triton.jit
def penalty_kernel(
    x, x_row, x0, x0_row, g_loss, g_row, c, lower, lower_row, upper, upper_row,
    value, gradient, free, n,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One row of `penalty`."""
    row = tl.program_id(0).to(tl.int64)
    x += row * x_row
    x0 += row * x0_row
    g_loss += row * g_row
    lower += row * lower_row
    upper += row * upper_row
    gradient += row * n
    T: tl.constexpr = x.dtype.element_ty
    r_sum, gg = zero_sum(T, BLOCK), zero_sum(T, BLOCK)
    for k in range(tl.cdiv(n, BLOCK)):
        i = k * BLOCK + tl.arange(0, BLOCK)
        xi = tl.load(x + i, mask=i < n, other=0.0)
        x0i = tl.load(x0 + i, mask=i < n, other=0.0)
        gi = tl.load(g_loss + i, mask=i < n, other=0.0)
        a, b = norm_terms(xi - x0i, gi, NORM)
        r_sum += a
        gg += b
    weight = tl.load(c + row).to(tl.float64)
    r_sum, gg = sum2(r_sum, gg)
    length, scale, kink = factors(r_sum, gg, weight, NORM)
    tl.store(value + row, (weight * length).to(T))
    most = tl.zeros([BLOCK], T)
    for k in range(tl.cdiv(n, BLOCK)):
        i = k * BLOCK + tl.arange(0, BLOCK)
        xi, x0i = tl.load(x + i, mask=i < n, other=0.0), tl.load(x0 + i, mask=i < n, other=0.0)
        gi = tl.load(g_loss + i, mask=i < n, other=0.0)
        g = penalised_gradient(xi - x0i, gi, weight.to(T), scale.to(T), kink, NORM)
        low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
        low, high = smooth_part(xi, x0i, g, low, high, NORM)
        most = tl.maximum(most, projected(xi, g, low, high))
        tl.store(gradient + i, g, mask=i < n)
    margin = active_margin(tl.max(most, 0))
    tl.debug_barrier()  # the gradient may be read again
    for k in range(tl.cdiv(n, BLOCK)):
        i = k * BLOCK + tl.arange(0, BLOCK)
        xi, x0i = tl.load(x + i, mask=i < n, other=0.0), tl.load(x0 + i, mask=i < n, other=0.0)
        g = tl.load(gradient + i, mask=i < n, other=0.0)
        low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
        low, high = smooth_part(xi, x0i, g, low, high, NORM)
        f = is_free(xi, g, low, high, margin)
        tl.store(free + row * n + i, f, mask=i < n)


def penalty_out(
    x: Tensor,
    x0: Tensor,
    g_loss: Tensor,
    c: Tensor,
    lower: Tensor,
    upper: Tensor,
    norm: str,
    value: Tensor,
    gradient: Tensor,
    free: Tensor,
) -> None:
    """Write the value (B,), gradient (B, n) and free set (B, n) of `advkit.ops.penalty`."""
    rows, n = x.shape
    if is_long(n, x.element_size()):
        penalty_split(x, x0, g_loss, c, lower, upper, norm, value, gradient, free)
        return
    bounds, each = bound_arguments(lower, upper)
    arguments = (x, row_stride(x), x0, row_stride(x0), g_loss, row_stride(g_loss), c, *bounds)
    shape = shape_for(n, x.element_size())
    launch(
        penalty_kernel, (rows,), x.device, *arguments, value, gradient, free, n,
        NORM=NORMS[norm].kernel_id, **each, BLOCK=shape.block,
        num_warps=shape.warps,
    )  # fmt: skip

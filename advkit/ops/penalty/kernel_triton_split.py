"""`penalty` in Triton on long rows, which are cut into tiles: two launches, three for L2.

norms      for L2, whose gradient has to know them: |r|^2 and |g_loss|^2
gradient   the gradient; |r|, and the greatest |P(x - g) - x|
finish     the value, the free set
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
from advkit.ops._triton.launch import cut_for, launch, workspace
from advkit.ops._triton.norm import factors, norm_terms, penalised_gradient
from advkit.ops._triton.sums import sum1, sum2
from advkit.ops._triton.tiles import greatest, most_of, tile_values, total

__all__ = ["penalty_split"]

L2 = tl.constexpr(NORMS["l2"].kernel_id)
PARTS = tl.constexpr(3)  # of each tile: two of `norm_terms`, and the greatest |P(x - g) - x|


@triton.jit
def penalty_norms_kernel(
    x, x_row, x0, x0_row, g_loss, g_row, parts, n, NORM: tl.constexpr, BLOCK: tl.constexpr
):
    """One tile's sums for the gradient of L2."""
    row, tile, tiles = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    i = tile_values(BLOCK)
    xi = tl.load(x + row * x_row + i, mask=i < n, other=0.0)
    x0i = tl.load(x0 + row * x0_row + i, mask=i < n, other=0.0)
    g = tl.load(g_loss + row * g_row + i, mask=i < n, other=0.0)
    a, b = norm_terms(xi - x0i, g, NORM)
    r_sum, gg = sum2(a, b)
    parts += row * PARTS * tiles + tile
    tl.store(parts, r_sum)
    tl.store(parts + tiles, gg)


@triton.jit
def penalty_gradient_kernel(
    x, x_row, x0, x0_row, g_loss, g_row, c, lower, lower_row, upper, upper_row, gradient, parts, n,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of the gradient."""
    row, tile, tiles = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    T: tl.constexpr = x.dtype.element_ty
    i = tile_values(BLOCK)
    parts += row * PARTS * tiles
    weight = tl.load(c + row).to(tl.float64)
    xi = tl.load(x + row * x_row + i, mask=i < n, other=0.0)
    x0i = tl.load(x0 + row * x0_row + i, mask=i < n, other=0.0)
    g = tl.load(g_loss + row * g_row + i, mask=i < n, other=0.0)
    if NORM == L2:
        r_sum, gg = total(parts, tiles), total(parts + tiles, tiles)
    else:
        a, _ = norm_terms(xi - x0i, g, NORM)
        r_sum, gg = sum1(a), 0.0
        tl.store(parts + tile, r_sum)
    _, scale, kink = factors(r_sum, gg, weight, NORM)
    g = penalised_gradient(xi - x0i, g, weight.to(T), scale.to(T), kink, NORM)
    low, high = load_bounds(
        lower + row * lower_row, upper + row * upper_row, i, i < n, LOWER_EACH, UPPER_EACH
    )
    low, high = smooth_part(xi, x0i, g, low, high, NORM)
    tl.store(parts + 2 * tiles + tile, most_of(projected(xi, g, low, high)))
    tl.store(gradient + row * n + i, g, mask=i < n)


@triton.jit
def penalty_finish_kernel(
    x, x_row, x0, x0_row, c, lower, lower_row, upper, upper_row, value, gradient, free, parts, n,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of the free set, and by the first of them the value."""
    row, tile, tiles = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    T: tl.constexpr = x.dtype.element_ty
    i = tile_values(BLOCK)
    parts += row * PARTS * tiles
    if tile == 0:
        weight = tl.load(c + row).to(tl.float64)
        length, _, _ = factors(total(parts, tiles), 0.0, weight, NORM)
        tl.store(value + row, (weight * length).to(T))
    margin = active_margin(greatest(parts + 2 * tiles, tiles)).to(T)
    xi = tl.load(x + row * x_row + i, mask=i < n, other=0.0)
    x0i = tl.load(x0 + row * x0_row + i, mask=i < n, other=0.0)
    g = tl.load(gradient + row * n + i, mask=i < n, other=0.0)
    low, high = load_bounds(
        lower + row * lower_row, upper + row * upper_row, i, i < n, LOWER_EACH, UPPER_EACH
    )
    low, high = smooth_part(xi, x0i, g, low, high, NORM)
    tl.store(free + row * n + i, is_free(xi, g, low, high, margin), mask=i < n)


def penalty_split(
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
    cut = cut_for(n, x.element_size())
    grid = rows, cut.tiles
    parts = workspace(x, rows, PARTS.value, cut.tiles)
    bounds, each = bound_arguments(lower, upper)
    points = x, row_stride(x), x0, row_stride(x0)
    losses = g_loss, row_stride(g_loss)
    shape = {"NORM": NORMS[norm].kernel_id, "BLOCK": cut.block, "num_warps": cut.warps}
    if norm == "l2":
        launch(penalty_norms_kernel, grid, x.device, *points, *losses, parts, n, **shape)
    launch(
        penalty_gradient_kernel, grid, x.device, *points, *losses, c, *bounds, gradient, parts, n,
        **each, **shape,
    )  # fmt: skip
    launch(
        penalty_finish_kernel, grid, x.device, *points, c, *bounds, value, gradient, free, parts, n,
        **each, **shape,
    )  # fmt: skip

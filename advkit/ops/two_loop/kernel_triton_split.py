"""`two_loop` in Triton on long rows, which are cut into tiles: three launches.

Steps by dot products would cost a launch each, so every dot product that the recursion can ask for
is computed first, on F; the recursion then runs on numbers (Chen, Wang & Zhou 2014, section 3.2),
and one more sweep combines the vectors, as in ``csrc/cuda/gram.cuh``:

    gram      the tile's part of the Gram matrix of g and the pairs
    solve     its sum over the tiles; the recursion; the factors of each pair's y and s
    combine   (g - sum a_k y_k) gamma + sum b_k s_k

Pairs go by their age, 0 the newest. Of the matrix are needed s_k'g, y_k'g and s_k's_k, y_k's_j for
k <= j, and y_k'y_j, which lie in this order: (M,), (M,), (M,), (M, M), (M, M).
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from advkit.ops._check import row_stride
from advkit.ops._triton.launch import ROW_WARPS, cut_for, launch, workspace
from advkit.ops._triton.pairs import curved, load_pair, place_of, ring
from advkit.ops._triton.sums import fold, sum1, sum2, sum4
from advkit.ops._triton.tiles import tile_values

__all__ = ["combination", "gram_entries", "gram_of_tile", "solution", "two_loop_split"]

TILES, ENTRIES = tl.constexpr(32), tl.constexpr(64)  # of which `solution` loads sums together


def gram_entries(m: int) -> int:
    """Return how many numbers are kept of the Gram matrix of m pairs."""
    return 3 * m + 2 * m * m


@triton.jit
def gram_of_tile(
    out, q, free, s, y, S, Y, S_pair, Y_pair, head, count, i, n, M: tl.constexpr
):  # fmt: skip
    """Write what values i add to the Gram matrix.

    q, s and y are g and the newest pair on the free set, and 0 elsewhere.
    """
    T: tl.constexpr = q.dtype
    ys_out, yy_out = out + 3 * M, out + 3 * M + M * M
    for k in range(count):
        sq, yq, ss, ys = sum4(fold(s * q), fold(y * q), fold(s * s), fold(y * s))
        tl.store(out + k, sq)
        tl.store(out + M + k, yq)
        tl.store(out + 2 * M + k, ss)
        tl.store(ys_out + k * M + k, ys)
        tl.store(yy_out + k * M + k, sum1(fold(y * y)))
        for j in range(k + 1, count):
            place = place_of(head, j, M)
            older_s, older_y = load_pair(S, Y, S_pair, Y_pair, place, free, i, n, T)
            ys, yy = sum2(fold(y * older_s), fold(y * older_y))
            tl.store(ys_out + k * M + j, ys)
            tl.store(yy_out + k * M + j, yy)
            tl.store(yy_out + j * M + k, yy)
        place, end = place_of(head, k + 1, M), tl.where(k + 1 < count, n, 0)
        s, y = load_pair(S, Y, S_pair, Y_pair, place, free, i, end, T)


@triton.jit
def pick(values, places, k):
    """Return the value at place k."""
    return tl.sum(tl.where(places == k, values, 0.0), 0)


@triton.jit
def solution(
    parts, gram, factors, count, tiles, T: tl.constexpr, M: tl.constexpr, PLACES: tl.constexpr
):  # fmt: skip
    """Write gamma, the a_k and the b_k; return whether any pair was used, else gamma is 0.

    Step by step as `recursion` in ``kernel_triton.py``, where s'q and y'q follow q's changes by
    factors in T. PLACES is a power of two of at least M.
    """
    size: tl.constexpr = 3 * M + 2 * M * M
    for first in range(0, size, ENTRIES):
        e = first + tl.arange(0, ENTRIES)
        sums = tl.zeros([TILES, ENTRIES], tl.float64)
        for tile in range(0, tiles, TILES):
            t = (tile + tl.arange(0, TILES)).to(tl.int64)
            inside = (t < tiles)[:, None] & (e < size)[None, :]
            sums += tl.load(parts + t[:, None] * size + e[None, :], mask=inside, other=0.0)
        tl.store(gram + e, tl.sum(sums, 0), mask=e < size)
    tl.debug_barrier()  # the matrix is read as it was written above

    ages = tl.arange(0, PLACES)
    ys_at, yy_at = gram + 3 * M, gram + 3 * M + M * M
    sq = tl.load(gram + ages, mask=ages < count, other=0.0)
    yq = tl.load(gram + M + ages, mask=ages < count, other=0.0)
    gamma = tl.full([], 0.0, tl.float64)
    alphas = tl.zeros([PLACES], tl.float64)
    curvatures, down, up = alphas, alphas, alphas  # s'y, or 0: the pair is not used; a_k; b_k
    for k in range(count):
        sy, yy = tl.load(ys_at + k * M + k), tl.load(yy_at + k * M + k)
        used = curved(sy, tl.load(gram + 2 * M + k), yy)
        alpha = pick(sq, ages, k) / tl.where(used, sy, 1.0)
        a = tl.where(used, alpha, 0.0).to(T).to(tl.float64)
        gamma = tl.where(used & (gamma == 0.0), sy / yy, gamma)
        ys_row = tl.load(ys_at + k * M + ages, mask=(ages > k) & (ages < count), other=0.0)
        yy_row = tl.load(yy_at + k * M + ages, mask=ages < count, other=0.0)
        sq = tl.where(used, sq - a * ys_row, sq)
        yq = tl.where(used, yq - a * yy_row, yq)
        alphas = tl.where(ages == k, alpha, alphas)
        curvatures = tl.where(ages == k, tl.where(used, sy, 0.0), curvatures)
        down = tl.where(ages == k, a, down)
    yq *= gamma.to(T).to(tl.float64)
    for turn in range(count):
        k = count - 1 - turn
        sy = pick(curvatures, ages, k)
        used = sy != 0.0
        beta = pick(alphas, ages, k) - pick(yq, ages, k) / tl.where(used, sy, 1.0)
        b = tl.where(used, beta, 0.0).to(T).to(tl.float64)
        ys_column = tl.load(ys_at + ages * M + k, mask=ages < k, other=0.0)
        yq = tl.where(used, yq + b * ys_column, yq)
        up = tl.where(ages == k, b, up)
    tl.store(factors, gamma)
    tl.store(factors + 1 + ages, down, mask=ages < M)
    tl.store(factors + 1 + M + ages, up, mask=ages < M)
    return gamma != 0.0


@triton.jit
def combination(g, factors, S, Y, S_pair, Y_pair, head, count, i, n, M: tl.constexpr):
    """Return H g at values i, all of them free; of a pair that was not used nothing is read."""
    T: tl.constexpr = g.dtype
    q = g
    for k in range(count):
        a = tl.load(factors + 1 + k)
        y = Y + place_of(head, k, M) * Y_pair
        q -= a.to(T) * tl.load(y + i, mask=i < tl.where(a != 0.0, n, 0), other=0.0).to(T)
    q *= tl.load(factors).to(T)
    for turn in range(count):
        k = count - 1 - turn
        b = tl.load(factors + 1 + M + k)
        s = S + place_of(head, k, M) * S_pair
        q += b.to(T) * tl.load(s + i, mask=i < tl.where(b != 0.0, n, 0), other=0.0).to(T)
    return q


@triton.jit
def two_loop_gram_kernel(
    g, g_row, S, S_row, S_pair, Y, Y_row, Y_pair, head, count, free, free_row, parts, n,
    M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile's part of the Gram matrix."""
    row, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    first, filled = ring(tl.load(head + row), tl.load(count + row), M)
    i = tile_values(BLOCK)
    f = tl.load(free + row * free_row + i, mask=i < n, other=0).to(tl.int1)
    q = tl.where(f, tl.load(g + row * g_row + i, mask=i < n, other=0.0), 0.0)
    S += row * S_row
    Y += row * Y_row
    end = tl.where(filled > 0, n, 0)
    s, y = load_pair(S, Y, S_pair, Y_pair, place_of(first, 0, M), f, i, end, q.dtype)
    out = parts + (row * tl.num_programs(1) + tile) * (3 * M + 2 * M * M)
    gram_of_tile(out, q, f, s, y, S, Y, S_pair, Y_pair, first, filled, i, n, M)


@triton.jit
def two_loop_solve_kernel(
    g, head, count, parts, gram, factors, tiles, M: tl.constexpr, PLACES: tl.constexpr
):  # fmt: skip
    """One row's factors; of g only the type is asked."""
    row = tl.program_id(0).to(tl.int64)
    size: tl.constexpr = 3 * M + 2 * M * M
    _, filled = ring(tl.load(head + row), tl.load(count + row), M)
    solution(
        parts + row * tiles * size, gram + row * size, factors + row * (2 * M + 1), filled, tiles,
        g.dtype.element_ty, M, PLACES,
    )  # fmt: skip


@triton.jit
def two_loop_combine_kernel(
    g, g_row, S, S_row, S_pair, Y, Y_row, Y_pair, head, count, free, free_row, factors, direction,
    n, M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of the direction."""
    row = tl.program_id(0).to(tl.int64)
    first, filled = ring(tl.load(head + row), tl.load(count + row), M)
    factors += row * (2 * M + 1)
    i = tile_values(BLOCK)
    f = tl.load(free + row * free_row + i, mask=i < n, other=0).to(tl.int1)
    d = tl.load(g + row * g_row + i, mask=i < n, other=0.0)
    if tl.load(factors) != 0.0:
        q = combination(
            d, factors, S + row * S_row, Y + row * Y_row, S_pair, Y_pair, first, filled, i, n, M
        )
        d = tl.where(f, q, d)
    tl.store(direction + row * n + i, -d, mask=i < n)


def two_loop_split(
    g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor, direction: Tensor
) -> None:
    """Write the direction (B, n) of `advkit.ops.two_loop`."""
    rows, n = g.shape
    m = S.shape[1]
    cut = cut_for(n, g.element_size())
    parts = workspace(g, rows, cut.tiles, gram_entries(m))
    gram = workspace(g, rows, gram_entries(m))
    factors = workspace(g, rows, 2 * m + 1)
    pairs = S, row_stride(S), S.stride(1), Y, row_stride(Y), Y.stride(1), head, count
    values = g, row_stride(g), *pairs, free, row_stride(free)
    shape = {"M": m, "BLOCK": cut.block, "num_warps": cut.warps}
    launch(two_loop_gram_kernel, (rows, cut.tiles), g.device, *values, parts, n, **shape)
    launch(
        two_loop_solve_kernel, (rows,), g.device, g, head, count, parts, gram, factors, cut.tiles,
        M=m, PLACES=triton.next_power_of_2(m), num_warps=ROW_WARPS,
    )  # fmt: skip
    launch(
        two_loop_combine_kernel,
        (rows, cut.tiles),
        g.device,
        *values,
        factors,
        direction,
        n,
        **shape,
    )

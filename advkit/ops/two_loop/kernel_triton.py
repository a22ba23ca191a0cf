"""`two_loop` in Triton; the recursion is that of ``csrc/cpu/two_loop.hpp``.

One program works on one row. q and the free set stay in registers; where the pairs fit there, too,
they are read from memory once, else twice, the second time mostly from the cache. Longer rows are
cut into tiles: see ``kernel_triton_split.py``.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from advkit.ops._check import row_stride
from advkit.ops._triton.launch import is_long, launch, shape_for
from advkit.ops._triton.pairs import curved, load_pair, place_of, ring
from advkit.ops._triton.sums import fold, sum1, sum4, zero_sum
from advkit.ops.two_loop.kernel_triton_split import two_loop_split

__all__ = ["is_set", "recursion", "two_loop_out"]


@triton.jit
def is_set(bits, k):
    """Tell which values of chunk k are in a set."""
    return ((bits >> k) & 1) != 0


@triton.jit
def load_chunks(
    S, Y, S_pair, Y_pair, head, age, present, bits, n,
    T: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Load s and y of an age (0: the newest), 0 where not free or not present; tuples of chunks."""
    place = place_of(head, age, M)
    end = tl.where(present, n, 0)
    s_rows = ()
    y_rows = ()
    for k in tl.static_range(CHUNKS):
        i = k * BLOCK + tl.arange(0, BLOCK)
        s, y = load_pair(S, Y, S_pair, Y_pair, place, is_set(bits, k), i, end, T)
        s_rows = s_rows + (s,)
        y_rows = y_rows + (y,)
    return s_rows, y_rows


@triton.jit
def down(q, s_rows, y_rows, present, BLOCK: tl.constexpr, CHUNKS: tl.constexpr):
    """First loop, one pair: return q - alpha y, alpha, s'y (0: the pair is not used) and y'y."""
    T: tl.constexpr = q[0].dtype
    sq = zero_sum(T, BLOCK)
    sy, ss, yy = sq, sq, sq
    for k in tl.static_range(CHUNKS):
        s, y = s_rows[k], y_rows[k]
        sq += fold(s * q[k])
        sy += fold(s * y)
        ss += fold(s * s)
        yy += fold(y * y)
    sq, sy, ss, yy = sum4(sq, sy, ss, yy)
    used = present & curved(sy, ss, yy)
    alpha = sq / tl.where(used, sy, 1.0)
    return add(q, y_rows, -alpha, used, CHUNKS), alpha, tl.where(used, sy, 0.0), yy


@triton.jit
def up(q, s_rows, y_rows, alpha, sy, BLOCK: tl.constexpr, CHUNKS: tl.constexpr):
    """Second loop, one pair: return q + (alpha - y'q / s'y) s."""
    yq = zero_sum(q[0].dtype, BLOCK)
    for k in tl.static_range(CHUNKS):
        yq += fold(y_rows[k] * q[k])
    used = sy != 0.0
    return add(q, s_rows, alpha - sum1(yq) / tl.where(used, sy, 1.0), used, CHUNKS)


@triton.jit
def add(q, rows, factor, used, CHUNKS: tl.constexpr):
    """Return q + factor rows, or q where the pair is not used, whatever it holds."""
    new_q = ()
    for k in tl.static_range(CHUNKS):
        new_q = new_q + (tl.where(used, q[k] + factor.to(q[0].dtype) * rows[k], q[k]),)
    return new_q


@triton.jit
def scaled(q, factor, CHUNKS: tl.constexpr):
    """Multiply the chunks of q."""
    new_q = ()
    for k in tl.static_range(CHUNKS):
        new_q = new_q + (q[k] * factor.to(q[0].dtype),)
    return new_q


@triton.jit
def recursion(
    q, bits, S, Y, S_pair, Y_pair, head, count, n, M: tl.constexpr, PLACES: tl.constexpr,
    HOLD: tl.constexpr, BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Return H q, and whether any pair was used; q is 0 outside of the free set.

    q is a tuple of CHUNKS blocks, bit k of `bits` the free set of chunk k; S and Y point at the
    row's first pair; PLACES is a power of two of at least M. HOLD loads all pairs at once and keeps
    them in registers for both loops.
    """
    T: tl.constexpr = q[0].dtype
    gamma = tl.full([], 0.0, tl.float64)
    if HOLD:
        held = ()
        for age in tl.static_range(M):
            rows = load_chunks(
                S, Y, S_pair, Y_pair, head, age, age < count, bits, n, T, M, BLOCK, CHUNKS
            )
            held = held + (rows,)
        factors = ()
        for age in tl.static_range(M):
            q, alpha, sy, yy = down(q, held[age][0], held[age][1], age < count, BLOCK, CHUNKS)
            gamma = tl.where((sy != 0.0) & (gamma == 0.0), sy / yy, gamma)
            factors = factors + ((alpha, sy),)
        q = scaled(q, gamma, CHUNKS)
        for age in tl.static_range(M - 1, -1, -1):
            q = up(q, held[age][0], held[age][1], factors[age][0], factors[age][1], BLOCK, CHUNKS)
    else:
        ages = tl.arange(0, PLACES)
        alphas = tl.zeros([PLACES], tl.float64)
        curvatures = tl.zeros([PLACES], tl.float64)
        for age in range(count):
            s_rows, y_rows = load_chunks(
                S, Y, S_pair, Y_pair, head, age, age < count, bits, n, T, M, BLOCK, CHUNKS
            )
            q, alpha, sy, yy = down(q, s_rows, y_rows, age < count, BLOCK, CHUNKS)
            gamma = tl.where((sy != 0.0) & (gamma == 0.0), sy / yy, gamma)
            alphas = tl.where(ages == age, alpha, alphas)
            curvatures = tl.where(ages == age, sy, curvatures)
        q = scaled(q, gamma, CHUNKS)
        for turn in range(count):
            age = count - 1 - turn
            alpha = tl.sum(tl.where(ages == age, alphas, 0.0), 0)
            sy = tl.sum(tl.where(ages == age, curvatures, 0.0), 0)
            s_rows, y_rows = load_chunks(
                S, Y, S_pair, Y_pair, head, age, sy != 0.0, bits, n, T, M, BLOCK, CHUNKS
            )
            q = up(q, s_rows, y_rows, alpha, sy, BLOCK, CHUNKS)
    return q, gamma != 0.0


@triton.jit
def two_loop_kernel(
    g, g_row, S, S_row, S_pair, Y, Y_row, Y_pair, head, count, free, free_row, direction, n,
    M: tl.constexpr, PLACES: tl.constexpr, HOLD: tl.constexpr, BLOCK: tl.constexpr,
    CHUNKS: tl.constexpr,
):  # fmt: skip
    """One row of `two_loop`. A row whose head or count is not one of a ring's counts as empty."""
    row = tl.program_id(0).to(tl.int64)
    first, filled = ring(tl.load(head + row), tl.load(count + row), M)
    q = ()
    bits = tl.zeros([BLOCK], tl.int32)
    for k in tl.static_range(CHUNKS):
        i = k * BLOCK + tl.arange(0, BLOCK)
        f = tl.load(free + row * free_row + i, mask=i < n, other=0).to(tl.int1)
        bits |= f.to(tl.int32) << k
        q = q + (tl.where(f, tl.load(g + row * g_row + i, mask=i < n, other=0.0), 0.0),)
    q, used = recursion(
        q, bits, S + row * S_row, Y + row * Y_row, S_pair, Y_pair, first, filled, n,
        M, PLACES, HOLD, BLOCK, CHUNKS,
    )  # fmt: skip
    for k in tl.static_range(CHUNKS):
        i = k * BLOCK + tl.arange(0, BLOCK)
        d = tl.load(g + row * g_row + i, mask=i < n, other=0.0)
        d = tl.where(used, tl.where(is_set(bits, k), q[k], d), d)
        tl.store(direction + row * n + i, -d, mask=i < n)


def two_loop_out(
    g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor, direction: Tensor
) -> None:
    """Write the direction (B, n) of `advkit.ops.two_loop`."""
    rows, n = g.shape
    m = S.shape[1]
    if is_long(n, g.element_size()):
        two_loop_split(g, S, Y, head, count, free, direction)
        return
    shape = shape_for(n, g.element_size())
    if shape.chunks > 3:  # at four ptxas spills
        shape = shape.wider()
    launch(
        two_loop_kernel, (rows,), g.device,
        *(g, row_stride(g), S, row_stride(S), S.stride(1), Y, row_stride(Y), Y.stride(1)),
        *(head, count, free, row_stride(free), direction, n),
        M=m, PLACES=triton.next_power_of_2(m), HOLD=shape.holds(m),
        BLOCK=shape.block, CHUNKS=shape.chunks, num_warps=shape.warps,
    )  # fmt: skip

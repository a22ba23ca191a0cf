"""`two_loop` in Triton; the recursion is that of ``csrc/cpu/two_loop.hpp``.

One program works on one row. q and the free set stay in registers; where the pairs fit there, too,
they are read from memory once, else twice, the second time mostly from the cache. Rows of which
registers cannot hold q are cut into tiles: see ``kernel_triton_split.py``.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from advkit.ops._check import row_stride
from advkit.ops._triton.chunks import is_set, load_chunk
from advkit.ops._triton.launch import is_long, launch, shape_for
from advkit.ops._triton.pairs import curved, place_of, ring
from advkit.ops._triton.sums import fold, sum1, sum4, zero_sum
from advkit.ops.two_loop.kernel_triton_split import two_loop_split

__all__ = ["recursion", "two_loop_out"]


@triton.jit
def down(q, s_row, y_row, held, bits, n, HOLD: tl.constexpr, AT_ONCE: tl.constexpr):
    """First loop, one pair: return q - alpha y, alpha, s'y (0: the pair is not used) and y'y.

    The pair is `held`, or else read from s_row and y_row; y is read again for the second term.
    """
    T: tl.constexpr = q[0].dtype
    BLOCK: tl.constexpr = q[0].shape[0]
    sq = zero_sum(T, BLOCK)
    sy, ss, yy = sq, sq, sq
    for first in tl.static_range(0, len(q), AT_ONCE):
        if first * BLOCK < n:
            for k in tl.static_range(first, first + AT_ONCE):
                if k < len(q):
                    if HOLD:
                        s, y = held
                    else:
                        s = load_chunk(s_row, bits, k, n, T, BLOCK)
                        y = load_chunk(y_row, bits, k, n, T, BLOCK)
                    sq += fold(s * q[k])
                    sy += fold(s * y)
                    ss += fold(s * s)
                    yy += fold(y * y)
    sq, sy, ss, yy = sum4(sq, sy, ss, yy)
    used = curved(sy, ss, yy)
    alpha = sq / tl.where(used, sy, 1.0)
    q = add(q, y_row, held[1], bits, -alpha, used, n, HOLD, AT_ONCE)
    return q, alpha, tl.where(used, sy, 0.0), yy


@triton.jit
def up(q, s_row, y_row, held, bits, alpha, sy, n, HOLD: tl.constexpr, AT_ONCE: tl.constexpr):
    """Second loop, one pair: return q + (alpha - y'q / s'y) s."""
    T: tl.constexpr = q[0].dtype
    BLOCK: tl.constexpr = q[0].shape[0]
    used = sy != 0.0
    end = tl.where(used, n, 0)
    bits = tl.where(used, bits, 0)  # or the compiler keeps a predicate for each value of the row
    yq = zero_sum(T, BLOCK)
    for first in tl.static_range(0, len(q), AT_ONCE):
        if first * BLOCK < end:
            for k in tl.static_range(first, first + AT_ONCE):
                if k < len(q):
                    y = held[1] if HOLD else load_chunk(y_row, bits, k, end, T, BLOCK)
                    yq += fold(y * q[k])
    factor = alpha - sum1(yq) / tl.where(used, sy, 1.0)
    return add(q, s_row, held[0], bits, factor, used, end, HOLD, AT_ONCE)


@triton.jit
def add(q, row, held, bits, factor, used, n, HOLD: tl.constexpr, AT_ONCE: tl.constexpr):
    """Return q + factor times a vector of a pair, or q where it is not used, whatever it holds."""
    BLOCK: tl.constexpr = q[0].shape[0]
    new_q = ()
    for first in tl.static_range(0, len(q), AT_ONCE):
        some = ()
        for k in tl.static_range(first, first + AT_ONCE):
            if k < len(q):
                some = some + (q[k],)
        if used & (first * BLOCK < n):
            some = added(some, first, row, held, bits, factor, n, HOLD)
        new_q = new_q + some
    return new_q


@triton.jit
def added(some, first, row, held, bits, factor, n, HOLD: tl.constexpr):
    """Return chunks of q, from the first of them on, plus factor times a vector of a pair."""
    T: tl.constexpr = some[0].dtype
    BLOCK: tl.constexpr = some[0].shape[0]
    new = ()
    for k in tl.static_range(len(some)):
        v = held if HOLD else load_chunk(row, bits, first + k, n, T, BLOCK)
        new = new + (some[k] + factor.to(T) * v,)
    return new


@triton.jit
def scaled(q, factor):
    """Multiply the chunks of q."""
    new_q = ()
    for k in tl.static_range(len(q)):
        new_q = new_q + (q[k] * factor.to(q[0].dtype),)
    return new_q


@triton.jit
def recursion(
    q, bits, S, Y, S_pair, Y_pair, head, count, n,
    M: tl.constexpr, PLACES: tl.constexpr, HOLD: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Return H q, and whether any pair was used; q is 0 outside of the free set.

    q is a tuple of blocks, bit k of `bits` the free set of block k; S and Y point at the row's
    first pair; PLACES is a power of two of at least M. HOLD, for one block, loads all pairs at once
    and keeps them in registers for both loops. Else AT_ONCE blocks of a vector are read in one
    branch, beyond whose end the compiler does not read ahead.
    """
    T: tl.constexpr = q[0].dtype
    BLOCK: tl.constexpr = q[0].shape[0]
    gamma = tl.full([], 0.0, tl.float64)
    if HOLD:
        held = ()
        for age in tl.static_range(M):
            place = place_of(head, age, M)
            end = tl.where(age < count, n, 0)
            s = load_chunk(S + place * S_pair, bits, 0, end, T, BLOCK)
            y = load_chunk(Y + place * Y_pair, bits, 0, end, T, BLOCK)
            held = held + ((s, y),)
        factors = ()
        for age in tl.static_range(M):
            q, alpha, sy, yy = down(q, S, Y, held[age], bits, n, True, AT_ONCE)
            gamma = tl.where((sy != 0.0) & (gamma == 0.0), sy / yy, gamma)
            factors = factors + ((alpha, sy),)
        q = scaled(q, gamma)
        for age in tl.static_range(M - 1, -1, -1):
            alpha, sy = factors[age]
            q = up(q, S, Y, held[age], bits, alpha, sy, n, True, AT_ONCE)
    else:
        nothing = (0.0, 0.0)
        ages = tl.arange(0, PLACES)
        alphas = tl.zeros([PLACES], tl.float64)
        curvatures = tl.zeros([PLACES], tl.float64)
        for age in range(count):
            place = place_of(head, age, M)
            s_row, y_row = S + place * S_pair, Y + place * Y_pair
            q, alpha, sy, yy = down(q, s_row, y_row, nothing, bits, n, False, AT_ONCE)
            gamma = tl.where((sy != 0.0) & (gamma == 0.0), sy / yy, gamma)
            alphas = tl.where(ages == age, alpha, alphas)
            curvatures = tl.where(ages == age, sy, curvatures)
        q = scaled(q, gamma)
        for turn in range(count):
            age = count - 1 - turn
            alpha = tl.sum(tl.where(ages == age, alphas, 0.0), 0)
            sy = tl.sum(tl.where(ages == age, curvatures, 0.0), 0)
            place = place_of(head, age, M)
            s_row, y_row = S + place * S_pair, Y + place * Y_pair
            q = up(q, s_row, y_row, nothing, bits, alpha, sy, n, False, AT_ONCE)
    return q, gamma != 0.0


@triton.jit
def two_loop_kernel(
    g, g_row, S, S_row, S_pair, Y, Y_row, Y_pair, head, count, free, free_row, direction, n,
    M: tl.constexpr, PLACES: tl.constexpr, HOLD: tl.constexpr, BLOCK: tl.constexpr,
    CHUNKS: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """One row of `two_loop`. A row whose head or count is not one of a ring's counts as empty."""
    row = tl.program_id(0).to(tl.int64)
    first, filled = ring(tl.load(head + row), tl.load(count + row), M)
    q = ()
    bits = tl.zeros([BLOCK], tl.int32)
    i = tl.arange(0, BLOCK)
    for k in tl.static_range(CHUNKS):
        inside = i < n - k * BLOCK
        f = tl.load(free + row * free_row + k * BLOCK + i, mask=inside, other=0).to(tl.int1)
        bits |= f.to(tl.int32) << k
        value = tl.load(g + row * g_row + k * BLOCK + i, mask=inside, other=0.0)
        q = q + (tl.where(f, value, 0.0),)
    q, used = recursion(
        q, bits, S + row * S_row, Y + row * Y_row, S_pair, Y_pair, first, filled, n,
        M, PLACES, HOLD, AT_ONCE,
    )  # fmt: skip
    for k in tl.static_range(CHUNKS):
        inside = i < n - k * BLOCK
        d = tl.load(g + row * g_row + k * BLOCK + i, mask=inside, other=0.0)
        d = tl.where(used, tl.where(is_set(bits, k), q[k], d), d)
        tl.store(direction + row * n + k * BLOCK + i, -d, mask=inside)


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
    launch(
        two_loop_kernel, (rows,), g.device,
        *(g, row_stride(g), S, row_stride(S), S.stride(1), Y, row_stride(Y), Y.stride(1)),
        *(head, count, free, row_stride(free), direction, n),
        M=m, PLACES=triton.next_power_of_2(m), HOLD=shape.holds(m),
        BLOCK=shape.block, CHUNKS=shape.chunks, AT_ONCE=shape.at_once(), num_warps=shape.warps,
    )  # fmt: skip

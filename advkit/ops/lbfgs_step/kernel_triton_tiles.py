"""The launches of `lbfgs_step` on a tile of a long row; see ``kernel_triton_split.py``."""

from __future__ import annotations

import triton
import triton.language as tl

from advkit.norms import NORMS
from advkit.ops._triton.box import (
    active_margin,
    clamp,
    is_free,
    load_bounds,
    load_part,
    on_segment,
    projected,
    smooth_part,
)
from advkit.ops._triton.norm import factors, norm_terms, penalised_gradient
from advkit.ops._triton.pairs import load_pair, place_of, stored
from advkit.ops._triton.sums import fold, sum1, sum2, sum4
from advkit.ops._triton.tiles import most_of, tile_values, total
from advkit.ops.lbfgs_step.columns_triton import (
    AIMS,
    BEST,
    BEST_G,
    COUNT,
    COUNTERS,
    CUT,
    DIRECTION,
    EXPANDS,
    FAR,
    FLAGS,
    FROM_BEST,
    FURTHER,
    G_FREE,
    GG,
    GS,
    GS_TRIAL,
    HEAD,
    KEEPS,
    MOST,
    MOVES,
    MU,
    NUMBERS,
    PAIR_SCALE,
    PARTS,
    PHASE,
    PLACE,
    PROJECTED_GRADIENT,
    QUASI,
    R_SUM,
    REWEIGHS,
    RHO,
    SCALARS,
    SCALE,
    SHRINKS,
    SLOPE,
    SS,
    START,
    STEP,
    SY,
    TRIAL_G,
    VECTORS,
    WEIGHT,
    WIDEST,
    YY,
    C,
    G,
    X,
)
from advkit.ops.lbfgs_step.decision_triton import running_slot, weight_of
from advkit.ops.two_loop.kernel_triton_split import combination, gram_of_tile

__all__ = [
    "step_aim_kernel",
    "step_evaluate_kernel",
    "step_extend_kernel",
    "step_move_kernel",
    "step_norms_kernel",
]

NONE, L2 = tl.constexpr(NORMS["none"].kernel_id), tl.constexpr(NORMS["l2"].kernel_id)


@triton.jit
def step_norms_kernel(
    slots, slot_count, g_loss, g_row, trial, counters, x0, parts, n,
    NORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile's sums for the gradient of L2."""
    row, tile, tiles = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    slot, runs = running_slot(slots, row, slot_count, counters)
    if runs:
        i = tile_values(BLOCK)
        xt = tl.load(trial + slot * n + i, mask=i < n, other=0.0)
        origin = tl.load(x0 + slot * n + i, mask=i < n, other=0.0)
        gl = tl.load(g_loss + row * g_row + i, mask=i < n, other=0.0)
        a, b = norm_terms(xt - origin, gl, NORM)
        r_sum, gg = sum2(a, b)
        parts += row * PARTS * tiles + tile
        tl.store(parts + R_SUM * tiles, r_sum)
        tl.store(parts + GG * tiles, gg)


@triton.jit
def step_evaluate_kernel(
    slots, slot_count, loss_at, g_loss, g_row, trial, vectors, ld, scalars, counters, x0,
    lower, lower_row, upper, upper_row, parts, n,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of the gradient at the trial."""
    row, tile, tiles = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    T: tl.constexpr = trial.dtype.element_ty
    slot, runs = running_slot(slots, row, slot_count, counters)
    if runs:
        i = tile_values(BLOCK)
        parts += row * PARTS * tiles
        vectors += slot * VECTORS * ld
        sc = scalars + slot * SCALARS
        loss, c = tl.load(loss_at + row).to(tl.float64), tl.load(sc + C)
        weight = weight_of(loss, tl.load(sc + MU), tl.load(sc + RHO))
        start = tl.load(counters + slot * COUNTERS + PHASE) == START
        xt = tl.load(trial + slot * n + i, mask=i < n, other=0.0)
        gl = tl.load(g_loss + row * g_row + i, mask=i < n, other=0.0)
        origin = xt
        if NORM != NONE:
            origin = tl.load(x0 + slot * n + i, mask=i < n, other=0.0)
        if NORM == L2:
            r_sum, gg = total(parts + R_SUM * tiles, tiles), total(parts + GG * tiles, tiles)
        else:
            a, _ = norm_terms(xt - origin, gl, NORM)
            r_sum = sum1(a)
            gg = r_sum * 0.0
            tl.store(parts + R_SUM * tiles + tile, r_sum)
        _, scale, kink = factors(r_sum, gg * weight * weight, c, NORM)
        gt = penalised_gradient(xt - origin, weight.to(T) * gl, c.to(T), scale.to(T), kink, NORM)
        tl.store(vectors + TRIAL_G * ld + i, gt, mask=i < n)
        low, high = load_bounds(
            lower + slot * lower_row, upper + slot * upper_row, i, i < n, LOWER_EACH, UPPER_EACH
        )
        low, high = smooth_part(xt, origin, gt, low, high, NORM)
        known_before = tl.where(start, 0, n)
        x = tl.load(vectors + X * ld + i, mask=i < known_before, other=0.0)
        g = tl.load(vectors + G * ld + i, mask=i < known_before, other=0.0)
        s = tl.where(start, 0.0, xt - x)
        y = gt - g
        gs_trial, gs, sy, ss = sum4(fold(gt * s), fold(g * s), fold(y * s), fold(s * s))
        parts += tile
        tl.store(parts + GS_TRIAL * tiles, gs_trial)
        tl.store(parts + GS * tiles, gs)
        tl.store(parts + SY * tiles, sy)
        tl.store(parts + SS * tiles, ss)
        tl.store(parts + YY * tiles, sum1(fold(y * y)))
        tl.store(parts + MOST * tiles, most_of(projected(xt, gt, low, high)))


@triton.jit
def step_extend_kernel(
    slots, trial, vectors, ld, x0, lower, lower_row, upper, upper_row, parts, numbers, flags, n,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of the arc's next point; the trial is kept as the best so far."""
    row, tile, tiles = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    T: tl.constexpr = trial.dtype.element_ty
    if tl.load(flags + row * FLAGS + EXPANDS) != 0:
        slot = tl.load(slots + row)
        i = tile_values(BLOCK)
        trial += slot * n
        vectors += slot * VECTORS * ld
        step = tl.load(numbers + row * NUMBERS + FURTHER)
        xt = tl.load(trial + i, mask=i < n, other=0.0)
        gt = tl.load(vectors + TRIAL_G * ld + i, mask=i < n, other=0.0)
        x = tl.load(vectors + X * ld + i, mask=i < n, other=0.0)
        g = tl.load(vectors + G * ld + i, mask=i < n, other=0.0)
        d = tl.load(vectors + DIRECTION * ld + i, mask=i < n, other=0.0)
        low, high = load_part(
            x, g, x0 + slot * n, lower + slot * lower_row, upper + slot * upper_row, i, n,
            NORM, LOWER_EACH, UPPER_EACH,
        )  # fmt: skip
        end = clamp(x + step.to(T) * d, low, high)
        far = most_of(tl.abs(end - xt))
        tl.store(parts + (row * PARTS + FAR) * tiles + tile, far)
        tl.store(vectors + BEST * ld + i, xt, mask=i < n)
        tl.store(vectors + BEST_G * ld + i, gt, mask=i < n)
        tl.store(trial + i, end, mask=i < n)


@triton.jit
def step_move_kernel(
    slots, g_loss, g_row, trial, vectors, history, ld, scalars, counters, x0,
    lower, lower_row, upper, upper_row, parts, numbers, flags, gram_parts, n,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, M: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of the accepted point and its pair, or of a shorter step; what a direction needs."""
    row, tile, tiles = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    T: tl.constexpr = trial.dtype.element_ty
    flags += row * FLAGS
    moves, aims = tl.load(flags + MOVES) != 0, tl.load(flags + AIMS) != 0
    shrinks = tl.load(flags + SHRINKS) != 0
    if moves | shrinks | aims:
        slot = tl.load(slots + row)
        i = tile_values(BLOCK)
        trial += slot * n
        x0 += slot * n
        vectors += slot * VECTORS * ld
        history += slot * M * 2 * ld
        lower += slot * lower_row
        upper += slot * upper_row
        numbers += row * NUMBERS
        sc = scalars + slot * SCALARS
        x = tl.load(vectors + X * ld + i, mask=i < n, other=0.0)
        g = tl.load(vectors + G * ld + i, mask=i < n, other=0.0)
        s, y = tl.zeros([BLOCK], T), tl.zeros([BLOCK], T)  # the pair that is kept
        if shrinks:
            d = tl.load(vectors + DIRECTION * ld + i, mask=i < n, other=0.0)
            low, high = load_part(x, g, x0, lower, upper, i, n, NORM, LOWER_EACH, UPPER_EACH)
            part = tl.load(sc + STEP).to(T)
            tl.store(trial + i, on_segment(x, d, part, low, high), mask=i < n)
        if moves:  # if the multiplier has moved, y is the gradient's change before that, g's not
            from_best, reweighs = tl.load(flags + FROM_BEST) != 0, tl.load(flags + REWEIGHS) != 0
            best_limit, trial_limit = tl.where(from_best, n, 0), tl.where(from_best, 0, n)
            x_best = tl.load(vectors + BEST * ld + i, mask=i < best_limit, other=0.0)
            g_best = tl.load(vectors + BEST_G * ld + i, mask=i < best_limit, other=0.0)
            x_trial = tl.load(trial + i, mask=i < trial_limit, other=0.0)
            g_trial = tl.load(vectors + TRIAL_G * ld + i, mask=i < trial_limit, other=0.0)
            new_x = tl.where(from_best, x_best, x_trial)
            new_g = tl.where(from_best, g_best, g_trial)
            pair = history + tl.load(flags + PLACE).to(tl.int64) * 2 * ld
            pair_limit = tl.where(tl.load(flags + KEEPS) != 0, n, 0)
            pair_scale = tl.load(numbers + PAIR_SCALE).to(T)
            H: tl.constexpr = history.dtype.element_ty
            kept_s, kept_y = stored(new_x - x, pair_scale, H), stored(new_g - g, pair_scale, H)
            tl.store(pair + i, kept_s, mask=i < pair_limit)
            tl.store(pair + ld + i, kept_y, mask=i < pair_limit)
            s, y = kept_s.to(T), kept_y.to(T)
            x, g = new_x, new_g
            if reweighs:
                weight, c = tl.load(numbers + WEIGHT), tl.load(sc + C)
                gl = tl.load(g_loss + row * g_row + i, mask=i < n, other=0.0)
                origin = x
                if NORM != NONE:
                    origin = tl.load(x0 + i, mask=i < n, other=0.0)
                gg = tl.load(numbers + GG) * weight * weight
                _, scale, kink = factors(tl.load(numbers + R_SUM), gg, c, NORM)
                g = penalised_gradient(
                    x - origin, weight.to(T) * gl, c.to(T), scale.to(T), kink, NORM
                )
            tl.store(vectors + X * ld + i, x, mask=i < n)
            tl.store(vectors + G * ld + i, g, mask=i < n)
        if aims:
            margin = active_margin(tl.load(sc + PROJECTED_GRADIENT)).to(T)
            low, high = load_part(x, g, x0, lower, upper, i, n, NORM, LOWER_EACH, UPPER_EACH)
            free = is_free(x, g, low, high, margin)
            q = tl.where(free, g, 0.0)
            sums = parts + row * PARTS * tiles + tile
            tl.store(sums + G_FREE * tiles, sum1(fold(tl.abs(q))))
            tl.store(sums + WIDEST * tiles, most_of(tl.where(i < n, high - low, 0.0)))
            if tl.load(flags + QUASI) != 0:
                head = tl.load(counters + slot * COUNTERS + HEAD)
                count = tl.load(counters + slot * COUNTERS + COUNT)
                new = tl.load(flags + KEEPS) != 0
                newest, end = place_of(head, 0, M), tl.where(new, 0, n)
                older_s, older_y = load_pair(
                    history, history + ld, 2 * ld, 2 * ld, newest, free, i, end, T
                )
                s = tl.where(new, tl.where(free, s, 0.0), older_s)
                y = tl.where(new, tl.where(free, y, 0.0), older_y)
                gram_of_tile(
                    gram_parts + (row * tiles + tile) * (3 * M + 2 * M * M), q, free, s, y,
                    history, history + ld, 2 * ld, 2 * ld, head, count, i, n, M,
                )  # fmt: skip


@triton.jit
def step_aim_kernel(
    slots, trial, vectors, history, ld, scalars, counters, x0, lower, lower_row, upper, upper_row,
    parts, numbers, flags, by_pair, n,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, M: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of the direction, by the pairs or the steepest descent, and of its end."""
    row, tile, tiles = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    T: tl.constexpr = trial.dtype.element_ty
    flags += row * FLAGS
    if tl.load(flags + AIMS) != 0:
        slot = tl.load(slots + row)
        i = tile_values(BLOCK)
        vectors += slot * VECTORS * ld
        history += slot * M * 2 * ld
        margin = active_margin(tl.load(scalars + slot * SCALARS + PROJECTED_GRADIENT)).to(T)
        x = tl.load(vectors + X * ld + i, mask=i < n, other=0.0)
        g = tl.load(vectors + G * ld + i, mask=i < n, other=0.0)
        low, high = load_part(
            x, g, x0 + slot * n, lower + slot * lower_row, upper + slot * upper_row, i, n,
            NORM, LOWER_EACH, UPPER_EACH,
        )  # fmt: skip
        free = is_free(x, g, low, high, margin)
        d = -g * tl.load(numbers + row * NUMBERS + SCALE).to(T)
        if tl.load(flags + QUASI) != 0:
            ct = counters + slot * COUNTERS
            q = combination(
                g, by_pair + row * (2 * M + 1), history, history + ld, 2 * ld, 2 * ld,
                tl.load(ct + HEAD), tl.load(ct + COUNT), i, n, M,
            )  # fmt: skip
            d = tl.where(free, -q, -g)
        end = clamp(x + d, low, high)
        tl.store(vectors + DIRECTION * ld + i, d, mask=i < n)
        tl.store(trial + slot * n + i, end, mask=i < n)
        slope, cut = sum2(fold(tl.where(free, g * d, 0.0)), fold(g * (end - x)))
        parts += row * PARTS * tiles + tile
        tl.store(parts + SLOPE * tiles, slope)
        tl.store(parts + CUT * tiles, cut)

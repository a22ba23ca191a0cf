"""The launches of `lbfgs_step` that decide for a slot; see ``kernel_triton_split.py``."""

from __future__ import annotations

import triton
import triton.language as tl

from advkit.norms import NORMS
from advkit.ops._triton.norm import factors
from advkit.ops._triton.pairs import pair_scale, ring
from advkit.ops._triton.tiles import greatest, total
from advkit.ops.lbfgs_step.columns_triton import (
    AIMS,
    COUNT,
    COUNTERS,
    CUT,
    EVALUATIONS,
    EXPAND,
    EXPANDS,
    F_BEST,
    F_WINDOW,
    FAR,
    FIRST_STEP,
    FLAGS,
    FROM_BEST,
    FURTHER,
    G_FREE,
    GG,
    GS,
    GS_TRIAL,
    HEAD,
    ITERATIONS,
    KEEPS,
    LENGTH,
    MOST,
    MOVES,
    MU,
    NORM_VALUE,
    NUMBERS,
    PAIR_SCALE,
    PARTS,
    PG_BEST,
    PHASE,
    PLACE,
    PROJECTED_GRADIENT,
    QUASI,
    R_SUM,
    REWEIGHS,
    RHO,
    RUNNING,
    SCALARS,
    SCALE,
    SEARCH,
    SHRINKS,
    SKIPS,
    SLOPE,
    SS,
    SS_BEST,
    STAGNATION,
    START,
    STATUS,
    STEP,
    SY,
    SY_BEST,
    TRIALS,
    VALUE,
    WEIGHT,
    WIDEST,
    YY,
    YY_BEST,
    C,
    F,
)
from advkit.ops.lbfgs_step.decision_triton import (
    LEAST_SHARE,
    consider,
    cubic,
    descends,
    further,
    is_finite,
    is_last,
    running_slot,
    settle,
    steepest_scale,
    value_of,
    weight_of,
)
from advkit.ops.two_loop.kernel_triton_split import solution

__all__ = ["step_decide_kernel", "step_judge_kernel", "step_settle_kernel", "step_solve_kernel"]

L2 = tl.constexpr(NORMS["l2"].kernel_id)


@triton.jit
def judged(sc, ct, f, gs_trial, gs, ss, yy, T: tl.constexpr):
    """Return what `consider` says of the trial of a slot, and whether it is finite."""
    finite = is_finite(f) & is_finite(gs_trial) & is_finite(yy)
    verdict = consider(
        tl.load(ct + PHASE), tl.load(ct + TRIALS), tl.load(sc + RHO), tl.load(sc + F),
        tl.load(sc + F_BEST), f, gs_trial, gs, ss, finite, T,
    )  # fmt: skip
    return verdict, finite


@triton.jit
def step_decide_kernel(
    slots, slot_count, loss_at, trial, scalars, counters, parts, numbers, flags, tiles,
    NORM: tl.constexpr,
):  # fmt: skip
    """One slot's totals, and whether it looks further; of `trial` only the type is asked."""
    row = tl.program_id(0).to(tl.int64)
    slot, runs = running_slot(slots, row, slot_count, counters)
    expands = runs
    if runs:
        parts += row * PARTS * tiles
        numbers += row * NUMBERS
        sc = scalars + slot * SCALARS
        ct = counters + slot * COUNTERS
        loss, mu, rho = tl.load(loss_at + row).to(tl.float64), tl.load(sc + MU), tl.load(sc + RHO)
        r_sum = total(parts + R_SUM * tiles, tiles)
        gg = r_sum * 0.0
        if NORM == L2:
            gg = total(parts + GG * tiles, tiles)
        gs_trial, gs = total(parts + GS_TRIAL * tiles, tiles), total(parts + GS * tiles, tiles)
        ss, yy = total(parts + SS * tiles, tiles), total(parts + YY * tiles, tiles)
        weight, c = weight_of(loss, mu, rho), tl.load(sc + C)
        length, _, _ = factors(r_sum, gg * weight * weight, c, NORM)
        f = value_of(loss, mu, rho) + c * length
        verdict, _ = judged(sc, ct, f, gs_trial, gs, ss, yy, trial.dtype.element_ty)
        expands = verdict[1]
        tl.store(numbers + R_SUM, r_sum)
        tl.store(numbers + GG, gg)
        tl.store(numbers + GS_TRIAL, gs_trial)
        tl.store(numbers + GS, gs)
        tl.store(numbers + SY, total(parts + SY * tiles, tiles))
        tl.store(numbers + SS, ss)
        tl.store(numbers + YY, yy)
        tl.store(numbers + MOST, greatest(parts + MOST * tiles, tiles))
        tl.store(numbers + VALUE, f)
        tl.store(numbers + LENGTH, length)
        tl.store(numbers + FURTHER, further(tl.load(sc + STEP), verdict[0]))
    tl.store(flags + row * FLAGS + EXPANDS, expands.to(tl.int32))


@triton.jit
def step_settle_kernel(
    slots, slot_count, loss_at, trial, scalars, counters, parts, numbers, flags, tiles,
    gradient_tolerance, relative_tolerance, stagnation_tolerance, stagnation_window,
    max_evaluations, M: tl.constexpr,
):  # fmt: skip
    """One slot's acceptance or rejection; of `trial` only the type is asked."""
    row = tl.program_id(0).to(tl.int64)
    slot, runs = running_slot(slots, row, slot_count, counters)
    flags += row * FLAGS
    moves, shrinks, aims = runs, runs, runs
    if runs:
        numbers += row * NUMBERS
        sc = scalars + slot * SCALARS
        ct = counters + slot * COUNTERS
        f, pg = tl.load(numbers + VALUE), tl.load(numbers + MOST)
        gs_trial, gs = tl.load(numbers + GS_TRIAL), tl.load(numbers + GS)
        sy, ss, yy = tl.load(numbers + SY), tl.load(numbers + SS), tl.load(numbers + YY)
        length = tl.load(numbers + LENGTH)
        verdict, finite = judged(sc, ct, f, gs_trial, gs, ss, yy, trial.dtype.element_ty)
        _, expanding, accept, from_best, reject = verdict
        loss = tl.load(loss_at + row).to(tl.float64)
        c, mu, rho = tl.load(sc + C), tl.load(sc + MU), tl.load(sc + RHO)
        f_old, pg_old, f_window = (
            tl.load(sc + F), tl.load(sc + PROJECTED_GRADIENT), tl.load(sc + F_WINDOW)
        )  # fmt: skip
        phase = tl.load(ct + PHASE)
        start = phase == START
        place, count = ring(tl.load(ct + HEAD), tl.load(ct + COUNT), M)
        evaluations = tl.load(ct + EVALUATIONS) + 1
        out = evaluations >= max_evaluations
        trials = tl.load(ct + TRIALS) + expanding.to(tl.int32)
        step = tl.where(expanding, tl.load(numbers + FURTHER), tl.load(sc + STEP))
        far = greatest(parts + (row * PARTS + FAR) * tiles, tiles)
        arc_ends = expanding & is_last(gs_trial, gs, out, trials, far)
        accept = accept | from_best | arc_ends
        point = (
            tl.where(from_best, tl.load(sc + F_BEST), f),
            tl.where(from_best, tl.load(sc + SY_BEST), sy),
            tl.where(from_best, tl.load(sc + SS_BEST), ss),
            tl.where(from_best, tl.load(sc + YY_BEST), yy),
            tl.where(from_best, tl.load(sc + PG_BEST), pg),
        )
        keep, new_weight, status, failed, mu, now, pairs, counts = settle(
            (start, accept, reject), point, finite, ss > 0.0, (loss, mu, rho, c * length),
            (f_old, pg_old, f_window), (place, count, tl.load(ct + SKIPS)),
            (trials, evaluations, tl.load(ct + ITERATIONS)),
            (gradient_tolerance, relative_tolerance, stagnation_tolerance, stagnation_window, out),
            M,
        )  # fmt: skip
        moves = accept | (start & (finite == 0))
        running = status == RUNNING
        shrinks = running & reject & (failed == 0)
        aims = running & (accept | failed)
        part = tl.where(finite, cubic(f_old, f, gs, gs_trial), 0.1)
        tl.debug_barrier()  # all of the program has read the slot before any of it writes there
        if expanding:
            tl.store(sc + F_BEST, f)
            tl.store(sc + SY_BEST, sy)
            tl.store(sc + SS_BEST, ss)
            tl.store(sc + YY_BEST, yy)
            tl.store(sc + PG_BEST, pg)
        tl.store(sc + F, now[0])
        tl.store(sc + STEP, tl.where(shrinks, step * part, step))
        tl.store(sc + PROJECTED_GRADIENT, now[1])
        tl.store(sc + F_WINDOW, now[2])
        tl.store(sc + NORM_VALUE, length)
        tl.store(sc + MU, mu)
        tl.store(ct + STATUS, status)
        tl.store(ct + PHASE, tl.where(accept, SEARCH, tl.where(expanding, EXPAND, phase)))
        tl.store(ct + HEAD, pairs[0])
        tl.store(ct + COUNT, pairs[1])
        tl.store(ct + SKIPS, pairs[2])
        tl.store(ct + TRIALS, counts[0])
        tl.store(ct + EVALUATIONS, evaluations)
        tl.store(ct + ITERATIONS, counts[1])
        tl.store(numbers + PAIR_SCALE, pair_scale(point[2], point[3]))
        tl.store(numbers + WEIGHT, weight_of(loss, mu, rho))
        tl.store(flags + FROM_BEST, (from_best | expanding).to(tl.int32))
        tl.store(flags + KEEPS, keep.to(tl.int32))
        tl.store(flags + PLACE, place)
        tl.store(flags + REWEIGHS, new_weight.to(tl.int32))
        tl.store(flags + QUASI, (pairs[1] > 0).to(tl.int32))
    tl.store(flags + MOVES, moves.to(tl.int32))
    tl.store(flags + SHRINKS, shrinks.to(tl.int32))
    tl.store(flags + AIMS, aims.to(tl.int32))


@triton.jit
def step_solve_kernel(
    slots, trial, scalars, counters, parts, numbers, flags, gram_parts, gram, by_pair, tiles,
    M: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """One slot's factors of the pairs and of -g; of `trial` only the type is asked."""
    row = tl.program_id(0).to(tl.int64)
    flags += row * FLAGS
    if tl.load(flags + AIMS) != 0:
        slot = tl.load(slots + row)
        parts += row * PARTS * tiles
        size: tl.constexpr = 3 * M + 2 * M * M
        boxed = is_finite(greatest(parts + WIDEST * tiles, tiles))
        free_length = total(parts + G_FREE * tiles, tiles)
        first = tl.load(scalars + slot * SCALARS + FIRST_STEP)
        tl.store(numbers + row * NUMBERS + SCALE, steepest_scale(first, boxed, free_length))
        if tl.load(flags + QUASI) != 0:
            count = tl.load(counters + slot * COUNTERS + COUNT)
            used = solution(
                gram_parts + row * tiles * size, gram + row * size, by_pair + row * (2 * M + 1),
                count, tiles, trial.dtype.element_ty, M, PLACES,
            )  # fmt: skip
            tl.store(flags + QUASI, used.to(tl.int32))


@triton.jit
def step_judge_kernel(slots, scalars, counters, parts, flags, tiles):
    """One slot's direction: taken, or the steepest descent in place of the pairs', or the end."""
    row = tl.program_id(0).to(tl.int64)
    flags += row * FLAGS
    if tl.load(flags + AIMS) != 0:
        slot = tl.load(slots + row)
        parts += row * PARTS * tiles
        quasi = tl.load(flags + QUASI) != 0
        slope, cut = total(parts + SLOPE * tiles, tiles), total(parts + CUT * tiles, tiles)
        good = descends(slope, cut, tl.where(quasi, LEAST_SHARE, 0.0))
        tl.debug_barrier()  # all of the program has read the flags before any of it writes there
        if quasi & (good == 0):  # pairs whose direction does not descend are dropped
            tl.store(counters + slot * COUNTERS + COUNT, 0)
            tl.store(flags + QUASI, 0)
        else:
            tl.store(scalars + slot * SCALARS + STEP, 1.0)
            tl.store(counters + slot * COUNTERS + TRIALS, 0)
            tl.store(counters + slot * COUNTERS + STATUS, tl.where(good, RUNNING, STAGNATION))
            tl.store(flags + AIMS, 0)

"""`lbfgs_step` in Triton; the solver is that of ``csrc/cpu/lbfgs_step.hpp``, in the same order.

One program advances one slot: one launch for an evaluation of the whole batch. It goes over the
slot's vectors between two sums, block by block, and finds what it has read before in its
processor's own cache; in registers it keeps but q and the free set, over the recursion. Rows of
which registers cannot hold q are cut into tiles: see ``kernel_triton_split.py``.
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
    clamp,
    is_free,
    load_bounds,
    load_part,
    on_segment,
    projected,
    smooth_part,
)
from advkit.ops._triton.chunks import is_set, load_row, store_row
from advkit.ops._triton.launch import as_bits, is_long, launch, shape_for
from advkit.ops._triton.norm import factors, norm_terms, penalised_gradient
from advkit.ops._triton.pairs import pair_scale, ring, stored
from advkit.ops._triton.sums import fold, sum1, sum2, sum4, zero_sum
from advkit.ops.lbfgs_step.columns_triton import (
    BEST,
    BEST_G,
    COUNT,
    COUNTERS,
    DIRECTION,
    EVALUATIONS,
    EXPAND,
    F_BEST,
    F_WINDOW,
    FIRST_STEP,
    HEAD,
    ITERATIONS,
    MU,
    NORM_VALUE,
    PG_BEST,
    PHASE,
    PROJECTED_GRADIENT,
    RHO,
    RUNNING,
    SCALARS,
    SEARCH,
    SKIPS,
    SS_BEST,
    STAGNATION,
    START,
    STATUS,
    STEP,
    SY_BEST,
    TRIAL_G,
    TRIALS,
    VECTORS,
    YY_BEST,
    C,
    F,
    G,
    X,
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
from advkit.ops.lbfgs_step.kernel_triton_split import lbfgs_step_split
from advkit.ops.lbfgs_step.state import State
from advkit.ops.two_loop.kernel_triton import recursion

__all__ = ["lbfgs_step"]

NONE = tl.constexpr(NORMS["none"].kernel_id)


@triton.jit
def load_origin(x0, x, i, end, NORM: tl.constexpr):
    """Load values i of x0, 0 from `end` on; x where there is no norm, which takes any."""
    if NORM == NONE:
        return x
    else:
        return tl.load(x0 + i, mask=i < end, other=0.0)


@triton.jit
def free_gradient(
    margin, trial, vectors, ld, x0, lower, upper, n, NORM: tl.constexpr,
    LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write g on the free set, 0 elsewhere, where the next trial point is to be.

    Returned are the set, the gradient's length on it in L1, and the greatest width of the box.
    """
    T: tl.constexpr = vectors.dtype.element_ty
    bits = tl.zeros([BLOCK], tl.int32)
    length = zero_sum(T, BLOCK)
    widest = tl.zeros([BLOCK], T)
    for k in range(tl.cdiv(n, BLOCK)):
        i = k * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(vectors + X * ld + i, mask=i < n, other=0.0)
        g = tl.load(vectors + G * ld + i, mask=i < n, other=0.0)
        low, high = load_part(x, g, x0, lower, upper, i, n, NORM, LOWER_EACH, UPPER_EACH)
        free = is_free(x, g, low, high, margin)
        bits |= free.to(tl.int32) << k
        g = tl.where(free, g, 0.0)
        length += fold(tl.abs(g))
        widest = tl.maximum(widest, tl.where(i < n, high - low, 0.0))
        tl.store(trial + i, g, mask=i < n)
    return bits, sum1(length), tl.max(widest, 0)


@triton.jit
def try_direction(
    bits, factor, trial, vectors, ld, x0, lower, upper, n, QUASI: tl.constexpr,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write -factor g, of QUASI -q on the free set, as direction, and the trial point it leads to.

    q is where the trial point is to be. Returned is what `descends` asks.
    """
    T: tl.constexpr = vectors.dtype.element_ty
    slope, cut = zero_sum(T, BLOCK), zero_sum(T, BLOCK)
    for k in range(tl.cdiv(n, BLOCK)):
        i = k * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(vectors + X * ld + i, mask=i < n, other=0.0)
        g = tl.load(vectors + G * ld + i, mask=i < n, other=0.0)
        low, high = load_part(x, g, x0, lower, upper, i, n, NORM, LOWER_EACH, UPPER_EACH)
        d = -g * factor
        if QUASI:
            q = tl.load(trial + i, mask=i < n, other=0.0)
            d = tl.where(is_set(bits, k), -q, d)
        end = clamp(x + d, low, high)
        tl.store(vectors + DIRECTION * ld + i, d, mask=i < n)
        tl.store(trial + i, end, mask=i < n)
        slope += fold(tl.where(is_set(bits, k), g * d, 0.0))
        cut += fold(g * (end - x))
    return sum2(slope, cut)


@triton.jit
def vectors_of(every):
    """Return where this program's slot has its trial point, vectors, x0 and bounds.

    `every` says where all slots have them, and by what they are apart. Asked again in every part of
    the kernel, so that no register holds it in between.
    """
    slots, all_trials, all_vectors, ld, all_x0, all_lower, lower_row, all_upper, upper_row, n = (
        every
    )
    slot = tl.load(slots + tl.program_id(0))
    lower, upper = all_lower + slot * lower_row, all_upper + slot * upper_row
    return (
        all_trials + slot * n, all_vectors + slot * VECTORS * ld, all_x0 + slot * n, lower, upper
    )  # fmt: skip


@triton.jit
def aim(
    every, slots, all_pairs, ld, all_scalars, all_counters, projected_gradient, head, count, n,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, M: tl.constexpr,
    PLACES: tl.constexpr, HOLD: tl.constexpr, BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
    AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Write a slot's next direction and trial point, or that there is none."""
    slot = tl.load(slots + tl.program_id(0))
    trial, vectors, x0, lower, upper = vectors_of(every)
    T: tl.constexpr = trial.dtype.element_ty
    margin = active_margin(projected_gradient).to(T)
    bits, free_length, widest = free_gradient(
        margin, trial, vectors, ld, x0, lower, upper, n, NORM, LOWER_EACH, UPPER_EACH, BLOCK
    )
    scalars = all_scalars + slot * SCALARS
    first = tl.load(scalars + FIRST_STEP)
    tl.store(scalars + STEP, steepest_scale(first, is_finite(widest), free_length))
    tl.debug_barrier()  # q is read as it was written above
    history = all_pairs + slot * M * 2 * ld
    q, used = recursion(
        load_row(trial, n, BLOCK, CHUNKS), bits, history, history + ld,
        2 * ld, 2 * ld, head, count, n, M, PLACES, HOLD, AT_ONCE,
    )  # fmt: skip

    slot = tl.load(slots + tl.program_id(0))  # again, as its vectors
    scalars, counters = all_scalars + slot * SCALARS, all_counters + slot * COUNTERS
    trial, vectors, x0, lower, upper = vectors_of(every)
    store_row(trial, q, n)
    tl.debug_barrier()  # q is read as it was written above

    # Quasi-Newton on the free variables where that descends; a step that the box cuts to little of
    # its descent runs into a corner.
    slope, cut = try_direction(
        bits, 1.0, trial, vectors, ld, x0, lower, upper, n, True,
        NORM, LOWER_EACH, UPPER_EACH, BLOCK,
    )  # fmt: skip
    take = used & descends(slope, cut, LEAST_SHARE)
    if take == 0:  # steepest descent; pairs whose direction does not descend are dropped
        count = tl.load(counters + COUNT)
        steepest = tl.load(scalars + STEP).to(T)
        slope, cut = try_direction(
            bits, steepest, trial, vectors, ld, x0, lower, upper, n, False,
            NORM, LOWER_EACH, UPPER_EACH, BLOCK,
        )  # fmt: skip
        tl.store(counters + COUNT, tl.where(used, 0, count))
        tl.store(counters + STATUS, tl.where(descends(slope, cut, 0.0), RUNNING, STAGNATION))
    tl.debug_barrier()  # the step may have been read
    tl.store(scalars + STEP, 1.0)
    tl.store(counters + TRIALS, 0)


@triton.jit
def lbfgs_step_kernel(
    slots, loss_at, g_loss, g_row, all_trials, all_vectors, all_pairs, ld, all_scalars,
    all_counters, all_x0, all_lower, lower_row, all_upper, upper_row, slot_count, n,
    gradient_tolerance, relative_tolerance, stagnation_tolerance, stagnation_window,
    max_evaluations,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, M: tl.constexpr,
    PLACES: tl.constexpr, HOLD: tl.constexpr, BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
    AT_ONCE: tl.constexpr,
):  # fmt: skip
    """One slot of `lbfgs_step`; a slot that there is not, or that has stopped, is left alone.

    A ring that points outside of itself holds no pairs.
    """
    row = tl.program_id(0).to(tl.int64)
    T: tl.constexpr = all_trials.dtype.element_ty
    H: tl.constexpr = all_pairs.dtype.element_ty
    slot, runs = running_slot(slots, row, slot_count, all_counters)
    if runs:
        sc, ct = all_scalars + slot * SCALARS, all_counters + slot * COUNTERS
        every = (
            slots, all_trials, all_vectors, ld, all_x0, all_lower, lower_row, all_upper, upper_row,
            n,
        )  # fmt: skip
        trial, vectors, x0, lower, upper = vectors_of(every)
        g_loss += row * g_row
        loss = tl.load(loss_at + row).to(tl.float64)
        c, mu, rho = tl.load(sc + C), tl.load(sc + MU), tl.load(sc + RHO)
        phase = tl.load(ct + PHASE)
        start = phase == START

        # The evaluation: f and g at the trial point, and what the decisions need of them.
        weight = weight_of(loss, mu, rho)
        r_sum, gg = zero_sum(T, BLOCK), zero_sum(T, BLOCK)
        for k in range(tl.cdiv(n, BLOCK)):
            i = k * BLOCK + tl.arange(0, BLOCK)
            xt = tl.load(trial + i, mask=i < n, other=0.0)
            gl = tl.load(g_loss + i, mask=i < n, other=0.0)
            origin = xt
            if NORM != NONE:
                origin = tl.load(x0 + i, mask=i < n, other=0.0)
                a, b = norm_terms(xt - origin, gl, NORM)
                r_sum += a
                gg += b
        r_sum, gg = sum2(r_sum, gg)
        length, scale, kink = factors(r_sum, gg * weight * weight, c, NORM)
        f = value_of(loss, mu, rho) + c * length
        most = tl.zeros([BLOCK], T)
        known_before = tl.where(start, 0, n)
        gs_trial, gs = zero_sum(T, BLOCK), zero_sum(T, BLOCK)
        sy, ss, yy = zero_sum(T, BLOCK), zero_sum(T, BLOCK), zero_sum(T, BLOCK)
        for k in range(tl.cdiv(n, BLOCK)):
            i = k * BLOCK + tl.arange(0, BLOCK)
            xt = tl.load(trial + i, mask=i < n, other=0.0)
            origin = load_origin(x0, xt, i, n, NORM)
            gl = tl.load(g_loss + i, mask=i < n, other=0.0)
            gt = penalised_gradient(
                xt - origin, weight.to(T) * gl, c.to(T), scale.to(T), kink, NORM
            )
            tl.store(vectors + TRIAL_G * ld + i, gt, mask=i < n)
            low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
            low, high = smooth_part(xt, origin, gt, low, high, NORM)
            most = tl.maximum(most, projected(xt, gt, low, high))
            x = tl.load(vectors + X * ld + i, mask=i < known_before, other=0.0)
            g = tl.load(vectors + G * ld + i, mask=i < known_before, other=0.0)
            s = tl.where(start, 0.0, xt - x)
            y = gt - g
            gs_trial += fold(gt * s)
            gs += fold(g * s)
            sy += fold(y * s)
            ss += fold(s * s)
            yy += fold(y * y)
        gs_trial, gs, sy, ss = sum4(gs_trial, gs, sy, ss)
        yy = sum1(yy)
        pg = tl.max(most, 0).to(tl.float64)
        finite = is_finite(f) & is_finite(gs_trial) & is_finite(yy)

        # The decision.
        head, count = ring(tl.load(ct + HEAD), tl.load(ct + COUNT), M)
        skips, trials = tl.load(ct + SKIPS), tl.load(ct + TRIALS)
        evaluations, iterations = tl.load(ct + EVALUATIONS) + 1, tl.load(ct + ITERATIONS)
        f_old, step, pg_old = tl.load(sc + F), tl.load(sc + STEP), tl.load(sc + PROJECTED_GRADIENT)
        f_window, f_best = tl.load(sc + F_WINDOW), tl.load(sc + F_BEST)
        out = evaluations >= max_evaluations
        expand_first, expanding, accept, from_best, reject = consider(
            phase, trials, rho, f_old, f_best, f, gs_trial, gs, ss, finite, T
        )
        accept_best = from_best
        at_best = from_best | expanding  # the best point is there, the trial has moved on
        tl.debug_barrier()  # the gradient at the trial is read as it was written above
        if expanding:  # keep the trial as the best point so far and look further along the arc
            tl.store(sc + F_BEST, f)
            tl.store(sc + SY_BEST, sy)
            tl.store(sc + SS_BEST, ss)
            tl.store(sc + YY_BEST, yy)
            tl.store(sc + PG_BEST, pg)
            phase = EXPAND
            trials += 1
            step = further(step, expand_first)
            far = tl.zeros([BLOCK], T)
            trial, vectors, x0, lower, upper = vectors_of(every)
            for k in range(tl.cdiv(n, BLOCK)):
                i = k * BLOCK + tl.arange(0, BLOCK)
                xt = tl.load(trial + i, mask=i < n, other=0.0)
                gt = tl.load(vectors + TRIAL_G * ld + i, mask=i < n, other=0.0)
                tl.store(vectors + BEST * ld + i, xt, mask=i < n)
                tl.store(vectors + BEST_G * ld + i, gt, mask=i < n)
                x = tl.load(vectors + X * ld + i, mask=i < n, other=0.0)
                g = tl.load(vectors + G * ld + i, mask=i < n, other=0.0)
                low, high = load_part(x, g, x0, lower, upper, i, n, NORM, LOWER_EACH, UPPER_EACH)
                d = tl.load(vectors + DIRECTION * ld + i, mask=i < n, other=0.0)
                end = clamp(x + step.to(T) * d, low, high)
                tl.store(trial + i, end, mask=i < n)
                far = tl.maximum(far, tl.where(i < n, tl.abs(end - xt), 0.0))
            tl.debug_barrier()  # the best point may be read
            accept_best = is_last(gs_trial, gs, out, trials, tl.max(far, 0))

        # Acceptance: x moves to the new point, the pair enters the ring. If the multiplier has
        # moved, y is the gradient's change before that, and g its value after.
        accept = accept | accept_best
        moves = accept | (start & (finite == 0))
        f_new = tl.where(from_best, f_best, f)
        sy = tl.where(from_best, tl.load(sc + SY_BEST), sy)
        pair_ss = tl.where(from_best, tl.load(sc + SS_BEST), ss)
        yy = tl.where(from_best, tl.load(sc + YY_BEST), yy)
        pg = tl.where(from_best, tl.load(sc + PG_BEST), pg)
        tests = gradient_tolerance, relative_tolerance, stagnation_tolerance, stagnation_window, out
        place = head
        keep, new_weight, status, failed, mu, now, pairs, counts = settle(
            (start, accept, reject), (f_new, sy, pair_ss, yy, pg), finite, ss > 0.0,
            (loss, mu, rho, c * length), (f_old, pg_old, f_window), (head, count, skips),
            (trials, evaluations, iterations), tests, M,
        )  # fmt: skip
        f_now, pg_now, f_window = now
        head, count, skips = pairs
        trials, iterations = counts
        phase = tl.where(accept, SEARCH, phase)
        weight = tl.where(new_weight, weight_of(loss, mu, rho), weight)
        _, scale, kink = factors(r_sum, gg * weight * weight, c, NORM)
        stored_scale = pair_scale(pair_ss, yy).to(T)
        if moves:
            best_end, trial_end = tl.where(at_best, n, 0), tl.where(at_best, 0, n)
            pair_end = tl.where(keep, n, 0)
            trial, vectors, x0, lower, upper = vectors_of(every)
            pair = all_pairs + (slot * M + place) * 2 * ld
            for k in range(tl.cdiv(n, BLOCK)):
                i = k * BLOCK + tl.arange(0, BLOCK)
                x_best = tl.load(vectors + BEST * ld + i, mask=i < best_end, other=0.0)
                g_best = tl.load(vectors + BEST_G * ld + i, mask=i < best_end, other=0.0)
                x_trial = tl.load(trial + i, mask=i < trial_end, other=0.0)
                g_trial = tl.load(vectors + TRIAL_G * ld + i, mask=i < trial_end, other=0.0)
                x, g = tl.where(at_best, x_best, x_trial), tl.where(at_best, g_best, g_trial)
                s = x - tl.load(vectors + X * ld + i, mask=i < pair_end, other=0.0)
                y = g - tl.load(vectors + G * ld + i, mask=i < pair_end, other=0.0)
                tl.store(pair + i, stored(s, stored_scale, H), mask=i < pair_end)
                tl.store(pair + ld + i, stored(y, stored_scale, H), mask=i < pair_end)
                if new_weight:
                    gl = tl.load(g_loss + i, mask=i < n, other=0.0)
                    r = x - load_origin(x0, x, i, n, NORM)
                    g = penalised_gradient(r, weight.to(T) * gl, c.to(T), scale.to(T), kink, NORM)
                tl.store(vectors + X * ld + i, x, mask=i < n)
                tl.store(vectors + G * ld + i, g, mask=i < n)
        tl.debug_barrier()  # the newest pair, x and g are read as they were written above

        # The next trial point.
        running = status == RUNNING
        if running & reject & (failed == 0):
            step *= tl.where(finite, cubic(f_old, f, gs, gs_trial), 0.1)
            trial, vectors, x0, lower, upper = vectors_of(every)
            for k in range(tl.cdiv(n, BLOCK)):
                i = k * BLOCK + tl.arange(0, BLOCK)
                x = tl.load(vectors + X * ld + i, mask=i < n, other=0.0)
                g = tl.load(vectors + G * ld + i, mask=i < n, other=0.0)
                d = tl.load(vectors + DIRECTION * ld + i, mask=i < n, other=0.0)
                low, high = load_part(x, g, x0, lower, upper, i, n, NORM, LOWER_EACH, UPPER_EACH)
                tl.store(trial + i, on_segment(x, d, step.to(T), low, high), mask=i < n)
        tl.store(sc + F, f_now)
        tl.store(sc + STEP, step)
        tl.store(sc + PROJECTED_GRADIENT, pg_now)
        tl.store(sc + F_WINDOW, f_window)
        tl.store(sc + NORM_VALUE, length)
        tl.store(sc + MU, mu)
        tl.store(ct + STATUS, status)
        tl.store(ct + PHASE, phase)
        tl.store(ct + COUNT, count)
        tl.store(ct + HEAD, head)
        tl.store(ct + SKIPS, skips)
        tl.store(ct + TRIALS, trials)
        tl.store(ct + EVALUATIONS, evaluations)
        tl.store(ct + ITERATIONS, iterations)
        if running & (accept | failed):
            aim(
                every, slots, all_pairs, ld, all_scalars, all_counters, pg_now, head, count, n,
                NORM, LOWER_EACH, UPPER_EACH, M, PLACES, HOLD, BLOCK, CHUNKS, AT_ONCE,
            )  # fmt: skip


def lbfgs_step(state: State, loss: Tensor, g_loss: Tensor, slots: Tensor) -> None:
    """Advance slots by one evaluation; see `advkit.ops.lbfgs_step`."""
    trial, m, o = state.trial, state.history.shape[1], state.options
    count, n = trial.shape
    if is_long(n, trial.element_size()):
        lbfgs_step_split(state, loss, g_loss, slots)
        return
    bounds, each = bound_arguments(state.lower, state.upper)
    shape = shape_for(n, trial.element_size())
    launch(
        lbfgs_step_kernel, (len(slots),), trial.device,
        slots, loss, g_loss, row_stride(g_loss), trial, state.vectors, state.history,
        state.history.shape[3], state.scalars, state.counters,
        state.x0 if len(state.x0) else trial, *bounds, count, n,
        *(as_bits(t) for t in (o.gradient_tolerance, o.relative_tolerance, o.stagnation_tolerance)),
        o.stagnation_window, o.max_evaluations,
        NORM=NORMS[state.norm].kernel_id, **each, M=m, PLACES=triton.next_power_of_2(m),
        HOLD=shape.holds(m), BLOCK=shape.block, CHUNKS=shape.chunks,
        AT_ONCE=shape.at_once(), num_warps=shape.warps,
    )  # fmt: skip

"""`lbfgs_step` in Triton; the solver is that of ``csrc/cpu/lbfgs_step.hpp``, in the same order.

One program advances one slot, whose row it holds in registers: one launch for an evaluation of the
whole batch. Longer rows are cut into tiles: see ``kernel_triton_split.py``.
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
from advkit.ops.two_loop.kernel_triton import is_set, recursion

__all__ = ["lbfgs_step"]

NONE = tl.constexpr(NORMS["none"].kernel_id)


@triton.jit
def try_direction(
    q, bits, factor, trial, vectors, ld, x0, lower, upper, n, QUASI: tl.constexpr,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, BLOCK: tl.constexpr,
    CHUNKS: tl.constexpr,
):  # fmt: skip
    """Write -factor g, of QUASI -q on the free set; return what `descends` asks of it."""
    T: tl.constexpr = q[0].dtype
    slope, cut = zero_sum(T, BLOCK), zero_sum(T, BLOCK)
    for k in tl.static_range(CHUNKS):
        i = k * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(vectors + X * ld + i, mask=i < n, other=0.0)
        g = tl.load(vectors + G * ld + i, mask=i < n, other=0.0)
        low, high = load_part(x, g, x0, lower, upper, i, n, NORM, LOWER_EACH, UPPER_EACH)
        d = -g * factor
        if QUASI:
            d = tl.where(is_set(bits, k), -q[k], d)
        end = clamp(x + d, low, high)
        tl.store(vectors + DIRECTION * ld + i, d, mask=i < n)
        tl.store(trial + i, end, mask=i < n)
        slope += fold(tl.where(is_set(bits, k), g * d, 0.0))
        cut += fold(g * (end - x))
    return sum2(slope, cut)


@triton.jit
def lbfgs_step_kernel(
    slots, loss_at, g_loss, g_row, trial, vectors, history, ld, scalars, counters, x0,
    lower, lower_row, upper, upper_row, slot_count, n,
    gradient_tolerance, relative_tolerance, stagnation_tolerance, stagnation_window,
    max_evaluations,
    NORM: tl.constexpr, LOWER_EACH: tl.constexpr, UPPER_EACH: tl.constexpr, M: tl.constexpr,
    PLACES: tl.constexpr, HOLD: tl.constexpr, BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """One slot of `lbfgs_step`; a slot that there is not, or that has stopped, is left alone.

    A ring that points outside of itself holds no pairs.
    """
    row = tl.program_id(0).to(tl.int64)
    T: tl.constexpr = trial.dtype.element_ty
    H: tl.constexpr = history.dtype.element_ty
    slot, runs = running_slot(slots, row, slot_count, counters)
    sc = scalars + slot * SCALARS
    ct = counters + slot * COUNTERS
    if runs:
        trial += slot * n
        x0 += slot * n
        vectors += slot * VECTORS * ld
        history += slot * M * 2 * ld
        lower += slot * lower_row
        upper += slot * upper_row
        g_loss += row * g_row
        loss = tl.load(loss_at + row).to(tl.float64)
        phase = tl.load(ct + PHASE)
        head, count = ring(tl.load(ct + HEAD), tl.load(ct + COUNT), M)
        skips, trials = tl.load(ct + SKIPS), tl.load(ct + TRIALS)
        evaluations, iterations = tl.load(ct + EVALUATIONS) + 1, tl.load(ct + ITERATIONS)
        f_old, step, pg_old = tl.load(sc + F), tl.load(sc + STEP), tl.load(sc + PROJECTED_GRADIENT)
        f_window, f_best, c = tl.load(sc + F_WINDOW), tl.load(sc + F_BEST), tl.load(sc + C)
        mu, rho = tl.load(sc + MU), tl.load(sc + RHO)
        start = phase == START
        out = evaluations >= max_evaluations

        # The evaluation: f and g at the trial point, and what the decisions need of them.
        weight = weight_of(loss, mu, rho)
        points = ()
        origins = ()
        losses = ()
        r_sum, gg = zero_sum(T, BLOCK), zero_sum(T, BLOCK)
        for k in tl.static_range(CHUNKS):
            i = k * BLOCK + tl.arange(0, BLOCK)
            xt = tl.load(trial + i, mask=i < n, other=0.0)
            gl = tl.load(g_loss + i, mask=i < n, other=0.0)
            origin = xt
            if NORM != NONE:
                origin = tl.load(x0 + i, mask=i < n, other=0.0)
                a, b = norm_terms(xt - origin, gl, NORM)
                r_sum += a
                gg += b
            points = points + (xt,)
            origins = origins + (origin,)
            losses = losses + (gl,)
        r_sum, gg = sum2(r_sum, gg)
        length, scale, kink = factors(r_sum, gg * weight * weight, c, NORM)
        f = value_of(loss, mu, rho) + c * length
        most = tl.zeros([BLOCK], T)
        gs_trial, gs = zero_sum(T, BLOCK), zero_sum(T, BLOCK)
        sy, ss, yy = zero_sum(T, BLOCK), zero_sum(T, BLOCK), zero_sum(T, BLOCK)
        slopes = ()
        xs = ()
        gradients = ()
        for k in tl.static_range(CHUNKS):
            i = k * BLOCK + tl.arange(0, BLOCK)
            xt, origin = points[k], origins[k]
            gt = penalised_gradient(
                xt - origin, weight.to(T) * losses[k], c.to(T), scale.to(T), kink, NORM
            )
            tl.store(vectors + TRIAL_G * ld + i, gt, mask=i < n)
            low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
            low, high = smooth_part(xt, origin, gt, low, high, NORM)
            most = tl.maximum(most, projected(xt, gt, low, high))
            known_before = tl.where(start, 0, n)
            x = tl.load(vectors + X * ld + i, mask=i < known_before, other=0.0)
            g = tl.load(vectors + G * ld + i, mask=i < known_before, other=0.0)
            s = tl.where(start, 0.0, xt - x)
            y = gt - g
            gs_trial += fold(gt * s)
            gs += fold(g * s)
            sy += fold(y * s)
            ss += fold(s * s)
            yy += fold(y * y)
            slopes = slopes + (gt,)
            xs = xs + (x,)
            gradients = gradients + (g,)
        gs_trial, gs, sy, ss = sum4(gs_trial, gs, sy, ss)
        yy = sum1(yy)
        pg = tl.max(most, 0).to(tl.float64)
        finite = is_finite(f) & is_finite(gs_trial) & is_finite(yy)

        # The decision.
        expand_first, expanding, accept, from_best, reject = consider(
            phase, trials, rho, f_old, f_best, f, gs_trial, gs, ss, finite, T
        )
        accept_best = from_best
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
            for k in tl.static_range(CHUNKS):
                i = k * BLOCK + tl.arange(0, BLOCK)
                tl.store(vectors + BEST * ld + i, points[k], mask=i < n)
                tl.store(vectors + BEST_G * ld + i, slopes[k], mask=i < n)
                low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
                low, high = smooth_part(xs[k], origins[k], gradients[k], low, high, NORM)
                d = tl.load(vectors + DIRECTION * ld + i, mask=i < n, other=0.0)
                end = clamp(xs[k] + step.to(T) * d, low, high)
                tl.store(trial + i, end, mask=i < n)
                far = tl.maximum(far, tl.where(i < n, tl.abs(end - points[k]), 0.0))
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
        best_limit = tl.where(from_best, n, 0)
        pair_limit = tl.where(keep, n, 0)
        move_limit = tl.where(moves, n, 0)
        new_xs = ()
        new_gradients = ()
        for k in tl.static_range(CHUNKS):
            i = k * BLOCK + tl.arange(0, BLOCK)
            x_best = tl.load(vectors + BEST * ld + i, mask=i < best_limit, other=0.0)
            g_best = tl.load(vectors + BEST_G * ld + i, mask=i < best_limit, other=0.0)
            x = tl.where(from_best, x_best, points[k])
            g = tl.where(from_best, g_best, slopes[k])
            s, y = stored(x - xs[k], stored_scale, H), stored(g - gradients[k], stored_scale, H)
            tl.store(history + place * 2 * ld + i, s, mask=i < pair_limit)
            tl.store(history + (place * 2 + 1) * ld + i, y, mask=i < pair_limit)
            moved_g = penalised_gradient(
                x - origins[k], weight.to(T) * losses[k], c.to(T), scale.to(T), kink, NORM
            )
            g = tl.where(new_weight, moved_g, g)
            tl.store(vectors + X * ld + i, x, mask=i < move_limit)
            tl.store(vectors + G * ld + i, g, mask=i < move_limit)
            new_xs = new_xs + (tl.where(accept, x, xs[k]),)
            new_gradients = new_gradients + (tl.where(accept, g, gradients[k]),)

        # The next trial point.
        running = status == RUNNING
        if running & reject & (failed == 0):
            step *= tl.where(finite, cubic(f_old, f, gs, gs_trial), 0.1)
            for k in tl.static_range(CHUNKS):
                i = k * BLOCK + tl.arange(0, BLOCK)
                x, d = xs[k], tl.load(vectors + DIRECTION * ld + i, mask=i < n, other=0.0)
                low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
                low, high = smooth_part(x, origins[k], gradients[k], low, high, NORM)
                tl.store(trial + i, on_segment(x, d, step.to(T), low, high), mask=i < n)
        if running & (accept | failed):
            margin = active_margin(pg_now).to(T)
            q = ()
            bits = tl.zeros([BLOCK], tl.int32)
            g_free = zero_sum(T, BLOCK)
            widest = tl.zeros([BLOCK], T)
            for k in tl.static_range(CHUNKS):
                i = k * BLOCK + tl.arange(0, BLOCK)
                x, g = new_xs[k], new_gradients[k]
                low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
                low, high = smooth_part(x, origins[k], g, low, high, NORM)
                free = is_free(x, g, low, high, margin)
                bits |= free.to(tl.int32) << k
                g = tl.where(free, g, 0.0)
                g_free += fold(tl.abs(g))
                widest = tl.maximum(widest, tl.where(i < n, high - low, 0.0))
                q = q + (g,)
            tl.debug_barrier()  # the newest pair, x and g are read as they were written above
            q, used = recursion(
                q, bits, history, history + ld, 2 * ld, 2 * ld, head, count, n,
                M, PLACES, HOLD, BLOCK, CHUNKS,
            )  # fmt: skip

            # Quasi-Newton on the free variables where that descends; a step that the box cuts to
            # little of its descent runs into a corner.
            slope, cut = try_direction(
                q, bits, 1.0, trial, vectors, ld, x0, lower, upper, n, True,
                NORM, LOWER_EACH, UPPER_EACH, BLOCK, CHUNKS,
            )  # fmt: skip
            take = used & descends(slope, cut, LEAST_SHARE)
            step = tl.full([], 1.0, tl.float64)
            trials = 0
            if take == 0:  # steepest descent; pairs whose direction does not descend are dropped
                count = tl.where(used, 0, count)
                boxed = is_finite(tl.max(widest, 0))
                factor = steepest_scale(tl.load(sc + FIRST_STEP), boxed, sum1(g_free)).to(T)
                slope, cut = try_direction(
                    q, bits, factor, trial, vectors, ld, x0, lower, upper, n, False,
                    NORM, LOWER_EACH, UPPER_EACH, BLOCK, CHUNKS,
                )  # fmt: skip
                status = tl.where(descends(slope, cut, 0.0), RUNNING, STAGNATION)

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
        HOLD=shape.holds(m), BLOCK=shape.block, CHUNKS=shape.chunks, num_warps=shape.warps,
    )  # fmt: skip

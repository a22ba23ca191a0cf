"""`lbfgs_step` in Triton; the solver is that of ``csrc/cpu/lbfgs_step.hpp``, in the same order.

One program advances one slot, whose row it holds in registers: one launch for an evaluation of the
whole batch.
"""

from __future__ import annotations

import torch
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
    projected,
    smooth_part,
)
from advkit.ops._triton.launch import as_bits, launch, shape_for
from advkit.ops._triton.norm import factors, norm_terms, penalised_gradient
from advkit.ops._triton.pairs import curved, pair_scale, ring
from advkit.ops._triton.sums import as_float, fold, sum1, sum2, sum4, zero_sum
from advkit.ops.lbfgs_step import reference
from advkit.ops.lbfgs_step.state import Counter, Phase, Scalar, State, Status, Vector
from advkit.ops.two_loop.kernel_triton import is_set, recursion

__all__ = ["lbfgs_step"]

NONE = tl.constexpr(NORMS["none"].kernel_id)
ARMIJO = tl.constexpr(reference.ARMIJO)
WOLFE = tl.constexpr(reference.WOLFE)
EXPANSION = tl.constexpr(reference.EXPANSION)
LEAST_SHARE = tl.constexpr(reference.LEAST_SHARE)
MOST_EXPANSIONS = tl.constexpr(reference.MOST_EXPANSIONS)
MOST_TRIALS = tl.constexpr(reference.MOST_TRIALS)
MOST_SKIPS = tl.constexpr(reference.MOST_SKIPS)
EPS_FLOAT32 = tl.constexpr(torch.finfo(torch.float32).eps)
EPS_FLOAT64 = tl.constexpr(torch.finfo(torch.float64).eps)

SCALARS, COUNTERS, VECTORS = (tl.constexpr(len(names)) for names in (Scalar, Counter, Vector))
F, STEP, PROJECTED_GRADIENT, F_WINDOW = (
    tl.constexpr(int(s))
    for s in (Scalar.F, Scalar.STEP, Scalar.PROJECTED_GRADIENT, Scalar.F_WINDOW)
)
F_BEST, SY_BEST, SS_BEST, YY_BEST, PG_BEST = (
    tl.constexpr(int(s))
    for s in (Scalar.F_BEST, Scalar.SY_BEST, Scalar.SS_BEST, Scalar.YY_BEST, Scalar.PG_BEST)
)
C, NORM_VALUE, MU, RHO, FIRST_STEP = (
    tl.constexpr(int(s)) for s in (Scalar.C, Scalar.NORM, Scalar.MU, Scalar.RHO, Scalar.FIRST_STEP)
)
STATUS, PHASE, COUNT, HEAD, SKIPS, TRIALS, EVALUATIONS, ITERATIONS = (
    tl.constexpr(int(c)) for c in Counter
)
X, G, TRIAL_G, DIRECTION, BEST, BEST_G = (tl.constexpr(int(v)) for v in Vector)
START, SEARCH, EXPAND = (tl.constexpr(int(p)) for p in Phase)
RUNNING, GRADIENT, RELATIVE_F, STAGNATION, OUT_OF_EVALUATIONS, NON_FINITE = (
    tl.constexpr(int(s)) for s in Status
)


@triton.jit
def weight_of(loss, mu, rho):
    """Return the derivative, by the loss, of what stands for it in the objective."""
    w = mu + rho * loss
    return tl.where(rho > 0.0, tl.where(w < 0.0, 0.0, w), 1.0)


@triton.jit
def value_of(loss, mu, rho):
    """Return what stands for the loss in the objective."""
    w = weight_of(loss, mu, rho)
    return tl.where(rho > 0.0, (w * w - mu * mu) / tl.where(rho > 0.0, 2.0 * rho, 1.0), loss)


@triton.jit
def is_finite(v):
    """Tell whether a number is neither infinite nor NaN."""
    return tl.abs(v) < float("inf")


@triton.jit
def cubic(f, f_trial, gs, gs_trial):
    """Return the cubic's minimiser as a part of the step (Nocedal & Wright 2006, equation 3.59)."""
    d1 = gs + gs_trial - 3.0 * (f_trial - f)
    inside = d1 * d1 - gs * gs_trial
    d2 = tl.sqrt(tl.where(inside > 0.0, inside, 0.0))
    t = 1.0 - (gs_trial + d2 - d1) / (gs_trial - gs + 2.0 * d2)
    return tl.where(t > 0.1, tl.where(t < 0.9, t, 0.9), 0.1)


@triton.jit
def noise_of(f, T: tl.constexpr):
    """Return the difference of values near f that rounding in T may make."""
    size = tl.maximum(tl.abs(f), 1.0)
    if T == tl.float64:
        return 10.0 * EPS_FLOAT64 * size
    else:
        return 10.0 * EPS_FLOAT32 * size


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
    slot = tl.load(slots + row)
    known = (slot >= 0) & (slot < slot_count)
    slot = tl.where(known, slot, 0)
    sc = scalars + slot * SCALARS
    ct = counters + slot * COUNTERS
    if known & (tl.load(ct + STATUS) == RUNNING):
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
        f_window, c = tl.load(sc + F_WINDOW), tl.load(sc + C)
        mu, rho = tl.load(sc + MU), tl.load(sc + RHO)
        start = phase == START
        constrained = rho > 0.0
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
        falls = f <= f_old + ARMIJO * gs
        flat = (tl.abs(f - f_old) <= noise_of(f_old, T)) & (tl.abs(gs_trial) <= WOLFE * tl.abs(gs))
        moved = ss > 0.0  # or the step was lost to rounding
        good = (phase == SEARCH) & finite & moved & (falls | flat)
        steep = gs_trial < WOLFE * gs
        expand_first = good & (trials == 0) & steep & (rho <= 0.0)
        better = (phase == EXPAND) & finite & (f < tl.load(sc + F_BEST))
        expanding = expand_first | better
        reject = (phase == SEARCH) & (good == 0)
        accept_best = (phase == EXPAND) & (better == 0)
        from_best = accept_best  # the point to accept is not the trial
        if expanding:  # keep the trial as the best point so far and look further along the arc
            tl.store(sc + F_BEST, f)
            tl.store(sc + SY_BEST, sy)
            tl.store(sc + SS_BEST, ss)
            tl.store(sc + YY_BEST, yy)
            tl.store(sc + PG_BEST, pg)
            phase = EXPAND
            trials += 1
            step = EXPANSION * tl.where(expand_first, 1.0, step)
            far = tl.zeros([BLOCK], T)
            for k in tl.static_range(CHUNKS):
                i = k * BLOCK + tl.arange(0, BLOCK)
                tl.store(vectors + BEST * ld + i, points[k], mask=i < n)
                tl.store(vectors + BEST_G * ld + i, slopes[k], mask=i < n)
                low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
                low, high = smooth_part(xs[k], origins[k], gradients[k], low, high, NORM)
                d = tl.load(vectors + DIRECTION * ld + i, mask=i < n, other=0.0)
                further = clamp(xs[k] + step.to(T) * d, low, high)
                tl.store(trial + i, further, mask=i < n)
                far = tl.maximum(far, tl.where(i < n, tl.abs(further - points[k]), 0.0))
            last = (steep == 0) | out | (trials > MOST_EXPANSIONS)
            accept_best = last | ((tl.max(far, 0) > 0.0) == 0)

        # Acceptance: x moves to the new point, the pair enters the ring. If the multiplier has
        # moved, y is the gradient's change before that, and g its value after.
        bad_start = start & (finite == 0)
        accept = (start & finite) | (good & (expand_first == 0)) | accept_best
        stepped = accept & (start == 0)
        f_new = tl.where(from_best, tl.load(sc + F_BEST), f)
        sy = tl.where(from_best, tl.load(sc + SY_BEST), sy)
        ss = tl.where(from_best, tl.load(sc + SS_BEST), ss)
        yy = tl.where(from_best, tl.load(sc + YY_BEST), yy)
        pg = tl.where(from_best, tl.load(sc + PG_BEST), pg)
        keep = stepped & curved(sy, ss, yy)
        stored_scale = pair_scale(ss, yy).to(T)
        new_weight = stepped & constrained
        mu = tl.where(new_weight, weight, mu)
        weight = tl.where(new_weight, weight_of(loss, mu, rho), weight)
        _, scale, kink = factors(r_sum, gg * weight * weight, c, NORM)
        f_kept = tl.where(new_weight, value_of(loss, mu, rho) + c * length, f_new)
        best_limit = tl.where(from_best, n, 0)
        pair_limit = tl.where(keep, n, 0)
        move_limit = tl.where(accept | bad_start, n, 0)
        new_xs = ()
        new_gradients = ()
        for k in tl.static_range(CHUNKS):
            i = k * BLOCK + tl.arange(0, BLOCK)
            x_best = tl.load(vectors + BEST * ld + i, mask=i < best_limit, other=0.0)
            g_best = tl.load(vectors + BEST_G * ld + i, mask=i < best_limit, other=0.0)
            x = tl.where(from_best, x_best, points[k])
            g = tl.where(from_best, g_best, slopes[k])
            s, y = x - xs[k], g - gradients[k]
            if H != T:
                s, y = (stored_scale * s).to(H), (stored_scale * y).to(H)
            tl.store(history + head * 2 * ld + i, s, mask=i < pair_limit)
            tl.store(history + (head * 2 + 1) * ld + i, y, mask=i < pair_limit)
            moved_g = penalised_gradient(
                x - origins[k], weight.to(T) * losses[k], c.to(T), scale.to(T), kink, NORM
            )
            g = tl.where(new_weight, moved_g, g)
            tl.store(vectors + X * ld + i, x, mask=i < move_limit)
            tl.store(vectors + G * ld + i, g, mask=i < move_limit)
            new_xs = new_xs + (tl.where(accept, x, xs[k]),)
            new_gradients = new_gradients + (tl.where(accept, g, gradients[k]),)
        head = tl.where(keep, (head + 1) % M, head)
        count = tl.where(keep, tl.minimum(count + 1, M), count)
        skips = tl.where(stepped, tl.where(keep, 0, skips + 1), skips)
        count = tl.where(skips >= MOST_SKIPS, 0, count)
        skips = tl.where(skips >= MOST_SKIPS, 0, skips)
        iterations += stepped.to(tl.int32)
        phase = tl.where(accept, SEARCH, phase)
        f_now = tl.where(accept | bad_start, f_kept, f_old)
        pg_now = tl.where(accept, pg, tl.where(bad_start, float("nan"), pg_old))
        f_window = tl.where(start & finite, f, f_window)
        trials += reject.to(tl.int32)

        # The tests to stop, each asked only where those before it have not stopped.
        status = tl.where(bad_start, NON_FINITE, RUNNING)
        status = tl.where(accept & (pg <= as_float(gradient_tolerance)), GRADIENT, status)
        size = tl.maximum(tl.maximum(tl.abs(f_old), tl.abs(f_new)), 1.0)
        little = stepped & (f_old - f_new <= as_float(relative_tolerance) * size)
        status = tl.where((status == RUNNING) & little, RELATIVE_F, status)
        status = tl.where(reject & out, OUT_OF_EVALUATIONS, status)
        due = (stepped | reject) & (status == RUNNING) & (evaluations % stagnation_window == 0)
        fell = f_window - f_now
        stagnates = fell <= as_float(stagnation_tolerance) * tl.maximum(tl.abs(f_now), 1.0)
        f_window = tl.where(due, f_now, f_window)
        status = tl.where(due & stagnates, STAGNATION, status)
        status = tl.where((status == RUNNING) & accept & out, OUT_OF_EVALUATIONS, status)
        failed = reject & (status == RUNNING) & ((moved == 0) | (trials >= MOST_TRIALS))
        given_up = tl.where(finite, STAGNATION, NON_FINITE)
        status = tl.where(failed & (count == 0), given_up, status)
        count = tl.where(failed, 0, count)

        # The next trial point.
        running = status == RUNNING
        if running & reject & (failed == 0):
            step *= tl.where(finite, cubic(f_old, f, gs, gs_trial), 0.1)
            for k in tl.static_range(CHUNKS):
                i = k * BLOCK + tl.arange(0, BLOCK)
                x, d = xs[k], tl.load(vectors + DIRECTION * ld + i, mask=i < n, other=0.0)
                low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
                low, high = smooth_part(x, origins[k], gradients[k], low, high, NORM)
                end = clamp(x + d, low, high)
                tl.store(trial + i, clamp(x + step.to(T) * (end - x), low, high), mask=i < n)
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
            slope, cut = zero_sum(T, BLOCK), zero_sum(T, BLOCK)
            for k in tl.static_range(CHUNKS):
                i = k * BLOCK + tl.arange(0, BLOCK)
                x = tl.load(vectors + X * ld + i, mask=i < n, other=0.0)
                g = tl.load(vectors + G * ld + i, mask=i < n, other=0.0)
                origin = x
                if NORM != NONE:
                    origin = tl.load(x0 + i, mask=i < n, other=0.0)
                low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
                low, high = smooth_part(x, origin, g, low, high, NORM)
                d = tl.where(is_set(bits, k), -q[k], -g)
                end = clamp(x + d, low, high)
                tl.store(vectors + DIRECTION * ld + i, d, mask=i < n)
                tl.store(trial + i, end, mask=i < n)
                slope += fold(tl.where(is_set(bits, k), g * d, 0.0))
                cut += fold(g * (end - x))
            slope, cut = sum2(slope, cut)
            take = used & (slope <= 0.0) & (cut < 0.0) & (cut <= LEAST_SHARE * slope)
            step = tl.full([], 1.0, tl.float64)
            trials = 0
            if take == 0:  # steepest descent; pairs whose direction does not descend are dropped
                count = tl.where(used, 0, count)
                free_length = sum1(g_free)
                boxed = is_finite(tl.max(widest, 0))
                rule = tl.where(boxed, 1.0, tl.minimum(1.0 / free_length, 1.0))
                first = tl.load(sc + FIRST_STEP)
                factor = tl.where(first > 0.0, first, rule).to(T)
                slope, cut = zero_sum(T, BLOCK), zero_sum(T, BLOCK)
                for k in tl.static_range(CHUNKS):
                    i = k * BLOCK + tl.arange(0, BLOCK)
                    x = tl.load(vectors + X * ld + i, mask=i < n, other=0.0)
                    g = tl.load(vectors + G * ld + i, mask=i < n, other=0.0)
                    origin = x
                    if NORM != NONE:
                        origin = tl.load(x0 + i, mask=i < n, other=0.0)
                    low, high = load_bounds(lower, upper, i, i < n, LOWER_EACH, UPPER_EACH)
                    low, high = smooth_part(x, origin, g, low, high, NORM)
                    d = -g * factor
                    end = clamp(x + d, low, high)
                    tl.store(vectors + DIRECTION * ld + i, d, mask=i < n)
                    tl.store(trial + i, end, mask=i < n)
                    slope += fold(tl.where(is_set(bits, k), g * d, 0.0))
                    cut += fold(g * (end - x))
                slope, cut = sum2(slope, cut)
                descends = (slope <= 0.0) & (cut < 0.0)  # the first is 0 where nothing is free
                status = tl.where(descends, RUNNING, STAGNATION)

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

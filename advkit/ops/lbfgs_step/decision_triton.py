"""What `lbfgs_step` decides from the sums over a row, for both forms of its Triton kernels.

The rules are those of ``csrc/include/advkit/decision.hpp`` and ``rules.hpp``. All are on numbers:
columns of the state's scalars and counters, and what an evaluation gives.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from advkit.ops._triton.pairs import curved
from advkit.ops._triton.sums import as_float
from advkit.ops.lbfgs_step import reference
from advkit.ops.lbfgs_step.columns_triton import (
    COUNTERS,
    EXPAND,
    GRADIENT,
    NON_FINITE,
    OUT_OF_EVALUATIONS,
    RELATIVE_F,
    RUNNING,
    SEARCH,
    STAGNATION,
    START,
    STATUS,
)

ARMIJO = tl.constexpr(reference.ARMIJO)
WOLFE = tl.constexpr(reference.WOLFE)
EXPANSION = tl.constexpr(reference.EXPANSION)
LEAST_SHARE = tl.constexpr(reference.LEAST_SHARE)
MOST_EXPANSIONS = tl.constexpr(reference.MOST_EXPANSIONS)
MOST_TRIALS = tl.constexpr(reference.MOST_TRIALS)
MOST_SKIPS = tl.constexpr(reference.MOST_SKIPS)
EPS_FLOAT32 = tl.constexpr(torch.finfo(torch.float32).eps)
EPS_FLOAT64 = tl.constexpr(torch.finfo(torch.float64).eps)


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
def running_slot(slots, row, slot_count, counters):
    """Return which slot a row advances, and whether there is one that runs; 0 if there is none."""
    slot = tl.load(slots + row)
    known = (slot >= 0) & (slot < slot_count)
    slot = tl.where(known, slot, 0)
    return slot, known & (tl.load(counters + slot * COUNTERS + STATUS) == RUNNING)


@triton.jit
def consider(phase, trials, rho, f_old, f_best, f, gs_trial, gs, ss, finite, T: tl.constexpr):
    """Return what becomes of a trial.

    Look further along the arc, for the first time; look further at all; accept the trial; accept
    the best point of the arc; reject the trial.
    """
    falls = f <= f_old + ARMIJO * gs
    flat = (tl.abs(f - f_old) <= noise_of(f_old, T)) & (tl.abs(gs_trial) <= WOLFE * tl.abs(gs))
    moved = ss > 0.0  # or the step was lost to rounding
    good = (phase == SEARCH) & finite & moved & (falls | flat)
    expand_first = good & (trials == 0) & (gs_trial < WOLFE * gs) & (rho <= 0.0)
    better = (phase == EXPAND) & finite & (f < f_best)
    accept = ((phase == START) & finite) | (good & (expand_first == 0))
    from_best = (phase == EXPAND) & (better == 0)
    return expand_first, expand_first | better, accept, from_best, (phase == SEARCH) & (good == 0)


@triton.jit
def further(step, expand_first):
    """Return the step of the arc's next point."""
    return tl.where(expand_first, 1.0, step) * EXPANSION


@triton.jit
def is_last(gs_trial, gs, out, trials, far):
    """Tell whether the arc ends at the last trial; `trials` and `far` are the next one's."""
    return ((gs_trial < WOLFE * gs) == 0) | out | (trials > MOST_EXPANSIONS) | ((far > 0.0) == 0)


@triton.jit
def settle(
    verdict, point, finite, moved, constraint, before, ring, counts, tests, M: tl.constexpr
):  # fmt: skip
    """Return what acceptance or rejection of a trial does to a slot, and whether that stops it.

    `verdict`: start, accept, reject. `point`: f, s'y, s's, y'y and |P(x - g) - x| of the point to
    accept. `constraint`: loss, mu, rho, c |r|. `before`: f, |P(x - g) - x|, f when the window
    opened. `ring`: head, count, skips. `counts`: trials, evaluations, iterations. `tests`: the bits
    of three tolerances, the window, and whether no evaluation is left.

    Returned are whether the pair is kept, and whether the weight moves; the status, and whether the
    line search has failed; mu, and `before`, `ring`, `counts` as they are now, without evaluations.
    """
    start, accept, reject = verdict
    f_new, sy, ss, yy, pg = point
    loss, mu, rho, penalty = constraint
    f_old, pg_old, f_window = before
    head, count, skips = ring
    trials, evaluations, iterations = counts
    gradient_tolerance, relative_tolerance, stagnation_tolerance, stagnation_window, out = tests

    # Acceptance.
    bad_start = start & (finite == 0)
    stepped = accept & (start == 0)
    keep = stepped & curved(sy, ss, yy)
    new_weight = stepped & (rho > 0.0)
    mu = tl.where(new_weight, weight_of(loss, mu, rho), mu)
    f_kept = tl.where(new_weight, value_of(loss, mu, rho) + penalty, f_new)
    head = tl.where(keep, (head + 1) % M, head)
    count = tl.where(keep, tl.minimum(count + 1, M), count)
    skips = tl.where(stepped, tl.where(keep, 0, skips + 1), skips)
    count = tl.where(skips >= MOST_SKIPS, 0, count)
    skips = tl.where(skips >= MOST_SKIPS, 0, skips)
    iterations += stepped.to(tl.int32)
    f_now = tl.where(accept | bad_start, f_kept, f_old)
    pg_now = tl.where(accept, pg, tl.where(bad_start, float("nan"), pg_old))
    f_window = tl.where(start & finite, f_new, f_window)
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
    now, ring, counts = (f_now, pg_now, f_window), (head, count, skips), (trials, iterations)
    return keep, new_weight, status, failed, mu, now, ring, counts


@triton.jit
def steepest_scale(first, boxed, free_length):
    """Return the factor of -g where there are no pairs; a finite box bounds the step by itself."""
    rule = tl.where(boxed, 1.0, tl.minimum(1.0 / free_length, 1.0))
    return tl.where(first > 0.0, first, rule)


@triton.jit
def descends(slope, cut, share):
    """Tell whether g_F'd_F and g'(P(x + d) - x) descend; the first is 0 where nothing is free."""
    return (slope <= 0.0) & (cut < 0.0) & (cut <= share * slope)

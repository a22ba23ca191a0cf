"""`lbfgs_step` in plain PyTorch, composed of the other ops' references; masks instead of branches.

The phases are described at the top of ``csrc/cpu/lbfgs_step.hpp``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.norms import NORMS
from advkit.ops.lbfgs_step.state import Counter, Options, Phase, Scalar, State, Status, Vector
from advkit.ops.penalty.reference import free_set, projected_gradient_norm, smooth_part
from advkit.ops.two_loop.reference import curved, direction_and_use, pair_scale

__all__ = ["lbfgs_step"]

ARMIJO = 1e-4
WOLFE = 0.9
EXPANSION = 4.0
LEAST_SHARE = 0.1
MOST_EXPANSIONS = 10
MOST_TRIALS = 20
MOST_SKIPS = 2


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, dtype=torch.float64)


class _Rows:
    """The slots to advance, copied out of the state; `write` puts them back."""

    def __init__(self, state: State, slots: Tensor) -> None:
        n = state.trial.shape[1]
        self.state, self.slots, self.norm, self.options = state, slots, state.norm, state.options
        self.trial = state.trial[slots]
        self.vector = list(state.vectors[slots][:, :, :n].unbind(1))
        self.history = state.history[slots][..., :n]
        self.scalar = list(state.scalars[slots].unbind(1))
        self.counter = list(state.counters[slots].long().unbind(1))
        self.x0 = state.x0[slots] if len(state.x0) else None
        self.lower = state.lower if len(state.lower) == 1 else state.lower[slots]
        self.upper = state.upper if len(state.upper) == 1 else state.upper[slots]

    def write(self) -> None:
        n = self.trial.shape[1]
        self.state.trial[self.slots] = self.trial
        self.state.vectors[self.slots, :, :n] = torch.stack(self.vector, 1)
        self.state.history[self.slots, :, :, :n] = self.history
        self.state.scalars[self.slots] = torch.stack(self.scalar, 1)
        self.state.counters[self.slots] = torch.stack(self.counter, 1).int()

    def box(self) -> tuple[Tensor, Tensor]:
        """Return the box in which a step from x stays."""
        return smooth_part(
            self.norm, self.vector[Vector.X], self.x0, self.vector[Vector.G], self.lower, self.upper
        )


def _set(values: list[Tensor], which: int, mask: Tensor, new: Tensor | float) -> None:
    old = values[which]
    values[which] = torch.where(mask[:, None] if old.dim() == 2 else mask, new, old)


def _stop(rows: _Rows, mask: Tensor, status: Status) -> None:
    still = mask & (rows.counter[Counter.STATUS] == Status.RUNNING)
    _set(rows.counter, Counter.STATUS, still, int(status))


def lbfgs_step(state: State, loss: Tensor, g_loss: Tensor, slots: Tensor) -> None:
    """Advance slots by one evaluation; see `advkit.ops.lbfgs_step`."""
    rows = _Rows(state, slots)
    options, sc, ct = rows.options, rows.scalar, rows.counter
    x, g = rows.vector[Vector.X], rows.vector[Vector.G]
    running = ct[Counter.STATUS] == Status.RUNNING
    phase = ct[Counter.PHASE]
    start, search, expand = (running & (phase == p) for p in Phase)

    # The evaluation: f and g at the trial point, and what the decisions need of them.
    constrained = sc[Scalar.RHO] > 0
    f, g_trial = _objective(rows, loss, g_loss)
    low, high = rows.lower, rows.upper
    if rows.x0 is not None:
        _set(sc, Scalar.NORM, running, NORMS[rows.norm].value(rows.trial - rows.x0)[:, 0])
        low, high = smooth_part(rows.norm, rows.trial, rows.x0, g_trial, low, high)
    pg = projected_gradient_norm(rows.trial, g_trial, low, high)
    s, y = rows.trial - x, g_trial - g
    gs_trial, gs, sy, ss, yy = _dot(g_trial, s), _dot(g, s), _dot(y, s), _dot(s, s), _dot(y, y)
    _set(rows.vector, Vector.TRIAL_G, running, g_trial)
    ct[Counter.EVALUATIONS] = ct[Counter.EVALUATIONS] + running.long()
    out_of_evaluations = ct[Counter.EVALUATIONS] >= options.max_evaluations
    finite = f.isfinite() & torch.where(
        start, _dot(g_trial, g_trial).isfinite(), gs_trial.isfinite() & yy.isfinite()
    )

    # The decision.
    falls = f <= sc[Scalar.F] + ARMIJO * gs
    noise = 10 * torch.finfo(x.dtype).eps * sc[Scalar.F].abs().clamp(min=1)
    flat = ((f - sc[Scalar.F]).abs() <= noise) & (gs_trial.abs() <= WOLFE * gs.abs())
    lost = search & ~(ss > 0)  # the step was lost to rounding
    good = search & finite & ~lost & (falls | flat)
    expand_first = good & (ct[Counter.TRIALS] == 0) & (gs_trial < WOLFE * gs) & ~constrained
    expand_on = expand & finite & (f < sc[Scalar.F_BEST])
    expanding = expand_first | expand_on
    accept_best = expand & ~expand_on
    reject = search & ~good
    bad_start = start & ~finite
    accept_trial = (start & finite) | (good & ~expand_first)
    _set(sc, Scalar.F_WINDOW, start & finite, f)

    # Expansion: the trial is the best so far; look further along the arc.
    for column, value in (
        (Scalar.F_BEST, f),
        (Scalar.SY_BEST, sy),
        (Scalar.SS_BEST, ss),
        (Scalar.YY_BEST, yy),
        (Scalar.PG_BEST, pg),
        (Scalar.STEP, EXPANSION * torch.where(expand_first, 1.0, sc[Scalar.STEP])),
    ):
        _set(sc, column, expanding, value)
    _set(ct, Counter.PHASE, expanding, int(Phase.EXPAND))
    _set(ct, Counter.TRIALS, expanding, ct[Counter.TRIALS] + 1)
    _set(rows.vector, Vector.BEST, expanding, rows.trial)
    _set(rows.vector, Vector.BEST_G, expanding, g_trial)
    low, high = rows.box()
    further = (x + sc[Scalar.STEP].to(x.dtype)[:, None] * rows.vector[Vector.DIRECTION]).clamp(
        low, high
    )
    stuck = ~((further - rows.trial) != 0).any(dim=1)
    accept_best = accept_best | (
        expanding
        & (
            stuck
            | out_of_evaluations
            | (ct[Counter.TRIALS] > MOST_EXPANSIONS)
            | ~(gs_trial < WOLFE * gs)
        )
    )

    # Acceptance.
    point = torch.where(accept_best[:, None], rows.vector[Vector.BEST], rows.trial)
    point_g = torch.where(accept_best[:, None], rows.vector[Vector.BEST_G], g_trial)
    f_new, sy, ss, yy, pg = (
        torch.where(accept_best, sc[column], value)
        for column, value in (
            (Scalar.F_BEST, f),
            (Scalar.SY_BEST, sy),
            (Scalar.SS_BEST, ss),
            (Scalar.YY_BEST, yy),
            (Scalar.PG_BEST, pg),
        )
    )
    accept = accept_trial | accept_best
    rows.trial = torch.where(expanding[:, None], further, rows.trial)
    stepped = accept & ~start
    f_old = sc[Scalar.F]
    s, y = point - x, point_g - g
    if rows.history.dtype != x.dtype:
        scale = pair_scale(ss, yy).to(x.dtype)[:, None]
        s, y = scale * s, scale * y
    _push(rows, stepped & curved(sy, ss, yy), stepped, s, y)
    _set(sc, Scalar.MU, stepped & constrained, _weight(rows, loss))
    f_moved, g_moved = _objective(rows, loss, g_loss)
    f_kept = torch.where(stepped & constrained, f_moved, f_new)
    point_g = torch.where((stepped & constrained)[:, None], g_moved, point_g)
    moved = accept | bad_start
    _set(rows.vector, Vector.X, moved, point)
    _set(rows.vector, Vector.G, moved, point_g)
    _set(sc, Scalar.F, moved, f_kept)
    _set(sc, Scalar.PROJECTED_GRADIENT, accept, pg)
    _set(ct, Counter.PHASE, accept, int(Phase.SEARCH))
    _set(sc, Scalar.PROJECTED_GRADIENT, bad_start, torch.nan)
    _stop(rows, bad_start, Status.NON_FINITE)

    # The tests to stop.
    _stop(rows, accept & (pg <= options.gradient_tolerance), Status.GRADIENT)
    scale = torch.maximum(f_old.abs(), f_new.abs()).clamp(min=1)
    _stop(rows, stepped & (f_old - f_new <= options.relative_tolerance * scale), Status.RELATIVE_F)
    _stop(rows, reject & out_of_evaluations, Status.EVALUATIONS)
    asked = (stepped & (ct[Counter.STATUS] == Status.RUNNING)) | (reject & ~out_of_evaluations)
    _test_stagnation(rows, asked, options)
    _stop(rows, accept & out_of_evaluations, Status.EVALUATIONS)
    _set(ct, Counter.TRIALS, reject, ct[Counter.TRIALS] + 1)
    failed = reject & (ct[Counter.STATUS] == Status.RUNNING)
    failed = failed & (lost | (ct[Counter.TRIALS] >= MOST_TRIALS))
    _stop(rows, failed & (ct[Counter.COUNT] == 0) & finite, Status.STAGNATION)
    _stop(rows, failed & (ct[Counter.COUNT] == 0), Status.NON_FINITE)
    _set(ct, Counter.COUNT, failed, 0)

    # The next trial point.
    still = ct[Counter.STATUS] == Status.RUNNING
    _shrink(rows, still & reject & ~failed, finite, f, gs, gs_trial)
    _new_direction(rows, still & accept, still & failed)
    rows.write()


def _weight(rows: _Rows, loss: Tensor) -> Tensor:
    """Return the derivative, by the loss, of what stands for it in the objective (b,)."""
    mu, rho = rows.scalar[Scalar.MU], rows.scalar[Scalar.RHO]
    return torch.where(rho > 0, (mu + rho * loss.double()).clamp(min=0), 1.0)


def _objective(rows: _Rows, loss: Tensor, g_loss: Tensor) -> tuple[Tensor, Tensor]:
    """Return f (b,) and its gradient (b, n) at the trial points, with the present multipliers."""
    mu, rho = rows.scalar[Scalar.MU], rows.scalar[Scalar.RHO]
    weight = _weight(rows, loss)
    f = torch.where(rho > 0, (weight**2 - mu**2) / (2 * rho), loss.double())
    g = weight.to(g_loss.dtype)[:, None] * g_loss
    if rows.x0 is None:
        return f, g
    r, c = rows.trial - rows.x0, rows.scalar[Scalar.C]
    norm = NORMS[rows.norm]
    return f + c * norm.value(r)[:, 0], norm.gradient(r, g, c.to(r.dtype)[:, None])


def _push(rows: _Rows, keep: Tensor, stepped: Tensor, s: Tensor, y: Tensor) -> None:
    """Put pairs into the ring; two skipped in a row empty it."""
    ct = rows.counter
    m = rows.history.shape[1]
    place = keep[:, None] & (torch.arange(m, device=keep.device) == ct[Counter.HEAD][:, None])
    pair = torch.stack((s, y), 1)[:, None].to(rows.history.dtype)
    rows.history = torch.where(place[:, :, None, None], pair, rows.history)
    _set(ct, Counter.HEAD, keep, (ct[Counter.HEAD] + 1) % m)
    _set(ct, Counter.COUNT, keep, (ct[Counter.COUNT] + 1).clamp(max=m))
    _set(ct, Counter.SKIPS, stepped, torch.where(keep, 0, ct[Counter.SKIPS] + 1))
    empty = stepped & (ct[Counter.SKIPS] >= MOST_SKIPS)
    _set(ct, Counter.COUNT, empty, 0)
    _set(ct, Counter.SKIPS, empty, 0)
    _set(ct, Counter.ITERATIONS, stepped, ct[Counter.ITERATIONS] + 1)


def _test_stagnation(rows: _Rows, asked: Tensor, options: Options) -> None:
    f = rows.scalar[Scalar.F]
    due = asked & (rows.counter[Counter.EVALUATIONS] % options.stagnation_window == 0)
    fell = rows.scalar[Scalar.F_WINDOW] - f
    _set(rows.scalar, Scalar.F_WINDOW, due, f)
    _stop(
        rows, due & (fell <= options.stagnation_tolerance * f.abs().clamp(min=1)), Status.STAGNATION
    )


def _shrink(
    rows: _Rows, mask: Tensor, finite: Tensor, f: Tensor, gs: Tensor, gs_trial: Tensor
) -> None:
    """Go back along the segment to the cubic's minimiser (Nocedal & Wright 2006, equation 3.59)."""
    d1 = gs + gs_trial - 3 * (f - rows.scalar[Scalar.F])
    d2 = (d1 * d1 - gs * gs_trial).clamp(min=0).sqrt()
    part = 1 - (gs_trial + d2 - d1) / (gs_trial - gs + 2 * d2)
    part = torch.where(finite, part.nan_to_num(nan=0.1).clamp(0.1, 0.9), 0.1)
    _set(rows.scalar, Scalar.STEP, mask, rows.scalar[Scalar.STEP] * part)
    low, high = rows.box()
    x = rows.vector[Vector.X]
    p = (x + rows.vector[Vector.DIRECTION]).clamp(low, high) - x
    a = rows.scalar[Scalar.STEP].to(x.dtype)[:, None]
    rows.trial = torch.where(mask[:, None], (x + a * p).clamp(low, high), rows.trial)


def _new_direction(rows: _Rows, accepted: Tensor, restarted: Tensor) -> None:
    """Quasi-Newton on the free variables where that descends, else steepest descent, empty ring."""
    ct = rows.counter
    x, g = rows.vector[Vector.X], rows.vector[Vector.G]
    low, high = rows.box()
    free = free_set(x, g, low, high, rows.scalar[Scalar.PROJECTED_GRADIENT])
    S, Y = rows.history[:, :, 0], rows.history[:, :, 1]
    quasi, used = direction_and_use(g, S, Y, ct[Counter.HEAD], ct[Counter.COUNT], free)

    def descends(d: Tensor, share: float) -> tuple[Tensor, Tensor]:
        end = (x + d).clamp(low, high)
        slope, projected = _dot(torch.where(free, g, 0), d), _dot(g, end - x)
        return (slope <= 0) & (projected < 0) & (projected <= share * slope), end

    # A step that the box cuts to little of its descent runs into a corner.
    quasi_descends, quasi_end = descends(quasi, LEAST_SHARE)
    take_quasi = accepted & used & quasi_descends
    scale = (1 / torch.where(free, g, 0).abs().sum(1, dtype=torch.float64)).clamp(max=1).to(g.dtype)
    # A finite box bounds the first step by itself.
    scale = torch.where((high - low).isfinite().all(dim=1), 1, scale)
    first = rows.scalar[Scalar.FIRST_STEP]
    scale = torch.where(first > 0, first.to(g.dtype), scale)
    steepest = -g * scale[:, None]
    steepest_descends, steepest_end = descends(steepest, 0.0)
    take_steepest = (accepted & ~take_quasi) | restarted
    _set(ct, Counter.COUNT, accepted & used & ~quasi_descends, 0)
    _set(rows.vector, Vector.DIRECTION, take_quasi, quasi)
    _set(rows.vector, Vector.DIRECTION, take_steepest, steepest)
    rows.trial = torch.where(take_quasi[:, None], quasi_end, rows.trial)
    rows.trial = torch.where(take_steepest[:, None], steepest_end, rows.trial)
    _set(rows.scalar, Scalar.STEP, take_quasi | take_steepest, 1.0)
    _set(ct, Counter.TRIALS, take_quasi | take_steepest, 0)
    _stop(rows, take_steepest & ~steepest_descends, Status.STAGNATION)

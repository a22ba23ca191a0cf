"""The columns of the state and of the split form's workspace, as Triton constants."""

from __future__ import annotations

import triton.language as tl

from advkit.ops.lbfgs_step.state import Counter, Phase, Scalar, Status, Vector

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

# The split form's workspace. What each tile leaves: for `decide`, which puts the totals as far as
# MOST among the slot's numbers; for `settle`, `solve` and `judge`.
R_SUM, GG, GS_TRIAL, GS, SY, SS, YY, MOST, FAR, G_FREE, WIDEST, SLOPE, CUT = (
    tl.constexpr(k) for k in range(13)
)
PARTS = tl.constexpr(13)
# The slot's other numbers: f and |r| at the trial, the arc's next step; the weight of the loss's
# gradient after the trial; what a pair in 16 bits is stored with; the factor of -g.
VALUE, LENGTH, FURTHER, WEIGHT, PAIR_SCALE, SCALE = (
    tl.constexpr(MOST.value + 1 + k) for k in range(6)
)
NUMBERS = tl.constexpr(SCALE.value + 1)
# What the next launches do for it, and the pair's place.
EXPANDS, MOVES, FROM_BEST, KEEPS, PLACE, REWEIGHS, SHRINKS, AIMS, QUASI = (
    tl.constexpr(k) for k in range(9)
)
FLAGS = tl.constexpr(9)

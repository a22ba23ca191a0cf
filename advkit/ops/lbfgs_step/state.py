"""The state of the batched solver: slots of independent problems, each somewhere in its own run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from advkit._rows import put, take
from advkit.norms import NORMS
from advkit.ops._check import (
    as_bound,
    check_choice,
    check_count,
    check_history_dtype,
    check_tensor,
    check_vector,
)

__all__ = ["Counter", "Options", "Phase", "Scalar", "State", "Status", "Vector", "init"]


class Status(IntEnum):
    """Why a problem stopped, or that it has not."""

    RUNNING = 0
    GRADIENT = 1  #: the projected gradient is within its tolerance
    RELATIVE_F = 2  #: one step lowered f by too little
    STAGNATION = (
        3  #: f has not fallen enough over a window of evaluations, or no step lowers it any more
    )
    EVALUATIONS = 4  #: the budget is spent
    NON_FINITE = 5  #: nan or inf at the start, or wherever the line search looked


class Phase(IntEnum):
    """What the trial point is for; see ``csrc/cpu/lbfgs_step.hpp``."""

    START = 0
    SEARCH = 1
    EXPAND = 2


# The columns below are those of csrc/include/advkit/params.hpp.
class Scalar(IntEnum):
    """Columns of `State.scalars`."""

    F = 0
    STEP = 1
    PROJECTED_GRADIENT = 2
    F_WINDOW = 3
    F_BEST = 4
    SY_BEST = 5
    SS_BEST = 6
    YY_BEST = 7
    PG_BEST = 8
    C = 9
    NORM = 10
    MU = 11
    RHO = 12
    FIRST_STEP = 13


class Counter(IntEnum):
    """Columns of `State.counters`."""

    STATUS = 0
    PHASE = 1
    COUNT = 2
    HEAD = 3
    SKIPS = 4
    TRIALS = 5
    EVALUATIONS = 6
    ITERATIONS = 7


class Vector(IntEnum):
    """Rows of `State.vectors`."""

    X = 0
    G = 1
    TRIAL_G = 2
    DIRECTION = 3
    BEST = 4
    BEST_G = 5


@dataclass(frozen=True)
class Options:
    """When a problem stops.

    Parameters
    ----------
    gradient_tolerance : float
        Stop when max_i |P(x - g) - x|_i is at most this.
    relative_tolerance : float
        Stop when an accepted step lowered f by at most this times max(1, |f|). Negative: never.
    stagnation_tolerance : float
        Stop when `stagnation_window` evaluations lowered f by at most this times max(1, |f|).
        Negative: never.
    stagnation_window : int
        In evaluations.
    max_evaluations : int
        Of each problem.
    """

    gradient_tolerance: float = 1e-5
    relative_tolerance: float = 1e-9
    stagnation_tolerance: float = 1e-9
    stagnation_window: int = 20
    max_evaluations: int = 500

    def __post_init__(self) -> None:
        """Check the two that are counts."""
        for name in ("stagnation_window", "max_evaluations"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        for name in ("gradient_tolerance", "relative_tolerance", "stagnation_tolerance"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or value != value:
                raise ValueError(f"{name} must be a number, got {value!r}")


@dataclass(frozen=True)
class State:
    """T slots, one problem of n values each; made by `init`, advanced by `lbfgs_step`.

    Parameters
    ----------
    trial : Tensor (T, n)
        The points to evaluate next, always inside the box.
    vectors : Tensor (T, len(Vector), ld)
        Rows named by `Vector`, padded to ld >= n.
    history : Tensor (T, m, 2, ld)
        The ring of pairs, s and y side by side; in 16 bits both times a power of two, see
        `init`.
    scalars : Tensor (T, len(Scalar)) of float64
        Columns named by `Scalar`.
    counters : Tensor (T, len(Counter)) of int32
        Columns named by `Counter`.
    x0 : Tensor (T, n)
        Where the penalty is zero; empty for ``norm="none"``.
    lower, upper : Tensor (1 or T, 1 or n)
        The box.
    norm : str
        Key of `advkit.norms.NORMS`.
    options : Options
        When to stop.
    """

    trial: Tensor
    vectors: Tensor
    history: Tensor
    scalars: Tensor
    counters: Tensor
    x0: Tensor
    lower: Tensor
    upper: Tensor
    norm: str
    options: Options

    @property
    def x(self) -> Tensor:
        """The accepted points (T, n)."""
        return self.vectors[:, Vector.X, : self.trial.shape[1]]

    @property
    def status(self) -> Tensor:
        """Of each slot (T,), as `Status`."""
        return self.counters[:, Counter.STATUS]

    def load(
        self,
        slots: Tensor,
        start: Tensor,
        *,
        x0: Tensor | None = None,
        c: Tensor | float | None = None,
        mu: Tensor | float = 0.0,
        rho: Tensor | float = 0.0,
        first_step: Tensor | float = 0.0,
        lower: Tensor | None = None,
        upper: Tensor | None = None,
        where: Tensor | None = None,
    ) -> None:
        """Put new problems into slots: nothing of the old ones stays but what is not given here.

        Parameters
        ----------
        slots : Tensor (k,) of int64
            Which slots, all different.
        start : Tensor (k, n)
            Where to start; moved into the box.
        x0 : Tensor (k, n), optional
            Where the penalty is zero.
        c : Tensor (k,) or float, optional
            Its weight.
        mu, rho : Tensor (k,) or float
            With rho > 0 the loss is a constraint, loss <= 0: its place in the objective is taken by
            ``(max(0, mu + rho loss)^2 - mu^2) / (2 rho)``, and the multiplier mu moves at every
            accepted point (Nocedal & Wright 2006, section 17.4).
        first_step : Tensor (k,) or float
            Factor of the negative gradient that makes the step where there are no pairs; 0: 1 in a
            finite box, else at most 1 / |g|_1.
        lower, upper : Tensor (k, 1 or n), optional
            The box, if each slot has its own.
        where : Tensor (k,) of bool, optional
            Which of these slots, where the host would have to wait for their number; the others
            stay as they are.
        """
        for mine, new in ((self.x0, x0), (self.lower, lower), (self.upper, upper)):
            if new is not None:
                put(mine, slots, new, where)
        one = len(self.lower) == 1, len(self.upper) == 1
        low = self.lower if one[0] else take(self.lower, slots)
        high = self.upper if one[1] else take(self.upper, slots)
        put(self.trial, slots, torch.clamp(start, low, high), where)
        scalars = self.scalars.new_zeros(len(slots), len(Scalar))
        scalars[:, Scalar.C] = self.scalars[slots, Scalar.C] if c is None else c
        scalars[:, Scalar.MU], scalars[:, Scalar.RHO] = mu, rho
        scalars[:, Scalar.FIRST_STEP] = first_step
        put(self.scalars, slots, scalars, where)
        put(self.counters, slots, 0, where)


def init(
    start: Tensor,
    *,
    lower: float | Tensor = -torch.inf,
    upper: float | Tensor = torch.inf,
    history: int = 10,
    history_dtype: torch.dtype | None = None,
    norm: str = "none",
    x0: Tensor | None = None,
    c: Tensor | None = None,
    options: Options | None = None,
) -> State:
    """Make a state whose trial points are the starting points.

    Parameters
    ----------
    start : Tensor (T, n)
        Starting points, moved into the box. float32 or float64 (or any floating dtype on the
        reference backend).
    lower, upper : float or Tensor
        The box; anything that broadcasts to (T, n).
    history : int
        Number of pairs m.
    history_dtype : torch.dtype, optional
        What pairs are stored in: by default the values' dtype; torch.bfloat16 or torch.float16 with
        values of float32. An s and its y are then multiplied by one power of two, which brings them
        into float16's range and does not change H; whether the pair is kept is decided before it is
        rounded, whether it is used after.
    norm : str
        Penalty fused into each step, ``"none"`` by default.
    x0 : Tensor (T, n), optional
        Where the penalty is zero; needed unless ``norm="none"``.
    c : Tensor (T,), optional
        Its weight, 1 by default.
    options : Options, optional
        When to stop.

    Returns
    -------
    State
    """
    check_tensor("start", start, shape=(None, None))
    slots, n = start.shape
    check_choice("norm", norm, NORMS)
    check_count("history", history)
    check_history_dtype(history_dtype, start.dtype)
    low, high = as_bound("lower", lower, start), as_bound("upper", upper, start)
    if norm != "none":
        if x0 is None:
            raise ValueError(f"x0 must be given with norm={norm!r}")
        check_tensor("x0", x0, shape=(slots, n), like=start)
    if c is not None:
        kind = c.dtype if isinstance(c, Tensor) else None
        check_vector("c", c, size=slots, like=start, dtype=kind)
    stored = history_dtype or start.dtype
    line = 64 // min(start.dtype.itemsize, stored.itemsize)
    ld = max(1, -(-n // line)) * line
    state = State(
        trial=start.new_empty(slots, n),
        vectors=start.new_zeros(slots, len(Vector), ld),
        history=start.new_zeros(slots, history, 2, ld, dtype=stored),
        scalars=start.new_zeros(slots, len(Scalar), dtype=torch.float64),
        counters=start.new_zeros(slots, len(Counter), dtype=torch.int32),
        x0=start.new_empty(0, n) if x0 is None or norm == "none" else x0.clone(),
        lower=low,
        upper=high,
        norm=norm,
        options=options or Options(),
    )
    every = torch.arange(slots, device=start.device)
    state.load(every, start, c=1.0 if c is None else c)
    return state

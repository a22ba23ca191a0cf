"""Batched, box-constrained L-BFGS: many independent problems, one evaluation of each per round."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advkit._progress import progress_bar
from advkit.ops import use_backend
from advkit.ops._check import (
    as_bound,
    as_rows,
    check_count,
    check_history_dtype,
    check_tensor,
    check_vector,
)
from advkit.ops.lbfgs_step import Options, State, advance_slots, init
from advkit.ops.lbfgs_step.state import Counter, Scalar
from advkit.optim.result import MinimizeResult, Round
from advkit.optim.tiles import Tile, default_tile

__all__ = ["minimize"]


def minimize(
    value_and_grad: Callable[..., tuple[Tensor, Tensor]],
    x0: Tensor,
    lower: float | Tensor = -torch.inf,
    upper: float | Tensor = torch.inf,
    *,
    history: int = 10,
    history_dtype: torch.dtype | None = None,
    max_evaluations: int = 500,
    gradient_tolerance: float = 1e-5,
    relative_tolerance: float | None = None,
    stagnation_tolerance: float | None = None,
    stagnation_window: int = 20,
    pass_index: bool = False,
    callback: Callable[[Round], None] | None = None,
    progress: bool = False,
    tile: int | None = None,
    backend: str | None = None,
) -> MinimizeResult:
    """Minimise B functions over boxes at once, each with its own history, line search and stop.

    L-BFGS on the free variables of an epsilon-active set (Bertsekas 1982), two-loop recursion on
    masked pairs, search along the projected segment. Each round asks for one evaluation of every
    problem still running; no problem waits for another, and none of its digits depends on the
    others, on `tile` or on the number of threads.

    Parameters
    ----------
    value_and_grad : callable
        x (b, *shape) -> value (b,), gradient (b, *shape), in x0's dtype. b shrinks as problems
        finish, on a GPU up to seven rounds later; a function whose rows differ takes a second
        argument, see `pass_index`.
    x0 : Tensor (B, *shape)
        Starting points, moved into the box. float32 or float64.
    lower, upper : float or Tensor
        The box; anything that broadcasts to x0's shape. Infinities and lower == upper are allowed.
    history : int
        Number of pairs m.
    history_dtype : torch.dtype, optional
        What pairs are stored in: torch.bfloat16 or torch.float16 with x0 of float32, which halves
        the history; by default x0's dtype.
    max_evaluations : int
        Of each problem.
    gradient_tolerance : float
        Stop when max_i |P(x - g) - x|_i is at most this.
    relative_tolerance : float, optional
        Stop when an accepted step lowered f by at most this times max(1, |f|); by default 1e-9 in
        float64, 1e-7 in float32. Negative: never.
    stagnation_tolerance : float, optional
        The same over `stagnation_window` evaluations, for functions with kinks, whose gradient
        never gets small; by default as `relative_tolerance`. Negative: never.
    stagnation_window : int
        In evaluations.
    pass_index : bool
        Call value_and_grad(x, index) with the rows of x0 (b,) of int64 that x belongs to.
    callback : callable, optional
        Called with a `Round` after every round. If it raises StopIteration, the run ends; problems
        that were still running keep ``Status.RUNNING``.
    progress : bool
        Show a bar of finished problems (needs rich).
    tile : int, optional
        How many problems are carried at once; by default as many as 256 MiB holds, at most 1,024.
        Memory does not grow with B beyond inputs and outputs.
    backend : {"cpu", "triton", "cuda", "reference"}, optional
        By default the fastest that can serve x0.

    Returns
    -------
    MinimizeResult

    Raises
    ------
    TypeError, ValueError
        For bad arguments, or if value_and_grad returns the wrong shape or dtype; the message names
        what.
    """
    if not isinstance(x0, Tensor):
        raise TypeError(f"x0 must be a torch.Tensor, got {type(x0).__name__}")
    if x0.dim() < 1:
        raise ValueError("x0 must have a batch dimension: shape (B, *shape)")
    if 0 in x0.shape[1:]:
        raise ValueError(f"x0 must have values in each problem, got shape {tuple(x0.shape)}")
    if not x0.is_floating_point():
        raise TypeError(f"x0 must have a floating dtype, got {x0.dtype}; use x0.float()")
    if not callable(value_and_grad):
        raise TypeError(f"value_and_grad must be callable, got {type(value_and_grad).__name__}")
    if not x0.isfinite().all():
        raise ValueError("x0 must be finite, got nan or inf")
    small = 1e-9 if x0.dtype == torch.float64 else 1e-7
    relative = small if relative_tolerance is None else relative_tolerance
    options = Options(
        gradient_tolerance=gradient_tolerance,
        relative_tolerance=relative,
        stagnation_tolerance=relative if stagnation_tolerance is None else stagnation_tolerance,
        stagnation_window=stagnation_window,
        max_evaluations=max_evaluations,
    )
    rows, shape = len(x0), x0.shape[1:]
    start = x0.detach().reshape(rows, shape.numel()).contiguous()
    low, high = _flat_bound("lower", lower, x0, start), _flat_bound("upper", upper, x0, start)
    crossed = (low > high).any() | low.isnan().any() | high.isnan().any()
    if crossed:
        raise ValueError("lower must be at most upper everywhere, and neither may be nan")
    if (low == torch.inf).any() or (high == -torch.inf).any():
        raise ValueError("lower must be less than inf, and upper more than -inf")
    check_count("history", history)
    check_history_dtype(history_dtype, x0.dtype)
    if tile is not None:
        check_count("tile", tile)
    n = start.shape[1]
    size = min(rows, tile) if tile else default_tile(rows, n, history, start.element_size())

    def first(bound: Tensor) -> Tensor:
        return bound if len(bound) == 1 else bound[:size].clone()

    def these(bound: Tensor, index: Tensor) -> Tensor | None:
        return None if len(bound) == 1 else bound[index]

    with (
        use_backend(backend),
        torch.inference_mode(False),  # else value_and_grad could not differentiate x
        torch.no_grad(),
        progress_bar(progress, "minimize", rows) as advance,
    ):
        out = _empty_result(start.clamp(low, high))
        slots = Tile(
            init(
                start[:size],
                lower=first(low),
                upper=first(high),
                history=history,
                history_dtype=history_dtype,
                options=options,
            ),
            rows,
            max_evaluations,
            every=None if callback is None else 1,  # it is told of no problem that is finished
        )
        while len(slots.active):
            x = slots.trial()
            value, gradient = _evaluate(value_and_grad, x.view(-1, *shape), slots.index, pass_index)
            advance_slots(slots.state, value, gradient, slots.active)
            try:
                if callback is not None:
                    callback(
                        Round(
                            slots.index.clone(),
                            x.view(-1, *shape),
                            value,
                            gradient.view(-1, *shape),
                        )
                    )
            except StopIteration:
                _collect(out, slots.state, slots.active, slots.index)
                break
            if slots.counts():
                slots.finished = slots.stopped()
                done = slots.finished.nonzero()[:, 0]
                if len(done) == 0:
                    continue
                _collect(out, slots.state, slots.active[done], slots.index[done])
                advance(len(done))
                free, index = slots.replace()
                if len(index):
                    slots.state.load(
                        free, start[index], lower=these(low, index), upper=these(high, index)
                    )
    return MinimizeResult(
        out.x.view(rows, *shape),
        out.value,
        out.gradient_norm,
        out.status,
        out.evaluations,
        out.iterations,
    )


def _flat_bound(name: str, value: float | Tensor, x0: Tensor, start: Tensor) -> Tensor:
    """Bring a bound on x0 (B, *shape) to a bound on its rows."""
    if isinstance(value, Tensor):
        value = value.detach()
    if isinstance(value, Tensor) and value.dim() > 0:
        value = as_rows(name, value, x0, "x0")
    return as_bound(name, value, start)


def _evaluate(
    value_and_grad: Callable[..., tuple[Tensor, Tensor]], x: Tensor, index: Tensor, pass_index: bool
) -> tuple[Tensor, Tensor]:
    """Call the user's function and check what it returns."""
    with torch.enable_grad():
        # A copy: what the user does to x or keeps of it is no longer ours.
        answer = (
            value_and_grad(x.clone(), index.clone()) if pass_index else value_and_grad(x.clone())
        )
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError("value_and_grad must return a tuple (value, gradient)")
    value, gradient = answer
    if isinstance(value, Tensor):
        value = value.detach().contiguous()
    check_vector("value_and_grad's value", value, size=len(x), like=x)
    if not isinstance(gradient, Tensor) or gradient.shape != x.shape:
        got = tuple(gradient.shape) if isinstance(gradient, Tensor) else type(gradient).__name__
        raise ValueError(f"value_and_grad's gradient must have shape {tuple(x.shape)}, got {got}")
    flat = gradient.detach().reshape(len(x), -1).contiguous()
    check_tensor("value_and_grad's gradient", flat, shape=(len(x), None), like=x)
    return value, flat


def _empty_result(start: Tensor) -> MinimizeResult:
    def zeros(dtype: torch.dtype) -> Tensor:
        return start.new_zeros(len(start), dtype=dtype)

    return MinimizeResult(
        start.clone(),
        zeros(torch.float64).fill_(torch.nan),
        zeros(torch.float64).fill_(torch.nan),
        zeros(torch.int8),
        zeros(torch.int64),
        zeros(torch.int64),
    )


def _collect(out: MinimizeResult, state: State, slots: Tensor, index: Tensor) -> None:
    """Copy the results of finished slots to their problems' places."""
    out.x[index] = state.x[slots]
    out.value[index] = state.scalars[slots, Scalar.F]
    out.gradient_norm[index] = state.scalars[slots, Scalar.PROJECTED_GRADIENT]
    out.status[index] = state.status[slots].to(torch.int8)
    out.evaluations[index] = state.counters[slots, Counter.EVALUATIONS].long()
    out.iterations[index] = state.counters[slots, Counter.ITERATIONS].long()

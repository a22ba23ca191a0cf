"""One evaluation of every image, from its loss to its next trial point: the solver in one call."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.ops import _dispatch
from advkit.ops._check import check_tensor, check_vector, stored_dtype
from advkit.ops.lbfgs_step import reference
from advkit.ops.lbfgs_step.state import Counter, Options, Scalar, State, Status, Vector, init

__all__ = ["Options", "State", "Status", "init", "lbfgs_step"]


def lbfgs_step(state: State, loss: Tensor, g_loss: Tensor, slots: Tensor | None = None) -> None:
    """Advance each slot by the evaluation of its trial point, in place.

    Assembles f = c |x - x0| + loss and its gradient (of a slot with rho > 0 the loss is a
    constraint, see `State.load`); accepts, shrinks or expands the step; stores the pair (s, y) if
    s'y > 1e-8 |s| |y|; applies the tests to stop; and sets the next trial point P(x - H g), with H
    on the free variables. Slots that have stopped are left alone, so a batch may still hold them.

    Parameters
    ----------
    state : State
        From `init`.
    loss : Tensor (b,)
        Loss at ``state.trial[slots]``.
    g_loss : Tensor (b, n)
        Its gradient.
    slots : Tensor (b,) of int64, optional
        Which slot each row belongs to, all different; by default all T in order.

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype, shape or device; the message names the argument. On a GPU, a row whose
        slot there is not is left out.
    """
    trial = state.trial
    count, n = trial.shape
    if slots is None:
        slots = torch.arange(count, device=trial.device)
    check_tensor("slots", slots, shape=(None,), like=trial, dtype=torch.int64)
    check_vector("loss", loss, size=len(slots), like=trial)
    check_tensor("g_loss", g_loss, shape=(len(slots), n), like=trial)
    _check_state(state)
    advance_slots(state, loss, g_loss, slots)


def _check_state(state: State) -> None:
    """Guard against tensors of the state that were resized or replaced behind its back."""
    trial = check_tensor("state.trial", state.trial, shape=(None, None))
    slots, n = trial.shape
    history = check_tensor(
        "state.history",
        state.history,
        shape=(slots, None, 2, None),
        like=trial,
        dtype=stored_dtype(state.history, trial),
    )
    m, ld = history.shape[1], history.shape[3]
    if m < 1 or ld < n:
        raise ValueError(
            f"state.history must have room for a pair, got shape {tuple(history.shape)}"
        )
    penalised = 0 if state.norm == "none" else slots
    for name, tensor, shape, dtype in (
        ("state.vectors", state.vectors, (slots, len(Vector), ld), trial.dtype),
        ("state.scalars", state.scalars, (slots, len(Scalar)), torch.float64),
        ("state.counters", state.counters, (slots, len(Counter)), torch.int32),
        ("state.x0", state.x0, (penalised, n), trial.dtype),
    ):
        check_tensor(name, tensor, shape=shape, like=trial, dtype=dtype)
    for name in ("trial", "history", "vectors", "scalars", "counters", "x0"):
        if not getattr(state, name).is_contiguous():
            raise ValueError(f"state.{name} must be contiguous; make the state with init()")
    for name, bound in (("state.lower", state.lower), ("state.upper", state.upper)):
        check_tensor(name, bound, shape=(None, None), like=trial)
        if bound.shape[0] not in (1, slots) or bound.shape[1] not in (1, n):
            raise ValueError(
                f"{name} must have shape (1 or {slots}, 1 or {n}), got {tuple(bound.shape)}"
            )


def advance_slots(state: State, loss: Tensor, g_loss: Tensor, slots: Tensor) -> None:
    """Do what `lbfgs_step` does, for callers that have checked what users gave them."""
    backend = _dispatch.choose(state.trial)
    if backend != "cpu" and slots.device.type == "cpu" and len(slots):
        least, most = slots.aminmax()
        if least < 0 or most >= len(state.trial):
            raise ValueError(f"slots must lie in 0 ... {len(state.trial) - 1}")
    if backend != "reference":
        _dispatch.kernels("lbfgs_step", backend).lbfgs_step(state, loss, g_loss, slots)
        return
    reference.lbfgs_step(state, loss, g_loss, slots)


def compute(
    loss: Tensor,
    g_loss: Tensor,
    slots: Tensor,
    trial: Tensor,
    vectors: Tensor,
    history: Tensor,
    scalars: Tensor,
    counters: Tensor,
    x0: Tensor,
    lower: Tensor,
    upper: Tensor,
    norm: str,
    tolerances: list[float],
    stagnation_window: int,
    max_evaluations: int,
) -> None:
    """Serve ``torch.ops.advkit.lbfgs_step``, the state taken apart into tensors."""
    gradient, relative, stagnation = tolerances
    options = Options(gradient, relative, stagnation, stagnation_window, max_evaluations)
    state = State(trial, vectors, history, scalars, counters, x0, lower, upper, norm, options)
    lbfgs_step(state, loss, g_loss, slots)

"""`lbfgs_step` in the module of CUDA kernels: addresses and strides of a checked state."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from advkit.norms import NORMS
from advkit.ops._check import row_stride, suffix
from advkit.ops._cuda import bound_at, cuda, run, shared_memory, workspace
from advkit.ops.lbfgs_step.state import State

__all__ = ["lbfgs_step", "prepare"]


def lbfgs_step(state: State, loss: Tensor, g_loss: Tensor, slots: Tensor) -> None:
    """Advance slots by one evaluation; see `advkit.ops.lbfgs_step`.

    The history may be float16 or bfloat16 where all else is float32. Slots outside of the state are
    skipped; a ring of pairs that points outside of the history is emptied.
    """
    limit = shared_memory(g_loss.device)
    size = (*g_loss.shape, state.history.shape[1], g_loss.element_size(), limit)
    space = workspace(g_loss, cuda().workspace_lbfgs_step(*size))
    run(prepare(state, loss, g_loss, slots, space, limit), g_loss.device)


def prepare(
    state: State, loss: Tensor, g_loss: Tensor, slots: Tensor, space: Tensor, limit: int
) -> Any:
    """Return the launches of the op; `space` is its workspace, `limit` a block's shared memory."""
    o = state.options
    m, ld = state.history.shape[1], state.history.shape[3]
    return getattr(cuda(), f"lbfgs_step_{suffix(state.trial, state.history)}")(
        *(*g_loss.shape, m, state.trial.shape[0], slots.data_ptr(), loss.data_ptr()),
        *(g_loss.data_ptr(), row_stride(g_loss), state.trial.data_ptr(), state.trial.stride(0)),
        *(state.vectors.data_ptr(), state.history.data_ptr(), ld),
        *(state.scalars.data_ptr(), state.counters.data_ptr()),
        *(state.x0.data_ptr(), state.trial.shape[1]),
        *(bound_at(state.lower), bound_at(state.upper), NORMS[state.norm].kernel_id),
        *(o.gradient_tolerance, o.relative_tolerance, o.stagnation_tolerance),
        *(o.stagnation_window, o.max_evaluations, space.data_ptr(), limit),
    )

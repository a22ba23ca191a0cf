"""`lbfgs_step` in the compiled module: addresses and strides of a checked state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advkit.norms import NORMS
from advkit.ops._check import row_stride, suffix
from advkit.ops._dispatch import native
from advkit.ops.lbfgs_step.state import State
from advkit.ops.penalty.kernel_native import bound_at

__all__ = ["arguments", "lbfgs_step"]


def lbfgs_step(state: State, loss: Tensor, g_loss: Tensor, slots: Tensor) -> None:
    """Advance slots by one evaluation; see `advkit.ops.lbfgs_step`."""
    run = getattr(native(), f"lbfgs_step_{suffix(state.trial, state.history)}")
    run(*arguments(state, loss, g_loss, slots))


def arguments(state: State, loss: Tensor, g_loss: Tensor, slots: Tensor) -> tuple[Any, ...]:
    """Return what the compiled function takes."""
    o = state.options
    return (
        *(
            g_loss.shape[0],
            g_loss.shape[1],
            state.history.shape[1],
            state.trial.shape[0],
            slots.data_ptr(),
        ),
        *(
            loss.data_ptr(),
            g_loss.data_ptr(),
            row_stride(g_loss),
            state.trial.data_ptr(),
            state.trial.stride(0),
        ),
        *(state.vectors.data_ptr(), state.history.data_ptr(), state.history.shape[3]),
        *(
            state.scalars.data_ptr(),
            state.counters.data_ptr(),
            state.x0.data_ptr(),
            state.trial.shape[1],
        ),
        *(bound_at(state.lower), bound_at(state.upper), NORMS[state.norm].kernel_id),
        *(o.gradient_tolerance, o.relative_tolerance, o.stagnation_tolerance, o.stagnation_window),
        *(o.max_evaluations, torch.get_num_threads()),
    )

"""`lbfgs_step` in Triton on long rows, which are cut into tiles: ten launches, eleven for L2.

What one program does between two sums in ``kernel_triton.py`` is a launch here, each of which does
for every slot what the last decision asks for, and nothing for the others; the host reads nothing:

    norms      for L2, whose gradient has to know them: |r|^2 and |g_loss|^2
    evaluate   the gradient at the trial, and what the decisions need of it
    decide     look further along the arc, or not; every slot
    extend     the arc's next point
    settle     accept or reject, stop or go on; every slot
    move       x moves, the pair enters the ring, or the step is shortened; free or not, Gram matrix
    solve      the factors of the pairs, the scale of the steepest descent; every slot
    aim        the direction and the trial point
    judge      whether they descend; every slot
    aim, judge again, by the steepest descent, where they did not

Sums of tiles, numbers and flags of a row meet in a workspace.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from advkit.norms import NORMS
from advkit.ops._check import row_stride
from advkit.ops._triton.box import bound_arguments
from advkit.ops._triton.launch import ROW_WARPS, as_bits, cut_for, launch, workspace
from advkit.ops.lbfgs_step.columns_triton import FLAGS, NUMBERS, PARTS
from advkit.ops.lbfgs_step.kernel_triton_slots import (
    step_decide_kernel,
    step_judge_kernel,
    step_settle_kernel,
    step_solve_kernel,
)
from advkit.ops.lbfgs_step.kernel_triton_tiles import (
    step_aim_kernel,
    step_evaluate_kernel,
    step_extend_kernel,
    step_move_kernel,
    step_norms_kernel,
)
from advkit.ops.lbfgs_step.state import State
from advkit.ops.two_loop.kernel_triton_split import gram_entries

__all__ = ["lbfgs_step_split"]


def lbfgs_step_split(state: State, loss: Tensor, g_loss: Tensor, slots: Tensor) -> None:
    """Advance slots by one evaluation; see `advkit.ops.lbfgs_step`."""
    trial, vectors, history, o = state.trial, state.vectors, state.history, state.options
    scalars, counters, x0 = state.scalars, state.counters, state.x0 if len(state.x0) else trial
    count, n = trial.shape
    rows, m, ld, norm = len(slots), history.shape[1], history.shape[3], NORMS[state.norm].kernel_id
    cut = cut_for(n, trial.element_size())
    tiles, device = cut.tiles, trial.device
    parts = workspace(trial, rows, PARTS.value, tiles)
    numbers = workspace(trial, rows, NUMBERS.value)
    flags = torch.empty(rows, FLAGS.value, dtype=torch.int32, device=device)
    gram_parts = workspace(trial, rows, tiles, gram_entries(m))
    gram, by_pair = workspace(trial, rows, gram_entries(m)), workspace(trial, rows, 2 * m + 1)

    bounds, each = bound_arguments(state.lower, state.upper)
    rates = g_loss, row_stride(g_loss)
    slot, columns, left = (slots, count), (scalars, counters), (parts, numbers, flags)
    tolerances = o.gradient_tolerance, o.relative_tolerance, o.stagnation_tolerance
    tests = (*(as_bits(t) for t in tolerances), o.stagnation_window, o.max_evaluations)
    by_tile = {"NORM": norm, "BLOCK": cut.block, "num_warps": cut.warps}
    boxed = {**by_tile, **each}
    grid, each_row, by_row = (rows, tiles), (rows,), {"num_warps": ROW_WARPS}
    if state.norm == "l2":
        launch(
            step_norms_kernel, grid, device, *slot, *rates, trial, counters, x0, parts, n, **by_tile
        )
    launch(
        step_evaluate_kernel, grid, device, *slot, loss, *rates, trial, vectors, ld, *columns, x0,
        *bounds, parts, n, **boxed,
    )  # fmt: skip
    launch(
        step_decide_kernel, each_row, device, *slot, loss, trial, *columns, *left, tiles,
        NORM=norm, **by_row,
    )  # fmt: skip
    launch(
        step_extend_kernel, grid, device, slots, trial, vectors, ld, x0, *bounds, *left, n, **boxed
    )
    launch(
        step_settle_kernel, each_row, device, *slot, loss, trial, *columns, *left, tiles, *tests,
        M=m, **by_row,
    )  # fmt: skip
    launch(
        step_move_kernel, grid, device, slots, *rates, trial, vectors, history, ld, *columns, x0,
        *bounds, *left, gram_parts, n, M=m, **boxed,
    )  # fmt: skip
    launch(
        step_solve_kernel, each_row, device, slots, trial, *columns, *left, gram_parts, gram,
        by_pair, tiles, M=m, PLACES=triton.next_power_of_2(m), **by_row,
    )  # fmt: skip
    for _ in range(2):
        launch(
            step_aim_kernel, grid, device, slots, trial, vectors, history, ld, *columns, x0,
            *bounds, *left, by_pair, n, M=m, **boxed,
        )  # fmt: skip
        launch(step_judge_kernel, each_row, device, slots, *columns, parts, flags, tiles, **by_row)

"""A round of legs in the compiled module: everything between two evaluations in one call.

In PyTorch a round is some 80 small operations, which cost more than the network does where it is
small or the images are few. `LegSearch` (`advkit.attack.legs`) is the definition.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from advkit.ops._check import row_stride, suffix
from advkit.ops._dispatch import native
from advkit.ops.lbfgs_step.kernel_native import arguments
from advkit.ops.penalty.kernel_native import bound_at
from advkit.optim.tiles import Tile

__all__ = ["LegRound"]


class LegRound:
    """The images of one attack, as the compiled module sees them.

    Parameters
    ----------
    tensors : mapping of str to Tensor or None
        Of the images, by the names of `LegsAt`; contiguous and never replaced. Those ending in
        ``_row`` are added here.
    counts : mapping of str to int
        The numbers of `LegsAt`.
    rules : mapping of str to float
        Those of `LegRules`.
    lower, upper : Tensor (1 or B, 1 or n)
        The box of the images.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor | None],
        counts: Mapping[str, int],
        rules: Mapping[str, float],
        lower: Tensor,
        upper: Tensor,
    ) -> None:
        self._kept = tensors, lower, upper  # their addresses are in use
        self._at, self._box = native().LegsAt(), (bound_at(lower), bound_at(upper))
        for name, tensor in tensors.items():
            setattr(self._at, name, 0 if tensor is None else tensor.data_ptr())
            if name in ("x0", "starts"):
                setattr(self._at, f"{name}_row", 0 if tensor is None else row_stride(tensor))
        for name, count in counts.items():
            setattr(self._at, name, count)
        made = native().LegRules()
        for name, value in rules.items():
            setattr(made, name, value)
        self._at.rules = made

    def __call__(
        self, slots: Tile, x: Tensor, constraint: Tensor, gradient: Tensor, surely: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Advance the legs in the active slots by the evaluation at x (b, n).

        Returns
        -------
        distance, c : Tensor (b,) of float64
            Of x, and the weight of the norm.
        """
        state = slots.state
        loss = torch.empty_like(constraint)
        distance, c = (x.new_empty(x.shape[0], dtype=torch.float64) for _ in range(2))
        getattr(native(), f"leg_round_{suffix(x, state.history)}")(
            self._at,
            *self._box,
            slots.index.data_ptr(),
            x.data_ptr(),
            row_stride(x),
            constraint.data_ptr(),
            surely.data_ptr(),
            slots.finished.data_ptr(),
            distance.data_ptr(),
            c.data_ptr(),
            *arguments(state, loss, gradient, slots.active),
        )
        return distance, c

"""`penalty` in the module of CUDA kernels: addresses and strides of checked tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from advkit.norms import NORMS
from advkit.ops._check import row_stride, suffix
from advkit.ops._cuda import bound_at, cuda, run, workspace

__all__ = ["penalty_out", "prepare"]


def penalty_out(
    x: Tensor,
    x0: Tensor,
    g_loss: Tensor,
    c: Tensor,
    lower: Tensor,
    upper: Tensor,
    norm: str,
    value: Tensor,
    gradient: Tensor,
    free: Tensor,
) -> None:
    """Write the value (B,), gradient (B, n) and free set (B, n) of `advkit.ops.penalty`."""
    space = workspace(x, cuda().workspace_penalty(*x.shape))
    run(prepare(x, x0, g_loss, c, lower, upper, norm, value, gradient, free, space), x.device)


def prepare(
    x: Tensor,
    x0: Tensor,
    g_loss: Tensor,
    c: Tensor,
    lower: Tensor,
    upper: Tensor,
    norm: str,
    value: Tensor,
    gradient: Tensor,
    free: Tensor,
    space: Tensor,
) -> Any:
    """Return the launches of the op; `space` is its workspace."""
    return getattr(cuda(), f"penalty_{suffix(x)}")(
        *x.shape,
        *(x.data_ptr(), row_stride(x), x0.data_ptr(), row_stride(x0)),
        *(g_loss.data_ptr(), row_stride(g_loss), c.data_ptr()),
        *(bound_at(lower), bound_at(upper), NORMS[norm].kernel_id),
        *(value.data_ptr(), gradient.data_ptr(), free.data_ptr(), space.data_ptr()),
    )

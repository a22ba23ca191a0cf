"""`two_loop` in the module of CUDA kernels: addresses and strides of checked tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from advkit.ops._check import row_stride, suffix
from advkit.ops._cuda import cuda, run, shared_memory, workspace

__all__ = ["prepare", "two_loop_out"]


def two_loop_out(
    g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor, direction: Tensor
) -> None:
    """Write the direction (B, n) of `advkit.ops.two_loop`.

    S and Y may be float16 or bfloat16 where g is float32. A ring that `head` and `count` place
    outside of itself holds no pairs.
    """
    limit = shared_memory(g.device)
    size = (*g.shape, S.shape[1], g.element_size(), limit)
    space = workspace(g, cuda().workspace_two_loop(*size))
    run(prepare(g, S, Y, head, count, free, direction, space, limit), g.device)


def prepare(
    g: Tensor,
    S: Tensor,
    Y: Tensor,
    head: Tensor,
    count: Tensor,
    free: Tensor,
    direction: Tensor,
    space: Tensor,
    limit: int,
) -> Any:
    """Return the launches of the op; `space` is its workspace, `limit` a block's shared memory."""
    return getattr(cuda(), f"two_loop_{suffix(g, S)}")(
        *(g.shape[0], g.shape[1], S.shape[1], g.data_ptr(), row_stride(g)),
        *(S.data_ptr(), row_stride(S), S.stride(1), Y.data_ptr(), row_stride(Y), Y.stride(1)),
        *(head.data_ptr(), count.data_ptr(), free.data_ptr(), row_stride(free)),
        *(direction.data_ptr(), space.data_ptr(), limit),
    )

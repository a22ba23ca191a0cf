"""The quasi-Newton direction -H g by the two-loop recursion, on the free variables."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.ops import _dispatch
from advkit.ops._check import check_tensor, check_vector, stored_dtype
from advkit.ops.two_loop import reference

__all__ = ["two_loop", "two_loop_out"]


def two_loop(g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor) -> Tensor:
    """Direction -H g of L-BFGS, restricted to the free variables F.

    H is the inverse BFGS matrix built from gamma I by the stored pairs, oldest first (Nocedal &
    Wright 2006, algorithm 7.4), with rho_i = 1 / s_F'y_F, gamma = s_F'y_F / y_F'y_F of the newest
    pair used, and every dot product over F. A pair takes part if s_F'y_F > 1e-8 |s_F| |y_F|. Dot
    products are added up in float64.

    Parameters
    ----------
    g : Tensor (B, n)
        Gradient; float32 or float64, any floating dtype on the reference backend.
    S, Y : Tensor (B, m, n)
        Rings of the last steps s and changes of gradient y, m >= 1; in g's dtype, or both in
        bfloat16 or float16 where g is float32. What is computed is the direction of these rounded
        pairs; one common factor of an s and its y makes no difference.
    head : Tensor (B,) of int64
        Place in the ring that the next pair will take; the newest pair is the one before it.
    count : Tensor (B,) of int64
        How many places are filled, 0 ... m, backwards from the newest.
    free : Tensor (B, n) of bool
        F.

    Returns
    -------
    Tensor (B, n)
        -H g on F and -g elsewhere; -g everywhere if no pair takes part.

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype, shape, device or ring position; the message names the argument. On a GPU,
        where a look at the positions would wait for it, a row with a wrong one has no pairs.
    """
    _check(g, S, Y, head, count, free)
    direction: Tensor = torch.ops.advkit.two_loop(g, S, Y, head, count, free)
    return direction


def two_loop_out(
    g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor, *, direction: Tensor
) -> None:
    """Write the result of `two_loop` into a contiguous tensor (B, n) given; no dispatcher."""
    _check(g, S, Y, head, count, free)
    check_tensor("direction", direction, shape=tuple(g.shape), like=g)
    if not direction.is_contiguous():
        raise ValueError("direction must be contiguous; allocate it with torch.empty")
    _run(g, S, Y, head, count, free, direction)


def _check(g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor) -> None:
    check_tensor("g", g, shape=(None, None))
    rows, n = g.shape
    check_tensor("S", S, shape=(rows, None, n), like=g, dtype=stored_dtype(S, g))
    m = S.shape[1]
    if m < 1:
        raise ValueError(f"S must have room for at least one pair, got shape {tuple(S.shape)}")
    check_tensor("Y", Y, shape=(rows, m, n), like=g, dtype=S.dtype)
    check_vector("head", head, size=rows, like=g, dtype=torch.int64)
    check_vector("count", count, size=rows, like=g, dtype=torch.int64)
    check_tensor("free", free, shape=(rows, n), like=g, dtype=torch.bool)


def _run(
    g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor, direction: Tensor
) -> None:
    backend = _dispatch.choose(g)
    m = S.shape[1]
    if backend != "cpu" and g.device.type == "cpu" and len(g):
        if not 0 <= head.min() <= head.max() < m:
            raise ValueError(f"head must lie in 0 ... m - 1 = {m - 1}")
        if not 0 <= count.min() <= count.max() <= m:
            raise ValueError(f"count must lie in 0 ... m = {m}")
    if backend != "reference":
        run = _dispatch.kernels("two_loop", backend).two_loop_out
        run(g, S, Y, head, count, free, direction)
        return
    direction.copy_(reference.two_loop(g, S, Y, head, count, free))


def compute(g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor) -> Tensor:
    """Serve ``torch.ops.advkit.two_loop``."""
    _check(g, S, Y, head, count, free)
    direction = fake(g, S, Y, head, count, free)
    _run(g, S, Y, head, count, free, direction)
    return direction


def fake(g: Tensor, S: Tensor, Y: Tensor, head: Tensor, count: Tensor, free: Tensor) -> Tensor:
    """Allocate the result."""
    return g.new_empty(g.shape)

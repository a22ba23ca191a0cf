"""The penalty c |x - x0|, the gradient of the whole objective, and which variables are free."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.norms import NORMS
from advkit.ops import _dispatch
from advkit.ops._check import as_bound, check_choice, check_tensor, check_vector
from advkit.ops.penalty import reference

__all__ = ["penalty", "penalty_out"]


def penalty(
    x: Tensor,
    x0: Tensor,
    g_loss: Tensor,
    c: Tensor,
    *,
    norm: str = "l2sq",
    lower: float | Tensor = 0.0,
    upper: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Value of the penalty, gradient of penalty plus loss, and the free variables.

    With r = x - x0 the objective is ``c * |r| + loss(x)`` (Szegedy et al. 2013, section 4.1). Where
    \|r\| has no derivative (L2 at r = 0, L1 at each r_i = 0) the gradient is the element of least
    norm of the sum's subdifferential: zero exactly where r is optimal. With ``norm="l1"`` the box
    that "free" refers to ends at x0, on the side that -gradient does not point to.

    Parameters
    ----------
    x : Tensor (B, n)
        Where to evaluate; float32 or float64, any floating dtype on the reference backend.
    x0 : Tensor (B, n)
        The original images.
    g_loss : Tensor (B, n)
        Gradient of the loss at x.
    c : Tensor (B,)
        Weight of the penalty.
    norm : {"l2sq", "l2", "l1", "none"}
        \|r\|^2, \|r\|, \|r\|_1 or no penalty.
    lower, upper : float or Tensor
        The box; anything that broadcasts to (B, n).

    Returns
    -------
    value : Tensor (B,)
        c \|r\|. Differentiable by x, x0 and c.
    gradient : Tensor (B, n)
        Of c \|r\| + loss. Differentiable by x, x0, c and g_loss away from the kinks.
    free : Tensor (B, n) of bool
        False where x is at a bound (within min(1e-3, \|P(x - g) - x\|_inf, half the box)) and
        -gradient points out of it (Bertsekas 1982, section 2).

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype, shape or device; the message names the argument.
    """
    lower, upper = _check(x, x0, g_loss, c, norm, lower, upper)
    value, gradient, free = torch.ops.advkit.penalty(x, x0, g_loss, c, lower, upper, norm)
    return value, gradient, free


def penalty_out(
    x: Tensor,
    x0: Tensor,
    g_loss: Tensor,
    c: Tensor,
    *,
    norm: str = "l2sq",
    lower: float | Tensor = 0.0,
    upper: float | Tensor = 1.0,
    value: Tensor,
    gradient: Tensor,
    free: Tensor,
) -> None:
    """Write the results of `penalty` into tensors given; no autograd, no dispatcher.

    Parameters
    ----------
    value, gradient, free : Tensor
        As `penalty` returns them, contiguous. The other parameters are those of `penalty`.
    """
    lower, upper = _check(x, x0, g_loss, c, norm, lower, upper)
    check_vector("value", value, size=len(x), like=x)
    check_tensor("gradient", gradient, shape=tuple(x.shape), like=x)
    check_tensor("free", free, shape=tuple(x.shape), like=x, dtype=torch.bool)
    for name, out in (("gradient", gradient), ("free", free)):
        if not out.is_contiguous():
            raise ValueError(f"{name} must be contiguous; allocate it with torch.empty")
    _run(x, x0, g_loss, c, lower, upper, norm, value, gradient, free)


def _check(
    x: Tensor,
    x0: Tensor,
    g_loss: Tensor,
    c: Tensor,
    norm: str,
    lower: float | Tensor,
    upper: float | Tensor,
) -> tuple[Tensor, Tensor]:
    check_tensor("x", x, shape=(None, None))
    shape = tuple(x.shape)
    check_tensor("x0", x0, shape=shape, like=x)
    check_tensor("g_loss", g_loss, shape=shape, like=x)
    check_vector("c", c, size=shape[0], like=x)
    check_choice("norm", norm, NORMS)
    return as_bound("lower", lower, x), as_bound("upper", upper, x)


def _run(
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
    backend = _dispatch.choose(x)
    if backend != "reference":
        run = _dispatch.kernels("penalty", backend).penalty_out
        run(x, x0, g_loss, c, lower, upper, norm, value, gradient, free)
    else:
        for out, result in zip(
            (value, gradient, free),
            reference.penalty(x, x0, g_loss, c, lower, upper, norm),
            strict=True,
        ):
            out.copy_(result)


def compute(
    x: Tensor, x0: Tensor, g_loss: Tensor, c: Tensor, lower: Tensor, upper: Tensor, norm: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Serve ``torch.ops.advkit.penalty``."""
    lower, upper = _check(x, x0, g_loss, c, norm, lower, upper)
    value, gradient, free = fake(x, x0, g_loss, c, lower, upper, norm)
    _run(x, x0, g_loss, c, lower, upper, norm, value, gradient, free)
    return value, gradient, free


def fake(
    x: Tensor, x0: Tensor, g_loss: Tensor, c: Tensor, lower: Tensor, upper: Tensor, norm: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate the results."""
    return x.new_empty(x.shape[0]), x.new_empty(x.shape), x.new_empty(x.shape, dtype=torch.bool)


def setup_context(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: object
) -> None:
    """Keep what `backward` needs."""
    x, x0, g_loss, c, _, _, norm = inputs
    ctx.save_for_backward(x, x0, g_loss, c)  # type: ignore[arg-type]
    ctx.norm = norm  # type: ignore[attr-defined]


def backward(
    ctx: torch.autograd.function.FunctionCtx, d_value: Tensor, d_gradient: Tensor, d_free: Tensor
) -> tuple[Tensor | None, ...]:
    """Vector-Jacobian products of value and gradient; the free set has none."""
    x, x0, _, c = ctx.saved_tensors  # type: ignore[attr-defined]
    row = NORMS[ctx.norm]  # type: ignore[attr-defined]
    r = x - x0
    one = torch.ones_like(c)[:, None]
    slope = row.gradient(r, torch.zeros_like(r), one)  # of |r|, zero at kinks
    d_x = (d_value * c)[:, None] * slope + c[:, None] * row.curvature(r, d_gradient)
    d_c = d_value * row.value(r)[:, 0].to(x.dtype) + (d_gradient * slope).sum(1)
    return d_x, -d_x, d_gradient, d_c, None, None, None

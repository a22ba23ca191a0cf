"""Norms of Jacobians by power iteration: estimates from below."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["jacobian_norms"]


def jacobian_norms(
    function: Callable[[Tensor], Tensor], x: Tensor, *, iterations: int = 50, seed: int = 0
) -> Tensor:
    """Return for each x a lower bound of the norm of the Jacobian there, near it if converged.

    Power iteration on J^T J by products with J and its adjoint (Virmaux & Scaman 2018,
    "Lipschitz regularity of deep neural networks", algorithm 1): any stride and padding of a layer
    is that of PyTorch itself. Each |J v| / |v| is a lower bound of the norm, and so of the
    function's Lipschitz constant.

    Parameters
    ----------
    function : callable
        (B, ...) to (B, ...), row by row.
    x : Tensor (B, ...)
        Where.
    iterations : int
        At least 1.
    seed : int
        Of the first v, normal.

    Returns
    -------
    Tensor (B,)
        The largest |J v| / |v| seen.
    """
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    best = x.new_zeros(len(x))
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        y = function(x)
        # J^T u is linear in u: its own gradient gives the products with J.
        u = torch.zeros_like(y, requires_grad=True)
        (pulled,) = torch.autograd.grad(y, x, u, create_graph=True)
        for _ in range(iterations):
            v = _unit(v)
            (pushed,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
            best = torch.maximum(best, pushed.flatten(1).norm(dim=1))
            (v,) = torch.autograd.grad(y, x, pushed, retain_graph=True)
    return best


def _unit(v: Tensor) -> Tensor:
    size: Tensor = v.flatten(1).norm(dim=1).clamp(min=torch.finfo(v.dtype).tiny)
    return v / size.view(-1, *[1] * (v.ndim - 1))

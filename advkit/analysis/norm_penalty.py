"""Operator norms of layers as a penalty on training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advkit.analysis.convolutions import convolution_bound
from advkit.analysis.gram import gram_bound

__all__ = ["layer_norms", "norm_penalty"]


def layer_norms(
    model: nn.Module, *, iterations: int = 6, tolerance: float = 0.2
) -> dict[str, Tensor]:
    """Return an upper bound of the norm of each linear and convolutional layer.

    By Gram iteration, differentiable: gradients flow to the weights. Convolutions are those of an
    unbounded image, so that no size is needed. Coarse on purpose, since it is computed in every
    step of a training: the bounds are those of `advkit.analysis.spectrum` within the excess of
    `gram_bound` and of the grid.

    Parameters
    ----------
    model : torch.nn.Module
        With layers `torch.nn.Linear`, `Conv2d` or `ConvTranspose2d`; others play no part. Padding
        is of zeros, or circular, the image being no smaller than the kernel and its sides multiples
        of the stride; other paddings repeat values, which only `spectrum` takes into account.
    iterations : int
        See `gram_bound`.
    tolerance : float
        See `convolution_bound`.

    Returns
    -------
    dict of str to Tensor ()
        By the names of the layers, in their own type and on their device.

    Raises
    ------
    ValueError
        There is no such layer, a layer has another padding, or an argument is out of range.
    """
    norms: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            norms[name] = gram_bound(layer.weight, iterations)
        elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            _check_padding(name, layer)
            norms[name] = convolution_bound(
                layer.weight,
                stride=layer.stride,
                dilation=layer.dilation,
                groups=layer.groups,
                method="gram",
                iterations=iterations,
                tolerance=tolerance,
            )
    if not norms:
        raise ValueError("model: expected a Linear, Conv2d or ConvTranspose2d layer, got none")
    return norms


def _check_padding(name: str, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Raise where padding repeats values, which makes the norm larger than an unbounded image's."""
    mode = layer.padding_mode
    if mode == "zeros":
        return
    spans = [(k - 1) * d for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    flat = layer._reversed_padding_repeated_twice  # as torch.nn.functional.pad takes it
    added = [flat[2] + flat[3], flat[0] + flat[1]]
    if mode != "circular" or any(pad > span for pad, span in zip(added, spans, strict=True)):
        raise ValueError(
            f"model: expected padding of zeros, or circular of at most the kernel's size less one, "
            f"got {mode!r} and {layer.padding} in {name!r}"
        )


def norm_penalty(model: nn.Module, *, limit: float = 0.0, iterations: int = 6) -> Tensor:
    """Return the sum over the layers of ``max(0, L_k - limit)^2``, to be added to a loss.

    Szegedy et al. 2013, section 4.3, suggests to penalise each layer's bound L_k, and reports no
    such experiment; Gouk et al. 2021, "Regularisation of neural networks by enforcing Lipschitz
    continuity", limits it.

    Parameters
    ----------
    model : torch.nn.Module
        See `layer_norms`.
    limit : float
        Norms up to here cost nothing; at least 0.
    iterations : int
        See `gram_bound`.

    Returns
    -------
    Tensor ()
        The penalty, differentiable in the weights.

    Raises
    ------
    ValueError
        `limit` is negative, or `model` has no layer to penalise.
    """
    if not limit >= 0:
        raise ValueError(f"limit: expected a number of at least 0, got {limit}")
    norms = layer_norms(model, iterations=iterations).values()
    return torch.stack([(norm - limit).clamp(min=0).square() for norm in norms]).sum()

"""The weight decay of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def weight_decay(model: nn.Module, decay: Sequence[float]) -> Tensor:
    """Weight decay of the paper: the sum over the layers of lambda * sum(w^2) / k.

    Parameters
    ----------
    model : torch.nn.Module
        Its ``torch.nn.Linear`` layers count, in their order in ``model.modules()``; w are the
        weights of a layer without its biases, k is the number of its units (outputs).
    decay : sequence of float
        lambda of each of those layers.

    Returns
    -------
    torch.Tensor
        Scalar, differentiable; added to the mean cross-entropy.

    Raises
    ------
    ValueError
        `decay` does not have one finite number >= 0 for each layer.

    Notes
    -----
    Szegedy et al. 2013, section 2 and Table 1.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if len(decay) != len(layers):
        raise ValueError(
            f"decay: expected one number for each of the {len(layers)} linear layers, "
            f"got {list(decay)}"
        )
    if not all(math.isfinite(strength) and strength >= 0 for strength in decay):
        raise ValueError(f"decay: expected finite numbers >= 0, got {list(decay)}")
    terms = [
        layer.weight.square().sum() * (strength / layer.out_features)
        for layer, strength in zip(layers, decay, strict=True)
    ]
    return torch.stack(terms).sum() if terms else torch.zeros(())

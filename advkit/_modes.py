"""Networks held in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(*models: object) -> Iterator[None]:
    """Hold modules in evaluation mode within the block, and leave every part as it was found.

    In training mode dropout answers at random, and batch normalisation lets images depend on each
    other and changes the network's statistics. What is not a module is left alone.
    """
    held = [model for model in models if isinstance(model, nn.Module)]
    modes = [(module, module.training) for model in held for module in model.modules()]
    for model in held:
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

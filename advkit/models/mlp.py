"""The fully connected networks of Szegedy et al. 2013, by the names of its Tables 1 and 3."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from advkit.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class Architecture:
    """What a name stands for.

    Parameters
    ----------
    hidden : tuple of int
        Units of each hidden layer, from the input on; the layer of the classes comes after them.
    decay : tuple of float
        Weight decay lambda of each layer, that of the classes last.
    autoencoder : Autoencoder, optional
        How the first layer is learnt without labels, to stay as it is afterwards; its lambda in
        `decay` then plays no part.
    optimizer : {"adam", "lbfgs"}
        What trains it unless the caller chooses.
    """

    hidden: tuple[int, ...]
    decay: tuple[float, ...]
    autoencoder: Autoencoder | None = None
    optimizer: str = "adam"


# One row per network. The paper gives no lambdas for FC123-456-10: those of its other two networks
# with two hidden layers are taken. The softmax of AE400-10 is convex in its weights, and L-BFGS
# reaches its minimum, which Adam's schedule does not with so little decay.
ARCHITECTURES: dict[str, Architecture] = {
    "fc10-1e-4": Architecture(hidden=(), decay=(1e-4,)),
    "fc10-1e-2": Architecture(hidden=(), decay=(1e-2,)),
    "fc10-1": Architecture(hidden=(), decay=(1.0,)),
    "fc100-100-10": Architecture(hidden=(100, 100), decay=(1e-5, 1e-5, 1e-6)),
    "fc123-456-10": Architecture(hidden=(123, 456), decay=(1e-5, 1e-5, 1e-6)),
    "fc200-200-10": Architecture(hidden=(200, 200), decay=(1e-5, 1e-5, 1e-6)),
    "ae400-10": Architecture(
        hidden=(400,), decay=(0.0, 1e-6), autoencoder=Autoencoder(), optimizer="lbfgs"
    ),
}

_FC10 = re.compile(r"fc10-(\d+(?:\.\d*)?(?:e[+-]?\d+)?)")


def names() -> tuple[str, ...]:
    """Return the names of the paper's networks; `build` takes ``fc10-<lambda>`` for any lambda."""
    return tuple(ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """Return what `name` stands for.

    Parameters
    ----------
    name : str
        One of `names`, or ``fc10-<lambda>`` with any finite lambda >= 0; ``fc10`` alone is
        ``fc10-1e-4``.

    Returns
    -------
    Architecture
        Sizes and weight decay.

    Raises
    ------
    ValueError
        No network has this name.
    """
    if name == "fc10":
        name = "fc10-1e-4"
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    match = _FC10.fullmatch(name)
    if match and math.isfinite(decay := float(match[1])):
        return Architecture(hidden=(), decay=(decay,))
    raise ValueError(
        f"name: no network {name!r}, expected one of {', '.join(ARCHITECTURES)}, "
        "or fc10-<lambda> with another weight decay, such as fc10-1e-3"
    )


def build(
    name: str,
    *,
    inputs: int = 28 * 28,
    classes: int = 10,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Build a network with fresh weights, on the CPU.

    Parameters
    ----------
    name : str
        ``"fc10-<lambda>"`` (softmax only, no hidden units; the lambda matters to training alone),
        ``"fc100-100-10"``, ``"fc123-456-10"``, ``"fc200-200-10"`` or ``"ae400-10"`` (sigmoid
        units).
    inputs : int
        Values per image.
    classes : int
        Number of classes K, in place of the 10 in the name.
    seed : int
        Of the initial weights; PyTorch's own random state is neither read nor changed.
    dtype : torch.dtype
        Floating-point type of the weights.

    Returns
    -------
    torch.nn.Sequential
        Flatten, Linear, Sigmoid, ..., Linear: images (B, ...) of `inputs` values each to logits
        (B, K). The softmax is left to the loss.

    Raises
    ------
    ValueError
        No network has this name, or a size is not positive.
    """
    if inputs < 1 or classes < 1:
        raise ValueError(
            f"inputs and classes: expected at least 1, got inputs={inputs}, classes={classes}"
        )
    sizes = (inputs, *architecture(name).hidden, classes)
    return _perceptron(sizes, torch.Generator(device="cpu").manual_seed(seed), dtype)


def _perceptron(
    sizes: Sequence[int], generator: torch.Generator, dtype: torch.dtype
) -> nn.Sequential:
    model = nn.Sequential(nn.Flatten())
    last = len(sizes) - 2
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        # Made on the meta device: the constructor's own initialisation would draw from the global
        # random state.
        linear = nn.Linear(fan_in, fan_out, device="meta", dtype=dtype).to_empty(device="cpu")
        # Glorot & Bengio 2010; four times larger before a sigmoid, whose slope at 0 is 1/4.
        gain = 1.0 if layer == last else 4.0
        bound = gain * math.sqrt(6 / (fan_in + fan_out))
        with torch.no_grad():
            linear.weight.uniform_(-bound, bound, generator=generator)
            linear.bias.zero_()
        model.append(linear)
        if layer != last:
            model.append(nn.Sigmoid())
    return model

"""Pools of adversarial examples, of the input or of any layer's output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit.attack.lbfgs import lbfgs

__all__ = ["Pool", "Pools", "cuts"]


@dataclass(frozen=True)
class Pools:
    """Which pools there are, and how they are kept fresh.

    Szegedy et al. 2013, section 4.2: a pool of adversarial examples, "a random subset of which is
    continuously replaced by newly generated" ones, is mixed into the training set all the time; it
    helped when there was one for the outputs of each layer, used to train all layers above. Sizes,
    rates and the mixture are not given; these are ours.

    Parameters
    ----------
    layers : tuple of int
        Which values the pools hold: 0 is the input, 1 the output of the first hidden layer, and so
        on. They take turns, one a step.
    size : int
        Examples in each.
    refresh : int
        New examples of each pool at a time, in random places once it is full. They are made from
        random training images, against the network as it is then; where it has an image wrong,
        the image itself is the example.
    every : int
        Steps from one time to the next.
    start : int
        Epochs without pools to begin with.
    weight : float
        Of the mean loss over a batch from a pool, beside that over a batch of images, which has 1.
    overshoot : float
        Factor on the change of each example: 1 leaves it on the border between two classes.
    max_evaluations : int
        Of the attack on an example.

    Raises
    ------
    ValueError
        A number is out of range.
    """

    layers: tuple[int, ...] = (0, 1, 2)
    size: int = 2000
    refresh: int = 500
    every: int = 25
    start: int = 1
    weight: float = 1.0
    overshoot: float = 1.0
    max_evaluations: int = 20

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) != len(self.layers) or min(self.layers) < 0:
            raise ValueError(f"layers: expected numbers >= 0, each once, got {self.layers}")
        for name, least in (("size", 1), ("refresh", 1), ("every", 1), ("start", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.max_evaluations < 2:
            raise ValueError(f"max_evaluations: expected at least 2, got {self.max_evaluations}")
        for name in ("weight", "overshoot"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a finite number > 0, got {value}")


class Pool:
    """The examples of one layer.

    Parameters
    ----------
    values : Tensor (k, n)
        Adversarial values of the layer, in [0, 1]; none to begin with.
    labels : Tensor (k,) of int64
        The classes of the images that they were made from.
    """

    def __init__(self, values: Tensor, labels: Tensor) -> None:
        self.values, self.labels = values, labels

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, above: nn.Sequential, values: Tensor, labels: Tensor, settings: Pools) -> Tensor:
        """Make adversarial examples of values (k, n) of a layer for the layers above it.

        The same attack as on images, since the outputs of sigmoid units are in [0, 1], too.

        Returns
        -------
        Tensor (k, n)
            The examples.
        """
        result = lbfgs(above, values, labels, max_evaluations=settings.max_evaluations)
        examples: Tensor = result.adversarial
        if settings.overshoot != 1:
            examples = (values + settings.overshoot * (examples - values)).clamp(0, 1)
        return examples

    def put(
        self, examples: Tensor, labels: Tensor, settings: Pools, generator: torch.Generator
    ) -> None:
        """Put examples where there is room, or in random places, each at most once."""
        room = settings.size - len(self)
        self.values = torch.cat([self.values, examples[:room]]) if room > 0 else self.values
        self.labels = torch.cat([self.labels, labels[:room]]) if room > 0 else self.labels
        rest, classes = examples[max(room, 0) :], labels[max(room, 0) :]
        places = torch.randperm(len(self), generator=generator)[: len(rest)].to(examples.device)
        self.values[places], self.labels[places] = rest[: len(places)], classes[: len(places)]


def cuts(model: nn.Sequential) -> list[int]:
    """Return the places of the linear layers of a perceptron: what is below gives their input.

    Raises
    ------
    TypeError
        The network is not a plain `nn.Sequential` of Flatten, Linear and Sigmoid.
    """
    if type(model) is not nn.Sequential or any(
        type(layer) not in (nn.Flatten, nn.Linear, nn.Sigmoid) for layer in model
    ):
        raise TypeError(
            "model: expected a torch.nn.Sequential of Flatten, Linear and Sigmoid, whose layers "
            f"have outputs in [0, 1] as images have, got {type(model).__name__}"
        )
    return [place for place, layer in enumerate(model) if isinstance(layer, nn.Linear)]

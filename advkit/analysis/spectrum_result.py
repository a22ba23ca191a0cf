"""What `spectrum` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from advkit._records import Saved, made

__all__ = ["Layer", "Spectrum"]


@dataclass(frozen=True)
class Layer:
    """The Lipschitz constant of one layer in L2, from above and from below.

    Parameters
    ----------
    name : str
        Its name in the network.
    kind : str
        Its class, such as "Conv2d".
    upper : float
        A bound: no two inputs of the layer move apart by a larger factor.
    lower : float
        An estimate from below: a factor that was seen. For linear layers power iteration, near
        the norm; for others the Jacobian at one point, or a ratio that is known.
    shape : tuple of int
        Of the input, without batch.
    """

    name: str
    kind: str
    upper: float
    lower: float
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Spectrum(Saved):
    """How far a network may move its output, layer by layer and as a whole.

    Parameters
    ----------
    layers : tuple of Layer
        In the order in which they are computed; without those that only move or drop values.
    product : float
        A bound of the whole network's Lipschitz constant: the product of `upper` along a chain,
        sums of products where paths are added.
    jacobian : float or None
        An estimate from below of the same: the largest norm of the Jacobian at the images given,
        by power iteration. None without images.
    gradient : float or None
        An estimate from below, too: the largest norm of the gradient of the predicted class's
        logit at those images.
    images : int
        How many they were.
    settings : dict of str to JSON value
        Of the bounds.
    """

    layers: tuple[Layer, ...]
    product: float
    jacobian: float | None
    gradient: float | None
    images: int
    settings: dict[str, Any]

    def __repr__(self) -> str:
        """Return the main numbers on one line."""
        seen = "" if self.jacobian is None else f", at least {self.jacobian:.4g} (estimate)"
        return f"Spectrum({len(self.layers)} layers, at most {self.product:.4g} (bound){seen})"

    def as_rows(self) -> list[dict[str, Any]]:
        """Return flat records, one for each layer and one for the whole, for CSV files."""
        rows = [
            {
                "layer": each.name,
                "kind": each.kind,
                "input": "x".join(map(str, each.shape)),
                "upper bound": each.upper,
                "lower estimate": each.lower,
            }
            for each in self.layers
        ]
        whole = {"layer": "(all)", "kind": "", "input": "", "upper bound": self.product}
        return [*rows, {**whole, "lower estimate": self.jacobian}]

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> Spectrum:
        return cls(
            tuple(made(Layer, each) for each in values["layers"]),
            values["product"],
            values["jacobian"],
            values["gradient"],
            int(values["images"]),
            dict(values["settings"]),
        )

"""Directions in the space of features: units, random ones, rotations of all units."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["DIRECTIONS", "directions"]

DIRECTIONS = ("natural", "random", "rotation")


def directions(kind: str, features: int, count: int | None = None, *, seed: int = 0) -> Tensor:
    """Return directions of unit length, one a row.

    Parameters
    ----------
    kind : {"natural", "random", "rotation"}
        "natural": the units e_1, e_2, ...; "random": independent, uniform on the sphere (the paper
        does not say which distribution it takes); "rotation": rows of one orthogonal matrix,
        uniform over all (Mezzadri 2007, "How to generate random matrices from the classical
        compact groups"), as Bau et al. 2017 rotate a whole layer.
    features : int
        n, how many units there are.
    count : int, optional
        How many, by default n; at most n of a basis, the first ones.
    seed : int
        Of the random ones.

    Returns
    -------
    Tensor (count, n), float64
        The directions.

    Raises
    ------
    ValueError
        An argument is out of range.
    """
    if kind not in DIRECTIONS:
        raise ValueError(f"directions: expected names among {DIRECTIONS}, got {kind!r}")
    wanted = features if count is None else count
    if features < 1 or wanted < 1 or (kind != "random" and wanted > features):
        raise ValueError(
            f"count: expected 1 to {features} directions of a basis, at least 1 of random ones, "
            f"got {wanted}"
        )
    if kind == "natural":
        return torch.eye(features, dtype=torch.float64)[:wanted]
    generator = torch.Generator().manual_seed(seed)
    if kind == "random":
        normal = torch.randn(wanted, features, generator=generator, dtype=torch.float64)
        size: Tensor = normal.norm(dim=1, keepdim=True)
        return normal / size
    normal = torch.randn(features, features, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    rows: Tensor = q * r.diagonal().sign()
    return rows[:wanted]

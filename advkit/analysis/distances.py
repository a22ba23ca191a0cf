"""Statistics of the distances that attacks find, and how they compare on the same images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advkit._records import Saved

__all__ = ["DistanceSummary", "Distances", "distances", "local_optimality"]


@dataclass(frozen=True)
class DistanceSummary:
    """Distances of one attack.

    Parameters
    ----------
    name : str
        The attack's.
    found : int
        Images with a finite distance.
    changed : int
        Those of them with one above 0.
    mean : float
        Over those changed, as the paper averages; nan if there are none.
    interval : tuple of float
        Its 95 % interval, by resampling images.
    quartiles : tuple of float
        25, 50 and 75 % of all images; inf where fewer were found.
    optimality : float
        Local optimality, see `distances`; nan where the reference is 0 everywhere.
    curve : tuple of float
        At each radius the share of images without an adversarial one that near.
    """

    name: str
    found: int
    changed: int
    mean: float
    interval: tuple[float, float]
    quartiles: tuple[float, float, float]
    optimality: float
    curve: tuple[float, ...]


@dataclass(frozen=True)
class Distances(Saved):
    """Distances of several attacks on the same images.

    Parameters
    ----------
    attacks : tuple of DistanceSummary
        One for each.
    radii : tuple of float
        Where the curves are, from 0 to the largest finite distance of the reference.
    images : int
        How many.
    """

    attacks: tuple[DistanceSummary, ...]
    radii: tuple[float, ...]
    images: int

    def as_rows(self) -> list[dict[str, Any]]:
        """Return flat records, one for each attack, for CSV files."""
        return [
            {
                "attack": each.name,
                "images": self.images,
                "found": each.found,
                "changed": each.changed,
                "mean": each.mean,
                "low": each.interval[0],
                "high": each.interval[1],
                "median": each.quartiles[1],
                "local optimality": each.optimality,
            }
            for each in self.attacks
        ]

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> Distances:
        return cls(
            tuple(_summary(each) for each in values["attacks"]),
            tuple(values["radii"]),
            int(values["images"]),
        )


def distances(
    found: Mapping[str, Tensor],
    reference: Tensor | None = None,
    *,
    radii: int = 51,
    seed: int = 0,
) -> Distances:
    """Summarise and compare the distances that attacks found on the same images.

    A robustness curve is the accuracy that is left when every image may be changed by a radius. For
    what the best distances known are worth see `local_optimality`.

    Parameters
    ----------
    found : mapping of str to Tensor (N,)
        Distances by the names of the attacks: inf where nothing was found, 0 where the image was
        wrong already. Of a result: ``torch.where(r.success, r.distance, torch.inf)``.
    reference : Tensor (N,), optional
        Distances known otherwise, such as exact ones; the nearest of all counts for each image.
    radii : int
        Points of the curves, at least 2.
    seed : int
        Of the intervals.

    Returns
    -------
    Distances
        Summaries and curves.

    Raises
    ------
    ValueError
        A shape does not fit, a distance is negative or nan, or nothing was found at all.
    """
    if not found or radii < 2:
        raise ValueError(
            f"found and radii: expected an attack and 2 points, got {len(found)}, {radii}"
        )
    known = {name: each.detach().double().cpu() for name, each in found.items()}
    first = next(iter(known.values()))
    every = {**known, **({} if reference is None else {"reference": reference.double().cpu()})}
    for name, each in every.items():
        if each.ndim != 1 or each.shape != first.shape or not len(each) or not (each >= 0).all():
            raise ValueError(
                f"{name}: expected distances of at least 0 and shape ({len(first)},), got "
                f"{tuple(each.shape)}, smallest {float(each.min()) if each.numel() else math.nan}"
            )
    best = torch.stack(list(every.values())).amin(0)
    finite = best[best.isfinite()]
    if not len(finite):
        raise ValueError("found: expected a finite distance, got none")
    largest = float(finite.max())
    where = torch.linspace(0, largest, radii, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    summaries = []
    for name, each in known.items():
        changed = each[each.isfinite() & (each > 0)]
        ordered = each.sort().values
        places = [math.ceil(share * len(each)) - 1 for share in (0.25, 0.5, 0.75)]
        quartiles = [float(ordered[max(0, place)]) for place in places]
        summaries.append(
            DistanceSummary(
                name,
                int(each.isfinite().sum()),
                len(changed),
                float(changed.mean()) if len(changed) else math.nan,
                _interval(changed, generator),
                (quartiles[0], quartiles[1], quartiles[2]),
                local_optimality(each, best),
                tuple((each[:, None] > where).double().mean(0).tolist()),
            )
        )
    return Distances(tuple(summaries), tuple(where.tolist()), len(first))


def local_optimality(distances: Tensor, reference: Tensor) -> float:
    """Return how near an attack comes to the best distances known; 1 is the best, 0 finds nothing.

    That of AttackBench, version 2 (Cinà et al. 2024, "AttackBench: evaluating gradient-based
    attacks for adversarial examples"): the area between the accuracy without an attack and the
    attack's robustness curve, over the same for the reference, up to the reference's largest finite
    distance; in closed form. Images that are wrong already, whose reference is 0, play no part. Its
    mean over networks is their global optimality.

    Parameters
    ----------
    distances : Tensor (N,)
        Found by the attack; inf where it found nothing.
    reference : Tensor (N,)
        The smallest known of each image.

    Returns
    -------
    float
        nan where the reference has no finite distance above 0.
    """
    finite = reference[reference.isfinite()]
    largest = float(finite.max()) if len(finite) else 0.0

    def area(values: Tensor) -> float:
        taken = torch.where(reference > 0, largest - values.clamp(max=largest), 0.0)
        return float(taken.mean())

    whole = area(reference)
    return area(distances) / whole if whole > 0 else math.nan


def _interval(values: Tensor, generator: torch.Generator) -> tuple[float, float]:
    if not len(values):
        return math.nan, math.nan
    means = torch.stack(
        [
            values[torch.randint(len(values), values.shape, generator=generator)].mean()
            for _ in range(1000)
        ]
    )
    ends = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(ends[0]), float(ends[1])


def _summary(values: Mapping[str, Any]) -> DistanceSummary:
    """Return a summary whose None are nan again, and inf among the quartiles."""

    def number(value: float | None, missing: float = math.nan) -> float:
        return missing if value is None else float(value)

    low, high = (number(value) for value in values["interval"])
    quartiles = [number(value, math.inf) for value in values["quartiles"]]
    return DistanceSummary(
        str(values["name"]),
        int(values["found"]),
        int(values["changed"]),
        number(values["mean"]),
        (low, high),
        (quartiles[0], quartiles[1], quartiles[2]),
        number(values["optimality"]),
        tuple(values["curve"]),
    )

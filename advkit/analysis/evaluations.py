"""How small the perturbation is after each number of evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from advkit._records import Saved
from advkit.attack import AttackResult, AttackStatus

__all__ = ["EvaluationCurve", "EvaluationCurves", "evaluation_curves"]

_POINTS = 24


@dataclass(frozen=True)
class EvaluationCurve:
    """The distances of one attack's images, one entry for each number of evaluations.

    Parameters
    ----------
    name : str
        The attack's.
    found : tuple of float
        The share of images with an adversarial one by then.
    mean : tuple of float
        Of the nearest by then, over the images that the attack finds in the end, without those that
        were wrong before; nan as long as one of them is missing.
    quartiles : tuple of tuple of float
        25, 50 and 75 % of all images; inf where fewer were found.
    """

    name: str
    found: tuple[float, ...]
    mean: tuple[float, ...]
    quartiles: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class EvaluationCurves(Saved):
    """Distance against evaluations, for several attacks.

    Parameters
    ----------
    curves : tuple of EvaluationCurve
        One for each attack.
    evaluations : tuple of int
        Where the curves are: an evaluation is two passes through the network.
    images : int
        How many each attack was given.
    """

    curves: tuple[EvaluationCurve, ...]
    evaluations: tuple[int, ...]
    images: int

    def as_rows(self) -> list[dict[str, Any]]:
        """Return flat records, one for each attack and number of evaluations, for CSV files."""
        return [
            {
                "attack": each.name,
                "evaluations": count,
                "found": each.found[place],
                "mean": each.mean[place],
                "25 %": each.quartiles[place][0],
                "median": each.quartiles[place][1],
                "75 %": each.quartiles[place][2],
            }
            for each in self.curves
            for place, count in enumerate(self.evaluations)
        ]

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> EvaluationCurves:
        curves = tuple(_curve(each) for each in values["curves"])
        return cls(curves, tuple(values["evaluations"]), int(values["images"]))


def evaluation_curves(
    results: Mapping[str, AttackResult], evaluations: Sequence[int] | None = None
) -> EvaluationCurves:
    """Follow the distance of the nearest adversarial image through the attacks' trajectories.

    Parameters
    ----------
    results : mapping of str to AttackResult
        By the names of the attacks, with trajectories (``trajectory=True``), of as many images.
    evaluations : sequence of int, optional
        Numbers of evaluations, rising, at least 1; by default up to 24 from 1 to the largest number
        that an image has cost, evenly spaced by their logarithm.

    Returns
    -------
    EvaluationCurves
        A curve for each.

    Raises
    ------
    ValueError
        A result has no trajectory, numbers of images differ, or counts do not rise.
    """
    if not results:
        raise ValueError("results: expected at least one")
    lengths = {len(result) for result in results.values()}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"results: expected as many images in each, got {sorted(lengths)}")
    spent = 1
    for name, result in results.items():
        if result.trajectory is None:
            raise ValueError(
                f"results: {name!r} has no trajectory; run the attack with trajectory=True"
            )
        if len(result.trajectory.propagations):
            spent = max(spent, math.ceil(int(result.trajectory.propagations.max()) / 2))
    if evaluations is None:
        spaced = torch.logspace(0, math.log10(spent), _POINTS, dtype=torch.float64)
        evaluations = sorted({round(each) for each in spaced.tolist()})
    counts = [int(each) for each in evaluations]
    rising = all(first < second for first, second in pairwise(counts))
    if not counts or counts[0] < 1 or not rising:
        raise ValueError(f"evaluations: expected rising numbers of at least 1, got {counts}")
    curves = tuple(_follow(name, result, counts) for name, result in results.items())
    return EvaluationCurves(curves, tuple(counts), lengths.pop())


def _follow(name: str, result: AttackResult, counts: Sequence[int]) -> EvaluationCurve:
    seen = result.trajectory
    assert seen is not None
    wrong = result.status.cpu() == int(AttackStatus.ALREADY_ADVERSARIAL)
    start = torch.full((len(result),), torch.inf, dtype=torch.float64)
    start[wrong] = 0
    image, distance = seen.image.cpu(), seen.distance.double().cpu()
    passes, fooled = seen.propagations.cpu(), seen.margin.cpu() >= 0
    steps = []
    for count in counts:
        there = fooled & (passes <= 2 * count)
        steps.append(start.scatter_reduce(0, image[there], distance[there], "amin"))
    last = start.scatter_reduce(0, image[fooled], distance[fooled], "amin")
    counted = last.isfinite() & ~wrong
    return EvaluationCurve(
        name,
        tuple(float(each.isfinite().double().mean()) for each in steps),
        tuple(_mean(each[counted]) for each in steps),
        tuple(_quartiles(each) for each in steps),
    )


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) and bool(values.isfinite().all()) else math.nan


def _quartiles(values: Tensor) -> tuple[float, float, float]:
    ordered = values.sort().values
    low, middle, high = (
        float(ordered[max(0, math.ceil(share * len(values)) - 1)]) for share in (0.25, 0.5, 0.75)
    )
    return low, middle, high


def _curve(values: Mapping[str, Any]) -> EvaluationCurve:
    """Return a curve whose None are nan among the means and inf among the quartiles."""
    missing = {field.name for field in fields(EvaluationCurve)} - set(values)
    if missing:
        raise KeyError(sorted(missing)[0])
    quartiles = [[math.inf if q is None else float(q) for q in row] for row in values["quartiles"]]
    return EvaluationCurve(
        str(values["name"]),
        tuple(map(float, values["found"])),
        tuple(math.nan if each is None else float(each) for each in values["mean"]),
        tuple((row[0], row[1], row[2]) for row in quartiles),
    )

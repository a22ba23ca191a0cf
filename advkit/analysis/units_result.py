"""What `units` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from advkit._records import Saved, made
from advkit.analysis.ablation import AblationCurve

__all__ = ["DirectionSet", "Units"]


@dataclass(frozen=True)
class DirectionSet:
    """The images that excite D directions of one kind most.

    Parameters
    ----------
    kind : str
        "natural", "random" or "rotation".
    places : tuple of int
        Which directions of that kind.
    dead : int
        How many were left out, all images being the same along them.
    top : tuple of tuple of int
        For each direction the places of its k images, the first being the one with the most.
    majority : tuple of int
        The commonest label of each.
    purity : tuple of float
        Its share of the k.
    entropy : tuple of float
        Of the k labels, in bits.
    p_values : tuple of float
        (1 + k) / (1 + n) for each direction, k of n permutations of the labels having an entropy
        that is no larger.
    purity_interval, entropy_interval : tuple of float
        95 % intervals of the means over directions, by resampling directions.
    null_purity, null_entropy : float
        The means with permuted labels.
    p_value : float
        As `p_values`, of the mean entropy.
    """

    kind: str
    places: tuple[int, ...]
    dead: int
    top: tuple[tuple[int, ...], ...]
    majority: tuple[int, ...]
    purity: tuple[float, ...]
    entropy: tuple[float, ...]
    p_values: tuple[float, ...]
    purity_interval: tuple[float, float]
    entropy_interval: tuple[float, float]
    null_purity: float
    null_entropy: float
    p_value: float

    def mean(self, what: str) -> float:
        """Return the mean of "purity" or "entropy" over the directions."""
        values: tuple[float, ...] = getattr(self, what)
        return sum(values) / len(values)


@dataclass(frozen=True)
class Units(Saved):
    """How alike the images are that excite units, random directions and rotated units.

    Parameters
    ----------
    sets : tuple of DirectionSet
        One for each kind.
    ablation : tuple of AblationCurve
        Empty without a head.
    images : int
        How many there were.
    features : int
        n.
    settings : dict of str to JSON value
        Of the study.
    """

    sets: tuple[DirectionSet, ...]
    ablation: tuple[AblationCurve, ...]
    images: int
    features: int
    settings: dict[str, Any]

    def __repr__(self) -> str:
        """Return the mean purities on one line."""
        means = ", ".join(f"{each.kind} {each.mean('purity'):.3f}" for each in self.sets)
        return f"Units({self.features} features, {self.images} images; purity {means})"

    def of(self, kind: str) -> DirectionSet:
        """Return the set of a kind; KeyError if there is none."""
        for each in self.sets:
            if each.kind == kind:
                return each
        raise KeyError(f"no directions {kind!r}, expected one of {[s.kind for s in self.sets]}")

    def as_rows(self) -> list[dict[str, Any]]:
        """Return flat records, one for each direction, for CSV files."""
        return [
            {
                "kind": each.kind,
                "direction": place,
                "majority": each.majority[row],
                "purity": each.purity[row],
                "entropy": each.entropy[row],
                "p": each.p_values[row],
                "top": " ".join(map(str, each.top[row])),
            }
            for each in self.sets
            for row, place in enumerate(each.places)
        ]

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> Units:
        return cls(
            tuple(made(DirectionSet, each) for each in values["sets"]),
            tuple(made(AblationCurve, each) for each in values["ablation"]),
            int(values["images"]),
            int(values["features"]),
            dict(values["settings"]),
        )

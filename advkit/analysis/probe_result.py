"""What `probe` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from advkit._records import Saved
from advkit.transfer.intervals import wilson_interval

__all__ = ["Moments", "Probe", "ProbeCell"]


@dataclass(frozen=True)
class ProbeCell:
    """What a network answers to one kind and level of noise.

    Parameters
    ----------
    around : str
        "original" or "adversarial".
    noise : str
        "gaussian" or "resampled".
    level : int
        i.
    factor : float
        The noise's standard deviation over that of r.
    trials : int
        Images times probes.
    original, adversarial : int
        Trials answered with the class of the original, of the adversarial image.
    realised : float
        Standard deviation of what was added, after the cut to the box, over that of r; mean over
        the images.
    """

    around: str
    noise: str
    level: int
    factor: float
    trials: int
    original: int
    adversarial: int
    realised: float

    def share(self, which: str) -> float:
        """Return the share of "original" or "adversarial" answers, in [0, 1]."""
        hits: int = getattr(self, which)
        return hits / self.trials

    def interval(self, which: str, *, confidence: float = 0.95) -> tuple[float, float]:
        """Return Wilson's interval of the share over all trials, as the paper has it.

        The probes of one image go together, so that it is too narrow for another set of images;
        `Probe.interval` is not.
        """
        hits: int = getattr(self, which)
        return wilson_interval(hits, self.trials, confidence=confidence)


@dataclass(frozen=True)
class Moments:
    """Means over the images of the moments of r over its values.

    Parameters
    ----------
    mean, std : float
        In units of the images.
    skewness, kurtosis : float
        Standardised; the kurtosis is that in excess of a normal distribution's.
    """

    mean: float
    std: float
    skewness: float
    kurtosis: float


@dataclass(frozen=True)
class Probe(Saved):
    """Where noise around original and adversarial images leads.

    Parameters
    ----------
    cells : tuple of ProbeCell
        One for each place, noise and level.
    moments : Moments
        Of the perturbations.
    images : int
        How many were probed.
    skipped : int
        Those given that were not: not right before, not fooled after, or not changed.
    settings : dict of str to JSON value
        Of the study.
    """

    cells: tuple[ProbeCell, ...]
    moments: Moments
    images: int
    skipped: int
    settings: dict[str, Any]

    def __repr__(self) -> str:
        """Return its size on one line."""
        return f"Probe({self.images} images, {len(self.cells)} kinds and levels of noise)"

    def cell(self, around: str, noise: str, level: int) -> ProbeCell:
        """Return one cell; KeyError if there is none."""
        for each in self.cells:
            if (each.around, each.noise, each.level) == (around, noise, level):
                return each
        raise KeyError(f"no cell with around={around!r}, noise={noise!r}, level={level}")

    def interval(
        self, cell: ProbeCell, which: str, *, confidence: float = 0.95
    ) -> tuple[float, float]:
        """Return Wilson's interval as if each image had been probed once: never too narrow."""
        hits = round(self.images * cell.share(which))
        return wilson_interval(hits, self.images, confidence=confidence)

    def as_rows(self) -> list[dict[str, Any]]:
        """Return flat records, one for each cell, for CSV files."""
        rows = []
        for each in self.cells:
            row: dict[str, Any] = asdict(each)
            for which in ("original", "adversarial"):
                row[f"{which} share"] = each.share(which)
                row[f"{which} low"], row[f"{which} high"] = each.interval(which)
                low, high = self.interval(each, which)
                row |= {f"{which} low by images": low, f"{which} high by images": high}
            rows.append(row)
        return rows

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> Probe:
        return cls(
            tuple(ProbeCell(**each) for each in values["cells"]),
            Moments(**values["moments"]),
            int(values["images"]),
            int(values["skipped"]),
            dict(values["settings"]),
        )

"""What `class_distributions` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from advkit._records import Saved, made

__all__ = ["AnswerSet", "ClassDistributions", "LogitPath"]


@dataclass(frozen=True)
class AnswerSet:
    """What a network answers to N images of one kind.

    Parameters
    ----------
    kind : str
        "original", "adversarial" or "noise".
    error : float
        Share that is not given its label.
    probability : float
        Mean probability of the label.
    largest : float
        Mean of the largest probability.
    entropy : float
        Mean entropy of the probabilities, in bits.
    predicted : tuple of int
        How many images are given each class.
    margins : tuple of float
        For each image the logit of its label less the largest other one.
    by_class : tuple of tuple of float
        Mean probabilities, a row for each label; zeros where no image has it.
    """

    kind: str
    error: float
    probability: float
    largest: float
    entropy: float
    predicted: tuple[int, ...]
    margins: tuple[float, ...]
    by_class: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class LogitPath:
    """Logits along a direction from the original images.

    Parameters
    ----------
    kind : str
        "adversarial": along r; "noise": along a random direction.
    margin, probability : tuple of float
        Means over the images, of the margin and the probability of the label, at each step.
    example : tuple of tuple of float
        All logits of the first image, a row for each step.
    """

    kind: str
    margin: tuple[float, ...]
    probability: tuple[float, ...]
    example: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ClassDistributions(Saved):
    """Class probabilities and margins before and after a perturbation.

    Parameters
    ----------
    sets : tuple of AnswerSet
        "original", "adversarial" and "noise" of the same length, image by image.
    paths : tuple of LogitPath
        Along r and along the noise, without the box.
    steps : tuple of float
        Where, in lengths of each image's own r.
    images : int
        How many.
    distortion : float
        Mean RMS of r.
    """

    sets: tuple[AnswerSet, ...]
    paths: tuple[LogitPath, ...]
    steps: tuple[float, ...]
    images: int
    distortion: float

    def of(self, kind: str) -> AnswerSet:
        """Return the set of a kind; KeyError if there is none."""
        for each in self.sets:
            if each.kind == kind:
                return each
        raise KeyError(f"no images {kind!r}, expected one of {[s.kind for s in self.sets]}")

    def as_rows(self) -> list[dict[str, Any]]:
        """Return flat records, one for each kind of image, for CSV files."""
        return [
            {
                "images": each.kind,
                "error": each.error,
                "probability": each.probability,
                "largest": each.largest,
                "entropy": each.entropy,
                "margin": sum(each.margins) / len(each.margins),
                "predicted": " ".join(map(str, each.predicted)),
            }
            for each in self.sets
        ]

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> ClassDistributions:
        return cls(
            tuple(made(AnswerSet, each) for each in values["sets"]),
            tuple(made(LogitPath, each) for each in values["paths"]),
            tuple(values["steps"]),
            int(values["images"]),
            float(values["distortion"]),
        )

"""What a transfer study returns, and how it is kept on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from advkit._records import Saved
from advkit.transfer.intervals import difference_interval, wilson_interval

__all__ = ["KINDS", "TransferCell", "TransferMatrix", "TransferRow"]

KINDS = ("original", "adversarial", "matched noise", "noise", "amplified")


@dataclass(frozen=True)
class TransferCell:
    """What one network answers to the n images of a row.

    Parameters
    ----------
    errors : int
        Images that it does not give their label.
    same_mistake, other_mistake : int or None
        Errors with the same class that the network they were made for answers, and with another
        one. The rest of the n is unfooled. None in rows that were made for no network, and in rows
        "matched noise".
    target_match : int or None
        Images that it gives the target of the attack; None without targets.
    new_errors : int
        Errors among the images that it has right undistorted.
    adversarial_too : int or None
        In rows "matched noise": errors on images that it has wrong as adversarial images, too.
    """

    errors: int
    same_mistake: int | None
    other_mistake: int | None
    target_match: int | None
    new_errors: int
    adversarial_too: int | None


@dataclass(frozen=True)
class TransferRow:
    """One set of n images, fed to every network.

    Parameters
    ----------
    name : str
        What it is, in words.
    kind : str
        One of `KINDS`: "matched noise" has image by image the RMS of the adversarial images of
        `made_for`; "amplified" are those scaled to the RMS `size`.
    made_for : str or None
        The network that the images were distorted for.
    size : float or None
        The RMS that was asked for.
    clip : str or None
        How it was kept in the box, see `advkit.transfer.amplify`.
    distortion : float
        Mean RMS of the change over the images that are changed; nan where none is.
    distortion_of_all : float
        The same over all images, those that needed no change with 0.
    changed : int
        How many are.
    cells : tuple of TransferCell
        One for each network.
    """

    name: str
    kind: str
    made_for: str | None
    size: float | None
    clip: str | None
    distortion: float
    distortion_of_all: float
    changed: int
    cells: tuple[TransferCell, ...]


@dataclass(frozen=True)
class TransferMatrix(Saved):
    """Which networks are fooled by images that were distorted for which.

    The structure of Tables 2 and 4 of Szegedy et al. 2013: a row for each set of images, a column
    for each network.

    Parameters
    ----------
    models : tuple of str
        Names of the columns.
    rows : tuple of TransferRow
        In the order original, adversarial, matched noise, noise, amplified.
    images : int
        n, the same for every row.
    settings : dict of str to JSON value
        Of the attack and the rest.
    """

    models: tuple[str, ...]
    rows: tuple[TransferRow, ...]
    images: int
    settings: dict[str, Any]

    def __repr__(self) -> str:
        """Return its size on one line."""
        text = f"TransferMatrix({len(self.models)} networks, {len(self.rows)} rows"
        return text + f", {self.images} images)"

    def row(
        self,
        kind: str,
        made_for: str | None = None,
        *,
        size: float | None = None,
        clip: str | None = None,
    ) -> TransferRow:
        """Return the first row of a kind, for a network, size and clip where they are given.

        Raises
        ------
        KeyError
            There is none.
        """
        for row in self.rows:
            if (
                row.kind == kind
                and (made_for is None or row.made_for == made_for)
                and (size is None or row.size == size)
                and (clip is None or row.clip == clip)
            ):
                return row
        raise KeyError(f"no row {kind!r} with made_for={made_for!r}, size={size}, clip={clip!r}")

    def error(self, row: TransferRow, model: str) -> float:
        """Return the error of a network on the images of a row, in [0, 1]."""
        return row.cells[self._column(model)].errors / self.images

    def interval(
        self, row: TransferRow, model: str, *, confidence: float = 0.95
    ) -> tuple[float, float]:
        """Return the binomial confidence interval of `error`, see `wilson_interval`."""
        errors = row.cells[self._column(model)].errors
        return wilson_interval(errors, self.images, confidence=confidence)

    def excess(
        self, made_for: str, model: str, *, confidence: float = 0.95
    ) -> tuple[float, float, float]:
        """Return how much more adversarial images fool a network than noise of the same RMS does.

        Parameters
        ----------
        made_for, model : str
            Row and column.
        confidence : float
            Of the interval.

        Returns
        -------
        tuple of float
            Error on the adversarial images less that on the noise whose RMS is the same image by
            image, and the ends of the interval of the difference, see `difference_interval`: the
            images are the same. The
            lower end is above 0 where adversarial images fool more "within confidence".

        Raises
        ------
        KeyError
            There is no such row or column.
        """
        column = self._column(model)
        first = self.row("adversarial", made_for).cells[column].errors
        noise = self.row("matched noise", made_for).cells[column]
        both = noise.adversarial_too or 0
        ends = difference_interval(both, first, noise.errors, self.images, confidence=confidence)
        return (first - noise.errors) / self.images, *ends

    def as_rows(self, *, confidence: float = 0.95) -> list[dict[str, Any]]:
        """Return the matrix as flat records, one for each cell, for CSV files and data frames."""
        return [
            {
                "row": row.name,
                "kind": row.kind,
                "made for": row.made_for,
                "size": row.size,
                "clip": row.clip,
                "distortion": row.distortion,
                "distortion of all": row.distortion_of_all,
                "changed": row.changed,
                "fed to": model,
                "images": self.images,
                "error": cell.errors / self.images,
                **dict(
                    zip(
                        ("low", "high"),
                        self.interval(row, model, confidence=confidence),
                        strict=True,
                    )
                ),
                **asdict(cell),
            }
            for row in self.rows
            for model, cell in zip(self.models, row.cells, strict=True)
        ]

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> TransferMatrix:
        rows = tuple(_row(row) for row in values["rows"])
        models = tuple(values["models"])
        return cls(models, rows, int(values["images"]), dict(values["settings"]))

    def _column(self, model: str) -> int:
        if model not in self.models:
            raise KeyError(f"no network {model!r}, expected one of {', '.join(self.models)}")
        return self.models.index(model)


def _row(values: Mapping[str, Any]) -> TransferRow:
    cells: Sequence[Mapping[str, Any]] = values["cells"]
    known = {**values, "cells": tuple(TransferCell(**cell) for cell in cells)}
    if known["distortion"] is None:
        known["distortion"] = float("nan")
    return TransferRow(**known)

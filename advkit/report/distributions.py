"""Margins, predicted classes and logits before and after a perturbation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from advkit._extras import require
from advkit._files import replacing

if TYPE_CHECKING:
    from advkit.analysis import ClassDistributions

__all__ = ["distributions"]

_DPI = 150
_COLOURS = {"original": "#737373", "adversarial": "#b3261e", "noise": "#08519c"}


def distributions(
    rows: Mapping[str, ClassDistributions],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> None:
    """Draw a row of four panels for each study, and write them to a file.

    Histograms of the margins, predicted classes, and the first image's logits along r and along
    noise.

    Parameters
    ----------
    rows : mapping of str to ClassDistributions
        By what they are of.
    path : str or os.PathLike
        The file; its suffix chooses the format.
    title : str, optional
        Words above.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        There is no study.
    """
    require("matplotlib", extra="cli", purpose="distributions")
    from matplotlib.figure import Figure

    if not rows:
        raise ValueError("rows: expected at least one, got none")
    path = Path(path)
    figure = Figure(figsize=(13, 0.6 + 2.7 * len(rows)), facecolor="white", layout="constrained")
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for place, (name, each) in enumerate(rows.items()):
        margins, classes, *paths = grid[place]
        every = [value for answers in each.sets for value in answers.margins]
        for kind, colour in _COLOURS.items():
            answers = each.of(kind)
            margins.hist(
                answers.margins,
                bins=40,
                range=(min(every), max(every)),
                histtype="step",
                color=colour,
                label=kind,
            )
            classes.plot(
                range(len(answers.predicted)), answers.predicted, "o-", color=colour,
                markersize=4, linewidth=0.8,
            )  # fmt: skip
        margins.axvline(0, color="#1a1a1a", linewidth=0.6)
        margins.set_title(name, fontsize=9, loc="left")
        margins.set_xlabel("logit of the label less the largest other")
        margins.set_ylabel("images")
        classes.set_xlabel("predicted class")
        classes.set_ylabel("images")
        classes.set_ylim(bottom=0)
        for axes, along in zip(paths, each.paths, strict=True):
            middle = along.example[len(each.steps) // 2]
            label = middle.index(max(middle))
            for k in range(len(along.example[0])):
                axes.plot(
                    each.steps, [row[k] for row in along.example],
                    linewidth=2.2 if k == label else 0.8,
                )  # fmt: skip
            axes.axvline(0, color="#1a1a1a", linewidth=0.6)
            where = "r" if along.kind == "adversarial" else "noise"
            axes.set_xlabel(f"logits of the first image, times {where}")
        if place == 0:
            margins.legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")

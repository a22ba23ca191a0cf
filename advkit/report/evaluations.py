"""A picture of distance against evaluations."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from advkit._extras import require
from advkit._files import replacing

if TYPE_CHECKING:
    from advkit.analysis import EvaluationCurves

__all__ = ["evaluations"]

_DPI = 150
_LINES = ("-", "--", ":", "-.")


def evaluations(
    panels: Mapping[str, EvaluationCurves],
    path: str | os.PathLike[str],
    *,
    up: str = "distance",
    title: str | None = None,
) -> None:
    """Draw the median and the quartiles between which half of the images lie.

    Parameters
    ----------
    panels : mapping of str to EvaluationCurves
        For each panel its heading and the attacks' curves. A curve begins where half of the images
        are found, its band where three quarters are.
    path : str or os.PathLike
        The file; its suffix chooses the format.
    up : str
        What is drawn upwards.
    title : str, optional
        Words above.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        There is no panel.
    """
    require("matplotlib", extra="cli", purpose="evaluations")
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    if not panels:
        raise ValueError("panels: expected at least one")
    path = Path(path)
    figure = Figure(figsize=(1 + 3.6 * len(panels), 3.8), facecolor="white", layout="constrained")
    for place, (heading, found) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for row, curve in enumerate(found.curves):
            where = found.evaluations
            low, middle, high = (
                [q if math.isfinite(q) else math.nan for q in column]
                for column in zip(*curve.quartiles, strict=True)
            )
            axes.plot(where, middle, _LINES[row % len(_LINES)], label=curve.name, linewidth=2)
            axes.fill_between(where, low, high, alpha=0.15)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_ylim(bottom=0)
        axes.set_title(heading, fontsize=10)
        axes.set_xlabel("evaluations of an image")
        axes.grid(alpha=0.3)
        if place == 0:
            axes.set_ylabel(f"{up}: median and quartiles")
            axes.legend(frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")

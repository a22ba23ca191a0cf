"""Bounds and estimates of layers' norms, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from advkit._extras import require
from advkit._files import replacing

if TYPE_CHECKING:
    from advkit.analysis import Spectrum

__all__ = ["norms"]

_DPI = 150


def norms(
    spectra: Mapping[str, Spectrum], path: str | os.PathLike[str], *, title: str | None = None
) -> None:
    """Draw the bound and the estimate from below of each layer, and of the whole network.

    Parameters
    ----------
    spectra : mapping of str to Spectrum
        By the names of the networks, a panel each.
    path : str or os.PathLike
        The file; its suffix chooses the format.
    title : str, optional
        Words above.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        There is no network.
    """
    require("matplotlib", extra="cli", purpose="norms")
    from matplotlib.figure import Figure

    if not spectra:
        raise ValueError("spectra: expected at least one, got none")
    path = Path(path)
    rows = max(len(each.as_rows()) for each in spectra.values())
    figure = Figure(
        figsize=(0.6 + 3.2 * len(spectra), 1.6 + 0.3 * rows), facecolor="white",
        layout="constrained",
    )  # fmt: skip
    axes = None
    for place, (name, each) in enumerate(spectra.items()):
        axes = figure.add_subplot(1, len(spectra), place + 1, sharex=axes)
        lines = each.as_rows()
        names = [f"{line['layer']} {line['kind']}".strip() for line in lines]
        for row, line in enumerate(lines):
            upper, lower = line["upper bound"], line["lower estimate"]
            if lower is not None:
                axes.plot([lower, upper], [row, row], color="#9ecae1", linewidth=3)
                axes.plot([lower], [row], "o", color="#08519c", label="estimate from below")
            axes.plot([upper], [row], "|", color="#b3261e", markersize=13, label="upper bound")
        axes.set_xscale("log")
        axes.set_yticks(range(len(lines)), names, fontsize=8)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_xlabel("norm")
        axes.set_title(name, fontsize=9)
        axes.grid(axis="x", alpha=0.3)
    assert axes is not None
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(
        list(unique.values()), list(unique), loc="outside lower center", ncols=2, frameon=False
    )
    if title:
        figure.suptitle(title, fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")

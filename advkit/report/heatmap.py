"""A transfer matrix as a heat map."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from advkit._extras import require
from advkit._files import replacing
from advkit.transfer.result import TransferMatrix, TransferRow

__all__ = ["heatmap"]

_CELL, _LABEL, _MARGIN = 0.95, 2.7, 0.2  # inches
_ROW = 0.42
_COLUMN_CHARACTERS = 13
_DPI = 150
_DARK = 0.55  # error from which numbers are white


def heatmap(
    matrix: TransferMatrix,
    path: str | os.PathLike[str],
    *,
    rows: Sequence[TransferRow] | None = None,
    names: Mapping[str, str] | None = None,
    title: str | None = None,
) -> None:
    """Draw the errors of a transfer matrix, in per cent, and write them to a file.

    A row for each set of images, a column for each network; the colour is the error, the small
    numbers are the ends of its 95 % interval, and at the right is the mean RMS of the change.

    Parameters
    ----------
    matrix : TransferMatrix
        What to draw.
    path : str or os.PathLike
        The file; its suffix chooses the format.
    rows : sequence of TransferRow, optional
        Those to draw; by default all.
    names : mapping of str to str, optional
        What to write in place of the networks' names.
    title : str, optional
        Words above.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        There are no rows, or matplotlib does not know the suffix.
    """
    require("matplotlib", extra="cli", purpose="heatmap")
    from matplotlib.figure import Figure

    shown = matrix.rows if rows is None else rows
    if not shown:
        raise ValueError("rows: expected at least one, got none")
    path, known = Path(path), names or {}
    columns = [known.get(name, name) for name in matrix.models]
    width = 2 * _MARGIN + _LABEL + _CELL * (len(columns) + 1)
    body = _ROW * len(shown)
    top = _MARGIN + 0.55 + (0.3 if title else 0)
    height = top + body + 0.55
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes(
        (
            (_MARGIN + _LABEL) / width,
            1 - (top + body) / height,
            _CELL * len(columns) / width,
            body / height,
        )
    )
    errors = [[matrix.error(row, name) for name in matrix.models] for row in shown]
    axes.imshow(errors, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), [_broken(name) for name in columns])
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(shown)), [_label(row, known) for row in shown])
    axes.tick_params(length=0, labelsize=8.5)
    for place, row in enumerate(shown):
        for column, name in enumerate(matrix.models):
            error = errors[place][column]
            low, high = matrix.interval(row, name)
            colour = "white" if error > _DARK else "#1a1a1a"
            axes.text(
                column, place - 0.14, f"{100 * error:.1f}", ha="center", va="center",
                fontsize=9.5, color=colour,
            )  # fmt: skip
            axes.text(
                column, place + 0.27, f"{100 * low:.1f} to {100 * high:.1f}", ha="center",
                va="center", fontsize=6, color=colour,
            )  # fmt: skip
        axes.text(
            len(columns) - 0.35, place, f"{row.distortion_of_all:#.2g}", ha="left", va="center",
            fontsize=9,
        )  # fmt: skip
    axes.text(len(columns) - 0.35, -0.75, "mean RMS", ha="left", va="bottom", fontsize=8.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        figure.text(_MARGIN / width, 1 - _MARGIN / height, title, fontsize=11, va="top")
    figure.text(
        _MARGIN / width,
        0.5 * _MARGIN / height,
        f"Error in % of the network at the top on images distorted for that on the left; "
        f"{matrix.images} images, 95 % intervals.",
        fontsize=8,
        color="#737373",
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")


def _broken(name: str) -> str:
    """Return a name in lines that fit a column."""
    lines = (
        textwrap.fill(part, _COLUMN_CHARACTERS) for part in name.replace("(", "\n(").split("\n")
    )
    return "\n".join(lines)


def _label(row: TransferRow, names: Mapping[str, str]) -> str:
    """Return the name of a row, with the network's name for people."""
    if row.made_for is None:
        return row.name
    return row.name.replace(row.made_for, names.get(row.made_for, row.made_for))

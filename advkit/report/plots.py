"""Plain plots: curves, and dots for a few values of each kind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from advkit._extras import require
from advkit._files import replacing

__all__ = ["curves", "dots"]

_DPI = 150
_MARKS = ("o", "s", "^", "D", "v", "P", "X")


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | os.PathLike[str],
    *,
    across: str,
    up: str,
    logarithmic: bool = False,
    title: str | None = None,
) -> None:
    """Draw curves, and write them to a file.

    Parameters
    ----------
    lines : mapping of str to (sequence, sequence)
        For each curve its name, and the values across and up.
    path : str or os.PathLike
        The file; its suffix chooses the format.
    across, up : str
        What the axes show.
    logarithmic : bool
        Whether the values across are drawn by their logarithm.
    title : str, optional
        Words above.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    require("matplotlib", extra="cli", purpose="curves")
    from matplotlib.figure import Figure

    path = Path(path)
    figure = Figure(figsize=(6.5, 4.2), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for place, (name, (where, values)) in enumerate(lines.items()):
        axes.plot(
            where, values, marker=_MARKS[place % len(_MARKS)], label=name, alpha=0.8,
            markersize=max(4, 11 - 3 * place),  # those below show where lines coincide
        )  # fmt: skip
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    if title:
        axes.set_title(title, fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")


def dots(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> None:
    """Draw a few values of each kind as dots on a line, with their mean as a bar.

    Parameters
    ----------
    panels : mapping of str to mapping
        For each panel its heading, and the values of each kind; the kinds are the same in all.
    path : str or os.PathLike
        The file; its suffix chooses the format.
    title : str, optional
        Words above.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    require("matplotlib", extra="cli", purpose="dots")
    from matplotlib.figure import Figure

    path = Path(path)
    kinds = list(next(iter(panels.values())))
    height = 1.3 + 0.38 * len(kinds)
    figure = Figure(
        figsize=(2.3 + 2.9 * len(panels), height), facecolor="white", layout="constrained"
    )
    for place, (heading, values) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for row, kind in enumerate(kinds):
            axes.plot(
                [sum(values[kind]) / len(values[kind])], [row], marker="|", markersize=16,
                color="#737373",
            )  # fmt: skip
            axes.plot(values[kind], [row] * len(values[kind]), "o", color="#08519c", alpha=0.7)
        axes.set_yticks(range(len(kinds)), kinds if place == 0 else [""] * len(kinds))
        axes.set_ylim(len(kinds) - 0.5, -0.5)
        axes.set_xlim(0, 1.08 * max(map(max, values.values())) or None)
        axes.set_xlabel(heading)
        axes.grid(axis="x", alpha=0.3)
    if title:
        figure.suptitle(title, fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")

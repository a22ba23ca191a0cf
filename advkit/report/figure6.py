"""Pictures in the style of Szegedy et al. 2013, Figure 6."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from advkit._extras import require
from advkit._files import replacing
from advkit.report.figure import _DPI, _INK, _QUIET, _WRONG, _draw, _pictures

__all__ = ["figure6"]


def figure6(
    x: torch.Tensor,
    adversarial: torch.Tensor,
    name: str,
    path: str | os.PathLike[str],
    *,
    magnify: float,
    rows: int = 4,
    columns: int = 2,
    title: str | None = None,
) -> None:
    """Draw images that are recognised, the same not recognised, and how they differ.

    Parameters
    ----------
    x, adversarial : torch.Tensor, (B, H, W) or (B, 1 or 3, H, W), floating
        The images, with values in [0, 1].
    name : str
        Of the class.
    path : str or os.PathLike
        The file; its suffix chooses the format.
    magnify : float
        Factor on the absolute difference, which is drawn on black and cut at 1.
    rows, columns : int
        The grid of triples; the first images are drawn.
    title : str, optional
        Words above.

    Raises
    ------
    ValueError
        Shapes do not fit, or there is nothing to draw.
    ImportError
        If matplotlib is not installed.
    """
    require("matplotlib", extra="cli", purpose="figure6")
    path = Path(path)
    originals, fooling = _pictures("x", x), _pictures("adversarial", adversarial)
    if originals.shape != fooling.shape or rows < 1 or columns < 1:
        raise ValueError(
            f"adversarial: expected the shape of x, {tuple(x.shape)}, and at least a row and a "
            f"column, got {tuple(adversarial.shape)}, {rows} and {columns}"
        )
    shown = min(len(originals), rows * columns)
    difference = (fooling - originals).abs()
    rms = difference.square().flatten(1).mean(1).sqrt().tolist()
    triples = [
        [
            (originals[i], name, _INK),
            (fooling[i], f"not {name}", _WRONG),
            (magnify * difference[i], f"rms {rms[i]:#.3g}", _QUIET),
        ]
        for i in range(shown)
    ]
    times = f"|difference| \N{MULTIPLICATION SIGN}{magnify:g}"
    figure = _draw(triples, ["recognised", "not recognised", times], min(columns, shown), title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")

"""Strips of images, as in Szegedy et al. 2013, Figures 1 to 4."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from advkit._extras import require
from advkit._files import replacing

__all__ = ["strips"]

_GAP, _MARGIN, _CAPTION, _TITLE = 0.35, 0.15, 0.3, 0.35  # inches
_DPI = 200


def strips(
    panels: Sequence[tuple[str, torch.Tensor]],
    path: str | os.PathLike[str],
    *,
    columns: int = 2,
    side: float = 0.42,
    title: str | None = None,
) -> None:
    """Draw rows of images with a caption under each, and write them to a file.

    Parameters
    ----------
    panels : sequence of (str, Tensor)
        For each strip its caption and images (k, 1 or 3, H, W) in [0, 1], the same k for all.
    path : str or os.PathLike
        The file; its suffix chooses the format.
    columns : int
        Strips beside each other.
    side : float
        Width of an image, in inches.
    title : str, optional
        Words above.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        A shape does not fit, or matplotlib does not know the suffix.
    """
    require("matplotlib", extra="cli", purpose="strips")
    from matplotlib.figure import Figure

    if not panels or columns < 1 or not side > 0:
        raise ValueError("panels, columns and side: expected at least one, and a width above 0")
    shapes = {tuple(images.shape) for _, images in panels}
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 4 or shape[1] not in (1, 3) or not shape[0]:
        raise ValueError(
            f"panels: expected images (k, 1 or 3, H, W) of one shape, got {sorted(shapes)}"
        )
    path = Path(path)
    rows = -(-len(panels) // columns)
    long = shape[0] * side
    tall = side * shape[2] / shape[3]
    top = _MARGIN + (_TITLE if title else 0)
    width = 2 * _MARGIN + columns * long + (columns - 1) * _GAP
    height = top + rows * (tall + _CAPTION) + _MARGIN
    figure = Figure(figsize=(width, height), facecolor="white")
    for place, (caption, images) in enumerate(panels):
        row, column = divmod(place, columns)
        left = _MARGIN + column * (long + _GAP)
        down = top + row * (tall + _CAPTION)
        axes = figure.add_axes(
            (left / width, 1 - (down + tall) / height, long / width, tall / height)
        )
        framed = torch.nn.functional.pad(
            images.detach().cpu().double().clamp(0, 1), (0, 1), value=1.0
        )
        strip = torch.cat(list(framed), 2).movedim(0, -1)
        axes.imshow(strip.numpy(), cmap="gray", vmin=0, vmax=1, aspect="auto")
        axes.set_axis_off()
        figure.text(
            left / width, 1 - (down + tall + 0.04) / height, caption, fontsize=8, va="top"
        )  # fmt: skip
    if title:
        figure.text(_MARGIN / width, 1 - _MARGIN / height, title, fontsize=10, va="top")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")

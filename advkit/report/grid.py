"""Originals beside distorted images in a grid, as in Szegedy et al. 2013, Figure 7."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from advkit._extras import require
from advkit._files import replacing

__all__ = ["figure7"]

_PICTURE, _GAP, _PANEL_GAP, _MARGIN, _TITLE = 0.42, 0.03, 0.3, 0.15, 0.55  # inches
_DPI = 200


def figure7(
    panels: Sequence[tuple[str, torch.Tensor, torch.Tensor]],
    path: str | os.PathLike[str],
    *,
    rows: int = 8,
    pairs: int = 4,
) -> None:
    """Draw panels of images, original in odd columns and distorted in even ones.

    Parameters
    ----------
    panels : sequence of (str, Tensor, Tensor)
        For each panel its title, the originals (B, 1 or 3, H, W) and the distorted images of
        the same shape; values outside [0, 1] are cut for the drawing. The first ``rows * pairs``
        are drawn.
    path : str or os.PathLike
        The file; its suffix chooses the format.
    rows : int
        Of each panel.
    pairs : int
        Original and distorted image, in a row.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        A shape does not fit, or matplotlib does not know the suffix.
    """
    require("matplotlib", extra="cli", purpose="figure7")
    from matplotlib.figure import Figure

    if not panels or rows < 1 or pairs < 1:
        raise ValueError("panels, rows and pairs: expected at least one of each")
    path = Path(path)
    mosaics = [_mosaic(title, x, changed, rows, pairs) for title, x, changed in panels]
    side = 2 * pairs * (_PICTURE + _GAP)
    body = max(mosaic.shape[0] / mosaic.shape[1] for mosaic in mosaics) * side
    width = 2 * _MARGIN + len(panels) * side + (len(panels) - 1) * _PANEL_GAP
    height = 2 * _MARGIN + _TITLE + body
    figure = Figure(figsize=(width, height), facecolor="white")
    for place, ((title, _, _), mosaic) in enumerate(zip(panels, mosaics, strict=True)):
        left = _MARGIN + place * (side + _PANEL_GAP)
        share = mosaic.shape[0] / mosaic.shape[1] * side
        axes = figure.add_axes(
            (
                left / width,
                1 - (_MARGIN + _TITLE + share) / height,
                side / width,
                share / height,
            )
        )
        axes.imshow(mosaic.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        figure.text(left / width, 1 - _MARGIN / height, title, fontsize=9, va="top")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")


def _mosaic(
    title: str, x: torch.Tensor, changed: torch.Tensor, rows: int, pairs: int
) -> torch.Tensor:
    """Return one picture of all images of a panel, with white lines between pairs."""
    if x.shape != changed.shape or x.dim() != 4 or x.shape[1] not in (1, 3) or not len(x):
        raise ValueError(
            f"panels: expected images (B, 1 or 3, H, W) and as many distorted ones in {title!r}, "
            f"got {tuple(x.shape)} and {tuple(changed.shape)}"
        )
    both = torch.stack([x, changed], 1)[: rows * pairs].detach().cpu().double().clamp(0, 1)
    missing = -len(both) % pairs
    both = torch.cat([both, both.new_ones(missing, *both.shape[1:])])
    # (B, 2, C, H, W) -> pictures side by side, with a margin at the right and below.
    framed = torch.nn.functional.pad(both, (0, 1, 0, 1), value=1.0)
    wide = torch.cat([framed[:, 0], framed[:, 1]], -1)
    wide = torch.nn.functional.pad(wide, (0, 2), value=1.0)
    lines = [torch.cat(list(part), -1) for part in wide.split(pairs)]
    return torch.cat(lines, 1).movedim(0, -1)

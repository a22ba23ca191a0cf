"""Originals, adversarial images and how they differ: Szegedy et al. 2013, Figures 5 and 6."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from advkit._extras import require
from advkit._files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Lengths in inches; at 200 dots per inch a 28 x 28 image is about 9 dots per pixel.
_WIDTH = 1.3
_PICTURE_GAP = 0.07
_TRIPLE_GAP = 0.55
_LINE = 0.17
_MARGIN = 0.2
_DPI = 200

_INK, _QUIET, _WRONG = "#1a1a1a", "#737373", "#b3261e"
_LABEL_CHARACTERS = 19  # what fits under a picture at the label's font size
_TITLE_CHARACTERS = 11  # what fits in an inch at the title's font size


def figure5(
    x: torch.Tensor,
    adversarial: torch.Tensor,
    labels: torch.Tensor,
    predicted: torch.Tensor,
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    rows: int = 4,
    columns: int = 2,
    magnify: float = 10,
    title: str | None = None,
) -> None:
    """Draw originals, magnified differences and adversarial images, and write them to a file.

    Each image is a triple, as in Figure 5 of Szegedy et al. 2013: the original, the difference
    ``clip(0.5 + magnify * (adversarial - x), 0, 1)``, so that grey means unchanged, and the
    adversarial image. Under them stand the true class, the RMS of the difference, and the class
    that the network sees, in red where it is wrong.

    Parameters
    ----------
    x, adversarial : torch.Tensor, (B, H, W) or (B, 1 or 3, H, W), floating
        The images, with values in [0, 1]; what lies outside is clipped for the drawing.
    labels, predicted : torch.Tensor, (B,), integer
        The true classes, and those the network gives to `adversarial`.
    path : str or os.PathLike
        The file to write; its suffix chooses the format: .png (default), .pdf, .svg and so on.
    class_names : sequence of str, optional
        A name for every class. Default: the numbers.
    rows, columns : int, default 4 and 2
        The grid of triples. The first ``rows * columns`` images are drawn, row by row; with
        fewer images the grid is smaller.
    magnify : float, default 10
        Factor on the difference.
    title : str, optional
        Words above the pictures, broken to their width.

    Raises
    ------
    ValueError
        If a shape does not fit, there is nothing to draw, a class has no name, or matplotlib
        does not know the suffix.
    ImportError
        If matplotlib is not installed.
    """
    require("matplotlib", extra="cli", purpose="figure5")
    if rows < 1 or columns < 1:
        raise ValueError(f"rows and columns must be at least 1, got {rows} and {columns}")
    path = Path(path)
    originals = _pictures("x", x)
    fooling = _pictures("adversarial", adversarial)
    if originals.shape != fooling.shape:
        raise ValueError(
            f"adversarial must have the shape of x, {tuple(x.shape)}, "
            f"got {tuple(adversarial.shape)}"
        )
    shown = min(len(originals), rows * columns)
    true_names = _names("labels", labels, class_names, expected=len(originals))[:shown]
    seen_names = _names("predicted", predicted, class_names, expected=len(originals))[:shown]
    originals, fooling = originals[:shown], fooling[:shown]
    difference = fooling - originals
    rms = difference.square().flatten(1).mean(1).sqrt().tolist()
    triples = [
        [
            (originals[i], true_names[i], _INK),
            (0.5 + magnify * difference[i], f"rms {rms[i]:#.3g}", _QUIET),
            (fooling[i], seen_names[i], _INK if seen_names[i] == true_names[i] else _WRONG),
        ]
        for i in range(shown)
    ]
    headings = ["original", f"difference \N{MULTIPLICATION SIGN}{magnify:g}", "adversarial"]
    figure = _draw(triples, headings, min(columns, shown), title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")


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


def _pictures(name: str, images: torch.Tensor) -> torch.Tensor:
    """Return the images as (B, H, W) greyscale or (B, H, W, 3) colour, float64 on the CPU."""
    channels = images.shape[1] if images.ndim == 4 else 1
    if images.ndim not in (3, 4) or channels not in (1, 3) or not images.is_floating_point():
        raise ValueError(
            f"{name} must be floating point of shape (B, H, W), (B, 1, H, W) or (B, 3, H, W), "
            f"got {images.dtype} of shape {tuple(images.shape)}"
        )
    if images.numel() == 0:
        raise ValueError(f"{name} is empty, shape {tuple(images.shape)}: there is nothing to draw")
    images = images.detach().cpu().double()
    if images.ndim == 3:
        return images
    return images.squeeze(1) if channels == 1 else images.movedim(1, -1)


def _names(
    name: str, classes: torch.Tensor, class_names: Sequence[str] | None, *, expected: int
) -> list[str]:
    """Return the name of each class, broken to the width of a picture and two lines."""
    if classes.shape != (expected,):
        raise ValueError(f"{name} must have shape ({expected},), got {tuple(classes.shape)}")
    numbers: list[int] = classes.tolist()
    if class_names is None:
        return [str(number) for number in numbers]
    for number in numbers:
        if not 0 <= number < len(class_names):
            raise ValueError(
                f"class_names has {len(class_names)} names, but {name} holds class {number}"
            )
    return [
        textwrap.fill(class_names[number], _LABEL_CHARACTERS, max_lines=2, placeholder=" …")
        for number in numbers
    ]


def _draw(
    triples: list[list[tuple[torch.Tensor, str, str]]],
    headings: list[str],
    columns: int,
    title: str | None,
) -> Figure:
    """Lay the triples out on a grid; every position is computed, so pictures align exactly."""
    # The Figure class without pyplot: no global list of figures, no choice of a display.
    from matplotlib.figure import Figure

    rows = -(-len(triples) // columns)
    lines = max(label.count("\n") + 1 for triple in triples for _, label, _ in triple)
    picture_height = _WIDTH * triples[0][0][0].shape[0] / triples[0][0][0].shape[1]
    row_height = picture_height + (lines + 0.9) * _LINE
    triple_width = 3 * _WIDTH + 2 * _PICTURE_GAP
    width = 2 * _MARGIN + columns * triple_width + (columns - 1) * _TRIPLE_GAP
    title_lines = textwrap.wrap(title or "", int(_TITLE_CHARACTERS * (width - 2 * _MARGIN)))
    top = _MARGIN + 1.3 * _LINE + (1.1 * len(title_lines) + 0.9 * bool(title_lines)) * _LINE
    height = top + rows * row_height + 0.3 * _MARGIN
    figure = Figure(figsize=(width, height), facecolor="white")

    def text(left: float, down: float, words: str, colour: str, size: float, where: str) -> None:
        """Write `words` with their top at a point in inches from the upper left corner."""
        # Names of classes and folders are no formulae, whatever dollars they hold.
        x, y = left / width, 1 - down / height
        style = dict[str, Any](color=colour, fontsize=size, ha=where, va="top", parse_math=False)
        figure.text(x, y, words, **style)

    text(_MARGIN, 0.8 * _MARGIN, "\n".join(title_lines), _INK, 11, "left")
    for number, triple in enumerate(triples):
        row, column = divmod(number, columns)
        down = top + row * row_height
        for place, (picture, label, colour) in enumerate(triple):
            left = _MARGIN + column * (triple_width + _TRIPLE_GAP)
            left += place * (_WIDTH + _PICTURE_GAP)
            axes = figure.add_axes(
                (
                    left / width,
                    1 - (down + picture_height) / height,
                    _WIDTH / width,
                    picture_height / height,
                )
            )
            axes.imshow(
                picture.clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
            )
            axes.set_axis_off()
            centre = left + _WIDTH / 2
            text(centre, down + picture_height + 0.35 * _LINE, label, colour, 10, "center")
            if row == 0:
                text(centre, down - 1.2 * _LINE, headings[place], _QUIET, 8.5, "center")
    return figure

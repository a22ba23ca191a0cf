"""Heat map, grid and plots: what is drawn where, and what is refused."""

import numpy as np
import pytest
import torch

from advkit.report import curves, dots, figure7, heatmap
from advkit.transfer import TransferCell, TransferMatrix, TransferRow

pytest.importorskip("matplotlib")


def read(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


def made(*errors):
    """Return a matrix of two networks with given numbers of errors of 10."""
    rows = tuple(
        TransferRow(
            f"row {place}", "noise", None, 0.1, "none", 0.1, 0.1, 10,
            tuple(TransferCell(count, None, None, None, count, None) for count in pair),
        )
        for place, pair in enumerate(errors)
    )  # fmt: skip
    return TransferMatrix(("a", "b"), rows, 10, {})


def test_heatmap_is_darker_where_errors_are(tmp_path):
    pictures = []
    for place, errors in enumerate(((0, 10), (10, 0))):
        heatmap(made(errors), tmp_path / f"{place}.png", title="t")
        pictures.append(read(tmp_path / f"{place}.png").mean(-1))
    dark = [np.argwhere(picture < 0.3)[:, 1].mean() for picture in pictures]
    assert dark[0] > dark[1]
    assert pictures[0].shape == pictures[1].shape
    heatmap(made((1, 2), (3, 4)), tmp_path / "m.pdf", names={"a": "A(1)"})
    assert (tmp_path / "m.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="rows: expected at least one"):
        heatmap(made((1, 2)), tmp_path / "n.png", rows=[])


def test_grid_alternates_original_and_distorted(tmp_path):
    x = torch.zeros(6, 1, 8, 8)
    changed = torch.full((6, 1, 8, 8), 0.5)
    figure7([("one\ntwo", x, changed)], tmp_path / "g.png", rows=2, pairs=3)
    picture = read(tmp_path / "g.png").mean(-1)
    row = picture[int(picture.shape[0] * 0.6)]
    runs = [row[0]]
    for value in row[1:]:
        if abs(value - runs[-1]) > 0.2:
            runs.append(value)
    shades = [round(float(value), 1) for value in runs if value < 0.9]
    assert shades == [0.0, 0.5] * 3


def test_grid_refuses(tmp_path):
    x = torch.zeros(6, 1, 8, 8)
    with pytest.raises(ValueError, match="panels: expected images"):
        figure7([("t", x, x[:3])], tmp_path / "g.png")
    with pytest.raises(ValueError, match="at least one of each"):
        figure7([], tmp_path / "g.png")


def test_plots_are_written(tmp_path):
    curves(
        {"a": ([1, 2], [0.1, 0.2]), "b": ([1, 2], [0.2, 0.1])},
        tmp_path / "c.png", across="x", up="y", logarithmic=True, title="t",
    )  # fmt: skip
    dots({"p": {"a": [1, 2], "b": [3]}, "q": {"a": [1], "b": [2]}}, tmp_path / "d.png", title="t")
    for name in "cd":
        assert read(tmp_path / f"{name}.png").std() > 0.01

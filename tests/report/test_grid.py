"""Figure 7's panels, pixel by pixel."""

import pytest
import torch

from advkit.report import figure7

pytest.importorskip("matplotlib")
from matplotlib import image


@pytest.mark.parametrize("colour", [(1.0, 0.0, 0.0), (0.2,)], ids=["colour", "grey"])
def test_originals_stand_left_of_distorted_images_in_their_colours(tmp_path, colour):
    x = torch.tensor(colour).view(1, -1, 1, 1).expand(2, len(colour), 6, 6)
    figure7([("a panel", x, 1 - x)], tmp_path / "a.png", rows=1, pairs=2)
    drawn = torch.from_numpy(image.imread(tmp_path / "a.png"))[..., :3]
    where = {}
    for name, wanted in (("original", colour), ("distorted", [1 - c for c in colour])):
        full = torch.tensor((list(wanted) * 3)[:3])
        found = (drawn - full).abs().amax(2) < 0.01
        assert int(found.sum()) > 200, name
        where[name] = found.nonzero()[:, 1].float().mean()
    assert where["original"] < where["distorted"]


@pytest.mark.parametrize("shape", [(2, 2, 4, 4), (2, 4, 4), (0, 1, 4, 4)])
def test_other_shapes_are_refused(tmp_path, shape):
    x = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"panels: expected images \(B, 1 or 3, H, W\)"):
        figure7([("a", x, x)], tmp_path / "a.png")

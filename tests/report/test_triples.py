"""The picture: what is drawn, in which format, and what is refused."""

import sys

import numpy as np
import pytest
import torch

from advkit.report import figure5, figure6

pytest.importorskip("matplotlib")


def read(path):
    """Return the picture as integers 0 ... 255, (H, W, 3)."""
    from matplotlib.image import imread

    return np.rint(imread(path)[..., :3] * 255).astype(int)


def share(picture, colour):
    """Return which part of the picture has a colour, give or take one step of 255."""
    return float((np.abs(picture - np.array(colour)) <= 1).all(-1).mean())


def flat(count, *colour, height=4, width=4):
    """Return images of one colour: a number for (B, 1, H, W), three for (B, 3, H, W)."""
    return torch.tensor(colour).view(1, -1, 1, 1).repeat(count, 1, height, width)


def draw(path, x, adversarial, **options):
    count = len(x)
    labels, predicted = torch.zeros(count).long(), torch.ones(count).long()
    figure5(x, adversarial, labels, predicted, path, **options)


def test_shows_the_original_the_magnified_difference_and_the_adversarial(tmp_path):
    x, adversarial = flat(1, 0.2), flat(1, 0.23)
    draw(tmp_path / "figure.png", x, adversarial)
    picture = read(tmp_path / "figure.png")
    original, difference, fooling = (share(picture, [v] * 3) for v in (51, 0.8 * 256, 59))
    assert original > 0.15
    assert difference == pytest.approx(original, rel=0.02)
    assert fooling == pytest.approx(original, rel=0.02)


def test_no_difference_is_grey_and_large_ones_are_clipped(tmp_path):
    x = flat(1, 0.5).repeat(1, 1, 1, 3)
    adversarial = x.clone()
    adversarial[..., 4:8] += 0.3
    adversarial[..., 8:] -= 0.3
    draw(tmp_path / "figure.png", x, adversarial)
    picture = read(tmp_path / "figure.png")
    black = share(picture, [0] * 3)
    assert black > 0.03
    assert share(picture, [128] * 3) == pytest.approx(5 * black, rel=0.05)


def test_colours_stay_colours(tmp_path):
    x, adversarial = flat(1, 0.2, 0.4, 0.6), flat(1, 0.22, 0.4, 0.57)
    draw(tmp_path / "figure.png", x, adversarial)
    picture = read(tmp_path / "figure.png")
    for colour in ([51, 102, 153], [0.7 * 255, 127.5, 0.2 * 255], [56, 102, 145]):
        assert share(picture, colour) > 0.15


def test_magnify(tmp_path):
    draw(tmp_path / "figure.png", flat(1, 0.2), flat(1, 0.23), magnify=5)
    assert share(read(tmp_path / "figure.png"), [0.65 * 256] * 3) > 0.15


def test_a_channel_axis_of_one_changes_nothing(tmp_path):
    x, adversarial = torch.rand(2, 5, 6), torch.rand(2, 5, 6)
    draw(tmp_path / "three.png", x, adversarial)
    draw(tmp_path / "four.png", x[:, None], adversarial[:, None])
    assert (read(tmp_path / "three.png") == read(tmp_path / "four.png")).all()


def test_the_input_is_left_alone(tmp_path):
    x, adversarial = flat(2, 0.2), flat(2, 1.5)
    draw(tmp_path / "figure.png", x, adversarial)
    assert torch.equal(x, flat(2, 0.2))
    assert torch.equal(adversarial, flat(2, 1.5))


def test_the_grid_follows_the_number_of_images(tmp_path):
    shapes = {}
    for count in (1, 2, 3, 8, 9):
        path = tmp_path / f"{count}.png"
        draw(path, flat(count, 0.2), flat(count, 0.3))
        shapes[count] = read(path).shape
    assert shapes[1][0] == shapes[2][0] < shapes[3][0] < shapes[8][0]
    assert shapes[1][1] < shapes[2][1] == shapes[3][1]
    assert shapes[9] == shapes[8]


def test_rows_and_columns(tmp_path):
    draw(tmp_path / "tall.png", flat(6, 0.2), flat(6, 0.3), rows=6, columns=1)
    draw(tmp_path / "wide.png", flat(6, 0.2), flat(6, 0.3), rows=2, columns=3)
    assert read(tmp_path / "tall.png").shape[0] > 2 * read(tmp_path / "wide.png").shape[0]


@pytest.mark.parametrize(
    ("predicted", "red"), [(0, False), (1, True)], ids=["right-in-black", "wrong-in-red"]
)
def test_the_label_of_a_fooled_network_is_red(tmp_path, predicted, red):
    x, labels = flat(1, 0.2), torch.tensor([0])
    names = ["MMMMMM", "WWWWWW"]
    predicted = torch.tensor([predicted])
    figure5(x, x, labels, predicted, tmp_path / "figure.png", class_names=names)
    picture = read(tmp_path / "figure.png")
    reddish = picture[..., 0] - picture[..., 1] > 80
    assert bool(reddish.any()) == red


def test_long_names_take_a_second_line(tmp_path):
    for name in ("ostrich", "ostrich, Struthio camelus", "ostrich " * 20):
        path = tmp_path / f"{len(name)}.png"
        draw(path, flat(1, 0.2), flat(1, 0.3), class_names=[name, name])
    heights = [read(tmp_path / f"{length}.png").shape[0] for length in (7, 25, 160)]
    assert heights[0] < heights[1] == heights[2]


def test_a_title_takes_room_above(tmp_path):
    draw(tmp_path / "plain.png", flat(1, 0.2), flat(1, 0.3))
    draw(tmp_path / "title.png", flat(1, 0.2), flat(1, 0.3), title="a title")
    draw(tmp_path / "long.png", flat(1, 0.2), flat(1, 0.3), title="a title " * 10)
    heights = [read(tmp_path / f"{name}.png").shape[0] for name in ("plain", "title", "long")]
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize(
    ("name", "start"),
    [("figure.pdf", b"%PDF"), ("figure.svg", b"<?xml"), ("figure", b"\x89PNG")],
)
def test_the_suffix_chooses_the_format(tmp_path, name, start):
    draw(tmp_path / name, flat(1, 0.2), flat(1, 0.3))
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_are_no_formulae(tmp_path):
    """Folders and classes of users may hold dollars, which matplotlib takes for mathematics."""
    x = torch.rand(1, 1, 4, 4)
    names = ["$c^{ar|d$"]
    figure6(x, 1 - x, names[0], tmp_path / "a.png", magnify=2, title="$\\frac{$ of $5")
    figure5(x, 1 - x, torch.tensor([0]), torch.tensor([0]), tmp_path / "b.png", class_names=names)
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("a.png", "b.png"))


def test_no_figure_is_left_in_pyplot(tmp_path):
    from matplotlib._pylab_helpers import Gcf

    before = Gcf.get_num_fig_managers()
    draw(tmp_path / "figure.png", flat(1, 0.2), flat(1, 0.3))
    assert Gcf.get_num_fig_managers() == before


def test_missing_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'figure5 needs matplotlib.*"advkit\[cli\]"'):
        draw(tmp_path / "figure.png", flat(1, 0.2), flat(1, 0.3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": flat(2, 0.2).squeeze(1)[0]}, r"x must be floating point of shape .* \(4, 4\)"),
        ({"x": flat(2, 0.2, 0.3)}, r"x must be floating point .* got .* \(2, 2, 4, 4\)"),
        ({"x": flat(2, 1)}, "x must be floating point .* got torch.int64"),
        ({"x": flat(2, 0.2)[:0]}, r"x is empty, shape \(0, 1, 4, 4\)"),
        ({"adversarial": flat(3, 0.2)}, "adversarial must have the shape of x"),
        ({"labels": torch.tensor([0])}, r"labels must have shape \(2,\), got \(1,\)"),
        ({"predicted": torch.zeros(2, 1)}, r"predicted must have shape \(2,\), got \(2, 1\)"),
        ({"labels": torch.tensor([0, 2])}, "class_names has 2 names, but labels holds class 2"),
        ({"predicted": torch.tensor([0, -1])}, "but predicted holds class -1"),
        ({"rows": 0}, "rows and columns must be at least 1, got 0 and 2"),
        ({"path": "figure.xyz"}, "xyz"),
    ],
    ids=["axes", "channels", "type", "empty", "shape", "labels", "predicted", "class", "negative",
         "rows", "format"],
)  # fmt: skip
def test_bad_input_is_refused(tmp_path, changes, message):
    arguments = {
        "x": flat(2, 0.2),
        "adversarial": flat(2, 0.3),
        "labels": torch.tensor([0, 1]),
        "predicted": torch.tensor([1, 0]),
        "path": "figure.png",
        "class_names": ["zero", "one"],
    }
    arguments |= changes
    arguments["path"] = tmp_path / arguments["path"]
    with pytest.raises(ValueError, match=message):
        figure5(**arguments)
    assert list(tmp_path.iterdir()) == []

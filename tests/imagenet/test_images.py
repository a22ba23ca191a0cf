"""Folders of images: order, classes, sizes, and errors that say what to do."""

import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch

from advkit import imagenet
from advkit.imagenet import images as module

Image = pytest.importorskip("PIL.Image")


def write(path, width=8, height=8, value=51):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


def test_a_folder_in_the_order_of_names(tmp_path):
    for place, name in enumerate(("b.png", "a.PNG", "c.bmp")):
        write(tmp_path / name, value=51 * place)
    (tmp_path / "notes.txt").write_text("no image")
    found = imagenet.folder(tmp_path)
    assert [path.name for path in found.paths] == ["a.PNG", "b.png", "c.bmp"]
    assert found.labels is None
    assert found.name == tmp_path.name
    x = found.read([0, 2], 8)
    assert x.shape == (2, 3, 8, 8)
    torch.testing.assert_close(x.mean((1, 2, 3)), torch.tensor([0.2, 0.4]))
    assert len(found.first(2)) == 2


def test_the_central_square_is_taken(tmp_path):
    picture = np.zeros((70, 140, 3), np.uint8)
    picture[30:40, 65:75] = 255  # the middle of a wide image
    Image.fromarray(picture).save(tmp_path / "wide.png")
    x = imagenet.folder(tmp_path).read([0], 56)[0, 0]
    assert x.shape == (56, 56)
    torch.testing.assert_close(x, x.flip(0, 1), atol=0.02, rtol=0)
    assert x[28, 28] > 0.99
    # 70 pixels become 64, of which the square keeps 56, so that 10 pixels are 9.1 wide.
    assert float(x.sum()) == pytest.approx((10 * 64 / 70) ** 2, rel=0.02)


def test_classes_from_the_list_and_from_names(tmp_path):
    for name in ("my photo.png", "b.png"):
        write(tmp_path / name)
    (tmp_path / "labels.txt").write_text("b.png 7\n\nmy photo.png 999\n")
    assert imagenet.folder(tmp_path).labels == (7, 999)
    write(tmp_path / "samples" / "imagenet_00_243.png")
    write(tmp_path / "samples" / "imagenet_01_5.png")
    assert imagenet.folder(tmp_path / "samples").labels == (243, 5)
    # The number in the names of ImageNet's own files is no class.
    write(tmp_path / "own" / "ILSVRC2012_val_00000001.png")
    assert imagenet.folder(tmp_path / "own").labels is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png 3\n", r"no class for 'b.png' \(1 missing\)"),
        ("a.png cat\n", "line 1: expected the name of a file and a class"),
        ("a.png 3\nb.png 1000\n", "line 2"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, text, message):
    for name in ("a.png", "b.png"):
        write(tmp_path / name)
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        imagenet.folder(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="holds no"):
        imagenet.folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        imagenet.folder(tmp_path / "none")


def test_foolbox_s_samples(tmp_path, monkeypatch):
    write(tmp_path / "data" / "imagenet_01_5.jpg")
    write(tmp_path / "data" / "imagenet_00_243.jpg")
    write(tmp_path / "data" / "mnist_00_7.png")
    spec = ModuleSpec("foolbox", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(module, "find_spec", lambda _: spec)
    assert imagenet.samples().labels == (243, 5)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match="pip install foolbox"):
        imagenet.samples()
    assert "foolbox" not in sys.modules  # its files are enough


def test_names_of_classes():
    assert imagenet.class_number("ostrich") == 9
    assert imagenet.class_number("Ostrich, Struthio camelus") == 9
    assert imagenet.class_number("17") == 17
    assert imagenet.class_names()[9] == "ostrich, Struthio camelus"
    assert len(imagenet.class_names()) == 1000
    for wrong in ("1000", "unicorn"):
        with pytest.raises(ValueError, match="target: no class"):
            imagenet.class_number(wrong)

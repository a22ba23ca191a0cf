"""Pictures of every kind, and damaged ones."""

import numpy as np
import pytest
import torch

from advkit.data.pictures import central_square

Image = pytest.importorskip("PIL.Image")
RED, WHITE = [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]


def corners(path, size=4):
    """Return the upper left and the upper right pixel."""
    image = central_square(path, size)
    assert image.dtype == torch.float32
    return image[:, 0, 0].tolist(), image[:, 0, -1].tolist()


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_what_is_transparent_is_white(tmp_path, suffix):
    picture = Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    picture.paste((255, 0, 0, 0), (2, 0, 4, 4))
    picture.save(tmp_path / f"a.{suffix}", lossless=True)
    assert corners(tmp_path / f"a.{suffix}") == (RED, WHITE)


def test_a_transparent_colour_of_a_palette(tmp_path):
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(1, (2, 0, 4, 4))
    picture.save(tmp_path / "a.png", transparency=1)
    assert corners(tmp_path / "a.png") == (RED, WHITE)


@pytest.mark.parametrize(("kind", "value"), [(np.uint8, 250), (np.uint16, 250 * 257)])
def test_greys(tmp_path, kind, value):
    Image.fromarray(np.full((4, 4), value, kind)).save(tmp_path / "a.png")
    assert torch.equal(central_square(tmp_path / "a.png", 4), torch.full((3, 4, 4), 250 / 255))


def test_greys_without_a_known_white(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(OSError, match=r"a\.tiff: not a readable picture \(greys of 32 bits"):
        central_square(tmp_path / "a.tiff", 4)


def test_a_picture_is_turned_as_its_camera_was_held(tmp_path):
    picture = Image.new("RGB", (4, 4), "white")
    picture.paste((255, 0, 0), (0, 0, 4, 2))  # the upper half; turned to the right it is the right
    picture.save(
        tmp_path / "a.png",
        exif=bytes.fromhex("45786966000049492a0008000000010012010300010000000600000000000000"),
    )
    assert corners(tmp_path / "a.png") == (WHITE, RED)


def damaged(path, how):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "chunk":
        place = content.index(b"IDAT")
        path.write_bytes(content[: place - 4] + b"\0\0\0\x07" + content[place:])
    else:
        path.write_text("no picture")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
@pytest.mark.parametrize("how", ["cut", "chunk", "text"])
def test_damaged_pictures_are_named(tmp_path, suffix, how):
    if how == "chunk" and suffix != "png":
        return
    path = tmp_path / f"a.{suffix}"
    damaged(path, how)
    with pytest.raises(OSError, match=rf"a\.{suffix}: not a readable picture"):
        central_square(path, 4)


def test_a_picture_too_large_to_be_one_is_named(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(OSError, match=r"a\.png: not a readable picture"):
        central_square(tmp_path / "a.png", 4)

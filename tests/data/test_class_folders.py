import pytest
import torch

from advkit.data import class_folders

Image = pytest.importorskip("PIL.Image")


def write(path, colour, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path):
    for place in range(3):
        write(tmp_path / "train" / "car" / f"{place}.png", (200 + place, 0, 0))
        write(tmp_path / "train" / "tree" / f"{place}.png", (0, 200 + place, 0))
    write(tmp_path / "val" / "tree" / "a.png", (0, 255, 0))
    (tmp_path / "val" / "tree" / "notes.txt").write_text("not a picture")
    return tmp_path


def test_values(folder):
    train, test = class_folders(folder, "train", size=8), class_folders(folder, "test", size=8)
    assert train.classes == test.classes == ("car", "tree")
    assert train.images.shape == (6, 3, 8, 8)
    assert sorted(train.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert (train.name, train.split) == (folder.name, "train")
    # Each image has its own label, whatever the order.
    assert torch.equal(train.images[:, :, 0, 0].argmax(1), train.labels)
    assert len(train.images.unique(dim=0)) == 6
    assert test.labels.tolist() == [1]
    assert torch.equal(test.images[0, :, 0, 0], torch.tensor([0.0, 1, 0]))


def test_the_first_images_are_mixed_and_always_the_same(folder):
    for place in range(3, 60):
        write(folder / "train" / "car" / f"{place}.png", (100, 0, 0))
        write(folder / "train" / "tree" / f"{place}.png", (0, 100, 0))
    first, again = (class_folders(folder, size=2) for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert 5 < int(first.labels[:30].sum()) < 25


def test_the_central_square(tmp_path):
    picture = Image.new("RGB", (30, 10), (255, 0, 0))
    picture.paste((0, 0, 255), (10, 0, 20, 10))
    (tmp_path / "train" / "a").mkdir(parents=True)
    picture.save(tmp_path / "train" / "a" / "wide.png")
    (image,) = class_folders(tmp_path, size=10).images
    assert torch.equal(image, torch.tensor([0.0, 0, 1]).view(3, 1, 1).expand(3, 10, 10))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda at: write(at / "val" / "b" / "x.png", (0, 0, 0)), ValueError, "no class 'b'"),
        (
            lambda at: (at / "val" / "tree" / "a.png").rename(at / "val" / "a.png"),
            ValueError,
            r"no \.jpg.* files in folders of classes",
        ),
        (lambda at: (at / "val").rename(at / "other"), FileNotFoundError, "no folder test or val"),
        (lambda at: (at / "val" / "tree" / "a.png").write_text("x"), OSError, "a.png"),
    ],
    ids=["class", "no class", "no split", "no picture"],
)
def test_what_is_wrong_is_said(folder, change, error, message):
    change(folder)
    with pytest.raises(error, match=message):
        class_folders(folder, "test", size=4)


def test_a_class_needs_training_images(folder):
    (folder / "train" / "sky").mkdir()
    with pytest.raises(ValueError, match=r"train/sky: no \.jpg"):
        class_folders(folder, size=4)


def test_what_editors_and_systems_leave_is_passed_over(folder):
    write(folder / "train" / ".ipynb_checkpoints" / "a.png", (0, 0, 0))
    (folder / "train" / "car" / "._0.png").write_bytes(b"no picture")
    (folder / "train" / "car" / "more.png").mkdir()
    found = class_folders(folder, size=4)
    assert found.classes == ("car", "tree")
    assert len(found) == 6


def test_split_and_size(folder):
    with pytest.raises(ValueError, match="split: expected 'train' or 'test', got 'valid'"):
        class_folders(folder, "valid", size=4)
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        class_folders(folder, size=0)

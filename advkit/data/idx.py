"""The IDX format of MNIST: one array per file, gzip-compressed or not.

A file holds two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
unsigned 32-bit number, and then the values, big-endian, last dimension fastest.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGE_SHAPE = (28, 28)
NUM_CLASSES = 10

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_STEMS = {"train": "train", "test": "t10k"}


def read_idx(path: str | PathLike[str]) -> NDArray[Any]:
    """Read one IDX file.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Compression is recognised from the content, whatever the name.

    Returns
    -------
    numpy.ndarray
        The array in native byte order: uint8, int8, int16, int32, float32 or float64.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not IDX, or is truncated, too long or damaged. The message names the file.
    """
    path = Path(path)
    content = _decompressed(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(
            f"{path}: not an IDX file: expected it to start with two zero bytes, a type code and "
            f"the number of dimensions, got {content[:4].hex(' ') or 'an empty file'}"
        )
    code, ndim = content[2], content[3]
    if code not in _DTYPES:
        known = ", ".join(f"0x{known:02x}" for known in _DTYPES)
        raise ValueError(f"{path}: unknown IDX type code 0x{code:02x}, expected one of {known}")
    if ndim == 0:
        raise ValueError(f"{path}: the IDX header says 0 dimensions, expected at least 1")
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(
            f"{path}: truncated: an IDX header of {ndim} dimensions takes {start} bytes, "
            f"the file has {len(content)}"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", ndim, offset=4))
    dtype = np.dtype(_DTYPES[code])
    # Python integers: the product of damaged dimensions must not overflow into a plausible size.
    expected, found = prod(shape) * dtype.itemsize, len(content) - start
    if found != expected:
        raise ValueError(
            f"{path}: {'truncated' if found < expected else 'too long'}: an array of shape {shape} "
            f"and type {dtype.name} takes {expected} bytes after the header, the file has {found}"
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))  # a copy: what frombuffer gives is read-only


def read_folder(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read one split of a folder laid out as MNIST and Fashion-MNIST are distributed.

    Parameters
    ----------
    folder : pathlib.Path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same with ``t10k``;
        a dot in place of the second hyphen and a further ``.gz`` are accepted.
    split : str
        ``"train"`` or ``"test"``.

    Returns
    -------
    images : numpy.ndarray
        uint8 (N, 28, 28).
    labels : numpy.ndarray
        uint8 (N,), each below 10.

    Raises
    ------
    FileNotFoundError
        The folder or one of the two files is not there.
    ValueError
        A file is damaged, or holds something else than such images or labels.
    """
    images_path = _find(folder, f"{_STEMS[split]}-images", "idx3-ubyte")
    labels_path = _find(folder, f"{_STEMS[split]}-labels", "idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != IMAGE_SHAPE:
        raise ValueError(
            f"{images_path}: expected uint8 images of shape (N, 28, 28), "
            f"got {images.dtype} of shape {images.shape}"
        )
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise ValueError(
            f"{labels_path}: expected uint8 labels of shape (N,), "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path}"
        )
    if labels.size and labels.max() >= NUM_CLASSES:
        raise ValueError(f"{labels_path}: label {labels.max()} is out of range, expected 0 to 9")
    return images, labels


def _decompressed(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: truncated or damaged gzip file: {error}") from error


def _find(folder: Path, stem: str, suffix: str) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError("not a folder" if folder.exists() else "no such folder")
    for name in (f"{stem}-{suffix}", f"{stem}.{suffix}"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(f"no {stem}-{suffix}[.gz]")

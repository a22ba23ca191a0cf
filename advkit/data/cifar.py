"""CIFAR-10's binary version: a byte of label, then 32 x 32 bytes of red, of green and of blue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHAPE = (3, 32, 32)
NUM_CLASSES = 10

_RECORD = 1 + 3 * 32 * 32
_FILES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}


def read_folder(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read one split from the folder that ``cifar-10-binary.tar.gz`` unpacks to.

    Parameters
    ----------
    folder : pathlib.Path
        Holds ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``.
    split : str
        ``"train"`` or ``"test"``.

    Returns
    -------
    images : numpy.ndarray
        uint8 (N, 3, 32, 32).
    labels : numpy.ndarray
        uint8 (N,), each below 10.

    Raises
    ------
    FileNotFoundError
        The folder or one of the files is not there.
    ValueError
        A file is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError("not a folder" if folder.exists() else "no such folder")
    missing = [name for name in _FILES[split] if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"no {missing[0]}")
    records = np.concatenate([_records(folder / name) for name in _FILES[split]])
    return records[:, 1:].reshape(-1, *SHAPE), records[:, 0].copy()


def _records(path: Path) -> NDArray[np.uint8]:
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % _RECORD:
        raise ValueError(
            f"{path}: truncated or damaged: expected records of {_RECORD} bytes, "
            f"the file has {len(content)}"
        )
    records = content.reshape(-1, _RECORD)
    if records[:, 0].max() >= NUM_CLASSES:
        raise ValueError(
            f"{path}: label {records[:, 0].max()} is out of range, expected 0 to 9; the file is "
            "damaged, or not of CIFAR-10"
        )
    return records

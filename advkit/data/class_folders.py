"""Folders of images, one for each class."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from advkit.data.dataset import SPLITS, Dataset
from advkit.data.pictures import SUFFIXES, central_square, files

__all__ = ["class_folders"]

_SPLITS = {"train": ("train",), "test": ("test", "val")}


def class_folders(path: str | os.PathLike[str], split: str = "train", *, size: int) -> Dataset:
    """Load a data set of one's own: SPLIT/CLASS/IMAGE, as ImageNet with its ``val`` sorted.

    Parameters
    ----------
    path : str or os.PathLike
        Holds ``train`` and ``test`` or ``val``, in each a folder of .jpg, .png, .bmp or .webp files
        for each class. Classes are numbered in the order of their folders' names in ``train``.
    split : str
        ``"train"`` or ``"test"``.
    size : int
        Images are scaled to this shorter side, in pixels, and cut to their central square.

    Returns
    -------
    Dataset
        Images (N, 3, size, size), float32 in [0, 1], all in memory: 12 size^2 bytes each. Their
        order is a permutation that only their number decides, so that the first are of all classes.

    Raises
    ------
    ImportError
        Pillow is not installed.
    FileNotFoundError
        A folder is not there.
    ValueError
        There are no images, none of some class in ``train``, a class of ``test`` is not in
        ``train``, or `split` or `size` is out of range.
    OSError
        A file is not an image.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    if size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    path = Path(path)
    classes = tuple(each.name for each in _folders(_split(path, "train")))
    if not classes:
        raise ValueError(f"{_split(path, 'train')}: expected a folder for each class, found none")
    paths: list[Path] = []
    labels: list[int] = []
    for folder in _folders(_split(path, split)):
        if folder.name not in classes:
            raise ValueError(f"{folder}: no class {folder.name!r} among the training images")
        found = files(folder)
        if split == "train" and not found:
            raise ValueError(f"{folder}: no {', '.join(SUFFIXES)} files of this class")
        paths += found
        labels += [classes.index(folder.name)] * len(found)
    if not paths:
        raise ValueError(
            f"{_split(path, split)}: no {', '.join(SUFFIXES)} files in folders of classes in it"
        )
    images = torch.empty(len(paths), 3, size, size)
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0))
    for image, row in zip(images, order.tolist(), strict=True):
        image.copy_(central_square(paths[row], size))
    return Dataset(images, torch.tensor(labels)[order], path.resolve().name, split, classes)


def _split(path: Path, split: str) -> Path:
    for name in _SPLITS[split]:
        if (path / name).is_dir():
            return path / name
    raise FileNotFoundError(
        f"{path}: no folder {' or '.join(_SPLITS[split])} in it; expected "
        f"{_SPLITS[split][0]}/CLASS/IMAGE"
    )


def _folders(path: Path) -> list[Path]:
    return sorted(
        each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")
    )

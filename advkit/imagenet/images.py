"""Images of a folder, cut to a network's size, with their classes where these are known."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from advkit.data.pictures import SUFFIXES, central_square, files

__all__ = ["Images", "folder", "samples"]

_LABELS = "labels.txt"
_SAMPLE = re.compile(r"imagenet_\d+_(\d+)\.\w+")  # Foolbox's names: place, then class
_CROP = 0.875  # share of the shorter side that the central square keeps, as in ImageNet's tests


@dataclass(frozen=True)
class Images:
    """Files of images in the order of their names.

    Parameters
    ----------
    name : str
        Of the folder.
    paths : tuple of pathlib.Path
        The files.
    labels : tuple of int, optional
        Their classes, None where they are not known.
    """

    name: str
    paths: tuple[Path, ...]
    labels: tuple[int, ...] | None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.paths)

    def first(self, count: int) -> Images:
        """Return the first `count` of them."""
        labels = None if self.labels is None else self.labels[:count]
        return Images(self.name, self.paths[:count], labels)

    def read(self, rows: Sequence[int], size: int) -> Tensor:
        """Return some of the images, (B, 3, size, size) in [0, 1].

        An image of another size is scaled and its central square is taken, as in ImageNet's tests:
        the square keeps 87.5 % of the shorter side.

        Raises
        ------
        OSError
            A file is not an image.
        """
        return torch.stack([central_square(self.paths[row], size, share=_CROP) for row in rows])


def folder(path: str | os.PathLike[str]) -> Images:
    """Return the images of a folder: .jpg, .png, .bmp and .webp files, not of folders in it.

    Their classes are read from ``labels.txt`` beside them, if it is there: in each line the name of
    a file and the number of its class, 0 to 999. Of files named as Foolbox's samples,
    ``imagenet_PLACE_CLASS.jpg``, they are read from the names.

    Raises
    ------
    ValueError
        There are no images, or ``labels.txt`` lacks one of them or does not fit.
    OSError
        The folder cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(
            f"images: {path} is not a folder; give one with images, or a number"
        )
    found = files(path)
    if not found:
        raise ValueError(f"images: {path} holds no {', '.join(SUFFIXES)} files")
    return Images(path.resolve().name, found, _labels(path, found))


def samples() -> Images:
    """Return the 20 samples of ImageNet that Foolbox's package holds.

    Raises
    ------
    ImportError
        Foolbox is not installed.
    """
    spec = find_spec("foolbox")
    if spec is None or spec.origin is None:
        raise ImportError(
            "images: no folder was given, and Foolbox, whose samples would be taken, is not "
            "installed; give a folder, or: pip install foolbox",
            name="foolbox",
        )
    data = Path(spec.origin).parent / "data"
    found = tuple(sorted(each for each in data.iterdir() if _SAMPLE.fullmatch(each.name)))
    return Images("Foolbox's samples", found, _labels(data, found))


def _labels(path: Path, found: Sequence[Path]) -> tuple[int, ...] | None:
    names = [_SAMPLE.fullmatch(each.name) for each in found]
    listed = path / _LABELS
    if not listed.exists():
        if all(names):
            return tuple(int(match[1]) for match in names if match)
        return None
    classes: dict[str, int] = {}
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
        name, _, label = line.strip().rpartition(" ")
        if line.strip() and not (label.isdecimal() and int(label) < 1000):
            raise ValueError(
                f"{listed}, line {number}: expected the name of a file and a class from 0 to 999, "
                f"got {line!r}"
            )
        if name:
            classes[name.strip()] = int(label)
    missing = [each.name for each in found if each.name not in classes]
    if missing:
        raise ValueError(
            f"{listed} has no class for {missing[0]!r} ({len(missing)} missing); add "
            f"them, or remove {_LABELS} to take the network's own answers"
        )
    return tuple(classes[each.name] for each in found)

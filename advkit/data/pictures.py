"""Files of pictures as square tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advkit._extras import require

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def files(folder: Path) -> tuple[Path, ...]:
    """Return the pictures of a folder, not of folders in it, in the order of their names."""
    return tuple(sorted(each for each in folder.iterdir() if each.suffix.lower() in SUFFIXES))


def central_square(file: Path, size: int, *, share: float = 1.0) -> Tensor:
    """Return the central square of a picture, (3, size, size) in [0, 1], float32.

    Parameters
    ----------
    file : pathlib.Path
        The picture, of any mode; it becomes RGB.
    size : int
        In pixels.
    share : float
        Of the shorter side, what the square keeps.

    Raises
    ------
    ImportError
        Pillow is not installed.
    OSError
        The file is not a picture.
    """
    require("PIL", extra="cli", purpose="reading images")
    from PIL import Image

    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    if picture.size != (size, size):
        width, height = picture.size
        scale = size / share / min(width, height)
        wide, tall = max(size, round(width * scale)), max(size, round(height * scale))
        picture = picture.resize((wide, tall), Image.Resampling.BICUBIC)
        left, top = (wide - size) // 2, (tall - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    values = np.asarray(picture, dtype=np.float32) / 255
    return torch.from_numpy(values).movedim(-1, 0).contiguous()

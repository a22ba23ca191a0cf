"""Files of pictures as square tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from advkit._extras import require

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def files(folder: Path) -> tuple[Path, ...]:
    """Return the pictures of a folder, not of folders in it, in the order of their names."""
    return tuple(
        sorted(
            each
            for each in folder.iterdir()
            if each.suffix.lower() in SUFFIXES and not each.name.startswith(".") and each.is_file()
        )
    )


def central_square(file: Path, size: int, *, share: float = 1.0) -> Tensor:
    """Return the central square of a picture, (3, size, size) in [0, 1], float32.

    Parameters
    ----------
    file : pathlib.Path
        The picture. It is turned as its camera was held, and becomes RGB: greys of 8 or 16 bits
        three equal channels, what is transparent white.
    size : int
        In pixels.
    share : float
        Of the shorter side, what the square keeps.

    Raises
    ------
    ImportError
        Pillow is not installed.
    OSError
        The file is not a picture, or is damaged; the message names it.
    """
    require("PIL", extra="cli", purpose="reading images")
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            picture = _rgb(ImageOps.exif_transpose(opened))
    # What Pillow raises for damaged files of one kind or another.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{file}: not a readable picture ({error})") from error
    if picture.size != (size, size):
        width, height = picture.size
        scale = size / share / min(width, height)
        wide, tall = max(size, round(width * scale)), max(size, round(height * scale))
        picture = picture.resize((wide, tall), Image.Resampling.BICUBIC)
        left, top = (wide - size) // 2, (tall - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    values = np.asarray(picture, dtype=np.float32) / 255
    return torch.from_numpy(values).movedim(-1, 0).contiguous()


def _rgb(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if picture.mode.startswith("I;16"):  # which Pillow would cut off at 255
        picture = Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError("greys of 32 bits do not say what is white; save it with 8 or 16")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")

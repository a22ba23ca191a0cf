"""Changes of a given size: adversarial ones made longer or shorter, and Gaussian noise."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from advkit.ops._check import check_choice

__all__ = ["CLIPS", "amplify", "gaussian", "rms"]

CLIPS = ("exact", "after", "none")
_HALVINGS = 60  # of the interval in which a factor is: more than float64 has digits
_FARTHEST = 1e12


def rms(changed: Tensor, x: Tensor) -> Tensor:
    """Return sqrt(mean r^2) of each image (B,), float64: the paper's distortion (section 4.1)."""
    return (changed.double() - x.double()).flatten(1).square().mean(1).sqrt()


def amplify(
    x: Tensor,
    changed: Tensor,
    size: float | Tensor,
    *,
    clip: str = "exact",
    lower: float = 0.0,
    upper: float = 1.0,
) -> Tensor:
    """Scale the change of every image to one RMS.

    The paper (Table 4) prints ``x + 0.1 (x' - x) / |x' - x|_2`` for an RMS of 0.1, which is one of
    0.1 / sqrt(n); what its text describes is ``x + 0.1 sqrt(n) (x' - x) / |x' - x|_2``, and that
    is what this does.

    Parameters
    ----------
    x, changed : Tensor (B, *shape)
        Images and what became of them.
    size : float or Tensor (B,)
        The RMS.
    clip : {"exact", "after", "none"}
        "none": the formula; values may leave the box. "after": the same, then cut to the box, which
        shortens the change. "exact": the change is scaled until, cut to the box, it has that RMS,
        or cannot grow any more.
    lower, upper : float
        The box.

    Returns
    -------
    Tensor (B, *shape)
        x plus the scaled change, in x's dtype; x itself where nothing was changed.

    Raises
    ------
    ValueError
        Shapes differ, `size` is negative or not finite, or `clip` is unknown.
    """
    check_choice("clip", clip, CLIPS)
    if changed.shape != x.shape:
        raise ValueError(
            f"changed: expected the shape of x, {tuple(x.shape)}, got {tuple(changed.shape)}"
        )
    wanted = _sizes(size, x)
    start, values = x.double().flatten(1), math.prod(x.shape[1:])
    step = changed.double().flatten(1) - start
    length = step.norm(dim=1)
    # A direction of RMS 1; images without a change keep one of zeros.
    direction = step * (math.sqrt(values) / length.clamp(min=1e-300))[:, None]
    factor = _factors(start, direction, wanted, lower, upper) if clip == "exact" else wanted
    moved = start + factor[:, None] * direction
    moved = moved if clip == "none" else moved.clamp(lower, upper)
    # Not a clamp of what did not move: an image outside of the box stays as it is.
    moved = torch.where(length[:, None] > 0, moved, start)
    return moved.view_as(x).to(x.dtype)


def gaussian(
    x: Tensor,
    size: float | Tensor,
    *,
    seed: int = 0,
    clip: str = "exact",
    lower: float = 0.0,
    upper: float = 1.0,
) -> Tensor:
    """Add Gaussian noise of a given RMS to every image.

    The noise of an image follows from the seed and its place alone, so it is the same for any
    number of images.

    Parameters
    ----------
    x : Tensor (B, *shape)
        Images.
    size : float or Tensor (B,)
        Its RMS. With ``clip="none"`` and "after" the noise is drawn with this standard deviation,
        as in the paper; with "exact" its RMS within the box is this.
    seed : int
        Of the noise, at least 0.
    clip : {"exact", "after", "none"}
        See `amplify`.
    lower, upper : float
        The box.

    Returns
    -------
    Tensor (B, *shape)
        Noisy images in x's dtype.

    Raises
    ------
    ValueError
        As `amplify`.
    """
    values = math.prod(x.shape[1:])
    rows = [np.random.default_rng([seed, b]).standard_normal(values) for b in range(len(x))]
    noise = torch.from_numpy(np.array(rows).reshape(len(x), values)).to(x.device).view(x.shape)
    if clip == "exact":
        moved = x.double() + noise
        return amplify(x.double(), moved, size, lower=lower, upper=upper).to(x.dtype)
    check_choice("clip", clip, CLIPS)
    scale = _sizes(size, x).view(-1, *[1] * (x.dim() - 1))
    moved = x.double() + scale * noise
    return (moved if clip == "none" else moved.clamp(lower, upper)).to(x.dtype)


def _sizes(size: float | Tensor, x: Tensor) -> Tensor:
    """Return the RMS of each image (B,) in float64."""
    wanted = torch.as_tensor(size, dtype=torch.float64, device=x.device)
    if wanted.shape not in ((), x.shape[:1]):
        raise ValueError(
            f"size: expected a number or shape ({len(x)},), one for each image, got shape "
            f"{tuple(wanted.shape)}"
        )
    if not (wanted.isfinite() & (wanted >= 0)).all():
        raise ValueError(f"size: expected finite numbers >= 0, got {size}")
    return wanted.expand(len(x))


def _factors(
    start: Tensor, direction: Tensor, wanted: Tensor, lower: float, upper: float
) -> Tensor:
    """Return the factors (B,) with which the changes, cut to the box, have the wanted RMS.

    What is left of a change grows with its factor, so halving an interval of its logarithm finds
    the factor: at least `wanted`, at most one with which all that moves has met the box.
    """
    low, high = wanted.clamp(min=1e-30), torch.full_like(wanted, _FARTHEST)
    for _ in range(_HALVINGS):
        middle = (low * high).sqrt()
        cut = (start + middle[:, None] * direction).clamp(lower, upper) - start
        enough = cut.square().mean(1).sqrt() >= wanted
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high

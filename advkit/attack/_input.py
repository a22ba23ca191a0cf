"""What is checked of the images and labels given to an attack."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["check_images", "check_labels", "check_range"]


def check_range(lower: object, upper: object) -> tuple[float, float]:
    """Return the box as floats; lower < upper, both finite."""
    for name, value in (("lower", lower), ("upper", upper)):
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not math.isfinite(value)
        ):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    low, high = float(lower), float(upper)  # type: ignore[arg-type]
    if not low < high:
        raise ValueError(f"lower must be less than upper, got {low} and {high}")
    return low, high


def check_images(x: object, lower: float, upper: float) -> None:
    """Raise unless x is a batch of finite images inside the box."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor of images (B, *shape), got {type(x).__name__}")
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}; use x.float()")
    if x.dim() < 2:
        raise ValueError(
            f"x must be a batch of images (B, *shape), got shape {tuple(x.shape)}; "
            "use x[None] for one"
        )
    if x[:1].numel() == 0 and (len(x) or 0 in x.shape[1:]):
        raise ValueError(f"x has images without any values: shape {tuple(x.shape)}")
    if len(x) == 0:
        return
    rows = x.detach().reshape(len(x), -1)
    bad = ~rows.isfinite().all(1)
    if bad.any():
        raise ValueError(f"x must be finite, but image {int(bad.nonzero()[0])} holds nan or inf")
    least, most = rows.min(), rows.max()
    if least < lower or most > upper:
        outside = ((rows < lower) | (rows > upper)).any(1)
        raise ValueError(
            f"x must lie in the box [{lower:g}, {upper:g}], but image {int(outside.nonzero()[0])} "
            f"does not: x ranges from {float(least):g} to {float(most):g}; scale x, or give lower "
            "and upper"
        )


def check_labels(labels: object, x: Tensor) -> None:
    """Raise unless there is one class for each image; the network's logits bound their range."""
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"labels must be a torch.Tensor of classes (B,), got {type(labels).__name__}"
        )
    if labels.dtype != torch.int64:
        raise TypeError(
            f"labels must have dtype torch.int64, got {labels.dtype}; use labels.long()"
        )
    if labels.shape != x.shape[:1]:
        raise ValueError(
            f"labels must have shape ({len(x)},), one per image, got {tuple(labels.shape)}"
        )
    if labels.device != x.device:
        raise ValueError(f"labels must be on {x.device}, where x is, got {labels.device}")
    if len(labels) and int(labels.min()) < 0:
        raise ValueError(f"labels must be 0 ... K - 1, got {int(labels.min())}")

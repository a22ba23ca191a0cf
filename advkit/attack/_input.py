"""What is checked of the images and labels given to an attack."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from advkit.ops._check import as_rows

__all__ = [
    "check_bounds",
    "check_images",
    "check_labels",
    "check_mask",
    "check_number",
    "check_starts",
    "check_stop_distance",
]

CHECKED = 1024  # images at once


def check_number(name: str, value: object, *, least: float) -> None:
    """Raise unless `value` is a finite number of at least `least`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value >= least):  # type: ignore[arg-type, operator]
        raise ValueError(f"{name} must be finite and at least {least}, got {value!r}")


def check_bounds(lower: object, upper: object, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the box (1 or B, 1 or n): finite, lower < upper if both are numbers, else <=."""
    numbers = []
    for name, value in (("lower", lower), ("upper", upper)):
        if isinstance(value, Tensor):
            continue
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not math.isfinite(value)
        ):
            raise ValueError(f"{name} must be a finite number or a tensor, got {value!r}")
        numbers.append(float(value))
    if len(numbers) == 2 and not numbers[0] < numbers[1]:
        raise ValueError(f"lower must be less than upper, got {numbers[0]} and {numbers[1]}")
    low, high = _rows("lower", lower, x), _rows("upper", upper, x)
    for name, bound in (("lower", low), ("upper", high)):
        if not bound.isfinite().all():
            raise ValueError(f"{name} must be finite, got nan or inf")
    if (low > high).any():
        raise ValueError("lower must be at most upper everywhere")
    return low, high


def _rows(name: str, value: object, x: Tensor) -> Tensor:
    """Bring a number or a tensor that broadcasts to x to its rows (1 or B, 1 or n)."""
    if not isinstance(value, Tensor):
        return torch.full((1, 1), float(value), dtype=x.dtype, device=x.device)  # type: ignore[arg-type]
    if name != "mask" and value.dtype != x.dtype:
        raise TypeError(f"{name} must have x's dtype {x.dtype}, got {value.dtype}")
    if value.device != x.device:
        raise ValueError(f"{name} must be on {x.device}, where x is, got {value.device}")
    return as_rows(name, value, x, "x")


def check_images(x: object, lower: object, upper: object) -> tuple[Tensor, Tensor, Tensor]:
    """Raise unless x is a batch of finite images inside the box; return the box and the rows."""
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
    flat = x.detach().reshape(len(x), x.shape[1:].numel())
    low, high = check_bounds(lower, upper, x)
    infinite = _first_row(lambda some, *_: ~some.isfinite(), flat)
    if infinite is not None:
        raise ValueError(f"x must be finite, but image {infinite} holds nan or inf")
    outside = _first_row(lambda some, low, high: (some < low) | (some > high), flat, low, high)
    if outside is not None:
        where = "the box of lower and upper"
        if not isinstance(lower, Tensor) and not isinstance(upper, Tensor):
            where = f"the box [{lower:g}, {upper:g}]"
        raise ValueError(
            f"x must lie in {where}, but image {outside} does not: x ranges from "
            f"{float(flat.min()):g} to {float(flat.max()):g}; scale x, or give lower and upper"
        )
    return low, high, flat


def _first_row(bad: Callable[..., Tensor], flat: Tensor, *bounds: Tensor) -> int | None:
    """Return the first row where a test holds somewhere; a few rows at a time, to save memory."""
    for start in range(0, len(flat), CHECKED):
        rows = slice(start, start + CHECKED)
        of_rows = (bound if len(bound) == 1 else bound[rows] for bound in bounds)
        found = bad(flat[rows], *of_rows).any(1).nonzero()
        if len(found):
            return start + int(found[0])
    return None


def check_mask(
    mask: object, x: Tensor, flat: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the box that leaves values outside of the mask where they are."""
    if mask is None:
        return low, high
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a tensor of torch.bool, got {got}")
    rows = _rows("mask", mask, x)
    return torch.where(rows, low, flat), torch.where(rows, high, flat)


def check_starts(starts: object, x: Tensor) -> Tensor | None:
    """Return the starting points as rows (B, n); they are moved into the box later."""
    if starts is None:
        return None
    if not isinstance(starts, Tensor) or starts.shape != x.shape or starts.dtype != x.dtype:
        got = f"{tuple(starts.shape)}, {starts.dtype}" if isinstance(starts, Tensor) else starts
        raise ValueError(
            f"starting_points must be a tensor like x, {tuple(x.shape)}, {x.dtype}, got {got}"
        )
    if starts.device != x.device or not starts.isfinite().all():
        raise ValueError(f"starting_points must be finite and on {x.device}, where x is")
    rows = starts.detach().reshape(len(x), x.shape[1:].numel())
    return rows.clone(memory_format=torch.contiguous_format)


def check_stop_distance(value: object, x: Tensor) -> Tensor | None:
    """Return the stop distances (B,) of float64."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        if value.shape != x.shape[:1] or not value.is_floating_point() or value.device != x.device:
            raise ValueError(
                f"stop_distance must be a number or a floating tensor ({len(x)},) on {x.device}, "
                f"got {tuple(value.shape)}, {value.dtype} on {value.device}"
            )
        if not (value >= 0).all():
            raise ValueError("stop_distance must be at least 0 for every image")
        return value.detach().to(torch.float64, copy=True).contiguous()
    check_number("stop_distance", value, least=0)
    return torch.full((len(x),), float(value), dtype=torch.float64, device=x.device)  # type: ignore[arg-type]


def check_labels(labels: object, x: Tensor) -> int:
    """Check that there is one class for each image; return how many logits they need."""
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
    if len(labels) == 0:
        return 0
    least, most = (int(label) for label in labels.aminmax())
    if least < 0:
        raise ValueError(f"labels must be 0 ... K - 1, got {least}")
    return most + 1

"""Which images to attack, and towards which class: reproducible for any batch and any subset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def random_targets(
    labels: torch.Tensor, num_classes: int, *, seed: int, index: torch.Tensor | None = None
) -> torch.Tensor:
    """Draw for each image a class other than its own, uniformly.

    A target is a function of the seed, the image's index, its label and the number of classes
    alone. So it does not change with the batch, with how many images are attacked, or with the
    version of torch or NumPy. With the default `index`, the targets of the first N images are
    the first N targets.

    Parameters
    ----------
    labels : torch.Tensor, (B,), int64
        The true classes, in ``[0, num_classes)``.
    num_classes : int
        Number of classes K, at least 2.
    seed : int
        Chooses the draw, from 0 to 2**64 - 1.
    index : torch.Tensor, (B,), int64, optional
        What identifies each image, such as its position in the data set, so that it gets the
        same target in every subset. Default: the position in `labels`.

    Returns
    -------
    torch.Tensor, (B,), int64
        The targets, on the device of `labels`.

    Raises
    ------
    ValueError
        If an argument is out of its range or has the wrong shape or type.
    """
    _check_int64_vector("labels", labels)
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2 for another class, got {num_classes}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be from 0 to 2**64 - 1, got {seed}")
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(f"labels must be in [0, {num_classes}), got {int(outside[0])}")
    if index is None:
        index = torch.arange(len(labels))
    _check_int64_vector("index", index)
    if len(index) != len(labels):
        raise ValueError(f"index must have one value per label, {len(labels)}, got {len(index)}")

    seed_bits = _mix(np.array([seed], dtype=np.uint64))
    bits = _mix(index.cpu().numpy().astype(np.uint64) ^ seed_bits)
    # 1 ... K-1 steps round the circle of classes reach every class but the label. The remainder
    # favours some steps by less than K / 2**64.
    steps = 1 + (bits % np.uint64(num_classes - 1)).astype(np.int64)
    return (labels + torch.from_numpy(steps).to(labels.device)) % num_classes


def correctly_classified(
    model: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    limit: int | None = None,
    batch_size: int = 1000,
) -> torch.Tensor:
    """Find the first images that the network classifies correctly.

    The network is called as it is: put it in eval mode first. It sees no more batches than are
    needed to find `limit` images. An image on which it gives nan or inf is not correct.

    Parameters
    ----------
    model : callable
        From images (b, *shape) to logits (b, K).
    images : torch.Tensor, (N, *shape)
        The images, on the network's device.
    labels : torch.Tensor, (N,), int64
        Their true classes.
    limit : int, optional
        How many to find at most. Default: all.
    batch_size : int, default 1000
        How many images the network is given at a time.

    Returns
    -------
    torch.Tensor, (M,), int64
        The indices into `images`, ascending, on the device of `images`; M <= limit.

    Raises
    ------
    ValueError
        If an argument is out of its range or has the wrong shape or type, or the network's
        output is not (b, K).
    """
    _check_int64_vector("labels", labels)
    if len(images) != len(labels):
        raise ValueError(f"labels must have one value per image, {len(images)}, got {len(labels)}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit must not be negative, got {limit}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")

    found = [torch.empty(0, dtype=torch.int64, device=images.device)]
    missing = len(images) if limit is None else min(limit, len(images))
    for start in range(0, len(images), batch_size):
        if missing == 0:
            break
        batch = slice(start, start + batch_size)
        correct = _is_correct(model, images[batch], labels[batch].to(images.device))
        found.append(start + correct.nonzero().squeeze(1)[:missing])
        missing -= len(found[-1])
    return torch.cat(found)


@torch.no_grad()
def _is_correct(
    model: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Return (b,) bool: finite logits with the largest at the label."""
    logits = model(images)
    if logits.ndim != 2 or len(logits) != len(images):
        raise ValueError(
            f"model must return logits of shape ({len(images)}, K), got {tuple(logits.shape)}"
        )
    return logits.isfinite().all(1) & (logits.argmax(1) == labels)


def _check_int64_vector(name: str, value: torch.Tensor) -> None:
    """Raise unless `value` is a one-dimensional int64 tensor."""
    if value.ndim != 1 or value.dtype != torch.int64:
        raise ValueError(
            f"{name} must be a one-dimensional int64 tensor, got {value.dtype} "
            f"of shape {tuple(value.shape)}"
        )


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return one output of SplitMix64 for each state (Steele, Lea and Flood, OOPSLA 2014)."""
    mixed: npt.NDArray[np.uint64] = bits + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed

"""What is checked of images, their adversarial ones and their labels."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_pairs"]


def check_pairs(images: Tensor, adversarial: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless there is an adversarial image and a label for each image."""
    if images.shape != adversarial.shape or images.ndim < 2 or not images.numel():
        raise ValueError(
            "images and adversarial: expected the same shape (N, ...), got "
            f"{tuple(images.shape)} and {tuple(adversarial.shape)}"
        )
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"labels: expected shape ({len(images)},) of int64, got {tuple(labels.shape)} of "
            f"{labels.dtype}"
        )
    if int(labels.min()) < 0:
        raise ValueError(f"labels: expected values of at least 0, got {int(labels.min())}")

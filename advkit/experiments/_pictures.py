"""What the experiments at ImageNet's size share: the network, and the images it is shown."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from advkit import imagenet
from advkit.experiments.setting import Setting

__all__ = ["GROUP", "answers", "chosen", "groups"]

GROUP = 8  # images that are done together, and kept


def chosen(setting: Setting) -> tuple[imagenet.Network, imagenet.Images]:
    """Return the network and the first images of the folder."""
    images = imagenet.samples() if setting.folder is None else imagenet.folder(setting.folder)
    setting.say(f"network {setting.model}")
    return imagenet.network(setting.model), images.first(setting.images)


def groups(count: int) -> Iterator[range]:
    """Yield the places 0 to `count` in groups."""
    for start in range(0, count, GROUP):
        yield range(start, min(start + GROUP, count))


def answers(network: imagenet.Network, images: imagenet.Images) -> tuple[Tensor, Tensor]:
    """Return the network's answers (N,), and the images' classes: its answers where unknown."""
    with torch.no_grad():
        found = [
            network.model(images.read(rows, network.size)).argmax(1) for rows in groups(len(images))
        ]
    seen = torch.cat(found)
    return seen, seen if images.labels is None else torch.tensor(images.labels)

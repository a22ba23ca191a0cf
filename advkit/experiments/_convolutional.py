"""A small convolutional network, trained with or without a penalty on its layers' norms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from advkit._progress import progress_bar
from advkit.analysis import norm_penalty
from advkit.data import Dataset, fingerprint, load
from advkit.experiments.setting import Setting
from advkit.models import error_rate
from advkit.models.cache import cached, load_or_train

__all__ = ["Convolutional", "build", "convolutional"]

# Part of every recipe: raise it when what follows from the same recipe changes.
_VERSION = 2
_RATE, _DECAY = 2e-3, 1e-5
_EPOCHS, _QUICK_EPOCHS, _FEW = 8, 4, 10_000


@dataclass(frozen=True, eq=False)
class Convolutional:
    """A trained network and its errors, in [0, 1]."""

    model: nn.Sequential
    train_error: float
    test_error: float


def build(shape: tuple[int, ...] = (1, 28, 28), *, seed: int = 0) -> nn.Sequential:
    """Return the network with fresh weights; its last layer but one gives 100 features.

    Parameters
    ----------
    shape : tuple of int
        (C, H, W) of the images, at least 5 x 5.
    seed : int
        Of the weights; PyTorch's random state is left as it is.

    Notes
    -----
    The paper gives no architecture (section 3). This one has what its section 4.3 treats: strides,
    overlapping pooling, rectified layers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rows, columns = ((math.ceil(side / 2) - 3) // 2 + 1 for side in shape[1:])
        return nn.Sequential(
            nn.Conv2d(shape[0], 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * rows * columns, 100),
            nn.ReLU(),
            nn.Linear(100, 10),
        )


def convolutional(setting: Setting, *, penalty: float = 0.0) -> Convolutional:
    """Return the network, trained now by Adam or before and kept.

    Parameters
    ----------
    setting : Setting
        Data, seed, epochs.
    penalty : float
        Weight of `advkit.analysis.norm_penalty` in the loss.

    Warns
    -----
    RuntimeWarning
        The file that was kept is damaged; it is replaced by a network trained anew.
    """
    epochs = setting.epochs or (_QUICK_EPOCHS if setting.quick else _EPOCHS)
    data = load(setting.data, "train")
    if len(data) < _FEW and setting.epochs is None and not setting.quick:
        epochs *= 4  # as many steps matter as images
    recipe = {
        "version": _VERSION,
        "data": fingerprint(setting.data),
        "epochs": epochs,
        "penalty": penalty,
        "seed": setting.seed,
        "torch": torch.__version__,
        "rate": [_RATE, _DECAY],
    }
    model = build(tuple(data.images.shape[1:]), seed=setting.seed)
    words = "convolutional network" + (f", penalty {penalty:g}" if penalty else "")
    setting.say(words)

    def train() -> None:
        setting.say(f"training it, {epochs} epochs")
        _train(model, data, setting, epochs, penalty)

    load_or_train(cached("convolutional", setting.data, recipe), model, recipe, train)
    model.eval().requires_grad_(False)
    return Convolutional(
        model, error_rate(model, data), error_rate(model, load(setting.data, "test"))
    )


def _train(model: nn.Module, data: Dataset, setting: Setting, epochs: int, penalty: float) -> None:
    batch = 100 if len(data) >= _FEW else 50
    generator = torch.Generator().manual_seed(setting.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=_RATE, weight_decay=_DECAY)
    steps, step = epochs * math.ceil(len(data) / batch), 0
    model.train()
    with progress_bar(setting.progress, f"training on {setting.data}", epochs) as advance:
        for _ in range(epochs):
            for rows in torch.randperm(len(data), generator=generator).split(batch):
                for group in optimizer.param_groups:
                    group["lr"] = _RATE * (1 + math.cos(math.pi * step / steps)) / 2
                loss = F.cross_entropy(model(data.images[rows]), data.labels[rows])
                if penalty:
                    loss = loss + penalty * norm_penalty(model)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
            advance(1, f"epochs, loss {float(loss.detach()):.4f}")

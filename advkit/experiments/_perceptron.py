"""FC100-100-10, trained on images and, where asked for, on pools of adversarial examples."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from advkit.data import load
from advkit.experiments.setting import Setting
from advkit.models import build
from advkit.models.mlp import architecture
from advkit.models.recipe import DEFAULT_SCHEDULE, SCHEDULES
from advkit.training import Pools, train_with_pools

__all__ = ["DECAY", "NAME", "as_json", "perceptron"]

NAME = "fc100-100-10"
DECAY = architecture(NAME).decay
_QUICK_EPOCHS = 6


def perceptron(setting: Setting, kind: str, *, seed: int, **options: Any) -> nn.Sequential:
    """Return the network, trained now or before; goes on after an interruption.

    Parameters
    ----------
    setting : Setting
        With what.
    kind : str
        In words, for the person who waits.
    seed : int
        Of the training.
    **options
        Of `train_with_pools`; `decay` is the paper's unless it is among them.
    """
    schedule = SCHEDULES.get(setting.data, DEFAULT_SCHEDULE)
    epochs = setting.epochs or (_QUICK_EPOCHS if setting.quick else schedule.epochs)
    data = load(setting.data, "train")
    model = build(NAME, inputs=data.images[0].numel(), seed=seed)
    setting.say(f"training, {kind}, seed {seed}: {epochs} epochs")
    name = "".join(letter if letter.isalnum() else "-" for letter in kind)
    setting.kept_network(
        {"options": as_json(options), "epochs": epochs, "seed": seed},
        model,
        lambda: train_with_pools(
            model,
            data,
            **{"decay": DECAY, **options},
            epochs=epochs,
            batch_size=schedule.batch_size,
            learning_rate=schedule.learning_rate,
            seed=seed,
            checkpoint=setting.work / f"{name}-{seed}-{setting.data}-{epochs}.safetensors",
            progress=setting.progress,
        ),
    )
    return model.eval().requires_grad_(False)


def as_json(options: dict[str, Any]) -> dict[str, Any]:
    """Return options of `train_with_pools` as JSON values."""
    return {
        key: asdict(value) if isinstance(value, Pools) else list(value)
        for key, value in options.items()
    }

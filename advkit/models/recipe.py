"""Everything that the weights of a trained network follow from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from advkit.data import fingerprint
from advkit.data.sources import SOURCES
from advkit.models.mlp import architecture

# Part of every recipe: raise it when `build` or `train` change what the same arguments give.
TRAINER_VERSION = 1


@dataclass(frozen=True)
class Schedule:
    """How long and in what steps to train.

    Parameters
    ----------
    epochs : int
        Times to go through the images.
    batch_size : int
        Images per step.
    learning_rate : float
        First step length of Adam.
    """

    epochs: int
    batch_size: int
    learning_rate: float


# A row for each data set that needs another schedule than 60,000 images of clothes or digits do.
SCHEDULES: dict[str, Schedule] = {
    "mnist-5k": Schedule(epochs=60, batch_size=200, learning_rate=1e-2),
}
DEFAULT_SCHEDULE = Schedule(epochs=40, batch_size=500, learning_rate=6e-3)


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, and how.

    Parameters
    ----------
    hidden : tuple of int
        Units of each hidden layer.
    decay : tuple of float
        Weight decay lambda of each layer.
    data : str
        Name of the data set, whose training images are used.
    data_sha256 : str
        Fingerprint of all its training images and labels.
    classes : tuple of int
        Labels that are kept, in the order of the network's outputs.
    epochs, batch_size, learning_rate
        See `Schedule`.
    seed : int
        Of the initial weights and of the order of the images.
    trainer_version : int
        Version of the code that follows the recipe.
    """

    hidden: tuple[int, ...]
    decay: tuple[float, ...]
    data: str
    data_sha256: str
    classes: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    trainer_version: int = TRAINER_VERSION

    def to_json(self) -> str:
        """Return the recipe as JSON text; equal recipes give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        values: dict[str, Any] = json.loads(self.to_json())
        return values

    def digest(self) -> str:
        """Return a short hash of the recipe, for file names: 12 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]


def recipe_for(
    name: str,
    data_name: str,
    *,
    classes: Sequence[int] | None = None,
    decay: Sequence[float] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    root: str | PathLike[str] | None = None,
) -> Recipe:
    """Return the recipe of a network on a data set, which must be on this machine.

    Parameters
    ----------
    name : str
        Network, see `advkit.models.build`.
    data_name : str
        Data set, see `advkit.data.load`.
    classes : sequence of int, optional
        Labels to keep, at least two; all of them by default.
    decay, epochs, batch_size, learning_rate : optional
        In place of the paper's weight decay and of the data set's `Schedule`.
    seed : int
        Of the initial weights and of the order of the images.
    root : str or os.PathLike, optional
        Where to look for the data first.

    Returns
    -------
    Recipe
        With nothing left open.

    Raises
    ------
    ValueError
        A name is unknown or `classes` has fewer than two labels.
    FileNotFoundError
        The data set is not on this machine; the message says how to get it.
    """
    network = architecture(name)
    data_sha256 = fingerprint(data_name, "train", root=root)
    schedule = SCHEDULES.get(data_name, DEFAULT_SCHEDULE)
    kept = range(len(SOURCES[data_name].classes)) if classes is None else classes
    if len(kept) < 2:
        raise ValueError(f"classes: expected at least two labels, got {list(kept)}")
    return Recipe(
        hidden=network.hidden,
        decay=tuple(float(strength) for strength in (network.decay if decay is None else decay)),
        data=data_name,
        data_sha256=data_sha256,
        classes=tuple(int(label) for label in kept),
        epochs=int(schedule.epochs if epochs is None else epochs),
        batch_size=int(schedule.batch_size if batch_size is None else batch_size),
        learning_rate=float(schedule.learning_rate if learning_rate is None else learning_rate),
        seed=int(seed),
    )

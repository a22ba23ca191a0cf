"""Everything that the weights of a trained network follow from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from typing import Any

from advkit.data import fingerprint
from advkit.data.sources import SOURCES
from advkit.models.autoencoder import Autoencoder
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
# For L-BFGS on all images at once: an evaluation goes once through them.
FULL_BATCH = Schedule(epochs=1000, batch_size=0, learning_rate=0.0)

OPTIMIZERS = ("adam", "lbfgs")


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
    optimizer : str
        One of `OPTIMIZERS`. With "lbfgs" `epochs` is the most evaluations of the whole loss;
        `batch_size` and `learning_rate` are 0.
    half : int, optional
        1 or 2: trained on this half of the training images alone, see `advkit.data.Dataset.half`.
    autoencoder : Autoencoder, optional
        How the first layer was learnt, if without labels.
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
    optimizer: str = "adam"
    half: int | None = None
    autoencoder: Autoencoder | None = None

    def to_json(self) -> str:
        """Return the recipe as JSON text; equal recipes give equal text."""
        values = asdict(self)
        for field in fields(self):
            # Left out where they are not used, so that such recipes keep the digests that they had
            # before these fields were there.
            if field.name in _LATER and values[field.name] == field.default:
                del values[field.name]
        return json.dumps(values, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        values: dict[str, Any] = json.loads(self.to_json())
        return values

    def digest(self) -> str:
        """Return a short hash of the recipe, for file names: 12 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]


_LATER = ("optimizer", "half", "autoencoder")


def recipe_for(
    name: str,
    data_name: str,
    *,
    classes: Sequence[int] | None = None,
    decay: Sequence[float] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    optimizer: str | None = None,
    half: int | None = None,
    autoencoder: Autoencoder | None = None,
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
    optimizer : {"adam", "lbfgs"}, optional
        In place of the network's own.
    half : {1, 2}, optional
        Train on this half of the images.
    autoencoder : Autoencoder, optional
        In place of AE400-10's own.
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
        A name is unknown, `classes` has fewer than two labels, or an argument does not go with the
        network or its optimizer.
    FileNotFoundError
        The data set is not on this machine; the message says how to get it.
    """
    network = architecture(name)
    data_sha256 = fingerprint(data_name, "train", root=root)
    optimizer = network.optimizer if optimizer is None else optimizer
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer: expected {' or '.join(OPTIMIZERS)}, got {optimizer!r}")
    if optimizer == "lbfgs" and not (batch_size is None and learning_rate is None):
        raise ValueError(
            'batch_size and learning_rate: optimizer="lbfgs" takes all images at once and finds '
            "its own step lengths; leave them out"
        )
    if half not in (None, 1, 2):
        raise ValueError(f"half: expected 1, 2 or None for all images, got {half!r}")
    if autoencoder is not None and network.autoencoder is None:
        raise ValueError(f"autoencoder: {name} has none; leave it out")
    schedule = SCHEDULES.get(data_name, DEFAULT_SCHEDULE)
    schedule = FULL_BATCH if optimizer == "lbfgs" else schedule
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
        optimizer=optimizer,
        half=half,
        autoencoder=network.autoencoder if autoencoder is None else autoencoder,
    )

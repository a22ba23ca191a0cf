"""What an experiment is given, what it returns, and what it keeps on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advkit._files import replacing
from advkit._tensors import digest_of
from advkit.attack import AttackResult, random_targets
from advkit.attack.lbfgs import lbfgs
from advkit.data import Dataset, class_folders, load
from advkit.models import Autoencoder, Stage, TrainedModel, trained
from advkit.models.cache import load_or_train

__all__ = ["IMAGENET", "Outcome", "Setting"]

# What `Setting.data` is where a folder of images takes the place of a data set.
IMAGENET = "imagenet"

# What --quick trains: enough to see the structure, in seconds on mnist-5k.
_QUICK_EPOCHS = 20
_QUICK_AUTOENCODER = Autoencoder(steps=250)


def _silent(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Outcome:
    """What an experiment found, ready to be written.

    Parameters
    ----------
    title : str
        A heading.
    tables : dict of str to sequence of dict
        Tables of the Markdown page by their headings; in each all rows have the same keys.
    notes : sequence of str
        Sentences under the first table.
    records : sequence of dict
        Rows of the CSV file.
    data : dict
        JSON values.
    pictures : dict of str to callable
        File names, and what draws them to a path.
    """

    title: str
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    notes: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    data: Mapping[str, Any]
    pictures: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What all experiments are run with.

    Parameters
    ----------
    data : str
        Name of the data set.
    images : int
        How many images to attack: the first ones; all where there are fewer.
    work : pathlib.Path
        Folder for what is kept until all is done, so that an interrupted run goes on from there.
    targets : {"random", "none"}
        Classes to reach: random ones as in the problem that the paper states (section 4.1), or any
        wrong one.
    optimizer : str, optional
        That of the networks' training, "adam" or "lbfgs"; by default the networks' own.
    epochs : int, optional
        Of the networks' training; by default those of the data set.
    seeds : int
        How often to train, where an experiment shows a spread.
    seed : int
        Of networks, targets and noise.
    quick : bool
        Short training.
    folder : pathlib.Path, optional
        Where images are: those of ImageNet's size, by default Foolbox's samples, or, of an
        experiment that can do without a data set by name, those that `advkit.data.class_folders`
        reads.
    model : str
        The network of ImageNet's size, see `advkit.imagenet.network`.
    target : str
        The class of ImageNet that Figure 5 aims at.
    size : int, optional
        To which images of a folder with classes are scaled, in pixels; they need it.
    classes : tuple of str, optional
        Those that Figure 6 tells from the rest; by default the experiment's choice.
    stages : tuple of Stage, optional
        Sizes of Figure 6's layers; by default those for small images.
    progress : bool
        Show bars on stderr.
    say : callable
        Told in a line what is done next.
    """

    data: str
    images: int
    work: Path
    targets: str = "random"
    optimizer: str | None = None
    epochs: int | None = None
    seeds: int = 3
    seed: int = 0
    quick: bool = False
    folder: Path | None = None
    model: str = "efficientnet-lite0"
    target: str = "ostrich"
    size: int | None = None
    classes: tuple[str, ...] | None = None
    stages: tuple[Stage, ...] | None = None
    progress: bool = False
    say: Callable[[str], None] = _silent

    def network(self, name: str, *, half: int | None = None) -> TrainedModel:
        """Return a network, trained now or before."""
        self.say(f"network {name}" + ("" if half is None else f", trained on P{half}"))
        options: dict[str, Any] = {"epochs": self.epochs}
        if self.quick:
            own = self.optimizer or ("lbfgs" if name.startswith("ae") else "adam")
            options["epochs"] = self.epochs or (150 if own == "lbfgs" else _QUICK_EPOCHS)
            options |= {"autoencoder": _QUICK_AUTOENCODER} if name.startswith("ae") else {}
        found = trained(
            name,
            self.data,
            half=half,
            optimizer=self.optimizer,
            seed=self.seed,
            progress=self.progress,
            **options,
        )
        found.model.requires_grad_(False)
        return found

    def dataset(self, split: str) -> Dataset:
        """Return a split of the data set, or of the folder in its place."""
        if self.folder is None:
            return load(self.data, split)
        if self.size is None:
            raise ValueError("size: none is given, to which the images of the folder are scaled")
        self.say(f"reading the {split} images of {self.folder}")
        return class_folders(self.folder, split, size=self.size)

    def first_images(self, split: str) -> tuple[Dataset, Tensor, Tensor]:
        """Return a split, and its first images with their labels."""
        dataset = self.dataset(split)
        return dataset, dataset.images[: self.images], dataset.labels[: self.images]

    def chosen_targets(self, labels: Tensor, classes: int) -> Tensor | None:
        """Return a target for each image, or None where any wrong class will do."""
        if self.targets == "none":
            return None
        return random_targets(labels, classes, seed=self.seed)

    def attacked(
        self,
        models: Mapping[str, nn.Module],
        x: Tensor,
        labels: Tensor,
        targets: Tensor | None,
        **options: Any,
    ) -> dict[str, AttackResult]:
        """Attack every network on the same images; what was attacked before is read back."""
        wanted = labels if targets is None else targets
        results = {}
        for name, model in models.items():
            key = _digest([*model.state_dict().values(), x, wanted], options)
            path = self.work / f"attack-{key}.npz"
            if path.exists():
                self.say(f"attack on {name}: read back")
                results[name] = AttackResult.load(path)
                continue
            self.say(f"attack on {name}: {len(x)} images")
            results[name] = lbfgs(
                model, x, wanted, targets is not None, progress=self.progress, **options
            )
            self.work.mkdir(parents=True, exist_ok=True)
            results[name].save(path)
        return results

    def kept(self, what: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> Any:
        """Return JSON values that were computed before with the same `what`, or compute them."""
        key = _digest([], {"data": self.data, **what})
        path = self.work / f"kept-{key}.json"
        if path.exists():
            try:
                return json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(
                    f"{path} cannot be read ({error}); remove it to compute it again"
                ) from error
        values = compute()
        self.work.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(values), encoding="utf-8")
        return values

    def kept_network(
        self, what: Mapping[str, Any], model: nn.Module, train: Callable[[], object]
    ) -> None:
        """Load into `model` what `train` made of it before with the same `what`, or train it."""
        key = _digest(list(model.state_dict().values()), {"data": self.data, **what})
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / f"network-{key}.safetensors"
        if not load_or_train(path, model, {"what": dict(what)}, train):
            self.say("trained network: read back")
        model.eval()

    def to_dict(self) -> dict[str, Any]:
        """Return what the result depends on, as JSON values."""
        return {
            "data": self.data,
            "images": self.images,
            "targets": self.targets,
            "optimizer": self.optimizer,
            "epochs": self.epochs,
            "seeds": self.seeds,
            "seed": self.seed,
            "quick": self.quick,
            "folder": None if self.folder is None else self.folder.name,
            "model": self.model,
            "target": self.target,
            "size": self.size,
            "classes": None if self.classes is None else list(self.classes),
            "stages": None if self.stages is None else " ".join(map(str, self.stages)),
        }


def _digest(tensors: Sequence[Tensor], values: Mapping[str, Any]) -> str:
    """Return a hash of tensors and JSON values."""
    return digest_of(tensors, json.dumps(dict(values), sort_keys=True) + torch.__version__)

"""Training with pools of adversarial examples, with dropout, or with neither."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advkit._extras import require
from advkit._progress import progress_bar
from advkit._tensors import digest_of, read_tensors, write_tensors
from advkit.data import Dataset
from advkit.models import TrainResult, error_rate, weight_decay
from advkit.models._steps import check_images, check_schedule, cpu_threads, flush
from advkit.models.train import check_outputs
from advkit.training.pools import Pool, Pools, cuts

__all__ = ["train_with_pools"]

_FORMAT = "advkit training 1"


def train_with_pools(
    model: nn.Sequential,
    dataset: Dataset,
    *,
    decay: Sequence[float],
    pools: Pools | None = None,
    dropout: Sequence[float] = (),
    test: Dataset | None = None,
    epochs: int = 40,
    batch_size: int = 500,
    learning_rate: float = 6e-3,
    seed: int = 0,
    threads: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> TrainResult:
    """Train a perceptron in place by Adam on images and on pools of adversarial examples in turns.

    The loss of a step is the mean cross-entropy over a batch of images, plus that over a batch from
    one pool, fed to the layers above the pool's, plus `advkit.models.weight_decay`. Without pools
    and dropout it is the training of `advkit.models.train`. The step length falls from
    `learning_rate` to 0 along half a cosine. The same arguments give the same bits on one CPU,
    whether the training was interrupted or not; PyTorch's random state is neither read nor changed.

    Parameters
    ----------
    model : torch.nn.Sequential
        Of Flatten, Linear and Sigmoid, as those of `advkit.models.build`. Left in eval mode.
    dataset : Dataset
        Training images.
    decay : sequence of float
        lambda of each linear layer.
    pools : Pools, optional
        The pools of adversarial examples.
    dropout : sequence of float, optional
        Probability that a value is left out, of the input of each linear layer; the others are
        scaled up. Not for batches from pools.
    test : Dataset, optional
        Test images, for the test error.
    epochs, batch_size, learning_rate, seed, threads
        See `advkit.models.train`.
    checkpoint : str or os.PathLike, optional
        A file that keeps the state after every epoch; where it exists, training goes on from
        there. It is removed at the end. Needs safetensors.
    progress : bool
        Show a progress bar on stderr; needs rich.

    Returns
    -------
    TrainResult
        Errors and loss at the end; the loss is that of the last epoch, pools included.

    Raises
    ------
    TypeError
        The network is of another kind.
    ValueError
        An argument is out of range, or `checkpoint` is the state of another training.
    FloatingPointError
        The loss is no longer finite.
    """
    places = cuts(model)
    check_images(dataset, test)
    check_schedule(
        epochs=epochs, batch_size=batch_size, threads=threads, learning_rate=learning_rate
    )
    if pools is not None and max(pools.layers) >= len(places):
        raise ValueError(
            f"pools: the network has layers 0 to {len(places) - 1} to take values from, "
            f"got {pools.layers}"
        )
    if dropout and (len(dropout) != len(places) or not all(0 <= p < 1 for p in dropout)):
        raise ValueError(
            f"dropout: expected a number in [0, 1) for each of the {len(places)} linear layers, "
            f"got {list(dropout)}"
        )
    if checkpoint is not None:
        require("safetensors", extra="models", purpose="checkpoint")
    with torch.inference_mode(False):
        images = dataset.images.flatten(1).to(next(model.parameters()))
        labels = dataset.labels.to(images.device)
        run = _Run(model, places, images, labels, pools, tuple(dropout), tuple(decay))
        run.optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        run.generator.manual_seed(seed)
    settings = {
        "pools": None if pools is None else asdict(pools),
        "dropout": list(dropout),
        "decay": list(decay),
        "data": digest_of([images, labels]),
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "start": digest_of(model.state_dict().values()),
    }
    path = None if checkpoint is None else Path(checkpoint)
    with (
        cpu_threads(threads),
        progress_bar(progress, f"training on {dataset.name}", epochs) as advance,
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        check_outputs(model(images[:1]), len(dataset.classes))
        first = 0 if path is None or not path.exists() else run.read(path, settings)
        advance(first, "epochs")
        model.train()
        for epoch in range(first, epochs):
            run.epoch(epoch, epochs, batch_size, learning_rate)
            advance(1, f"epochs, loss {run.loss:.4f}")
            if path is not None and epoch < epochs - 1:
                run.write(path, settings, epoch + 1)
        assert run.optimizer is not None
        run.optimizer.zero_grad()
    model.eval()
    if path is not None:
        path.unlink(missing_ok=True)
    return TrainResult(
        train_error=error_rate(model, dataset),
        test_error=None if test is None else error_rate(model, test),
        loss=run.loss,
    )


@dataclass
class _Run:
    """A training under way."""

    model: nn.Sequential
    places: list[int]
    images: Tensor
    labels: Tensor
    settings: Pools | None
    dropout: tuple[float, ...]
    decay: tuple[float, ...]
    optimizer: torch.optim.Adam | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)
    pools: dict[int, Pool] = field(default_factory=dict)
    loss: float = math.nan

    def __post_init__(self) -> None:
        layers = () if self.settings is None else self.settings.layers
        for layer in layers:
            linear = self.model[self.places[layer]]
            assert isinstance(linear, nn.Linear)
            values = self.images.new_zeros(0, linear.in_features)
            self.pools[layer] = Pool(values, self.labels[:0])

    def epoch(self, epoch: int, epochs: int, batch_size: int, learning_rate: float) -> None:
        """Go once through the images."""
        assert self.optimizer is not None
        batches = torch.randperm(len(self.images), generator=self.generator).split(batch_size)
        total = 0.0
        for place, rows in enumerate(batches):
            step = epoch * len(batches) + place
            share = step / (epochs * len(batches))
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate * (1 + math.cos(math.pi * share)) / 2
            pools = self.settings
            if pools is not None and epoch >= pools.start and step % pools.every == 0:
                self._refresh(pools)
            loss = self._loss(rows, step)
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()
            total += float(loss.detach())
        self.loss = total / len(batches)
        if not math.isfinite(self.loss):
            raise FloatingPointError(
                f"training gave a loss of {self.loss} in epoch {epoch + 1}; lower learning_rate "
                f"(it is {learning_rate})"
            )
        flush(self.optimizer)

    def _loss(self, rows: Tensor, step: int) -> Tensor:
        logits = self._forward(self.images[rows])
        loss = F.cross_entropy(logits, self.labels[rows]) + weight_decay(self.model, self.decay)
        full = [layer for layer, pool in self.pools.items() if len(pool)]
        if self.settings is None or not full:
            return loss
        layer = full[step % len(full)]
        pool = self.pools[layer]
        chosen = torch.randint(len(pool), (len(rows),), generator=self.generator)
        logits = self._above(layer)(pool.values[chosen])
        return loss + self.settings.weight * F.cross_entropy(logits, pool.labels[chosen])

    def _forward(self, x: Tensor) -> Tensor:
        """Return the logits, with dropout where there is any."""
        if not self.dropout:
            logits: Tensor = self.model(x)
            return logits
        for place, layer in enumerate(self.model):
            if place in self.places and (p := self.dropout[self.places.index(place)]):
                kept = torch.rand(x.shape, generator=self.generator) >= p
                x = x * kept / (1 - p)
            x = layer(x)
        return x

    def _above(self, layer: int) -> nn.Sequential:
        """Return the layers that take a pool's values."""
        return nn.Sequential(*self.model[self.places[layer] :].children())

    @torch.no_grad()
    def _refresh(self, settings: Pools) -> None:
        """Put new examples into every pool."""
        for layer, pool in self.pools.items():
            rows = torch.randint(len(self.images), (settings.refresh,), generator=self.generator)
            labels = self.labels[rows]
            values = self.model[: self.places[layer]](self.images[rows])
            examples = pool.add(self._above(layer), values, labels, settings)
            pool.put(examples, labels, settings, self.generator)

    def write(self, path: Path, settings: dict[str, Any], epochs: int) -> None:
        """Keep the state after `epochs` epochs."""
        assert self.optimizer is not None
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        for place, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{place}.{key}": value for key, value in state.items()}
        for layer, pool in self.pools.items():
            tensors |= {f"pool.{layer}.values": pool.values, f"pool.{layer}.labels": pool.labels}
        tensors["generator"] = self.generator.get_state()
        metadata = {"settings": json.dumps(settings, sort_keys=True), "epochs": str(epochs)}
        write_tensors(path, tensors, metadata, kind=_FORMAT)

    def read(self, path: Path, settings: dict[str, Any]) -> int:
        """Take up the state that `write` kept; return how many epochs are done."""
        try:
            tensors, metadata = read_tensors(path, kind=_FORMAT)
        except ValueError as error:
            raise ValueError(
                f"checkpoint: {path} cannot be used ({error}); remove it to start anew"
            ) from error
        if metadata["settings"] != json.dumps(settings, sort_keys=True):
            raise ValueError(
                f"checkpoint: {path} is the state of another training; remove it to start anew"
            )
        assert self.optimizer is not None

        def those(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(those("model."))
        state = self.optimizer.state_dict()
        count = len(list(self.model.parameters()))
        state["state"] = {place: those(f"adam.{place}.") for place in range(count)}
        self.optimizer.load_state_dict(state)
        for layer in self.pools:
            kept = those(f"pool.{layer}.")
            self.pools[layer] = Pool(kept["values"], kept["labels"])
        self.generator.set_state(tensors["generator"])
        return int(metadata["epochs"])

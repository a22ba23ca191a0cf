"""Training with the paper's weight decay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advkit._modes import evaluating
from advkit._progress import progress_bar
from advkit.data import Dataset
from advkit.models._steps import check_images, check_schedule, cpu_threads, flush
from advkit.models.decay import weight_decay


@dataclass(frozen=True)
class TrainResult:
    """What training came to.

    Parameters
    ----------
    train_error : float
        Fraction of the training images that are misclassified at the end, in [0, 1].
    test_error : float or None
        The same for the test images; None where there were none.
    loss : float
        Mean over the last epoch of the mini-batch loss, weight decay included.
    """

    train_error: float
    test_error: float | None
    loss: float


@torch.no_grad()
def error_rate(model: nn.Module, dataset: Dataset, *, batch_size: int = 4096) -> float:
    """Fraction of the images whose largest logit is not that of their label.

    Parameters
    ----------
    model : torch.nn.Module
        Images (B, ...) to logits (B, K); its device and type are used. It is evaluated in eval mode
        and left in the mode it was in.
    dataset : Dataset
        The images; at least one.
    batch_size : int
        Images at a time.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        `dataset` is empty.
    """
    if not len(dataset):
        raise ValueError("dataset: expected at least one image, got none")
    like = next(model.parameters(), dataset.images)
    wrong = 0
    with evaluating(model):
        for images, labels in zip(
            torch.split(dataset.images, batch_size),
            torch.split(dataset.labels, batch_size),
            strict=True,
        ):
            predicted = model(images.to(like)).argmax(1)
            wrong += int((predicted != labels.to(like.device)).sum())
    return wrong / len(dataset)


def train(
    model: nn.Module,
    dataset: Dataset,
    *,
    decay: Sequence[float],
    test: Dataset | None = None,
    epochs: int = 40,
    batch_size: int = 500,
    learning_rate: float = 6e-3,
    seed: int = 0,
    threads: int = 1,
    progress: bool = False,
) -> TrainResult:
    """Train a classifier in place, by Adam on the mean cross-entropy plus `weight_decay`.

    Every epoch goes once through the images in a new order. The step length falls from
    `learning_rate` to 0 along half a cosine. On one CPU, the same arguments give the same bits;
    PyTorch's random state is neither read nor changed, its number of threads is put back.

    Parameters
    ----------
    model : torch.nn.Module
        Images (B, ...) to logits (B, K), on any device. It is left in eval mode, its parameters
        ready to be differentiated, without gradients.
    dataset : Dataset
        Training images.
    decay : sequence of float
        lambda of each ``torch.nn.Linear`` layer, see `weight_decay`.
    test : Dataset, optional
        Test images, for the test error.
    epochs : int
        Times to go through the images.
    batch_size : int
        Images per step.
    learning_rate : float
        First step length of Adam.
    seed : int
        Of the order of the images.
    threads : int
        CPU threads to use in the meantime. One is the default because small networks gain little
        from more, wait long for them on a busy machine, and sum in another order with them.
    progress : bool
        Show a progress bar on stderr; needs rich.

    Returns
    -------
    TrainResult
        Errors at the end.

    Raises
    ------
    ValueError
        An argument is out of range, or the network has fewer outputs than there are classes.
    FloatingPointError
        The loss is no longer finite.
    ImportError
        `progress` without rich.
    """
    check_images(dataset, test)
    check_schedule(
        epochs=epochs, batch_size=batch_size, threads=threads, learning_rate=learning_rate
    )
    like = next(model.parameters(), dataset.images)
    labels = dataset.labels.to(like.device)
    generator = torch.Generator(device="cpu").manual_seed(seed)
    steps = epochs * math.ceil(len(dataset) / batch_size)
    step = 0
    loss = math.nan
    with (
        cpu_threads(threads),
        progress_bar(progress, f"training on {dataset.name}", epochs) as advance,
        torch.inference_mode(False),  # what it makes cannot be differentiated
        torch.enable_grad(),
    ):
        x = dataset.images.to(like)
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        model.train()
        for epoch in range(epochs):
            order = torch.randperm(len(dataset), generator=generator, device="cpu").to(like.device)
            total = torch.zeros((), device=like.device)
            batches = torch.split(order, batch_size)
            for rows in batches:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
                logits = model(x[rows])
                if step == 0:
                    check_outputs(logits, len(dataset.classes))
                batch_loss = F.cross_entropy(logits, labels[rows]) + weight_decay(model, decay)
                optimizer.zero_grad()
                torch.autograd.backward(batch_loss)
                optimizer.step()
                total += batch_loss.detach()
                step += 1
            loss = float(total) / len(batches)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"training gave a loss of {loss} in epoch {epoch + 1}; lower learning_rate "
                    f"(it is {learning_rate}), and check that the images are finite"
                )
            flush(optimizer)
            advance(1, f"epochs, loss {loss:.4f}")
        optimizer.zero_grad()
    model.eval()
    return TrainResult(
        train_error=error_rate(model, dataset),
        test_error=None if test is None else error_rate(model, test),
        loss=loss,
    )


def check_outputs(logits: Tensor, classes: int) -> None:
    """Raise unless there is a logit for every class."""
    if logits.ndim != 2 or logits.shape[1] < classes:
        raise ValueError(
            f"model: expected logits of shape (B, K) with K >= {classes}, the number of classes, "
            f"got {tuple(logits.shape)}"
        )

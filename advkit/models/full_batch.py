"""Training by full-batch L-BFGS, as the paper trained its networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advkit._progress import progress_bar
from advkit.data import Dataset
from advkit.models._steps import check_images, cpu_threads
from advkit.models.decay import weight_decay
from advkit.models.train import TrainResult, check_outputs, error_rate
from advkit.optim import Round, minimize

__all__ = ["train_lbfgs"]

_CHUNK = 10_000  # images whose activations are in memory at once


def train_lbfgs(
    model: nn.Module,
    dataset: Dataset,
    *,
    decay: Sequence[float],
    test: Dataset | None = None,
    max_evaluations: int = 1000,
    history: int = 20,
    gradient_tolerance: float = 1e-5,
    threads: int = 1,
    progress: bool = False,
) -> TrainResult:
    """Train a classifier in place by L-BFGS on the loss over all images: `advkit.optim.minimize`.

    The parameters that require gradients are one problem without bounds; others stay as they are.
    It ends where the largest derivative is at most `gradient_tolerance`, where the loss no longer
    falls in float32, or after `max_evaluations`.

    Parameters
    ----------
    model : torch.nn.Module
        Images (B, ...) to logits (B, K). It is left in eval mode, without gradients.
    dataset : Dataset
        Training images.
    decay : sequence of float
        lambda of each ``torch.nn.Linear`` layer, see `weight_decay`.
    test : Dataset, optional
        Test images, for the test error.
    max_evaluations : int
        Of the loss, each a pass over all images, at most.
    history : int
        L-BFGS pairs.
    gradient_tolerance : float
        Largest derivative of the loss at which it ends.
    threads : int
        CPU threads to use in the meantime.
    progress : bool
        Show a progress bar on stderr; needs rich.

    Returns
    -------
    TrainResult
        Errors and loss at the end.

    Raises
    ------
    ValueError
        An argument is out of range, nothing can be trained, or the network has fewer outputs than
        there are classes.
    FloatingPointError
        The loss is not finite at the start.
    """
    check_images(dataset, test)
    if max_evaluations < 1:
        raise ValueError(f"max_evaluations: expected at least 1, got {max_evaluations}")
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not free:
        raise ValueError("model: expected parameters that require gradients, got none")
    x, labels = dataset.images.to(free[0]), dataset.labels.to(free[0].device)

    def value_and_grad(point: Tensor) -> tuple[Tensor, Tensor]:
        _load(free, point[0])
        loss = weight_decay(model, decay)
        total = float(loss.detach())
        gradient = _gradient(loss, free)
        for rows in torch.arange(len(x), device=x.device).split(_CHUNK):
            logits = model(x[rows])
            check_outputs(logits, len(dataset.classes))
            loss = F.cross_entropy(logits, labels[rows], reduction="sum") / len(x)
            total += float(loss.detach())
            gradient += _gradient(loss, free)
        return point.new_tensor([total]), gradient[None]

    with (
        _training(model),
        cpu_threads(threads),
        progress_bar(progress, f"L-BFGS on {dataset.name}", max_evaluations) as advance,
        torch.inference_mode(False),
    ):

        def told(round_: Round) -> None:
            value = float(round_.value[0])
            if first and not math.isfinite(value):
                raise FloatingPointError(f"the loss is {value} at the start; check the images")
            first.clear()
            advance(1, f"evaluations, loss {value:.5f}")

        first = [True]
        start = torch.cat([parameter.detach().flatten() for parameter in free])
        found = minimize(
            value_and_grad,
            start[None],
            history=history,
            max_evaluations=max_evaluations,
            gradient_tolerance=gradient_tolerance,
            callback=told,
        )
        _load(free, found.x[0])
    return TrainResult(
        train_error=error_rate(model, dataset),
        test_error=None if test is None else error_rate(model, test),
        loss=float(found.value[0]),
    )


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    """Hold a network in training mode, and leave it in eval mode, also after an error."""
    model.train()
    try:
        yield
    finally:
        model.eval()


@torch.no_grad()
def _load(parameters: list[nn.Parameter], values: Tensor) -> None:
    """Copy a vector into the parameters."""
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, part in zip(parameters, values.split(sizes), strict=True):
        parameter.copy_(part.view_as(parameter))


def _gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Return the gradient as one vector, zeros for what the loss does not depend on."""
    gradients: Sequence[Tensor | None] = [None] * len(parameters)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]
    )

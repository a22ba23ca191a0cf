"""Features learnt without labels: the sparse autoencoder under AE400-10."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit._progress import progress_bar
from advkit.models._steps import cpu_threads, flush

__all__ = ["Autoencoder", "learn_features", "sparse_loss"]

_START = 0.025


@dataclass(frozen=True)
class Autoencoder:
    """How an autoencoder with one layer of sigmoid units is trained.

    The paper says no more than "single layer sparse autoencoder with sigmoid activations"; the
    loss and its weights are those of Ng 2011, "Sparse autoencoder" (CS294A lecture notes) and of
    its exercise on MNIST.

    Parameters
    ----------
    sparsity : float
        Mean activation that every unit is drawn to.
    sparsity_weight : float
        Weight of the Kullback-Leibler divergence from it, summed over the units.
    decay : float
        Weight of half the sum of the squared weights of encoder and decoder.
    steps : int
        Of Adam.
    batch_size : int
        Images per step; the mean activation of a unit is that over them.
    learning_rate : float
        First step length; falls to 0 along half a cosine.

    Raises
    ------
    ValueError
        A number is out of range.
    """

    sparsity: float = 0.1
    sparsity_weight: float = 3.0
    decay: float = 3e-3
    steps: int = 2400
    batch_size: int = 500
    learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        if not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity: expected a number in (0, 1), got {self.sparsity}")
        for name in ("sparsity_weight", "decay"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected a finite number >= 0, got {value}")
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate: expected a number > 0, got {self.learning_rate}")


def sparse_loss(x: Tensor, encoder: nn.Linear, decoder: nn.Linear, settings: Autoencoder) -> Tensor:
    """Reconstruction, sparsity and decay of an autoencoder with sigmoid units on both sides.

    ``mean |x - decoded|^2 / 2 + decay / 2 sum w^2 + sparsity_weight sum_j KL(sparsity | a_j)``,
    a_j the mean activation of unit j.

    Parameters
    ----------
    x : Tensor (B, n)
        Images with values in [0, 1].
    encoder, decoder : torch.nn.Linear
        n to the units, and back.
    settings : Autoencoder
        The weights of the terms.

    Returns
    -------
    Tensor
        Scalar, differentiable.
    """
    units = torch.sigmoid(encoder(x))
    decoded = torch.sigmoid(decoder(units))
    reconstruction = (decoded - x).square().sum(1).mean() / 2
    squares = encoder.weight.square().sum() + decoder.weight.square().sum()
    rho, mean = settings.sparsity, units.mean(0)
    divergence = rho * (rho / mean).log() + (1 - rho) * ((1 - rho) / (1 - mean)).log()
    return (
        reconstruction + settings.decay / 2 * squares + settings.sparsity_weight * divergence.sum()
    )


def learn_features(
    images: Tensor,
    encoder: nn.Linear,
    settings: Autoencoder,
    *,
    seed: int = 0,
    threads: int = 1,
    progress: bool = False,
) -> float:
    """Train an encoder in place, without labels, by Adam on `sparse_loss`.

    The same arguments give the same bits on one CPU; PyTorch's random state is neither read nor
    changed.

    Parameters
    ----------
    images : Tensor (N, *shape)
        Values in [0, 1], as many an image as the encoder takes.
    encoder : torch.nn.Linear
        With fresh weights, of which a small part is kept: larger ones would stay in the filters as
        noise for long. The decoder starts from their transpose.
    settings : Autoencoder
        Loss and schedule.
    seed : int
        Of the order of the images.
    threads : int
        CPU threads to use in the meantime.
    progress : bool
        Show a progress bar on stderr; needs rich.

    Returns
    -------
    float
        Mean loss over the last tenth of the steps.

    Raises
    ------
    FloatingPointError
        The loss is no longer finite.
    """
    x = images.flatten(1).to(encoder.weight)
    generator = torch.Generator().manual_seed(seed)
    decoder = nn.Linear(encoder.out_features, encoder.in_features, device="meta")
    decoder = decoder.to_empty(device=encoder.weight.device).to(encoder.weight.dtype)
    recent: list[float] = []
    note = "steps"
    with (
        cpu_threads(threads),
        progress_bar(progress, "sparse autoencoder", settings.steps) as advance,
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        with torch.no_grad():
            encoder.weight.mul_(_START)
            decoder.weight.copy_(encoder.weight.T)
            decoder.bias.zero_()
        parameters = [*encoder.parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
        order = torch.empty(0, dtype=torch.int64)
        for step in range(settings.steps):
            if len(order) < min(settings.batch_size, len(x)):
                order = torch.randperm(len(x), generator=generator)
            rows, order = order[: settings.batch_size], order[settings.batch_size :]
            share = step / settings.steps
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * share)) / 2
            loss = sparse_loss(x[rows.to(x.device)], encoder, decoder, settings)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if step % 50 == 49 or step == settings.steps - 1:
                if not math.isfinite(value := float(loss.detach())):
                    raise FloatingPointError(
                        f"the autoencoder's loss is {value} after {step + 1} steps; lower "
                        f"learning_rate (it is {settings.learning_rate})"
                    )
                flush(optimizer)
                note = f"steps, loss {value:.3f}"
            if step >= settings.steps - max(1, settings.steps // 10):
                recent.append(float(loss.detach()))
            advance(1, note)
        optimizer.zero_grad()
    return sum(recent) / len(recent)

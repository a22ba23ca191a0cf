"""Training without labels: topographic reconstruction ICA, stage by stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit._progress import progress_bar
from advkit.models.quocnet import L2Pool, LocalFilters

__all__ = ["Reconstruction", "learn_stages", "reconstruction_loss"]


@dataclass(frozen=True)
class Reconstruction:
    """How `learn_stages` trains.

    Parameters
    ----------
    sparsity : float
        Weight of the pooled outputs beside the reconstruction.
    steps : int
        Of Adam, for each stage.
    batch_size : int
        Images per step.
    learning_rate : float
        First step length; falls to 0 along half a cosine.

    Raises
    ------
    ValueError
        A number is out of range.
    """

    sparsity: float = 0.1
    steps: int = 600
    batch_size: int = 100
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not (math.isfinite(self.sparsity) and self.sparsity >= 0):
            raise ValueError(f"sparsity: expected a finite number >= 0, got {self.sparsity}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate: expected a number > 0, got {self.learning_rate}")


def reconstruction_loss(x: Tensor, filters: LocalFilters, pool: L2Pool, sparsity: float) -> Tensor:
    """Reconstruction and sparsity of a stage, the mean over images and places.

    ``|W' W p - p|^2 + sparsity sum_j sqrt(eps + sum of (W p)^2 over the window of j)``, p what a
    place sees, less its mean, and W that place's filters (Le, Karpenko, Ngiam & Ng 2011, "ICA with
    reconstruction cost for efficient overcomplete feature learning"; Le et al. 2012, equation 1).

    Parameters
    ----------
    x : Tensor (B, C, H, W)
        Input of the stage.
    filters, pool : LocalFilters, L2Pool
        Its layers.
    sparsity : float
        Weight of the second term.

    Returns
    -------
    Tensor
        Scalar, differentiable.
    """
    seen = filters.patches(x)
    seen = seen - seen.mean(2, keepdim=True)
    along = seen @ filters.weight.mT
    back = along @ filters.weight
    reconstruction = (back - seen).square().sum(2).mean()
    sparse: Tensor = pool(filters.maps(along)).sum(1).mean()
    return reconstruction + sparsity * sparse


def learn_stages(
    images: Tensor,
    network: nn.Sequential,
    settings: Reconstruction | None = None,
    *,
    seed: int = 0,
    progress: bool = False,
) -> tuple[float, ...]:
    """Train each stage of `build_quocnet` in place on what those before it make of the images.

    Parameters
    ----------
    images : Tensor (N, C, H, W)
        Values in [0, 1].
    network : torch.nn.Sequential
        From `build_quocnet`.
    settings : Reconstruction, optional
        Loss and schedule.
    seed : int
        Of the order of the images; PyTorch's random state is neither read nor changed.
    progress : bool
        Show a bar on stderr; needs rich.

    Returns
    -------
    tuple of float
        For each stage the mean loss over the last tenth of its steps.

    Raises
    ------
    FloatingPointError
        A loss is no longer finite.
    """
    settings = settings or Reconstruction()
    stages = [each for each in network if isinstance(each, nn.Sequential)]
    losses = []
    for number, stage in enumerate(stages):
        filters, pool = stage[0], stage[1]
        assert isinstance(filters, LocalFilters)
        assert isinstance(pool, L2Pool)
        generator = torch.Generator().manual_seed(seed + number)
        optimizer = torch.optim.Adam(filters.parameters(), lr=settings.learning_rate)
        recent: list[float] = []
        with progress_bar(progress, f"stage {number + 1}", settings.steps) as advance:
            for step in range(settings.steps):
                for group in optimizer.param_groups:
                    share = step / settings.steps
                    group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * share)) / 2
                rows = torch.randint(len(images), (settings.batch_size,), generator=generator)
                with torch.no_grad():
                    x = images[rows]
                    for before in stages[:number]:
                        x = before(x)
                loss = reconstruction_loss(x, filters, pool, settings.sparsity)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the loss of stage {number + 1} is {value} after {step + 1} steps; lower "
                        f"learning_rate (it is {settings.learning_rate})"
                    )
                if step >= settings.steps - max(1, settings.steps // 10):
                    recent.append(value)
                advance(1, f"steps, loss {value:.3f}")
        optimizer.zero_grad()
        losses.append(sum(recent) / len(recent))
    return tuple(losses)

"""Unsupervised layers in the manner of Le et al. 2012, for the network of Figure 6.

Le, Ranzato, Monga, Devin, Chen, Corrado, Dean & Ng 2012, "Building high-level features using large
scale unsupervised learning": three stages of local receptive fields whose weights are not shared,
L2 pooling and local contrast normalisation. Theirs has 18 x 18 fields on 200 x 200 images and a
billion weights; here all sizes are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "STAGES",
    "ContrastNormalisation",
    "L2Pool",
    "LocalFilters",
    "Stage",
    "build_quocnet",
]

_FLOOR = 1e-6  # under square roots, whose gradient at 0 is infinite


@dataclass(frozen=True)
class Stage:
    """The sizes of one stage.

    Parameters
    ----------
    field : int
        Side of a receptive field.
    stride : int
        Between receptive fields.
    maps : int
        Filters at each place.
    pool : int
        Side of the pooling window, odd; its stride is 1.
    window : int
        Side of the window of the normalisation, odd.

    Raises
    ------
    ValueError
        A size is out of range.
    """

    field: int
    stride: int
    maps: int
    pool: int = 3
    window: int = 5

    def __post_init__(self) -> None:
        for name in ("field", "stride", "maps", "pool", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("pool", "window"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name}: expected an odd number, got {getattr(self, name)}")

    def __str__(self) -> str:
        """Return FIELD:STRIDE:MAPS:POOL:WINDOW."""
        return f"{self.field}:{self.stride}:{self.maps}:{self.pool}:{self.window}"


# For images of 28 x 28: 11 x 11 x 12, 7 x 7 x 16 and 3 x 3 x 32 features.
STAGES = (Stage(8, 2, 12), Stage(5, 1, 16), Stage(3, 2, 32, window=3))


class LocalFilters(nn.Module):
    """Linear filters with weights of their own at each place.

    Parameters
    ----------
    shape : tuple of int
        (C, H, W) of the input.
    field, stride, maps : int
        See `Stage`.

    Raises
    ------
    ValueError
        The field is larger than the input.
    """

    def __init__(self, shape: tuple[int, int, int], field: int, stride: int, maps: int) -> None:
        super().__init__()
        channels, height, width = shape
        if field > min(height, width):
            raise ValueError(f"field: expected at most {min(height, width)}, got {field}")
        self.field, self.stride = field, stride
        self.rows, self.columns = (height - field) // stride + 1, (width - field) // stride + 1
        size = channels * field**2
        weight = torch.randn(self.rows * self.columns, maps, size) / math.sqrt(size)
        self.weight = nn.Parameter(weight)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (M, H', W') of the output."""
        return self.weight.shape[1], self.rows, self.columns

    def patches(self, x: Tensor) -> Tensor:
        """Return what each place sees, (L, B, C * field^2)."""
        return F.unfold(x, self.field, stride=self.stride).permute(2, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Take (B, C, H, W) to (B, M, H', W')."""
        return self.maps(self.patches(x) @ self.weight.mT)

    def maps(self, values: Tensor) -> Tensor:
        """Bring values (L, B, M) into the shape of images, (B, M, H', W')."""
        return values.permute(1, 2, 0).reshape(-1, values.shape[2], self.rows, self.columns)


class L2Pool(nn.Module):
    """The root of the sum of squares over a window, of one map; zeros beyond the border."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, M, H, W)."""
        mean = F.avg_pool2d(x.square(), self.side, stride=1, padding=self.side // 2)
        pooled: Tensor = (self.side**2 * mean + _FLOOR).sqrt()
        return pooled


class ContrastNormalisation(nn.Module):
    """Subtract the local mean over all maps, and divide by the local deviation.

    Where the deviation is below its mean over the image it is replaced by that (Jarrett,
    Kavukcuoglu, Ranzato & LeCun 2009). Means are over what of the window lies within the image.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, M, H, W)."""
        centred = x - self._mean(x)
        deviation = (self._mean(centred.square()) + _FLOOR).sqrt()
        return centred / torch.maximum(deviation, deviation.mean((2, 3), keepdim=True))

    def _mean(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(
            x.mean(1, keepdim=True), self.window, 1, self.window // 2, count_include_pad=False
        )


def build_quocnet(
    shape: tuple[int, int, int], stages: Sequence[Stage] = STAGES, *, seed: int = 0
) -> nn.Sequential:
    """Return the layers with fresh weights; `advkit.models.learn_stages` trains them.

    Parameters
    ----------
    shape : tuple of int
        (C, H, W) of the images.
    stages : sequence of Stage
        The sizes.
    seed : int
        Of the weights; PyTorch's random state is left as it is.

    Returns
    -------
    torch.nn.Sequential
        A Sequential for each stage, then Flatten: images (B, C, H, W) to features (B, n).

    Raises
    ------
    ValueError
        There is no stage, or a field does not fit into what the stage before leaves.
    """
    if not stages:
        raise ValueError("stages: expected at least one")
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number, stage in enumerate(stages):
            try:
                filters = LocalFilters(shape, stage.field, stage.stride, stage.maps)
            except ValueError as error:
                raise ValueError(f"stages: in stage {number + 1}: {error}") from error
            shape = filters.shape
            layers.append(
                nn.Sequential(filters, L2Pool(stage.pool), ContrastNormalisation(stage.window))
            )
    return nn.Sequential(*layers, nn.Flatten())

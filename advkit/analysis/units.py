"""The first property of Szegedy et al. 2013: units against random directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from advkit._modes import evaluating
from advkit.analysis.ablation import AblationCurve, ablation
from advkit.analysis.directions import DIRECTIONS, directions
from advkit.analysis.units_result import DirectionSet, Units

__all__ = ["units"]


def units(
    features: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    directions: Sequence[str] = DIRECTIONS,
    top: int = 10,
    count: int | None = None,
    head: Callable[[Tensor], Tensor] | None = None,
    permutations: int = 1000,
    orders: int = 10,
    batch_size: int = 500,
    seed: int = 0,
) -> Units:
    """Find the images that excite each direction most, and measure how alike their labels are.

    Szegedy et al. 2013, section 3, looks at ``argmax <phi(x), v>`` over held-out images for v = e_i
    and for random v, and finds both equally meaningful by eye. Here that is a number: the purity of
    the labels of the top images (the share of the commonest) and their entropy, against the same
    images with permuted labels.

    Parameters
    ----------
    features : callable
        Images (B, ...) to features (B, n), such as a network without its last layer; modules are
        held in eval mode meanwhile.
    images : Tensor (N, ...)
        Held-out images.
    labels : Tensor (N,) of int64
        Their labels, at least 0.
    directions : sequence of str
        Kinds, see `advkit.analysis.directions.directions`.
    top : int
        k: how many images of each direction, at most N.
    count : int, optional
        Directions of each kind, by default n.
    head : callable, optional
        Features (B, n) to logits (B, K): adds ablation curves, see `ablation`.
    permutations : int
        Of the labels.
    orders : int
        Of the ablations.
    batch_size : int
        Images at a time.
    seed : int
        Of directions, permutations and orders.

    Returns
    -------
    Units
        A set for each kind. Directions along which no two images differ, such as dead units, are
        left out and counted.

    Raises
    ------
    ValueError
        An argument is out of range, or the shapes do not fit.
    """
    _check(images, labels, directions, top, permutations)
    with torch.no_grad(), evaluating(features):
        parts = [features(part) for part in images.split(batch_size)]
    if any(part.ndim != 2 or len(part) != len(batch) for part, batch in
           zip(parts, images.split(batch_size), strict=True)):  # fmt: skip
        raise ValueError(
            f"features: expected a function to shape (B, n), got {tuple(parts[0].shape)}"
        )
    values = torch.cat(parts).double().cpu()
    if not bool(values.isfinite().all()):
        raise ValueError("features: expected finite values, got nan or inf")
    wanted = labels.cpu()
    chosen = [
        _set(kind, values, wanted, top, count, permutations, seed + place)
        for place, kind in enumerate(directions)
    ]
    curves: tuple[AblationCurve, ...] = ()
    if head is not None:
        curves = ablation(head, torch.cat(parts), labels, orders=orders, seed=seed)
    settings = {
        "directions": list(directions),
        "top": top,
        "count": count,
        "permutations": permutations,
        "orders": orders,
        "seed": seed,
    }
    return Units(tuple(chosen), tuple(curves), len(images), values.shape[1], settings)


def _check(
    images: Tensor, labels: Tensor, kinds: Sequence[str], top: int, permutations: int
) -> None:
    if labels.shape != (len(images),) or labels.dtype != torch.int64 or not len(labels):
        raise ValueError(
            f"labels: expected shape ({len(images)},) of int64, one for each image, got "
            f"{tuple(labels.shape)} of {labels.dtype}"
        )
    if int(labels.min()) < 0:
        raise ValueError(f"labels: expected values of at least 0, got {int(labels.min())}")
    if not 1 <= top <= len(images):
        raise ValueError(f"top: expected 1 to {len(images)}, the number of images, got {top}")
    if permutations < 1:
        raise ValueError(f"permutations: expected at least 1, got {permutations}")
    if isinstance(kinds, str) or not kinds or any(kind not in DIRECTIONS for kind in kinds):
        raise ValueError(f"directions: expected names among {DIRECTIONS}, got {kinds!r}")


def _set(
    kind: str,
    values: Tensor,
    labels: Tensor,
    top: int,
    count: int | None,
    permutations: int,
    seed: int,
) -> DirectionSet:
    """Measure one kind of direction."""
    vectors = directions(kind, values.shape[1], count, seed=seed)
    along = values @ vectors.mT  # (N, D)
    spread = along.amax(0) - along.amin(0)
    alive = (spread > 1e-12 * along.abs().amax()).nonzero()[:, 0]
    if not len(alive):
        raise ValueError(f"features: all images have the same along the {kind} directions")
    best = along[:, alive].topk(top, 0).indices.mT  # (D, k)
    classes = int(labels.max()) + 1
    counts = _counts(labels[best], classes)
    purity, entropy = _purity(counts), _entropy(counts)
    generator = torch.Generator().manual_seed(seed)
    null_purity, null_entropy, exceeding = [], [], torch.zeros(len(best))
    for _ in range(permutations):
        shuffled = labels[torch.randperm(len(labels), generator=generator)]
        drawn = _counts(shuffled[best], classes)
        null_purity.append(float(_purity(drawn).mean()))
        null_entropy.append(float(_entropy(drawn).mean()))
        exceeding += _entropy(drawn) <= entropy + 1e-12
    as_alike = sum(each <= float(entropy.mean()) + 1e-12 for each in null_entropy)
    return DirectionSet(
        kind=kind,
        places=tuple(alive.tolist()),
        dead=len(vectors) - len(alive),
        top=tuple(tuple(row) for row in best.tolist()),
        majority=tuple(counts.argmax(1).tolist()),
        purity=tuple(purity.tolist()),
        entropy=tuple(entropy.tolist()),
        p_values=tuple(((1 + exceeding) / (1 + permutations)).double().tolist()),
        purity_interval=_bootstrap(purity, generator),
        entropy_interval=_bootstrap(entropy, generator),
        null_purity=sum(null_purity) / permutations,
        null_entropy=sum(null_entropy) / permutations,
        p_value=(1 + as_alike) / (1 + permutations),
    )


def _counts(labels: Tensor, classes: int) -> Tensor:
    """Return how often each class occurs in the rows (D, k), (D, classes)."""
    return torch.zeros(len(labels), classes, dtype=torch.float64).scatter_add_(
        1, labels, torch.ones(labels.shape, dtype=torch.float64)
    )


def _purity(counts: Tensor) -> Tensor:
    return counts.amax(1) / counts.sum(1)


def _entropy(counts: Tensor) -> Tensor:
    """Return the entropies of the rows, in bits."""
    share = counts / counts.sum(1, keepdim=True)
    nats: Tensor = torch.special.xlogy(share, share).sum(1)
    return -nats / math.log(2)


def _bootstrap(values: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Return the 95 % interval of the mean over directions (Efron's percentiles, 2,000 samples)."""
    rows = torch.randint(len(values), (2000, len(values)), generator=generator)
    ends = values[rows].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=values.dtype))
    return float(ends[0]), float(ends[1])

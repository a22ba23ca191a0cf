"""The space around adversarial images, probed with noise (Tabacof & Valle 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from advkit._progress import progress_bar
from advkit.analysis._pairs import check_pairs
from advkit.analysis.probe_result import Moments, Probe, ProbeCell
from advkit.transfer.matrix import predictions

__all__ = ["LEVELS", "probe"]

LEVELS = tuple(range(-5, 6))
_AROUND = ("original", "adversarial")
_NOISES = ("gaussian", "resampled")


def probe(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    *,
    levels: Sequence[int] = LEVELS,
    decay: float = 1.0,
    probes: int = 100,
    noises: Sequence[str] = _NOISES,
    around: Sequence[str] = _AROUND,
    lower: float = 0.0,
    upper: float = 1.0,
    batch_size: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Probe:
    """Add noise to original and adversarial images, and count what the network answers.

    Tabacof & Valle 2016, "Exploring the space of adversarial images", section IV: how large are the
    regions of adversarial images? The noise has the mean of an image's own r and 2^i times its
    standard deviation; it is normal, or drawn with replacement from r's own values, which keeps
    their heavy tails. Neither keeps where in the image they are. The sum is cut to the box.

    Every image has its own random numbers, the same at all levels; one image's probes are held at a
    time, so that memory does not grow with images, levels or kinds of noise.

    Parameters
    ----------
    model : callable
        Images (B, ...) to logits (B, K); a module is held in eval mode meanwhile. Where a logit is
        not finite, the answer is no class.
    images, adversarial : Tensor (N, ...)
        Originals, and what fools the network in their place.
    labels : Tensor (N,) of int64
        The originals' classes.
    levels : sequence of int
        i.
    decay : float
        The factor is ``2^i decay^(i - i_0)``, i_0 being the first level. The authors' program has
        0.9, which their paper does not mention.
    probes : int
        For each image, kind and level.
    noises : sequence of str
        "gaussian", "resampled".
    around : sequence of str
        "original", "adversarial".
    lower, upper : float
        The box.
    batch_size : int
        Images at a time for the network.
    seed : int
        Of the noise.
    progress : bool
        Show a progress bar on stderr; needs rich.

    Returns
    -------
    Probe
        Counts and moments. Images that the network has wrong, or adversarial ones that do not fool
        it or give logits that are not finite, are left out and counted.

    Raises
    ------
    ValueError
        An argument is out of range, a shape does not fit, or no image is left.
    """
    _check(images, adversarial, labels, levels, noises, around)
    if probes < 1 or batch_size < 1 or not decay > 0 or not lower < upper:
        raise ValueError(
            "probes, batch_size, decay and bounds: expected positive numbers and lower < upper, "
            f"got {probes}, {batch_size}, {decay}, {lower} and {upper}"
        )
    classes = [predictions(model, each, batch_size) for each in (images, adversarial)]
    difference = (adversarial - images).flatten(1)
    fooled = (classes[1] != labels) & (classes[1] >= 0)
    chosen = (classes[0] == labels) & fooled & difference.ne(0).any(1)
    rows = chosen.nonzero()[:, 0].tolist()
    if not rows:
        raise ValueError(
            "adversarial: expected at least one image that fools the network whose original does "
            f"not, got none of {len(images)}"
        )
    factors = {level: 2.0**level * decay ** (level - levels[0]) for level in levels}
    keys = [(place, noise, level) for place in around for noise in noises for level in levels]
    counts = {key: [0, 0] for key in keys}
    realised = dict.fromkeys(keys, 0.0)
    moments = torch.zeros(4, dtype=torch.float64)
    with progress_bar(progress, "probing", len(rows)) as advance:
        for row in rows:
            r = difference[row].double()
            moments += _moments(r)
            spread, mean = r.std(), r.mean()
            drawn = _draws(r, mean, spread, noises, probes, (seed, row))
            for key in keys:
                place, noise, level = key
                base = (images if place == "original" else adversarial)[row]
                added = (mean + factors[level] * drawn[noise]).view(-1, *base.shape)
                points = (base + added.to(base)).clamp(lower, upper)
                answers = predictions(model, points, batch_size)
                counts[key][0] += int((answers == labels[row]).sum())
                counts[key][1] += int((answers == classes[1][row]).sum())
                realised[key] += float((points - base).double().std() / spread)
            advance(1, "images")
    cells = tuple(
        ProbeCell(
            *key,
            factor=factors[key[2]],
            trials=len(rows) * probes,
            original=counts[key][0],
            adversarial=counts[key][1],
            realised=realised[key] / len(rows),
        )
        for key in keys
    )
    settings = {
        "levels": list(levels),
        "decay": decay,
        "probes": probes,
        "lower": lower,
        "upper": upper,
        "seed": seed,
    }
    return Probe(
        cells,
        Moments(*(moments / len(rows)).tolist()),
        len(rows),
        len(images) - len(rows),
        settings,
    )


def _check(
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    levels: Sequence[int],
    noises: Sequence[str],
    around: Sequence[str],
) -> None:
    check_pairs(images, adversarial, labels)
    if not levels or len(set(levels)) != len(levels):
        raise ValueError(f"levels: expected at least one, without repeats, got {levels}")
    for name, given, known in (("noises", noises, _NOISES), ("around", around, _AROUND)):
        if isinstance(given, str) or not given or any(each not in known for each in given):
            raise ValueError(f"{name}: expected names among {known}, got {given!r}")


def _draws(
    r: Tensor,
    mean: Tensor,
    spread: Tensor,
    noises: Sequence[str],
    probes: int,
    seeds: tuple[int, int],
) -> dict[str, Tensor]:
    """Return noise (probes, n) of mean 0 and the standard deviation of r, for each kind."""
    generator = torch.Generator().manual_seed(seeds[0] * 1_000_003 + seeds[1])
    shape = (probes, len(r))
    normal = torch.randn(shape, generator=generator, dtype=torch.float64).to(r.device) * spread
    places = torch.randint(len(r), shape, generator=generator).to(r.device)
    every = {"gaussian": normal, "resampled": r[places] - mean}
    return {noise: every[noise] for noise in noises}


def _moments(r: Tensor) -> Tensor:
    """Return mean, standard deviation, skewness and excess kurtosis of the values of r."""
    centred = r - r.mean()
    variance = centred.square().mean()
    skewness = centred.pow(3).mean() / variance.pow(1.5)
    kurtosis = centred.pow(4).mean() / variance.square() - 3
    return torch.stack([r.mean(), r.std(), skewness, kurtosis]).cpu()

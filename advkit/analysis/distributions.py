"""How a perturbation moves class probabilities, margins and logits."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from advkit._modes import evaluating
from advkit.analysis._pairs import check_pairs
from advkit.analysis.distributions_result import AnswerSet, ClassDistributions, LogitPath
from advkit.transfer.changes import gaussian, rms

__all__ = ["class_distributions"]


def class_distributions(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    *,
    reach: float = 2.0,
    steps: int = 41,
    lower: float = 0.0,
    upper: float = 1.0,
    batch_size: int = 1000,
    seed: int = 0,
) -> ClassDistributions:
    """Compare a network's answers on originals, adversarial images and noise of the same length.

    Also its logits along r and along the noise, as in Goodfellow et al. 2014, "Explaining and
    harnessing adversarial examples", figure 4. Before and after adversarial training this has to be
    done twice for the new network: with r made for the old one, and made anew; without the second
    the picture misleads.

    Parameters
    ----------
    model : callable
        Images (B, ...) to logits (B, K), K >= 2; a module is held in eval mode meanwhile.
    images, adversarial : Tensor (N, ...)
        Originals, and the same perturbed.
    labels : Tensor (N,) of int64
        Their classes, below K.
    reach : float
        The paths go from -reach to reach times r.
    steps : int
        Points of a path, odd, so that the original is one.
    lower, upper : float
        The box, in which the noise is; paths may leave it.
    batch_size : int
        Images at a time.
    seed : int
        Of the noise, normal: in the box it is as long as each image's r, see
        `advkit.transfer.gaussian`.

    Returns
    -------
    ClassDistributions
        Three sets of answers and two paths.

    Raises
    ------
    ValueError
        An argument is out of range, a shape does not fit, or a logit is not finite.
    """
    check_pairs(images, adversarial, labels)
    if steps < 3 or steps % 2 == 0 or not reach > 0 or batch_size < 1:
        raise ValueError(
            "steps, reach and batch_size: expected an odd number of at least 3 and positive "
            f"numbers, got {steps}, {reach} and {batch_size}"
        )
    r, size = adversarial - images, rms(adversarial, images)
    noisy = gaussian(images, size, seed=seed, lower=lower, upper=upper)

    def logits(x: Tensor) -> Tensor:
        with torch.no_grad(), evaluating(model):
            found = torch.cat([model(part) for part in x.split(batch_size)]).double()
        if found.shape[:1] != x.shape[:1] or found.ndim != 2 or found.shape[1] < 2:
            raise ValueError(
                f"model: expected logits of shape ({len(x)}, K) with K >= 2, got "
                f"{tuple(found.shape)}"
            )
        if int(labels.max()) >= found.shape[1]:
            raise ValueError(
                f"labels: expected 0 to {found.shape[1] - 1} for a network of {found.shape[1]} "
                f"logits, got {int(labels.max())}"
            )
        if not found.isfinite().all():
            raise ValueError("model: expected finite logits, got nan or inf")
        return found

    sets = {
        "original": images,
        "adversarial": adversarial,
        "noise": noisy,
    }
    where = torch.linspace(-reach, reach, steps, dtype=torch.float64)
    paths = []
    for kind, direction in (("adversarial", r), ("noise", noisy - images)):
        every = [logits(images + float(t) * direction) for t in where]
        paths.append(
            LogitPath(
                kind,
                tuple(float(_margins(each, labels).mean()) for each in every),
                tuple(float(_of_label(each.softmax(1), labels).mean()) for each in every),
                tuple(tuple(each[0].tolist()) for each in every),
            )
        )
    return ClassDistributions(
        tuple(_answers(kind, logits(x), labels) for kind, x in sets.items()),
        tuple(paths),
        tuple(where.tolist()),
        len(images),
        float(size.mean()),
    )


def _of_label(values: Tensor, labels: Tensor) -> Tensor:
    return values.gather(1, labels[:, None])[:, 0]


def _margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logit of the label less the largest other one, (N,)."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return _of_label(logits, labels) - others.amax(1)


def _answers(kind: str, logits: Tensor, labels: Tensor) -> AnswerSet:
    shares = logits.softmax(1)
    classes = logits.shape[1]
    predicted = logits.argmax(1)
    by_class = torch.zeros(classes, classes, dtype=torch.float64, device=logits.device)
    by_class.index_add_(0, labels, shares)
    counts = labels.bincount(minlength=classes).clamp(min=1)
    nats = -torch.special.xlogy(shares, shares).sum(1)
    return AnswerSet(
        kind=kind,
        error=float((predicted != labels).double().mean()),
        probability=float(_of_label(shares, labels).mean()),
        largest=float(shares.amax(1).mean()),
        entropy=float(nats.mean()) / math.log(2),
        predicted=tuple(predicted.bincount(minlength=classes).tolist()),
        margins=tuple(_margins(logits, labels).tolist()),
        by_class=tuple(tuple(row) for row in (by_class / counts[:, None]).tolist()),
    )

"""Transfer between networks trained on different images: Tables 3 and 4 of the paper."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from advkit.attack import AttackResult
from advkit.data import Dataset
from advkit.ops._check import check_count
from advkit.transfer.matrix import Attack, Model, matrix, predictions
from advkit.transfer.result import TransferMatrix

__all__ = ["CrossTrainingSet", "cross_training_set"]


@dataclass(frozen=True)
class CrossTrainingSet:
    """Networks trained on disjoint sets, and what fools which.

    Parameters
    ----------
    models : tuple of str
        The networks.
    parts : dict of str to tuple of float
        Error of each network on each undistorted set, in [0, 1] (Table 3).
    matrix : TransferMatrix
        Table 4; its rows "adversarial" have the distortions of Table 3.
    """

    models: tuple[str, ...]
    parts: dict[str, tuple[float, ...]]
    matrix: TransferMatrix

    def as_rows(self) -> list[dict[str, Any]]:
        """Return Table 3 as flat records, one for each network."""
        return [
            {
                "model": name,
                **{f"error {part}": errors[place] for part, errors in self.parts.items()},
                "distortion": self.matrix.row("adversarial", name).distortion,
            }
            for place, name in enumerate(self.models)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps({**asdict(self), "matrix": None}))
        return {**plain, "matrix": self.matrix.to_dict()}


def cross_training_set(
    models: Mapping[str, Model],
    x: Tensor,
    labels: Tensor,
    *,
    parts: Mapping[str, Dataset],
    targets: Tensor | None = None,
    attack: Attack | Mapping[str, Any] | None = None,
    attacked: Mapping[str, AttackResult] | None = None,
    noise: Sequence[float] = (0.06, 0.1),
    rms: Sequence[float] = (0.1,),
    clip: Sequence[str] = ("none", "after"),
    seed: int = 0,
    batch_size: int = 500,
    progress: bool = False,
) -> CrossTrainingSet:
    """Study transfer between networks that were trained on different images.

    Parameters
    ----------
    models, x, labels
        See `advkit.transfer.matrix`; the paper attacks test images.
    parts : mapping of str to Dataset
        Sets that the networks' errors are wanted on, such as P1, P2 (`Dataset.half`) and the test
        images.
    targets, attack, attacked, noise, rms, clip, seed, batch_size, progress
        See `advkit.transfer.matrix`; the defaults are the rows of Table 4. The paper does not say
        whether amplified images were cut to the box: both are given.

    Returns
    -------
    CrossTrainingSet
        Tables 3 and 4.

    Raises
    ------
    TypeError, ValueError
        As `advkit.transfer.matrix`, or a part is empty.
    """
    check_count("batch_size", batch_size)
    errors = {}
    for name, part in parts.items():
        if not len(part):
            raise ValueError(f"parts: expected images in {name!r}, got none")
        wrong = [
            predictions(model, part.images.to(x), batch_size) != part.labels.to(x.device)
            for model in models.values()
        ]
        errors[name] = tuple(float(each.double().mean()) for each in wrong)
    found = matrix(
        models,
        x,
        labels,
        targets=targets,
        attack=attack,
        attacked=attacked,
        noise=noise,
        rms=rms,
        clip=clip,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    return CrossTrainingSet(tuple(models), errors, found)

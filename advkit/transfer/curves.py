"""Transfer against the size of the change, and against the attack's confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from advkit.attack import AttackResult
from advkit.transfer.matrix import Attack, Model, distort, matrix
from advkit.transfer.result import TransferMatrix

__all__ = ["TransferCurve", "against_kappa", "against_rms"]


@dataclass(frozen=True)
class TransferCurve:
    """Transfer matrices along a parameter.

    Parameters
    ----------
    parameter : str
        "rms" or "kappa".
    values : tuple of float
        Where.
    matrices : tuple of TransferMatrix
        One for each value. Along "rms" the changes are those of the rows "amplified", and the row
        "noise" has noise of that RMS; along "kappa" those of the rows "adversarial".
    """

    parameter: str
    values: tuple[float, ...]
    matrices: tuple[TransferMatrix, ...]

    def errors(self, made_for: str | None, model: str) -> tuple[float, ...]:
        """Return the error of a network along the curve, in [0, 1].

        Parameters
        ----------
        made_for : str or None
            The network that the images were distorted for; None: Gaussian noise ("rms" only).
        model : str
            The network that they are fed to.

        Raises
        ------
        KeyError
            There is no such row or column.
        """
        kind = "adversarial" if self.parameter == "kappa" else "amplified"
        kind = "noise" if made_for is None else kind
        return tuple(each.error(each.row(kind, made_for), model) for each in self.matrices)

    def as_rows(self) -> list[dict[str, Any]]:
        """Return flat records, one for each value and cell."""
        return [
            {self.parameter: value, **record}
            for value, each in zip(self.values, self.matrices, strict=True)
            for record in each.as_rows()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the curve as JSON values."""
        return {
            "parameter": self.parameter,
            "values": list(self.values),
            "matrices": [each.to_dict() for each in self.matrices],
        }


def against_rms(
    models: Mapping[str, Model],
    x: Tensor,
    labels: Tensor,
    *,
    values: Sequence[float],
    targets: Tensor | None = None,
    attack: Attack | Mapping[str, Any] | None = None,
    attacked: Mapping[str, AttackResult] | None = None,
    seed: int = 0,
    batch_size: int = 500,
    progress: bool = False,
) -> TransferCurve:
    """Scale the changes made for each network to growing RMS within the box.

    Parameters
    ----------
    models, x, labels
        See `matrix`.
    values : sequence of float
        The RMS.
    targets, attack, attacked, seed, batch_size, progress
        See `matrix`.

    Returns
    -------
    TransferCurve
        Along "rms".
    """
    results = distort(
        models, x, labels, targets=targets, attack=attack, attacked=attacked, progress=progress
    )
    matrices = [
        matrix(
            models,
            x,
            labels,
            targets=targets,
            attack=attack,
            attacked=results,
            noise=[value],
            rms=[value],
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
        for value in values
    ]
    return TransferCurve("rms", tuple(map(float, values)), tuple(matrices))


def against_kappa(
    models: Mapping[str, Model],
    x: Tensor,
    labels: Tensor,
    *,
    values: Sequence[float],
    targets: Tensor | None = None,
    attack: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int = 500,
    progress: bool = False,
) -> TransferCurve:
    """Ask the attack for growing confidence (Carlini & Wagner 2016, section VIII-D).

    Parameters
    ----------
    models, x, labels
        See `matrix`.
    values : sequence of float
        kappa: by how much the logit of the wrong class must win.
    attack : mapping, optional
        Keyword arguments of `advkit.attack.lbfgs`, without kappa.
    targets, seed, batch_size, progress
        See `matrix`.

    Returns
    -------
    TransferCurve
        Along "kappa".
    """
    matrices = [
        matrix(
            models,
            x,
            labels,
            targets=targets,
            attack={**(attack or {}), "kappa": value},
            noise=(),
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
        for value in values
    ]
    return TransferCurve("kappa", tuple(map(float, values)), tuple(matrices))

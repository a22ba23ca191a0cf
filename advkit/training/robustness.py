"""How far images are from being misclassified, by an attack on the network as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from advkit.attack.lbfgs import lbfgs
from advkit.transfer.matrix import Model, predictions

__all__ = ["Robustness", "robustness"]


@dataclass(frozen=True)
class Robustness:
    """Smallest distortions that an attack found.

    They are upper bounds: a better attack finds smaller ones, so that robust errors are at least
    these.

    Parameters
    ----------
    images : int
        How many.
    clean_error : float
        Fraction that is misclassified undistorted, in [0, 1].
    distortion : float
        Mean RMS of the change over the images that are classified correctly and were fooled.
    median_distortion : float
        Their median.
    found : float
        Fraction of the correctly classified images that were fooled.
    radii : tuple of float
        RMS.
    robust_errors : tuple of float
        Fraction that is misclassified undistorted or after a change of at most that RMS.
    """

    images: int
    clean_error: float
    distortion: float
    median_distortion: float
    found: float
    radii: tuple[float, ...]
    robust_errors: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


def robustness(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    radii: Sequence[float] = (0.02, 0.04, 0.06),
    attack: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Robustness:
    """Attack a network anew, whatever it was trained on.

    Parameters
    ----------
    model : callable
        Images (b, *shape) to logits (b, K).
    x : Tensor (B, *shape)
        Images in [0, 1].
    labels : Tensor (B,) of int64
        Their classes.
    radii : sequence of float
        RMS of the robust errors.
    attack : mapping, optional
        Keyword arguments of `advkit.attack.lbfgs`; by default its smallest untargeted L2 changes.
    progress : bool
        Show a progress bar on stderr; needs rich.

    Returns
    -------
    Robustness
        nan where no image is classified correctly.

    Raises
    ------
    ValueError
        There are no images.
    """
    if not len(x):
        raise ValueError("x: expected at least one image, got none")
    right = predictions(model, x) == labels
    result = lbfgs(model, x[right], labels[right], **{"progress": progress, **(attack or {})})
    rms = result.rms.double()
    fooled, errors = rms[result.success], len(x) - len(rms)
    return Robustness(
        images=len(x),
        clean_error=errors / len(x),
        distortion=float(fooled.mean()) if len(fooled) else float("nan"),
        median_distortion=float(fooled.quantile(0.5)) if len(fooled) else float("nan"),
        found=len(fooled) / len(rms) if len(rms) else float("nan"),
        radii=tuple(map(float, radii)),
        robust_errors=tuple((errors + int((fooled <= radius).sum())) / len(x) for radius in radii),
    )

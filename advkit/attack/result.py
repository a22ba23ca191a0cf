"""What an attack returns, and how it is kept on disk."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from advkit._files import replacing

_FORMAT = "advkit.attack.AttackResult"
_VERSION = 1


class AttackStatus(IntEnum):
    """How the attack on one image ended."""

    FOUND = 0
    """An adversarial image was found."""
    NOT_FOUND = 1
    """None was found within the budget; the original image is returned."""
    ALREADY_ADVERSARIAL = 2
    """The original image already is one; it is returned at distance 0."""
    NON_FINITE = 3
    """The network gave nan or inf on the original image, which is returned."""


class AttackSummary(TypedDict):
    """An `AttackResult` in a few numbers; see `AttackResult.summary`."""

    images: int
    successes: int
    already_adversarial: int
    success_rate: float
    mean_rms: float
    median_rms: float
    mean_forwards: float
    mean_backwards: float


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What an attack saw, one entry for each of E evaluations, in the order they were made.

    Attributes
    ----------
    image : torch.Tensor, (E,), int64
        Which image.
    propagations : torch.Tensor, (E,), int64
        Passes through the network, forward or backward, that the image had cost by then.
    distance : torch.Tensor, (E,), float64
        Of the point to the original, in the attacked norm.
    margin : torch.Tensor, (E,), float64
        By how much the network was fooled there, beyond kappa: negative where it was not.
    c : torch.Tensor, (E,), float64
        The weight of the norm then; nan where there is none.
    """

    image: torch.Tensor
    propagations: torch.Tensor
    distance: torch.Tensor
    margin: torch.Tensor
    c: torch.Tensor

    def to(self, device: torch.device | str) -> Trajectory:
        """Return this trajectory with every tensor on `device`."""
        return Trajectory(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, eq=False, repr=False)
class AttackResult:
    """The adversarial images of one attack on B images, with what each of them cost.

    All tensors share one device. Where no adversarial image was found, `adversarial` holds the
    original image, `success` is False and `distance` and `rms` are 0.

    Attributes
    ----------
    adversarial : torch.Tensor, (B, *shape), floating
        The adversarial images, in the units of the input.
    success : torch.Tensor, (B,), bool
        Whether the network is fooled by `adversarial`, whatever the original image was: this
        counts ``FOUND`` and ``ALREADY_ADVERSARIAL``.
    distance : torch.Tensor, (B,), floating
        Distance to the original in the attacked norm; L2 for "l2sq".
    rms : torch.Tensor, (B,), floating
        ``sqrt(mean(r ** 2))`` over the values of an image, the "distortion" of
        Szegedy et al. 2013, section 4.1.
    c : torch.Tensor, (B,), floating
        The weight of the norm that the point was found with: for the penalty method the c of
        ``c |r| + loss``, for the augmented method 1 / mu, the same for ``c |r|^2 / 2`` or
        ``c |r|_1`` plus the constraint; nan where there is none.
    forwards, backwards : torch.Tensor, (B,), int64
        How often the network was evaluated and differentiated for each image.
    status : torch.Tensor, (B,), int8
        An `AttackStatus` for each image.
    settings : dict of str to JSON value
        The settings of the attack. Kept as JSON keeps them: tuples become lists.
    trajectory : Trajectory, optional
        Every evaluation, if it was asked for.

    Raises
    ------
    ValueError
        If a tensor has the wrong shape, type or device, or `settings` is not JSON.
    """

    adversarial: torch.Tensor
    success: torch.Tensor
    distance: torch.Tensor
    rms: torch.Tensor
    c: torch.Tensor
    forwards: torch.Tensor
    backwards: torch.Tensor
    status: torch.Tensor
    settings: dict[str, Any]
    trajectory: Trajectory | None = None

    def __post_init__(self) -> None:
        """Check every field against the shape, type and device of `adversarial`."""
        _check_tensor("adversarial", self.adversarial, None)
        if self.adversarial.ndim == 0:
            raise ValueError("adversarial must have a batch axis, got a tensor without axes")
        for name, dtype in _PER_IMAGE.items():
            value = getattr(self, name)
            _check_tensor(name, value, dtype)
            if value.shape != (len(self),):
                raise ValueError(
                    f"{name} must have one value per image, shape ({len(self)},), "
                    f"got shape {tuple(value.shape)}"
                )
            if value.device != self.adversarial.device:
                raise ValueError(
                    f"{name} is on {value.device}, but adversarial is on "
                    f"{self.adversarial.device}; all tensors must share one device"
                )
        if not isinstance(self.settings, dict):
            raise ValueError(f"settings must be a dict, got {type(self.settings).__name__}")
        try:
            settings = json.loads(json.dumps(self.settings))
        except (TypeError, ValueError) as error:
            raise ValueError(f"settings must hold JSON values only: {error}") from None
        # A copy in JSON's own types: later changes by the caller do not reach this frozen result,
        # and what is loaded from a file equals what was saved.
        object.__setattr__(self, "settings", settings)

    def __len__(self) -> int:
        """Return the number of images, B."""
        return self.adversarial.shape[0]

    def __repr__(self) -> str:
        """Return the success rate and the distortion on one line, without any tensor."""
        s = self.summary()
        text = f"AttackResult({s['images']} images"
        if s["images"]:
            text += f", success {100 * s['success_rate']:.1f} %"
        if s["successes"]:
            text += f", rms mean {s['mean_rms']:.4g}, median {s['median_rms']:.4g}"
        return f"{text}, {self.adversarial.device})"

    def summary(self) -> AttackSummary:
        """Return the result in a few numbers.

        Returns
        -------
        AttackSummary
            ``images`` (B); ``successes``, every image that is adversarial in the end, those that
            were so from the start included, and ``already_adversarial``, how many those are;
            ``success_rate``, successes / images; ``mean_rms`` and ``median_rms`` over the
            successes (an already adversarial image enters with 0); ``mean_forwards`` and
            ``mean_backwards`` over all images. A mean over nothing is nan.
        """
        success = self.success.cpu().numpy()
        rms = self.rms.detach().cpu().double().numpy()[success]
        return AttackSummary(
            images=len(self),
            successes=int(success.sum()),
            already_adversarial=int((self.status == AttackStatus.ALREADY_ADVERSARIAL).sum()),
            success_rate=_mean(success),
            mean_rms=_mean(rms),
            median_rms=float(np.median(rms)) if rms.size else float("nan"),
            mean_forwards=_mean(self.forwards.cpu().numpy()),
            mean_backwards=_mean(self.backwards.cpu().numpy()),
        )

    def to(self, device: torch.device | str) -> AttackResult:
        """Return this result with every tensor on `device`."""
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in _TENSORS}
        if self.trajectory is not None:
            moved["trajectory"] = self.trajectory.to(device)
        return replace(self, **moved)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to one ``.npz`` file, without pickle.

        Types and values are kept exactly. The file appears whole or not at all.

        Parameters
        ----------
        path : str or os.PathLike
            Where to write, taken as given: no suffix is added.

        Raises
        ------
        ValueError
            If a tensor is bfloat16, which NumPy does not have; save ``adversarial.float()``.
        """
        meta = json.dumps({"format": _FORMAT, "version": _VERSION, "settings": self.settings})
        arrays: dict[str, Any] = {"meta": np.array(meta)}
        for name in _TENSORS:
            tensor = getattr(self, name).detach().cpu()
            if tensor.dtype == torch.bfloat16:
                raise ValueError(
                    f"{name} is bfloat16, which a .npz file cannot hold; convert it to float32"
                )
            arrays[name] = tensor.numpy()
        if self.trajectory is not None:
            for field in fields(Trajectory):
                values = getattr(self.trajectory, field.name)
                arrays[f"trajectory.{field.name}"] = values.cpu().numpy()
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, device: torch.device | str = "cpu"
    ) -> AttackResult:
        """Read a result that `save` wrote.

        Parameters
        ----------
        path : str or os.PathLike
            The file.
        device : torch.device or str, default "cpu"
            Where to put the tensors.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not a saved result, is damaged, or comes from a newer advkit.
        """
        with open(path, "rb") as file:
            try:
                result = cls(**_read(file))
            except _DAMAGE as error:
                reason = error.args[0] if error.args else type(error).__name__
                raise ValueError(
                    f"{os.fspath(path)} is not a saved AttackResult: {reason}"
                ) from error
        return result.to(device)


_TENSORS = tuple(
    field.name for field in fields(AttackResult) if field.name not in ("settings", "trajectory")
)
_PER_IMAGE: dict[str, torch.dtype | None] = {  # None: any floating type
    "success": torch.bool,
    "distance": None,
    "rms": None,
    "c": None,
    "forwards": torch.int64,
    "backwards": torch.int64,
    "status": torch.int8,
}
_DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy, zipfile and our own checks raise on a file that is something else or is damaged."""


def _check_tensor(name: str, value: object, dtype: torch.dtype | None) -> None:
    """Raise unless `value` is a tensor of `dtype`, or of any floating type if that is None."""
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if not (value.is_floating_point() if dtype is None else value.dtype == dtype):
        raise ValueError(f"{name} must be {dtype or 'floating point'}, got {value.dtype}")


def _mean(values: npt.NDArray[Any]) -> float:
    """Return the mean, or nan (without NumPy's warning) if there is nothing to average."""
    return float(values.mean()) if values.size else float("nan")


def _read(file: Any) -> dict[str, Any]:
    """Return the fields of the result in an open ``.npz`` file."""
    if not zipfile.is_zipfile(file):
        raise ValueError("not a .npz file")
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        if "meta" not in archive:
            raise ValueError("no description of the format in it")
        meta = json.loads(str(archive["meta"]))
        if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
            raise ValueError("its description is of another format")
        if meta["version"] != _VERSION:
            raise ValueError(
                f"its format version is {meta['version']}, this advkit reads {_VERSION}; "
                "upgrade advkit"
            )
        read: dict[str, Any] = {name: torch.from_numpy(archive[name]) for name in _TENSORS}
        if any(name.startswith("trajectory.") for name in archive.files):
            columns = (archive[f"trajectory.{field.name}"] for field in fields(Trajectory))
            read["trajectory"] = Trajectory(*map(torch.from_numpy, columns))
    return {**read, "settings": meta["settings"]}

"""Images distorted for every network, fed to every network: Tables 2 and 4 of the paper."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor

from advkit._modes import evaluating
from advkit._progress import progress_bar
from advkit.attack import AttackResult
from advkit.attack._input import check_images, check_labels
from advkit.attack.lbfgs import lbfgs
from advkit.ops._check import check_choice, check_count
from advkit.transfer.changes import CLIPS, amplify, gaussian
from advkit.transfer.changes import rms as rms_of
from advkit.transfer.result import TransferCell, TransferMatrix, TransferRow

__all__ = ["Attack", "Model", "distort", "matrix", "predictions"]

Model = Callable[[Tensor], Tensor]
# model, x, labels or targets, targeted -> result
Attack = Callable[[Model, Tensor, Tensor, bool], AttackResult]


def matrix(
    models: Mapping[str, Model],
    x: Tensor,
    labels: Tensor,
    *,
    targets: Tensor | None = None,
    attack: Attack | Mapping[str, Any] | None = None,
    attacked: Mapping[str, AttackResult] | None = None,
    noise: Sequence[float] = (0.1, 0.3),
    rms: Sequence[float] = (),
    clip: Sequence[str] = ("exact",),
    seed: int = 0,
    batch_size: int = 500,
    progress: bool = False,
) -> TransferMatrix:
    """Feed images that were distorted for each network to every network.

    Parameters
    ----------
    models : mapping of str to callable
        Names and networks: images (b, *shape) with values in the box to logits (b, K). Each brings
        its own preprocessing (resizing, standardisation), so that all take the same images. Modules
        are held in eval mode meanwhile; put a network of another kind into it yourself.
    x : Tensor (B, *shape)
        Images, float32 or float64, in [0, 1] unless `attack` says otherwise.
    labels : Tensor (B,) of int64
        Their classes. Errors are counted over all images: where a network has one wrong to begin
        with, it stays as it is and counts as an error, as in the paper. Give images that all have
        right (`advkit.attack.correctly_classified`) to leave natural errors out; `new_errors` of a
        cell counts without them either way.
    targets : Tensor (B,) of int64, optional
        Classes for the attack to reach, other than the labels; by default any wrong one.
    attack : callable or mapping, optional
        Keyword arguments of `advkit.attack.lbfgs`, which is the default attack; or
        ``attack(model, x, labels, targeted)`` that returns an `AttackResult`, labels being the
        targets where there are any.
    attacked : mapping of str to AttackResult, optional
        Adversarial images of some networks, made before on these very x (see `distort`), which is
        checked by their distances.
    noise : sequence of float
        RMS of rows of Gaussian noise. There is always one more for each network, with the RMS of
        its adversarial images, image by image.
    rms : sequence of float
        RMS that all changes are scaled to, in rows of their own: the fair comparison, and the
        paper's amplification (Table 4).
    clip : sequence of {"exact", "after", "none"}
        How changes of a given RMS are kept in the box, each in rows of its own: see `amplify`.
    seed : int
        Of the noise.
    batch_size : int
        Images that a network is given at a time.
    progress : bool
        Show bars on stderr; needs rich.

    Returns
    -------
    TransferMatrix
        A row for each set of images, a column for each network.

    Raises
    ------
    TypeError, ValueError
        For bad arguments; the message names what.
    """
    if not models:
        raise ValueError("models: expected at least one network, got none")
    for name in clip:
        check_choice("clip", name, CLIPS)
    check_count("batch_size", batch_size)
    check_count("seed", seed, least=0)
    options = attack if isinstance(attack, Mapping) else {}
    lower, upper = options.get("lower", 0.0), options.get("upper", 1.0)
    if isinstance(lower, Tensor) or isinstance(upper, Tensor):
        raise TypeError("attack: expected numbers for lower and upper, got a tensor")
    box = _Box(lower=float(lower), upper=float(upper))
    check_images(x, lower, upper)
    check_labels(labels, x)
    if not len(x):
        raise ValueError("x: expected at least one image, got none")
    _check_targets(targets, labels, x)
    found = {name: _answers(model, x, batch_size) for name, model in models.items()}
    _check_classes({name: k for name, (_, k) in found.items()}, labels=labels, targets=targets)
    clean = {name: answers for name, (answers, _) in found.items()}
    results = distort(
        models, x, labels, targets=targets, attack=attack, attacked=attacked, progress=progress
    )
    planned = _plan(results, x, noise=noise, sizes=rms, clips=clip, seed=seed, box=box)
    rows: list[TransferRow] = []
    wrong: dict[tuple[str, str], Tensor] = {}  # of the adversarial images, by source and network
    with progress_bar(progress, "transfer", len(planned)) as advance:
        for row, images in planned:
            changed = images()
            answers = {
                name: predictions(model, changed, batch_size) for name, model in models.items()
            }
            if row["kind"] == "adversarial":
                wrong |= {(row["made_for"], name): answers[name] != labels for name in models}
            rows.append(_fill(row, rms_of(changed, x), answers, labels, targets, clean, wrong))
            advance(1, row["name"])
    settings = {
        "attack": next(iter(results.values())).settings,
        "targeted": targets is not None,
        "noise": list(noise),
        "rms": list(rms),
        "clip": list(clip),
        "seed": seed,
    }
    return TransferMatrix(tuple(models), tuple(rows), len(x), settings)


def distort(
    models: Mapping[str, Model],
    x: Tensor,
    labels: Tensor,
    *,
    targets: Tensor | None = None,
    attack: Attack | Mapping[str, Any] | None = None,
    attacked: Mapping[str, AttackResult] | None = None,
    progress: bool = False,
) -> dict[str, AttackResult]:
    """Attack every network on the same images.

    Parameters
    ----------
    models, x, labels, targets, attack, attacked, progress
        See `matrix`.

    Returns
    -------
    dict of str to AttackResult
        In the order of `models`; those of `attacked` as they were given.

    Raises
    ------
    TypeError, ValueError
        For bad arguments; the message names what.
    """
    if attack is not None and not isinstance(attack, Mapping) and not callable(attack):
        raise TypeError(
            "attack: expected keyword arguments of advkit.attack.lbfgs or a function "
            f"(model, x, labels, targeted), got {type(attack).__name__}"
        )
    options: dict[str, Any] = dict(attack) if isinstance(attack, Mapping) else {}
    unknown = sorted(set(options) - (set(inspect.signature(lbfgs).parameters) - _OURS))
    if unknown:
        raise ValueError(f"attack: advkit.attack.lbfgs has no option {unknown[0]!r} to be set here")
    _check_targets(targets, labels, x)
    strange = sorted(set(attacked or {}) - set(models))
    if strange:
        raise ValueError(
            f"attacked: expected names among the models {list(models)}, got {strange[0]!r}"
        )
    results = {}
    for name, model in models.items():
        result = (attacked or {}).get(name)
        given = result is not None
        if result is None:
            wanted = labels if targets is None else targets
            if callable(attack):
                result = attack(model, x, wanted, targets is not None)
            else:
                result = lbfgs(
                    model, x, wanted, targets is not None, **{"progress": progress, **options}
                )
        if result.adversarial.shape != x.shape:
            raise ValueError(
                f"attacked: expected images of shape {tuple(x.shape)} for {name!r}, "
                f"got {tuple(result.adversarial.shape)}"
            )
        if given and not torch.allclose(
            rms_of(result.adversarial, x), result.rms.double(), rtol=1e-3, atol=1e-6
        ):
            raise ValueError(
                f"attacked: expected a result for these images, got for {name!r} one whose "
                "adversarial images are not at its own distances from x"
            )
        results[name] = result
    return results


def predictions(model: Model, x: Tensor, batch_size: int = 500) -> Tensor:
    """Return the class of the largest logit of each image (B,), -1 where a logit is not finite.

    Parameters
    ----------
    model : callable
        Images (b, *shape) to logits (b, K); a module is held in eval mode meanwhile.
    x : Tensor (B, *shape)
        Images.
    batch_size : int
        Images at a time.

    Raises
    ------
    ValueError
        The network returns something else than (b, K).
    """
    return _answers(model, x, batch_size)[0]


@torch.no_grad()
def _answers(model: Model, x: Tensor, batch_size: int) -> tuple[Tensor, int]:
    """Return `predictions`, and the number of logits."""
    answers, classes = [], 0
    with evaluating(model):
        for part in x.split(batch_size):
            logits = model(part)
            if logits.dim() != 2 or len(logits) != len(part):
                raise ValueError(
                    f"model: expected logits of shape ({len(part)}, K), got {tuple(logits.shape)}"
                )
            classes = logits.shape[1]
            finite = logits.isfinite().all(1)
            answers.append(torch.where(finite, logits.argmax(1), -1))
    return torch.cat(answers), classes


_OURS = {"model", "x", "labels", "targeted"}


class _Box(TypedDict):
    """The values that images may have."""

    lower: float
    upper: float


def _plan(
    results: Mapping[str, AttackResult],
    x: Tensor,
    *,
    noise: Sequence[float],
    sizes: Sequence[float],
    clips: Sequence[str],
    seed: int,
    box: _Box,
) -> list[tuple[dict[str, Any], Callable[[], Tensor]]]:
    """Return what every row is, and a function that makes its images."""
    rows: list[tuple[dict[str, Any], Callable[[], Tensor]]] = []

    def add(kind: str, name: str, images: Callable[[], Tensor], **what: Any) -> None:
        row = {"name": name, "kind": kind, "made_for": None, "size": None, "clip": None} | what
        rows.append((row, images))

    add("original", "undistorted", lambda: x)
    for name, result in results.items():
        add("adversarial", name, lambda r=result: r.adversarial, made_for=name)  # type: ignore[misc]
    for name, result in results.items():

        def matched(result: AttackResult = result) -> Tensor:
            return gaussian(x, rms_of(result.adversarial, x), seed=seed, **box)

        add("matched noise", f"Gaussian, RMS as {name}", matched, made_for=name, clip="exact")
    for size in noise:
        for clip in clips:

            def noisy(size: float = size, clip: str = clip) -> Tensor:
                return gaussian(x, size, seed=seed, clip=clip, **box)

            add("noise", f"Gaussian, {_words(size, clip)}", noisy, size=float(size), clip=clip)
    for size in sizes:
        for clip in clips:
            for name, result in results.items():

                def scaled(
                    result: AttackResult = result, size: float = size, clip: str = clip
                ) -> Tensor:
                    return amplify(x, result.adversarial, size, clip=clip, **box)

                what = {"made_for": name, "size": float(size), "clip": clip}
                add("amplified", f"{name}, {_words(size, clip)}", scaled, **what)
    return rows


def _words(size: float, clip: str) -> str:
    """Return a given RMS in words."""
    clipped = {"exact": "in the box", "after": "clipped", "none": "not clipped"}[clip]
    return f"RMS {size:g} {clipped}"


def _fill(
    row: dict[str, Any],
    sizes: Tensor,
    answers: Mapping[str, Tensor],
    labels: Tensor,
    targets: Tensor | None,
    clean: Mapping[str, Tensor],
    adversarial: Mapping[tuple[str, str], Tensor],
) -> TransferRow:
    """Count what every network answers to the images of a row."""
    moved, noise = sizes > 0, row["kind"] == "matched noise"
    source = None if noise else row["made_for"]
    cells = []
    for name, found in answers.items():
        wrong = found != labels
        errors = int(wrong.sum())
        alike = None if source is None else int((wrong & (found == answers[source])).sum())
        cells.append(
            TransferCell(
                errors=errors,
                same_mistake=alike,
                other_mistake=None if alike is None else errors - alike,
                target_match=None if targets is None else int((found == targets).sum()),
                new_errors=int((wrong & (clean[name] == labels)).sum()),
                adversarial_too=int((wrong & adversarial[row["made_for"], name]).sum())
                if noise
                else None,
            )
        )
    return TransferRow(
        **row,
        distortion=float(sizes[moved].mean()),
        distortion_of_all=float(sizes.mean()),
        changed=int(moved.sum()),
        cells=tuple(cells),
    )


def _check_targets(targets: Tensor | None, labels: Tensor, x: Tensor) -> None:
    """Raise unless there is a target for each image, and another class than its label."""
    if targets is None:
        return
    try:
        check_labels(targets, x)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("labels", "targets", 1)) from error
    same = (targets == labels).nonzero()
    if len(same):
        raise ValueError(
            f"targets: expected other classes than the labels, got the label of image "
            f"{int(same[0])}, {int(labels[same[0]])}"
        )


def _check_classes(classes: Mapping[str, int], **given: Tensor | None) -> None:
    """Raise unless every network has a logit for every label and target."""
    for argument, values in given.items():
        for name, count in classes.items():
            if values is not None and int(values.max()) >= count:
                raise ValueError(
                    f"{argument}: expected 0 to {count - 1} for {name!r}, a network of {count} "
                    f"logits, got {int(values.max())}"
                )

"""The L-BFGS attack of Szegedy et al. 2013, each image with its own solver and its own c."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from advkit._progress import progress_bar
from advkit.attack._input import check_images, check_labels, check_range
from advkit.attack.objective import Model, Objective
from advkit.attack.penalty import PenaltySearch
from advkit.attack.result import AttackResult
from advkit.losses import LOSSES
from advkit.norms import NORMS
from advkit.ops import use_backend
from advkit.ops._check import check_choice
from advkit.optim.tiles import default_tile

__all__ = ["METHODS", "lbfgs"]

METHODS = ("penalty",)


def lbfgs(
    model: Model,
    x: Tensor,
    labels: Tensor,
    targeted: bool = False,
    *,
    norm: str = "l2sq",
    loss: str = "cross_entropy",
    kappa: float = 0.0,
    method: str = "penalty",
    max_evaluations: int = 200,
    history: int = 10,
    lower: float = 0.0,
    upper: float = 1.0,
    progress: bool = False,
    tile: int | None = None,
    backend: str | None = None,
) -> AttackResult:
    """Find for each image the smallest perturbation that changes the network's answer.

    ``method="penalty"`` is the paper's (section 4.1): minimise ``c |r| + loss_f(x + r)`` with x + r
    in the box by L-BFGS, and search for the largest c whose minimiser still fools the network. (The
    paper asks for the smallest; with c on the norm, as it prints the objective, the smallest
    perturbation belongs to the largest.) Each image has its own c, history, line search and stop;
    the best point over all its evaluations is returned.

    Parameters
    ----------
    model : callable
        Images (b, *shape) -> logits (b, K), differentiable by its input. A module is held in
        evaluation mode meanwhile and left as it was found; parameters and their .grad are not
        touched.
    x : Tensor (B, *shape)
        Images inside the box, float32 or float64.
    labels : Tensor (B,) of int64
        The classes to leave; with ``targeted=True`` the classes to reach.
    targeted : bool
        Which of the two.
    norm : {"l2sq", "l2", "l1"}
        Penalty: the squared L2 norm (as everybody reads the paper), its literal unsquared |r|, or
        L1.
    loss : {"cross_entropy", "margin", "smooth_margin"}
        loss_f, see `advkit.ops.class_loss`.
    kappa : float
        Confidence: the network counts as fooled when the logits' margin is at least this.
    method : {"penalty"}
        See above.
    max_evaluations : int
        Of each image, at least 2: each is one forward and one backward pass, but for the last,
        which is the forward pass that verifies the result.
    history : int
        Number of L-BFGS pairs m.
    lower, upper : float
        The box of the pixels.
    progress : bool
        Show a bar of finished images (needs rich).
    tile : int, optional
        How many images are carried at once; by default as many as 256 MiB holds, at most 1,024.
    backend : {"cpu", "reference"}, optional
        By default the fastest that can serve x.

    Returns
    -------
    AttackResult
        On failure the original image comes back with ``success`` False.

    Raises
    ------
    TypeError, ValueError
        For bad arguments, or if the model returns the wrong shape; the message names what.
    """
    lower, upper = check_range(lower, upper)
    check_images(x, lower, upper)
    check_labels(labels, x)
    check_choice("norm", norm, [name for name in NORMS if name != "none"])
    check_choice("loss", loss, LOSSES)
    check_choice("method", method, METHODS)
    if not callable(model):
        raise TypeError(f"model must be callable, got {type(model).__name__}")
    if not isinstance(targeted, bool):
        raise TypeError(f"targeted must be True or False, got {targeted!r}")
    number = isinstance(kappa, (int, float)) and not isinstance(kappa, bool)
    if not (number and math.isfinite(kappa) and kappa >= 0):
        raise ValueError(f"kappa must be finite and at least 0, got {kappa!r}")
    counts = {"max_evaluations": (max_evaluations, 2), "history": (history, 1)}
    if tile is not None:
        counts["tile"] = (tile, 1)
    for name, (value, least) in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    settings: dict[str, Any] = {
        "attack": "lbfgs",
        "method": method,
        "targeted": targeted,
        "norm": norm,
        "loss": loss,
        "kappa": kappa,
        "max_evaluations": max_evaluations,
        "history": history,
        "lower": lower,
        "upper": upper,
    }
    shape = x.shape[1:]
    with torch.inference_mode(False), torch.no_grad(), use_backend(backend):
        flat = x.detach().reshape(len(x), shape.numel()).clone()
        targets = labels.detach().clone()
        objective = Objective(model, shape, loss=loss, targeted=targeted, kappa=kappa)
        size = tile or default_tile(len(x), flat.shape[1], history, flat.element_size())
        search = PenaltySearch(
            objective,
            flat,
            targets,
            norm=norm,
            lower=lower,
            upper=upper,
            history=history,
            max_evaluations=max_evaluations,
        )
        with objective.evaluating(), progress_bar(progress, "attack", len(x)) as advance:
            search.run(min(size, len(x)), advance)
            search.verify(size)
        return search.result(shape, settings)

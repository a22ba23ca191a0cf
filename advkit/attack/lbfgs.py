"""Smallest perturbations by L-BFGS (Szegedy et al. 2013), each image with its own solver."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from advkit._progress import progress_bar
from advkit.attack._input import (
    check_images,
    check_labels,
    check_mask,
    check_number,
    check_starts,
    check_stop_distance,
)
from advkit.attack.augmented import AugmentedSearch
from advkit.attack.objective import CustomLoss, Model, Objective
from advkit.attack.penalty import PenaltySearch
from advkit.attack.radius import RadiusSearch
from advkit.attack.result import AttackResult
from advkit.attack.rounding import Grid
from advkit.attack.search import Search, last_passes
from advkit.losses import LOSSES, dlr
from advkit.ops import use_backend
from advkit.ops._check import check_choice, check_count, check_history_dtype
from advkit.ops._dispatch import choose
from advkit.optim.tiles import default_tile

__all__ = ["METHODS", "lbfgs"]


class Method(NamedTuple):
    """What a method can be asked for, the defaults first, and its number of L-BFGS pairs."""

    norms: tuple[str, ...]
    losses: tuple[str, ...]
    history: int


METHODS = {
    "augmented": Method(("l2", "l1", "linf"), ("margin", "dlr"), 6),
    "penalty": Method(("l2sq", "l2", "l1"), (*LOSSES, "dlr"), 10),
}


def lbfgs(
    model: Model,
    x: Tensor,
    labels: Tensor,
    targeted: bool = False,
    *,
    norm: str | None = None,
    loss: str | CustomLoss | None = None,
    kappa: float = 0.0,
    method: str = "augmented",
    max_evaluations: int = 200,
    history: int | None = None,
    history_dtype: torch.dtype | None = None,
    lower: float | Tensor = 0.0,
    upper: float | Tensor = 1.0,
    mask: Tensor | None = None,
    starting_points: Tensor | None = None,
    stop_distance: float | Tensor | None = None,
    levels: int | None = None,
    trajectory: bool = False,
    seed: int = 0,
    progress: bool = False,
    tile: int | None = None,
    backend: str | None = None,
) -> AttackResult:
    """Find for each image the smallest perturbation that changes the network's answer.

    ``method="augmented"`` looks for the shortest r with margin(x + r) <= 0 by augmented
    Lagrangians (L-infinity: by the radius of a box), from many starts and towards many classes, as
    far as `max_evaluations` goes. A larger budget goes on where a smaller one ended and never gives
    a longer r, where the network's outputs do not depend on the batch.

    ``method="penalty"`` is the paper's (section 4.1): minimise ``c |r| + loss_f(x + r)`` with x + r
    in the box, and search for the largest c whose minimiser still fools the network. (The paper
    asks for the smallest; with c on the norm, as it prints the objective, the smallest perturbation
    belongs to the largest.)

    Either way each image has its own solver, line search, c and stop; the best point over all its
    evaluations is returned, and none of its digits depends on the other images.

    Parameters
    ----------
    model : callable
        Images (b, *shape) -> logits (b, K), differentiable by its input. A module is held in
        evaluation mode meanwhile and left as it was found; parameters and their .grad are not
        touched. A plain perceptron, an `nn.Sequential` of Flatten, Linear, Sigmoid, Tanh and ReLU,
        is evaluated without autograd, with the same digits. Under `torch.autocast` the search runs
        in 16 bits, but what is returned fools the network without autocast; that takes up to 3
        passes more.
    x : Tensor (B, *shape)
        Images inside the box, float32 or float64.
    labels : Tensor (B,) of int64
        The classes to leave; with ``targeted=True`` the classes to reach.
    targeted : bool
        Which of the two.
    norm : str, optional
        augmented: "l2" (default), "l1" or "linf". penalty: "l2sq" (default: the squared L2 norm, as
        everybody reads the paper), "l2" (its literal unsquared norm) or "l1".
    loss : str or callable, optional
        augmented: the constraint, which must not be positive where the network is fooled: "margin"
        (default) or "dlr" (Croce & Hein 2020). penalty: loss_f, "cross_entropy" (default),
        "margin", "smooth_margin" (see `advkit.ops.class_loss`) or "dlr". Or a function of logits
        (b, K) and labels (b,) that returns one value per image, small or negative where the attack
        has succeeded.
    kappa : float
        Confidence: the network counts as fooled when the logits' margin is at least this. The
        augmented method needs ``loss="margin"`` for it.
    method : {"augmented", "penalty"}
        See above.
    max_evaluations : int
        Of each image, at least 2: k means at most 2 k passes through the network, forward or
        backward, the forward pass that verifies the result included.
    history : int, optional
        Number of L-BFGS pairs m; by default 6 for augmented, 10 for penalty.
    history_dtype : torch.dtype, optional
        What pairs are stored in: torch.bfloat16 or torch.float16 with x of float32, which halves
        the history; by default x's dtype.
    lower, upper : float or Tensor
        The box of the values; tensors broadcast to x.
    mask : Tensor of bool, optional
        Only the values where it is True may change; broadcasts to x.
    starting_points : Tensor (B, *shape), optional
        Points to start from too, adversarial or not (augmented only).
    stop_distance : float or Tensor (B,), optional
        An image is finished once a point at most this far away is found.
    levels : int, optional
        The adversarial images take these many values from `lower` to `upper` only (256: 8 bits),
        and fool the network as such. Takes 7 passes of the budget.
    trajectory : bool
        Record every evaluation in the result's `trajectory`.
    seed : int
        Of the restarts (augmented), which are drawn for each image from its values and this.
    progress : bool
        Show a bar of finished images (needs rich).
    tile : int, optional
        How many images are carried at once; by default as many as 256 MiB holds, at most 1,024;
        augmented on a CPU: as many as 16 MiB holds, at least 32.
    backend : {"cpu", "triton", "cuda", "reference"}, optional
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
    check_choice("method", method, METHODS)
    norms, losses, pairs = METHODS[method]
    norm = norms[0] if norm is None else norm
    loss = losses[0] if loss is None else loss
    check_choice("norm", norm, norms, f'with method="{method}"')
    if not callable(loss):
        check_choice("loss", loss, losses, f'with method="{method}"')
    if not callable(model):
        raise TypeError(f"model must be callable, got {type(model).__name__}")
    for name, flag in (("targeted", targeted), ("trajectory", trajectory)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} must be True or False, got {flag!r}")
    check_number("kappa", kappa, least=0)
    if kappa and method == "augmented" and loss != "margin":
        raise ValueError(f'kappa needs loss="margin" with method="augmented", got kappa={kappa!r}')
    history = pairs if history is None else history
    check_count("history", history)
    check_count("seed", seed, least=0)
    if tile is not None:
        check_count("tile", tile)
    low, high, flat = check_images(x, lower, upper)
    classes = check_labels(labels, x)
    check_history_dtype(history_dtype, x.dtype)
    grid = None
    if levels is not None:
        check_count("levels", levels, least=2)
        first, last = (float(low.min()), float(high.max())) if len(x) else (0.0, 1.0)
        grid = Grid(first, (last - first) / (levels - 1))
    check_count("max_evaluations", max_evaluations, least=2 + last_passes(grid, x.device) // 2)
    low, high = check_mask(mask, x, flat, low, high)
    if starting_points is not None and method == "penalty":
        raise ValueError('starting_points need method="augmented"')
    settings: dict[str, Any] = {
        "attack": "lbfgs",
        "method": method,
        "targeted": targeted,
        "norm": norm,
        "loss": getattr(loss, "__name__", type(loss).__name__) if callable(loss) else loss,
        "kappa": kappa,
        "max_evaluations": max_evaluations,
        "history": history,
        "history_dtype": history_dtype and str(history_dtype).removeprefix("torch."),
        "lower": "tensor" if isinstance(lower, Tensor) else lower,
        "upper": "tensor" if isinstance(upper, Tensor) else upper,
        "mask": mask is not None,
        "starting_points": starting_points is not None,
        "stop_distance": "tensor" if isinstance(stop_distance, Tensor) else stop_distance,
        "levels": levels,
        "seed": seed,
    }
    with torch.inference_mode(False), torch.no_grad(), use_backend(backend):
        flat, low, high = flat.contiguous(), low.clone(), high.clone()
        objective = Objective(
            model,
            x.shape[1:],
            loss=dlr(targeted) if loss == "dlr" else loss,
            targeted=targeted,
            kappa=kappa,
            classes=classes,
        )
        shared: dict[str, Any] = {
            "norm": norm,
            "lower": low,
            "upper": high,
            "history": history,
            "history_dtype": history_dtype,
            "max_evaluations": max_evaluations,
            "stop_distance": check_stop_distance(stop_distance, x),
            "grid": grid,
            "trajectory": trajectory,
        }
        if method == "augmented":
            starts = check_starts(starting_points, x)
            shared |= {
                "rivals": loss == "margin" and not targeted,
                "smooth": loss == "margin" and targeted,
                "starts": starts,
                "seed": seed,
            }
        kind: type[Search] = AugmentedSearch if norm != "linf" else RadiusSearch
        search = (PenaltySearch if method == "penalty" else kind)(
            objective, flat, labels.detach().clone(), **shared
        )
        cached = method == "augmented" and choose(flat) == "cpu"
        row = flat.shape[1], history, flat.element_size()
        size = tile or default_tile(len(x), *row, cached=cached)
        with objective.evaluating(), progress_bar(progress, "attack", len(x)) as advance:
            search.run(min(size, len(x)), advance)
            search.verify(size)
        return search.result(x.shape[1:], settings)

"""Compare the penalty attack with the recipe that attacks one image at a time through SciPy.

FC100-100-10 trained on Fashion-MNIST, the first test images it classifies correctly, seeded random
targets. The recipe is that of cleverhans 3, advertorch 0.2 and (but for the start and the factor)
foolbox 2: for each image on its own, ``|r|² + c cross_entropy(x + r, target)`` is minimised in the
box by SciPy's L-BFGS-B with 10 pairs, 100 iterations and SciPy's default tolerances, for 9 values
of c, each from the image itself. c starts at 0.01 and is multiplied by 10 until the target is
reached, then the interval between the largest failure and the smallest success is halved. The
closest point with the target's label over all evaluations counts (advertorch looks at end points
only; foolbox looks at every evaluation, too).

The recipe is given what it needs to be quick: one forward pass for each evaluation, the gradient
for the image alone (frozen parameters), a conversion of type at SciPy's border only, and the
number of threads that was faster on a few images.
"""

from __future__ import annotations

import os

# SciPy's solver works on vectors too short for threads, which its OpenBLAS would start all the
# same. To be set before NumPy is imported; PyTorch's own threads do not depend on it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from _common import Row, as_settings, parser, timed, write_results
from scipy.optimize import fmin_l_bfgs_b
from torch import Tensor, nn

from advkit.attack import AttackResult, lbfgs
from advkit.attack.targets import correctly_classified, random_targets
from advkit.data import load
from advkit.models import trained

C_FIRST, C_VALUES, C_FACTOR = 1e-2, 9, 10.0
ITERATIONS, HISTORY = 100, 10


@dataclass
class Nearest:
    """The closest point with the target's label; evaluations made, and with that label."""

    distance: float = float("inf")
    point: npt.NDArray[np.float64] | None = None
    evaluations: int = 0
    reached: int = 0


def recipe(model: nn.Module, image: Tensor, target: int) -> Nearest:
    """Attack one image (1, ...) with values in [0, 1] as the module docstring describes."""
    origin = image.numpy().ravel().astype(np.float64)
    shape, target_tensor = image.shape, torch.tensor([target])
    bounds = [(0.0, 1.0)] * len(origin)
    nearest = Nearest()

    def value_and_grad(
        x: npt.NDArray[np.float64], c: float
    ) -> tuple[float, npt.NDArray[np.float64]]:
        point = torch.from_numpy(x.astype(np.float32)).view(shape).requires_grad_()
        logits = model(point)
        loss = nn.functional.cross_entropy(logits, target_tensor)
        (slope,) = torch.autograd.grad(loss, point)
        r = x - origin
        squared = float(r @ r)
        nearest.evaluations += 1
        if int(logits.argmax()) == target:
            nearest.reached += 1
            if squared < nearest.distance**2:
                nearest.distance, nearest.point = squared**0.5, x.copy()
        return squared + c * loss.item(), 2.0 * r + c * slope.numpy().ravel().astype(np.float64)

    c, failure, success = C_FIRST, 0.0, float("inf")
    for _ in range(C_VALUES):
        before = nearest.reached
        fmin_l_bfgs_b(
            value_and_grad, origin, args=(c,), bounds=bounds, m=HISTORY, maxiter=ITERATIONS
        )
        if nearest.reached > before:
            success = c
        else:
            failure = c
        c = c * C_FACTOR if success == float("inf") else (failure + success) / 2
    return nearest


def best_threads(model: nn.Module, images: Tensor, targets: Tensor, most: int) -> tuple[int, Row]:
    """Return the number of threads with which the recipe is fastest, and what was measured."""
    seconds = {}
    for threads in range(1, most + 1):
        torch.set_num_threads(threads)
        recipe(model, images[:1], int(targets[0]))  # start-up of threads is not to be measured
        again = partial(_recipe_on, model, images, targets)
        seconds[threads] = min(timed(again)[0] for _ in range(2))
    fastest = min(seconds, key=lambda threads: seconds[threads])
    measured = {f"{t} threads": 1e3 * s / len(images) for t, s in seconds.items()}
    return fastest, measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both attacks, in turns, and write the tables."""
    options = parser("attack_scipy", __doc__)
    options.add_argument("--model", default="fc100-100-10")
    options.add_argument("--data", default="fashion-mnist")
    options.add_argument("--images", type=int, default=1000, help="images that advkit attacks")
    options.add_argument("--recipe-images", type=int, default=100, help="the first of them")
    options.add_argument("--repeats", type=int, default=5, help="timed runs of advkit")
    options.add_argument("--max-evaluations", type=int, default=None, help="of advkit, per image")
    options.add_argument("--seed", type=int, default=0, help="of the targets")
    given = options.parse_args(arguments)

    torch.set_num_threads(given.threads)
    model, images, labels, index = _prepare(given.model, given.data, given.images)
    classes = model(images[:1]).shape[1]
    targets = random_targets(labels, classes, seed=given.seed, index=index)
    extra: Row = {} if given.max_evaluations is None else {"max_evaluations": given.max_evaluations}

    ours = partial(lbfgs, model, images, targets, targeted=True, method="penalty", **extra)

    few = slice(0, min(5, given.recipe_images))
    recipe_threads, tried = best_threads(model, images[few], targets[few], given.threads)
    torch.set_num_threads(given.threads)
    ours()  # warm-up
    found: list[Nearest] = []
    recipe_seconds, our_seconds = [], []
    # In turns, so that a change of the machine's speed meets both.
    for part in torch.arange(given.recipe_images).chunk(given.repeats):
        torch.set_num_threads(given.threads)
        seconds, result = timed(ours)
        our_seconds.append(seconds)
        torch.set_num_threads(recipe_threads)
        seconds, nearest = timed(partial(_recipe_on, model, images[part], targets[part]))
        recipe_seconds.append(seconds)
        found += nearest
        print(f"\r{len(found)}/{given.recipe_images} images", end="", file=sys.stderr)
    print(file=sys.stderr)
    torch.set_num_threads(given.threads)

    n = images[0].numel()
    recipe_ms = 1e3 * sum(recipe_seconds) / len(found)
    our_ms = 1e3 * statistics.median(our_seconds) / len(images)
    recipe_rms = torch.tensor([nearest.distance for nearest in found]).double() / n**0.5
    our_rms, our_success = _verify(model, images, targets, result)
    evaluations = sum(nearest.evaluations for nearest in found) / len(found)
    first = slice(0, len(found))
    summary = [
        _line("scipy recipe", recipe_rms, recipe_rms.isfinite(), recipe_ms, evaluations),
        _line("advkit", our_rms[first], our_success[first], our_ms, _forwards(result, first)),
        _line("advkit", our_rms, our_success, our_ms, _forwards(result, slice(None))),
    ]
    both = recipe_rms.isfinite() & our_success[first]
    ratios = our_rms[first][both] / recipe_rms[both]
    rows = [
        {
            "image": int(index[b]),
            "label": int(labels[b]),
            "target": int(targets[b]),
            "rms advkit": float(our_rms[b]),
            "rms recipe": float(recipe_rms[b]) if b < len(found) else None,
            "forwards advkit": int(result.forwards[b]),
            "evaluations recipe": found[b].evaluations if b < len(found) else None,
        }
        for b in range(len(images))
    ]
    write_results(
        given.out,
        "The paper's attack: advkit and the one-image-at-a-time SciPy recipe",
        settings=as_settings(given) | {"attack": result.settings},
        summary=summary,
        rows=rows,
        notes=[
            f"advkit is {recipe_ms / our_ms:.1f} times as fast per image: {our_ms:.3f} ms "
            f"({given.threads} threads, {len(images)} images at once, median of {given.repeats} "
            f"runs in turns with the recipe) against {recipe_ms:.1f} ms ({recipe_threads} "
            "threads).",
            f"RMS of advkit over RMS of the recipe, image by image: mean {ratios.mean():.4f}, "
            f"median {ratios.median():.4f}, largest {ratios.max():.4f}; no larger on "
            f"{(ratios <= 1.0).double().mean():.0%} of the images.",
            f"Seconds of the {given.repeats} runs of advkit: "
            + ", ".join(f"{seconds:.3f}" for seconds in our_seconds)
            + ".",
            "Threads of the recipe, ms per image on a few images: "
            + ", ".join(f"{name}: {ms:.1f}" for name, ms in tried.items())
            + ".",
            "The success and distances of advkit are computed here, from the adversarial images.",
        ],
    )
    for line in summary:
        print(line)
    print(f"ratio {recipe_ms / our_ms:.1f}, RMS ratio {ratios.mean():.4f}")


def _prepare(model: str, data: str, count: int) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Return the network, ready for use, and the first images it classifies correctly."""
    network = trained(model, data, progress=True).model.eval().requires_grad_(False)
    test = load(data, "test")
    index = correctly_classified(network, test.images, test.labels, limit=count)
    return network, test.images[index], test.labels[index], index


def _recipe_on(model: nn.Module, images: Tensor, targets: Tensor) -> list[Nearest]:
    """Attack images (b, ...) one after the other."""
    return [recipe(model, images[b : b + 1], int(targets[b])) for b in range(len(images))]


@torch.no_grad()
def _verify(
    model: nn.Module, images: Tensor, targets: Tensor, result: AttackResult
) -> tuple[Tensor, Tensor]:
    """Return RMS (B,) and success (B,) of adversarial images, from nothing but the images."""
    adversarial = result.adversarial
    inside = ((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(1)
    success = inside & (model(adversarial).argmax(1) == targets)
    rms = (adversarial - images).double().flatten(1).square().mean(1).sqrt()
    return torch.where(success, rms, torch.inf), success


def _forwards(result: AttackResult, rows: slice) -> float:
    """Return the mean number of forward passes per image."""
    return float(result.forwards[rows].double().mean())


def _line(name: str, rms: Tensor, success: Tensor, ms: float, evaluations: float) -> Row:
    """Make a row of the headline table."""
    return {
        "attack": name,
        "images": len(rms),
        "success": float(success.double().mean()),
        "mean RMS": float(rms[success].mean()),
        "median RMS": float(rms[success].median()),
        "ms per image": ms,
        "evaluations per image": evaluations,
    }


if __name__ == "__main__":
    main()

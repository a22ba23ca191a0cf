"""The experiments by name. To add one: a module with a function `run`, and a row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from advkit.experiments import (
    adversarial_training,
    class_distributions,
    evaluations,
    figure5,
    figure6,
    figure7,
    figures12,
    figures34,
    probing,
    regularisation,
    table1,
    table2,
    table3,
    table4,
    table5,
)
from advkit.experiments.paper import FIGURE5
from advkit.experiments.setting import Outcome, Setting

__all__ = ["CHOICES", "EXPERIMENTS", "Experiment"]

_FIGURE6 = ("folder", "size", "classes", "stages")
CHOICES = ("targets", "optimizer", "seeds", "model", "target", *_FIGURE6)
_ATTACKS = ("targets", "optimizer")  # on networks of the paper


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Parameters
    ----------
    summary : str
        What it shows, in a line.
    run : callable
        From a `Setting` to an `Outcome`.
    images : int
        How many images it takes unless the user says otherwise.
    quick_images : int
        The same with ``--quick``.
    uses : tuple of str
        Which of `CHOICES`, which not every experiment has, play a part. Only those are shown beside
        the results.
    data : str
        Name of the data set that it takes unless the user says otherwise.
    pictures : bool
        Whether it takes a folder of images and a network of ImageNet's size, not a data set.
    folders : bool
        Whether a folder with classes can take the place of a data set.
    """

    summary: str
    run: Callable[[Setting], Outcome]
    images: int = 1000
    quick_images: int = 100
    uses: tuple[str, ...] = (*_ATTACKS, "seeds")
    data: str = "mnist-5k"
    pictures: bool = False
    folders: bool = False


EXPERIMENTS: dict[str, Experiment] = {
    "table1": Experiment(
        "errors and average distortion of six networks", table1.run, uses=_ATTACKS
    ),
    "table2": Experiment("what fools which of the six networks", table2.run, uses=_ATTACKS),
    "table3": Experiment(
        "errors of networks trained on disjoint halves", table3.run, uses=_ATTACKS
    ),
    "table4": Experiment("what fools which of those, and amplified", table4.run, uses=_ATTACKS),
    "table5": Experiment(
        "bounds of the layers' operator norms, and what penalising them does",
        table5.run,
        uses=("optimizer",),
    ),
    "figure1": Experiment(
        "images that excite units of a convolutional network",
        figures12.natural,
        10_000,
        1000,
        uses=(),
    ),
    "figure2": Experiment(
        "images that excite random directions", figures12.random, 10_000, 1000, uses=()
    ),
    "figure3": Experiment(
        "photographs that excite units of an ImageNet network",
        figures34.natural,
        500,
        20,
        uses=("folder", "model"),
        pictures=True,
    ),
    "figure4": Experiment(
        "photographs that excite random directions",
        figures34.random,
        500,
        20,
        uses=("folder", "model"),
        pictures=True,
    ),
    "figure5": Experiment(
        "images of ImageNet's size that an ImageNet network takes for an ostrich",
        figure5.run,
        images=FIGURE5[1],
        quick_images=3,
        uses=("folder", "model", "target"),
        pictures=True,
    ),
    "figure6": Experiment(
        "a class against the rest, on layers learnt without labels",
        figure6.run,
        500,
        50,
        uses=_FIGURE6,
        data="fashion-mnist",
        folders=True,
    ),
    "figure7": Experiment(
        "originals, adversarial images and noise", figure7.run, images=1000, uses=_ATTACKS
    ),
    "adversarial-training": Experiment(
        "pools of adversarial examples against weight decay and dropout",
        adversarial_training.run,
        uses=("seeds",),
    ),
    "class-distributions": Experiment(
        "probabilities, margins and logits before and after adversarial training",
        class_distributions.run,
        uses=(),
    ),
    "evaluations": Experiment(
        "distance against evaluations, both methods", evaluations.run, 200, 20, uses=_ATTACKS
    ),
    "probing": Experiment(
        "noise around original and adversarial images (Tabacof & Valle)",
        probing.run,
        125,
        20,
        uses=_ATTACKS,
    ),
    "regularisation": Experiment(
        "distortion of FC10 against lambda, exact and by the penalty method",
        regularisation.run,
        images=200,
        quick_images=30,
        uses=("optimizer",),
    ),
}

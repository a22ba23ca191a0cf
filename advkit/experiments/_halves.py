"""The three networks of Tables 3 and 4, trained on disjoint halves."""

from __future__ import annotations

from advkit.data import load
from advkit.experiments.setting import Setting
from advkit.transfer import CrossTrainingSet, cross_training_set

__all__ = ["study"]


def study(setting: Setting) -> CrossTrainingSet:
    """Train the networks, attack test images and feed them to all."""
    models = {
        f"{name} P{half}": setting.network(name, half=half).model
        for name, half in (("fc100-100-10", 1), ("fc123-456-10", 1), ("fc100-100-10", 2))
    }
    whole = load(setting.data, "train")
    test, x, labels = setting.first_images("test")
    targets = setting.chosen_targets(labels, len(test.classes))
    attacked = setting.attacked(models, x, labels, targets)
    setting.say("transfer")
    return cross_training_set(
        models,
        x,
        labels,
        parts={"P1": whole.half(1), "P2": whole.half(2), "test": test},
        targets=targets,
        attacked=attacked,
        clip=("none", "after", "exact"),
        seed=setting.seed,
        progress=setting.progress,
    )

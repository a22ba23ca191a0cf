"""Figure 6: a binary classifier on layers that were learnt without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advkit._tensors import digest_of
from advkit.data import Dataset
from advkit.experiments.setting import Outcome, Setting
from advkit.models import Reconstruction, build_quocnet, learn_stages
from advkit.models.cache import cached, load_or_train
from advkit.models.quocnet import STAGES
from advkit.report import figure6
from advkit.transfer.matrix import predictions

__all__ = ["run"]

_VERSION = 1  # of the recipe: raise it when what follows from the same recipe changes
# The paper's classifier recognises cars. Their names in CIFAR-10 and, of WordNet, in ImageNet:
# beach wagon, cab, convertible, jeep, limousine, minivan, Model T, pickup, racer, sports car.
_CARS = (
    *("automobile", "car", "n02814533", "n02930766", "n03100240", "n03594945", "n03670208"),
    *("n03770679", "n03777568", "n03930630", "n04037443", "n04285008"),
)
_OTHERWISE = 1  # the class where there are no cars
_STEPS, _QUICK_STEPS, _CLASSIFIER_STEPS = 300, 20, 300
_RATE, _DECAY = 1e-2, 1e-4
_EVALUATIONS = 100


def run(setting: Setting) -> Outcome:
    """Learn the layers and the classifier, and attack the test images that it has right.

    Parameters
    ----------
    setting : Setting
        With what; there being two classes, `targets` plays no part.

    Returns
    -------
    Outcome
        A row for the images of the class and one for the rest, and the picture.
    """
    test, x, labels = setting.first_images("test")
    name, positive = _positive(test.classes, setting.classes)
    wanted, truth = (torch.isin(each, positive).long() for each in (labels, test.labels))
    if truth.min() == truth.max():
        raise ValueError(f"class: all or none of the test images are of {name!r}")
    model = _classifier(setting, setting.dataset("train"), positive)
    seen, everything = predictions(model, x), predictions(model, test.images)
    right = (seen == wanted).nonzero()[:, 0]
    if not len(right):
        raise ValueError(f"images: the classifier has none of the first {len(x)} right; give more")
    result = setting.attacked(
        {"the classifier": model}, x[right], wanted[right], None, max_evaluations=_EVALUATIONS
    )["the classifier"]
    fooled = result.success & (predictions(model, result.adversarial) != wanted[right])
    records: list[dict[str, Any]] = []
    for kind, value in ((name, 1), (f"not {name}", 0)):
        rows = wanted[right] == value
        moved = result.rms[rows & fooled].double()
        records.append(
            {
                "images": kind,
                "in the test": int((truth == value).sum()),
                "of them right, %": 100 * _share(everything[truth == value] == value),
                "attacked": int(rows.sum()),
                "fooled, %": 100 * _share(fooled[rows]),
                "average distortion (RMS)": float(moved.mean()) if len(moved) else None,
            }
        )
    share = 100 * _share(fooled)
    shown = ((wanted[right] == 1) & fooled).nonzero()[:, 0][:8]
    if not len(shown):
        shown = fooled.nonzero()[:, 0][:8]
    typical = float(result.rms[shown].mean()) if len(shown) else 1.0
    magnify = max(1.0, float(round(1 / (5 * typical)))) if typical > 0 else 1.0

    def draw(path: Path) -> None:
        figure6(
            x[right][shown],
            result.adversarial[shown],
            name,
            path,
            magnify=magnify,
            title=f"{share:.1f} % of {len(right)} test images fooled, {setting.data}",
        )

    stages = setting.stages or STAGES
    sizes = ", ".join(f"{s.field} x {s.field} fields, {s.maps} maps" for s in stages)
    return Outcome(
        title=f"Figure 6 on {setting.data}",
        tables={f'"{name}" against the rest': records},
        notes=[
            f"{len(stages)} stages ({sizes}; each with L2 pooling and local contrast "
            "normalisation) learnt without labels by reconstruction ICA, and never fine-tuned; a "
            "softmax of two classes on their last features. Test error "
            f"{100 * _share(everything != truth):.2f} %.",
            f"Attacked: the {len(right)} of the first {len(x)} test images that it has right, L2, "
            f"{_EVALUATIONS} evaluations; fooled: {share:.2f} %.",
            "The paper's network has about 1e9 weights, learnt from 1e7 pictures, and recognises "
            "cars; it prints no number.",
        ],
        records=records,
        data={"rows": records, "fooled, %": share},
        pictures={"figure6.png": draw} if len(shown) else {},
    )


def _share(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else math.nan


def _positive(classes: Sequence[str], names: Sequence[str] | None) -> tuple[str, Tensor]:
    """Return what to call the classes that are told from the rest, and their labels."""
    if names is None:
        cars = [name for name in _CARS if name in classes]
        called = "car" if cars else classes[min(_OTHERWISE, len(classes) - 1)]
        chosen = cars or [called]
    else:
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise ValueError(
                f"class: no class {unknown[0]!r}, expected some of {', '.join(classes)}"
            )
        chosen = list(dict.fromkeys(names))
        called = " or ".join(chosen)
    if len(set(chosen)) == len(classes):
        raise ValueError(f"class: {called!r} are all classes; there must be others to tell it from")
    return called, torch.tensor(sorted(classes.index(name) for name in chosen))


def _classifier(setting: Setting, data: Dataset, positive: Tensor) -> nn.Sequential:
    """Return layers and classifier, trained now or before."""
    steps = setting.epochs or (_QUICK_STEPS if setting.quick else _STEPS)
    stages = setting.stages or STAGES
    recipe = {
        "version": _VERSION,
        "data": digest_of([data.images, data.labels]),
        "stages": [vars(stage) for stage in stages],
        "steps": [steps, _CLASSIFIER_STEPS, _RATE, _DECAY],
        "positive": positive.tolist(),
        "seed": setting.seed,
        "torch": torch.__version__,
    }
    _, channels, height, width = data.images.shape
    layers = build_quocnet((channels, height, width), stages, seed=setting.seed)
    with torch.no_grad():
        head = nn.Linear(layers(data.images[:1]).shape[1], 2)
    model = nn.Sequential(layers, head)

    def train() -> None:
        setting.say(f"unsupervised layers: {steps} steps a stage")
        learn_stages(
            data.images, layers, Reconstruction(steps=steps), seed=setting.seed,
            progress=setting.progress,
        )  # fmt: skip
        setting.say("classifier on their features")
        with torch.no_grad():
            features = torch.cat([layers(part) for part in data.images.split(500)])
        _regress(head, features, torch.isin(data.labels, positive).long())

    load_or_train(cached("quocnet", setting.data, recipe), model, recipe, train)
    return model.eval().requires_grad_(False)


def _regress(head: nn.Linear, features: Tensor, labels: Tensor) -> None:
    """Make `head` a softmax of two classes, by Adam on all features at once."""
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    standardised = (features - mean) / deviation
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    optimizer = torch.optim.Adam(head.parameters(), lr=_RATE, weight_decay=_DECAY)
    for _ in range(_CLASSIFIER_STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(head(standardised), labels))
        optimizer.step()
    with torch.no_grad():  # so that it takes features as they are
        head.weight.div_(deviation)
        head.bias.sub_(head.weight @ mean)

"""Figure 6: a binary classifier on layers that were learnt without labels."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advkit._files import replacing
from advkit.data import Dataset, fingerprint, load
from advkit.experiments.setting import Outcome, Setting
from advkit.models import Reconstruction, build_quocnet, learn_stages
from advkit.models.cache import cache_folder
from advkit.models.quocnet import STAGES
from advkit.report import figure6

__all__ = ["run"]

_VERSION = 1  # of the recipe: raise it when what follows from the same recipe changes
_CLASS = 1  # of CIFAR-10 the cars, as in the paper
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
    name = test.classes[_CLASS]
    model = nn.Sequential(*_classifier(setting, load(setting.data, "train"))).eval()
    model.requires_grad_(False)
    seen = _answers(model, x)
    wanted = (labels == _CLASS).long()
    everything = _answers(model, test.images)
    truth = (test.labels == _CLASS).long()
    right = (seen == wanted).nonzero()[:, 0]
    if not len(right):
        raise ValueError(f"images: the classifier has none of the first {len(x)} right; give more")
    result = setting.attacked(
        {"the classifier": model}, x[right], wanted[right], None, max_evaluations=_EVALUATIONS
    )["the classifier"]
    fooled = result.success & (_answers(model, result.adversarial) != wanted[right])
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

    sizes = ", ".join(f"{s.field} x {s.field} fields, {s.maps} maps" for s in STAGES)
    return Outcome(
        title=f"Figure 6 on {setting.data}",
        tables={f'"{name}" against the rest': records},
        notes=[
            f"Three stages ({sizes}; each with L2 pooling and local contrast normalisation) learnt "
            "without labels by reconstruction ICA, and never fine-tuned; a softmax of two classes "
            f"on their last features. Test error {100 * _share(everything != truth):.2f} %.",
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


@torch.no_grad()
def _answers(model: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([model(part).argmax(1) for part in x.split(500)])


def _classifier(setting: Setting, data: Dataset) -> tuple[nn.Module, nn.Module]:
    """Return layers and classifier, trained now or before."""
    from safetensors.torch import load_file, save_file

    steps = setting.epochs or (_QUICK_STEPS if setting.quick else _STEPS)
    recipe = {
        "version": _VERSION,
        "data": fingerprint(setting.data),
        "stages": [vars(stage) for stage in STAGES],
        "steps": [steps, _CLASSIFIER_STEPS, _RATE, _DECAY],
        "class": _CLASS,
        "seed": setting.seed,
        "torch": torch.__version__,
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / f"quocnet.{setting.data}.{digest}.safetensors"
    _, channels, height, width = data.images.shape
    layers = build_quocnet((channels, height, width), seed=setting.seed)
    setting.say("unsupervised layers" + ("" if path.exists() else f": {steps} steps a stage"))
    if path.exists():
        kept = load_file(path)
        head = nn.Linear(kept["1.weight"].shape[1], 2)
        nn.Sequential(layers, head).load_state_dict(kept)
        return layers, head
    learn_stages(
        data.images, layers, Reconstruction(steps=steps), seed=setting.seed,
        progress=setting.progress,
    )  # fmt: skip
    setting.say("classifier on their features")
    with torch.no_grad():
        features = torch.cat([layers(part) for part in data.images.split(500)])
    head = _regression(features, (data.labels == _CLASS).long())
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        state = nn.Sequential(layers, head).state_dict()
        save_file(state, temporary, {"recipe": json.dumps(recipe)})
    return layers, head


def _regression(features: Tensor, labels: Tensor) -> nn.Linear:
    """Return a softmax of two classes, by Adam on all features at once."""
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    standardised = (features - mean) / deviation
    head = nn.Linear(features.shape[1], 2)
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
    return head

"""Figure 5: images of ImageNet's size that a network takes for an ostrich."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advkit import imagenet
from advkit.attack import AttackResult
from advkit.experiments._pictures import answers, chosen, groups
from advkit.experiments.paper import FIGURE5
from advkit.experiments.setting import Outcome, Setting
from advkit.report import figure5
from advkit.transfer.matrix import predictions

__all__ = ["run"]

_EVALUATIONS = 100
_PAPERS_FACTOR = 10.0
_DRAWN = (4, 2)  # rows and columns of the picture


def run(setting: Setting) -> Outcome:
    """Attack the images that the network has right, towards one class.

    Parameters
    ----------
    setting : Setting
        With what: `folder`, `model`, `target` and `images`.

    Returns
    -------
    Outcome
        A row for each image, and the picture with the paper's factor of 10 and with a larger one.

    Raises
    ------
    ValueError
        No image is left to attack.
    """
    target = imagenet.class_number(setting.target)
    network, images = chosen(setting)
    names = imagenet.class_names()
    setting.say(f"answers to {len(images)} images")
    seen, labels = answers(network, images)
    right = ((seen == labels) & (labels != target)).nonzero()[:, 0].tolist()
    if not right:
        raise ValueError(
            f"images: of {len(images)} in {images.name} {setting.model} has none right that is "
            f"of another class than {names[target]!r}; give other images, or another --target"
        )
    results: list[AttackResult] = []
    shown: list[Tensor] = []
    records: list[dict[str, Any]] = []
    for group in groups(len(right)):
        rows = [right[place] for place in group]
        x = images.read(rows, network.size)
        wanted = torch.full((len(rows),), target)
        name = f"{setting.model}, {group[-1] + 1} of {len(right)}"
        result = setting.attacked(
            {name: network.model}, x, labels[rows], wanted, max_evaluations=_EVALUATIONS
        )[name]
        with torch.no_grad():
            after = network.model(result.adversarial).argmax(1)
        results.append(result)
        if len(shown) < _DRAWN[0] * _DRAWN[1]:
            shown += list(x)
        records += [
            {
                "image": images.paths[row].name,
                "class": names[int(labels[row])],
                "answer": names[int(after[place])],
                "fooled": bool(result.success[place]) and int(after[place]) == target,
                "RMS": float(result.rms[place]),
                "L2": float((result.adversarial[place] - x[place]).double().norm()),
                "forwards": int(result.forwards[place]),
                "backwards": int(result.backwards[place]),
            }
            for place, row in enumerate(rows)
        ]
    moved = [record["RMS"] for record in records if record["fooled"]]
    fooled = 100 * len(moved) / len(records)
    average = sum(moved) / len(moved) if moved else None
    x = torch.stack(shown)
    changed = torch.cat([result.adversarial for result in results])[: len(x)]
    drawn_labels = labels[right][: len(x)]

    def draw(factor: float) -> Callable[[Path], None]:
        predicted = predictions(network.model, changed, 8)
        return lambda path: figure5(
            x, changed, drawn_labels, predicted, path, class_names=names,
            rows=_DRAWN[0], columns=_DRAWN[1], magnify=factor,
            title=f"{setting.model}: {fooled:.0f} % of {len(records)} images taken for "
            f'"{names[target]}"' + (f", average RMS {average:.6f}" if average else ""),
        )  # fmt: skip

    larger = _factor(average)
    summary = {
        "network": setting.model,
        "images": len(images),
        "right, attacked": len(records),
        "fooled, %": fooled,
        "average distortion (RMS)": average,
        "largest": max(moved, default=None),
        "in the paper (AlexNet)": FIGURE5[0],
    }
    return Outcome(
        title=f"Figure 5 on {images.name}: {setting.model}",
        tables={f'Images taken for "{names[target]}"': [summary], "Images": records},
        notes=[
            f"Attacked: {len(records)} of {len(images)} images, those whose class the network "
            + ("has right." if images.labels is not None else "gives: no labels are known.")
            + f" L2, {_EVALUATIONS} evaluations an image.",
            f"The paper's average is over {FIGURE5[1]} images of its own network: other images, "
            "another network.",
            "Distortion: RMS over all values in [0, 1], averaged over the images that are fooled"
            + ("." if average is None else f"; {255 * average:.2f} grey levels."),
            f"Middle pictures: 128 + {_PAPERS_FACTOR:g} times the difference, clamped, as in the "
            f"paper; in the second picture {larger:g} times, for what is invisible in the first.",
        ],
        records=records,
        data={"summary": summary, "images": records},
        pictures={"figure5.png": draw(_PAPERS_FACTOR), "figure5-magnified.png": draw(larger)},
    )


def _factor(rms: float | None) -> float:
    """Return the power of ten, at least 10, with which 4 times an RMS stays within the picture."""
    return 10.0 ** max(1, math.floor(math.log10(0.5 / (4 * rms)))) if rms else _PAPERS_FACTOR

"""Figures 3 and 4: photographs that excite units, and random directions, of a published network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from advkit import imagenet
from advkit.analysis import DirectionSet, Units, ablation, units
from advkit.experiments._pictures import chosen, groups
from advkit.experiments.figures12 import KINDS, ablated, line, picture, purer
from advkit.experiments.setting import Outcome, Setting
from advkit.report import strips

__all__ = ["natural", "random"]

_STRIPS, _TOP = 4, 10
_SIDE = 0.8  # inches
_COUNT = 256  # directions of each kind


def natural(setting: Setting) -> Outcome:
    """Draw Figure 3, the natural basis, with the statistics of all kinds of directions."""
    return _run(setting, "figure3", "natural")


def random(setting: Setting) -> Outcome:
    """Draw Figure 4, random directions, with the statistics of all kinds of directions."""
    return _run(setting, "figure4", "random")


def _run(setting: Setting, figure: str, kind: str) -> Outcome:
    network, images = chosen(setting)
    features, seen = _features(setting, network, images)
    labels = seen if images.labels is None else torch.tensor(images.labels)
    right = int((seen == labels).sum())
    top = min(_TOP, max(1, len(images) // 4))
    # Only the classes that occur: of 1,000 most would be empty columns.
    present, places = labels.unique(return_inverse=True)
    setting.say("images of each direction")
    count = min(_COUNT, features.shape[1])
    found = units(nn.Identity(), features, places, top=top, count=count, seed=setting.seed)
    found = replace(found, ablation=ablation(network.head, features, labels, seed=setting.seed))
    classes = [imagenet.class_names()[number] for number in present.tolist()]
    of = found.of(kind)
    panels = _panels(of, network, images, classes)
    what = KINDS[kind]

    return Outcome(
        title=f"{figure.capitalize()[:-1]} {figure[-1]} on {images.name}: {setting.model}",
        tables={"Labels of the top images": [line(each) for each in found.sets]},
        notes=[
            f"The last {found.features} features of {setting.model}, {count} directions "
            f"of each kind; {len(images)} images of "
            f"{len(classes)} classes"
            + (
                f", {right} of which the network has right"
                if images.labels is not None
                else ", by the network's own answers"
            )
            + f"; the {top} with the most along each direction: a quarter of the images, at most "
            f"{_TOP}. Purity: share of the commonest label; entropy in bits; p: (1 + k) / (1 + n), "
            f"k of n = {found.settings['permutations']} permutations of the labels having a mean "
            "entropy that is no larger.",
            *_few(found, labels, top),
            f"The strips are the first {what} along which images differ, not chosen by eye.",
            purer(found),
            ablated(found),
        ],
        records=found.as_rows(),
        data={"units": found.to_dict(), "classes": classes},
        pictures={
            f"{figure}.png": lambda path: strips(
                panels,
                path,
                side=_SIDE,
                title=f"The {top} of {len(images)} images that excite the first {len(panels)} "
                f"{what} most",
            ),
            f"{figure}-ablation.png": picture(found, setting.model),
        },
    )


def _features(
    setting: Setting, network: imagenet.Network, images: imagenet.Images
) -> tuple[Tensor, Tensor]:
    """Return features (N, n) and answers (N,); what was computed before is read back."""
    features, seen = [], []
    for rows in groups(len(images)):
        setting.say(f"features of images {rows[0] + 1} to {rows[-1] + 1} of {len(images)}")

        def compute(rows: range = rows) -> dict[str, Any]:
            with torch.no_grad():
                values, logits = network.features(images.read(rows, network.size))
            return {"features": values.tolist(), "answers": logits.argmax(1).tolist()}

        files = [
            (str(path.resolve()), path.stat().st_mtime)
            for path in images.paths[rows.start : rows.stop]
        ]
        kept = setting.kept({"model": setting.model, "features of": files}, compute)
        features.append(torch.tensor(kept["features"]))
        seen.append(torch.tensor(kept["answers"]))
    return torch.cat(features), torch.cat(seen)


def _panels(
    of: DirectionSet, network: imagenet.Network, images: imagenet.Images, classes: list[str]
) -> list[tuple[str, Tensor]]:
    """Return a caption and the top images of the first directions."""
    word = "unit" if of.kind == "natural" else "direction"
    return [
        (
            f"({letter}) {word} {of.places[row] + 1}: "
            + (
                f'{100 * of.purity[row]:.0f} % "{classes[of.majority[row]]}"'
                if of.purity[row] * len(of.top[row]) > 1.5
                else "no two of a class"
            ),
            images.read(of.top[row], network.size),
        )
        for row, letter in zip(range(len(of.top)), "abcd"[:_STRIPS], strict=False)
    ]


def _few(found: Units, labels: Tensor, top: int) -> list[str]:
    """Say so where classes are too small for purity to tell anything."""
    largest = int(labels.bincount().max())
    if largest >= top:
        return []
    return [
        f"No class has more than {largest} of these images, so that purity is at most "
        f"{largest / top:.2f}. The statistic can tell little here, and its "
        "intervals are over directions, not over images; give a folder with many of each class."
    ]

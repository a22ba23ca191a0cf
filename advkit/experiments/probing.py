"""Tabacof & Valle 2016: noise around original and adversarial images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from advkit.analysis import Probe, probe
from advkit.experiments._convolutional import convolutional
from advkit.experiments.paper import PROBING
from advkit.experiments.setting import Outcome, Setting
from advkit.report import curves

__all__ = ["run"]

_QUICK_PROBES = 20
_OVERSHOOTS = (1.0, 1.2)
_DECAY = 0.9  # of the authors' program


def run(setting: Setting) -> Outcome:
    """Probe a softmax, a perceptron and a convolutional network.

    Parameters
    ----------
    setting : Setting
        With what.

    Returns
    -------
    Outcome
        A row for each network, place, noise and level.
    """
    models: dict[str, nn.Module] = {
        name: setting.network(name).model for name in ("fc10-1e-4", "fc100-100-10")
    }
    models["convolutional"] = convolutional(setting).model
    dataset, x, labels = setting.first_images("test")
    targets = setting.chosen_targets(labels, len(dataset.classes))
    attacked = setting.attacked(models, x, labels, targets)
    probed: dict[tuple[str, float, float], Probe] = {}
    for name, model in models.items():
        for overshoot in _OVERSHOOTS:
            for decay in (1.0, _DECAY) if name == "fc10-1e-4" else (1.0,):
                setting.say(f"probing {name}, r times {overshoot:g}")
                further = (x + overshoot * (attacked[name].adversarial - x)).clamp(0, 1)
                what = {"network": name, "overshoot": overshoot, "decay": decay}
                kept = setting.kept(
                    {**what, **setting.to_dict()},
                    _probing(setting, model, x, further, labels, decay),
                )
                probed[name, overshoot, decay] = Probe.from_dict(kept)
    records = [
        {"network": name, "r times": overshoot, "decay": decay, **row}
        for (name, overshoot, decay), each in probed.items()
        for row in each.as_rows()
    ]

    def draw(overshoot: float) -> Callable[[Path], None]:
        return lambda path: _draw(setting, probed, tuple(models), overshoot, path)

    return Outcome(
        title=f"Probing the space around adversarial images on {setting.data}",
        tables={
            "Gaussian noise: answers in %": _levels(probed, tuple(models)),
            "Softmax beside the authors' early results (MNIST, logistic regression)": [
                line
                for overshoot in _OVERSHOOTS
                for line in _beside(probed["fc10-1e-4", overshoot, _DECAY], overshoot)
            ],
            "Resampled noise at level 0": _resampled(probed, tuple(models)),
            "Moments of r": _moments(probed, tuple(models)),
        },
        notes=[
            f"The first {len(x)} test images, targets: {setting.targets}; "
            f"{next(iter(probed.values())).settings['probes']} probes each. Noise of 2^level times "
            "the standard deviation of each image's r, cut to the box.",
            "advkit's images lie on the border of the class, so that any noise may lead back; the "
            "authors' search is coarser and ends beyond it. Hence the second set, a fifth further "
            "along r. As with the authors, the noise has the mean of r at every level; that alone "
            "moves some images across the border.",
            "The authors' program also multiplies the noise by 0.9 at each level, which the table "
            "beside theirs repeats. Theirs are 150 images of 32 x 32 values and another attack: "
            "compare the shape.",
            *(_verdict(name, probed[name, _OVERSHOOTS[-1], 1.0]) for name in models),
        ],
        records=records,
        data={
            "probes": [
                {"network": name, "overshoot": overshoot, "decay": decay, **each.to_dict()}
                for (name, overshoot, decay), each in probed.items()
            ]
        },
        pictures={"probing.png": draw(1.2), "probing-border.png": draw(1.0)},
    )


def _probing(
    setting: Setting, model: nn.Module, x: Tensor, further: Tensor, labels: Tensor, decay: float
) -> Callable[[], dict[str, Any]]:
    """Return what probes one network."""
    return lambda: probe(
        model,
        x,
        further,
        labels,
        decay=decay,
        probes=_QUICK_PROBES if setting.quick else 100,
        seed=setting.seed,
        progress=setting.progress,
    ).to_dict()


def _levels(
    probed: dict[tuple[str, float, float], Probe], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    lines = []
    for name in names:
        for overshoot in _OVERSHOOTS:
            each = probed[name, overshoot, 1.0]
            for level in each.settings["levels"]:
                there = each.cell("adversarial", "gaussian", level)
                here = each.cell("original", "gaussian", level)
                low, high = each.interval(there, "adversarial")
                lines.append(
                    {
                        "network": name,
                        "r times": overshoot,
                        "level": level,
                        "realised std / std(r)": f"{there.realised:.2f}",
                        "from adversarial: adversarial": f"{100 * there.share('adversarial'):.1f} "
                        f"({100 * low:.0f} to {100 * high:.0f})",
                        "from adversarial: original": f"{100 * there.share('original'):.1f}",
                        "from original: original": f"{100 * here.share('original'):.1f}",
                    }
                )
    return lines


def _beside(each: Probe, overshoot: float) -> list[dict[str, Any]]:
    lines = []
    for level, (realised, stays, returns, original) in PROBING.items():
        there = each.cell("adversarial", "gaussian", level)
        here = each.cell("original", "gaussian", level)
        lines.append(
            {
                "r times": overshoot,
                "level": level,
                "realised std / std(r)": f"{there.realised:.2f} / {realised:g}",
                "from adversarial: adversarial": f"{100 * there.share('adversarial'):.1f} / "
                f"{stays:g}",
                "from adversarial: original": f"{100 * there.share('original'):.1f} / {returns:g}",
                "from original: original": f"{100 * here.share('original'):.1f} / {original:g}",
            }
        )
    return lines


def _resampled(
    probed: dict[tuple[str, float, float], Probe], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    lines = []
    for name in names:
        for overshoot in _OVERSHOOTS:
            each = probed[name, overshoot, 1.0]
            cells = [each.cell("adversarial", noise, 0) for noise in ("resampled", "gaussian")]
            shares = [f"{100 * cell.share('adversarial'):.1f}" for cell in cells]
            lines.append(
                {
                    "network": name,
                    "r times": overshoot,
                    "stay adversarial, resampled, %": shares[0],
                    "stay adversarial, Gaussian, %": shares[1],
                }
            )
    return lines


def _moments(
    probed: dict[tuple[str, float, float], Probe], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    lines = []
    for name in names:
        each = probed[name, 1.0, 1.0]
        moments = each.moments
        lines.append(
            {
                "network": name,
                "images": each.images,
                "mean": f"{moments.mean:.4f}",
                "standard deviation": f"{moments.std:.4f}",
                "skewness": f"{moments.skewness:.2f}",
                "excess kurtosis": f"{moments.kurtosis:.2f}",
            }
        )
    return lines


def _verdict(name: str, each: Probe) -> str:
    """Say at which noise half of the adversarial images, and of the originals, are lost."""
    words = []
    for place in ("adversarial", "original"):
        levels = each.settings["levels"]
        kept = [each.cell(place, "gaussian", level).share(place) for level in levels]
        lost = [level for level, share in zip(levels, kept, strict=True) if share < 0.5]
        words.append(
            f"fewer than half of the probes of {place} images keep their class "
            + (f"from 2^{lost[0]} std(r)" if lost else "at no level")
        )
    return f"{name}, r times {_OVERSHOOTS[-1]:g}: " + "; ".join(words) + "."


def _draw(
    setting: Setting,
    probed: dict[tuple[str, float, float], Probe],
    names: tuple[str, ...],
    overshoot: float,
    path: Path,
) -> None:
    lines = {}
    for place in ("adversarial", "original"):
        for name in names:
            each = probed[name, overshoot, 1.0]
            levels = each.settings["levels"]
            lines[f"{name}, {place}"] = (
                levels,
                [100 * each.cell(place, "gaussian", level).share(place) for level in levels],
            )
    curves(
        lines,
        path,
        across="noise, log2 of its standard deviation over that of r",
        up="keep their class, %",
        title=f"Gaussian noise around images, r times {overshoot:g}, {setting.data}",
    )

"""Figure 7: originals beside adversarial images of two networks, and beside noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advkit.experiments.paper import FIGURE7, NAMES
from advkit.experiments.setting import Outcome, Setting
from advkit.report import figure7
from advkit.transfer import gaussian, predictions

__all__ = ["run"]

_MODELS = ("fc10-1e-4", "fc200-200-10")


def run(setting: Setting) -> Outcome:
    """Draw the three panels, and measure distortions and accuracies.

    Parameters
    ----------
    setting : Setting
        With what.

    Returns
    -------
    Outcome
        A row for each panel, and the picture.
    """
    models = {name: setting.network(name).model for name in _MODELS}
    dataset, x, labels = setting.first_images("test")
    targets = setting.chosen_targets(labels, len(dataset.classes))
    attacked = setting.attacked(models, x, labels, targets)
    records: list[dict[str, Any]] = []
    panels = []
    for letter, (name, result) in zip("ab", attacked.items(), strict=False):
        changed = result.rms[result.rms > 0].double()
        left = float((predictions(models[name], result.adversarial) == labels).double().mean())
        distortion = float(changed.mean())
        records.append(
            {
                "panel": letter,
                "network": name,
                "images": "adversarial",
                "distortion": distortion,
                "accuracy": 100 * left,
                "paper's distortion": FIGURE7[name],
                "paper's accuracy": 0.0,
            }
        )
        title = f"({letter}) {NAMES[name]}, RMS {distortion:.3f}\naccuracy {100 * left:.0f} %"
        panels.append((title, x, result.adversarial))
    noisy = gaussian(x, 1.0, seed=setting.seed, clip="none")
    for clip in ("none", "after"):
        changed_images = noisy if clip == "none" else noisy.clamp(0, 1)
        for name, model in models.items():
            right = float((predictions(model, changed_images) == labels).double().mean())
            records.append(
                {
                    "panel": "c",
                    "network": name,
                    "images": "Gaussian, " + ("clipped" if clip == "after" else "not clipped"),
                    "distortion": 1.0 if clip == "none" else None,
                    "accuracy": 100 * right,
                    "paper's distortion": 1.0,
                    "paper's accuracy": FIGURE7["accuracy under noise of 1"],
                }
            )
    shares = " and ".join(f"{record['accuracy']:.0f} %" for record in records[2:4])
    panels.append((f"(c) Gaussian noise, stddev 1\naccuracy {shares} (a, b)", x, noisy))

    def draw(path: Path) -> None:
        figure7(panels, path)

    return Outcome(
        title=f"Figure 7 on {setting.data}",
        tables={"Here, and in the paper (MNIST)": records},
        notes=[
            f"The first {len(x)} test images; targets: {setting.targets}; odd columns original, "
            "even columns distorted.",
            "The paper does not say of which network its 51 % are, nor whether the noisy images "
            "were cut to [0, 1].",
        ],
        records=records,
        data={"rows": records},
        pictures={"figure7.png": draw},
    )

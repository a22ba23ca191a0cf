"""Table 1: errors and average minimum distortion of six networks."""

from __future__ import annotations

from typing import Any

from advkit.experiments.paper import NAMES, TABLE1
from advkit.experiments.setting import Outcome, Setting
from advkit.transfer import predictions

__all__ = ["run"]


def run(setting: Setting) -> Outcome:
    """Train the networks of Table 1 and attack training images of each.

    Parameters
    ----------
    setting : Setting
        With what.

    Returns
    -------
    Outcome
        A row for each network.
    """
    networks = {name: setting.network(name) for name in TABLE1}
    dataset, x, labels = setting.first_images("train")
    targets = setting.chosen_targets(labels, len(dataset.classes))
    models = {name: network.model for name, network in networks.items()}
    results = setting.attacked(models, x, labels, targets)
    table: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    for name, network in networks.items():
        result = results[name]
        changed = result.rms[result.rms > 0].double()
        left = (predictions(models[name], result.adversarial) == labels).double().mean()
        record: dict[str, Any] = {
            "model": name,
            "train error": 100 * network.train_error,
            "test error": 100 * network.test_error,
            "distortion": float(changed.mean()),
            "distortion of all": float(result.rms.double().mean()),
            "images": len(x),
            "changed": len(changed),
            "found": 100 * float(result.success.double().mean()),
            "accuracy left": 100 * float(left),
            "forwards": float(result.forwards.double().mean()),
        }
        records.append(record)
        train, test, distortion = TABLE1[name]
        table.append(
            {
                "model": NAMES[name],
                "training error, %": f"{record['train error']:.2f} / {train:g}",
                "test error, %": f"{record['test error']:.2f} / {test:g}",
                "average distortion (RMS)": f"{record['distortion']:.4f} / {distortion:g}",
                "accuracy left, %": f"{record['accuracy left']:.1f} / 0",
            }
        )
    linear = [float(r["distortion"]) for r in records if str(r["model"]).startswith("fc10-")]
    rising = "rises" if linear == sorted(linear) else "does not rise"
    return Outcome(
        title=f"Table 1 on {setting.data}",
        tables={"Here / in the paper (MNIST)": table},
        notes=[
            f"Average over the images that had to be changed, of the first {len(x)} training "
            f"images; targets: {setting.targets}. The paper does not say how it chose targets; "
            "without targets distortions are smaller, with random ones larger.",
            f"The distortion of FC10 {rising} with lambda: "
            + ", ".join(f"{value:.4f}" for value in linear)
            + ".",
        ],
        records=records,
        data={"networks": {n: w.recipe for n, w in networks.items()}, "rows": records},
    )

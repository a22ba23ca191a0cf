"""Distance against evaluations: both methods on three networks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import nn

from advkit.analysis import EvaluationCurves, evaluation_curves
from advkit.experiments._convolutional import convolutional
from advkit.experiments.setting import Outcome, Setting
from advkit.report import evaluations

__all__ = ["run"]

_METHODS = ("augmented", "penalty")
_BUDGET, _QUICK_BUDGET = 500, 100
_TABLE = (10, 20, 50, 100, 200, 500)


def run(setting: Setting) -> Outcome:
    """Follow each attack through its evaluations.

    Parameters
    ----------
    setting : Setting
        With what.

    Returns
    -------
    Outcome
        A row for each network, method and number of evaluations, and the picture.
    """
    models: dict[str, nn.Module] = {
        name: setting.network(name).model for name in ("fc10-1e-4", "fc100-100-10")
    }
    models["convolutional"] = convolutional(setting).model
    dataset, x, labels = setting.first_images("test")
    targets = setting.chosen_targets(labels, len(dataset.classes))
    budget = _QUICK_BUDGET if setting.quick else _BUDGET
    results = {
        method: setting.attacked(
            models, x, labels, targets, method=method, max_evaluations=budget, trajectory=True
        )
        for method in _METHODS
    }
    found = {
        name: evaluation_curves({method: results[method][name] for method in _METHODS})
        for name in models
    }
    counts = [each for each in _TABLE if each <= budget]
    root = math.sqrt(x[0].numel())  # RMS = L2 / root

    def draw(path: Path) -> None:
        evaluations(found, path, up="L2", title=f"Distance against evaluations, {setting.data}")

    return Outcome(
        title=f"Distance against evaluations on {setting.data}",
        tables={
            "Mean RMS by evaluations of an image": [
                _line(
                    name, method, evaluation_curves({method: results[method][name]}, counts), root
                )
                for name in models
                for method in _METHODS
            ]
        },
        notes=[
            f"The first {len(x)} test images, targets: {setting.targets}. Each method is run once "
            f"with {budget} evaluations; the curve is the nearest adversarial image by then. An "
            "evaluation is a pass forward and one backward.",
            "A mean is given once every image is found that is found in the end; in parentheses "
            "the share that is found.",
            "With a smaller budget the penalty method divides its search for c otherwise, so that "
            "its curve is not what smaller budgets give.",
        ],
        records=[
            {"network": name, **row} for name, each in found.items() for row in each.as_rows()
        ],
        data={"curves": {name: each.to_dict() for name, each in found.items()}},
        pictures={"evaluations.png": draw},
    )


def _line(name: str, method: str, found: EvaluationCurves, root: float) -> dict[str, Any]:
    curve = found.curves[0]
    cells = {
        f"{count}": ("-" if math.isnan(mean) else f"{mean / root:.4f}") + f" ({100 * share:.0f} %)"
        for count, mean, share in zip(found.evaluations, curve.mean, curve.found, strict=True)
    }
    return {"network": name, "method": method, **cells}

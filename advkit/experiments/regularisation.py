"""Distortion of FC10 against its weight decay: exact, augmented and by the paper's method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from advkit.attack import correctly_classified
from advkit.data import load
from advkit.experiments._linear import exact_distance
from advkit.experiments.setting import Outcome, Setting
from advkit.report import curves

__all__ = ["run"]

_LAMBDAS = ("1e-5", "1e-4", "1e-3", "1e-2", "1e-1", "1")
_QUICK = ("1e-4", "1e-2", "1")


def run(setting: Setting) -> Outcome:
    """Attack FC10 of growing weight decay, without targets, and compare with the exact optimum.

    Parameters
    ----------
    setting : Setting
        With what; `targets` plays no part.

    Returns
    -------
    Outcome
        A row for each lambda.
    """
    test = load(setting.data, "test")
    records: list[dict[str, Any]] = []
    for strength in _QUICK if setting.quick else _LAMBDAS:
        network = setting.network(f"fc10-{strength}")
        model = network.model
        chosen = correctly_classified(model, test.images, test.labels, limit=setting.images)
        x, labels = test.images[chosen], test.labels[chosen]
        linear = model[1]
        assert isinstance(linear, nn.Linear)
        exact = exact_distance(linear, x, labels)
        record: dict[str, Any] = {
            "lambda": float(strength),
            "test error": 100 * network.test_error,
            "images": len(x),
            "exact": float(exact.mean()) / x[0].numel() ** 0.5,
        }
        for name in ("penalty", "augmented"):
            (result,) = setting.attacked(
                {f"fc10-{strength}, {name}": model}, x, labels, None, method=name
            ).values()
            ratio = (result.distance.double() / exact)[result.success]
            record |= {
                name: float(result.rms[result.success].double().mean()),
                f"{name} / exact, mean": float(ratio.mean()),
                f"{name} / exact, median": float(ratio.quantile(0.5)),
                f"{name} / exact, largest": float(ratio.max()),
                f"{name} found": 100 * float(result.success.double().mean()),
            }
        records.append(record)
    table = [
        {
            "lambda": f"{r['lambda']:g}",
            "test error, %": f"{r['test error']:.2f}",
            "exact RMS": f"{r['exact']:.5f}",
            "penalty (paper's)": f"{r['penalty']:.5f}",
            "penalty / exact: mean, median, largest": " ".join(
                f"{r[f'penalty / exact, {what}']:.4f}" for what in ("mean", "median", "largest")
            ),
            "augmented / exact: mean, largest": " ".join(
                f"{r[f'augmented / exact, {what}']:.4f}" for what in ("mean", "largest")
            ),
        }
        for r in records
    ]
    worst = max(records, key=lambda r: float(r["penalty / exact, mean"]))

    def draw(path: Path) -> None:
        values = [r["lambda"] for r in records]
        curves(
            {
                "exact optimum": (values, [r["exact"] for r in records]),
                "penalty method (the paper's)": (values, [r["penalty"] for r in records]),
                "augmented": (values, [r["augmented"] for r in records]),
            },
            path,
            across="weight decay lambda",
            up="mean smallest RMS",
            logarithmic=True,
            title=f"FC10 on {setting.data}, {records[0]['images']} test images",
        )

    return Outcome(
        title=f"Distortion of FC10 against weight decay on {setting.data}",
        tables={"Mean RMS of the smallest untargeted change": table},
        notes=[
            "Correctly classified test images, no targets. Exact: the smallest of the projections "
            "on nine half-spaces within the box, in float64.",
            "The paper says that the penalty method is exact for convex losses. For more than two "
            f"classes it is not: here it is {100 * (worst['penalty / exact, mean'] - 1):.1f} % too "
            f"long on average at lambda {worst['lambda']:g}.",
            "A ratio a little below 1 is rounding: the label is that of the network in float32.",
        ],
        records=records,
        data={"rows": records},
        pictures={"regularisation.png": draw},
    )

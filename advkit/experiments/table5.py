"""Table 5: bounds of each layer's operator norm, and what a penalty on them does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from advkit import imagenet
from advkit.analysis import Spectrum, spectrum
from advkit.experiments._convolutional import convolutional
from advkit.experiments.paper import TABLE5
from advkit.experiments.setting import Outcome, Setting
from advkit.report import norms

__all__ = ["run"]

_PENALTIES = (0.0, 1e-3, 1e-2)
_DISTORTION = ("average min. distortion (RMS)", "standard error")
_DATA = 200  # images for the estimates from below


def run(setting: Setting) -> Outcome:
    """Bound the layers of a perceptron and of convolutional networks, and attack each.

    Parameters
    ----------
    setting : Setting
        With what; `targets` plays no part.

    Returns
    -------
    Outcome
        A row for each layer.
    """
    perceptron = setting.network("fc100-100-10")
    models: dict[str, nn.Module] = {"FC100-100-10": perceptron.model}
    errors = {"FC100-100-10": 100 * perceptron.test_error}
    for penalty in _PENALTIES:
        name = "convolutional" + (f", penalty {penalty:g}" if penalty else "")
        trained = convolutional(setting, penalty=penalty)
        models[name], errors[name] = trained.model, 100 * trained.test_error
    _, x, labels = setting.first_images("test")
    attacked = setting.attacked(models, x, labels, None)
    spectra: dict[str, Spectrum] = {}
    printed: dict[str, Spectrum] = {}
    summary: list[dict[str, Any]] = []
    for name, model in models.items():
        setting.say(f"bounds of {name}")
        spectra[name], printed[name] = _both(model, tuple(x.shape[1:]), x[:_DATA])
        moved = attacked[name].rms[attacked[name].rms > 0].double()
        summary.append(
            {
                "network": name,
                "product, bound": spectra[name].product,
                "largest Jacobian, estimate": spectra[name].jacobian,
                "largest gradient of a logit, estimate": spectra[name].gradient,
                "test error, %": errors[name],
                "average min. distortion (RMS)": float(moved.mean()),
                "standard error": _standard_error(moved),
                "found, %": 100 * float(attacked[name].success.double().mean()),
            }
        )
    alexnet = _alexnet()
    if alexnet is not None:
        setting.say("bounds of torchvision's AlexNet")
        spectra["AlexNet"], printed["AlexNet"] = _both(alexnet, (3, 224, 224), None)
    records = [
        {"network": name, **line}
        for name in spectra
        for line in _lines(name, spectra[name], printed[name])
    ]
    shown = [{key: line[key] for key in line if key != "input"} for line in records]
    pictured = {name: spectra[name] for name in spectra}

    def draw(path: Path) -> None:
        norms(pictured, path, title=f"Operator norms of layers, {setting.data}")

    return Outcome(
        title=f"Table 5 on {setting.data}",
        tables={
            "Whole networks": [_shown(row) for row in summary],
            "Layers": shown,
            "In the paper (AlexNet)": [
                {"layer": layer, "size": size, "stride": stride, "upper bound": bound}
                for layer, size, stride, bound in TABLE5
            ],
        },
        notes=[
            "Bounds hold for all inputs; estimates are values that were seen. L2 of the image over "
            f"L2 of the logits. Jacobians and gradients: at the first {min(len(x), _DATA)} test "
            f"images; distortions: untargeted, the first {len(x)}, those that had to be changed.",
            "As printed: the paper's equation (1), with its factor 1 / stride^2 and exponent over "
            "N^2. Where it is below the estimate, it is no bound. Pooling with overlapping windows "
            "counts with its true factor in the bounds and with 1 as printed.",
            f"The product of the paper's own column is {math.prod(row[3] for row in TABLE5):,.0f}.",
            _verdict(summary),
            "AlexNet: torchvision's, whose widths are not the paper's."
            if alexnet is not None
            else "torchvision's AlexNet was not there (the package, and its weights in torch.hub's "
            "folder).",
        ],
        records=records,
        data={"spectra": {n: s.to_dict() for n, s in spectra.items()}, "networks": summary},
        pictures={"table5.png": draw},
    )


def _both(
    model: nn.Module, shape: tuple[int, ...], images: Tensor | None
) -> tuple[Spectrum, Spectrum]:
    """Return the bounds, and the same by the formulae as printed."""
    return spectrum(model, shape, images), spectrum(model, shape, convention="paper", iterations=1)


def _lines(name: str, right: Spectrum, printed: Spectrum) -> list[dict[str, Any]]:
    lines = []
    for row, other in zip(right.as_rows(), printed.as_rows(), strict=True):
        if row["kind"] in ("ReLU", "Sigmoid"):
            continue
        lines.append({**row, "as printed": other["upper bound"]})
    return lines


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the networks with as many digits as are to be read."""
    digits = {"test error, %": 2, "found, %": 1, **dict.fromkeys(_DISTORTION, 4)}
    return {
        key: f"{value:.{digits[key]}f}" if key in digits else value for key, value in row.items()
    }


def _standard_error(values: Tensor) -> float:
    """Return that of the mean; 0 where there are too few values to tell."""
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _verdict(summary: list[dict[str, Any]]) -> str:
    """Say what the penalty did to the distortion."""
    plain, *others = [row for row in summary if row["network"].startswith("convolutional")]
    before = plain["average min. distortion (RMS)"]
    parts = []
    for row in others:
        after = row["average min. distortion (RMS)"]
        apart = math.hypot(plain["standard error"], row["standard error"])
        change = f"{100 * (after / before - 1):+.0f} %"
        if not apart > 0:  # too few images had to be changed
            continue
        words = f"{change} ({(after - before) / apart:+.1f} standard errors of the difference)"
        parts.append(f"with {row['network'].removeprefix('convolutional, ')}: {words}")
    return (
        "Does penalising the norms raise the minimum distortion? Against the same network without: "
        + "; ".join(parts)
        + ". One training each."
    )


def _alexnet() -> nn.Module | None:
    """Return torchvision's AlexNet, without its preprocessing, if it is on this machine."""
    try:
        return imagenet.network("torchvision:alexnet").model.get_submodule("network")
    except (ImportError, FileNotFoundError):
        return None

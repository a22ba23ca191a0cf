"""Class distributions under perturbation, before and after adversarial training."""

from __future__ import annotations

from pathlib import Path

from advkit.analysis import ClassDistributions, class_distributions
from advkit.experiments._perceptron import perceptron
from advkit.experiments.setting import Outcome, Setting
from advkit.models import error_rate
from advkit.report import distributions
from advkit.training import Pools

__all__ = ["run"]


def run(setting: Setting) -> Outcome:
    """Perturb a network's images, train another with pools, and perturb those for both.

    Parameters
    ----------
    setting : Setting
        With what; `targets` and `optimizer` play no part.

    Returns
    -------
    Outcome
        A row for each network, perturbation and kind of image.
    """
    models = {
        "plain": perceptron(setting, "plain", seed=setting.seed),
        "pools": perceptron(setting, "pools", seed=setting.seed, pools=Pools((0,))),
    }
    test, x, labels = setting.first_images("test")
    attacked = setting.attacked(models, x, labels, None)
    errors = {name: 100 * error_rate(model, test) for name, model in models.items()}
    found: dict[str, ClassDistributions] = {
        "plain training": class_distributions(
            models["plain"], x, attacked["plain"].adversarial, labels, seed=setting.seed
        ),
        "pools, r made for the plain network": class_distributions(
            models["pools"], x, attacked["plain"].adversarial, labels, seed=setting.seed
        ),
        "pools, r made anew": class_distributions(
            models["pools"], x, attacked["pools"].adversarial, labels, seed=setting.seed
        ),
    }
    records = [
        {"network": name, "distortion": each.distortion, **row}
        for name, each in found.items()
        for row in each.as_rows()
    ]
    table = [
        {
            "network": r["network"],
            "images": r["images"],
            "mean RMS of r": f"{r['distortion']:.4f}",
            "error, %": f"{100 * r['error']:.1f}",
            "probability of the label": f"{r['probability']:.3f}",
            "largest probability": f"{r['largest']:.3f}",
            "entropy, bits": f"{r['entropy']:.3f}",
            "margin of the logits": f"{r['margin']:.2f}",
        }
        for r in records
    ]
    changed = {
        name: float(result.rms[result.rms > 0].double().mean()) for name, result in attacked.items()
    }
    transferred = found["pools, r made for the plain network"].of("adversarial")

    anew = found["pools, r made anew"].of("adversarial")

    def draw(path: Path) -> None:
        distributions(found, path, title=f"FC100-100-10 on {setting.data}, {len(x)} test images")

    return Outcome(
        title=f"Class distributions before and after adversarial training on {setting.data}",
        tables={"Means over the images": table},
        notes=[
            "FC100-100-10 and the same trained with a pool of adversarial images of the input; the "
            f"first {len(x)} test images, untargeted smallest changes in L2, noise of the same "
            f"length. Test errors {errors['plain']:.2f} % and {errors['pools']:.2f} %.",
            f"Average minimum distortion (RMS) of the images that had to be changed: "
            f"{changed['plain']:.4f} plain, {changed['pools']:.4f} with pools "
            f"({100 * (changed['pools'] / changed['plain'] - 1):+.0f} %).",
            f"The network with pools is wrong on {100 * transferred.error:.1f} % of the images "
            f"made for the plain one, and on {100 * anew.error:.1f} % of those made anew.",
            "Smallest changes end on the border, where the margin is 0 and two classes share the "
            "probability.",
        ],
        records=records,
        data={"distributions": {name: each.to_dict() for name, each in found.items()}},
        pictures={"class-distributions.png": draw},
    )

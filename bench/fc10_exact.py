"""Compare the penalty attack on FC10 with exact smallest perturbations.

For a softmax without hidden units and two classes, the smallest perturbation is the projection of
the image on a halfspace within the box: a quadratic program with a closed-form solution (in
tests/problems.py), checked here against a general solver on a few images. The penalty method must
find it, as cross-entropy is then a function of the margin. For information, the same for all ten
classes, untargeted: there the exact distance is the smallest over nine halfspaces, and
minimisers of cross-entropy need not lie on the way to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from _common import Row, as_settings, parser, use_tests, write_results
from torch import Tensor, nn

from advkit.attack import lbfgs
from advkit.attack.targets import correctly_classified
from advkit.data import load
from advkit.models import trained

use_tests()
from problems import LinearSoftmax, project_halfspace  # noqa: E402


def attack_one_model(
    name: str,
    data: str,
    *,
    classes: Sequence[int] | None,
    loss: str,
    images: int,
    check: int,
    extra: Row,
) -> tuple[Row, list[Row]]:
    """Attack the first correctly classified test images of some classes.

    Parameters
    ----------
    name, data : str
        FC10 with a weight decay, and the data set it is trained on.
    classes : sequence of int, optional
        Train and attack on these classes only; all of them by default.
    loss : str
        Loss of the attack.
    images : int
        How many images.
    check : int
        How many of them to solve by quadprog, too; two classes only.
    extra : dict
        Further arguments of the attack.

    Returns
    -------
    summary : dict
        A row of the headline table.
    rows : list of dict
        A row for each image.
    """
    network = trained(name, data, classes=classes, progress=True)
    model = network.model.eval().requires_grad_(False)
    test = load(data, "test")
    test = test if classes is None else test.select_classes(classes)
    index = correctly_classified(model, test.images, test.labels, limit=images)
    x, labels = test.images[index], test.labels[index]

    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    exact_model = LinearSoftmax(linear[0].weight, linear[0].bias)
    exact = exact_model.untargeted_distance(x, labels, lower=0.0, upper=1.0)
    result = lbfgs(model, x, labels, loss=loss, method="penalty", **extra)
    distance = (result.adversarial - x).double().flatten(1).norm(dim=1)
    inside = ((result.adversarial >= 0) & (result.adversarial <= 1)).flatten(1).all(1)
    success = inside & (model(result.adversarial).argmax(1) != labels)
    ratio = (distance / exact)[success]
    what = {"model": name, "classes": "all" if classes is None else " ".join(map(str, classes))}
    summary = what | {
        "loss": loss,
        "test error": network.test_error,
        "images": len(x),
        "success": float(success.double().mean()),
        "mean exact RMS": float(exact.mean()) / x[0].numel() ** 0.5,
        "mean ratio": float(ratio.mean()),
        "median ratio": float(ratio.median()),
        "smallest ratio": float(ratio.min()),
        "largest ratio": float(ratio.max()),
        "within 1 %": float((ratio <= 1.01).double().mean()),
        "forwards": float(result.forwards.double().mean()),
        "off quadprog": _check_exact(exact_model, x[:check], labels[:check]) if check else None,
    }
    rows = [
        what
        | {
            "loss": loss,
            "image": int(index[b]),
            "success": bool(success[b]),
            "exact L2": float(exact[b]),
            "L2": float(distance[b]),
            "ratio": float(distance[b] / exact[b]),
            "c": float(result.c[b]),
            "forwards": int(result.forwards[b]),
        }
        for b in range(len(x))
    ]
    return summary, rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all cases and write the tables."""
    options = parser("fc10_exact", __doc__)
    options.add_argument("--models", nargs="+", default=["fc10-1e-4", "fc10-1e-2"])
    options.add_argument("--data", default="fashion-mnist")
    options.add_argument(
        "--pairs", nargs="+", default=["0,6", "2,4", "7,9"], help="two classes each, with a comma"
    )
    options.add_argument("--images", type=int, default=500, help="of each case")
    options.add_argument("--check", type=int, default=2, help="of them solved by quadprog, too")
    options.add_argument("--max-evaluations", type=int, default=None, help="of advkit, per image")
    given = options.parse_args(arguments)
    torch.set_num_threads(given.threads)
    extra = {} if given.max_evaluations is None else {"max_evaluations": given.max_evaluations}
    pairs = [[int(k) for k in pair.split(",")] for pair in given.pairs]
    cases: list[tuple[str, list[int] | None, str]] = [
        (name, pair, "cross_entropy") for name in given.models for pair in pairs
    ]
    cases += [(name, None, loss) for name in given.models for loss in ("cross_entropy", "margin")]
    summary, rows = [], []
    for name, classes, loss in cases:
        line, found = attack_one_model(
            name,
            given.data,
            classes=classes,
            loss=loss,
            images=given.images,
            check=given.check if classes else 0,
            extra=extra,
        )
        print(line)
        summary.append(line)
        rows += found
    two = [row["ratio"] for row in rows if row["classes"] != "all" and row["success"]]
    write_results(
        given.out,
        "The penalty attack on FC10 and exact smallest perturbations",
        settings=as_settings(given),
        summary=summary,
        rows=rows,
        notes=[
            f"Two classes: mean ratio {np.mean(two):.5f}, largest {max(two):.5f}, over {len(two)} "
            "images. Ratio: L2 of the attack over the exact smallest L2, where the attack "
            "succeeded.",
            "A ratio a little under 1 is rounding: the exact distance is that of float64 "
            "arithmetic, the label that of the network in float32.",
            "Off quadprog: largest difference, in any pixel, between the closed form and a "
            "general quadratic programming solver on a few images.",
            "All classes: untargeted. Here the penalty method with cross-entropy is not exact.",
        ],
    )


def _check_exact(model: LinearSoftmax, x: Tensor, labels: Tensor) -> float:
    """Return the largest difference between the closed form and quadprog, two classes."""
    import quadprog

    flat = x.flatten(1).double()
    weight, bias = model.weight.double(), model.bias.double()
    normal, offset = weight[labels] - weight[1 - labels], bias[labels] - bias[1 - labels]
    nearest = project_halfspace(flat, normal, offset, lower=0.0, upper=1.0)
    n = flat.shape[1]
    eye, worst = np.eye(n), 0.0
    for b in range(len(flat)):
        constraints = np.column_stack([-normal[b].numpy(), eye, -eye])
        bounds = np.concatenate([[offset[b].item()], np.zeros(n), -np.ones(n)])
        found = quadprog.solve_qp(eye, flat[b].numpy(), constraints, bounds)[0]
        worst = max(worst, float(np.abs(found - nearest[b].numpy()).max()))
    return worst


if __name__ == "__main__":
    main()

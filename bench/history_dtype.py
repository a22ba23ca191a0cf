"""Attack with L-BFGS pairs stored in float32, bfloat16 and float16: what the 16 bits cost.

Untargeted attacks by every method and norm on the first test images, from the class that the
network itself gives them. Compared are success, the mean distance, how many images end more than
1 % farther or nearer than with float32, and evaluations. A run with one pair fewer shows what any
change of the solver's path does. Nothing is timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from _common import Row, as_settings, parser, write_results
from _networks import RECIPES, network
from torch import Tensor, nn

from advkit.attack import AttackResult, lbfgs
from advkit.attack.lbfgs import METHODS
from advkit.data import load
from advkit.models import trained


def attack_every_way(model: nn.Module, x: Tensor, method: str, norm: str, budget: int) -> list[Row]:
    """Return a row for each kind of pairs."""
    labels = model(x).argmax(1)

    def attacked(**how: Any) -> AttackResult:
        return lbfgs(model, x, labels, method=method, norm=norm, max_evaluations=budget, **how)

    usual = attacked()
    runs = {
        "float32": usual,
        "bfloat16": attacked(history_dtype=torch.bfloat16),
        "float16": attacked(history_dtype=torch.float16),
        "float32, one fewer": attacked(history=METHODS[method].history - 1),
    }
    rows = []
    for pairs, result in runs.items():
        both = result.success & usual.success
        ratio = result.distance[both] / usual.distance[both]
        rows.append(
            {
                "pairs": pairs,
                "success": float(result.success.double().mean()),
                "mean distance": float(result.distance[both].mean()),
                "of float32's": float(result.distance[both].mean() / usual.distance[both].mean()),
                "farther": float((ratio > 1.01).double().mean()),
                "nearer": float((ratio < 0.99).double().mean()),
                "evaluations": float((result.forwards + result.backwards).double().mean() / 2),
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all cases and write the tables."""
    options = parser("history_dtype", __doc__)
    options.add_argument("--networks", nargs="+", default=["fc100-100-10", "relu-mlp"])
    options.add_argument(
        "--data", default="fashion-mnist", help="the images, and what FC networks are trained on"
    )
    options.add_argument("--images", type=int, default=200)
    options.add_argument("--budgets", type=int, nargs="+", default=[50, 200])
    given = options.parse_args(arguments)
    torch.set_num_threads(given.threads)
    x = load(given.data, "test").images[: given.images].view(-1, 1, 28, 28)
    rows: list[Row] = []
    for name in given.networks:
        model = network(name) if name in RECIPES else trained(name, given.data).model
        model = model.eval().requires_grad_(False)
        for method in METHODS:
            for norm in METHODS[method].norms:
                for budget in given.budgets:
                    case = {"network": name, "method": method, "norm": norm, "budget": budget}
                    found = attack_every_way(model, x, method, norm, budget)
                    rows += [case | row for row in found]
                    print(*rows[-len(found) :], sep="\n", flush=True)
    write_results(
        given.out,
        "Pairs in 16 bits",
        settings=as_settings(given),
        summary=[row for row in rows if row["budget"] == max(given.budgets)],
        rows=rows,
        notes=[
            "farther, nearer: images whose distance is more than 1 % more, or less, than with "
            "pairs of float32.",
            "The table below has the smaller budgets, too.",
        ],
    )


if __name__ == "__main__":
    main()

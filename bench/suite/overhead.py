"""What an attack costs beside a large network: EfficientNet-Lite0, 224 x 224, batches of 8.

A round of the attack evaluates the network once, forward and backward. The clock stands still
while it does; what is left is advkit's own, told as a part of the network's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from _networks import IMAGENET, network, originals
from optimiser import Stopwatch
from torch import Tensor, nn

from advkit.attack import lbfgs
from advkit.attack.objective import Objective

BATCH, EVALUATIONS, QUICK = 8, 20, 3
SETTINGS: dict[str, dict[str, Any]] = {
    "advkit": {},
    "advkit, pairs in bfloat16": {"history_dtype": torch.bfloat16},
    "advkit, penalty method": {"method": "penalty"},
}


def cases(config: pytest.Config) -> list[tuple[str, list[str]]]:
    """Return the one case with its candidates."""
    return [(IMAGENET, list(SETTINGS))]


def bench_overhead(
    benchmark: Any,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    turn: int,
    candidate: str,
) -> None:
    """Time an attack without its network."""
    model, x, labels = _victims()
    evaluations = QUICK if request.config.getoption("quick") else EVALUATIONS
    clock = Stopwatch()
    monkeypatch.setattr(Objective, "_evaluate", clock.around(Objective._evaluate))
    monkeypatch.setattr(Objective, "fooled", clock.around(Objective.fooled))
    benchmark._timer = clock
    start = clock.held
    result = benchmark.pedantic(
        lbfgs, (model, x, labels), {"max_evaluations": evaluations, **SETTINGS[candidate]}, rounds=1
    )
    passes = int((result.forwards + result.backwards).sum())
    assert passes > BATCH, "the network was not asked"
    benchmark.extra_info |= {
        "case": f"{case}-{BATCH}",
        "candidate": candidate,
        "items": passes / 2,
        "network": 1e6 * (clock.held - start) / (passes / 2),
        "first image": 0,
        "rms": [
            rms if found else None
            for rms, found in zip(result.rms.tolist(), result.success.tolist(), strict=True)
        ],
    }


@lru_cache(maxsize=1)
def _victims() -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network and the first of Foolbox's images that it has right."""
    try:
        model = network(IMAGENET)
        x, labels = originals(IMAGENET, BATCH)
    except ImportError as error:
        pytest.skip(f"{error.name or error} is not installed")
    assert len(x) == BATCH, f"only {len(x)} images are classified correctly"
    return model, x.to(torch.float32), labels

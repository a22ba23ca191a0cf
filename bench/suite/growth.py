"""How cost grows with images, values and pairs: time, and memory beyond what is given and returned.

"images": the attack on FC100-100-10 with 50 evaluations, on images of the training set, from 1,000
on. "values" and "pairs": a round of the solver from memory, on so many images that all take about
the same bytes; its memory is that of its state. Sizes take turns.
"""

from __future__ import annotations

import ctypes
import gc
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from _kernel_cases import CASES, Case
from torch import Tensor

from advkit import data, models
from advkit.attack import AttackResult, lbfgs
from advkit.attack.targets import random_targets

NETWORK, EVALUATIONS = "fc100-100-10", 50
IMAGES = (1_000, 2_000, 5_000, 10_000, 20_000, 60_000)
VALUES, PAIRS = (784, 1568, 3136, 6272, 12_544, 50_176, 150_528), (1, 2, 5, 10, 20)
BYTES = 1 << 28  # of a round's pairs


def cases(config: pytest.Config) -> list[tuple[str, list[int]]]:
    """Return what grows, with its sizes."""
    if config.getoption("quick"):
        return [("images", [200, 400]), ("values", [784, 1568]), ("pairs", [2, 5])]
    return [("images", list(IMAGES)), ("values", list(VALUES)), ("pairs", list(PAIRS))]


def bench_growth(
    benchmark: Any, request: pytest.FixtureRequest, case: str, turn: int, candidate: int
) -> None:
    """Time one size."""
    config = request.config
    measure = _attack if case == "images" else _step
    benchmark.extra_info |= {"case": case, "candidate": candidate}
    benchmark.extra_info |= measure(benchmark, config, case, candidate, turn)


def _attack(
    benchmark: Any, config: pytest.Config, case: str, count: int, turn: int
) -> dict[str, Any]:
    network, images, targets = _training_set(config.getoption("data"))
    if count > len(images):
        pytest.skip(f"{config.getoption('data')} has {len(images)} images")
    images, targets = images[:count], targets[:count]
    _forget_peak()
    before = _peak_memory()
    result: AttackResult = benchmark.pedantic(
        lbfgs,
        (network, images, targets),
        {"targeted": True, "max_evaluations": EVALUATIONS},
        rounds=1,
    )
    beyond = _peak_memory() - before - _bytes(result)
    success = float(result.success.double().mean())
    assert success > 0.99, f"only {success:.1%} of the images were fooled"
    return {"items": count, "memory": beyond, "success": success}


def _step(benchmark: Any, config: pytest.Config, case: str, size: int, turn: int) -> dict[str, Any]:
    n, m = (size, 10) if case == "values" else (784, size)
    work = _work(n, m, 256 if config.getoption("quick") else max(8, BYTES // (8 * n * m)))
    calls = work.by_backend("cpu")
    benchmark.pedantic(calls[0], setup=work.restore, rounds=1, warmup_rounds=1 if turn == 0 else 0)
    work.restore()
    calls[0]()
    error = work.error(None)
    assert error <= work.tolerance, f"lbfgs_step is wrong: {error:.2g}"
    return {"items": work.images, "memory": _bytes(work.state), "error": error}  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def _work(n: int, m: int, images: int) -> Case:
    return CASES["lbfgs_step"](images, n, m, 1, torch.device("cpu"))


@lru_cache(maxsize=1)
def _training_set(source: str) -> tuple[torch.nn.Module, Tensor, Tensor]:
    """Return a network and the training images that it classifies correctly, with targets."""
    try:
        train = data.load(source, "train")
    except (FileNotFoundError, ImportError, OSError) as error:
        pytest.skip(str(error))
    network = models.trained(NETWORK, source).model.eval().requires_grad_(False)
    # Repeated from the first on, where some are not.
    with torch.no_grad():
        right = (network(train.images).argmax(1) == train.labels).nonzero()[:, 0]
    index = right.repeat(2)[: len(train.images)]
    images, labels = train.images[index], train.labels[index]
    return network, images, random_targets(labels, 10, seed=0)


def _bytes(holder: Any) -> int:
    """Return the bytes of the tensors in the fields of a dataclass."""
    values = (getattr(holder, field.name) for field in fields(holder))
    return sum(v.numel() * v.element_size() for v in values if isinstance(v, Tensor))


def _forget_peak() -> None:
    """Give back what is free, and let the peak of this process's memory start anew."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError) as error:
        pytest.skip(f"peak memory cannot be measured here: {error}")


def _peak_memory() -> int:
    """Return the peak of this process's memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

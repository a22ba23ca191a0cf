"""What the groups of the suite share: options, turns, the bandwidth of memory, the record of a run.

A group is a file. Each of its cases is done by several candidates in several turns, one after
another: A B A B. An item of pytest is one candidate's turn, timed by pytest-benchmark.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from _common import environment

PACKAGES = ("botorch", "jax", "jaxopt", "optax", "advertorch", "adv-lib", "foolbox", "torchvision")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of all groups."""
    group = parser.getgroup("advkit's benchmark suite")
    group.addoption("--quick", action="store_true", help="fewer and smaller cases, two turns")
    group.addoption("--turns", type=_positive, help="of each candidate; default: 5, with --quick 2")
    group.addoption(
        "--threads",
        type=_positive,
        default=min(2, os.cpu_count() or 1),
        help="threads of PyTorch and of advkit's kernels; default: 2",
    )
    group.addoption("--device", default="cpu", choices=["cpu", "cuda"], help="of the kernels")
    group.addoption(
        "--data",
        default="fashion-mnist",
        help="of the attacks, see advkit.data; default: %(default)s",
    )
    group.addoption("--images", type=_positive, help="that advkit attacks; default: 1000")
    group.addoption(
        "--peer-images", type=_positive, help="that slow peers attack in a turn; default: 20"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Set the number of threads, once."""
    torch.set_num_threads(config.getoption("threads"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Order the items of a group by case, then by turn, then by candidate."""
    if "turn" not in metafunc.fixturenames:
        return
    config = metafunc.config
    turns = config.getoption("turns") or (2 if config.getoption("quick") else 5)
    items = [
        pytest.param(case, turn, candidate, id=f"{case}-{candidate}-{turn}".replace(" ", "_"))
        for case, candidates in metafunc.module.cases(config)
        for turn in range(turns)
        for candidate in candidates
    ]
    metafunc.parametrize(("case", "turn", "candidate"), items)


_left_out: list[dict[str, str]] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keep what was left out, and why."""
    report = yield
    if report.skipped:
        what = item.callspec.params  # type: ignore[attr-defined]
        about = {"group": item.path.stem, "why": call.excinfo.value.msg}  # type: ignore[union-attr]
        about |= {name: str(what[name]) for name in ("case", "candidate")}
        _left_out.extend([] if about in _left_out else [about])
    return report


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: Sequence[Any], output_json: dict[str, Any]
) -> None:
    """Add what the tables need to the record."""
    output_json["advkit"] = {
        "environment": environment(PACKAGES),
        "settings": {
            name: config.getoption(name)
            for name in ("quick", "turns", "threads", "device", "data", "images", "peer_images")
        },
        "left out": _left_out,
    }


def _positive(text: str) -> int:
    """Read a positive integer."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)

"""The folder that ``advkit attack`` writes."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import advkit
from advkit._files import replacing
from advkit._records import strict
from advkit.attack import AttackResult
from advkit.data import Dataset
from advkit.models import TrainedModel
from advkit.report import figure5

IMAGES, FIGURE, RESULT = "adversarial.npz", "figure.png", "result.json"
_TRIPLES = 8  # what the figure shows


@dataclass(frozen=True)
class Task:
    """The images to attack: their classes, targets (-1: none) and place in the split; (B, ...)."""

    x: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor
    index: torch.Tensor


def write_outputs(
    arguments: argparse.Namespace,
    network: TrainedModel,
    dataset: Dataset,
    task: Task,
    result: AttackResult,
    seconds: float,
    backend: str,
) -> None:
    """Write the images, the figure and, last, as the sign that all is there, the numbers."""
    folder: Path = arguments.out
    (folder / RESULT).unlink(missing_ok=True)
    arrays: dict[str, Any] = {
        "x": task.x,
        "adversarial": result.adversarial,
        "labels": task.labels,
        "targets": task.targets,
        "success": result.success,
        "distance": result.distance,
        "index": task.index,
    }
    arrays = {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
    with replacing(folder / IMAGES) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    _write_figure(folder / FIGURE, _figure_title(arguments, result), network, dataset, task, result)
    report = _report(arguments, network, result, seconds) | _machine(backend)
    with replacing(folder / RESULT) as temporary:
        text = json.dumps(strict(report), indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _write_figure(
    path: Path,
    title: str,
    network: TrainedModel,
    dataset: Dataset,
    task: Task,
    result: AttackResult,
) -> None:
    """Draw the first successes, and failures only if there are too few of them."""
    shown = (~result.success).to(torch.uint8).argsort(stable=True)[:_TRIPLES]
    adversarial = result.adversarial[shown]
    with torch.no_grad():
        predicted = network.model(adversarial.to(task.x.device)).argmax(1)
    figure5(
        task.x.cpu()[shown],
        adversarial,
        task.labels.cpu()[shown],
        predicted.cpu(),
        path,
        class_names=dataset.classes,
        title=title,
    )


def _figure_title(arguments: argparse.Namespace, result: AttackResult) -> str:
    """Return the network, the data and how well the attack did, on one line."""
    summary = result.summary()
    title = f"{arguments.model} on {arguments.data} ({arguments.split}): "
    title += f"{summary['successes']} of {summary['images']} fooled"
    return title + (f", mean rms {summary['mean_rms']:.4f}" if summary["successes"] else "")


def _report(
    arguments: argparse.Namespace, network: TrainedModel, result: AttackResult, seconds: float
) -> dict[str, Any]:
    """Return what ``result.json`` holds; `forwards` and `backwards` are totals."""
    return {
        **result.summary(),
        "seconds": seconds,
        "ms_per_image": 1000 * seconds / len(result),
        "forwards": int(result.forwards.sum()),
        "backwards": int(result.backwards.sum()),
        "settings": {
            "data": arguments.data,
            "split": arguments.split,
            "images": arguments.images,
            "targets": arguments.targets,
            "seed": arguments.seed,
            "device": arguments.device,
            **result.settings,
        },
        "model": {
            "name": arguments.model,
            "train_error": network.train_error,
            "test_error": network.test_error,
            "recipe": network.recipe,
        },
    }


def _machine(backend: str) -> dict[str, Any]:
    """Return what the work was done with."""
    config = advkit.show_config()
    return {
        "backend": backend,
        "isa": config["isa"] if backend == "cpu" else None,
        "threads": config["threads"],
        "processor": config["processor"],
        "versions": {name: config[name] for name in ("advkit", "python", "torch", "numpy")},
    }

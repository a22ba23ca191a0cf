"""A small data set and a network that needs no training, in place of the real ones."""

from pathlib import Path

import pytest
import torch

from advkit.cli import attack
from advkit.data import Dataset
from advkit.models import TrainedModel


def bars():
    """Return 30 images: class k is a bright bar in rows 2 k and 2 k + 1.

    The labels of images 1 and 4 are wrong.
    """
    labels = torch.arange(30) % 10
    images = torch.full((30, 1, 28, 28), 0.1)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 2 * label : 2 * label + 2] = 0.9
    labels[[1, 4]] = 9
    return Dataset(
        images=images,
        labels=labels,
        name="mnist-5k",
        split="test",
        classes=tuple(f"bar {k}" for k in range(10)),
    )


@pytest.fixture
def network():
    """Return a linear network that reads the bars."""
    linear = torch.nn.Linear(784, 10)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
        for k in range(10):
            linear.weight[k, 56 * k : 56 * (k + 1)] = 0.2
    return torch.nn.Sequential(torch.nn.Flatten(), linear)


@pytest.fixture
def small(monkeypatch, network):
    """Let ``advkit attack`` work on bars; returns the list of calls of the trainer."""
    calls = []

    def trained(name, data_name, *, progress, retrain):
        calls.append({"name": name, "data": data_name, "progress": progress, "retrain": retrain})
        return TrainedModel(
            model=network,
            train_error=0.0,
            test_error=2 / 30,
            recipe={"seed": 0},
            path=Path("unused"),
        )

    monkeypatch.setattr(attack, "load", lambda name, split: bars())
    monkeypatch.setattr(attack, "trained", trained)
    return calls


@pytest.fixture
def one_line(capsys):
    """Return a function that gives what was written to stderr, after checking it is one line."""

    def read():
        captured = capsys.readouterr()
        assert captured.err.endswith("\n")
        assert captured.err.count("\n") == 1
        assert captured.out == ""
        return captured.err.strip()

    return read

"""A small data set under the name of a real one, and a cache of its own."""

import numpy as np
import pytest

from advkit.data.sources import SOURCES, Source
from advkit.experiments import _convolutional, figure6
from advkit.experiments import setting as module
from advkit.models import Autoencoder

for needed in ("safetensors", "matplotlib", "rich"):
    pytest.importorskip(needed)


def _read(folder, split):
    """Bars of ten classes: class k is bright in rows 2 k and 2 k + 1, in noise."""
    count = 100 if split == "train" else 40
    random = np.random.default_rng(0 if split == "train" else 1)
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = random.integers(0, 100, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 100
    return images, labels


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Keep trained networks for all these tests."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture
def small(monkeypatch, cache):
    """Let experiments run on bars, in seconds."""
    source = Source(tuple("0123456789"), _read, lambda: cache, "It is always there.")
    monkeypatch.setitem(SOURCES, "mnist-5k", source)
    monkeypatch.setenv("ADVKIT_CACHE", str(cache))
    monkeypatch.setattr(module, "_QUICK_EPOCHS", 8)
    monkeypatch.setattr(_convolutional, "_QUICK_EPOCHS", 2)
    monkeypatch.setattr(figure6, "_QUICK_STEPS", 4)
    monkeypatch.setattr(module, "_QUICK_AUTOENCODER", Autoencoder(steps=30, batch_size=50))


@pytest.fixture
def one_line(capsys):
    """Return a function that gives what was written to stderr, after checking it is one line."""

    def read():
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        return captured.err.strip()

    return read

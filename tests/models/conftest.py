from pathlib import Path

import numpy as np
import pytest

from advkit.data import load
from advkit.data.sources import SOURCES, Source


def _read(folder, split):
    """Blobs of three classes, 90 images to train and 30 to test, bright in one third each."""
    count = 90 if split == "train" else 30
    random = np.random.default_rng(0 if split == "train" else 1)
    labels = (np.arange(count) % 3).astype(np.uint8)
    images = random.integers(0, 120, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[9 * label : 9 * label + 9] += 100
    images[:, :, 0] = 0  # pixels that are never seen, as in the real sets
    return images, labels


@pytest.fixture
def blobs(monkeypatch):
    """Name of a small data set that trains in a moment."""
    source = Source(("top", "middle", "bottom"), _read, lambda: Path(), "It is always there.")
    monkeypatch.setitem(SOURCES, "blobs", source)
    return "blobs"


@pytest.fixture
def dataset(blobs):
    return load(blobs)


@pytest.fixture
def test_dataset(blobs):
    return load(blobs, "test")

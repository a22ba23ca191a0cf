import pytest
import torch

from advkit.data import Dataset
from advkit.models import build


@pytest.fixture
def blobs():
    """Return 60 images of three classes, bright in one third each, with noise that overlaps."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(60) % 3
    images = 0.6 * torch.rand(60, 1, 6, 6, generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 2 * label : 2 * label + 2] += 0.25
    return Dataset(images, labels, "blobs", "train", ("top", "middle", "bottom"))


@pytest.fixture
def model():
    """Return a function that builds the network of the paper for these images."""

    def make(seed=0):
        return build("fc100-100-10", inputs=36, classes=3, seed=seed)

    return make

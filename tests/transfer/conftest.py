"""Three networks whose answers are known, and images for them."""

import pytest
import torch


@pytest.fixture
def images():
    """Return 24 images of 16 values inside (0, 1)."""
    return 0.3 + 0.4 * torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def models():
    """Return three linear networks of three classes, the second near the first."""
    generator = torch.Generator().manual_seed(2)
    first = torch.nn.Linear(16, 3)
    with torch.no_grad():
        first.weight.copy_(torch.randn(3, 16, generator=generator))
        first.bias.zero_()
    near, other = torch.nn.Linear(16, 3), torch.nn.Linear(16, 3)
    with torch.no_grad():
        near.weight.copy_(first.weight + 0.2 * torch.randn(3, 16, generator=generator))
        near.bias.zero_()
        other.weight.copy_(torch.randn(3, 16, generator=generator))
        other.bias.zero_()
    return {
        name: torch.nn.Sequential(torch.nn.Flatten(), linear)
        for name, linear in (("first", first), ("near", near), ("other", other))
    }


@pytest.fixture
def labels(models, images):
    """Return what the first network answers, but for image 3, which gets another label."""
    with torch.no_grad():
        answers = models["first"](images).argmax(1)
    answers[3] = (answers[3] + 1) % 3
    return answers

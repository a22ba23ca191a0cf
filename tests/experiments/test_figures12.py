"""What is said of units and directions."""

import math

import torch

from advkit.analysis import units
from advkit.experiments.figures12 import purer


def test_purer_has_differences_and_their_standard_errors():
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(200, 8, generator=generator), torch.arange(200) % 4
    found = units(lambda x: x, images, labels, permutations=2)
    words = purer(found)
    natural = torch.tensor(found.of("natural").purity, dtype=torch.float64)
    for kind, name in (("random", "random directions"), ("rotation", "a random rotation")):
        mean = found.of(kind).mean("purity")
        other = torch.tensor(found.of(kind).purity, dtype=torch.float64)
        difference = found.of("natural").mean("purity") - mean
        error = math.hypot(float(natural.std()), float(other.std())) / math.sqrt(8)
        assert f"{name} ({mean:.3f}): {difference:+.3f}, standard error {error:.3f}" in words

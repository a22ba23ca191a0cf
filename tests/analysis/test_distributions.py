"""Class distributions of a linear network, by hand."""

import math

import pytest
import torch

from advkit.analysis import ClassDistributions, class_distributions


def linear(x):
    """Return three logits: the first two values, and 0."""
    flat = x.flatten(1)
    return torch.stack([flat[:, 0], flat[:, 1], torch.zeros_like(flat[:, 0])], 1)


X = torch.tensor([[2.0, 0, 0, 0], [0, 3, 0, 0], [-1, -2, 0, 0], [0, 2, 0, 0]]).double()
ADVERSARIAL = X + torch.tensor([[-1.0, 1, 0, 0], [0, -6, 0, 0], [0, 0, 2, 0], [0, 1, 0, 0]])
LABELS = torch.tensor([0, 1, 2, 0])


def study(**options):
    return class_distributions(
        linear, X, ADVERSARIAL, LABELS, lower=-9.0, upper=9.0, **options
    )  # fmt: skip


def test_margins_and_counts_by_hand():
    found = study()
    original, adversarial = found.of("original"), found.of("adversarial")
    assert original.margins == (2, 3, 1, -2)
    assert original.error == 0.25
    assert original.predicted == (1, 2, 1)
    assert adversarial.margins == (0, -3, 1, -3)
    assert adversarial.predicted == (2, 1, 1)  # the first of equal logits
    shares = linear(X).softmax(1)
    assert original.probability == pytest.approx(
        float(shares[torch.arange(4), LABELS].mean()), rel=1e-12
    )
    assert original.by_class[0] == pytest.approx(((shares[0] + shares[3]) / 2).tolist())
    assert original.largest == pytest.approx(float(shares.amax(1).mean()))
    expected = -sum(p * math.log2(p) for row in shares.tolist() for p in row) / 4
    assert original.entropy == pytest.approx(expected)
    rms = [math.sqrt(2) / 2, 3, 1, 0.5]
    assert found.distortion == pytest.approx(sum(rms) / 4)


def test_paths_are_straight_for_a_linear_network():
    found = study(reach=1.0, steps=5)
    assert found.steps == (-1, -0.5, 0, 0.5, 1)
    along, noise = found.paths
    assert along.example[2] == noise.example[2] == (2, 0, 0)
    assert along.example[4] == (1, 1, 0)
    assert along.margin[4] == pytest.approx(sum(found.of("adversarial").margins) / 4)
    assert along.margin[2] == pytest.approx(1)
    assert along.probability[2] == pytest.approx(found.of("original").probability)
    steps = torch.tensor(noise.example).double()
    torch.testing.assert_close(steps[4] - steps[2], steps[2] - steps[0])


def test_noise_is_as_long_as_r_in_the_box():
    seen = []

    def watching(x):
        seen.append(x)
        return linear(x)

    generator = torch.Generator().manual_seed(3)
    x = torch.rand(4, 1, 5, 5, generator=generator, dtype=torch.float64).round(decimals=0)
    r = 0.3 * torch.rand(x.shape, generator=generator, dtype=torch.float64)
    adversarial = x + r * (1 - 2 * x)
    found = class_distributions(watching, x, adversarial, LABELS, steps=5)
    noisy = seen[-1]
    assert ((noisy >= 0) & (noisy <= 1)).all()
    assert not torch.equal(noisy, x)
    torch.testing.assert_close(
        (noisy - x).flatten(1).norm(dim=1), (adversarial - x).flatten(1).norm(dim=1)
    )
    along = found.paths[1]
    assert along.example[3] == pytest.approx(linear(noisy)[0].tolist())
    assert study(seed=1).of("noise") != study().of("noise")
    assert study(batch_size=1) == study()


def test_saved_and_read_back(tmp_path):
    found = study(steps=3)
    found.save(tmp_path / "c.json")
    assert ClassDistributions.load(tmp_path / "c.json") == found
    assert [row["images"] for row in found.as_rows()] == ["original", "adversarial", "noise"]
    with pytest.raises(KeyError, match="no images 'other'"):
        found.of("other")
    (tmp_path / "c.json").write_text('{"format": "advkit.analysis.ClassDistributions"}')
    with pytest.raises(ValueError, match="not a saved ClassDistributions"):
        ClassDistributions.load(tmp_path / "c.json")


def test_a_network_in_training_mode_is_left_as_it_was():
    norm = torch.nn.BatchNorm1d(4).double()
    norm.bias.requires_grad_(False)
    before = norm.running_mean.clone()
    class_distributions(norm, X, ADVERSARIAL, LABELS)
    assert norm.training
    assert torch.equal(norm.running_mean, before)


def test_refuses():
    with pytest.raises(ValueError, match="labels: expected 0 to 2 for a network of 3 logits"):
        class_distributions(linear, X, ADVERSARIAL, LABELS + 1)
    with pytest.raises(ValueError, match="labels: expected values of at least 0, got -1"):
        class_distributions(linear, X, ADVERSARIAL, LABELS - 1)
    with pytest.raises(ValueError, match="K >= 2, got \\(4, 1\\)"):
        class_distributions(lambda x: linear(x)[:, :1], X, ADVERSARIAL, LABELS)
    with pytest.raises(ValueError, match="model: expected finite logits"):
        class_distributions(lambda x: linear(x) / 0 * 0, X, ADVERSARIAL, LABELS)
    with pytest.raises(ValueError, match="images and adversarial"):
        class_distributions(linear, X, ADVERSARIAL[1:], LABELS)
    with pytest.raises(ValueError, match="labels: expected"):
        class_distributions(linear, X, ADVERSARIAL, LABELS[1:])
    for options in ({"steps": 4}, {"reach": 0.0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="steps, reach and batch_size"):
            study(**options)

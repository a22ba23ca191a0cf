"""Probing a linear network, where the share of answers is known."""

import math
from statistics import NormalDist

import pytest
import torch

from advkit.analysis import Probe, probe


class Halves(torch.nn.Module):
    """Class 1 where the values sum up to more than 0; remembers its largest batch."""

    largest = 0

    def forward(self, x):
        self.largest = max(self.largest, len(x))
        total = x.flatten(1).sum(1)
        return torch.stack([-total, total], 1)


def problem(count=30, overshoot=1.5):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(count, 1, 5, 8, generator=generator, dtype=torch.float64)
    labels = (x.flatten(1).sum(1) > 0).long()
    # To the border along random directions, and beyond it.
    r = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    total = x.flatten(1).sum(1) / r.flatten(1).sum(1)
    adversarial = x - overshoot * total.view(-1, 1, 1, 1) * r
    return x, adversarial, labels


def test_shares_of_a_linear_network():
    x, adversarial, labels = problem()
    found = probe(
        Halves(), x, adversarial, labels, probes=1000, lower=-1e9, upper=1e9, noises=("gaussian",)
    )
    assert found.images == 30
    r = (adversarial - x).flatten(1)
    for place, base in (("original", x), ("adversarial", adversarial)):
        for level in (-5, -1, 0, 2, 5):
            cell = found.cell(place, "gaussian", level)
            # The sum of 40 values: normal, of mean 40 mean(r) and deviation sqrt(40) 2^i std(r).
            centre = base.flatten(1).sum(1) + 40 * r.mean(1)
            spread = math.sqrt(40) * 2.0**level * r.std(1)
            above = [NormalDist().cdf(float(t)) for t in centre / spread]
            keeps = [p if label else 1 - p for p, label in zip(above, labels, strict=True)]
            expected = sum(keeps) / 30
            assert cell.share("original") == pytest.approx(expected, abs=0.02)
            assert cell.original + cell.adversarial == cell.trials == 30_000
            assert cell.factor == 2.0**level
            assert cell.realised == pytest.approx(cell.factor, rel=0.02)


def test_resampled_noise_has_the_values_of_r():
    x, adversarial, labels = problem(3)
    seen = []

    def watching(batch):
        seen.append(batch)
        return Halves()(batch)

    probe(
        watching, x, adversarial, labels, probes=50, lower=-1e9, upper=1e9, levels=(0,),
        noises=("resampled",), around=("original",),
    )  # fmt: skip
    added = (seen[2] - x[0]).flatten().unique()
    r = (adversarial - x)[0].flatten()
    assert (added[:, None] - r).abs().amin(1).max() < 1e-9
    assert len(seen) == 5


def test_moments():
    x, _, _ = problem(1)
    r = torch.zeros(40, dtype=torch.float64)
    r[0] = 1.0  # mean 1/40, m2 = p q, skewness (q - p) / sqrt(p q), kurtosis (1 - 6 p q) / (p q)
    x = -0.1 * torch.ones_like(x) / 40
    found = probe(
        Halves(), x, x + r.view(x.shape), torch.zeros(1).long(), probes=1, lower=-9, upper=9
    )
    p = 1 / 40
    assert found.moments.mean == pytest.approx(p)
    assert found.moments.std == pytest.approx(math.sqrt(p * (1 - p) * 40 / 39))
    assert found.moments.skewness == pytest.approx((1 - 2 * p) / math.sqrt(p * (1 - p)))
    assert found.moments.kurtosis == pytest.approx((1 - 6 * p * (1 - p)) / (p * (1 - p)))


def test_batches_stay_small_and_change_nothing():
    x, adversarial, labels = problem(8)
    results = []
    for size in (7, 1000):
        model = Halves()
        results.append(probe(model, x, adversarial, labels, probes=20, batch_size=size))
        assert model.largest <= min(size, 20)
    assert results[0] == results[1]
    other = probe(Halves(), x, adversarial, labels, probes=20, seed=1)
    assert other.cells != results[0].cells


def test_a_network_in_training_mode_is_left_as_it_was():
    class Normed(Halves):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(1).double()

        def forward(self, x):
            return super().forward(self.norm(x))

    model = Normed()
    before = model.norm.running_mean.clone()
    probe(model, *problem(4), probes=3)
    assert model.norm.training
    assert torch.equal(model.norm.running_mean, before)


def test_logits_that_are_not_finite_are_no_answer():
    x, adversarial, labels = problem(5)

    def breaks(batch):
        total = batch.flatten(1).sum(1)
        gone = (total - adversarial[0].sum()).abs() < 1e-9
        answers = torch.stack([-total, total], 1)
        return torch.where(gone[:, None], torch.nan, answers)

    assert probe(breaks, x, adversarial, labels, probes=2).skipped == 1


def test_the_box_and_the_authors_decay():
    x, adversarial, labels = problem(10)
    found = probe(
        Halves(), x, adversarial, labels, probes=5, lower=-0.5, upper=0.5, decay=0.9, levels=(0, 2)
    )
    assert found.cell("original", "gaussian", 2).factor == pytest.approx(4 * 0.81)
    cell = found.cell("original", "gaussian", 2)
    assert cell.realised < cell.factor


def test_what_is_not_adversarial_is_left_out(tmp_path):
    x, adversarial, labels = problem(6)
    adversarial[0] = x[0]
    labels[1] = 1 - labels[1]
    found = probe(Halves(), x, adversarial, labels, probes=2)
    assert (found.images, found.skipped) == (4, 2)
    cell = found.cells[0]
    low, high = cell.interval("original")
    wide = found.interval(cell, "original")
    assert wide[0] <= low <= cell.share("original") <= high <= wide[1]
    found.save(tmp_path / "p.json")
    assert Probe.load(tmp_path / "p.json") == found
    assert len(found.as_rows()) == 44
    with pytest.raises(KeyError, match="no cell"):
        found.cell("original", "gaussian", 9)
    (tmp_path / "p.json").write_text("3")
    with pytest.raises(ValueError, match="not a saved Probe"):
        Probe.load(tmp_path / "p.json")
    with pytest.raises(ValueError, match="adversarial: expected at least one"):
        probe(Halves(), x, x, labels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": ()}, "levels: expected"),
        ({"levels": (1, 1)}, "levels: expected"),
        ({"noises": ("uniform",)}, "noises: expected"),
        ({"around": "original"}, "around: expected"),
        ({"probes": 0}, "probes, batch_size"),
        ({"lower": 1.0}, "lower < upper"),
    ],
)
def test_refuses(options, words):
    x, adversarial, labels = problem(2)
    with pytest.raises(ValueError, match=words):
        probe(Halves(), x, adversarial, labels, **options)
    with pytest.raises(ValueError, match="images and adversarial"):
        probe(Halves(), x, adversarial[1:], labels)
    with pytest.raises(ValueError, match="labels: expected"):
        probe(Halves(), x, adversarial, labels[1:])
    with pytest.raises(ValueError, match="labels: expected values of at least 0, got -1"):
        probe(Halves(), x, adversarial, -torch.ones_like(labels))

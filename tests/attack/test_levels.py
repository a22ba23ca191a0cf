"""Answers on a grid of levels, such as 8-bit images: on it exactly, and fooling from there."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from problems import LinearSoftmax, sigmoid_network

from advkit.attack import lbfgs
from advkit.attack.rounding import Grid, Rounding

N, B = 50, 10
NETWORK = sigmoid_network(N, 16, 4)


def images(levels, dtype=torch.float64):
    """Return images on the grid, and what the network calls them."""
    x = torch.rand(B, N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = (x * (levels - 1)).round() / (levels - 1)
    return x.to(dtype), NETWORK(x).argmax(1)


def in_dtype(x):
    return NETWORK(x.double()).to(x.dtype)


def assert_on_grid(adversarial, lower, upper, levels):
    step = (upper - lower) / (levels - 1)
    level = (adversarial.double() - lower) / step
    assert ((level - level.round()).abs() * step <= 1e-6).all()
    assert (adversarial.double() >= lower - 1e-7).all()
    assert (adversarial.double() <= upper + 1e-7).all()


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("levels", [256, 16, 2])
def test_answers_are_on_the_grid_and_fool_afresh(levels, targeted, attack, dtype):
    x, labels = images(levels, dtype)
    given = (labels + 1) % 4 if targeted else labels
    result = attack(in_dtype, x, given, targeted, levels=levels, max_evaluations=30)
    assert_on_grid(result.adversarial, 0.0, 1.0, levels)
    predicted = in_dtype(result.adversarial).argmax(1)
    hit = predicted == given if targeted else predicted != given
    assert torch.equal(result.success, hit)
    assert torch.equal(result.adversarial[~result.success], x[~result.success])
    # Two levels are the corners of the box, which seven tries need not find.
    assert result.success.float().mean() >= (0.8 if levels > 2 else 0.3)
    r = (result.adversarial - x).double()
    p = {"l1": 1, "linf": torch.inf}.get(attack.keywords["norm"], 2)
    assert torch.allclose(result.distance.double(), r.norm(p, dim=1), rtol=1e-5)
    assert torch.allclose(result.rms.double(), r.square().mean(1).sqrt(), rtol=1e-5)


def test_rounding_to_8_bits_costs_little():
    x, labels = images(256)
    free = lbfgs(NETWORK, x, labels, max_evaluations=100)
    rounded = lbfgs(NETWORK, x, labels, max_evaluations=100, levels=256)
    assert free.success.all()
    assert rounded.success.all()
    ratio = rounded.distance / free.distance
    # Found: 1.007, and 1.05 where the perturbation itself is but 1.7 levels (rms).
    assert ratio.median() <= 1.02
    assert ratio.max() <= 1.08


def test_many_levels_are_as_good_as_none(some_attack):
    x, labels = images(65_536)
    options = {"max_evaluations": 60}
    free = some_attack(NETWORK, x, labels, **options)
    rounded = some_attack(NETWORK, x, labels, levels=65_536, **options)
    assert rounded.success.all()
    assert (rounded.distance / free.distance).median() <= 1.01


def test_any_box(some_attack, dtype):
    lower, upper, levels = -1.5, 2.1, 32
    x, labels = images(levels, dtype)
    x = (lower + (upper - lower) * x).clamp(lower, upper)

    def network(v):
        return in_dtype((v - lower) / (upper - lower))

    options = {"lower": lower, "upper": upper, "levels": levels, "max_evaluations": 40}
    result = some_attack(network, x, labels, **options)
    assert result.success.float().mean() >= 0.8
    assert_on_grid(result.adversarial, lower, upper, levels)
    assert (network(result.adversarial).argmax(1) != labels)[result.success].all()


def test_values_outside_a_mask_stay_off_the_grid(some_attack):
    x, labels = images(256)
    x = (x + 0.3 / 255).clamp(max=1.0)
    labels = NETWORK(x).argmax(1)
    mask = torch.arange(N) % 2 > 0
    result = some_attack(NETWORK, x, labels, mask=mask, levels=64, max_evaluations=40)
    assert result.success.any()
    assert torch.equal(result.adversarial[:, ~mask], x[:, ~mask])
    assert_on_grid(result.adversarial[result.success][:, mask], 0.0, 1.0, 64)


def test_boxes_of_single_values_bound_the_levels(some_attack):
    x, labels = images(256)
    low, high = (x - 0.4).clamp(min=0), (x + 0.41).clamp(max=1)
    result = some_attack(NETWORK, x, labels, lower=low, upper=high, levels=256, max_evaluations=40)
    assert result.success.any()
    assert ((result.adversarial >= low) & (result.adversarial <= high)).all()
    assert_on_grid(result.adversarial[result.success], 0.0, 1.0, 256)


def test_no_answer_depends_on_the_batch(some_attack):
    x, labels = images(16)
    options = {"levels": 16, "max_evaluations": 20}
    whole = some_attack(NETWORK, x, labels, **options)
    some = some_attack(NETWORK, x[[7, 2, 4]], labels[[7, 2, 4]], tile=2, **options)
    assert torch.equal(whole.adversarial[[7, 2, 4]], some.adversarial)
    assert torch.equal(whole.forwards[[7, 2, 4]], some.forwards)


def test_confidence_survives_rounding(some_attack):
    x, labels = images(256)
    result = some_attack(NETWORK, x, labels, kappa=0.3, levels=256, max_evaluations=60)
    assert result.success.float().mean() >= 0.8
    logits = NETWORK(result.adversarial)
    own = logits.gather(1, labels[:, None])[:, 0]
    rival = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    assert (rival - own >= 0.3)[result.success].all()


def test_two_levels_of_a_linear_network(some_attack):
    # Corners only: the values that count most per unit of distance are flipped.
    network = LinearSoftmax.random(2, 12, dtype=torch.float64).rowwise()
    x = torch.tensor([[0.0, 1.0] * 6], dtype=torch.float64)
    labels = network(x).argmax(1)
    result = some_attack(network, x, labels, levels=2, max_evaluations=60)
    assert ((result.adversarial == 0) | (result.adversarial == 1)).all()
    assert result.success.all()


def test_rounding_keeps_a_linear_margin_at_nearly_the_least_distance():
    """Against all choices between a value's nearest level and the next one that gains margin."""
    n, rows, step = 9, 30, 1 / 7
    x0 = torch.randint(1, 7, (rows, n)).double() * step
    x = (x0 + 0.1 * torch.randn(rows, n, dtype=torch.float64)).clamp(0, 1)
    g = torch.randn(rows, n, dtype=torch.float64)
    box = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    rounding = Rounding(x, x0, *box, Grid(0.0, step))
    rounding.gradient = g
    rounding.need = torch.rand(rows, dtype=torch.float64) * 0.3
    found = rounding.points()
    nearest = (x / step).round().clamp(0, 7)
    further = (nearest - torch.sign(g)).clamp(0, 7)
    choices = torch.tensor(list(product([False, True], repeat=n)))[:, None]
    points = torch.where(choices, further, nearest) * step
    holds = (g * (points - x)).sum(2) <= -rounding.need
    squares = (points - x0).square().sum(2)
    least = torch.where(holds, squares, torch.inf).amin(0)
    possible = least.isfinite()
    assert possible.sum() >= 20
    assert ((g * (found - x)).sum(1) <= -rounding.need + 1e-12)[possible].all()
    # Taken in order of cost over gain, a choice costs at most one value's move more than the best.
    one = ((further * step - x0).square() - (nearest * step - x0).square()).amax(1)
    assert ((found - x0).square().sum(1) <= least + one + 1e-12)[possible].all()

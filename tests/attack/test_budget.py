"""What an image may cost, and that a larger budget only adds to a run."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from problems import sigmoid_network

from advkit.attack import AttackStatus, lbfgs
from advkit.attack.lbfgs import METHODS

N, B = 30, 8
BUDGETS = (20, 35, 50, 80, 120, 200)


def problem(seed=0, images=B):
    network = sigmoid_network(N, 16, 5, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(images, N, dtype=torch.float64, generator=generator)
    return network, x, network(x).argmax(1)


class Counting:
    """Count the images that pass forward and backward."""

    def __init__(self, network):
        self.network, self.forwards, self.backwards = network, 0, 0

    def __call__(self, x):
        self.forwards += len(x)
        logits = self.network(x)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient):
        self.backwards += len(gradient)


def run(attack, problem, budget, **options):
    network, x, labels = problem
    counting = Counting(network)
    result = attack(counting, x, labels, max_evaluations=budget, **options)
    assert counting.forwards == result.forwards.sum()
    assert counting.backwards == result.backwards.sum()
    assert (result.forwards + result.backwards <= 2 * budget).all()
    return result


def reached(result):
    return torch.where(result.success, result.distance, torch.inf)


def assert_never_longer(results):
    distances = [reached(result) for result in results]
    for smaller, larger in pairwise(distances):
        assert (larger <= smaller).all()
    assert (distances[-1] < distances[0]).any()


@pytest.mark.parametrize("norm", METHODS["augmented"][0])
def test_a_larger_budget_is_never_worse(norm):
    def attack(*args, **options):
        return lbfgs(*args, norm=norm, **options)

    results = [run(attack, problem(), budget) for budget in BUDGETS]
    assert all(result.success.all() for result in results)
    # Most of the way is gone with the first.
    assert (results[0].distance / results[-1].distance).median() <= 1.2
    assert_never_longer(results)


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("norm", METHODS["augmented"][0])
def test_nor_is_a_small_one_that_ends_in_the_midst_of_a_leg(norm, seed):
    def attack(*args, **options):
        return lbfgs(*args, norm=norm, **options)

    whole = problem(seed, images=60)
    assert_never_longer([run(attack, whole, budget) for budget in range(3, 15)])


def test_the_penalty_method_is_never_much_worse():
    results = [
        run(lbfgs, problem(), budget, method="penalty", norm="l2sq") for budget in (20, 50, 100)
    ]
    assert_never_longer(results)


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("budget", [2, 3, 5, 13])
def test_small_budgets_are_kept(budget, targeted, attack):
    network, x, labels = problem()
    given = (labels + 1) % 5 if targeted else labels
    result = run(attack, (network, x, given), budget, targeted=targeted)
    if budget == 2:
        assert (result.status == AttackStatus.NOT_FOUND).all()
    if budget == 13 and not targeted:
        assert result.success.float().mean() >= 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"levels": 8},
        {"stop_distance": 0.3},
        {"mask": torch.arange(N) < N // 2},
        {"kappa": 0.5},
        {"tile": 5},
        {"loss": "dlr"},
        {"lower": torch.zeros(B, N).double(), "upper": torch.ones(N).double()},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("budget", [6, 25])
def test_budgets_are_kept_whatever_else_is_asked_for(budget, options, some_attack):
    run(some_attack, problem(), budget, **options)


def test_levels_keep_the_budget_where_the_end_of_the_search_is_near(some_attack):
    for budget in (7, 9, 11, 16, 17, 18):
        run(some_attack, problem(), budget, levels=16)


def test_already_adversarial_images_cost_one_evaluation(some_attack):
    network, x, labels = problem()
    result = run(some_attack, (network, x, (labels + 1) % 5), 30)
    assert (result.status == AttackStatus.ALREADY_ADVERSARIAL).all()
    assert (result.forwards == 1).all()

"""How the attack on an image may end, and that nothing but a verified image is called a success."""

from __future__ import annotations

import pytest
import torch
from problems import LinearSoftmax
from torch import nn

from advkit.attack import AttackStatus, lbfgs
from advkit.attack.lbfgs import METHODS

N = 12


def linear(classes=3, seed=0):
    return LinearSoftmax.random(classes, N, seed=seed).module()


def images(count=6, seed=0):
    return torch.rand(count, N, generator=torch.Generator().manual_seed(seed))


def assert_original(result, x, rows=slice(None)):
    """Check that images come back as they were, with nothing claimed of them."""
    assert torch.equal(result.adversarial[rows], x[rows])
    assert (result.distance[rows] == 0).all()
    assert (result.rms[rows] == 0).all()
    assert result.c[rows].isnan().all()


@pytest.mark.parametrize("targeted", [False, True], ids=["wrong-label", "target-is-predicted"])
def test_already_adversarial(targeted, attack):
    network, x = linear(), images()
    labels = network(x).argmax(1)
    result = attack(network, x, labels if targeted else (labels + 1) % 3, targeted)
    assert (result.status == AttackStatus.ALREADY_ADVERSARIAL).all()
    assert result.success.all()
    assert_original(result, x)
    assert result.forwards.tolist() == [1] * 6
    assert (result.backwards <= 1).all()


def test_already_adversarial_images_do_not_disturb_the_others(attack):
    network, x = LinearSoftmax.random(3, N).rowwise(), images()
    labels = network(x).argmax(1)
    some = labels.clone()
    some[[1, 4]] = (labels[[1, 4]] + 1) % 3
    result = attack(network, x, some, max_evaluations=60)
    found, already = AttackStatus.FOUND, AttackStatus.ALREADY_ADVERSARIAL
    assert result.status.tolist() == [found, already, found, found, already, found]
    assert_original(result, x, [1, 4])
    others = [0, 2, 3, 5]
    alone = attack(network, x[others], labels[others], max_evaluations=60)
    assert torch.equal(result.adversarial[others], alone.adversarial)


def test_already_adversarial_means_with_confidence(attack):
    network, x = linear(), images()
    logits = network(x).detach()
    margin = logits.topk(2).values.diff().abs()[:, 0]
    result = attack(network, x, logits.argmax(1), True, kappa=float(margin.median()))
    already = result.status == AttackStatus.ALREADY_ADVERSARIAL
    assert torch.equal(already, margin >= margin.median())
    assert (result.distance[~already & result.success] > 0).all()


def test_a_tie_is_not_adversarial(attack):
    # Both logits are the same number, bit by bit, as long as x is what it was.
    def tied(x):
        r = (x - 0.5).sum(1)
        return torch.stack([r + 1, -r + 1], 1)

    x = torch.full((1, 4), 0.5)
    for label in (0, 1):
        result = attack(tied, x, torch.tensor([label]), max_evaluations=40)
        assert result.status.tolist() == [AttackStatus.FOUND]
        assert result.distance > 0


def unreachable():
    """Return a network with a class that is never chosen, whose logit still has a gradient."""
    network = linear()
    last = nn.Linear(3, 4)
    with torch.no_grad():
        last.weight.copy_(torch.cat([torch.eye(3), 0.01 * torch.ones(1, 3)]))
        last.bias.copy_(torch.tensor([0.0, 0, 0, -100]))
    return nn.Sequential(network, last)


@pytest.mark.parametrize(
    ("method", "norm", "loss"),
    [(m, norm, loss) for m, row in METHODS.items() for norm in row[0] for loss in row[1]],
)
def test_a_target_out_of_reach(method, norm, loss):
    x = images()
    targets = torch.full((6,), 3)
    options = {"method": method, "norm": norm, "loss": loss, "max_evaluations": 40}
    result = lbfgs(unreachable(), x, targets, True, **options)
    assert (result.status == AttackStatus.NOT_FOUND).all()
    assert not result.success.any()
    assert_original(result, x)
    assert (result.forwards + result.backwards <= 80).all()


def test_a_network_without_gradient(attack):
    x = images()
    result = attack(lambda v: 0 * linear()(v) + torch.tensor([1.0, 0, 0]), x, torch.zeros(6).long())
    assert (result.status == AttackStatus.NOT_FOUND).all()
    assert_original(result, x)
    assert (result.forwards + result.backwards <= 400).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_network_that_is_broken_on_some_images(bad, attack):
    network, x = linear(), images()
    labels = network(x).argmax(1)
    x[[0, 3], 0] = 1.0  # the mark of the images to break
    x[[1, 2, 4, 5], 0] = 0.5
    labels = network(x).argmax(1)

    def broken(v):
        return torch.where(v[:, :1] == 1.0, bad * torch.ones(3), network(v))

    result = attack(broken, x, labels)
    assert result.status[[0, 3]].tolist() == [AttackStatus.NON_FINITE] * 2
    assert not result.success[[0, 3]].any()
    assert_original(result, x, [0, 3])
    assert result.forwards[[0, 3]].tolist() == [1, 1]
    assert result.status[[1, 2, 4, 5]].tolist() == [AttackStatus.FOUND] * 4


def test_a_gradient_that_is_not_finite(attack):
    x = images()
    # sqrt has an infinite slope at 0.
    result = attack(
        lambda v: linear()(v) + (0 * v.sum(1, keepdim=True)).sqrt(), x, torch.ones(6).long()
    )
    assert not result.success[result.status == AttackStatus.NON_FINITE].any()
    assert (result.status != AttackStatus.FOUND).all()
    assert (result.adversarial == x).all()


def test_nan_away_from_the_images_does_not_spoil_the_search(attack):
    network, x = linear(), images()
    labels = network(x).argmax(1)
    free = attack(network, x, labels, max_evaluations=80)
    near = 1.5 * float(free.distance.max())
    p = {"l1": 1, "linf": torch.inf}.get(attack.keywords["norm"], 2)

    met = []

    def cliff(v):
        far = (v[:, None] - x).norm(p, dim=2).amin(1) > near
        met.append(bool(far.any()))
        return torch.where(far[:, None], torch.nan, network(v))

    result = attack(cliff, x, labels, max_evaluations=80)
    assert any(met)
    assert result.success.all()
    assert (network(result.adversarial).argmax(1) != labels).all()
    ratio = result.distance / free.distance
    # The penalty's unsquared norms have kinks, where each path ends somewhat elsewhere.
    rough = attack.keywords["method"] == "penalty" and attack.keywords["norm"] != "l2sq"
    assert (ratio.median() - 1).abs() <= 0.05
    assert ratio.max() <= (1.5 if rough else 1.05)


@pytest.mark.parametrize("budget", [2, 3, 5, 20])
def test_the_budget_is_never_exceeded(budget, attack):
    network, x = linear(), images()
    labels = network(x).argmax(1)
    rows = []

    def counted(v):
        rows.append(len(v))
        return network(v)

    result = attack(counted, x, labels, max_evaluations=budget)
    assert (result.forwards + result.backwards <= 2 * budget).all()
    assert sum(rows) == result.forwards.sum()
    if budget == 2:
        assert (result.status == AttackStatus.NOT_FOUND).all()
    if budget == 20:
        assert result.success.all()


class Fickle(nn.Module):
    """A network that takes back what it said during the search."""

    def __init__(self, rows):
        super().__init__()
        self.network, self.rows = linear(), rows

    def forward(self, x):
        logits = self.network(x)
        if torch.is_grad_enabled():
            return logits
        again = torch.zeros_like(logits)
        again[:, 0] = 1.0
        marked = (
            (x[:, :1] < 0.5) if self.rows == "some" else torch.ones(len(x), 1, dtype=torch.bool)
        )
        return torch.where(marked, again, logits)


@pytest.mark.parametrize("rows", ["all", "some"])
def test_what_does_not_stand_up_to_a_second_look_is_no_success(rows, attack):
    model = Fickle(rows)
    x = images(20)
    x = x[model.network(x).argmax(1) == 0]
    labels = torch.zeros(len(x), dtype=torch.int64)
    result = attack(model, x, labels)
    with torch.no_grad():
        assert torch.equal(result.success, model(result.adversarial).argmax(1) != 0)
    assert not result.success.all()
    assert result.success.any() == (rows == "some")
    lost = ~result.success
    assert (result.status[lost] == AttackStatus.NOT_FOUND).all()
    assert_original(result, x, lost)
    assert (result.forwards > result.backwards).all()


def test_the_second_look_is_in_other_batches(attack):
    network, x = linear(), images()
    labels = network(x).argmax(1)
    batches = {True: [], False: []}

    def watched(v):
        batches[torch.is_grad_enabled()].append(v.detach().clone())
        return network(v)

    result = attack(watched, x, labels, tile=3, max_evaluations=40)
    assert result.success.all()
    again = torch.cat(batches[False])
    assert len(again) == 6
    # Every answer is looked at once, and not in the order of the search.
    assert not torch.equal(again[:3], result.adversarial[:3])
    for image in result.adversarial:
        assert (again == image).all(1).sum() == 1

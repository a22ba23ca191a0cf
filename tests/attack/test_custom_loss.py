"""Losses that the user writes, and the difference-of-logits ratio."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from problems import LinearSoftmax, sigmoid_network
from torch import nn

from advkit.attack import lbfgs
from advkit.losses import dlr

N, B = 30, 10
NETWORK = sigmoid_network(N, 16, 5)
X = torch.rand(B, N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = NETWORK(X).argmax(1)


def margin(logits, labels):
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
def test_the_margin_by_hand_is_as_good_as_the_margin(targeted, attack):
    given = (LABELS + 1) % 5 if targeted else LABELS
    sign = -1 if targeted else 1
    options = {"max_evaluations": 50}
    # The penalty method's own margin ends where the network is fooled; a constraint must not.
    least = 0.0 if attack.keywords["method"] == "penalty" else -torch.inf

    def loss(logits, labels):
        return (sign * margin(logits, labels)).clamp(min=least)

    mine = attack(NETWORK, X, given, targeted, loss=loss, **options)
    theirs = attack(NETWORK, X, given, targeted, loss="margin", **options)
    both = mine.success & theirs.success
    assert both.float().mean() >= 0.7  # targets in L1 by the penalty method; else nearly all
    ratio = (mine.distance / theirs.distance)[both]
    # The margin has legs towards single classes, and smooth ones, which the user's has not.
    # In L1 both end at corners that they come upon by chance: no worse than the margin, only.
    if attack.keywords["norm"] == "l1":
        assert ratio.median() <= 1.1
    else:
        assert (ratio.median() - 1).abs() <= 0.03


def test_a_module_or_partial_may_be_the_loss(tmp_path):
    entropy = nn.CrossEntropyLoss(reduction="none")

    class Negative(nn.Module):
        def forward(self, logits, labels):
            return -entropy(logits, labels)

    result = lbfgs(NETWORK, X, LABELS, method="penalty", loss=Negative(), max_evaluations=20)
    assert result.success.any()
    assert result.settings["loss"] == "Negative"
    shifted = partial(lambda z, y, by: margin(z, y) + by, by=0.0)
    result = lbfgs(NETWORK, X, LABELS, loss=shifted, max_evaluations=20)
    assert result.success.any()
    result.save(tmp_path / "result.npz")
    assert lbfgs(NETWORK, X, LABELS, loss=margin, max_evaluations=4).settings["loss"] == "margin"


def test_it_may_answer_in_another_precision(some_attack):
    linear = LinearSoftmax.random(3, N)
    network, x = linear.rowwise(), X.float()
    labels = network(x).argmax(1)
    result = some_attack(
        network, x, labels, loss=lambda z, y: margin(z.double(), y), max_evaluations=30
    )
    assert result.success.any()
    assert result.adversarial.dtype == torch.float32


def test_it_is_called_with_autograd_on_and_the_images_it_belongs_to(some_attack):
    seen = []

    def watched(logits, labels):
        seen.append((torch.is_grad_enabled(), logits.shape, labels.dtype))
        return margin(logits, labels)

    with torch.inference_mode():
        some_attack(NETWORK, X, LABELS, loss=watched, max_evaluations=8, tile=4)
    assert all(grad and shape[1] == 5 and kind == torch.int64 for grad, shape, kind in seen)
    assert max(shape[0] for _, shape, _ in seen) == 4


PARAMETER = torch.ones((), requires_grad=True)
BAD = {
    "scalar": (lambda z, y: margin(z, y).sum(), r"loss must return one value.*\(10,\), got \(\)"),
    "mean": (nn.CrossEntropyLoss(), r"loss must return one value per image.*got \(\)"),
    "logits": (lambda z, y: z, r"loss must return one value.*got \(10, 5\)"),
    "column": (lambda z, y: margin(z, y)[:, None], r"loss must return.*got \(10, 1\)"),
    "none": (lambda z, y: None, "loss must return.*got NoneType"),
    "number": (lambda z, y: 0.5, "loss must return.*got float"),
    "list": (lambda z, y: list(margin(z, y)), "loss must return.*got list"),
    "detached": (lambda z, y: margin(z.detach(), y), "loss must be differentiable"),
    "integers": (lambda z, y: z.argmax(1), "loss must be differentiable"),
    "other": (lambda z, y: PARAMETER * torch.ones(len(y)), "loss must be differentiable"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_loss(name, some_attack):
    loss, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        some_attack(NETWORK, X, LABELS, loss=loss)


@pytest.mark.parametrize("loss", [1, ["margin"], torch.zeros(3), {"margin": 1}])
def test_what_cannot_be_called_is_no_loss(loss, some_attack):
    with pytest.raises(ValueError, match="loss must be one of"):
        some_attack(NETWORK, X, LABELS, loss=loss)


def test_a_loss_that_raises_leaves_the_network_as_it_was():
    model = nn.Sequential(nn.Dropout(), nn.Linear(N, 3)).double().train()

    def fail(logits, labels):
        raise KeyError("in the loss")

    with pytest.raises(KeyError, match="in the loss"):
        lbfgs(model, X, LABELS % 3, loss=fail)
    assert all(module.training for module in model.modules())


class TestDlr:
    def test_is_what_the_paper_says(self):
        logits = torch.randn(50, 6, dtype=torch.float64)
        labels = torch.arange(50) % 6
        leave, reach = dlr(False)(logits, labels), dlr(True)(logits, labels)
        for z, y, mine, theirs in zip(logits, labels, leave, reach, strict=True):
            first, _, third, fourth = z.sort(descending=True).values[:4]
            others = torch.cat([z[:y], z[y + 1 :]])
            assert mine == pytest.approx(float((z[y] - others.max()) / (first - third)))
            expected = (others.max() - z[y]) / (first - (third + fourth) / 2)
            assert theirs == pytest.approx(float(expected))

    @pytest.mark.parametrize("targeted", [False, True])
    def test_is_negative_where_the_network_is_fooled(self, targeted):
        logits = torch.randn(200, 5)
        labels = torch.arange(200) % 5
        hit = logits.argmax(1) == labels
        assert torch.equal(dlr(targeted)(logits, labels) < 0, hit if targeted else ~hit)

    @pytest.mark.parametrize("targeted", [False, True])
    def test_neither_shift_nor_scale_matters(self, targeted):
        logits = torch.randn(20, 5, dtype=torch.float64)
        labels = torch.arange(20) % 5
        expected = dlr(targeted)(logits, labels)
        assert torch.allclose(dlr(targeted)(1e3 * logits - 7, labels), expected)

    @pytest.mark.parametrize("targeted", [False, True])
    def test_gradient(self, targeted):
        logits = torch.randn(12, 6, dtype=torch.float64, requires_grad=True)
        labels = torch.arange(12) % 6
        assert torch.autograd.gradcheck(lambda z: dlr(targeted)(z, labels), logits)

    def test_equal_logits_are_no_division_by_zero(self):
        logits = torch.ones(2, 5, requires_grad=True)
        for targeted in (False, True):
            loss = dlr(targeted)(logits, torch.tensor([0, 3]))
            (gradient,) = torch.autograd.grad(loss.sum(), logits)
            assert loss.isfinite().all()
            assert gradient.isfinite().all()

    @pytest.mark.parametrize(("targeted", "least"), [(False, 3), (True, 4)])
    def test_needs_some_classes(self, targeted, least, some_attack):
        for classes in (2, least - 1):
            network = LinearSoftmax.random(classes, N, dtype=torch.float64).rowwise()
            message = f'loss "dlr" needs at least {least} classes, got {classes}'
            with pytest.raises(ValueError, match=message):
                some_attack(network, X, LABELS % 2, targeted, loss="dlr")
        network = LinearSoftmax.random(least, N, dtype=torch.float64).rowwise()
        labels = network(X).argmax(1)
        given = (labels + 1) % least if targeted else labels
        result = some_attack(network, X, given, targeted, loss="dlr", max_evaluations=40)
        assert result.success.float().mean() >= 0.7

    @pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
    def test_finds_about_what_the_margin_finds(self, norm):
        results = [
            lbfgs(NETWORK, X, LABELS, norm=norm, loss=loss, max_evaluations=60)
            for loss in ("margin", "dlr")
        ]
        assert torch.equal(results[0].success, results[1].success)
        ratio = results[1].distance / results[0].distance
        assert (ratio.median() - 1).abs() <= 0.05

    def test_scale_of_the_logits_does_not_matter_to_the_attack(self):
        x = X.float()
        network = LinearSoftmax.random(5, N, seed=1).rowwise()
        labels = network(x).argmax(1)
        plain = lbfgs(network, x, labels, loss="dlr", max_evaluations=50)
        large = lbfgs(lambda v: 1000 * network(v), x, labels, loss="dlr", max_evaluations=50)
        assert torch.equal(plain.success, large.success)
        assert torch.allclose(plain.distance, large.distance, rtol=5e-3)

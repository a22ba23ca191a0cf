"""The network as the solver sees it: loss, gradient, and when it counts as fooled."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from advkit.attack.objective import Objective
from advkit.losses import LOSSES

SHAPE = torch.Size([2, 3])
KAPPA = 0.3


def network(dtype=torch.float64):
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)
    return nn.Sequential(*layers).to(dtype)


def objective(model, *, loss="cross_entropy", targeted=False, kappa=KAPPA, shape=SHAPE):
    return Objective(model, shape, loss=loss, targeted=targeted, kappa=kappa, classes=1)


def expected_loss(logits, labels, loss, targeted):
    """Return the losses by their definitions, in plain torch."""
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    sign = -1 if targeted else 1
    if loss == "cross_entropy":
        p = logits.softmax(1).gather(1, labels[:, None])[:, 0]
        return -(p if targeted else 1 - p).log()
    if loss == "margin":
        return (sign * (own - others.amax(1))).clamp(min=-KAPPA)
    difference = sign * (own - (10 * others).logsumexp(1) / 10)
    return nn.functional.softplus(10 * (difference + KAPPA), threshold=100) / 10


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradient_are_those_of_autograd(loss, targeted, fast_implementation):
    model = network()
    x = torch.rand(5, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 0])
    expected = expected_loss(model(x), labels, loss, targeted)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    found = objective(model, loss=loss, targeted=targeted)(x.detach(), labels)
    assert torch.allclose(found.loss, expected.detach(), rtol=1e-12, atol=1e-14)
    assert torch.allclose(found.gradient, gradient, rtol=1e-10, atol=1e-14)
    assert found.gradient.shape == (5, 6)
    assert not found.loss.requires_grad
    assert not found.gradient.requires_grad


def constant(logits):
    """Return a network with these logits, differentiable by its input."""
    logits = torch.tensor(logits)
    return lambda x: logits + 0 * x.flatten(1).sum(1, keepdim=True)


LOGITS = [[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.25, 1.5]]


@pytest.mark.parametrize(
    ("targeted", "kappa", "fooled"),
    [
        (False, 0.0, [False, True, False, True]),
        (True, 0.0, [True, False, False, False]),
        (False, 0.5, [False, True, False, True]),
        (False, 0.75, [False, True, False, False]),
        (False, 1.0, [False, True, False, False]),
        (True, 1.0, [True, False, False, False]),
        (True, 1.5, [False, False, False, False]),
    ],
)
def test_fooled_is_a_margin_of_kappa_and_a_tie_is_not_enough(targeted, kappa, fooled):
    judge = objective(constant(LOGITS), targeted=targeted, kappa=kappa)
    x, labels = torch.rand(4, 6), torch.zeros(4, dtype=torch.int64)
    assert judge(x, labels).fooled.tolist() == fooled
    with torch.no_grad():
        again, surely, margin = judge.fooled(x, labels)
    assert again.tolist() == fooled
    assert torch.equal(surely, judge(x, labels).surely)
    assert torch.equal(margin, judge(x, labels).margin)


def test_surely_asks_for_more_than_rounding():
    eps = torch.finfo(torch.float32).eps
    steps = [0.0, 1.0, 8.0, 10_000.0]
    logits = [[100.0, 100.0 * (1 + k * eps)] for k in steps]
    found = objective(constant(logits), kappa=0.0)(torch.rand(4, 6), torch.zeros(4).long())
    assert found.fooled.tolist() == [False, True, True, True]
    assert found.surely.tolist() == [False, False, False, True]


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_a_network_without_an_answer_is_not_fooled(bad):
    judge = objective(constant([[bad, bad, bad]]), kappa=0.0)
    x, labels = torch.rand(1, 6), torch.tensor([1])
    found = judge(x, labels)
    assert not found.fooled.any()
    assert not found.surely.any()
    with torch.no_grad():
        assert not any(verdict.any() for verdict in judge.fooled(x, labels)[:2])


def test_the_network_sees_images_and_its_own_copy():
    x, shapes = torch.rand(3, 6), []

    def rude(images):
        shapes.append(images.shape)
        logits = images.flatten(1)[:, :3] * 1.0
        images.data.fill_(7.0)
        return logits

    before = x.clone()
    judge = objective(rude)
    judge(x, torch.zeros(3).long())
    with torch.no_grad():
        judge.fooled(x, torch.zeros(3).long())
    assert shapes == [(3, 2, 3), (3, 2, 3)]
    assert torch.equal(x, before)


def test_one_forward_and_one_backward_pass():
    model = network(torch.float32)
    events = []
    model.register_forward_hook(lambda *_: events.append("F"))
    model.register_full_backward_hook(lambda *_: events.append("B"))
    judge = objective(model)
    judge(torch.rand(3, 6), torch.zeros(3).long())
    assert events == ["F", "B"]
    with torch.no_grad():
        judge.fooled(torch.rand(3, 6), torch.zeros(3).long())
    assert events == ["F", "B", "F"]


def test_evaluating_restores_each_module():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    model[1][0].eval()
    before = [m.training for m in model.modules()]
    with objective(model).evaluating():
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == before

    def fail():
        with objective(model).evaluating():
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert [m.training for m in model.modules()] == before


def test_evaluating_takes_a_function():
    with objective(lambda x: x).evaluating():
        pass


def test_an_inference_mode_around_it_does_not_matter():
    model = network(torch.float32)
    x, labels = torch.rand(3, 6), torch.zeros(3).long()
    expected = objective(model)(x, labels)
    with torch.inference_mode():
        found = objective(model)(x, labels)
    assert torch.equal(found.gradient, expected.gradient)

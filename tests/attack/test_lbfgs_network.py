"""The attack leaves the network as it was found, and counts what it asks of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from advkit.attack import AttackStatus

B = 6
SHAPE = (2, 4, 4)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def trained():
    """Return a network in training mode whose statistics are not those of a fresh one."""
    model = network()
    for _ in range(5):
        model(torch.rand(32, *SHAPE))
    return model


def images():
    return torch.rand(B, *SHAPE, generator=torch.Generator().manual_seed(1))


def predicted(model, x):
    modes = [m.training for m in model.modules()]
    model.eval()
    with torch.no_grad():
        labels = model(x).argmax(1)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return labels


def snapshot(model):
    """Return everything of a network that an attack has no business to change."""
    return {
        "modes": [m.training for m in model.modules()],
        "state": {name: t.clone() for name, t in model.state_dict().items()},
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()],
    }


def assert_same(before, after):
    assert before["modes"] == after["modes"]
    assert before["requires_grad"] == after["requires_grad"]
    assert before["hooks"] == after["hooks"]
    for name, value in before["state"].items():
        assert torch.equal(value, after["state"][name]), name
    for mine, other in zip(before["grad"], after["grad"], strict=True):
        assert (mine is None) == (other is None)
        assert mine is None or torch.equal(mine, other)


def all_training(model):
    model.train()


def all_evaluating(model):
    model.eval()


def mixed(model):
    model.train()
    model[1].eval()
    model[5].eval()


def mixed_the_other_way(model):
    model.eval()
    model[3].train()


def frozen(model):
    model.requires_grad_(False)


def half_frozen(model):
    model[0].requires_grad_(False)


def with_gradients(model):
    model(torch.rand(4, *SHAPE)).sum().backward()


STATES = [
    all_training,
    all_evaluating,
    mixed,
    mixed_the_other_way,
    frozen,
    half_frozen,
    with_gradients,
]


@pytest.mark.parametrize("prepare", STATES)
def test_the_network_is_left_as_it_was_found(prepare, some_attack):
    model = trained()
    prepare(model)
    x = images()
    labels = predicted(model, x)
    before = snapshot(model)
    result = some_attack(model, x, labels, max_evaluations=20)
    assert_same(before, snapshot(model))
    assert result.success.any()
    # The answer is that of the network in evaluation mode, without dropout and batch statistics.
    expected = predicted(model, result.adversarial) != labels
    assert torch.equal(result.success, expected)


@pytest.mark.parametrize("prepare", STATES)
def test_the_mode_it_was_found_in_does_not_matter(prepare, some_attack):
    model = trained().eval()
    x = images()
    labels = predicted(model, x)
    expected = some_attack(model, x, labels, max_evaluations=20)
    prepare(model)
    result = some_attack(model, x, labels, max_evaluations=20)
    assert torch.equal(result.adversarial, expected.adversarial) or prepare is with_gradients


@pytest.mark.parametrize("call", [1, 2, 7])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_network_is_left_as_it_was_found_after_an_error(call, error, some_attack):
    model = trained()
    mixed(model)
    x = images()
    labels = predicted(model, x)
    calls = []

    def fail(module, args, output):
        calls.append(module.training)
        if len(calls) == call:
            raise error("in the network")

    model[5].register_forward_hook(fail)
    before = snapshot(model)
    with pytest.raises(error, match="in the network"):
        some_attack(model, x, labels)
    assert len(calls) == call
    assert_same(before, snapshot(model))
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_caller_may_have_switched_autograd_off(mode, attack):
    model = trained().eval()
    expected = attack(model, images(), predicted(model, images()), max_evaluations=20)
    with mode():
        x = images()
        result = attack(model, x, predicted(model, x), max_evaluations=20)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert torch.equal(result.adversarial, expected.adversarial)
    # The result is made of ordinary tensors, which autograd takes.
    assert not result.adversarial.is_inference()
    model(result.adversarial.requires_grad_()).sum().backward()


class Counter:
    """Counts as AttackBench and adv-lib do: rows through forward and full backward hooks."""

    def __init__(self, model):
        self.events = []
        model.register_forward_hook(lambda m, args, out: self.events.append(("F", len(out))))
        model.register_full_backward_hook(lambda m, gi, go: self.events.append(("B", len(go[0]))))

    def rows(self, kind):
        return sum(rows for k, rows in self.events if k == kind)


@pytest.mark.parametrize(
    ("budget", "tile"), [(2, None), (3, 1), (5, 4), (20, None), (20, 1), (20, 4), (60, None)]
)
def test_counts_are_those_of_hooks(budget, tile, attack):
    model = trained().eval()
    x = images()
    labels = predicted(model, x)
    labels[2] = (labels[2] + 1) % 3  # already adversarial
    counter = Counter(model)
    result = attack(model, x, labels, max_evaluations=budget, tile=tile)
    assert counter.rows("F") == result.forwards.sum()
    assert counter.rows("B") == result.backwards.sum()
    assert (result.forwards + result.backwards <= 2 * budget).all()
    assert (result.backwards <= result.forwards).all()
    assert (result.forwards >= 1).all()
    assert (result.forwards[2], result.status[2]) == (1, AttackStatus.ALREADY_ADVERSARIAL)
    assert all(rows for _, rows in counter.events)


def test_counts_of_each_image_are_its_own(attack):
    model = trained().eval()
    x = images()
    labels = predicted(model, x)
    counter = Counter(model)
    for b in range(B):
        counter.events.clear()
        result = attack(model, x[b : b + 1], labels[b : b + 1], max_evaluations=30)
        assert result.forwards.tolist() == [counter.rows("F")]
        assert result.backwards.tolist() == [counter.rows("B")]
        # The result's own verification needs no gradient.
        assert int(result.forwards - result.backwards) == int(result.success[0])


def test_each_backward_pass_follows_its_own_forward_pass(attack):
    model = trained().eval()
    x = images()
    labels = predicted(model, x)
    counter = Counter(model)
    attack(model, x, labels, max_evaluations=30, tile=3)
    text = "".join(kind for kind, _ in counter.events)
    assert text.startswith("FB")
    if attack.keywords["method"] == "penalty":  # forward passes alone only come at the end
        assert "FF" not in text.rstrip("F")
    for (before, rows), (kind, same) in pairwise(counter.events):
        assert kind == "F" or (before, rows) == ("F", same)


def test_a_budget_above_the_networks_own_ends_cleanly(some_attack):
    """AttackBench answers with constant logits and no gradient once its budget is spent."""
    model = trained().eval()
    x = images()
    labels = predicted(model, x)
    left = [15 * B]

    def metered(images):
        left[0] -= len(images)
        logits = model(images)
        return logits if left[0] >= 0 else 0 * logits + nn.functional.one_hot(labels[:1], 3) * 3.0

    result = some_attack(metered, x, labels, max_evaluations=60)
    assert (result.forwards + result.backwards <= 120).all()
    assert result.adversarial.isfinite().all()
    assert (result.adversarial[~result.success] == x[~result.success]).all()


def test_a_plain_function_serves(some_attack):
    model = trained().eval()
    x = images()
    labels = predicted(model, x)
    assert torch.equal(
        some_attack(lambda v: model(v), x, labels, max_evaluations=20).adversarial,
        some_attack(model, x, labels, max_evaluations=20).adversarial,
    )


def test_a_network_that_overwrites_its_input_does_not_disturb_the_solver(some_attack):
    model = trained().eval()
    x = images()
    labels = predicted(model, x)
    expected = some_attack(model, x, labels, max_evaluations=20)

    def rude(v):
        out = model(v)
        v.data.fill_(torch.nan)
        return out

    class KeepsWeightsOnly(torch.autograd.graph.saved_tensors_hooks):
        """Copy what autograd saves, so that only the solver could notice the damage."""

        def __init__(self):
            super().__init__(lambda t: t.clone(), lambda t: t)

    with KeepsWeightsOnly():
        result = some_attack(rude, x, labels, max_evaluations=20)
    assert torch.equal(result.adversarial, expected.adversarial)


def test_a_network_may_begin_with_an_operation_in_place(some_attack):
    model = trained().eval()
    x = images()
    labels = predicted(model, x)
    result = some_attack(lambda v: model(v.mul_(1.0)), x, labels, max_evaluations=20)
    assert torch.equal(
        result.adversarial, some_attack(model, x, labels, max_evaluations=20).adversarial
    )


def test_a_network_may_answer_in_another_precision(dtype, some_attack):
    model = trained().eval()
    x = images()
    labels = predicted(model, x)
    result = some_attack(lambda v: model(v).to(dtype), x, labels, max_evaluations=20)
    assert result.success.any()
    assert result.adversarial.dtype == torch.float32


def test_a_network_may_rule_classes_out_with_minus_infinity(some_attack):
    model = trained().eval()
    x = images()
    labels = predicted(model, x)
    masked = some_attack(
        lambda v: torch.cat([model(v), torch.full((len(v), 1), -torch.inf)], 1),
        x,
        labels,
        max_evaluations=20,
    )
    plain = some_attack(model, x, labels, max_evaluations=20)
    assert torch.equal(masked.success, plain.success)
    assert torch.allclose(masked.distance, plain.distance, rtol=1e-2)


def test_the_network_is_never_asked_about_no_images(some_attack):
    model = trained().eval()
    x = images()
    sizes = []
    model.register_forward_hook(lambda m, args, out: sizes.append(len(out)))
    some_attack(model, x, predicted(model, x), max_evaluations=2)  # nothing is found
    some_attack(model, x, predicted(model, x), True)  # nothing is to be done
    some_attack(model, x[:0], torch.empty(0, dtype=torch.int64))
    assert sizes
    assert 0 not in sizes

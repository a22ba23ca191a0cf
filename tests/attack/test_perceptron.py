"""Perceptrons without autograd: the digits are autograd's, and only plain ones are taken."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from advkit.attack import lbfgs
from advkit.attack.objective import Objective
from advkit.attack.perceptron import Perceptron
from advkit.losses import LOSSES

SHAPE = torch.Size([1, 6, 5])


def sigmoids():
    return [nn.Flatten(), nn.Linear(30, 17), nn.Sigmoid(), nn.Linear(17, 7)]


NETWORKS = {
    "sigmoids": sigmoids,
    "linear": lambda: [nn.Flatten(), nn.Linear(30, 4)],
    "tanh": lambda: [nn.Flatten(), nn.Linear(30, 129), nn.Tanh(), nn.Linear(129, 7)],
    "relu": lambda: [nn.Flatten(), nn.Linear(30, 9), nn.ReLU(), nn.Linear(9, 3), nn.ReLU()],
    "in place": lambda: [nn.Flatten(), nn.Linear(30, 9), nn.ReLU(inplace=True), nn.Linear(9, 3)],
    "no bias": lambda: [nn.Flatten(), nn.Linear(30, 9, bias=False), nn.Linear(9, 3, bias=False)],
    "squashed input": lambda: [nn.Tanh(), nn.Flatten(), nn.Linear(30, 3)],
    "one unit": lambda: [nn.Flatten(), nn.Linear(30, 1), nn.Sigmoid(), nn.Linear(1, 3)],
}


def network(name="sigmoids", dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(*NETWORKS[name]()).to(dtype).eval()


def evaluated(model, x, labels, loss, shape=SHAPE):
    objective = Objective(model, shape, loss=loss, targeted=True, kappa=0.3, classes=1)
    with objective.evaluating():
        return objective(x, labels)


def by_autograd(model):
    """Return the same function, which nothing can recognise."""
    return lambda x: model(x)


@pytest.fixture
def taken(monkeypatch):
    """Count the evaluations without autograd."""
    counted = []
    forward = Perceptron.forward

    def count(self, x):
        counted.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(Perceptron, "forward", count)
    return counted


@pytest.mark.parametrize("rows", [1, 63, 129])
@pytest.mark.parametrize("name", NETWORKS)
def test_digits_are_those_of_autograd(name, rows, dtype, taken):
    model = network(name, dtype)
    x, labels = torch.rand(rows, 30, dtype=dtype), torch.randint(3, (rows,))
    found = evaluated(model, x.clone(), labels, "margin")
    assert taken == [rows]
    expected = evaluated(by_autograd(model), x.clone(), labels, "margin")
    assert taken == [rows]
    for field in ("loss", "gradient", "fooled", "surely", "margin", "logits"):
        assert torch.equal(getattr(found, field), getattr(expected, field)), field
        assert not getattr(found, field).requires_grad
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("shape", [(30,), (5, 6), (2, 3, 5)])
def test_shapes_of_images(shape, taken):
    x, labels = torch.rand(5, 30), torch.arange(5)
    found = evaluated(network(), x.clone(), labels, "margin", torch.Size(shape))
    assert taken == [5]
    assert torch.equal(found.gradient, evaluated(network(), x, labels, "margin").gradient)


def squares(logits, labels):
    """Return a loss of a user's."""
    return (logits**2).sum(1) * labels


@pytest.mark.parametrize("loss", [*LOSSES, pytest.param(squares, id="squares")])
def test_every_loss(loss, taken):
    x, labels = torch.rand(5, 30), torch.arange(5)
    found = evaluated(network(), x.clone(), labels, loss)
    assert taken == [5]
    expected = evaluated(by_autograd(network()), x.clone(), labels, loss)
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(found.gradient, expected.gradient)


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


def replaced_forward(model):
    model[1].forward = lambda x: torch.zeros(len(x), 17) + x.sum()


def with_two_dtypes(model):
    model[1].to(torch.float64)


class OwnTensor(torch.Tensor):
    pass


def with_own_tensor(model):
    model[1].weight = nn.Parameter(model[1].weight.detach().as_subclass(OwnTensor))


def sparse(model):
    model[1].weight = nn.Parameter(model[1].weight.detach().to_sparse())


def in_training(model):
    model[2].train()


CHANGES = {
    "a forward hook": lambda model: model[1].register_forward_hook(lambda *_: None),
    "a hook of the whole": lambda model: model.register_forward_hook(lambda *_: None),
    "a hook before": lambda model: model[2].register_forward_pre_hook(lambda *_: None),
    "a backward hook": lambda model: model[3].register_full_backward_hook(lambda *_: None),
    "a backward hook before": lambda model: model[3].register_full_backward_pre_hook(
        lambda *_: None
    ),
    "a parametrisation": lambda model: parametrizations.weight_norm(model[1]),
    "forward replaced": replaced_forward,
    "compiled": lambda model: model.compile(),
    "a layer compiled": lambda model: model[1].compile(),
    "training": in_training,
    "two dtypes": with_two_dtypes,
    "a tensor of the user's": with_own_tensor,
    "sparse": sparse,
    "a subclass": lambda model: model.append(OwnLinear(7, 7).eval()),
    "another layer": lambda model: model.append(nn.Softplus().eval()),
    "nested": lambda model: model.append(nn.Sequential().eval()),
    "other widths": lambda model: model.append(nn.Linear(8, 3).eval()),
    "another flattening": lambda model: model.append(nn.Flatten(0).eval()),
}


def test_the_plain_network_is_recognised():
    assert Perceptron.recognised(network(), SHAPE) is not None


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_plain_is_left_to_autograd(change):
    model = network()
    CHANGES[change](model)
    assert Perceptron.recognised(model, SHAPE) is None


def test_other_callables_are_left_to_autograd():
    class OwnSequential(nn.Sequential):
        pass

    assert Perceptron.recognised(OwnSequential(*sigmoids()).eval(), SHAPE) is None
    assert Perceptron.recognised(by_autograd(network()), SHAPE) is None
    assert Perceptron.recognised(nn.Sequential(nn.Flatten()).eval(), SHAPE) is None
    assert Perceptron.recognised(nn.Sequential(nn.Linear(5, 3)).eval(), SHAPE) is None


def test_autocast_and_global_hooks_are_left_to_autograd():
    with torch.autocast("cpu", torch.bfloat16):
        assert Perceptron.recognised(network(), SHAPE) is None
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert Perceptron.recognised(network(), SHAPE) is None
    finally:
        handle.remove()
    assert Perceptron.recognised(network(), SHAPE) is not None


def test_images_of_another_dtype_are_left_to_autograd(taken):
    model = network(dtype=torch.float32)
    with pytest.raises(RuntimeError, match="dtype"):  # torch's own error
        evaluated(model, torch.rand(5, 30, dtype=torch.float64), torch.arange(5), "margin")
    assert taken == []


@pytest.mark.parametrize("method", ["augmented", "penalty"])
def test_attacks_have_the_same_digits(method, taken):
    model = network()
    torch.manual_seed(1)
    x = torch.rand(20, *SHAPE)
    labels = model(x).argmax(1)
    found = lbfgs(model, x, labels, method=method, max_evaluations=40)
    count = len(taken)
    assert count > 20
    expected = lbfgs(by_autograd(model), x, labels, method=method, max_evaluations=40)
    assert len(taken) == count
    assert torch.equal(found.adversarial, expected.adversarial)
    assert torch.equal(found.forwards, expected.forwards)


def test_a_network_that_is_being_trained_is_recognised_and_left_as_it_was(taken):
    model = network().train()
    lbfgs(model, torch.rand(3, *SHAPE), torch.arange(3), max_evaluations=20)
    assert taken
    assert all(layer.training for layer in model.modules())

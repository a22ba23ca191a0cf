import pytest
import torch
from torch import nn

from advkit.models import weight_decay


@pytest.fixture
def model():
    """Two layers of 3 and 2 units, weights 1..6 and 1..6, biases that must not count."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(1.0, 7).view(3, 2))
        model[2].weight.copy_(torch.arange(1.0, 7).view(2, 3))
        for layer in (model[0], model[2]):
            layer.bias.fill_(100)
    return model


def test_value_by_hand(model):
    # 1 + 4 + 9 + 16 + 25 + 36 = 91; 0.3 * 91 / 3 + 0.04 * 91 / 2 = 9.1 + 1.82
    assert weight_decay(model, (0.3, 0.04)).item() == pytest.approx(10.92, rel=1e-6)


def test_gradient_by_hand(model):
    weight_decay(model, (0.3, 0.04)).backward()
    torch.testing.assert_close(model[0].weight.grad, 2 * 0.3 / 3 * model[0].weight.detach())
    torch.testing.assert_close(model[2].weight.grad, 2 * 0.04 / 2 * model[2].weight.detach())
    assert model[0].bias.grad is None


def test_network_without_layers():
    assert weight_decay(nn.Flatten(), ()).item() == 0


@pytest.mark.parametrize("decay", [(), (1.0,), (1.0, 1.0, 1.0)], ids=len)
def test_one_number_per_layer(model, decay):
    with pytest.raises(ValueError, match="one number for each of the 2 linear layers"):
        weight_decay(model, decay)


@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf")])
def test_numbers_are_finite_and_not_negative(model, value):
    with pytest.raises(ValueError, match="decay: expected finite numbers >= 0"):
        weight_decay(model, (0.0, value))

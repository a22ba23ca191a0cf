import math

import pytest
import torch
from torch import nn

from advkit.models import build, names
from advkit.models.mlp import architecture


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("fc10", [784, 10]),
        ("fc10-1e-2", [784, 10]),
        ("fc100-100-10", [784, 100, 100, 10]),
        ("fc123-456-10", [784, 123, 456, 10]),
        ("fc200-200-10", [784, 200, 200, 10]),
        ("ae400-10", [784, 400, 10]),
    ],
)
def test_layers(name, sizes):
    model = build(name)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    assert [linear[0].in_features, *(layer.out_features for layer in linear)] == sizes
    kinds = [nn.Flatten, nn.Linear, *[nn.Sigmoid, nn.Linear] * (len(sizes) - 2)]
    assert [type(layer) for layer in model] == kinds
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize(
    ("name", "decay"),
    [
        ("fc10", (1e-4,)),
        ("fc10-1e-4", (1e-4,)),
        ("fc10-1e-2", (1e-2,)),
        ("fc10-1", (1.0,)),
        ("fc10-0.03", (0.03,)),
        ("fc10-0", (0.0,)),
        ("fc100-100-10", (1e-5, 1e-5, 1e-6)),
        ("fc123-456-10", (1e-5, 1e-5, 1e-6)),
        ("fc200-200-10", (1e-5, 1e-5, 1e-6)),
        ("ae400-10", (0.0, 1e-6)),
    ],
)
def test_decay(name, decay):
    assert architecture(name).decay == decay


@pytest.mark.parametrize("name", names())
def test_every_name_builds_with_one_decay_per_layer(name):
    layers = [layer for layer in build(name) if isinstance(layer, nn.Linear)]
    assert len(architecture(name).decay) == len(layers)


@pytest.mark.parametrize(
    "name", ["", "fc10-", "fc10--1", "fc10-inf", "fc10-1e999", "fc100", "FC10"]
)
def test_unknown_name_lists_the_known(name):
    with pytest.raises(ValueError, match=r"^name: no network .*fc100-100-10.*fc10-<lambda>"):
        build(name)


def test_other_sizes_and_type():
    model = build("fc100-100-10", inputs=12, classes=2, dtype=torch.float64)
    assert model(torch.rand(5, 3, 2, 2, dtype=torch.float64)).shape == (5, 2)


@pytest.mark.parametrize("size", ["inputs", "classes"])
def test_sizes_are_positive(size):
    with pytest.raises(ValueError, match=f"{size}=0"):
        build("fc10", **{size: 0})


def test_weights_follow_from_the_seed():
    first, again, other = (build("fc100-100-10", seed=seed) for seed in (7, 7, 8))
    for name, values in first.state_dict().items():
        assert torch.equal(values, again.state_dict()[name])
    assert not torch.equal(first[1].weight, other[1].weight)


def test_weights_fill_their_range():
    model = build("fc100-100-10")
    for layer, gain in ((model[1], 4), (model[3], 4), (model[5], 1)):
        bound = gain * math.sqrt(6 / (layer.in_features + layer.out_features))
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()


def test_global_state_is_neither_read_nor_changed():
    expected = build("fc10").state_dict()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = build("fc10")
    finally:
        torch.set_default_dtype(default)
    assert torch.equal(torch.get_rng_state(), before)
    assert model[1].weight.dtype == torch.float32
    assert torch.equal(model[1].weight, expected["1.weight"])

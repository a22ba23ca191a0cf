import numpy as np
import pytest
import torch
from torch import nn

from advkit.models import Autoencoder, build, error_rate, trained
from advkit.models.autoencoder import learn_features, sparse_loss

QUICK = Autoencoder(steps=60, batch_size=45)


def test_loss_by_numpy(dataset):
    encoder, decoder = nn.Linear(784, 5).double(), nn.Linear(5, 784).double()
    settings = Autoencoder(sparsity=0.2, sparsity_weight=1.5, decay=0.01)
    x = dataset.images.flatten(1).double()
    found = float(sparse_loss(x, encoder, decoder, settings).detach())

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    w, b = encoder.weight.detach().numpy(), encoder.bias.detach().numpy()
    v, a = decoder.weight.detach().numpy(), decoder.bias.detach().numpy()
    h = sigmoid(x.numpy() @ w.T + b)
    back = sigmoid(h @ v.T + a)
    mean = h.mean(0)
    divergence = 0.2 * np.log(0.2 / mean) + 0.8 * np.log(0.8 / (1 - mean))
    expected = ((back - x.numpy()) ** 2).sum(1).mean() / 2
    expected += 0.01 / 2 * ((w**2).sum() + (v**2).sum()) + 1.5 * divergence.sum()
    assert found == pytest.approx(expected, rel=1e-10)


def test_units_become_sparse_and_reconstruct(dataset):
    encoder = build("ae400-10")[1]
    settings = Autoencoder(steps=150, batch_size=90)
    learn_features(dataset.images, encoder, settings)
    with torch.no_grad():
        mean = torch.sigmoid(encoder(dataset.images.flatten(1))).mean(0)
    assert abs(float(mean.mean()) - settings.sparsity) < 0.05


def test_first_layer_is_not_fine_tuned(blobs, dataset, tmp_path):
    pytest.importorskip("safetensors")
    made = trained("ae400-10", blobs, autoencoder=QUICK, cache=tmp_path)
    encoder = build("ae400-10", classes=3)[1]
    learn_features(dataset.images, encoder, QUICK)
    assert torch.equal(made.model[1].weight, encoder.weight)
    assert made.train_error == error_rate(made.model, dataset) == 0
    # The softmax on top is at its minimum.
    loss = nn.functional.cross_entropy(made.model(dataset.images), dataset.labels)
    loss = loss + 1e-6 * made.model[3].weight.square().sum() / 3
    (gradient,) = torch.autograd.grad(loss, made.model[3].weight)
    assert gradient.abs().max() < 1e-3
    assert made.recipe["autoencoder"]["steps"] == 60
    again = trained("ae400-10", blobs, autoencoder=QUICK, cache=tmp_path)
    assert torch.equal(again.model[3].weight, made.model[3].weight)


def test_same_seed_same_bits_and_no_global_state(dataset):
    before = torch.get_rng_state()
    results = []
    for seed in (0, 0, 1):
        encoder = build("ae400-10")[1]
        learn_features(dataset.images, encoder, QUICK, seed=seed)
        results.append(encoder.weight.detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "change",
    [
        {"sparsity": 0.0},
        {"sparsity_weight": -1.0},
        {"decay": float("inf")},
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_bad_settings(change):
    with pytest.raises(ValueError, match=f"^{next(iter(change))}: expected"):
        Autoencoder(**change)

import math
import sys

import pytest
import torch
from torch import nn

from advkit.data import Dataset
from advkit.models import build, error_rate, train

FAST = {"decay": (1e-4,), "epochs": 5, "batch_size": 20, "learning_rate": 1e-2}


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_learns(dataset, test_dataset):
    model = build("fc10", classes=3)
    before = error_rate(model, test_dataset)
    result = train(model, dataset, test=test_dataset, **FAST)
    assert before > 0.3
    assert result.train_error == error_rate(model, dataset) == 0
    assert result.test_error == error_rate(model, test_dataset) == 0
    assert 0 < result.loss < math.log(3)
    assert not any(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_without_test_images(dataset):
    assert train(build("fc10", classes=3), dataset, **FAST).test_error is None


def test_same_seed_same_bits(dataset):
    def run(seed, threads=1):
        model = build("fc100-100-10", classes=3)
        train(model, dataset, **{**FAST, "decay": (1e-5, 1e-5, 1e-6)}, seed=seed, threads=threads)
        return weights(model)

    first = run(0)
    assert torch.equal(run(0), first)
    assert not torch.equal(run(1), first)


def test_bits_do_not_depend_on_the_callers_threads(dataset):
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            model = build("fc10", classes=3)
            train(model, dataset, **FAST)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        results.append(weights(model))
    assert torch.equal(*results)


def test_optimum_has_zero_gradient(dataset):
    # Softmax regression is convex, so enough training must reach the minimum of the whole loss:
    # the mean cross-entropy plus 0.1 * sum(w^2) / 3.
    model = build("fc10", classes=3)
    train(model, dataset, decay=(0.1,), epochs=300, batch_size=90, learning_rate=3e-2)
    w = model[1].weight
    loss = nn.functional.cross_entropy(model(dataset.images), dataset.labels)
    (loss + 0.1 * w.square().sum() / 3).backward()
    assert w.grad.abs().max() < 1e-4
    assert model[1].bias.grad.abs().max() < 1e-4


def test_weights_of_unseen_pixels_end_at_exactly_zero(dataset):
    # Weight decay alone moves them, by a factor each step; they must not end as denormal numbers.
    model = build("fc10", classes=3)
    train(model, dataset, decay=(1.0,), epochs=300, batch_size=30, learning_rate=1e-2)
    unseen = dataset.images.amax(dim=(0, 1)).flatten() == 0
    values = model[1].weight[:, unseen]
    assert (values == 0).any()
    assert values[values != 0].abs().min() >= 1e-20


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode], ids=lambda mode: mode.__name__
)
def test_under_the_callers_gradient_mode(dataset, mode):
    expected = build("fc10", classes=3)
    train(expected, dataset, **FAST)
    model = build("fc10", classes=3)
    with mode():
        train(model, dataset, **FAST)
        assert not torch.is_grad_enabled()
    assert torch.equal(weights(model), weights(expected))


def test_global_random_state_is_neither_read_nor_changed(dataset):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        model = build("fc10", classes=3)
        train(model, dataset, **FAST)
        assert torch.equal(torch.get_rng_state(), before)
        results.append(weights(model))
    assert torch.equal(*results)


def test_follows_the_networks_type(dataset):
    model = build("fc10", classes=3, dtype=torch.float64)
    assert train(model, dataset, **FAST).train_error == 0
    assert model[1].weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"threads": 0}, "threads: expected at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected a finite number > 0, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate: expected a finite number > 0, got nan"),
        ({"decay": (1.0, 1.0)}, "decay: expected one number for each of the 1 linear layers"),
    ],
    ids=str,
)
def test_bad_arguments(dataset, change, message):
    model = build("fc10", classes=3)
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        train(model, dataset, **{**FAST, **change})
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("argument", ["dataset", "test"])
def test_empty_data(dataset, argument):
    empty = Dataset(dataset.images[:0], dataset.labels[:0], "none", "train", dataset.classes)
    arguments = {"dataset": dataset, "test": dataset, argument: empty}
    with pytest.raises(ValueError, match=f"{argument}: expected at least one image"):
        train(build("fc10", classes=3), arguments["dataset"], test=arguments["test"], **FAST)


def test_too_few_outputs(dataset):
    with pytest.raises(ValueError, match=r"K >= 3, the number of classes, got \(20, 2\)"):
        train(build("fc10", classes=2), dataset, **FAST)


def test_divergence_is_told(dataset):
    dataset.images[0] = math.nan
    with pytest.raises(FloatingPointError, match="loss of nan in epoch 1; lower learning_rate"):
        train(build("fc10", classes=3), dataset, **FAST)


def test_error_rate_by_hand():
    images = torch.eye(4).view(4, 1, 2, 2)  # a Flatten alone predicts the place of the one
    dataset = Dataset(images, torch.tensor([0, 1, 3, 3]), "toy", "test", tuple("abcd"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False), nn.Dropout(0.9))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(4))
    model[2].eval()
    for batch_size in (1, 3, 4, 5):
        assert error_rate(model, dataset, batch_size=batch_size) == 0.25
    assert [module.training for module in model.modules()] == [True, True, True, False]


def test_error_rate_of_nothing(dataset):
    empty = Dataset(dataset.images[:0], dataset.labels[:0], "none", "test", dataset.classes)
    with pytest.raises(ValueError, match="dataset: expected at least one image"):
        error_rate(build("fc10"), empty)


def test_progress_goes_to_stderr(dataset, capsys):
    pytest.importorskip("rich")
    train(build("fc10", classes=3), dataset, **FAST, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "training on blobs" in captured.err
    assert "5/5" in captured.err


def test_progress_without_rich(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r'pip install "advkit\[cli\]"'):
        train(build("fc10", classes=3), dataset, **FAST, progress=True)

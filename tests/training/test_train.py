import os

import pytest
import torch

from advkit import models
from advkit.training import Pools, robustness, train_with_pools
from advkit.training import train as module

pytest.importorskip("safetensors")

DECAY = (1e-5, 1e-5, 1e-6)
FAST = {"decay": DECAY, "epochs": 6, "batch_size": 20, "learning_rate": 1e-2}
POOLS = Pools((0, 1, 2), size=30, refresh=10, every=2)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_without_pools_it_is_the_plain_training(model, blobs):
    ours, plain = model(), model()
    result = train_with_pools(ours, blobs, test=blobs, **FAST)
    expected = models.train(plain, blobs, test=blobs, **FAST)
    torch.testing.assert_close(weights(ours), weights(plain), rtol=0, atol=1e-6)
    assert result.train_error == expected.train_error
    assert result.test_error == expected.test_error
    assert result.loss == pytest.approx(expected.loss, rel=1e-5)


def test_pools_move_the_border_away(model, blobs):
    distances = []
    for pools in (None, Pools((0,), size=60, refresh=60, every=1)):
        net = model()
        train_with_pools(net, blobs, pools=pools, **{**FAST, "epochs": 20})
        found = robustness(net, blobs.images, blobs.labels)
        distances.append(found.distortion)
    assert distances[1] > 1.03 * distances[0]


def test_every_layer_has_its_pool_and_trains_what_is_above(model, blobs, monkeypatch):
    widths, above = [], []
    original = module.Pool.add

    def recorded(self, layers, values, labels, settings):
        widths.append(values.shape[1])
        return original(self, layers, values, labels, settings)

    monkeypatch.setattr(module.Pool, "add", recorded)
    train_with_pools(model(), blobs, pools=POOLS, **{**FAST, "epochs": 2})
    # Epoch 0 is without; steps 4 of epoch 1 (3 steps an epoch) refreshes three pools.
    assert widths == [36, 100, 100]
    for layers, unmoved in (((1,), 1), ((2,), 2)):
        net = model()
        run = module._Run(
            net,
            module.cuts(net),
            blobs.images.flatten(1),
            blobs.labels,
            Pools(layers, size=20, refresh=20),
            (),
            (0.0, 0.0, 0.0),
        )
        run._refresh(run.settings)
        plain = module._Run(net, run.places, run.images, run.labels, None, (), (0.0, 0.0, 0.0))
        rows = torch.arange(20)
        extra = run._loss(rows, 0) - plain._loss(rows, 0)
        gradients = torch.autograd.grad(extra, list(net.parameters()))
        moved = [bool(gradient.abs().max() > 1e-9) for gradient in gradients[::2]]
        above.append(moved)
        assert moved == [False] * unmoved + [True] * (3 - unmoved)


def test_pools_take_turns(model, blobs):
    net = model()
    run = module._Run(
        net, module.cuts(net), blobs.images.flatten(1), blobs.labels, POOLS, (), (0.0, 0.0, 0.0)
    )
    run._refresh(POOLS)
    fed = []
    original = run._above
    run._above = lambda layer: fed.append(layer) or original(layer)
    for step in range(5):
        run._loss(torch.arange(4), step)
    assert fed == [0, 1, 2, 0, 1]


class Stop(Exception):
    """In place of an interrupt."""


@pytest.mark.parametrize("arm", [{"pools": POOLS}, {"dropout": (0.2, 0.5, 0.5)}], ids=str)
@pytest.mark.parametrize("after", [1, 4])
def test_an_interrupt_changes_nothing(model, blobs, tmp_path, monkeypatch, arm, after):
    whole = model()
    expected = train_with_pools(whole, blobs, **FAST, **arm)
    path = tmp_path / "state.safetensors"
    original = module._Run.epoch

    def until(self, epoch, *rest):
        if epoch == after:
            raise Stop
        original(self, epoch, *rest)

    monkeypatch.setattr(module._Run, "epoch", until)
    with pytest.raises(Stop):
        train_with_pools(model(), blobs, checkpoint=path, **FAST, **arm)
    assert path.exists()
    epochs = []

    def counted(self, epoch, *rest):
        epochs.append(epoch)
        original(self, epoch, *rest)

    monkeypatch.setattr(module._Run, "epoch", counted)
    net = model()
    result = train_with_pools(net, blobs, checkpoint=path, **FAST, **arm)
    assert epochs == list(range(after, 6))
    assert torch.equal(weights(net), weights(whole))
    assert result == expected
    assert os.listdir(tmp_path) == []


def test_the_state_of_another_training_is_refused(model, blobs, tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    original = module._Run.epoch

    def until(self, epoch, *rest):
        if epoch == 2:
            raise Stop
        original(self, epoch, *rest)

    monkeypatch.setattr(module._Run, "epoch", until)
    with pytest.raises(Stop):
        train_with_pools(model(), blobs, checkpoint=path, **FAST)
    for change in ({"seed": 1}, {"pools": POOLS}, {"decay": (0, 0, 0)}):
        with pytest.raises(ValueError, match=r"checkpoint: .*another training"):
            train_with_pools(model(), blobs, checkpoint=path, **{**FAST, **change})
    content = path.read_bytes()
    flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    for damaged, reason in ((b"nothing", "not readable"), (flipped, "checksum")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"checkpoint: .*cannot be used .*{reason}"):
            train_with_pools(model(), blobs, checkpoint=path, **FAST)


def test_dropout_leaves_out_that_share(model, blobs):
    net = model()
    seen = []
    net[3].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    run = module._Run(
        net, module.cuts(net), blobs.images.flatten(1), blobs.labels, None, (0.0, 0.4, 0.0), DECAY
    )
    run._forward(run.images)
    values = net[:3](run.images).detach()
    zero = seen[0] == 0
    assert 0.35 < float(zero.float().mean()) < 0.45
    torch.testing.assert_close(seen[0][~zero], values[~zero] / 0.6)


def test_global_state_is_left_alone(model, blobs):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    net = model()
    train_with_pools(net, blobs, pools=POOLS, **{**FAST, "epochs": 2})
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert not net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pools": Pools((3,))}, ValueError, "pools: the network has layers 0 to 2"),
        ({"dropout": (0.5,)}, ValueError, "dropout: expected a number in"),
        ({"dropout": (0.5, 1.0, 0.0)}, ValueError, "dropout: expected a number in"),
        ({"epochs": 0}, ValueError, "epochs: expected at least 1, got 0"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate: expected a finite number > 0"),
    ],
    ids=str,
)
def test_bad_arguments(model, blobs, change, error, message):
    with pytest.raises(error, match=message):
        train_with_pools(model(), blobs, **{**FAST, **change})

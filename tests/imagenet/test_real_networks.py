"""Networks of torchvision and timm themselves, with random weights, where these are installed."""

import json

import pytest
import torch

from advkit import imagenet
from advkit.analysis import spectrum
from advkit.cli import main


@pytest.fixture
def alexnet(tmp_path, monkeypatch):
    """Put random weights where torch.hub would put AlexNet's."""
    models = pytest.importorskip("torchvision.models")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    torch.manual_seed(0)
    model = models.alexnet().eval()
    url = models.get_model_weights("alexnet").DEFAULT.url
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(model.state_dict(), tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[-1])
    return model


def test_alexnet(alexnet):
    found = imagenet.network("torchvision:alexnet")
    x = torch.rand(2, 3, 224, 224)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = alexnet((x - mean.view(3, 1, 1)) / deviation.view(3, 1, 1))
    assert found.size == 224
    torch.testing.assert_close(found.model(x), wanted)
    assert found.head.in_features == 4096


def test_bounds_of_alexnet(alexnet):
    found = spectrum(alexnet, (3, 224, 224))
    kinds = [layer.kind for layer in found.layers]
    assert [kinds.count(kind) for kind in ("Conv2d", "MaxPool2d", "Linear")] == [5, 3, 3]
    for layer in found.layers:
        assert layer.lower <= layer.upper * (1 + 1e-6)
        if layer.kind == "Linear":
            weight = alexnet.get_submodule(layer.name).weight
            dense = float(torch.linalg.matrix_norm(weight.detach(), 2))
            assert layer.upper == pytest.approx(dense, rel=1e-3)
        if layer.kind == "MaxPool2d":  # windows of 3 with stride 2: a value is in up to 4 of them
            assert layer.upper == pytest.approx(2)


def test_figure5_on_alexnet(alexnet, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    (tmp_path / "photos").mkdir()
    random = torch.Generator().manual_seed(0)
    for place in range(2):
        pixels = torch.randint(0, 256, (240, 230, 3), generator=random, dtype=torch.uint8)
        image.fromarray(pixels.numpy()).save(tmp_path / "photos" / f"{place}.png")
    words = ["reproduce", "figure5", "--model", "torchvision:alexnet", "--quick"]
    words += ["--images", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    report = json.loads((tmp_path / "out" / "figure5.json").read_text())
    assert report["settings"]["model"] == "torchvision:alexnet"
    assert [row["fooled"] for row in report["images"]] == [True, True]
    assert all("ostrich" in row["answer"] for row in report["images"])


def test_timm(monkeypatch):
    timm = pytest.importorskip("timm")
    original = timm.create_model
    kept = []

    def create(name, pretrained):
        assert pretrained
        torch.manual_seed(0)
        kept.append(original(name, pretrained=False))
        return kept[-1]

    monkeypatch.setattr(timm, "create_model", create)
    found = imagenet.network("timm:mixer_s32_224")
    x = torch.rand(1, 3, 224, 224)
    assert found.size == 224
    torch.testing.assert_close(found.model(x), kept[0]((x - 0.5) / 0.5))

"""Figure 6 on bars: layers that no label has touched, a classifier, images that fool it."""

import json

import pytest
import torch
from torch import nn

from advkit.cli import main
from advkit.data import load
from advkit.experiments import figure6
from advkit.experiments.setting import Setting
from advkit.models import Reconstruction, build_quocnet, learn_stages
from advkit.report import figure6 as drawn


@pytest.mark.usefixtures("small")
def test_layers_are_not_fine_tuned(tmp_path):
    setting = Setting(data="mnist-5k", images=12, work=tmp_path, quick=True)
    data = load("mnist-5k", "train")
    layers, head = figure6._classifier(setting, data)
    alone = build_quocnet((1, 28, 28))
    learn_stages(data.images, alone, Reconstruction(steps=figure6._QUICK_STEPS))
    for kept, learnt in zip(layers.parameters(), alone.parameters(), strict=True):
        assert torch.equal(kept, learnt)
    again, other = figure6._classifier(setting, data)  # read back
    assert torch.equal(again[0][0].weight, layers[0][0].weight)
    assert torch.equal(other.weight, head.weight)
    answers = head(layers(data.images)).argmax(1)
    assert float((answers == (data.labels == 1)).double().mean()) > 0.95


@pytest.mark.usefixtures("small")
def test_what_is_right_is_fooled(tmp_path):
    words = ["reproduce", "figure6", "--quick", "--images", "40", "--out", str(tmp_path)]
    words += ["--data", "mnist-5k"]
    assert main(words) == 0
    report = json.loads((tmp_path / "figure6.json").read_text())
    assert [row["images"] for row in report["rows"]] == ["1", "not 1"]
    assert report["fooled, %"] >= 99
    assert sum(row["attacked"] for row in report["rows"]) > 30


def test_the_classifier_takes_features_as_they_are():
    generator = torch.Generator().manual_seed(0)
    features = 100 + 5 * torch.randn(200, 3, generator=generator)
    labels = (features[:, 0] > 100).long()
    head = figure6._regression(features, labels)
    assert isinstance(head, nn.Linear)
    assert float((head(features).argmax(1) == labels).double().mean()) > 0.97


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    x = torch.rand(3, 1, 8, 8)
    drawn(x, 1 - x, "car", tmp_path / "c.png", magnify=5, title="cars")
    assert (tmp_path / "c.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="adversarial: expected the shape of x"):
        drawn(x, x[:2], "car", tmp_path / "d.png", magnify=5)

"""Figure 6 on bars: layers that no label has touched, a classifier, images that fool it."""

import json
import shutil

import numpy as np
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
    layers, head = figure6._classifier(setting, data, torch.tensor([1]))
    alone = build_quocnet((1, 28, 28))
    learn_stages(data.images, alone, Reconstruction(steps=figure6._QUICK_STEPS))
    for kept, learnt in zip(layers.parameters(), alone.parameters(), strict=True):
        assert torch.equal(kept, learnt)
    again, other = figure6._classifier(setting, data, torch.tensor([1]))  # read back
    assert torch.equal(again[0][0].weight, layers[0][0].weight)
    assert torch.equal(other.weight, head.weight)
    answers = head(layers(data.images)).argmax(1)
    assert float((answers == (data.labels == 1)).double().mean()) > 0.95
    two = figure6._classifier(setting, data, torch.tensor([1, 4]))
    answers = two(data.images).argmax(1)
    wanted = (data.labels == 1) | (data.labels == 4)
    assert float((answers == wanted).double().mean()) > 0.95


@pytest.mark.parametrize(
    ("classes", "names", "called", "labels"),
    [
        (("plane", "automobile", "bird"), None, "car", [1]),
        (("n03594945", "n01440764", "n04285008"), None, "car", [0, 2]),
        (("T-shirt", "Trouser"), None, "Trouser", [1]),
        (("a", "b", "c"), ("c", "a"), "c or a", [0, 2]),
        (("a", "b", "c"), ("b", "b"), "b", [1]),
    ],
)
def test_what_is_told_from_the_rest(classes, names, called, labels):
    found, positive = figure6._positive(classes, names)
    assert (found, positive.tolist()) == (called, labels)


@pytest.mark.parametrize("names", [("d",), ("a", "b")], ids=["unknown", "all"])
def test_classes_that_cannot_be_told(names):
    with pytest.raises(ValueError, match=r"^class: "):
        figure6._positive(("a", "b"), names)


def test_cars_of_a_folder(tmp_path, monkeypatch, cache, capsys):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setenv("ADVKIT_CACHE", str(cache))
    monkeypatch.setattr(figure6, "_QUICK_STEPS", 4)
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 10)):
        for name, colour in (("car", 0), ("$ky^{$", 2)):
            (tmp_path / "imagenet" / split / name).mkdir(parents=True)
            for place in range(count):
                pixels = random.integers(0, 120, (24, 20, 3)).astype(np.uint8)
                pixels[..., colour] += 100
                image.fromarray(pixels).save(tmp_path / "imagenet" / split / name / f"{place}.png")
    words = ["reproduce", "figure6", "--quick", "--out", str(tmp_path / "out")]
    words += [
        "--data",
        str(tmp_path / "imagenet"),
        "--size",
        "16",
        "--stages",
        "5:2:4",
        "3:1:6:3:3",
    ]
    assert main(words) == 0
    report = json.loads((tmp_path / "out" / "figure6.json").read_text())
    assert [row["images"] for row in report["rows"]] == ["car", "not car"]
    assert sum(row["attacked"] for row in report["rows"]) > 15
    assert report["fooled, %"] >= 99
    kept = {key: report["settings"][key] for key in ("data", "folder", "size", "stages")}
    assert kept == {
        "data": "imagenet",
        "folder": "imagenet",
        "size": 16,
        "stages": "5:2:4:3:5 3:1:6:3:3",
    }
    assert "model" not in report["settings"]
    assert (tmp_path / "out" / "figure6.png").stat().st_size > 5000
    capsys.readouterr()
    assert main([*words[:-2], "9:2:4", "9:2:4", "--force"]) == 2
    assert "stages: in stage 2: field: expected at most 4" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "imagenet" / "test" / "car")
    assert main([*words, "--class", "car", "--force"]) == 2
    assert "class: all or none of the test images are of 'car'" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_a_folder_called_as_a_data_set_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist-5k" / "train").mkdir(parents=True)
    words = ["reproduce", "figure6", "--quick", "--images", "12", "--data", "mnist-5k"]
    assert main([*words, "--out", "out"]) == 0
    report = json.loads((tmp_path / "out" / "figure6.json").read_text())
    assert report["settings"]["folder"] is None


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
    head = nn.Linear(3, 2)
    figure6._regress(head, features, labels)
    assert float((head(features).argmax(1) == labels).double().mean()) > 0.97


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    x = torch.rand(3, 1, 8, 8)
    drawn(x, 1 - x, "car", tmp_path / "c.png", magnify=5, title="cars")
    assert (tmp_path / "c.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="adversarial: expected the shape of x"):
        drawn(x, x[:2], "car", tmp_path / "d.png", magnify=5)

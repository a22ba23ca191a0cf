"""Experiments at ImageNet's size, with a small network in place of a published one."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from advkit import imagenet
from advkit.analysis import Units
from advkit.cli import main
from advkit.experiments import _pictures, figure5, setting
from advkit.experiments.paper import FIGURE5

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Twelve images, of which a network has all right but the last, class 3; target: class 9."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 1000))
        with torch.no_grad():
            model[-1].weight.normal_()
            model[-1].bias.copy_(-model[-1].weight.sum(1) / 2)  # equal answers to grey
            model[-1].bias[20:] -= 50  # few classes are ever answered
    monkeypatch.setattr(
        _pictures.imagenet,
        "network",
        lambda name: imagenet.Network(name, model.eval().requires_grad_(False), 8),
    )
    monkeypatch.setattr(figure5, "_EVALUATIONS", 40)
    folder = tmp_path / "photographs"
    folder.mkdir()
    random = np.random.default_rng(0)
    for place in range(12):
        values = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{place:02d}.png")
    images = imagenet.folder(folder)
    answers = model(images.read(range(12), 8)).argmax(1).tolist()
    answers[-1] = (answers[-1] + 1) % 20
    lines = [f"{path.name} {each}" for path, each in zip(images.paths, answers, strict=True)]
    (folder / "labels.txt").write_text("\n".join(lines))
    return folder, answers


def run(name, folder, out, *more):
    return main(["reproduce", name, "--images", str(folder), "--out", str(out), *more])


def test_figure5_attacks_what_is_right(photographs, tmp_path):
    folder, answers = photographs
    out = tmp_path / "out"
    assert run("figure5", folder, out) == 0
    report = json.loads((out / "figure5.json").read_text())
    attacked = [f"{k:02d}.png" for k, each in enumerate(answers[:-1]) if each != 9]
    assert [row["image"] for row in report["images"]] == attacked
    assert report["summary"]["fooled, %"] == 100
    mean = sum(row["RMS"] for row in report["images"]) / len(attacked)
    assert report["summary"]["average distortion (RMS)"] == pytest.approx(mean)
    assert all(row["answer"].startswith("ostrich") for row in report["images"])
    assert report["settings"]["folder"] == "photographs"
    page = (out / "figure5.md").read_text()
    assert f"{FIGURE5[0]:g}" in page
    assert "has right" in page
    with open(out / "figure5.csv") as file:
        assert len(list(csv.DictReader(file))) == len(attacked)
    assert {path.name for path in out.glob("*.png")} == {"figure5.png", "figure5-magnified.png"}
    assert not (out / "work").exists()


def test_figure5_goes_on_where_it_was(photographs, tmp_path, monkeypatch, capsys):
    folder, _ = photographs
    original, calls = setting.lbfgs, []

    def second_time_interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(setting, "lbfgs", second_time_interrupted)
    assert run("figure5", folder, tmp_path / "out") == 130
    assert run("figure5", folder, tmp_path / "out") == 0
    assert len(calls) == 3
    assert "read back" in capsys.readouterr().err


def test_figure5_without_labels_takes_the_networks_answers(photographs, tmp_path):
    folder, _ = photographs
    (folder / "labels.txt").unlink()
    assert run("figure5", folder, tmp_path / "out", "--target", "7", "--quick") == 0
    report = json.loads((tmp_path / "out" / "figure5.json").read_text())
    assert report["summary"]["images"] == 3  # with --quick
    classes = imagenet.class_names()
    assert all(row["answer"] == classes[7] for row in report["images"] if row["fooled"])
    assert report["summary"]["fooled, %"] == 100
    assert "no labels are known" in report["notes"][0]


def test_nothing_to_attack(photographs, tmp_path, capsys):
    folder, _ = photographs
    for path in sorted(folder.glob("*.png"))[:-1]:
        path.unlink()
    assert run("figure5", folder, tmp_path / "out") == 2
    assert "has none right" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("table1 --model timm:mixer", "--model is for"),
        ("table1 --images {folder}", "--images DIR is for"),
        ("figure5 --images none", "none is not a folder"),
        ("figure5 --images 0", "expected an integer from 1"),
        ("table1 --images none", "--images DIR is for"),
        ("figure5 --target unicorn --images {folder}", "no class 'unicorn'"),
    ],
)
def test_wrong_words(words, message, tmp_path, one_line):
    words = words.format(folder=tmp_path).split()
    assert main(["reproduce", *words, "--out", str(tmp_path / "out")]) == 2
    assert message in one_line()


@pytest.mark.parametrize("figure", ["figure3", "figure4"])
def test_units_and_directions(figure, photographs, tmp_path):
    folder, answers = photographs
    out = tmp_path / "out"
    assert run(figure, folder, out) == 0
    report = json.loads((out / f"{figure}.json").read_text())
    found = Units.from_dict(report["units"])
    assert (found.images, found.features) == (12, 12)
    # The pictures' mean colours are the features, so that the top images are known.
    images = imagenet.folder(folder)
    colours = nn.functional.avg_pool2d(images.read(range(12), 8), 4).flatten(1)
    natural = found.of("natural")
    for place, top in zip(natural.places, natural.top, strict=True):
        assert list(top) == colours[:, place].topk(3).indices.tolist()
    names = imagenet.class_names()
    assert report["classes"] == [names[each] for each in sorted(set(answers))]
    assert found.ablation[0].accuracy[0] == pytest.approx(11 / 12)
    page = (out / f"{figure}.md").read_text()
    assert page.startswith(f"# Figure {figure[-1]} on photographs")
    assert "11 of which the network has right" in page
    assert {path.name for path in out.glob("*.png")} == {f"{figure}.png", f"{figure}-ablation.png"}


def test_features_are_kept(photographs, tmp_path, monkeypatch):
    folder, _ = photographs
    read = imagenet.Images.read
    calls = []

    def second_time_interrupted(self, rows, size):
        calls.append(tuple(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(self, rows, size)

    monkeypatch.setattr(imagenet.Images, "read", second_time_interrupted)
    assert run("figure3", folder, tmp_path / "out") == 130
    assert run("figure3", folder, tmp_path / "out") == 0
    assert calls[:3] == [tuple(range(8)), tuple(range(8, 12)), tuple(range(8, 12))]

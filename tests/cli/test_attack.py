"""``advkit attack`` on a small problem: its files, its choices, and what it refuses."""

import json
import sys

import numpy as np
import pytest
import torch

from advkit.attack import AttackResult
from advkit.cli import _outputs, attack, main
from advkit.ops import _dispatch

pytest.importorskip("matplotlib")
pytest.importorskip("rich")
FILES = {"result.json", "adversarial.npz", "figure.png"}


def run(folder, words):
    """Run the command with few evaluations; return the numbers and the arrays."""
    words = ["attack", "--out", str(folder), "--max-evaluations", "60", *words.split()]
    assert main(words) == 0
    report = json.loads((folder / "result.json").read_text())
    with np.load(folder / "adversarial.npz", allow_pickle=False) as archive:
        return report, dict(archive)


@pytest.mark.usefixtures("small")
class TestFiles:
    def test_hold_what_was_done(self, tmp_path, capsys):
        report, arrays = run(tmp_path / "new" / "out", "--images 12 --seed 3")
        assert {path.name for path in (tmp_path / "new" / "out").iterdir()} == FILES

        assert set(arrays) == {
            "x", "adversarial", "labels", "targets", "success", "distance", "index"
        }  # fmt: skip
        assert arrays["x"].shape == arrays["adversarial"].shape == (12, 1, 28, 28)
        difference = (arrays["adversarial"] - arrays["x"]).reshape(12, -1).astype(np.float64)
        np.testing.assert_allclose(
            arrays["distance"], np.linalg.norm(difference, axis=1), rtol=1e-5
        )

        assert report["images"] == 12
        assert report["success_rate"] == arrays["success"].mean() == 1
        rms = np.sqrt((difference**2).mean(1))
        assert report["mean_rms"] == pytest.approx(rms.mean(), rel=1e-5)
        assert report["median_rms"] == pytest.approx(np.median(rms), rel=1e-5)
        assert report["forwards"] == pytest.approx(12 * report["mean_forwards"])
        assert report["backwards"] == pytest.approx(12 * report["mean_backwards"])
        assert report["ms_per_image"] == pytest.approx(1000 * report["seconds"] / 12)
        assert report["threads"] == torch.get_num_threads()
        assert report["backend"] in ("cpu", "reference")
        assert {"advkit", "torch", "numpy", "python"} <= set(report["versions"])
        assert report["model"]["test_error"] == pytest.approx(2 / 30)
        expected = {"targets": "random", "images": 12, "norm": "l2", "max_evaluations": 60}
        assert expected.items() <= report["settings"].items()

        out = capsys.readouterr().out
        assert "success 100.0 % (12 of 12)" in out
        assert "\x1b" not in out

    def test_settings_reach_the_attack(self, tmp_path):
        report, _ = run(
            tmp_path,
            "--images 2 --norm l1 --loss margin --kappa 0.5 --history 4 --seed 9 "
            "--history-dtype float16 --backend reference --threads 1",
        )
        expected = {"norm": "l1", "loss": "margin", "kappa": 0.5, "history": 4, "seed": 9}
        expected["history_dtype"] = "float16"
        assert expected.items() <= report["settings"].items()
        assert (report["backend"], report["threads"]) == ("reference", 1)

    def test_failures_are_null_not_nan(self, tmp_path, monkeypatch):
        def fail(model, x, labels, **settings):
            nothing = torch.zeros(len(x))
            count = torch.ones(len(x)).long()
            return AttackResult(
                x, nothing.bool(), nothing, nothing, nothing / 0, count, count,
                torch.ones(len(x), dtype=torch.int8), {"norm": "l2", "loss": "margin"},
            )  # fmt: skip

        monkeypatch.setattr(attack, "lbfgs", fail)
        report, _ = run(tmp_path, "--images 3")
        assert report["success_rate"] == 0
        assert report["mean_rms"] is None

    def test_json_comes_last(self, tmp_path, monkeypatch):
        def fail(*_, **__):
            raise RuntimeError("no picture")

        run(tmp_path, "--images 2")
        monkeypatch.setattr(_outputs, "figure5", fail)
        with pytest.raises(RuntimeError, match="no picture"):
            run(tmp_path, "--images 2 --force")
        assert {path.name for path in tmp_path.iterdir()} == FILES - {"result.json"}


@pytest.mark.usefixtures("small")
class TestChoice:
    def test_takes_the_first_correct_images(self, tmp_path):
        _, arrays = run(tmp_path, "--images 5")
        assert arrays["index"].tolist() == [0, 2, 3, 5, 6]
        assert arrays["labels"].tolist() == [0, 2, 3, 5, 6]

    def test_says_when_there_are_fewer(self, tmp_path, capsys):
        report, _ = run(tmp_path, "--images 100")
        assert (report["images"], report["settings"]["images"]) == (28, 100)
        assert "note: only 28 images can be attacked" in capsys.readouterr().err

    def test_random_targets_do_not_depend_on_the_number_of_images(self, tmp_path):
        _, few = run(tmp_path / "few", "--images 4 --seed 1")
        _, many = run(tmp_path / "many", "--images 20 --seed 1")
        _, other = run(tmp_path / "other", "--images 20 --seed 2")
        assert (many["targets"] != many["labels"]).all()
        assert (few["targets"] == many["targets"][:4]).all()
        assert (other["targets"] != many["targets"]).any()

    def test_a_class_as_target_leaves_its_images_out(self, tmp_path):
        _, arrays = run(tmp_path, "--images 4 --targets 2")
        assert arrays["targets"].tolist() == [2] * 4
        assert arrays["labels"].tolist() == [0, 3, 5, 6]
        assert arrays["success"].all()

    def test_no_target(self, tmp_path, network):
        report, arrays = run(tmp_path, "--images 4 --targets none")
        assert arrays["targets"].tolist() == [-1] * 4
        assert report["settings"]["targeted"] is False
        with torch.no_grad():
            predicted = network(torch.from_numpy(arrays["adversarial"])).argmax(1).numpy()
        assert (predicted != arrays["labels"]).all()


class TestRefusals:
    def test_an_old_result_stays_unless_forced(self, tmp_path, small, one_line, capsys):
        run(tmp_path, "--images 2")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        capsys.readouterr()
        assert main(["attack", "--out", str(tmp_path), "--images", "3"]) == 2
        assert "already holds result.json, adversarial.npz, figure.png" in one_line()
        assert len(small) == 1
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        report, _ = run(tmp_path, "--images 3 --force")
        assert report["images"] == 3

    def test_other_files_in_the_folder_do_no_harm(self, tmp_path, small):
        (tmp_path / "notes.txt").write_text("mine")
        run(tmp_path, "--images 2")
        assert (tmp_path / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize("place", ["file", "file/folder"])
    def test_a_file_is_no_folder(self, tmp_path, small, one_line, place):
        (tmp_path / "file").write_text("")
        assert main(["attack", "--out", str(tmp_path / place)]) == 2
        assert "--out" in one_line()
        assert small == []

    @pytest.mark.parametrize("module", ["rich", "matplotlib"])
    def test_a_missing_extra(self, tmp_path, small, one_line, monkeypatch, module):
        monkeypatch.setitem(sys.modules, module, None)
        assert main(["attack", "--out", str(tmp_path / "out")]) == 2
        assert f'needs {module}; install it with: pip install "advkit[cli]"' in one_line()
        assert small == []
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--targets 10", "--targets must be random, none or a class from 0 to 9, got 10"),
            ("--device nowhere", "--device nowhere cannot be used"),
            ("--model fc7", "fc7"),
        ],
    )
    def test_what_cannot_be_is_told_before_training(
        self, tmp_path, small, one_line, words, message
    ):
        assert main(["attack", "--out", str(tmp_path), *words.split()]) == 2
        assert message in one_line()
        assert small == []

    def test_a_missing_backend(self, tmp_path, small, one_line, monkeypatch):
        monkeypatch.setattr(_dispatch, "_load", lambda: (None, "no compiler"))
        assert main(["attack", "--out", str(tmp_path), "--backend", "cpu"]) == 2
        assert one_line() == "advkit: error: --backend 'cpu' is not available: no compiler"
        assert small == []

    def test_a_network_that_is_always_wrong(self, tmp_path, small, one_line, monkeypatch):
        monkeypatch.setattr(
            attack, "correctly_classified", lambda *_, **__: torch.tensor([]).long()
        )
        assert main(["attack", "--out", str(tmp_path)]) == 2
        assert "classifies no image of mnist-5k (test) correctly" in one_line()

    def test_an_error_of_several_lines_becomes_one(self, tmp_path, small, one_line, monkeypatch):
        def refuse(name, split):
            raise FileNotFoundError("mnist is not there;\n  get it from its site")

        monkeypatch.setattr(attack, "load", refuse)
        assert main(["attack", "--out", str(tmp_path)]) == 2
        assert one_line() == "advkit: error: mnist is not there; get it from its site"

    def test_an_interrupt_leaves_no_files(self, tmp_path, small, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(attack, "lbfgs", interrupt)
        assert main(["attack", "--out", str(tmp_path)]) == 130
        assert list(tmp_path.iterdir()) == []


def test_retrain_is_passed_on(tmp_path, small):
    run(tmp_path, "--images 1 --retrain --model fc10 --data mnist")
    assert small == [{"name": "fc10", "data": "mnist", "progress": False, "retrain": True}]


def test_the_number_of_threads_is_restored(tmp_path, small):
    before = torch.get_num_threads()
    report, _ = run(tmp_path, f"--images 1 --threads {before + 1}")
    assert report["threads"] == before + 1
    assert torch.get_num_threads() == before

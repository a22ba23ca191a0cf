"""The transfer matrix against a plain loop over rows, columns and images."""

import json
import math

import numpy as np
import pytest
import torch

import advkit
from advkit.transfer import TransferMatrix, gaussian, matrix, rms


def loop(model, images):
    """Return the answers of a network, one image at a time."""
    with torch.no_grad():
        return [int(model(image[None]).argmax()) for image in images]


@pytest.fixture
def targets(labels):
    return (labels + 1) % 3


@pytest.mark.parametrize("targeted", [False, True])
def test_against_a_plain_loop(models, images, labels, targets, targeted):
    wanted = targets if targeted else None
    found = matrix(models, images, labels, targets=wanted, noise=(0.1,), rms=(0.3,), batch_size=7)
    assert found.models == ("first", "near", "other")
    truth = labels.tolist()
    for source, model in models.items():
        result = advkit.attack.lbfgs(model, images, targets if targeted else labels, targeted)
        sizes = rms(result.adversarial, images)
        row = found.row("adversarial", source)
        assert row.changed == int((sizes > 0).sum())
        assert row.distortion == pytest.approx(float(sizes[sizes > 0].mean()))
        assert row.distortion_of_all == pytest.approx(float(sizes.mean()))
        own = loop(model, result.adversarial)
        for (name, fed), cell in zip(models.items(), row.cells, strict=True):
            answers, clean = loop(fed, result.adversarial), loop(fed, images)
            wrong = [a != t for a, t in zip(answers, truth, strict=True)]
            same = [w and a == o for w, a, o in zip(wrong, answers, own, strict=True)]
            assert cell.errors == sum(wrong)
            assert cell.same_mistake == sum(same)
            assert cell.other_mistake == sum(wrong) - sum(same)
            new = [w and c == t for w, c, t in zip(wrong, clean, truth, strict=True)]
            assert cell.new_errors == sum(new)
            if targeted:
                match = [a == t for a, t in zip(answers, targets.tolist(), strict=True)]
                assert cell.target_match == sum(match)
            else:
                assert cell.target_match is None
            assert found.error(row, name) == sum(wrong) / 24
        noisy = gaussian(images, sizes)
        matched = found.row("matched noise", source)
        np.testing.assert_allclose(rms(noisy, images), sizes, rtol=1e-6)
        for fed, cell in zip(models.values(), matched.cells, strict=True):
            answers, before = loop(fed, noisy), loop(fed, result.adversarial)
            wrong = [a != t for a, t in zip(answers, truth, strict=True)]
            assert cell.errors == sum(wrong)
            assert cell.same_mistake is None
            too = [w and b != t for w, b, t in zip(wrong, before, truth, strict=True)]
            assert cell.adversarial_too == sum(too)


def test_rows_and_diagonal(models, images, labels):
    found = matrix(models, images, labels, noise=(0.1, 0.2), rms=(0.3,), clip=("exact", "none"))
    kinds = [row.kind for row in found.rows]
    count = {"original": 1, "adversarial": 3, "matched noise": 3, "noise": 4, "amplified": 6}
    assert {kind: kinds.count(kind) for kind in count} == count
    for name in models:
        assert found.error(found.row("adversarial", name), name) == 1
    # Image 3 is wrong from the start: unchanged, and no new error.
    row = found.row("adversarial", "first")
    assert row.changed == 23
    assert row.cells[0].new_errors == 23
    original = found.row("original")
    assert original.cells[0].errors == 1
    assert math.isnan(original.distortion)
    assert found.row("amplified", "near", size=0.3, clip="none").distortion == pytest.approx(0.3)


def test_near_networks_share_their_mistakes(models, images, labels):
    found = matrix(models, images, labels, rms=(0.2,))
    near, other = found.row("amplified", "first").cells[1:]
    assert near.errors > other.errors
    gain, low, high = found.excess("first", "first")
    assert low > 0
    assert low < gain < high
    interval = found.interval(found.row("adversarial", "first"), "near")
    assert interval == advkit.transfer.wilson_interval(
        found.row("adversarial", "first").cells[1].errors, 24
    )


def test_networks_of_any_kind_with_their_own_preprocessing(models, images, labels):
    class Larger(torch.nn.Module):
        """Resizes; refuses to answer in training mode."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            if self.training:
                raise AssertionError("not in eval mode")
            small = torch.nn.functional.interpolate(x, size=(4, 4), mode="bilinear")
            return self.inner(small)

    larger = Larger(models["other"]).train()
    mixed = {
        "first": lambda x: models["first"](x),
        "double": lambda x: models["near"]((2 * x - 1) / 2 + 0.5),
        "larger": larger,
    }
    found = matrix(mixed, images, labels)
    plain = matrix(models, images, labels)
    assert larger.training
    for row, expected in zip(found.rows, plain.rows, strict=True):
        assert [c.errors for c in row.cells] == pytest.approx(
            [c.errors for c in expected.cells], abs=1
        )


def test_the_attack_can_be_chosen(models, images, labels):
    calls = []

    def attack(model, x, wanted, targeted):
        calls.append((model, targeted))
        return advkit.attack.lbfgs(model, x, wanted, targeted, max_evaluations=20)

    by_function = matrix(models, images, labels, attack=attack)
    assert calls == [(model, False) for model in models.values()]
    by_options = matrix(models, images, labels, attack={"max_evaluations": 20})
    assert by_function.to_dict() == by_options.to_dict()
    assert by_options.settings["attack"]["max_evaluations"] == 20


def test_what_was_attacked_before_is_not_attacked_again(models, images, labels):
    results = advkit.transfer.distort(models, images, labels)

    def never(*_):
        raise AssertionError

    again = matrix(models, images, labels, attacked=results, attack=never)
    assert again.to_dict()["rows"] == matrix(models, images, labels).to_dict()["rows"]


def test_results_of_other_images_or_networks_are_refused(models, images, labels):
    results = advkit.transfer.distort(models, images, labels)
    with pytest.raises(ValueError, match=r"attacked: expected names among .*, got 'fourth'"):
        matrix(models, images, labels, attacked={"fourth": results["first"]})
    with pytest.raises(ValueError, match=r"attacked: expected a result for these.*'near'"):
        matrix(models, images.flip(0), labels.flip(0), attacked={"near": results["near"]})


def test_bad_targets(models, images, labels, targets):
    with pytest.raises(TypeError, match="targets must have dtype"):
        matrix(models, images, labels, targets=targets.int())
    with pytest.raises(ValueError, match="targets must have shape"):
        matrix(models, images, labels, targets=targets[1:])
    with pytest.raises(ValueError, match=f"got the label of image 0, {int(labels[0])}"):
        matrix(models, images, labels, targets=labels)
    with pytest.raises(ValueError, match=r"targets: expected 0 to 2 for 'first', .* got 5"):
        matrix(models, images, labels, targets=labels + 3)
    with pytest.raises(ValueError, match=r"labels: expected 0 to 2 for 'first', .* got 5"):
        matrix(models, images, labels + 3)


def test_saved_and_read(models, images, labels, tmp_path):
    found = matrix(models, images, labels, rms=(0.1,))
    found.save(tmp_path / "m.json")
    text = (tmp_path / "m.json").read_text()
    json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
    again = TransferMatrix.load(tmp_path / "m.json")
    assert again.to_dict() == found.to_dict()
    assert again.row("amplified", "near") == found.row("amplified", "near")
    assert math.isnan(again.row("original").distortion)
    records = again.as_rows()
    assert len(records) == len(found.rows) * 3
    assert records[4]["error"] == found.error(found.rows[1], "near")
    assert records[4]["low"] <= records[4]["error"] <= records[4]["high"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "advkit.transfer.TransferMatrix"}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ValueError, match=r"m\.json is not a saved TransferMatrix"):
        TransferMatrix.load(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": {}}, ValueError, "models: expected at least one network"),
        ({"clip": ("soft",)}, ValueError, "clip"),
        ({"attack": {"norms": "l1"}}, ValueError, "no option 'norms'"),
        ({"attack": {"targeted": True}}, ValueError, "no option 'targeted'"),
        ({"attack": 3}, TypeError, "attack: expected keyword arguments"),
        ({"noise": (-1.0,)}, ValueError, "size: expected finite numbers"),
        ({"batch_size": 0}, ValueError, "batch_size"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_arguments(models, images, labels, change, error, message):
    arguments = {"models": models, "noise": (), **change}
    with pytest.raises(error, match=message):
        matrix(arguments.pop("models"), images, labels, **arguments)


def test_no_images(models, images, labels):
    with pytest.raises(ValueError, match="x: expected at least one image"):
        matrix(models, images[:0], labels[:0])


def test_unknown_names(models, images, labels):
    found = matrix(models, images, labels)
    with pytest.raises(KeyError, match="no network 'far'"):
        found.error(found.rows[0], "far")
    with pytest.raises(KeyError, match="no row 'amplified'"):
        found.row("amplified")

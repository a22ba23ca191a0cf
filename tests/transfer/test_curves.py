import pytest
import torch

from advkit.transfer import against_kappa, against_rms, amplify, distort, predictions


def test_rms_curve_is_that_of_the_scaled_changes(models, images, labels):
    results = distort(models, images, labels)
    curve = against_rms(models, images, labels, values=(0.05, 0.2), attacked=results)
    assert curve.values == (0.05, 0.2)
    for place, value in enumerate(curve.values):
        changed = amplify(images, results["first"].adversarial, value)
        for name, model in models.items():
            wrong = (predictions(model, changed) != labels).float().mean()
            assert curve.errors("first", name)[place] == pytest.approx(float(wrong))
    assert len(curve.errors(None, "other")) == 2
    assert {record["rms"] for record in curve.as_rows()} == {0.05, 0.2}


def test_confidence_moves_further_and_transfers_more(models, images, labels):
    curve = against_kappa(models, images, labels, values=(0.0, 2.0))
    near = [each.row("adversarial", "first") for each in curve.matrices]
    assert near[1].distortion > near[0].distortion
    assert curve.errors("first", "near")[1] > curve.errors("first", "near")[0]
    with torch.no_grad():
        assert curve.to_dict()["matrices"][1]["settings"]["attack"]["kappa"] == 2.0


@pytest.mark.parametrize("option", ["noise", "rms", "clip"])
def test_what_a_curve_chooses_itself_is_no_option(models, images, labels, option):
    for curve in (against_rms, against_kappa):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
            curve(models, images, labels, values=(0.1,), **{option: (0.1,)})
